"""The numbers that a client gives to its commands. Sans-IO."""

from __future__ import annotations

from walstore.cluster.sessions import WINDOW

__all__ = ["ClientSession"]


class ClientSession:
    """One session, as its client sees it.

    Args:
        number: the session's.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._next = 1
        self._open: set[int] = set()

    @property
    def answered(self) -> int:
        """Every command below this number has its answer, or is not waited for any more."""
        return min(self._open, default=self._next)

    @property
    def full(self) -> bool:
        """Whether no further command may be begun now."""
        return self._next >= self.answered + WINDOW

    def begin(self) -> int:
        """The sequence of a new command."""
        assert not self.full
        sequence = self._next
        self._next += 1
        self._open.add(sequence)
        return sequence

    def end(self, sequence: int) -> None:
        """It has its answer, or is given up."""
        self._open.discard(sequence)
