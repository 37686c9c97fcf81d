"""Three nodes at random: writes, checkpoints, failovers, nodes that stop, come back and need a
snapshot, and a consumer of changes that goes from node to node."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.docstore.nodes import FAST, close_all, live_digest_of, starting
from tests.docstore.sites import Contents, contents
from tests.docstore.streams import filled, follow, write_some
from tests.helpers import seeded
from tests.replication.conftest import cluster
from tests.replication.nodes import WAIT_S, Cluster
from walstore.docstore import DocumentChange, DocumentStore, HistoryError, applied

__all__ = ["cluster"]  # the fixture

TURNS = 40


class World:
    """A cluster, one consumer, and what that has seen."""

    def __init__(self, nodes: Cluster, rng: random.Random) -> None:
        self.nodes = nodes
        self.rng = rng
        self.counts: Counter[str] = Counter()
        self.leader = "a"
        self.stores = {"a": starting(nodes, "a", role="leader")}
        self.stores |= {name: starting(nodes, name) for name in "bc"}
        self.nodes.joined("a", "b", "c")
        self.down = ""
        self.down_at = 0
        self.state: Contents = {}
        self.begin: dict[str, Any] = {"from_lsn": 1}

    @property
    def led(self) -> DocumentStore:
        """The leader's store."""
        return self.stores[self.leader]

    def write(self) -> None:
        """Something on the leader; some nodes make checkpoints."""
        for _ in range(self.rng.randrange(1, 25)):
            write_some(self.led, self.rng, checkpoints=False)
        if self.rng.random() < 0.6:
            self.led["pads"].insert_one({"pad": os.urandom(self.rng.choice((10, 3000)))})
        for store in self.stores.values():
            if self.rng.random() < 0.5:
                store.wait_for(self.led.applied_lsn, WAIT_S)
                store.checkpoint()

    def stop_or_start(self) -> None:
        """A node that does not lead."""
        if not self.down and self.rng.random() < 0.4:
            self.down = self.rng.choice([name for name in "abc" if name != self.leader])
            store = self.stores.pop(self.down)
            self.down_at = store.applied_lsn
            store.close()
            self.nodes.stop(self.down)
            self.counts["stopped"] += 1
        elif self.down and self.rng.random() < 0.4:
            self.bring_back()

    def bring_back(self) -> None:
        """It catches up, by the log or by a snapshot."""
        name, self.down = self.down, ""
        store = self.stores[name] = starting(self.nodes, name)
        self.nodes.joined("a", "b", "c")
        store.wait_for(self.led.applied_lsn, WAIT_S)
        self.counts["by snapshot"] += self.nodes[name].first_lsn > self.down_at + 1

    def promote(self) -> None:
        """Another node leads."""
        if not self.down and self.rng.random() < 0.3:
            self.leader = self.rng.choice([name for name in "abc" if name != self.leader])
            self.led.wait_for(max(store.applied_lsn for store in self.stores.values()), WAIT_S)
            self.nodes[self.leader].promote()
            self.counts["promoted"] += 1

    def consume(self, turn: int) -> None:
        """On any node, from where the consumer is, to what is written now."""
        store = self.stores[self.rng.choice(list(self.stores))]
        store.wait_for(self.led.applied_lsn, WAIT_S)
        assert live_digest_of(store) == live_digest_of(self.led)
        try:
            changes = store.watch(**self.begin)
        except HistoryError:
            self.counts["anew"] += 1
            self.begin_anew(store)
            return
        self.led["turns"].insert_one({"_id": turn})
        with changes:
            for change in changes:
                follow(self.state, change)
                self.counts["changes"] += 1
                if change.collection == "turns":
                    break
        self.go_on_after(change)
        store.wait_for(self.led.applied_lsn, WAIT_S)
        assert filled(self.state) == filled(contents(store))

    def go_on_after(self, change: DocumentChange) -> None:
        self.begin = {"resume_after": change.token}
        if self.rng.random() < 0.3:
            self.begin = {"from_lsn": change.lsn + 1}

    def begin_anew(self, store: DocumentStore) -> None:
        """As the error's hint says."""
        lsn = store.applied_lsn
        view = store.at(lsn)
        self.state = {
            name: {repr(one["_id"]): one for one in view[name].find()}
            for name in view.list_collection_names()
        }
        self.begin = {"from_lsn": lsn + 1}


def test_nodes_and_a_consumer_at_random(
    cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = seeded("nodes")
    monkeypatch.setattr(applied, "HISTORY_BYTES_MAX", rng.choice((100, 5000, 16 << 20)))
    world = World(cluster("abc", segment_bytes=1 << 13, options=FAST), rng)
    for turn in range(TURNS):
        world.write()
        world.stop_or_start()
        world.consume(turn)
        world.promote()
    if world.down:
        world.bring_back()
    for store in world.stores.values():
        store.wait_for(world.led.applied_lsn, WAIT_S)
    assert len({live_digest_of(store) for store in world.stores.values()}) == 1
    print("nodes:", dict(world.counts))
    close_all(world.stores)
    assert world.counts["changes"] > 200
    assert world.counts["stopped"] >= 2
