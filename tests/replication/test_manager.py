"""Writing on several nodes: what acks mean, and what is told of an entry."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.replication.nodes import WAIT_S, Cluster, data, until
from walstore import ClosedLogError, LSNOutOfRangeError, OptionError
from walstore.replication import (
    FatalReplicationError,
    NodeConnected,
    NotLeaderError,
    ReplicatedCommit,
    ReplicationTimeoutError,
    ReplicationWALManager,
    RoleChanged,
    Stage,
    TooFewNodesError,
)
from walstore.replication.acks import AcksOption

Make = Callable[..., Cluster]
SOON_S = 0.3
IN_TIME_S = 5.0


def held(cluster: Cluster, lsn: int, stage: Stage) -> set[str]:
    """The nodes that are known to hold an entry, on the leader."""
    stages = cluster["a"].receipt(lsn).stages
    return {node for node, at in stages.items() if at >= stage}


def has_more(node: ReplicationWALManager, lsn: int) -> bool:
    """Whether the log goes on behind an entry."""
    return node.last_lsn > lsn


def test_entries_are_the_same_on_every_node(cluster: Make) -> None:
    """List W, 1 and 2: both hold it, in order, with the same lsn."""
    abc = cluster()
    leader = abc.lead()
    lsns = [leader.append(b"entry %d" % number) for number in range(50)]
    assert lsns == list(range(lsns[0], lsns[0] + 50))
    entries = abc.assert_equal()
    assert data(entries) == [b"entry %d" % number for number in range(50)]


@pytest.mark.parametrize(
    ("acks", "alive"),
    [("async", ""), ("quorum", "b"), ("all", "bc"), (1, ""), (2, "c"), (3, "bc"), ({"b"}, "b")],
)
def test_an_append_needs_the_nodes_that_acks_names_and_no_others(
    cluster: Make, acks: AcksOption, alive: str
) -> None:
    """List W, 3. With these followers it returns, and they hold it; without one of them it does
    not, and says who holds it; when that one is back the entry gets there."""
    abc = cluster()
    leader = abc.start("a", role="leader", acks=acks)
    for name in alive:
        abc.start(name)
    lsn = leader.append(b"durable")
    assert leader.committed_lsn >= lsn
    assert held(abc, lsn, Stage.DURABLE) >= {"a", *alive}
    if not alive:
        return
    abc.stop(alive[0])
    with pytest.raises(ReplicationTimeoutError) as caught:
        leader.append(b"late", timeout_s=SOON_S)
    late = caught.value.receipt.lsn
    assert late == lsn + 1
    assert caught.value.receipt.stages[alive[0]] < Stage.DURABLE
    assert leader.committed_lsn == lsn
    with pytest.raises(LSNOutOfRangeError):
        leader.read(late)
    abc.start(alive[0])
    leader.wait_committed(late)
    assert leader.read(late).payload == b"late"


def test_every_way_to_append_waits(cluster: Make) -> None:
    abc = cluster("ab")
    leader = abc.start("a", role="leader", timeout_s=SOON_S)

    async def awaited(**how: object) -> int:
        return await leader.submit(b"awaited", **how)  # type: ignore[arg-type]

    ways: list[Callable[[], object]] = [
        lambda: leader.append(b"append"),
        lambda: leader.append(b"append", stage=Stage.RECEIVED),
        lambda: leader.append(b"append", stage=Stage.APPLIED),
        lambda: leader.append(b"append", acks={"b"}),
        lambda: leader.append_many([b"a", b"batch"]),
        lambda: leader.append_many([b"a", b"batch"], acks="all"),
        lambda: leader.submit(b"submit").wait(),
        lambda: leader.submit(b"submit", acks=2, stage=Stage.RECEIVED).wait(),
        lambda: asyncio.run(awaited()),
        lambda: asyncio.run(awaited(acks="all", stage=Stage.APPLIED)),
    ]
    for way in ways:
        began_s = time.monotonic()
        with pytest.raises(ReplicationTimeoutError) as caught:
            way()
        assert time.monotonic() - began_s >= SOON_S * 0.9
        assert caught.value.receipt.lsn == leader.last_lsn
        assert caught.value.receipt.stages["b"] is Stage.UNKNOWN
    assert leader.append(b"alone", acks="async") == leader.last_lsn
    assert leader.committed_lsn == 0
    follower = abc.start("b")
    abc.joined("a", "b")
    leader.wait_committed(leader.last_lsn, timeout_s=WAIT_S)
    for way in ways:
        with ThreadPoolExecutor(1) as executor:
            begun_at = leader.last_lsn
            future = executor.submit(way)
            until(partial(has_more, leader, begun_at), "appended")
            follower.wait_committed(leader.last_lsn, timeout_s=WAIT_S)
            follower.mark_applied(leader.last_lsn)
            leader.mark_applied(leader.last_lsn)
            assert future.result(WAIT_S)


def test_a_stage_is_waited_for(cluster: Make) -> None:
    """A follower's application decides when an entry is applied; the leader's counts, too."""
    abc = cluster("ab")
    leader = abc.lead()
    follower = abc["b"]
    lsn = leader.append(b"to apply")
    with pytest.raises(ReplicationTimeoutError) as caught:
        leader.append(b"never applied", acks={"b"}, stage=Stage.APPLIED, timeout_s=SOON_S)
    assert caught.value.stage == "applied"
    assert caught.value.receipt.stages["b"] >= Stage.RECEIVED
    assert held(abc, lsn, Stage.APPLIED) == set()
    commit = leader.submit(b"applied at last", acks="all", stage=Stage.APPLIED)
    follower.wait_committed(commit.lsn)
    follower.mark_applied(commit.lsn)
    with pytest.raises(ReplicationTimeoutError):
        commit.wait(SOON_S)
    leader.mark_applied(commit.lsn)
    assert commit.wait(WAIT_S) == commit.lsn
    assert held(abc, commit.lsn, Stage.APPLIED) == {"a", "b"}
    assert set(commit.receipt.stages.values()) == {Stage.APPLIED}
    with pytest.raises(LSNOutOfRangeError):
        follower.mark_applied(commit.lsn + 1)


def test_too_few_nodes_are_refused_or_waited_for(cluster: Make) -> None:
    abc = cluster()
    leader = abc.start("a", role="leader", too_few="refuse")
    last_lsn = leader.last_lsn
    for refused in (
        lambda: leader.append(b"refused"),
        lambda: leader.append_many([b"refused"]),
        lambda: leader.submit(b"refused"),
    ):
        with pytest.raises(TooFewNodesError) as caught:
            refused()
        assert caught.value.connected == ("a",)
    assert leader.last_lsn == last_lsn
    assert leader.append(b"alone", acks="async") == last_lsn + 1
    abc.start("b")
    until(lambda: leader.connected, "b is connected")
    leader.append(b"with b")
    with pytest.raises(TooFewNodesError):
        leader.append(b"refused", acks="all")


def test_a_follower_names_the_leader(cluster: Make) -> None:
    abc = cluster()
    leader = abc.lead()
    lsn = leader.append(b"so that they know")
    for name in "bc":
        follower = abc[name]
        follower.wait_committed(lsn)
        ways: list[Callable[[], object]] = [
            partial(follower.append, b"no"),
            partial(follower.append_many, [b"no"]),
            partial(follower.submit, b"no"),
        ]
        for refused in ways:
            with pytest.raises(NotLeaderError) as caught:
                refused()
            error = caught.value
            assert (error.node_id, error.leader_id) == (name, "a")
            assert error.leader_url == leader.url
        assert follower.role == "follower"
        assert data(follower.replay()) == [b"so that they know"]


def test_what_makes_no_sense_is_refused(cluster: Make) -> None:
    abc = cluster()
    leader = abc.lead()
    before = leader.last_lsn
    for refused in (
        lambda: leader.append(b"", acks="most"),
        lambda: leader.append(b"", acks=4),
        lambda: leader.append(b"", acks=0),
        lambda: leader.append(b"", acks={"d"}),
        lambda: leader.append(b"", kind=65535),
        lambda: leader.begin_term(),
        lambda: leader.truncate_after(1),
    ):
        with pytest.raises(OptionError):
            refused()
    assert leader.last_lsn == before
    here: dict[str, Any] = {"node_id": "d", "listen": "127.0.0.1:0", "role": "leader"}
    for option in (
        {"node_id": "d" * 65},
        {"peers": {"d": "ws://127.0.0.1:1"}},
        {"peers": {"e": "http://127.0.0.1:1"}},
        {"peers": {"e": "ws://example.org:1"}},
        {"listen": "0.0.0.0:0"},
        {"acks": {"nobody"}},
        {"timeout_s": 0},
        {"timeout_s": True},
        {"role": "king"},
        {"too_few": "panic"},
    ):
        with pytest.raises(OptionError):
            ReplicationWALManager(abc.path("d"), **(here | option))


def test_events_tell_of_roles_and_connections(cluster: Make) -> None:
    """List W, 6: the event carries the role. A callback that fails harms nobody."""
    abc = cluster("ab")
    leader = abc.start("a", role="leader")
    seen: list[object] = []

    def fails(event: object) -> None:
        raise ValueError("a callback's own mistake")

    leader.subscribe(fails)
    stop = leader.subscribe(seen.append)
    follower = abc.start("b")
    events: list[object] = []
    follower.subscribe(events.append)
    leader.append(b"one")
    until(lambda: any(isinstance(event, NodeConnected) for event in seen), "told")
    term = follower.promote()
    until(lambda: RoleChanged("leader", term, "b") in events, "the new leader is told")
    until(lambda: RoleChanged("follower", term, "b") in seen, "the old one is told")
    follower.append(b"two")
    stop()
    count = len(seen)
    abc.stop("b")
    until(lambda: not leader.connected, "b is gone")
    assert len(seen) == count


def test_status_tells_of_every_node(cluster: Make) -> None:
    """List W, 11: id, role, how many nodes, how each is."""
    abc = cluster()
    leader = abc.lead()
    lsn = leader.append(b"seen", acks="all")
    abc["b"].wait_committed(lsn)
    abc["b"].mark_applied(lsn)
    until(lambda: leader.status().peers[0].applied_lsn == lsn, "b has applied it")
    status = leader.status()
    assert (status.node_id, status.role, status.leader_id) == ("a", "leader", "a")
    assert (status.last_lsn, status.durable_lsn, status.committed_lsn) == (lsn, lsn, lsn)
    assert status.cluster_id == leader.log_id == abc["b"].log_id
    assert [peer.node_id for peer in status.peers] == ["b", "c"]
    for peer in status.peers:
        assert peer.connected
        assert peer.state == "replicate"
        assert peer.durable_lsn == lsn
        assert peer.lag is not None
        assert peer.lag["durable"].entries == 0
    follower = abc["c"].status()
    assert (follower.role, follower.leader_id, follower.term) == ("follower", "a", leader.term)
    assert follower.as_dict()["peers"][0]["node_id"] == "a"
    abc.stop("b")
    until(lambda: not leader.status().peers[0].connected, "b is gone")
    leader.append(b"behind", timeout_s=WAIT_S)
    behind = leader.status().peers[0].lag
    assert behind is not None
    assert behind["durable"].entries == 1
    assert behind["applied"].bytes > 0


def test_many_threads_and_loops_write_at_once(cluster: Make) -> None:
    """List W, 9: nothing is lost, doubled or out of each writer's order."""
    abc = cluster()
    leader = abc.lead()
    writers, each = 6, 100

    def in_thread(name: int) -> list[int]:
        return [leader.append(b"%d/%d" % (name, number)) for number in range(each)]

    async def in_loop(name: int) -> list[int]:
        commits = [leader.submit(b"%d/%d" % (name, number)) for number in range(each)]
        return list(await asyncio.gather(*commits))

    def loop(name: int) -> list[int]:
        async def main() -> list[int]:
            return await in_loop(name)

        return asyncio.run(main())

    with ThreadPoolExecutor(writers) as executor:
        work = [in_thread if name % 2 else loop for name in range(writers)]
        futures = [executor.submit(work[name], name) for name in range(writers)]
        lsns = [future.result(WAIT_S) for future in futures]
    assert all(got == sorted(got) for got in lsns)
    entries = {entry.lsn: entry.payload for entry in abc.assert_equal()}
    for name in range(writers):
        assert [entries[lsn] for lsn in lsns[name]] == [b"%d/%d" % (name, i) for i in range(each)]
    assert len({lsn for got in lsns for lsn in got}) == writers * each


def test_a_closed_node_says_so(cluster: Make) -> None:
    """From a closed node nothing hangs: not what waits while it is closed, nor what comes after."""
    abc = cluster()
    leader = abc.start("a", role="leader")
    waiting: list[Callable[[], object]] = [
        lambda: leader.append(b"waits"),
        lambda: leader.append(b"waits", acks={"b"}, stage=Stage.RECEIVED),
        lambda: leader.append_many([b"waits"]),
        lambda: leader.wait_committed(10**6),
        lambda: next(leader.tail(1)),
    ]
    with ThreadPoolExecutor(len(waiting)) as executor:
        futures = [executor.submit(wait) for wait in waiting]
        until(lambda: leader.last_lsn >= 4, "they wait")
        began_s = time.monotonic()
        leader.close()
        for future in futures:
            with pytest.raises((ClosedLogError, StopIteration)):
                future.result(WAIT_S)
        assert time.monotonic() - began_s < WAIT_S / 2
    leader.close()
    for refused in (
        lambda: leader.append(b"late"),
        leader.status,
        leader.promote,
        leader.demote,
        lambda: leader.mark_applied(0),
        lambda: leader.truncate_before(1),
        lambda: leader.append(b"late", acks="async", stage=Stage.RECEIVED),
    ):
        with pytest.raises(ClosedLogError):
            refused()


def test_nothing_is_decided_any_more_when_replication_has_ended(cluster: Make) -> None:
    """Effects that were to be carried out are gone: what the core holds is no longer so."""
    leader = cluster("a").lead()
    leader.append(b"before")
    streaming = leader._streaming
    inputs: list[str] = []

    def give(name: str) -> None:
        streaming._input(lambda: inputs.append(name) or [])  # type: ignore[func-returns-value]

    streaming.calls.call(lambda: give("while it goes on"))
    error = FatalReplicationError("a person has to look at this")
    streaming.calls.call(lambda: streaming._fail(error))
    streaming.calls.call(lambda: give("after its end"))
    assert inputs == ["while it goes on"]
    with pytest.raises(FatalReplicationError, match="a person has to look"):
        leader.append(b"after")


def test_a_callback_may_look_at_its_node_and_not_wait_for_it(cluster: Make) -> None:
    node = cluster("a").lead()
    seen: queue.SimpleQueue[object] = queue.SimpleQueue()

    def look(event: object) -> None:
        seen.put(node.status().role)
        for wait in (node.promote, node.close):
            try:
                wait()
            except (OptionError, RuntimeError) as error:
                seen.put(error)

    node.subscribe(look)
    node.demote()
    assert seen.get(timeout=WAIT_S) == "follower"
    assert isinstance(seen.get(timeout=WAIT_S), OptionError)
    assert isinstance(seen.get(timeout=WAIT_S), OptionError)
    assert node.promote() == node.status().term


def test_what_comes_while_a_node_closes_is_told_so(
    cluster: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was tried again and again until the node was closed; in the node's thread, for ever."""
    node = cluster("a").lead()
    network, goes_on = node._streaming.network, threading.Event()
    stop = network.stop

    async def late() -> None:
        await asyncio.to_thread(goes_on.wait, WAIT_S)
        await stop()

    monkeypatch.setattr(network, "stop", late)
    with ThreadPoolExecutor(2) as pool:
        closing = pool.submit(node.close)
        try:
            until(lambda: node._streaming._ending, "it closes")
            for ask in (
                partial(node.submit, b"late"),
                partial(node.append, b"late"),
                partial(node.truncate_before, 1),
                node.demote,
                node.promote,
            ):
                with pytest.raises(ClosedLogError):
                    pool.submit(ask).result(IN_TIME_S)
            assert node.role == "follower"
        finally:
            goes_on.set()
        closing.result(WAIT_S)


def test_a_callback_does_not_wait_for_its_own_thread(cluster: Make) -> None:
    abc = cluster(timeout_s=WAIT_S)
    calls = abc.start("a", role="leader")._streaming.calls
    with ThreadPoolExecutor(1) as pool:
        commit = abc["a"].submit(b"with nobody")
        with pytest.raises(ReplicationTimeoutError):
            pool.submit(calls.call, commit.wait).result(IN_TIME_S)
        with pytest.raises(OptionError, match="callback"):
            pool.submit(calls.call, partial(abc["a"].append, b"x")).result(IN_TIME_S)
        abc["a"].close()
        node = abc.start("a", role="leader")  # when it meets others
        calls = node._streaming.calls
        try:
            with pytest.raises(NotLeaderError):
                pool.submit(calls.call, partial(node.submit, b"x")).result(IN_TIME_S)
        finally:
            node._streaming._candidacy.settled.set()


def test_a_forked_child_has_no_node_and_holds_no_address(cluster: Make) -> None:
    abc = cluster("a")
    node = abc.lead()
    commit = node.submit(b"of the parent", stage=Stage.APPLIED)
    usual = ReplicatedCommit(node, commit._generation, 10**6, node.acks, Stage.DURABLE)

    async def wait() -> None:
        await usual

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answers = []
        asks = (node.status, node.promote, partial(node.append, b"x"), lambda: asyncio.run(wait()))
        for ask in asks:
            try:
                ask()
                answers.append("done")
            except ClosedLogError:
                answers.append("closed")
            except BaseException as error:
                answers.append(repr(error))
        node.close()
        os.write(writing, " ".join(answers).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answers_of_child:
        assert answers_of_child.read() == b"closed closed closed closed"
    assert os.waitpid(child, 0)[1] == 0
    assert node.append(b"parent") == node.last_lsn
