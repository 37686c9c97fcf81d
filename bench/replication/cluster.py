"""What a contender is: a cluster that is started, does the work of some rows, and is stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.peers.loops import percentile
from bench.replication.processes import Processes

Metrics = dict[str, float]
BATCH = 100  # records
BATCHES_IN_FLIGHT = 16


class NotDone(Exception):
    """This contender does not do this row."""


def figures(latencies_ns: Sequence[int], operations: int, elapsed_ns: int) -> Metrics:
    """Rate, p50 and p99 as they are reported."""
    ordered = sorted(latencies_ns)
    return {
        "ops_per_s": operations * 1e9 / elapsed_ns,
        "p50_us": percentile(ordered, 0.50) / 1e3,
        "p99_us": percentile(ordered, 0.99) / 1e3,
    }


class Cluster:
    """Three nodes. A subclass does the rows that it can.

    Args:
        path: an existing directory, its own, on the disk that is measured.
    """

    promise = ""  # what holds when a call has returned

    def __init__(self, path: Path) -> None:
        self.path = path
        self.processes = Processes(path)

    @classmethod
    def missing(cls) -> str:
        """What it needs and this machine has not; empty when all is there."""
        return ""

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        """Also after a start that failed."""
        self.processes.stop_all()

    def one(self, payload: bytes, seconds: float) -> Metrics:
        """Appends one after the other, each confirmed by a majority."""
        raise NotDone

    def many(self, payload: bytes, seconds: float, in_flight: int) -> Metrics:
        """Appends with so many in flight."""
        raise NotDone

    def batches(self, payload: bytes, seconds: float) -> Metrics:
        """Appends batches of BATCH, BATCHES_IN_FLIGHT of them in flight."""
        raise NotDone

    def catch_up(self, mib: int) -> Metrics:
        """A follower that has nothing takes so many MiB of entries of 1 KiB, durably."""
        raise NotDone

    def asynchronous(self, payload: bytes, seconds: float) -> Metrics:
        """Appends that wait for the leader's disk only; and to a log that is not replicated."""
        raise NotDone

    def stopped(self, mib: int) -> Metrics:
        """So many MiB are appended with all followers, then again while one is stopped."""
        raise NotDone

    def failover(self, payload: bytes, kills: int) -> Metrics:
        """Kills the leader, so often: how long until the next append is confirmed."""
        raise NotDone

    def idle(self, seconds: float) -> Metrics:
        """CPU of a node while nothing is asked of the cluster: of the one that takes most."""
        raise NotDone

    def disturbed(self, payload: bytes, seconds: float, mib: int) -> Metrics:
        """Appends one after the other: alone, beside a slow follower, beside a catch-up."""
        raise NotDone
