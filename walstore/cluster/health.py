"""What is the matter with each node of a cluster, and how many more may fail. Sans-IO.

docs/cluster.md, "Health", has the rules in words.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from walstore.replication.status import NodeStatus, PeerStatus

__all__ = ["USUAL", "ClusterHealth", "HealthLimits", "NodeHealth", "State", "judge"]


class State(StrEnum):
    """How a node is."""

    LEADING = "leading"
    FOLLOWING = "following"
    LEARNING = "learning"
    CATCHING_UP = "catching up"
    LAGGING = "lagging"
    REPAIRING = "repairing"
    STALLED = "stalled"
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    UNKNOWN = "unknown"
    NO_MEMBER = "no member"


_WELL = frozenset({State.LEADING, State.FOLLOWING, State.LEARNING})


class HealthLimits(NamedTuple):
    """From when on something is amiss.

    Attributes:
        lag_ms: a node lacks entries that its leader has had for longer.
        stall_ms: a disk has taken nothing for longer, while entries wait.
    """

    lag_ms: float = 1_000.0
    stall_ms: float = 1_000.0


USUAL = HealthLimits()


class NodeHealth(NamedTuple):
    """A node: what it is in its cluster ("leader", "voter", "learner", or "" for none of its
    members), how it is, and why."""

    node_id: str
    role: str
    state: State
    reason: str = ""

    @property
    def well(self) -> bool:
        """Whether there is nothing to do about it."""
        return self.state in _WELL


@dataclass(frozen=True, slots=True)
class ClusterHealth:
    """A cluster.

    Attributes:
        leader_id: who leads; None where nobody who answered does.
        nodes: its members, and whoever else answered, by id.
        can_lose: how many voters may still fail, whichever they are, before nothing can be
            committed any more; below 0: nothing can now; None: not known, for want of a leader.
        changing: whether a change of the members is under way.
    """

    leader_id: str | None
    nodes: tuple[NodeHealth, ...]
    can_lose: int | None
    changing: bool

    @property
    def well(self) -> bool:
        """Whether one leads, and all members are well and stay who they are."""
        members = [node for node in self.nodes if node.role]
        return self.leader_id is not None and not self.changing and all(n.well for n in members)

    def node(self, node_id: str) -> NodeHealth | None:
        """One of the nodes."""
        return next((node for node in self.nodes if node.node_id == node_id), None)


def judge(statuses: Iterable[NodeStatus], limits: HealthLimits = USUAL) -> ClusterHealth:
    """The health of a cluster that elects.

    Args:
        statuses: of the nodes that answered, of one cluster; the leader's says most.
        limits: from when on something is amiss.
    """
    found = {status.node_id: status for status in statuses}
    leaders = [status for status in found.values() if status.role == "leader"]
    leader = max(leaders, key=lambda status: status.term, default=None)
    if leader is None:
        return _leaderless(found, limits)
    members = {*leader.voters, *leader.outgoing, *leader.learners}
    nodes = [
        _member(node_id, leader, found.get(node_id), limits)
        if node_id in members
        else NodeHealth(node_id, "", *_outside(found[node_id], limits))
        for node_id in sorted(members | found.keys())
    ]
    counted = {n.node_id for n in nodes if n.state in (State.LEADING, State.FOLLOWING)}
    halves = [half for half in (leader.voters, leader.outgoing) if half]
    can_lose = min(_margin(half, counted) for half in halves)
    return ClusterHealth(leader.node_id, tuple(nodes), can_lose, leader.changing)


def _margin(voters: Collection[str], counted: Collection[str]) -> int:
    """How many may be lost before those that count are no majority."""
    return len({*voters} & {*counted}) - (len(voters) // 2 + 1)


def _leaderless(found: dict[str, NodeStatus], limits: HealthLimits) -> ClusterHealth:
    """Who answered leads not: how the others are is not known."""
    newest = max(found.values(), key=lambda s: (s.term, s.committed_lsn), default=None)
    members = {*newest.voters, *newest.outgoing, *newest.learners} if newest else set[str]()
    learners = {*newest.learners} if newest else set[str]()
    nodes = []
    for node_id in sorted(members | found.keys()):
        role = "learner" if node_id in learners else "voter"
        state, reason = State.UNKNOWN, "it did not answer, and nobody who did leads"
        if node_id in found:
            state, reason = _own_trouble(found[node_id], limits) or (state, _why(found[node_id]))
        nodes.append(NodeHealth(node_id, role if node_id in members else "", state, reason))
    return ClusterHealth(None, tuple(nodes), None, newest is not None and newest.changing)


def _why(status: NodeStatus) -> str:
    if status.leader_id is None:
        return "it knows of no leader"
    return f"its leader {status.leader_id} did not answer"


def _own_trouble(status: NodeStatus, limits: HealthLimits) -> tuple[State, str] | None:
    """What a node says of itself."""
    if status.error:
        return State.QUARANTINED if status.quarantined else State.FAILED, status.error
    if status.stalled_s * 1000 >= limits.stall_ms:
        return State.STALLED, f"its disk has taken nothing for {status.stalled_s:.1f} s"
    return None


def _outside(status: NodeStatus, limits: HealthLimits) -> tuple[State, str]:
    return _own_trouble(status, limits) or (State.NO_MEMBER, "add it to the cluster, or end it")


def _member(
    node_id: str, leader: NodeStatus, own: NodeStatus | None, limits: HealthLimits
) -> NodeHealth:
    votes = node_id in leader.voters or node_id in leader.outgoing
    role = "leader" if node_id == leader.node_id else "voter" if votes else "learner"
    trouble = _own_trouble(own, limits) if own is not None else None
    if trouble is None and role == "leader":
        trouble = State.LEADING, ""
    if trouble is None:
        peer = next((peer for peer in leader.peers if peer.node_id == node_id), None)
        trouble = _as_seen(peer, node_id in leader.newcomers, limits)
        if own is not None and own.lost_to_lsn and peer is not None and peer.connected:
            trouble = State.REPAIRING, f"damage took its entries up to {own.lost_to_lsn:,}"
    if trouble is None:
        trouble = (State.FOLLOWING if votes else State.LEARNING), ""
    return NodeHealth(node_id, role, *trouble)


def _as_seen(
    peer: PeerStatus | None, newcomer: bool, limits: HealthLimits
) -> tuple[State, str] | None:
    """What is amiss with a node as its leader sees it."""
    if peer is None or not peer.connected:
        since = f" for {peer.since_s:.1f} s" if peer is not None else ""
        why = f": {peer.error}" if peer is not None and peer.error else ""
        return State.UNREACHABLE, f"not connected{since}{why}"
    lag = (peer.lag or {}).get("durable")
    behind = f"{lag.entries:,} entries, {lag.ms:,.0f} ms behind" if lag is not None else ""
    if peer.state == "snapshot":
        return State.CATCHING_UP, "it is sent a snapshot"
    if newcomer:
        return State.CATCHING_UP, f"it votes as soon as it has the log: {behind}"
    if peer.state == "probe":
        return State.CATCHING_UP, "its leader asks where its log ends"
    if lag is not None and lag.ms > limits.lag_ms:
        return State.LAGGING, behind
    return None
