"""How far behind a stage is, in bytes and in time. Sans-IO."""

from __future__ import annotations

import bisect
from typing import NamedTuple

__all__ = ["DiskWatch", "Lag", "Samples"]

_SAMPLES_MAX = 4096
_APART = 1.05


class Lag(NamedTuple):
    """How far a node's stage is behind the leader's log.

    Attributes:
        entries: how many it lacks.
        bytes: about how many bytes of log these are.
        ms: how long the leader has had the oldest of them; 0 when it lacks none.
    """

    entries: int
    bytes: int
    ms: float


class DiskWatch:
    """For how long a disk has taken nothing though entries wait for it. To be asked often."""

    def __init__(self) -> None:
        self._durable_lsn = -1
        self._since_ms = 0.0

    def stalled_ms(self, durable_lsn: int, last_lsn: int, now_ms: float) -> float:
        """Milliseconds; 0 when nothing waits, or it took something since it was last asked."""
        if durable_lsn >= last_lsn or durable_lsn != self._durable_lsn:
            self._durable_lsn, self._since_ms = durable_lsn, now_ms
        return now_ms - self._since_ms


class Samples:
    """Where the leader's log ended at some moments of its leadership: (lsn, bytes written, time).

    One sample per `resolution_ms` is enough. Where there are more than 4096 they are thinned
    out: what is far behind is known less exactly, to 5 % of its bytes and of its time, however long
    the leadership lasts.
    """

    def __init__(self, resolution_ms: float = 5.0) -> None:
        self._resolution_ms = resolution_ms
        self._lsns: list[int] = []
        self._bytes: list[int] = []
        self._times: list[float] = []

    def restart(self, last_lsn: int, bytes_written: int, now_ms: float) -> None:
        """A leadership begins, and the log ends here. What was noted in an earlier one is
        forgotten: it says nothing of how much was written since."""
        for column in (self._lsns, self._bytes, self._times):
            column.clear()
        self.note(last_lsn, bytes_written, now_ms)

    def due(self, now_ms: float) -> bool:
        """Whether it is time for another sample."""
        return not self._times or now_ms - self._times[-1] >= self._resolution_ms

    def note(self, last_lsn: int, bytes_written: int, now_ms: float) -> None:
        """The log ends here now."""
        if self._lsns and self._lsns[-1] >= last_lsn:
            return
        self._lsns.append(last_lsn)
        self._bytes.append(bytes_written)
        self._times.append(now_ms)
        if len(self._lsns) > _SAMPLES_MAX:
            self._thin_out()

    def _thin_out(self) -> None:
        """Leaves the first one, from which all bytes count, the last one, and of the others as few
        as tell how far the one before each is behind, to `_APART`.

        Any two in a row multiply the bytes or the time behind the last one by that: 2,800 can do so
        within 2^63 bytes and ten years.
        """
        last_bytes, last_ms = self._bytes[-1], self._times[-1]
        kept = [len(self._lsns) - 1]
        bytes_most = ms_most = 0.0
        for at in range(len(self._lsns) - 2, 0, -1):
            before_bytes = last_bytes - self._bytes[at - 1]
            before_ms = last_ms - self._times[at - 1]
            if before_bytes > bytes_most or before_ms > ms_most:
                kept.append(at)
                bytes_most = _APART * (last_bytes - self._bytes[at])
                ms_most = _APART * (last_ms - self._times[at])
        kept.append(0)
        kept.reverse()
        self._lsns = [self._lsns[at] for at in kept]
        self._bytes = [self._bytes[at] for at in kept]
        self._times = [self._times[at] for at in kept]

    def lag(self, lsn: int, last_lsn: int, now_ms: float) -> Lag:
        """Of a stage that has reached `lsn`, when the log ends at `last_lsn`. Bytes and time of
        what was there before the first sample are not known, and do not count."""
        if lsn >= last_lsn or not self._lsns:
            return Lag(max(0, last_lsn - lsn), 0, 0.0)
        first_missing = bisect.bisect_right(self._lsns, lsn)
        at = min(first_missing, len(self._lsns) - 1)
        held = self._bytes[max(0, first_missing - 1)]
        return Lag(
            last_lsn - lsn, max(0, self._bytes[-1] - held), max(0.0, now_ms - self._times[at])
        )
