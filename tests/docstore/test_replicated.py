"""A store on a cluster: what a leader writes is read on the others, and what happens when it is
another one's turn."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.docstore.sites import contents
from tests.replication.conftest import cluster
from tests.replication.nodes import Cluster, until
from walstore.docstore import DocumentStore, DuplicateKeyError
from walstore.replication import (
    FatalReplicationError,
    NotLeaderError,
    ReplicationTimeoutError,
    Stage,
)

__all__ = ["cluster"]  # the fixture


def stores_of(nodes: Cluster) -> dict[str, DocumentStore]:
    return {name: DocumentStore(nodes[name], checkpoint_bytes=None) for name in nodes.names}


def test_followers_read_and_the_next_leader_goes_on(cluster: Callable[..., Cluster]) -> None:
    nodes = cluster()
    nodes.lead()
    stores = stores_of(nodes)
    things = stores["a"]["things"]
    things.create_index("n", unique=True)
    things.insert_many({"_id": at, "n": at} for at in range(10))
    with stores["a"].transaction(concern="quorum"):
        things.update_many({}, {"$inc": {"n": 100}})
        stores["a"]["others"].insert_one({"_id": 1})
    expected = contents(stores["a"])
    for name in "bc":
        nodes[name].wait_committed(nodes["a"].last_lsn, timeout_s=30)
        assert contents(stores[name]) == expected
        assert stores[name]["things"].explain({"n": 105}).index == "n_1"
        with pytest.raises(NotLeaderError):
            stores[name]["things"].insert_one({"_id": 11})
        with pytest.raises(NotLeaderError):
            stores[name]["things"].delete_one({"_id": 11}, concern="local")
    nodes["b"].promote()
    with pytest.raises(DuplicateKeyError):
        stores["b"]["things"].insert_one({"n": 105})
    stores["b"]["things"].insert_one({"_id": "b", "n": "b"})
    until(lambda: nodes["a"].role == "follower", "a follows")
    nodes["a"].wait_committed(nodes["b"].last_lsn, timeout_s=30)
    assert things.find_one({"_id": "b"}) == {"_id": "b", "n": "b"}
    stores["b"]["things"].insert_one({"_id": "b2", "n": "b2"})
    nodes["a"].wait_committed(nodes["b"].last_lsn, timeout_s=30)
    nodes["a"].promote()  # it knows what the other wrote in between, though nobody has asked
    assert things.update_one({"_id": "b2"}, {"$set": {"x": 1}}).matched_count == 1
    with pytest.raises(DuplicateKeyError):
        things.insert_one({"n": "b"})
    things.insert_one({"_id": "a", "n": "a"})
    for name in "bc":
        nodes[name].wait_committed(nodes["a"].last_lsn, timeout_s=30)
    final = contents(stores["a"])
    assert [contents(stores[name]) for name in "bc"] == [final, final]
    for number in range(3):  # each node makes its own checkpoints
        things.insert_one({"_id": f"more {number}", "n": f"more {number}"})
        for name in "abc":
            nodes[name].wait_committed(nodes["a"].last_lsn, timeout_s=30)
            assert stores[name].checkpoint() == nodes["a"].last_lsn
    final = contents(stores["a"])
    for name, store in stores.items():
        store.close()
        with DocumentStore(nodes[name]) as again:
            assert contents(again) == final
    nodes.assert_equal()


def test_a_timeout_is_not_a_failure(cluster: Callable[..., Cluster]) -> None:
    """The entry is in the leader's log, though not in its memory; once it is committed everybody
    sees it, and what is written after it is computed from it."""
    nodes = cluster(proxied=True)
    leader = nodes.lead()
    store = DocumentStore(leader, checkpoint_bytes=None)
    things = store["things"]
    things.insert_one({"_id": 1, "n": 1})
    nodes.split("a")
    leader.timeout_s = 0.3
    with pytest.raises(ReplicationTimeoutError):
        things.update_one({"_id": 1}, {"$inc": {"n": 10}})
    assert things.find_one({"_id": 1}) == {"_id": 1, "n": 1}, "not committed: not shown"
    with pytest.raises(ReplicationTimeoutError):
        things.insert_one({"_id": 2})  # computed without the first: void, should it get through
    leader.timeout_s = 30.0
    nodes.heal()
    nodes.joined("a", "b", "c")
    things.update_one({"_id": 1}, {"$inc": {"n": 100}})
    assert things.find_one({"_id": 1}) == {"_id": 1, "n": 111}
    follower = DocumentStore(nodes["b"], checkpoint_bytes=None)
    nodes["b"].wait_committed(leader.last_lsn, timeout_s=30)
    assert contents(follower) == contents(store)
    assert things.find_one({"_id": 2}) is None
    follower.close()
    store.close()


def test_what_changes_nothing_is_on_a_quorum_too(cluster: Callable[..., Cluster]) -> None:
    """With acks="async" a leader shows what no other node has."""
    nodes = cluster(proxied=True, acks="async")
    leader = nodes.lead()
    with DocumentStore(leader, checkpoint_bytes=None) as store:
        things = store["things"]
        nodes.split("a")
        things.insert_one({"_id": 1})
        leader.timeout_s = 0.05
        with pytest.raises(ReplicationTimeoutError):
            things.update_one({"_id": 1}, {"$unset": {"n": 1}}, concern="quorum")
        with pytest.raises(ReplicationTimeoutError):  # repeated, as its outcome was not known
            things.insert_one({"_id": 1}, concern="quorum")
        with pytest.raises(ReplicationTimeoutError), store.transaction(concern="quorum"):
            assert things.find_one({}) == {"_id": 1}
        assert things.delete_one({"_id": 2}).deleted_count == 0
        leader.timeout_s = 30.0
        nodes.heal()
        assert things.delete_one({"_id": 2}, concern="quorum").deleted_count == 0
        durable = [stage for stage in leader.receipt(1).stages.values() if stage >= Stage.DURABLE]
        assert len(durable) > 1


def test_two_histories_are_for_a_person_to_decide(cluster: Callable[..., Cluster]) -> None:
    """With acks="async" a leader commits what no other node may ever hold."""
    nodes = cluster("ab", proxied=True, acks="async")
    nodes.lead()
    store = DocumentStore(nodes["a"], checkpoint_bytes=None)
    things = store["things"]
    things.insert_one({"_id": 1})
    nodes["b"].wait_committed(nodes["a"].last_lsn, timeout_s=30)
    nodes.split("a")
    things.insert_one({"_id": "a"})
    nodes["b"].promote(force=True)
    other = DocumentStore(nodes["b"], checkpoint_bytes=None)
    other["things"].insert_one({"_id": "b"})
    nodes.heal()
    until(lambda: nodes["a"].error is not None, "a has noticed")
    with pytest.raises(FatalReplicationError):
        things.insert_one({"_id": 2})
    assert things.distinct("_id") == [1, "a"]
    assert other["things"].distinct("_id") == [1, "b"]
    store.close()
    other.close()
