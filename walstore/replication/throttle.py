"""A bound on how fast followers catch up. Sans-IO."""

from __future__ import annotations

__all__ = ["Throttle"]

_BURST_S = 0.01
# Measured with three nodes on two cores and one disk: what catches up much faster than this makes
# appends wait. A follower must be able to gain on a leader that writes faster, too.
_BESIDE_APPENDS_BYTES_PER_S = 64 << 20
_TIMES_APPENDED = 2
_WINDOW_S = 0.05
_QUIET_S = 1.0


class Throttle:
    """A token bucket, shared by all followers that catch up.

    Args:
        bytes_per_s: the bound. None: there is none while nothing is appended; beside appends, one
            that grows with them.
    """

    def __init__(self, bytes_per_s: int | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at_s = 0.0
        self._quiet_at_s = 0.0
        self._bytes_written = 0
        self._window = (0.0, 0)  # when it began, and what was written then
        self._appended_per_s = 0.0

    def take(self, size: int, bytes_written: int, now_s: float) -> float:
        """Takes so many bytes; returns how many seconds to wait before they may be sent.

        Args:
            size: of what is to be sent.
            bytes_written: what was appended to the log so far.
            now_s: the monotonic clock.
        """
        rate = self._bytes_per_s
        if rate is None:
            self._watch(bytes_written, now_s)
            if now_s >= self._quiet_at_s:
                return 0.0
            rate = _BESIDE_APPENDS_BYTES_PER_S + int(_TIMES_APPENDED * self._appended_per_s)
        start_s = max(self._free_at_s, now_s - _BURST_S)
        self._free_at_s = start_s + size / rate
        return max(0.0, start_s - now_s)

    def _watch(self, bytes_written: int, now_s: float) -> None:
        """Notes whether and how fast entries are appended."""
        if bytes_written != self._bytes_written:
            self._bytes_written = bytes_written
            self._quiet_at_s = now_s + _QUIET_S
        began_s, before = self._window
        if now_s >= began_s + _WINDOW_S:
            self._appended_per_s = (bytes_written - before) / (now_s - began_s)
            self._window = now_s, bytes_written
