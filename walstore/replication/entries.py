"""What the core knows of logs and batches: lsns and terms, never a payload. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Batch", "LogState", "Run", "first_conflict", "last_of_term"]


class LogState(Protocol):
    """What the core may ask of the log, at any moment; never a stale answer.

    Attributes:
        first_lsn: the first entry held.
        last_lsn: the last one written; first_lsn - 1 when there is none.
        durable_lsn: the last one on the disk; it falls at once when entries are cut.
    """

    @property
    def first_lsn(self) -> int: ...

    @property
    def last_lsn(self) -> int: ...

    @property
    def durable_lsn(self) -> int: ...

    def term_of(self, lsn: int) -> int:
        """The term of an entry, from first_lsn - 1 to last_lsn; 0 for lsn 0."""


@dataclass(frozen=True, slots=True)
class Run:
    """Entries of one term that follow each other: from first_lsn to the next run."""

    first_lsn: int
    term: int


@dataclass(frozen=True, slots=True)
class Batch:
    """A WAL_ENTRY as the core sees it: the driver makes it of the (joined) message.

    Attributes:
        prev_lsn, prev_term: the entry before the first one.
        committed_lsn: the leader's.
        runs: the terms of the entries, in order, the first from prev_lsn + 1 on; none: no entries.
        last_lsn: the last entry; prev_lsn when there is none.
        data: the records, for the driver; the core only hands them on.
        receipt: the leader wants to hear of these entries before they are durable, too.
        configurations: lsn and payload of each entry among them that is one, in order.
    """

    prev_lsn: int
    prev_term: int
    committed_lsn: int
    runs: tuple[Run, ...] = ()
    last_lsn: int = 0
    data: object = None
    receipt: bool = False
    configurations: tuple[tuple[int, bytes], ...] = ()

    @property
    def end_lsn(self) -> int:
        """The last entry, or the one before when there is none."""
        return self.last_lsn if self.runs else self.prev_lsn


def last_of_term(log: LogState, lsn: int, term: int) -> int | None:
    """The last entry at or before lsn whose term is at most `term`.

    Terms never fall along a log, so this is a binary search. The entry before the first one
    counts; None: even that one is of a later term, or lsn lies before it.
    """
    low, high = log.first_lsn - 1, min(lsn, log.last_lsn)
    if high < low or log.term_of(low) > term:
        return None
    while low < high:
        middle = (low + high + 1) // 2
        if log.term_of(middle) <= term:
            low = middle
        else:
            high = middle - 1
    return low


def first_conflict(log: LogState, batch: Batch) -> int | None:
    """The first entry of a batch that the log holds with another term, if there is one.

    Its prev_lsn must lie in the log.
    """
    ends = [run.first_lsn - 1 for run in batch.runs[1:]] + [batch.last_lsn]
    for run, run_last in zip(batch.runs, ends, strict=False):
        last = min(run_last, log.last_lsn)
        if run.first_lsn > last:
            return None
        if log.term_of(run.first_lsn) != run.term:
            return run.first_lsn
        if log.term_of(last) != run.term:
            agreed = last_of_term(log, last, run.term)
            assert agreed is not None
            return agreed + 1
    return None
