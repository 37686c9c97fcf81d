"""Stores on several nodes: waiting for what the leader wrote, streams that go on elsewhere, and
followers that are too far behind for the log alone."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.docstore.nodes import (
    FAST,
    close_all,
    digest_of,
    live_digest_of,
    starting,
    stores_of,
)
from tests.docstore.sites import Contents, contents
from tests.docstore.streams import filled, follow, write_some
from tests.helpers import seeded
from tests.replication.conftest import cluster
from tests.replication.nodes import WAIT_S, Cluster, until
from walstore import FileWALManager, WALEntry
from walstore.docstore import (
    ConflictError,
    DocumentChange,
    DocumentSnapshots,
    DocumentStore,
    HistoryError,
    SnapshotError,
    StoreLostError,
    WaitTimeoutError,
)
from walstore.docstore.changes import ResumeToken
from walstore.replication import (
    FatalReplicationError,
    ReplicationTimeoutError,
    ReplicationWALManager,
)
from walstore.wal import files
from walstore.wal.meta import META_NAME, forget_committed, read_meta

__all__ = ["cluster"]  # the fixture

Make = Callable[..., Cluster]


def test_a_follower_waits_for_what_the_leader_wrote(cluster: Make) -> None:
    """And every node's state is the same, byte for byte, whoever leads."""
    nodes = cluster()
    nodes.lead()
    stores = stores_of(nodes)
    rng = seeded("read your writes")
    leader = "a"
    lsns = []
    for number in range(60):
        if number == 30:
            leader = "b"
            nodes["b"].promote()
            until(lambda: nodes["a"].role == "follower", "a follows")
        follower = rng.choice([name for name in nodes.names if name != leader])
        write_some(stores[leader], rng, checkpoints=False)
        lsns.append(stores[leader].applied_lsn)
        stores[follower].wait_for(lsns[-1], WAIT_S)
        assert live_digest_of(stores[follower]) == live_digest_of(stores[leader])
    for store in stores.values():
        store.wait_for(lsns[-1], WAIT_S)
    for lsn in [*rng.sample(lsns, 5), lsns[-1]]:
        assert len({digest_of(store, lsn) for store in stores.values()}) == 1
    assert digest_of(stores["c"], lsns[-1]) == live_digest_of(stores["a"])
    assert len({digest_of(stores["c"], lsn) for lsn in set(lsns)}) > 1
    with pytest.raises(WaitTimeoutError, match=f"entry {lsns[-1] + 1} is not here after 0.05 s"):
        stores["c"].wait_for(lsns[-1] + 1, 0.05)
    close_all(stores)


def test_a_stream_goes_on_on_another_node(cluster: Make) -> None:
    """A consumer takes what there is on one node, and goes on with its token on the next, through
    failovers and a restart: all of it once, in order."""
    nodes = cluster()
    nodes.lead()
    stores = stores_of(nodes)
    rng = seeded("failovers")
    leader = "a"
    whole = stores["c"].watch()  # on one node, all the time
    begin: dict[str, Any] = {"from_lsn": 1}
    seen: list[DocumentChange] = []
    state: Contents = {}
    for turn in range(8):
        for _ in range(20):
            write_some(stores[leader], rng, checkpoints=False)
        stores[leader]["end"].insert_one({})
        lsn = stores[leader].applied_lsn
        name = "abc"[turn % 3]
        stores[name].wait_for(lsn, WAIT_S)
        with stores[name].watch(**begin) as changes:
            while not seen or seen[-1].lsn < lsn:
                seen.append(next(changes))
                follow(state, seen[-1])
        begin = {"resume_after": seen[-1].token}
        if turn == 3:  # a node comes back, with what is on its disk
            stores["a"].close()
            nodes.stop("a")
            nodes.start("a")
            nodes.joined("a", "b", "c")
            stores["a"] = DocumentStore(nodes["a"], checkpoint_bytes=None)
        if turn % 2:
            leader = "b" if leader == "a" else "a"
            stores[leader].wait_for(lsn, WAIT_S)  # a node that is not behind is elected
            nodes[leader].promote()
    assert [next(whole) for _ in seen] == seen
    assert filled(state) == filled(contents(stores["c"]))
    print("changes:", len(seen))
    assert len(seen) > 60
    whole.close()
    close_all(stores)


def test_a_follower_shows_changes_by_itself(cluster: Make) -> None:
    """Nobody reads there: the stream takes in what the leader wrote."""
    nodes = cluster("ab")
    nodes.lead()
    stores = stores_of(nodes)
    found: list[DocumentChange] = []

    def consume() -> None:
        with stores["b"]["things"].watch() as changes:
            started.set()
            for change in changes:
                found.append(change)
                if change.document_id == 9:
                    return

    started = threading.Event()
    consumer = threading.Thread(target=consume)
    consumer.start()
    assert started.wait(60)
    for number in range(10):
        stores["a"]["things"].insert_one({"_id": number})
    consumer.join(60)
    assert [change.document_id for change in found] == list(range(10))
    close_all(stores)


def test_what_is_not_committed_is_not_shown(cluster: Make) -> None:
    """What a cut-off leader writes, until it is: then without what was computed beside it."""
    nodes = cluster(proxied=True)
    leader = nodes.lead()
    stores = stores_of(nodes)
    things = stores["a"]["things"]
    with ThreadPoolExecutor(1) as pool, stores["a"].watch() as changes:
        things.insert_one({"_id": 1})
        assert next(changes).document_id == 1
        nodes.split("a")
        leader.timeout_s = 0.3
        waiting = pool.submit(next, changes)
        with pytest.raises(ReplicationTimeoutError):
            things.insert_one({"_id": 2})
        with pytest.raises(ReplicationTimeoutError):
            things.insert_one({"_id": 3})  # computed without the one before: void
        assert not waiting.done()
        leader.timeout_s = WAIT_S
        nodes.heal()
        assert waiting.result(timeout=60).document_id == 2, "though nobody has applied it"
        things.insert_one({"_id": 4})
        assert next(changes).document_id == 4
    close_all(stores)


def test_a_change_that_did_not_survive_is_not_gone_on_from(cluster: Make) -> None:
    """With acks="async" a leader shows what no other node may ever hold."""
    nodes = cluster("ab", proxied=True, acks="async")
    nodes.lead()
    stores = stores_of(nodes)
    with stores["a"].watch() as changes:
        stores["a"]["things"].insert_one({"_id": "both"})
        both = next(changes)
        stores["b"].wait_for(both.lsn, WAIT_S)
        nodes.split("a")
        stores["a"]["things"].insert_one({"_id": "alone"})
        alone = next(changes)
    with pytest.raises(HistoryError, match=f"entry {alone.lsn} is not here") as caught:
        stores["b"].watch(resume_after=alone.token)
    assert caught.value.lsn == alone.lsn
    nodes["b"].promote(force=True)
    while stores["b"].applied_lsn < alone.lsn:
        stores["b"]["things"].insert_one({})
    with pytest.raises(HistoryError, match="did not survive"):
        stores["b"].watch(resume_after=alone.token)
    with stores["b"].watch(resume_after=both.token) as changes:
        assert next(changes).document_id not in ("both", "alone")
    nodes.heal()
    until(lambda: nodes["a"].error is not None, "a has noticed")
    assert isinstance(nodes["a"].error, FatalReplicationError)
    close_all(stores)


def test_a_read_does_not_wait_for_the_other_nodes(cluster: Make) -> None:
    """A write waits for them, which the log shows already: it is not acknowledged yet."""
    nodes = cluster("ab", proxied=True, acks="async")
    leader = nodes.lead()
    stores = stores_of(nodes)
    things = stores["a"]["things"]
    things.insert_one({"_id": 1})
    nodes.split("a")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(things.insert_one, {"_id": 2}, concern="quorum")
        until(lambda: leader.committed_lsn > stores["a"].applied_lsn, "it is in the log")
        assert things.distinct("_id") == [1]
        assert not waiting.done()
        nodes.heal()
        waiting.result(timeout=60)
    assert things.distinct("_id") == [1, 2]
    close_all(stores)


# ---- snapshots on their way ----


def left_behind(nodes: Cluster, stores: dict[str, DocumentStore], *names: str) -> None:
    """Writes until the leader's log no longer has what these stopped nodes need."""
    things = stores["a"]["things"]
    last_lsn = stores["a"].applied_lsn

    def gone() -> bool:
        things.update_many({}, {"$inc": {"n": 1}, "$set": {"pad": os.urandom(2000)}})
        stores["a"].checkpoint()
        return nodes["a"].first_lsn > last_lsn + 1

    until(gone, f"the front is gone: {names} are away for longer than it is kept")


def test_a_follower_that_is_far_behind_gets_a_snapshot(cluster: Make) -> None:
    """It was stopped, or is new: it has what the leader has, goes on, and can lead."""
    nodes = cluster("abc", segment_bytes=1 << 14, options=FAST)
    stores = {"a": starting(nodes, "a", role="leader"), "b": starting(nodes, "b")}
    nodes.joined("a", "b")
    things = stores["a"]["things"]
    things.create_index("n")
    things.insert_many({"_id": at, "n": at} for at in range(20))
    held_lsn = stores["a"].applied_lsn
    stores["b"].wait_for(held_lsn, WAIT_S)
    nodes.start("c")
    nodes.joined("a", "b", "c")
    stores["b"].close()
    nodes.stop("b")
    left_behind(nodes, stores, "b")
    stores["b"] = starting(nodes, "b")
    nodes.joined("a", "b")
    lsn = stores["a"].applied_lsn
    stores["b"].wait_for(lsn, WAIT_S)
    assert nodes["b"].first_lsn > held_lsn + 1, "not by the log alone"
    assert live_digest_of(stores["b"]) == live_digest_of(stores["a"])
    assert stores["b"]["things"].explain({"n": 1}).index == "n_1"
    nodes["b"].promote()
    stores["b"]["things"].update_many({}, {"$inc": {"n": 1}})
    stores["a"].wait_for(stores["b"].applied_lsn, WAIT_S)
    assert live_digest_of(stores["b"]) == live_digest_of(stores["a"])
    stores["b"].close()
    with DocumentStore(nodes["b"], checkpoint_bytes=None) as again:
        assert live_digest_of(again) == live_digest_of(stores["a"])
        again.checkpoint()
    stores["a"].close()
    nodes.assert_equal()


def test_an_open_store_goes_on_from_a_snapshot(cluster: Make) -> None:
    """Its readers see the new state, its transactions and streams are told."""
    nodes = cluster("abc", proxied=True, segment_bytes=1 << 14, options=FAST)
    stores = {"a": starting(nodes, "a", role="leader")}
    stores |= {name: starting(nodes, name) for name in "bc"}
    nodes.joined("a", "b", "c")
    stores["a"]["things"].insert_many({"_id": at, "n": at} for at in range(20))
    lsn = stores["a"].applied_lsn
    stores["b"].wait_for(lsn, WAIT_S)
    store = stores["b"]
    live, slow = store.watch(), store.watch(from_lsn=lsn)
    last = next(slow)

    def begun_before() -> None:
        with store.transaction():
            assert store["things"].count_documents({}) == 20
            nodes.split("b")
            left_behind(nodes, stores, "b")
            nodes.heal()
            nodes.joined("a", "b", "c")
            until(lambda: nodes["b"].first_lsn > lsn + 1, "b has got a snapshot")
            store.wait_for(lsn + 2, WAIT_S)
            store["things"].find_one({})

    with pytest.raises(ConflictError, match="began anew from a snapshot"):
        begun_before()
    stores["a"]["things"].update_one({"_id": 1}, {"$set": {"after": True}})
    store.wait_for(stores["a"].applied_lsn, WAIT_S)
    assert live_digest_of(store) == live_digest_of(stores["a"])
    with pytest.raises(HistoryError, match="too far behind"):
        next(live)
    for begin in ({"resume_after": last.token}, {"from_lsn": lsn}, {"from_lsn": lsn + 1}):
        with pytest.raises(HistoryError, match=f"can be had from {nodes['b'].first_lsn - 1} on"):
            store.watch(**begin)
    first_lsn = nodes["b"].first_lsn
    term = nodes["a"].read(first_lsn - 1).term  # of the entry that the snapshot ends with
    token = ResumeToken(nodes["b"].log_id, first_lsn - 1, term, 0, 1)
    for begin in ({"from_lsn": first_lsn}, {"resume_after": str(token)}):
        with store.watch(**begin) as changes:
            assert next(changes).before is not None, "from the snapshot on"
    with pytest.raises(HistoryError, match="did not survive"):
        store.watch(resume_after=str(token._replace(term=term - 1)))
    with store.watch() as changes:
        stores["a"]["things"].insert_one({"_id": "last"})
        assert next(changes).document_id == "last"
    assert store.checkpoint() == store.applied_lsn
    slow.close()
    close_all(stores)


def test_a_log_that_begins_anew_under_a_reader(cluster: Make) -> None:
    """It has begun to read entries that are gone then."""
    nodes = cluster("abc", proxied=True, segment_bytes=1 << 14, options=FAST)
    stores = {"a": starting(nodes, "a", role="leader")}
    stores |= {name: starting(nodes, name) for name in "bc"}
    nodes.joined("a", "b", "c")
    stores["a"]["things"].insert_one({"_id": 1, "n": 0})
    stores["b"].wait_for(stores["a"].applied_lsn, WAIT_S)
    stores["a"]["things"].insert_one({"_id": 2})
    lsn = stores["a"].applied_lsn
    node = nodes["b"]
    node.wait_committed(lsn, timeout_s=WAIT_S)
    reading = threading.Event()

    class Slow(ReplicationWALManager):
        def replay(self, *args: Any) -> Iterator[WALEntry]:
            reading.set()
            until(lambda: self.first_lsn > lsn + 1, "the log begins anew")
            return super().replay(*args)

    with ThreadPoolExecutor(1) as pool:
        node.__class__ = Slow
        found = pool.submit(stores["b"]["things"].find_one, {"_id": 2})
        assert reading.wait(60)
        nodes.split("b")
        left_behind(nodes, stores, "b")
        nodes.heal()
        document = found.result(timeout=60)
        node.__class__ = ReplicationWALManager
    assert document is not None
    assert document["n"] > 0, "as the snapshot has it"
    close_all(stores)


def test_a_store_that_got_no_snapshot_is_lost(cluster: Make) -> None:
    """Its node begins its log where the leader's does, and says so rather than to guess."""
    nodes = cluster("abc", proxied=True, segment_bytes=1 << 14, options=FAST)
    stores = {"a": DocumentStore(nodes.start("a", role="leader"), checkpoint_bytes=None)}
    stores |= {name: DocumentStore(nodes.start(name), checkpoint_bytes=None) for name in "bc"}
    nodes.joined("a", "b", "c")
    stores["a"]["things"].insert_one({"_id": 1})
    lsn = stores["a"].applied_lsn
    stores["b"].wait_for(lsn, WAIT_S)
    nodes.split("b")
    left_behind(nodes, stores, "b")
    nodes.heal()
    until(lambda: nodes["b"].first_lsn > lsn + 1, "b begins anew")
    with pytest.raises(StoreLostError, match=f"the entries after {lsn}"):
        stores["b"].wait_for(lsn + 2, WAIT_S)
    with pytest.raises(StoreLostError):
        stores["b"]["things"].find_one({})
    stores["b"].close()
    with pytest.raises(SnapshotError, match="there is none"):
        DocumentStore(nodes["b"])
    close_all(stores)


def test_a_crash_between_snapshot_and_log_is_made_good(
    cluster: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The snapshot is there, the log still where it was: what is on the disk is used as it is, and
    the leader sends it again."""
    nodes = cluster("abc", segment_bytes=1 << 14, options=FAST)
    stores = {"a": starting(nodes, "a", role="leader")}
    stores |= {name: starting(nodes, name) for name in "bc"}
    nodes.joined("a", "b", "c")
    stores["a"]["things"].insert_many({"_id": at, "n": at} for at in range(20))
    for store in stores.values():
        store.wait_for(stores["a"].applied_lsn, WAIT_S)
    before = live_digest_of(stores["b"])
    stores["b"].close()
    nodes.stop("b")
    left_behind(nodes, stores, "b")
    newest = DocumentSnapshots(nodes.path("a")).newest(nodes["a"]._term_of)
    assert newest is not None
    copy = nodes.base / "copy"
    shutil.copyfile(newest[1], copy)
    snapshots = DocumentSnapshots(nodes.path("b"))
    snapshots.install(newest[0], str(copy))
    assert snapshots.newest(nodes["a"]._term_of) == (
        newest[0],
        str(_snapshot(nodes, "b", newest[0])),
    )
    peers = {"a": None, "c": None}  # it dials nobody, and nobody reaches it
    with caplog.at_level(logging.WARNING, "walstore.docstore"):
        stores["b"] = starting(nodes, "b", listen=None, peers=peers)
        assert live_digest_of(stores["b"]) == before
        stores["b"].close()
        nodes.stop("b")
        stores["b"] = starting(nodes, "b")
        nodes.joined("a", "b", "c")
        stores["b"].wait_for(stores["a"].applied_lsn, WAIT_S)
    assert live_digest_of(stores["b"]) == live_digest_of(stores["a"])
    assert not [one for one in caplog.records if one.name == "walstore.docstore"]
    close_all(stores)


def _snapshot(nodes: Cluster, name: str, lsn: int) -> Path:
    return nodes.path(name) / "documents" / f"snapshot-{lsn:020}"


def test_a_snapshot_that_is_not_whole_is_neither_sent_nor_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert DocumentSnapshots(tmp_path / "log").newest(lambda lsn: 1) is None
    with (
        FileWALManager(tmp_path / "log") as log,
        DocumentStore(log, checkpoint_bytes=None) as store,
    ):
        lsns = []
        for number in range(2):
            store["things"].insert_one({"_id": number, "pad": "x" * 3_000_000})
            lsns.append(store.checkpoint())
        snapshots = DocumentSnapshots(log.path)
        newest = snapshots.newest(log._term_of)
        assert newest is not None
        assert newest[0] == lsns[1]
        path = Path(newest[1])
        whole = path.read_bytes()
        other = DocumentSnapshots(tmp_path / "other")
        (tmp_path / "other").mkdir()
        came = tmp_path / "came"
        for at in (0, 20, len(whole) // 2, len(whole) - 1):
            spoiled = bytearray(whole)
            spoiled[at] ^= 1
            path.write_bytes(spoiled)
            came.write_bytes(spoiled)
            older = snapshots.newest(log._term_of)
            assert older is not None
            assert older[0] == lsns[0]
            with pytest.raises(SnapshotError, match="the leader's snapshot is not whole"):
                other.install(lsns[1], str(came))
        came.write_bytes(whole)
        with pytest.raises(SnapshotError, match=f"of entry 7 is of {lsns[1]}"):
            other.install(7, str(came))
        assert other.newest(log._term_of) is None
        assert came.read_bytes() == whole, "nothing was changed"
        other.install(lsns[1], str(came))
        assert other.newest(log._term_of) == (
            lsns[1],
            str(tmp_path / "other" / "documents" / f"snapshot-{lsns[1]:020}"),
        )
    assert "is not sent to other nodes: its checksum is wrong" in caplog.text


def test_a_snapshot_of_another_history_is_not_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log went another way after it was made, as after a promotion by force: whoever got it
    from here would have documents that nobody wrote."""
    with (
        FileWALManager(tmp_path / "log") as log,
        DocumentStore(log, checkpoint_bytes=None) as store,
    ):
        lsns = []
        for number in range(3):
            store["things"].insert_one({"_id": number})
            lsns.append(store.checkpoint())
        older, newest = (
            (lsn, str(tmp_path / "log" / "documents" / f"snapshot-{lsn:020}")) for lsn in lsns[1:]
        )
        snapshots = DocumentSnapshots(log.path)
        assert snapshots.newest(log._term_of) == newest
        assert snapshots.newest(lambda lsn: log._term_of(lsn) + (lsn == newest[0])) == older
        assert snapshots.newest(lambda lsn: 0) is None
    assert "00000003 is not sent to other nodes: not of this log" in caplog.text


def test_a_node_that_has_to_hear_anew_what_is_committed(cluster: Make) -> None:
    """A power loss may take what the mark says to be committed: what a snapshot covers is, all the
    same."""
    nodes = cluster("ab")
    nodes.lead()
    stores = stores_of(nodes)
    stores["a"]["things"].insert_one({"_id": 1})
    lsn = stores["a"].applied_lsn
    stores["b"].wait_for(lsn, WAIT_S)
    assert stores["b"].checkpoint() == lsn
    close_all(stores)
    nodes.close()
    path = str(nodes.path("b") / META_NAME)
    fd = files.open_file(path, write=True)
    meta = read_meta(fd, path)
    assert meta is not None
    forget_committed(fd, meta.log_id, meta.epoch, path)
    files.close(fd)
    node = nodes.start("b", listen=None, peers={"a": None})
    assert node.committed_lsn == 0
    with DocumentStore(node, checkpoint_bytes=None) as store:
        assert store["things"].find_one({}) == {"_id": 1}
        assert store.applied_lsn == lsn
