"""What must hold besides the promises of tests/sim: it follows the membership."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.raft.invariants import check_node
from tests.sim.checks import Checks
from tests.sim.node import Node, Pending
from walstore.raft.node import RaftNode
from walstore.replication.acks import Stage
from walstore.replication.core import Core

from .disk import RaftDisk

if TYPE_CHECKING:
    from .node import RaftSimNode
    from .world import RaftWorld

__all__ = ["RaftChecks"]


class RaftChecks(Checks):
    """The invariants. Nothing that was committed is ever lost: every schedule is a strict one."""

    world: RaftWorld

    def __init__(self, world: RaftWorld) -> None:
        super().__init__(world)
        self._acked_lsn = 0
        self._reads: dict[int, int] = {}

    def is_committed(self, node: Node, core: Core, lsn: int) -> None:
        """A leader commits an entry of its term that a quorum's disks hold, and its own."""
        assert isinstance(core, RaftNode)
        entry = node.disk.entry(lsn)
        assert entry.term == core.term, "an entry of another term is counted"
        quorum = core.configuration.quorum
        reached = quorum.reached(self.holders(node, lsn, entry), node.name)
        assert reached >= lsn, "committed is not on enough disks"

    def acked(self, node: Node, item: Pending) -> None:
        """What is acked was committed, by a leader that no quorum had left."""
        assert not item.superseded, "an old leader acks"
        assert self.entries[item.lsn] == item.entry, "what is acked is not committed"
        self.acknowledged.append((item, frozenset()))
        self._acked_lsn = max(self._acked_lsn, item.lsn)
        self.world.counts["acks"] += 1

    def hands_over(self, node: RaftSimNode, target: str) -> None:
        """A leader tells another node to lead: as it was asked to, only when that has all that
        users may still wait for."""
        leadership = node.raft._leadership
        transfer = leadership._transfer if leadership is not None else None
        if transfer is not None and transfer.of_all and transfer.node == target:
            progress = node.raft.progress(target)
            assert progress is not None
            assert progress.matched_lsn >= node.disk.accepted_lsn, "what was accepted is lost"

    def read_begins(self, read_id: int) -> None:
        """What is acked by now must be in the answer."""
        self._reads[read_id] = self._acked_lsn

    def read_ready(self, read_id: int, lsn: int) -> None:
        """A linearizable read is answered."""
        assert lsn >= self._reads.pop(read_id), "a stale read"
        self.world.counts["linearizable reads"] += 1

    def stepped(self, node: Node, core: Core) -> None:
        """After each step of a node."""
        super().stepped(node, core)
        assert isinstance(core, RaftNode)
        assert isinstance(node.disk, RaftDisk)
        check_node(core, node.disk)

    def converged(self, leader: Node) -> bool:
        """Whether every member has all of the leader's log, and knows it to be committed."""
        core = leader.core
        if not isinstance(core, RaftNode) or core.role != "leader":
            return False
        configuration, last_lsn = core.configuration, leader.disk.last_lsn
        if configuration.joint or core.configuration_lsn > core.committed_lsn:
            return False
        for node in self._members(leader):
            if node.core is None or node.core.term != core.term:
                return False
            if node.disk.durable_lsn != last_lsn or node.core.committed_lsn != last_lsn:
                return False
            if node is not leader and core.lsns(Stage.DURABLE)[node.name] != last_lsn:
                return False
        return True

    def _members(self, leader: Node) -> list[RaftSimNode]:
        assert isinstance(leader.core, RaftNode)
        return [self.world.raft_nodes[name] for name in sorted(leader.core.configuration.members)]

    def finished(self, leader: Node) -> None:
        """All logs are one, and everything that was acked is in it."""
        last_lsn = leader.disk.last_lsn
        for node in self._members(leader):
            assert node.disk.last_lsn == last_lsn
            low = max(node.disk.first_lsn, leader.disk.first_lsn)
            for lsn in range(low, last_lsn + 1):
                assert node.disk.entry(lsn) == leader.disk.entry(lsn)
            assert node.disk.digest_at(low - 1) == leader.disk.digest_at(low - 1)
            assert node.raft.configuration == leader.core.configuration  # type: ignore[union-attr]
        for item, _ in self.acknowledged:
            assert self.entries[item.lsn] == item.entry, "an acked entry is lost"
