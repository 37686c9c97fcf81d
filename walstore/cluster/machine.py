"""What an application implements to be replicated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

__all__ = ["StateMachine"]


class StateMachine(Protocol):
    """Deterministic code whose commands are entries of a log (docs/machines.md, "The machine"). Its
    host calls it from several threads, one at a time."""

    def apply(self, lsn: int, command: bytes) -> bytes:
        """Applies a command and returns its result, as the command and the state alone say.

        Raises:
            CommandRefusedError: nothing was changed, and who called is told.
            Anything else is a mistake: the host applies nothing more.
        """

    def query(self, query: bytes) -> bytes:
        """Answers from the state, which it does not change.

        Raises:
            CommandRefusedError: it makes no sense.
            Anything else is a mistake, and this query's alone.
        """

    def snapshot(self) -> Iterable[bytes]:
        """The state, in pieces. They are taken while further commands are applied, and must not
        change with these. What it raises costs this checkpoint: it is logged, and tried again."""

    def restore(self, data: bytes) -> None:
        """Replaces the state by that of a snapshot."""
