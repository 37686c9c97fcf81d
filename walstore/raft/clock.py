"""A node's election timer, and how long ago it heard its leader. Sans-IO."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["ElectionClock"]

_SOONEST, _LATEST = 0.1, 0.5
"""Of the election timeout, when the leader's connection has ended: the others need a moment to see
that theirs has, too."""


class ElectionClock:
    """Runs out at a random time after the leader fell silent.

    Args:
        election_ms: for so long at least.
        uniform: a random number between two; the source of all randomness.
        now_ms: when it starts.
    """

    def __init__(
        self, election_ms: float, uniform: Callable[[float, float], float], now_ms: float
    ) -> None:
        self._election_ms = election_ms
        self._uniform = uniform
        self._heard_ms = -math.inf
        self.restart(now_ms)

    def restart(self, now_ms: float) -> None:
        """Starts anew, with another random time."""
        self.due_ms = now_ms + self._uniform(self._election_ms, 2 * self._election_ms)

    def heard(self, now_ms: float) -> None:
        """The leader of the current term has been heard."""
        self._heard_ms = now_ms
        self.restart(now_ms)

    def lost(self, now_ms: float) -> None:
        """The leader is likely gone: it is not waited for any longer. Whoever hears it still is not
        disturbed by being asked."""
        self._heard_ms = -math.inf
        soon_ms = now_ms + self._uniform(_SOONEST * self._election_ms, _LATEST * self._election_ms)
        self.due_ms = min(self.due_ms, soon_ms)

    def hears(self, now_ms: float) -> bool:
        """Whether a leader was heard within the shortest time after which it may be replaced. Of
        no meaning where the leader of the current term is not known."""
        return now_ms - self._heard_ms < self._election_ms
