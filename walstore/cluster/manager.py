"""ClusterManager: what an operator does with the nodes of a cluster that elects."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from walstore.cluster.errors import ChangeRefusedError, NotWellError
from walstore.cluster.health import USUAL, ClusterHealth, HealthLimits, State, judge
from walstore.errors import WALStoreError
from walstore.replication.errors import NotLeaderError
from walstore.replication.status import NodeStatus

__all__ = ["ClusterManager", "ClusterNode"]

T = TypeVar("T")

_LOOK_S = 0.05


class ClusterNode(Protocol):
    """A node of this process, a ReplicationWALManager with election="raft", or one that is asked
    through its endpoint. What it raises where it cannot be asked is a WALStoreError."""

    def status(self) -> NodeStatus:
        """The node, and the others as it sees them."""

    def add_learner(self, node_id: str, /) -> int:
        """See ReplicationWALManager, as of the others."""

    def add_voter(self, node_id: str, /) -> int: ...

    def remove_node(self, node_id: str, /) -> int: ...

    def replace_node(self, old: str, new: str, /) -> int: ...

    def transfer(self, node_id: str | None, /) -> int: ...


Answers = list[tuple[ClusterNode, NodeStatus]]


class ClusterManager:
    """A cluster that elects, as its operator sees it. It keeps nothing: all it knows it asks.

    Changes are made by whoever leads, and are committed at return; asking for what is so already
    changes nothing.

    Args:
        nodes: gives the nodes that can be asked, at least the one that leads; asked each time, so
            that nodes may come and go.
        timeout_s: how long a leader, or a cluster that is well, is waited for.
        limits: from when on a node is not well.
    """

    def __init__(
        self,
        nodes: Callable[[], Iterable[ClusterNode]],
        *,
        timeout_s: float = 30.0,
        limits: HealthLimits = USUAL,
    ) -> None:
        self._nodes = nodes
        self._timeout_s = timeout_s
        self._limits = limits

    # ---- how it is ----

    def health(self) -> ClusterHealth:
        """How each node is, and how many more may fail."""
        return self._judge(self._ask())

    def wait_until_well(self) -> ClusterHealth:
        """Waits until a node leads, and all members are well.

        Raises:
            NotWellError: not in time.
        """
        return self._until(self._well)

    # ---- its members ----

    def add(self, node_id: str, *, voter: bool = True) -> None:
        """Has a node that was started hold the log, and vote when it does; without `voter`, only
        hold it.

        Raises:
            NotWellError: nobody led in time.
            ChangeRefusedError: a voter is to learn only, and is needed.
            MembershipError, ReplicationTimeoutError: as ReplicationWALManager.add_voter.
        """

        def change(leader: ClusterNode, status: NodeStatus) -> None:
            if not status.changing and node_id in (status.voters if voter else status.learners):
                return
            if voter:
                leader.add_voter(node_id)
            else:
                self._check_left(node_id, status)
                leader.add_learner(node_id)

        self._on_leader(change)

    def remove(self, node_id: str) -> None:
        """Removes a node, whose process is for its user to end: also how a node leaves. One that is
        to vote and has not the log yet is taken back, with what waits for it: a voter that it was
        to replace stays one.

        Raises:
            ChangeRefusedError: those that are left could commit nothing.
            Otherwise as `add`.
        """

        def change(leader: ClusterNode, status: NodeStatus) -> None:
            if node_id in {*status.voters, *status.learners} or status.changing:
                self._check_left(node_id, status)
                leader.remove_node(node_id)

        self._on_leader(change)

    def _check_left(self, node_id: str, status: NodeStatus) -> None:
        """Taking back who has no vote yet takes nobody's; and who is to have one by then has the
        log."""
        if node_id not in status.voters:
            return
        newcomers = {*status.newcomers}
        good = {
            node.node_id
            for node in self.health().nodes
            if node.state in (State.LEADING, State.FOLLOWING) or node.node_id in newcomers
        }
        left = ({*status.voters} - {*status.leaving} | newcomers) - {node_id}
        if not left or len(left & good) <= len(left) // 2:
            raise ChangeRefusedError(
                f"taking the vote of {node_id}",
                f"of {', '.join(sorted(left)) or 'nobody'}, who would be left to vote, "
                f"{len(left & good)} are well",
            )

    def replace(self, old: str, new: str) -> None:
        """Puts a node that was started in the place of another, which may be dead: `old` counts
        until `new` has the log.

        Raises:
            As `add`.
        """

        def change(leader: ClusterNode, status: NodeStatus) -> None:
            members = {*status.voters, *status.learners}
            if old in members or new not in members or status.changing:
                leader.replace_node(old, new)

        self._on_leader(change)

    # ---- who leads ----

    def transfer(self, node_id: str | None = None) -> str:
        """Hands the leadership over, to a node or to the voter that has most, and returns who leads
        then. Appends wait meanwhile, and none fails.

        Raises:
            NotWellError: nobody led in time.
            PromotionError: as ReplicationWALManager.transfer.
        """
        before, term = self._on_leader(lambda _, status: (status.node_id, status.term))
        if node_id == before:
            return before
        self._on_leader(
            lambda leader, status: leader.transfer(node_id) if status.node_id == before else None
        )
        return self._next_leader(before, term)

    def _next_leader(self, before: str, term: int) -> str:
        """Waits until a node leads in a later term, which may be told by those that follow it."""

        def later(answers: Answers) -> str | None:
            leaders = [
                (status.term, status.leader_id)
                for _, status in answers
                if status.term > term and status.leader_id not in (None, before)
            ]
            return max(leaders)[1] if leaders else None

        return self._until(later)

    # ---- all of its nodes ----

    def rolling_restart(self, restart: Callable[[str], None]) -> None:
        """Restarts each member, those that follow first; whoever leads hands over before. No write
        fails that is tried again where it was not taken.

        Args:
            restart: ends a node and starts it again, given its id; returns when it runs.

        Raises:
            ChangeRefusedError: no voter may be lost; so many were restarted as were.
            NotWellError: the cluster was not well before, or is not after a restart.
            What `restart` raises.
        """
        health = self.wait_until_well()
        left = {node.node_id for node in health.nodes if node.role}
        while left:
            health = self.wait_until_well()
            node_id = min(left, key=lambda node: (node == health.leader_id, node))
            left.remove(node_id)
            node = health.node(node_id)
            if node is not None and node.role != "learner" and (health.can_lose or 0) < 1:
                raise ChangeRefusedError(f"restarting {node_id}", "no voter may be lost")
            if node_id == health.leader_id:
                self.transfer()
                self.wait_until_well()  # the new leader has heard from all
            restart(node_id)
            self._wait_for(node_id)

    def _wait_for(self, node_id: str) -> None:
        """Until a node that was restarted has heard its leader, and all are well."""

        def well(answers: Answers) -> ClusterHealth | None:
            hears = any(s.node_id == node_id and s.leader_id is not None for _, s in answers)
            return self._well(answers) if hears else None

        self._until(well)

    # ---- inside ----

    def _ask(self) -> Answers:
        """The nodes that answer."""
        found = []
        for node in self._nodes():
            try:
                found.append((node, node.status()))
            except WALStoreError:
                continue  # how it is, its leader says
        return found

    def _judge(self, answers: Answers) -> ClusterHealth:
        return judge((status for _, status in answers), self._limits)

    def _well(self, answers: Answers) -> ClusterHealth | None:
        health = self._judge(answers)
        return health if health.well else None

    def _until(self, look: Callable[[Answers], T | None]) -> T:
        """What is found in the nodes' answers, which are asked for until something is."""
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            answers = self._ask()
            found = look(answers)
            if found is not None:
                return found
            if time.monotonic() >= deadline_s:
                raise NotWellError(self._judge(answers), self._timeout_s)
            time.sleep(_LOOK_S)

    def _on_leader(self, action: Callable[[ClusterNode, NodeStatus], T]) -> T:
        """What an action gives on whoever leads."""

        def done(answers: Answers) -> tuple[T] | None:
            leaders = [(node, status) for node, status in answers if status.role == "leader"]
            if not leaders:
                return None
            try:
                return (action(*max(leaders, key=lambda leader: leader[1].term)),)
            except NotLeaderError:
                return None  # it led when it was asked

        return self._until(done)[0]
