"""Replaying the log: which entries count, and what they do.

Sans-IO. An entry counts when nothing came between it and the state that it was computed from; every
reader of the log decides alike (docs/docstore.md, "In the log").
"""

from __future__ import annotations

from typing import NamedTuple

from walstore import WALEntry
from walstore.docstore.record import CHAINED, KIND, Operation, decode_record

__all__ = ["Step", "Steps"]


class Step(NamedTuple):
    """A transaction, or an entry that changes nothing.

    Attributes:
        first_lsn, last_lsn: its entries.
        state_lsn: the last entry that counts, from now on.
        operations: None: it is void, or not a document store's.
        payload_bytes: of its entries.
    """

    first_lsn: int
    last_lsn: int
    state_lsn: int
    operations: list[Operation] | None
    payload_bytes: int


class Steps:
    """Takes entries in order, and says what they amount to.

    Args:
        path: of the log, for errors.
        state_lsn: the last entry before them that counts; 0: none.
    """

    def __init__(self, path: str, state_lsn: int) -> None:
        self._path = path
        self._state_lsn = state_lsn
        self._first_lsn = 0  # of the transaction whose parts are being collected
        self._parts: list[Operation] = []
        self._part_bytes = 0

    def take(self, entry: WALEntry) -> Step | None:
        """The next entry. None: its transaction goes on in the next one.

        Raises:
            UnsupportedFormatError: it is of a newer version.
        """
        if entry.kind != KIND:
            return Step(entry.lsn, entry.lsn, self._state_lsn, None, 0)
        record = decode_record(self._path, entry.lsn, entry.payload)
        before = entry.lsn - 1 if record.previous == CHAINED else record.previous
        size = len(entry.payload)
        if before != self._state_lsn:
            return Step(entry.lsn, entry.lsn, self._state_lsn, None, size)
        self._state_lsn = entry.lsn
        if record.previous != CHAINED:  # what was collected was cut off before its end
            self._first_lsn, self._parts, self._part_bytes = 0, [], 0
        self._first_lsn = self._first_lsn or entry.lsn
        self._parts += record.operations
        self._part_bytes += size
        if record.more:
            return None
        step = Step(self._first_lsn, entry.lsn, entry.lsn, self._parts, self._part_bytes)
        self._first_lsn, self._parts, self._part_bytes = 0, [], 0
        return step
