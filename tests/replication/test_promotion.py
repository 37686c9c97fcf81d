"""Who leads: promotion, demotion, partitions, and what becomes of a history that has lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers import contents
from tests.replication.nodes import WAIT_S, Cluster, data, until
from walstore import ClosedLogError, EntryTruncatedError, FileWALManager
from walstore.replication import (
    FatalReplicationError,
    NotLeaderError,
    PromotionError,
    ReplicationTimeoutError,
    Stage,
)

Make = Callable[..., Cluster]
SOON_S = 0.3


def branches(path: Path) -> list[Path]:
    """The histories that a node has kept aside."""
    return sorted(path.glob("diverged-*"))


def test_promotion_and_demotion(cluster: Make) -> None:
    """List W, 4 and 5: a follower becomes the leader, the leader a follower; terms rise."""
    abc = cluster()
    leader = abc.lead()
    first = leader.append(b"of a", acks="all")
    term = abc["b"].promote()
    assert term > leader.term or leader.term == term
    assert abc["b"].role == "leader"
    second = abc["b"].append(b"of b", acks="all")
    assert second > first
    assert (leader.role, leader.leader_id) == ("follower", "b")
    with pytest.raises(NotLeaderError):
        leader.append(b"no")
    after = abc["b"].demote()
    assert after > term
    assert (abc["b"].role, abc["b"].demote()) == ("follower", after)
    with pytest.raises(NotLeaderError):
        abc["b"].append(b"no")
    assert abc["c"].promote() > after
    abc["c"].append(b"of c", acks="all")
    assert data(abc.assert_equal()) == [b"of a", b"of b", b"of c"]


def test_a_node_whose_log_is_behind_is_refused_with_reasons(cluster: Make) -> None:
    abc = cluster()
    leader = abc.lead()
    leader.append(b"all have it", acks="all")
    abc.stop("c")
    leader.append(b"c lacks it")
    abc.stop("a")
    abc["b"].demote()
    behind = abc.start("c", peers={"b": abc.url("b"), "a": None})
    until(lambda: "b" in behind.connected, "connected")
    with pytest.raises(PromotionError) as caught:
        behind.promote(timeout_s=WAIT_S if behind.leader_id else 1.0)
    assert "goes further" in caught.value.reasons["b"]
    assert caught.value.reasons["a"] == "not connected"
    assert behind.role == "follower"
    abc["b"].promote()
    abc["b"].append(b"of b", acks={"c"})
    assert data(abc.assert_equal("b", "c")) == [b"all have it", b"c lacks it", b"of b"]


def left_alone(cluster: Make) -> Cluster:
    """Of three nodes that have an entry, two are gone; b, which did not lead, remains."""
    abc = cluster()
    abc.lead().append(b"one", acks="all")
    abc.stop("a")
    abc.stop("c")
    return abc


def test_without_a_majority_only_force_leads(cluster: Make) -> None:
    abc = left_alone(cluster)
    alone = abc["b"]
    with pytest.raises(PromotionError) as caught:
        alone.promote(timeout_s=SOON_S)
    assert set(caught.value.reasons) == {"a", "c"}
    assert alone.promote(force=True) == alone.term
    lsn = alone.append(b"forced", acks="async")
    abc.start("a")
    alone.wait_committed(lsn)
    assert data(alone.replay()) == [b"one", b"forced"]


def test_force_does_not_wait_for_votes_that_were_asked_for_before(cluster: Make) -> None:
    abc = left_alone(cluster)
    alone = abc["b"]
    with ThreadPoolExecutor(1) as executor:
        asked = executor.submit(alone.promote, timeout_s=WAIT_S)
        term = alone.term
        until(lambda: alone.term > term or alone.status().term > term, "it asks")
        assert alone.promote(force=True, timeout_s=WAIT_S / 2) == alone.term
        with pytest.raises(PromotionError):
            asked.result(WAIT_S)
    assert alone.role == "leader"


def test_who_asked_in_vain_is_told_of_its_own_campaign(cluster: Make) -> None:
    """Somebody else asks again before it has heard how its own ended."""
    alone = left_alone(cluster)["b"]
    replication = alone._streaming

    async def again() -> None:
        for _ in range(2):
            with pytest.raises(PromotionError):
                await replication.promote(False, SOON_S / 3)

    async def both() -> PromotionError:
        other = asyncio.create_task(again())
        await asyncio.sleep(0)  # it asks
        with pytest.raises(PromotionError) as caught:
            await replication.promote(False, SOON_S / 6)
        await other
        return caught.value

    reasons = replication.calls.wait_for(both()).reasons
    assert reasons == {"a": "not connected", "c": "not connected"}
    assert alone.role == "follower"


def test_an_old_leader_acks_nothing_and_keeps_its_branch(cluster: Make) -> None:
    """It is cut off while it writes; another one is voted for. What the old one took alone was
    never acked nor shown, and is kept, equal to what was lost."""
    abc = cluster(proxied=True)
    old = abc.lead()
    old.append(b"before", acks="all")
    abc.split("a")
    lost = []
    for number in range(3):
        with pytest.raises(ReplicationTimeoutError) as caught:
            old.append(b"lost %d" % number, timeout_s=SOON_S)
        lost.append((caught.value.receipt.lsn, b"lost %d" % number))
    commit = old.submit(b"lost 3", acks={"b"})
    lost.append((commit.lsn, b"lost 3"))
    assert data(old.replay()) == [b"before"]
    new = abc["b"]
    term = new.promote()
    new.append_many([b"after", b"it"])
    assert old.committed_lsn < lost[0][0]
    abc.heal()
    until(lambda: old.term == term and old.leader_id == "b", "the old one hears of it")
    old.wait_committed(new.last_lsn)
    assert data(old.replay()) == [b"before", b"after", b"it"]
    with pytest.raises(EntryTruncatedError):
        commit.wait()
    for _ in range(4):
        new.append(b"further")
    (branch,) = branches(abc.path("a"))
    with FileWALManager(branch, read_only=True) as kept:
        assert [(entry.lsn, entry.payload) for entry in kept.replay()] == lost
        assert kept.verify().status == "clean"
    assert not branches(abc.path("b"))
    abc.assert_equal()


def test_an_old_leader_that_is_back_deposes_nobody(cluster: Make) -> None:
    """It was started to lead, and hears of the new term before it hears the new leader."""
    abc = cluster(proxied=True)
    old, new = abc.lead(), abc["b"]
    old.append(b"before", acks="all")
    abc.split("a")
    term = new.promote()
    abc.join("a", "c")
    until(lambda: old.term == term, "it hears of it")
    assert old.leader_id is None
    until(lambda: old.status().since_s > 1.0, "it has had the time to ask for votes")
    assert (old.term, new.role, new.term) == (term, "leader", term)
    new.append(b"after")
    abc.heal()
    until(lambda: old.leader_id == "b", "it follows")
    assert data(abc.assert_equal()) == [b"before", b"after"]


def test_what_was_lost_is_not_acked_by_what_took_its_place(cluster: Make) -> None:
    """An entry is waited for by name of nodes; it loses, and its node leads again."""
    abc = cluster(proxied=True)
    old = abc.lead()
    old.append(b"before", acks="all")
    abc.split("a")
    commit = old.submit(b"lost", acks={"b"}, stage=Stage.RECEIVED)
    outcome: list[object] = []

    def wait() -> None:
        try:
            outcome.append(commit.wait(WAIT_S))
        except (EntryTruncatedError, ReplicationTimeoutError) as error:
            outcome.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: old.durable_lsn >= commit.lsn, "durable on a alone")
    new = abc["b"]
    new.promote()
    new.append_many([b"x"] * 5)
    abc.heal()
    until(lambda: old.leader_id == "b", "it hears of it")
    old.wait_committed(new.last_lsn)
    old.promote()
    old.append_many([b"y"] * 5, acks="all")
    thread.join(WAIT_S)
    assert isinstance(outcome[0], EntryTruncatedError)


def test_a_leader_that_hears_nothing_commits_nothing(cluster: Make) -> None:
    """A partition of one way: what it says arrives, what is answered does not."""
    abc = cluster(proxied=True)
    leader = abc.lead()
    leader.append(b"before", acks="all")
    abc.deafen("a")
    with pytest.raises(ReplicationTimeoutError) as caught:
        leader.append(b"unheard", timeout_s=SOON_S)
    assert leader.committed_lsn < caught.value.receipt.lsn
    assert data(abc["b"].replay()) == [b"before"]
    abc.heal()
    leader.wait_committed(caught.value.receipt.lsn)
    assert data(abc.assert_equal()) == [b"before", b"unheard"]


def test_a_forced_leader_without_what_is_committed_is_not_followed(cluster: Make) -> None:
    """A node to which an entry was shown as committed does not drop it: a person decides."""
    abc = cluster(proxied=True)
    leader = abc.lead()
    leader.append(b"all", acks="all")
    abc.split("c")
    leader.append(b"committed without c")
    abc["b"].wait_committed(leader.last_lsn)
    abc["c"].promote(force=True)
    abc.heal()
    with pytest.raises(ReplicationTimeoutError):
        abc["c"].append_many([b"another"] * 2, timeout_s=1.0)
    until(lambda: isinstance(abc["b"].error, FatalReplicationError), "b refuses")
    until(lambda: isinstance(leader.error, FatalReplicationError), "a refuses")
    assert "committed" in leader.status().error
    for name in "ab":
        assert data(abc[name].replay()) == [b"all", b"committed without c"]
        assert not branches(abc.path(name))


def test_each_role_is_restarted_amid_writes(cluster: Make) -> None:
    """Nothing acked is lost, whoever stops; a leader that starts again leads on."""
    abc = cluster()
    abc.lead()
    stop = threading.Event()
    acked: list[tuple[int, bytes]] = []
    numbers = iter(range(10**9))

    def write() -> None:
        while not stop.is_set():
            node = abc.nodes.get("a")
            payload = b"entry %d" % next(numbers)
            try:
                if node is not None:
                    acked.append((node.append(payload, timeout_s=5.0), payload))
            except (ClosedLogError, NotLeaderError, ReplicationTimeoutError):
                stop.wait(0.01)  # it is being stopped, or does not lead yet

    def goes_on(what: str) -> None:
        count = len(acked)
        until(lambda: len(acked) > count + 20, what)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for name in "bcaab":
            goes_on("entries are acked")
            abc.stop(name)
            if name != "a":
                goes_on("also without it")
            abc.start(name, role="leader" if name == "a" else "follower")
        goes_on("entries are acked in the end")
    finally:
        stop.set()
        thread.join()
    entries = {entry.lsn: entry.payload for entry in abc.assert_equal()}
    assert len(acked) >= 150
    assert all(entries[lsn] == payload for lsn, payload in acked)


def test_two_that_are_to_lead_agree_on_one(cluster: Make) -> None:
    """Nodes start in any order; whoever leads, all follow, and none waits for another."""
    abc = cluster()
    abc.lead().append(b"one", acks="all")
    abc.level()
    for name in "abc":
        abc.stop(name)
    for name in "cba":
        abc.start(name, role="leader")
    terms = set[int]()

    def agreed() -> bool:
        """All know the same leader, and have for a while."""
        known = {(abc[name].leader_id, abc[name].term) for name in "abc"}
        since_s = min(abc[name].status().since_s for name in "abc")
        terms.update(term for _, term in known)
        return len(known) == 1 and None not in known.pop() and since_s > 1.0

    until(agreed, "they agree")
    leader = abc[abc["a"].leader_id or ""]
    leader.append(b"two", acks="all")
    assert data(abc.assert_equal()) == [b"one", b"two"]
    assert len(terms) < 10, "they did not stop to ask for votes"


def test_an_append_waits_for_its_node_to_lead_no_longer_than_it_was_told(cluster: Make) -> None:
    """The node was started to lead, and finds no majority; by default it would wait for hours."""
    abc = cluster(timeout_s=3600)
    abc.lead()
    abc.close()
    alone = abc.start("a", role="leader")
    for append in (alone.append, lambda payload, **how: alone.append_many([payload], **how)):
        with pytest.raises(NotLeaderError):
            append(b"refused", timeout_s=0.05)
    assert alone.last_lsn == 1


def test_a_tail_on_a_follower_sees_one_history(cluster: Make) -> None:
    """Through a change of leaders, with every committed entry once."""
    abc = cluster()
    leader = abc.lead()
    shown: list[bytes] = []

    def follow() -> None:
        for entry in abc["c"].tail(1):
            shown.append(entry.payload)
            if entry.payload == b"end":
                break

    thread = threading.Thread(target=follow)
    thread.start()
    for number in range(20):
        leader.append(b"a %d" % number, acks="all")  # b is to be elected
    abc["b"].promote()
    for number in range(20):
        abc["b"].append(b"b %d" % number)
    abc["b"].append(b"end")
    thread.join(WAIT_S)
    assert not thread.is_alive()
    expected = [b"a %d" % n for n in range(20)] + [b"b %d" % n for n in range(20)] + [b"end"]
    assert [payload for payload in shown if payload not in (b"a", b"b")] == expected
    abc.assert_equal()
    assert len(contents(abc.path("c"))) == len(expected) + 2
