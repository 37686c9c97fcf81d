"""Which leadership wrote which entry: the log's terms, remembered as runs. Sans-IO."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable

__all__ = ["Terms"]


class Terms:
    """The term of every entry of a log that grows and is cut at its end.

    What was appended since the log was opened is known as runs of equal terms, so that asking
    needs no read and no entry needs to have reached the disk; for older entries `read` is asked.

    Args:
        next_lsn: the entry that will be appended next.
        read: the term of an entry before that one, from the one before the first on.
    """

    def __init__(self, next_lsn: int, read: Callable[[int], int]) -> None:
        self._known_from = next_lsn
        self._read = read
        self._starts: list[int] = []
        self._terms: list[int] = []

    def note(self, runs: Iterable[tuple[int, int]]) -> None:
        """Takes note of appended entries: (first lsn, term) of each run."""
        for lsn, term in runs:
            # Entries that the disk had no space for are gone without a cut.
            while self._starts and self._starts[-1] >= lsn:
                del self._starts[-1], self._terms[-1]
            if not self._terms or self._terms[-1] != term:
                self._starts.append(lsn)
                self._terms.append(term)

    def cut(self, after_lsn: int) -> None:
        """Forgets the entries after this one."""
        keep = bisect.bisect_right(self._starts, after_lsn)
        del self._starts[keep:], self._terms[keep:]
        self._known_from = min(self._known_from, after_lsn + 1)

    def restart(self, next_lsn: int) -> None:
        """The log begins anew with this entry."""
        self._starts.clear()
        self._terms.clear()
        self._known_from = next_lsn

    def of(self, lsn: int) -> int:
        """The term of an entry; of the one before the first, too."""
        if lsn < self._known_from:
            return self._read(lsn)
        return self._terms[bisect.bisect_right(self._starts, lsn) - 1]
