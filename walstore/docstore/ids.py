"""Making _ids: UUIDs of version 7 as 32 hexadecimal digits, which sort by when they were made."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["IdMaker"]

_COUNTER_MAX = (1 << 12) - 1
_VERSION = 7 << 12
_VARIANT = 2 << 62
_RANDOM_MASK = (1 << 62) - 1


class IdMaker:
    """Makes ids, each greater than the one before, from any thread.

    Args:
        clock: wall clock, in ns since 1970.
        entropy: random bytes.
    """

    def __init__(self, clock: Callable[[], int], entropy: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._entropy = entropy
        self._lock = threading.Lock()
        self._ms = 0
        self._counter = 0

    def __call__(self) -> str:
        random = int.from_bytes(self._entropy(8), "big")
        now_ms = self._clock() // 1_000_000
        with self._lock:
            if now_ms > self._ms:
                self._ms, self._counter = now_ms, 0
            elif self._counter < _COUNTER_MAX:
                self._counter += 1
            else:  # more than 4096 in a millisecond, or a clock that stands still: borrow
                self._ms, self._counter = self._ms + 1, 0
            high = (self._ms << 16) | _VERSION | self._counter
        return f"{high:016x}{_VARIANT | (random & _RANDOM_MASK):016x}"
