"""What an operator does with a cluster, on real disks and sockets, while it is written to."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.raft.elected import Clients, Elected
from tests.replication.nodes import OPTIONS, WAIT_S, data, until
from walstore import ClosedLogError, EntryTruncatedError
from walstore.cluster import ChangeRefusedError, ClusterManager, NotWellError, State
from walstore.replication import (
    MembershipError,
    NotLeaderError,
    PromotionError,
    ReplicationTimeoutError,
)

pytestmark = pytest.mark.timeout(120)


def manager(nodes: Elected, timeout_s: float = WAIT_S) -> ClusterManager:
    return ClusterManager(lambda: list(nodes.nodes.values()), timeout_s=timeout_s)


def test_members_are_added_removed_and_replaced(elected: Callable[..., Elected]) -> None:
    """What is so already is asked for again, and changes nothing."""
    six = elected("abcdef")
    six.names = "abc"
    six.begin()
    operator = manager(six)
    assert operator.wait_until_well().can_lose == 1
    six.names = "abcdef"
    with Clients(six, names="abc") as clients:
        for name in "def":
            six.start(name)
        for _ in range(2):
            operator.add("d", voter=False)
        health = operator.wait_until_well()
        assert health.node("d") == ("d", "learner", State.LEARNING, "")
        assert health.node("e") == ("e", "", State.NO_MEMBER, "add it to the cluster, or end it")
        for _ in range(2):
            operator.add("d")
            operator.add("e")
        assert operator.wait_until_well().can_lose == 2
        for _ in range(2):
            operator.remove("e")
        six.stop("b")  # it is dead
        for _ in range(2):
            operator.replace("b", "f")
        six.stop("e")
        clients.go_on(10)
        health = operator.wait_until_well()
        assert [n.node_id for n in health.nodes if n.role != ""] == [*"acdf"]
        assert health.can_lose == 1
        with pytest.raises(MembershipError, match="no member"):
            operator.replace("b", "e")
    clients.assert_kept(six.assert_equal("a", "c", "d", "f"))


def test_who_leads_is_replaced(elected: Callable[..., Elected]) -> None:
    """Asked for again while it is under way, since it was not done in time, it goes on."""
    four = elected("abcd")
    four.names = "abc"
    leader = four.begin()
    four.names = "abcd"
    operator = manager(four)
    with pytest.raises(ReplicationTimeoutError):
        leader.replace_node(leader.node_id, "d", timeout_s=0.2)
    assert operator.health().changing
    four.start("d")
    operator.replace(leader.node_id, "d")
    until(lambda: leader.role == "follower", "it leads no longer")
    old = leader.node_id
    health = operator.wait_until_well()
    assert [n.node_id for n in health.nodes if n.role] == sorted({*"abcd"} - {old})
    operator.replace(old, "d")
    assert health.can_lose == 1
    four.stop(old)
    four.leader().append(b"one")


def test_nobody_is_removed_who_is_needed(elected: Callable[..., Elected]) -> None:
    abc = elected()
    leader = abc.begin()
    operator = manager(abc)
    operator.wait_until_well()
    gone, other = (node.node_id for node in abc.others(leader))
    abc.stop(gone)
    until(lambda: operator.health().can_lose == 0, "it is missed")
    node = operator.health().node(gone)
    assert node is not None
    assert node.state is State.UNREACHABLE
    with pytest.raises(ChangeRefusedError, match=f"vote of {other} is refused.* 1 are well"):
        operator.remove(other)
    with pytest.raises(ChangeRefusedError, match=f"vote of {other} is refused"):
        operator.add(other, voter=False)
    for new in "abc":  # which would be removing it
        with pytest.raises(MembershipError, match=f"{new} votes already"):
            operator.replace(other, new)
    assert not operator.health().changing
    leader.append(b"one")
    operator.remove(gone)
    assert operator.wait_until_well().can_lose == 0
    with pytest.raises(ChangeRefusedError, match="restarting"):
        operator.rolling_restart(lambda node_id: pytest.fail(f"{node_id} is restarted"))
    abc.stop(other)
    until(lambda: leader.role == "follower", "it has no majority")
    with pytest.raises(NotWellError, match="nobody who answers leads") as caught:
        manager(abc, timeout_s=0.2).remove(gone)
    assert caught.value.health.leader_id is None


def test_a_replacement_that_never_comes_is_taken_back(elected: Callable[..., Elected]) -> None:
    """With a voter dead, too: who was to be replaced is needed, and keeps its vote."""
    abc = elected()
    leader = abc.begin()
    operator = manager(abc)
    gone, other = (node.node_id for node in abc.others(leader))
    abc.stop(gone)
    until(lambda: operator.health().can_lose == 0, "it is missed")
    for take_back in (operator.remove, lambda node: operator.add(node, voter=False)):
        with pytest.raises(ReplicationTimeoutError):
            leader.replace_node(other, "e", timeout_s=0.2)
        status = leader.status()
        assert (status.newcomers, status.leaving) == (("e",), (other,))
        take_back("e")
        assert leader.status().voters == ("a", "b", "c")
        assert not operator.health().changing
        leader.append(b"one")
    assert leader.status().learners == ("e",)


def test_who_is_on_its_way_takes_a_place(elected: Callable[..., Elected]) -> None:
    """Also that of another voter, or gives it to another node; nobody's vote waits for nothing."""
    abc = elected()
    leader = abc.begin()
    one, other = (node.node_id for node in abc.others(leader))

    def replace_node(old: str, new: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        with pytest.raises(ReplicationTimeoutError, match="not with all of the log yet: "):
            leader.replace_node(old, new, timeout_s=0.2)
        status = leader.status()
        assert status.voters == ("a", "b", "c")
        return status.leaving, status.newcomers

    with pytest.raises(ReplicationTimeoutError):
        leader.add_voter("e", timeout_s=0.2)
    assert replace_node(one, "e") == ((one,), ("e",))
    assert replace_node("e", "f") == ((one,), ("f",))
    with pytest.raises(MembershipError, match=f"{one} votes only until"):
        leader.replace_node(one, "g")
    with pytest.raises(MembershipError, match=f"{one} votes already"):
        leader.replace_node(other, one)  # its vote would stay
    with pytest.raises(MembershipError, match="nobody is no member"):
        leader.replace_node("nobody", "g")
    with pytest.raises(ReplicationTimeoutError):
        leader.add_learner("l", timeout_s=0.2)  # it learns, and there is still a change
    assert leader.status().learners == ("f", "l")
    with pytest.raises(MembershipError, match="f votes already"):
        leader.replace_node("l", "f")
    manager(abc).remove("f")
    assert leader.status().voters == ("a", "b", "c")


def test_who_is_left_is_counted_as_of_when_newcomers_vote(
    elected: Callable[..., Elected],
) -> None:
    """Two removals that wait for a newcomer: each by itself would leave enough."""
    four = elected("abcd")
    leader = four.begin()
    operator = manager(four)
    gone, one, other = (node.node_id for node in four.others(leader))
    four.stop(gone)
    until(lambda: operator.health().can_lose == 0, "it is missed")
    with pytest.raises(ReplicationTimeoutError):
        leader.replace_node(one, "e", timeout_s=0.2)
    with pytest.raises(ReplicationTimeoutError):
        leader.remove_node(other, timeout_s=0.2)
    who = ", ".join(sorted({gone, "e"}))
    with pytest.raises(ChangeRefusedError, match=f"of {who}, who would be left to vote, 1 are"):
        operator.remove(leader.node_id)
    operator.remove("e")
    assert leader.status().voters == ("a", "b", "c", "d")


def test_who_leads_is_handed_over(elected: Callable[..., Elected]) -> None:
    abc = elected()
    abc.begin()
    operator = manager(abc)
    with Clients(abc) as clients:
        clients.go_on(10)
        first = operator.health().leader_id
        second = operator.transfer()
        assert second != first
        assert operator.transfer(first) == first
        assert operator.transfer(first) == first
        clients.go_on(10)
        with pytest.raises(PromotionError, match="no other voter") as refused:
            operator.transfer("nobody")
        assert refused.value.hint.startswith("have a voter lead")
        clients.go_on(10)
    leader = abc.leader()
    knows_one = ClusterManager(lambda: [leader], timeout_s=WAIT_S)
    third = knows_one.transfer()
    assert third != leader.node_id
    assert third == abc.leader().node_id
    assert not any(client.unknown for client in clients.all)
    with pytest.raises(NotLeaderError):
        next(node for name, node in abc.nodes.items() if name != third).transfer()
    clients.assert_kept(abc.assert_equal())


class Writer:
    """Appends each value until a node takes it: no append may end otherwise, or in doubt."""

    def __init__(self, nodes: Elected) -> None:
        self._nodes = nodes
        self.acked: list[bytes] = []
        self.ended = threading.Event()
        self.failed: Exception | None = None

    def run(self) -> None:
        number = 0
        while not self.ended.is_set():
            number += 1
            if not self._append(f"value-{number}".encode()):
                return

    def _append(self, value: bytes) -> bool:
        while True:
            for node in list(self._nodes.nodes.values()):
                try:
                    node.append(value, timeout_s=WAIT_S)
                except (NotLeaderError, EntryTruncatedError, ClosedLogError):  # not taken
                    self.ended.wait(0.002)
                except Exception as error:
                    self.failed = error
                    return False
                else:
                    self.acked.append(value)
                    return True

    def go_on(self, entries: int) -> None:
        wanted = len(self.acked) + entries
        until(lambda: self.failed or len(self.acked) >= wanted, "it goes on")
        assert self.failed is None


def test_a_rolling_restart_fails_no_write(elected: Callable[..., Elected]) -> None:
    """Also the leader's, and of a node that comes back elsewhere."""
    abc = elected(advertise="ws://127.0.0.1:0")
    abc.begin()
    writer = Writer(abc)
    thread = threading.Thread(target=writer.run)
    thread.start()
    restarted, margins = [], []
    operator = manager(abc)

    def restart(name: str) -> None:
        margins.append(operator.wait_until_well().can_lose)
        assert abc[name].role == "follower", "it has handed over"
        node = abc.nodes.pop(name)
        node.close()
        writer.go_on(5)  # without it
        abc.start(name)
        restarted.append(name)

    try:
        writer.go_on(10)
        first = operator.health().leader_id
        operator.rolling_restart(restart)
        writer.go_on(10)
    finally:
        writer.ended.set()
        thread.join()
    assert writer.failed is None
    assert sorted(restarted) == [*"abc"]
    assert restarted[-1] == first
    assert margins == [1, 1, 1]
    entries = data(abc.assert_equal())
    print(f"acked={len(writer.acked)}")
    assert entries == writer.acked


def test_learners_that_are_gone_are_removed(
    elected: Callable[..., Elected], caplog: pytest.LogCaptureFixture
) -> None:
    """Not one that is there, and no voter."""
    five = elected("abcde", options=replace(OPTIONS, learner_gone_s=1.0))
    five.names = "abc"
    leader = five.begin()
    five.names = "abcde"
    for name in "de":
        five.start(name)
        leader.add_learner(name)
    voter = five.others(leader)[0].node_id
    five.stop("d")
    five.stop(voter)
    with caplog.at_level(logging.WARNING, "walstore.replication"):
        until(lambda: "d" not in leader.status().learners, "it is removed")
    assert "gone for 1 s, removed: d" in caplog.text
    assert leader.status().learners == ("e",)
    assert leader.status().voters == ("a", "b", "c")


def test_a_learner_is_not_gone_before_it_could_come(elected: Callable[..., Elected]) -> None:
    """Its leader has led for longer than learners may be gone."""
    abc = elected(options=replace(OPTIONS, learner_gone_s=1.0))
    leader = abc.begin()
    until(lambda: leader.status().since_s > 1.5, "it has led for long")
    began = time.monotonic()
    leader.add_learner("d")
    status = leader.status()
    assert status.peers[-1].node_id == "d"
    assert status.peers[-1].since_s <= time.monotonic() - began < status.since_s
    until(lambda: "d" not in leader.status().learners, "it is removed")
    assert time.monotonic() - began >= 1.0


def test_a_learner_that_is_added_again_is_given_its_time_again(
    elected: Callable[..., Elected],
) -> None:
    """Also where its leader has not looked between its removal and that."""
    leader = elected("a", options=replace(OPTIONS, learner_gone_s=1.0)).begin()
    leader.add_learner("d")
    added = time.monotonic()
    until(lambda: time.monotonic() - added > 0.6, "it has been gone for a while")
    leader.remove_node("d")
    again = time.monotonic()
    leader.add_learner("d")
    until(lambda: "d" not in leader.status().learners, "it is removed")
    assert time.monotonic() - again >= 1.0


def test_a_newcomer_that_is_gone_is_taken_back_and_no_vote_with_it(
    elected: Callable[..., Elected],
) -> None:
    """Nor that of a voter which is to learn only when the newcomer votes, and is gone, too."""
    abc = elected(options=replace(OPTIONS, learner_gone_s=3.0))  # both are asked for before that
    leader = abc.begin()
    gone, other = (node.node_id for node in abc.others(leader))
    with pytest.raises(ReplicationTimeoutError):
        leader.replace_node(other, "e", timeout_s=0.1)
    with pytest.raises(ReplicationTimeoutError):
        leader.add_learner(gone, timeout_s=0.1)
    abc.stop(gone)
    until(lambda: not leader.status().changing, "it is taken back")
    assert leader.status().voters == ("a", "b", "c")
    assert leader.status().learners == ()
    leader.append(b"one")
