"""What measurements of a machine mean for a log on it, and for a cluster of such machines. Sans-IO.

docs/cli.md, "walstore doctor", says the rules in words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

__all__ = [
    "Clock",
    "Disk",
    "Finding",
    "Level",
    "Quantiles",
    "Timing",
    "derive",
    "judge_clock",
    "judge_disk",
    "judge_timing",
]

_MEMORY = frozenset({"tmpfs", "ramfs", "hugetlbfs"})
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs", "fuse.glusterfs"})
# Options of mount that leave out the flush of the disk's own cache (ext4(5), and XFS before 4.19).
_NO_FLUSH = frozenset({"nobarrier", "barrier=0"})
# A flush to the fastest disks, and to caches with a battery, takes more; to memory, a tenth of it.
_FASTEST_SYNC_US = 10.0
_SLOW_SYNC_MS = 100.0
_STEP_MS = 500.0
_COARSE_US = 1000.0

# A leader is heard ten times before it is given up, and a node that is late once is not.
_HEARTBEATS = 10
_HEARTBEATS_MIN = 3
_ROUNDS = 10
_ROUNDS_MIN = 3
_HEARTBEAT_MS = 100.0


class Level(StrEnum):
    """How bad a finding is."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    UNSAFE = "unsafe"


class Finding(NamedTuple):
    """Something that was looked at: how it is, and what to do where it is not good."""

    level: Level
    text: str
    hint: str = ""


class Quantiles(NamedTuple):
    """A summary of durations in ms."""

    p50: float
    p99: float
    most: float

    @classmethod
    def of(cls, durations_ms: Sequence[float]) -> Quantiles:
        """Of at least one duration."""
        ordered = sorted(durations_ms)
        return cls(
            ordered[(len(ordered) - 1) // 2],
            ordered[math.ceil(0.99 * len(ordered)) - 1],
            ordered[-1],
        )


@dataclass(frozen=True, slots=True)
class Disk:
    """Where a log lies.

    Attributes:
        sync_ms: how long a small write and its fdatasync took.
        syncs: how many were made.
        filesystem: its type; "" where it is not known.
        mount_options: what it was mounted with.
    """

    sync_ms: Quantiles
    syncs: int
    filesystem: str = ""
    mount_options: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock, and how well the machine keeps appointments.

    Attributes:
        step_ms: how far the time of day moved against the monotonic clock meanwhile.
        resolution_us: of the monotonic clock.
        late_ms: how much later than asked for a thread woke up.
    """

    step_ms: float
    resolution_us: float
    late_ms: Quantiles


class Timing(NamedTuple):
    """Times for a cluster, in ms, as ReplicationOptions has them.

    Attributes:
        heartbeat_ms: between two of them.
        leader_ms: for how long a leader is not heard before it is given up: leader_timeout_ms, or
            election_ms of nodes that elect.
        elects: whether they do.
    """

    heartbeat_ms: float
    leader_ms: float
    elects: bool = False

    @property
    def leader_name(self) -> str:
        """What ReplicationOptions calls `leader_ms`."""
        return "election_ms" if self.elects else "leader_timeout_ms"

    def as_options(self) -> dict[str, float]:
        """The times by the names that ReplicationOptions has for them."""
        return {"heartbeat_ms": self.heartbeat_ms, self.leader_name: self.leader_ms}

    def __str__(self) -> str:
        return ", ".join(f"{name} = {ms:g}" for name, ms in self.as_options().items())


def judge_disk(disk: Disk) -> list[Finding]:
    """Whether what is synced there survives a power cut, and how fast."""
    found = []
    if disk.filesystem in _MEMORY:
        text = f"{disk.filesystem} is memory: nothing on it survives a power cut or a restart"
        found.append(Finding(Level.UNSAFE, text, "put the log on a disk"))
    elif disk.sync_ms.p50 * 1000 < _FASTEST_SYNC_US:
        text = f"a sync takes {disk.sync_ms.p50 * 1000:.1f} us, which no disk is capable of"
        hint = "something between here and the disk says that it has synced, and has not"
        found.append(Finding(Level.UNSAFE, text, hint))
    if disk.filesystem in _NETWORK:
        text = f"{disk.filesystem} is a filesystem on another machine: its promises are that one's"
        found.append(Finding(Level.DOUBTFUL, text, "docs/assumptions.md says what is relied on"))
    for option in sorted(disk.mount_options & _NO_FLUSH):
        text = f"the filesystem is mounted with {option}: the disk's own cache is not flushed"
        found.append(Finding(Level.UNSAFE, text, f"mount it without {option}"))
    if disk.sync_ms.p99 > _SLOW_SYNC_MS:
        text = f"one sync in a hundred takes {disk.sync_ms.p99:.0f} ms or more"
        found.append(Finding(Level.DOUBTFUL, text, "something else may be using the disk"))
    return found or [Finding(Level.GOOD, "syncs take as long as a disk takes")]


def judge_clock(clock: Clock) -> list[Finding]:
    """Whether time goes by as it should. Elections go by the monotonic clock; the time of day is
    in the entries' timestamps, and in certificates."""
    found = []
    if clock.resolution_us > _COARSE_US:
        text = f"the monotonic clock ticks only each {clock.resolution_us / 1000:.1f} ms"
        found.append(Finding(Level.DOUBTFUL, text, "choose another clock source for the kernel"))
    if abs(clock.step_ms) > _STEP_MS:
        text = f"the time of day was set by {clock.step_ms:+.0f} ms while it was looked at"
        hint = "timestamps of entries jump with it; let a time service slew the clock"
        found.append(Finding(Level.DOUBTFUL, text, hint))
    return found or [Finding(Level.GOOD, "time goes by steadily")]


def _round_ms(sync: Quantiles, trip: Quantiles | None, late: Quantiles) -> float:
    """The longest usual time from a question to an answer that had to be synced."""
    return (trip.p99 if trip else 0.0) + 2 * sync.p99 + late.p99


def derive(
    sync: Quantiles, trip: Quantiles | None, late: Quantiles, *, elects: bool = False
) -> Timing:
    """Times that suit the machines: a live leader is not given up, a dead one soon.

    Args:
        sync: the slowest disk's.
        trip: the slowest round trip's; None: there is no other node.
        late: how late threads wake up.
        elects: whether the nodes elect their leader.
    """
    beat_ms = max(_HEARTBEAT_MS, 2 * ((trip.p99 if trip else 0.0) + late.p99))
    timeout_ms = max(_HEARTBEATS * beat_ms, _ROUNDS * _round_ms(sync, trip, late))
    return Timing(_rounded(beat_ms), _rounded(timeout_ms), elects)


def _rounded(ms: float) -> float:
    """Two leading digits, upwards."""
    unit = 10 ** max(0, math.floor(math.log10(ms)) - 1)
    return float(math.ceil(ms / unit) * unit)


def judge_timing(
    timing: Timing, sync: Quantiles, trip: Quantiles | None, late: Quantiles
) -> list[Finding]:
    """Whether a cluster with these times would keep its leader as long as nothing is wrong."""
    found = []
    trip_ms = (trip.p99 if trip else 0.0) + late.p99
    best = derive(sync, trip, late, elects=timing.elects)
    hint = f"take {best.heartbeat_ms:g} and {best.leader_ms:g}, or more"
    leader = f"{timing.leader_name} = {timing.leader_ms:g}"
    if timing.heartbeat_ms < trip_ms:
        text = f"heartbeat_ms = {timing.heartbeat_ms:g} is shorter than a round trip, {trip_ms:.1f}"
        found.append(Finding(Level.DOUBTFUL, text, hint))
    least_ms = _HEARTBEATS_MIN * timing.heartbeat_ms
    if timing.leader_ms < least_ms:
        text = (
            f"{leader} is less than {_HEARTBEATS_MIN} heartbeats, {least_ms:g}: one that is late "
            "unseats the leader"
        )
        found.append(Finding(Level.UNSAFE, text, hint))
    round_ms = _round_ms(sync, trip, late)
    if timing.leader_ms < _ROUNDS_MIN * round_ms:
        text = (
            f"{leader} is less than {_ROUNDS_MIN} rounds of question, sync and answer, of "
            f"{round_ms:.1f} each: elections may not come to an end"
        )
        found.append(Finding(Level.UNSAFE, text, hint))
    return found or [Finding(Level.GOOD, f"{timing} suit these machines")]
