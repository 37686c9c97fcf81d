"""What was applied last, and what each document was before: kept while somebody watches.

Sans-IO.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from walstore.docstore.state import Change
from walstore.docstore.values import encode

__all__ = ["Applied", "History"]


class Applied(NamedTuple):
    """A transaction, or an operation of its own, as it changed the state.

    Attributes:
        lsn: its entry, the last one where it has several.
        changes: in order; none of a void one.
        payload_bytes: of its entries.
    """

    lsn: int
    changes: Sequence[Change]
    payload_bytes: int


class History:
    """The last transactions, by the lsn at which they end.

    Args:
        begin_lsn: the state's last entry, now.
        bytes_max: how much is kept, of entries and of what documents were before, encoded; the last
            transaction whatever its size.

    Attributes:
        begin_lsn: what ended after this entry is here.
    """

    def __init__(self, begin_lsn: int, bytes_max: int) -> None:
        self.begin_lsn = begin_lsn
        self._bytes_max = bytes_max
        self._applied: dict[int, tuple[Applied, int]] = {}  # with its size
        self._size_bytes = 0

    def note(self, applied: Applied) -> None:
        """This was applied."""
        if not applied.changes:
            return
        before = (encode(change.old) for change in applied.changes if change.old is not None)
        size_bytes = applied.payload_bytes + sum(map(len, before))
        self._applied[applied.lsn] = (applied, size_bytes)
        self._size_bytes += size_bytes
        while self._size_bytes > self._bytes_max and len(self._applied) > 1:
            oldest, size_bytes = self._applied.pop(next(iter(self._applied)))
            self._size_bytes -= size_bytes
            self.begin_lsn = oldest.lsn

    def ended_at(self, lsn: int) -> Applied | None:
        """The transaction that ended with this entry, which is one after `begin_lsn`."""
        found = self._applied.get(lsn)
        return None if found is None else found[0]
