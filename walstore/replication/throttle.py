"""A bound on how fast followers catch up. Sans-IO."""

from __future__ import annotations

__all__ = ["Throttle"]

_BURST_S = 0.1


class Throttle:
    """A token bucket, shared by all followers that catch up.

    Args:
        bytes_per_s: the bound; None: there is none.
    """

    def __init__(self, bytes_per_s: int | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at_s = 0.0

    def take(self, size: int, now_s: float) -> float:
        """Takes so many bytes; returns how many seconds to wait before they may be sent."""
        if self._bytes_per_s is None:
            return 0.0
        start_s = max(self._free_at_s, now_s - _BURST_S)
        self._free_at_s = start_s + size / self._bytes_per_s
        return max(0.0, start_s - now_s)
