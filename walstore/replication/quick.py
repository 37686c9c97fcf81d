"""Whether a follower's loop waits for its disk itself. Sans-IO: time comes in as a number."""

from __future__ import annotations

__all__ = ["QuickDisk"]

_LITTLE_BYTES = 4 << 10
_QUICK_MS = 5.0
_PAUSE_MS = 1000.0


class QuickDisk:
    """Tells when the loop may sync what it has just appended.

    That saves waking the flusher, and being woken by it, on the way of each acknowledgment. Where
    more is under way the flusher is to sync while the loop takes in the next; and a disk that is
    slow must not keep the loop from answering: it has the flusher for a second after each sync
    that took longer than 5 ms.
    """

    def __init__(self) -> None:
        self._slow_until_ms = 0.0

    def waits_for(self, append_bytes: int, unsynced_bytes: int, now_ms: float) -> bool:
        """Whether to wait for an append, given what had waited for the disk before it."""
        little = append_bytes <= _LITTLE_BYTES and not unsynced_bytes
        return little and now_ms >= self._slow_until_ms

    def took(self, began_ms: float, now_ms: float) -> None:
        """The loop has waited."""
        if now_ms - began_ms > _QUICK_MS:
            self._slow_until_ms = now_ms + _PAUSE_MS
