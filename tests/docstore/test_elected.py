"""Stores on nodes that elect: linearizable reads, one's own writes on followers, streams that
survive their node, and snapshots. Nobody tells a store who leads.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest

from tests.docstore.nodes import close_all, digest_of, live_digest_of
from tests.docstore.sites import Contents, contents
from tests.docstore.streams import filled, follow, write_some
from tests.helpers import seeded
from tests.linear import Operation, check
from tests.raft.conftest import elected
from tests.raft.elected import Elected
from tests.replication.nodes import OPTIONS, WAIT_S, until
from walstore import ClosedLogError, FileWALManager, OptionError
from walstore.docstore import (
    ClosedStoreError,
    ConflictError,
    DocumentChange,
    DocumentSnapshots,
    DocumentStore,
    OutcomeUnknownError,
    QueryError,
    WaitTimeoutError,
)
from walstore.docstore.concern import Concern
from walstore.replication import NotLeaderError, ReplicationTimeoutError

__all__ = ["elected"]  # the fixture

pytestmark = pytest.mark.timeout(120)

Make = Callable[..., Elected]

FAILOVERS = 3
DOUBTFUL = (
    *(NotLeaderError, ReplicationTimeoutError, ClosedLogError, ClosedStoreError),
    *(WaitTimeoutError, ConflictError, OutcomeUnknownError),
)


class Stores:
    """Three nodes that elect, and their stores."""

    def __init__(self, nodes: Elected) -> None:
        self.nodes = nodes
        with ThreadPoolExecutor(3) as pool:
            self.stores = dict(zip("abc", pool.map(self._opened, "abc"), strict=True))
        until(lambda: not nodes.leader().status().changing, "all vote")

    def _opened(self, name: str) -> DocumentStore:
        node = self.nodes.start(name, snapshots=DocumentSnapshots(self.nodes.path(name)))
        return DocumentStore(node, checkpoint_bytes=None)

    def start(self, name: str) -> None:
        """A node comes back, with its store."""
        self.stores[name] = self._opened(name)

    def stop(self, name: str) -> None:
        """Both end."""
        self.stores.pop(name).close()
        self.nodes.stop(name)

    @property
    def leading(self) -> str:
        """The node that leads now."""
        return self.nodes.leader(list(self.stores)).node_id

    def followers(self) -> list[str]:
        """The others that run."""
        leading = self.leading
        return [name for name in self.stores if name != leading]


@pytest.fixture
def three(elected: Make) -> Iterator[Stores]:
    made = Stores(elected(options=replace(OPTIONS, retention_s=0.05), segment_bytes=1 << 14))
    yield made
    close_all(made.stores)


def test_the_leader_reads_all_that_was_written_and_followers_what_they_wait_for(
    three: Stores,
) -> None:
    rng = seeded("elected stores")
    for turn in range(40):
        if turn % 10 == 9:
            three.nodes[rng.choice(three.followers())].promote()
        leading = three.leading
        store = three.stores[leading]
        if turn % 3:
            write_some(store, rng, checkpoints=False)
        with store.transaction():
            store["turns"].update_one({"_id": 1}, {"$set": {"turn": turn}}, upsert=True)
        assert store.read_barrier(WAIT_S) <= store.applied_lsn
        assert store["turns"].find_one({"_id": 1}) == {"_id": 1, "turn": turn}
        for name in three.followers():
            three.stores[name].wait_for(store.applied_lsn, WAIT_S)
            assert live_digest_of(three.stores[name]) == live_digest_of(store)
            with pytest.raises(NotLeaderError):
                three.stores[name].read_barrier(WAIT_S)
            with pytest.raises(NotLeaderError):
                three.stores[name]["turns"].insert_one({})


def test_a_new_leader_reads_what_its_predecessor_wrote(three: Stores) -> None:
    """At once, though it has not heard yet that it is committed."""
    for number in range(FAILOVERS):
        leading = three.leading
        three.stores[leading]["things"].insert_one({"_id": number})
        three.stop(leading)
        new = three.stores[three.leading]
        new.read_barrier(WAIT_S)
        assert new["things"].find_one({"_id": number}) == {"_id": number}
        three.start(leading)


def test_who_was_deposed_does_not_show_what_is_old(elected: Make) -> None:
    """Cut off, it can be read, and shows what is old; behind a barrier, and where a write or a
    transaction would rest on it, it says that it cannot."""
    nodes = elected(proxied=True)
    nodes.begin()
    stores = {name: DocumentStore(nodes[name], checkpoint_bytes=None) for name in "abc"}
    old = nodes.leader().node_id
    others = [name for name in "abc" if name != old]
    stores[old]["things"].insert_one({"_id": 1, "n": "old"})
    nodes.split(old)
    new = nodes.leader(others).node_id
    stores[new].read_barrier(WAIT_S)
    stores[new]["things"].update_one({"_id": 1}, {"$set": {"n": "new"}})
    stores[new]["things"].insert_one({"_id": 2})
    assert stores[old]["things"].find_one({"_id": 1}) == {"_id": 1, "n": "old"}
    with stores[old].transaction(concern="local"):
        assert stores[old]["things"].find_one({"_id": 1}) == {"_id": 1, "n": "old"}
    nodes[old].timeout_s = 0.1
    behind = pytest.raises((NotLeaderError, ReplicationTimeoutError))
    with behind:
        stores[old].read_barrier(0.1)
    with behind, stores[old].transaction():
        assert stores[old]["things"].find_one({"_id": 1}) == {"_id": 1, "n": "old"}
    concerns: tuple[Concern, ...] = ("local", "durable", "quorum")
    for concern in concerns:
        with behind:
            stores[old]["things"].update_one({"_id": 1}, {"$set": {"n": "old"}}, concern=concern)
        with behind:
            stores[old]["things"].delete_one({"_id": 2}, concern=concern)
    nodes.heal()
    stores[old].wait_for(stores[new].applied_lsn, WAIT_S)
    assert stores[old]["things"].find_one({"_id": 1}) == {"_id": 1, "n": "new"}
    close_all(stores)


def test_a_barrier_on_other_logs(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log, DocumentStore(log) as store:
        store["things"].insert_one({"_id": 1})
        assert store.read_barrier(1) == store.applied_lsn == 1
        with FileWALManager(tmp_path / "log", read_only=True) as seen:
            with DocumentStore(seen, checkpoint_bytes=None) as reader:
                store["things"].insert_one({"_id": 2})
                assert reader.read_barrier(WAIT_S) == 2
                assert reader["things"].count_documents({}) == 2
        for bad in (0, -1, None, True, math.nan):
            with pytest.raises(QueryError, match="timeout_s is a positive number"):
                store.read_barrier(bad)  # type: ignore[arg-type]
    with pytest.raises(ClosedStoreError):
        store.read_barrier(1)


def test_a_barrier_where_a_person_elects(tmp_path: Path) -> None:
    from tests.replication.nodes import Cluster

    nodes = Cluster(tmp_path, "a")
    with DocumentStore(nodes.lead(), checkpoint_bytes=None) as store:
        with pytest.raises(OptionError, match="election='raft' only"):
            store.read_barrier(1)
    nodes.close()


def _read(store: DocumentStore, key: int) -> Any:
    store.read_barrier(1.0)
    return (store["things"].find_one({"_id": key}) or {}).get("n")


def _written(store: DocumentStore, key: int, value: str) -> str:
    store["things"].update_one({"_id": key}, {"$set": {"n": value}}, upsert=True)
    return value


def test_reads_behind_a_barrier_are_linearizable(three: Stores) -> None:
    """Three threads write and read on whoever leads, which is stopped again and again."""
    rng = seeded("linearizable documents")
    history: list[Operation] = []
    ended = threading.Event()

    def use(name: str, rng: Random) -> None:
        for number in itertools.count():
            if ended.is_set():
                return
            key, value, reads = rng.randrange(3), f"{name}-{number}", rng.random() < 0.5
            for store in list(three.stores.values()):
                began_s = time.monotonic()
                try:
                    found = _read(store, key) if reads else _written(store, key, value)
                except NotLeaderError:
                    continue  # nothing was done
                except DOUBTFUL:
                    if not reads:
                        history.append(Operation("write", key, value, began_s, math.inf))
                    break
                kind: Literal["read", "write"] = "read" if reads else "write"
                history.append(Operation(kind, key, found, began_s, time.monotonic()))
                break

    threads = [
        threading.Thread(target=use, args=(f"user{n}", Random(rng.random()))) for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for _ in range(FAILOVERS):
        count = len(history)
        until(lambda count=count: len(history) > count + 50, "they go on")  # type: ignore[misc]
        victim = three.leading
        three.stop(victim)
        count = len(history)
        until(lambda count=count: len(history) > count + 30, "they go on with another")  # type: ignore[misc]
        three.start(victim)
    ended.set()
    for thread in threads:
        thread.join()
    assert check(history) == []
    done = sum(operation.ended < math.inf for operation in history)
    print(f"operations={done} doubtful={len(history) - done}")
    assert done > 150


def test_a_stream_survives_its_node(three: Stores) -> None:
    """The leader's own stream ends with it; a token goes on on another node: all changes once, in
    order, and what they lead to is what the others have."""
    rng = seeded("streams of elected nodes")
    state: Contents = {}
    begin: dict[str, Any] = {"from_lsn": 1}
    seen: list[DocumentChange] = []
    for turn in range(FAILOVERS + 1):
        leading = three.leading
        store = three.stores[leading]
        for _ in range(20):
            write_some(store, rng, checkpoints=False)
        store["end"].insert_one({"turn": turn})
        with store.watch(**begin) as changes:  # on the leader, which is about to end
            while not seen or seen[-1].lsn < store.applied_lsn:
                seen.append(next(changes))
                follow(state, seen[-1])
        begin = {"resume_after": seen[-1].token}
        three.stop(leading)
        if turn < FAILOVERS:
            three.start(leading)
    name = three.leading
    three.stores[name]["end"].insert_one({"turn": "last"})
    with three.stores[name].watch(**begin) as changes:
        while "turn" not in (seen[-1].after or {}) or seen[-1].after["turn"] != "last":  # type: ignore[index]
            seen.append(next(changes))
            follow(state, seen[-1])
    whole = three.stores[name].watch(from_lsn=1)
    assert [next(whole) for _ in seen] == seen
    whole.close()
    assert filled(state) == filled(contents(three.stores[name]))
    print("changes:", len(seen))
    assert len(seen) > 30


def test_a_follower_that_is_far_behind_gets_the_documents(three: Stores) -> None:
    leading = three.leading
    store = three.stores[leading]
    store["things"].insert_many({"_id": at, "n": at} for at in range(20))
    behind = three.followers()[0]
    three.stores[behind].wait_for(store.applied_lsn, WAIT_S)
    held_lsn = three.stores[behind].applied_lsn
    three.stop(behind)

    def gone() -> bool:
        store["things"].update_many({}, {"$inc": {"n": 1}, "$set": {"pad": os.urandom(2000)}})
        store.checkpoint()
        return store.log.first_lsn > held_lsn + 1

    until(gone, "the front is gone")
    three.start(behind)
    three.stores[behind].wait_for(store.applied_lsn, WAIT_S)
    assert three.nodes[behind].first_lsn > held_lsn + 1, "not by the log alone"
    lsn = store.applied_lsn
    assert digest_of(three.stores[behind], lsn) == live_digest_of(store)
    three.nodes[behind].promote()
    three.stores[behind]["things"].update_many({}, {"$inc": {"n": 1}})
    store.wait_for(three.stores[behind].applied_lsn, WAIT_S)
    assert live_digest_of(three.stores[behind]) == live_digest_of(store)
