"""What is the matter with a node, and how many more may fail."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest

from walstore.cluster import HealthLimits, State, judge
from walstore.replication import NodeStatus, PeerStatus
from walstore.replication.lag import DiskWatch, Lag

NO_LAG = Lag(0, 0, 0.0)


def peer(name: str, **fields: Any) -> PeerStatus:
    lag = fields.pop("lag", NO_LAG)
    known: dict[str, Any] = {"connected": True, "since_s": 5.0, "state": "replicate"} | fields
    return PeerStatus(name, None, lag={"durable": lag}, **known)


def status(name: str, **fields: Any) -> NodeStatus:
    known: dict[str, Any] = {
        "role": "follower", "leader_id": "a", "term": 7, "peers": (), "error": "",
        "voters": ("a", "b", "c"), "election": "raft",
    }  # fmt: skip
    return NodeStatus(
        node_id=name, cluster_id="00", url=None, first_lsn=1, last_lsn=9, durable_lsn=9,
        committed_lsn=9, applied_lsn=0, acks="quorum", since_s=1.0, **(known | fields),
    )  # fmt: skip


def leader(*peers: PeerStatus, **fields: Any) -> NodeStatus:
    return status("a", role="leader", peers=peers, **fields)


def test_a_cluster_that_is_well() -> None:
    found = judge([leader(peer("b"), peer("c"))])
    assert [(n.node_id, n.role, n.state) for n in found.nodes] == [
        ("a", "leader", State.LEADING),
        ("b", "voter", State.FOLLOWING),
        ("c", "voter", State.FOLLOWING),
    ]
    assert found.well
    assert (found.leader_id, found.can_lose, found.changing) == ("a", 1, False)
    assert not judge([leader(peer("b"), peer("c"), changing=True)]).well


@pytest.mark.parametrize(
    ("seen", "own", "state", "reason"),
    [
        ({}, {}, State.FOLLOWING, ""),
        ({"connected": False, "since_s": 12.0}, None, State.UNREACHABLE, "for 12.0 s"),
        ({"connected": False, "error": "refused"}, {}, State.UNREACHABLE, ": refused"),
        ({"lag": Lag(5, 90, 1_000.0)}, {}, State.FOLLOWING, ""),
        ({"lag": Lag(5_000, 90, 1_001.0)}, {}, State.LAGGING, "5,000 entries, 1,001 ms behind"),
        ({"state": "snapshot"}, {}, State.CATCHING_UP, "snapshot"),
        ({"state": "probe"}, {}, State.CATCHING_UP, "where its log ends"),
        ({}, {"error": "disk full"}, State.FAILED, "disk full"),
        ({}, {"stalled_s": 0.9}, State.FOLLOWING, ""),
        ({}, {"stalled_s": 2.0}, State.STALLED, "nothing for 2.0 s"),
        ({"connected": False}, {"error": "lost"}, State.FAILED, "lost"),
        ({}, {"error": "differs", "quarantined": True}, State.QUARANTINED, "differs"),
        ({"lag": Lag(5, 9, 9e9)}, {"lost_to_lsn": 8_000}, State.REPAIRING, "entries up to 8,000"),
        ({"connected": False}, {"lost_to_lsn": 8}, State.UNREACHABLE, "not connected"),
    ],
)
def test_each_state_and_its_reason(
    seen: dict[str, Any], own: dict[str, Any] | None, state: State, reason: str
) -> None:
    told = [leader(peer("b", **seen), peer("c"))]
    found = judge(told if own is None else [*told, status("b", **own)])
    node = found.node("b")
    assert node is not None
    assert (node.role, node.state) == ("voter", state)
    assert reason in node.reason
    assert bool(reason) == bool(node.reason)
    counts = state is State.FOLLOWING
    assert found.well == node.well == counts
    assert found.can_lose == (1 if counts else 0)


def test_the_leader_itself() -> None:
    for own, state in (({"error": "x"}, State.FAILED), ({"stalled_s": 3.0}, State.STALLED)):
        found = judge([leader(peer("b"), peer("c"), **own)])
        assert found.nodes[0].state is state
        assert (found.well, found.can_lose) == (False, 0)
    assert judge([leader(peer("b"), peer("c"), stalled_s=3.0)], HealthLimits(stall_ms=3_001)).well


def test_learners_do_not_count() -> None:
    known: dict[str, Any] = {"voters": ("a", "b"), "learners": ("c", "d"), "newcomers": ("d",)}
    found = judge([leader(peer("b"), peer("c"), peer("d", lag=Lag(3, 9, 5.0)), **known)])
    assert [n.state for n in found.nodes][2:] == [State.LEARNING, State.CATCHING_UP]
    assert "3 entries" in found.nodes[3].reason
    assert [n.role for n in found.nodes][2:] == ["learner", "learner"]
    assert found.can_lose == 0
    assert not found.well


def test_who_is_no_member_is_named_and_changes_nothing() -> None:
    told = leader(peer("b"), peer("c"))
    found = judge([told, status("x")])
    assert found.node("x") == ("x", "", State.NO_MEMBER, "add it to the cluster, or end it")
    assert found.well
    assert judge([told, status("x", error="lost")]).node("x") == ("x", "", State.FAILED, "lost")
    assert found.node("nobody") is None


def test_without_a_leader_nothing_is_known() -> None:
    old = status("b", term=6, voters=("a", "b"))
    new = status("c", term=7, leader_id=None, learners=("d",), stalled_s=5.0)
    found = judge([old, new])
    assert (found.leader_id, found.can_lose, found.well) == (None, None, False)
    assert [(n.node_id, n.role, n.state) for n in found.nodes] == [
        ("a", "voter", State.UNKNOWN),
        ("b", "voter", State.UNKNOWN),
        ("c", "voter", State.STALLED),
        ("d", "learner", State.UNKNOWN),
    ]
    assert found.nodes[1].reason == "its leader a did not answer"
    assert "nobody who did leads" in found.nodes[0].reason
    assert judge([replace(new, stalled_s=0.0)]).node("c") == (
        "c", "voter", State.UNKNOWN, "it knows of no leader",
    )  # fmt: skip
    assert judge([]).nodes == ()


def test_of_two_leaders_the_later_one_counts() -> None:
    old = leader(peer("b"), peer("c"), term=6)
    new = status("b", role="leader", term=7, peers=(peer("a", connected=False), peer("c")))
    for order in ([old, new], [new, old]):
        assert judge(order).leader_id == "b"


def test_how_many_may_be_lost_in_all_small_clusters() -> None:
    """By losing all combinations: every one that is not larger leaves a majority of each half, and
    some larger one does not."""
    looked_at = 0
    names = "abcd"
    sizes = [set(group) for size in range(1, 5) for group in itertools.combinations(names, size)]
    for voters, outgoing in itertools.product(sizes, [set[str](), *sizes]):
        for good in [set[str](), *sizes]:
            if "a" not in good or not good <= voters | outgoing:
                continue
            peers = [peer(name, connected=name in good) for name in voters | outgoing]
            told = leader(*peers, voters=tuple(voters), outgoing=tuple(outgoing))
            margin = judge([told]).can_lose
            assert margin is not None
            looked_at += 1
            halves = [half for half in (voters, outgoing) if half]
            # of any set of that size that is lost, whoever remains is a majority of each half
            for size in range(len(good) + 1):
                works = all(
                    len((good - {*lost}) & half) > len(half) // 2
                    for lost in itertools.combinations(sorted(good), size)
                    for half in halves
                )
                # a loss may hit one half only: then more may be lost than is promised, never fewer
                assert works or size > margin, (voters, outgoing, good, size, margin)
                if not outgoing:
                    assert works == (size <= margin)
    print(f"looked_at={looked_at}")
    assert looked_at >= 400


def test_a_status_is_the_same_after_json() -> None:
    told = leader(peer("b", lag=Lag(1, 2, 3.0)), PeerStatus("c", "ws://h:1", False, 2.0))
    told = replace(told, learners=("d",), outgoing=("e",), newcomers=("d",), stalled_s=1.5)
    assert NodeStatus.from_dict(json.loads(json.dumps(told.as_dict()))) == told
    with pytest.raises((KeyError, TypeError)):
        NodeStatus.from_dict({"peers": []})


def test_a_disk_that_takes_nothing() -> None:
    disk = DiskWatch()
    assert disk.stalled_ms(5, 9, 0.0) == 0
    assert disk.stalled_ms(5, 9, 2_000.0) == 2_000
    assert disk.stalled_ms(6, 9, 3_000.0) == 0
    assert disk.stalled_ms(6, 12, 4_000.0) == 1_000
    assert disk.stalled_ms(12, 12, 9_000.0) == 0
    assert disk.stalled_ms(12, 13, 9_500.0) == 500
