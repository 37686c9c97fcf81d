"""Replaying the log: which entries count, and what they do.

Sans-IO. An entry counts when nothing came between it and the state that it was computed from; every
reader of the log decides alike (docs/docstore.md, "In the log").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from walstore import WALEntry
from walstore.docstore.record import CHAINED, KIND, decode_record

__all__ = ["Step", "steps"]


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
    operations: list[list[Any]] | None
    payload_bytes: int


def steps(path: str, entries: Iterable[WALEntry], state_lsn: int) -> Iterator[Step]:
    """What these entries amount to. A transaction whose last entry is not among them is left out.

    Args:
        path: of the log, for errors.
        entries: in order.
        state_lsn: the last entry before them that counts; 0: none.

    Raises:
        UnsupportedFormatError: an entry of a newer version.
    """
    first_lsn = 0  # of the transaction whose parts are being collected
    parts: list[list[Any]] = []
    part_bytes = 0
    for entry in entries:
        if entry.kind != KIND:
            yield Step(entry.lsn, entry.lsn, state_lsn, None, 0)
            continue
        record = decode_record(path, entry.lsn, entry.payload)
        before = entry.lsn - 1 if record.previous == CHAINED else record.previous
        size = len(entry.payload)
        if before != state_lsn:
            yield Step(entry.lsn, entry.lsn, state_lsn, None, size)
            continue
        state_lsn = entry.lsn
        first_lsn = first_lsn or entry.lsn
        parts += record.operations
        part_bytes += size
        if not record.more:
            yield Step(first_lsn, entry.lsn, state_lsn, parts, part_bytes)
            first_lsn, parts, part_bytes = 0, [], 0
