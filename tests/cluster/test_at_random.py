"""Days of a cluster: nodes stop, come back, are added, removed and replaced, in any order, while
clients write."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from tests.crash.settings import scaled
from tests.helpers import seeded
from tests.raft.elected import Clients, Elected
from tests.replication.nodes import WAIT_S
from walstore.cluster import ChangeRefusedError, ClusterManager

pytestmark = pytest.mark.timeout(7000)

STEPS = scaled(14)
NAMES = "abcdefghijklmnopqrstuvw"
VOTERS_MAX = 5


class Days:
    """What is done to a cluster, and what came of it."""

    def __init__(self, cluster: Elected, rng: random.Random) -> None:
        self.cluster = cluster
        self.operator = ClusterManager(lambda: list(cluster.nodes.values()), timeout_s=WAIT_S)
        self.counts = Counter[str]()
        self.stopped: set[str] = set()
        self._rng = rng
        self._fresh = list(NAMES[3:])

    @property
    def voters(self) -> list[str]:
        """Those that there are now."""
        return list(self.cluster.leader().status().voters)

    def stop(self) -> None:
        """A member stops, unless that would be one too many."""
        if (self.operator.health().can_lose or 0) > 0:
            name = self._rng.choice([name for name in self.voters if name in self.cluster.nodes])
            self.cluster.stop(name)
            self.stopped.add(name)
            self.counts["stop"] += 1

    def start(self) -> None:
        """One that has stopped comes back."""
        if self.stopped:
            name = self._rng.choice(sorted(self.stopped))
            self.stopped.remove(name)
            self.begin(name)
            self.counts["start"] += 1

    def transfer(self) -> None:
        """Another one leads."""
        if (self.operator.health().can_lose or 0) > 0:
            self.operator.transfer()
            self.counts["transfer"] += 1

    def add(self) -> None:
        """One more votes."""
        if len(self.voters) < VOTERS_MAX and self._fresh:
            name = self._fresh.pop(0)
            self.begin(name)
            self.operator.add(name, voter=self._rng.random() < 0.8)
            self.counts["add"] += 1

    def remove(self) -> None:
        """One fewer votes, unless it is needed."""
        name = self._rng.choice(self.voters)
        try:
            self.operator.remove(name)
        except ChangeRefusedError:
            self.counts["refused"] += 1
        else:
            self._end(name)
            self.counts["remove"] += 1

    def replace(self) -> None:
        """One takes the place of another, of one that has stopped if there is any."""
        if self._fresh:
            old, new = self._rng.choice(sorted(self.stopped) or self.voters), self._fresh.pop(0)
            self.begin(new)
            self.operator.replace(old, new)
            self._end(old)
            self.counts["replace"] += 1

    def begin(self, name: str) -> None:
        """Starts a node; it knows those that run."""
        self.cluster.names = "".join(sorted({name, *self.cluster.nodes}))
        self.cluster.start(name)

    def _end(self, name: str) -> None:
        self.stopped.discard(name)
        if name in self.cluster.nodes:
            self.cluster.stop(name)


def test_any_day(elected: Callable[..., Elected]) -> None:
    rng = seeded("days of a cluster")
    cluster = elected(NAMES, advertise="ws://127.0.0.1:0")
    cluster.names = NAMES[:3]
    cluster.begin()
    days = Days(cluster, rng)
    steps = [days.stop, days.start, days.transfer, days.add, days.remove, days.replace]
    with Clients(cluster) as clients:
        for step in [*steps, *rng.choices(steps, k=STEPS - len(steps))]:
            step()
            clients.go_on(3)
        for name in sorted(days.stopped):
            days.begin(name)
        health = days.operator.wait_until_well()
        clients.go_on(3)
    print(dict(days.counts))
    assert sum(days.counts.values()) >= STEPS / 2
    assert health.can_lose == (len(days.voters) - 1) // 2
    clients.assert_kept(cluster.assert_equal(*days.voters))
