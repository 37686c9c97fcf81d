"""One schedule: nodes that elect, their faults, their membership, all drawn from one seed."""

from __future__ import annotations

from collections import Counter

from tests.sim.world import FAULTY_MS, World
from walstore.raft.membership import Configuration
from walstore.raft.options import RaftOptions
from walstore.replication.acks import Acks
from walstore.replication.core import CoreOptions

from .checks import RaftChecks
from .node import RaftSimNode

__all__ = ["RaftWorld"]

ELECTION_MS = 150
TIMEOUT_MS = 2 * ELECTION_MS
ELECTED_MS = 5 * TIMEOUT_MS
CONVERGE_MS = 10 * TIMEOUT_MS
NAMES = "abcdefghij"


class RaftWorld(World):
    """Runs a schedule.

    Args:
        seed: everything that happens follows from it.
    """

    checks: RaftChecks
    options: CoreOptions

    def make_nodes(self) -> None:
        """Voters, and some more nodes that may be added."""
        rng = self.rng
        self.strict = True
        self.acks = Acks(1)  # not asked for: what is committed is acked
        self.options = CoreOptions(
            window_bytes=rng.choice((24, 48, 200)),
            chunk_bytes=rng.choice((8, 16, 40)),
            probe_ms=100,
            heartbeat_ms=30,
            commit_delay_ms=5,
        )
        self.raft_options = RaftOptions(
            election_ms=ELECTION_MS,
            stall_ms=rng.choice((200, 400)),
            uncommitted_bytes_max=rng.choice((60, 200, 2000)),
        )
        self.checks = RaftChecks(self)
        self.configurations: dict[int, bytes] = {}
        self._read_id = 0
        count = rng.choice((1, 3, 3, 3, 5, 5, 7))
        first = Configuration(frozenset(NAMES[:count]))
        more = NAMES[count : count + rng.choice((0, 1, 2, 3))]
        self.raft_nodes = {name: RaftSimNode(self, name, first) for name in NAMES[:count]}
        self.raft_nodes |= {name: RaftSimNode(self, name, Configuration()) for name in more}
        self.nodes |= self.raft_nodes

    def new_read(self) -> int:
        self._read_id += 1
        self.checks.read_begins(self._read_id)
        return self._read_id

    def superseded(self, term: int) -> bool:
        """Whether no quorum of any leader of this term is left to it."""
        left = {name for name, node in self.raft_nodes.items() if node.disk.term <= term}
        leaders = [n for n in self.raft_nodes.values() if n.core and n.core.term == term]
        return not any(
            node.raft.configuration.quorum.elected(left)
            for node in leaders
            if node.raft.role == "leader"
        )

    def leads(self) -> list[RaftSimNode]:
        """Who believes to lead."""
        return [n for n in self.raft_nodes.values() if n.core and n.core.role == "leader"]

    def may_damage(self, node: RaftSimNode) -> bool:
        """Whether all that it has is elsewhere, and the others elect without it: it has something,
        and is the only one that lacks anything."""
        disks = {name: other.disk for name, other in self.raft_nodes.items()}
        known = [item for disk in disks.values() for _, item in disk.configurations]
        others = frozenset(disks) - {node.name}
        return (
            self.faulty
            and node.disk.last_lsn >= node.disk.first_lsn
            and not self.lacks_any()
            and not any(item.target for item in known)
            and all(item.quorum.elected(others) for item in known if item.voters)
            and self.rng.random() < 0.4
        )

    def lacks_any(self) -> bool:
        """Whether a node has not got back what damage took."""
        return any(node.disk.claim > (0, 0) for node in self.raft_nodes.values())

    # ---- users and the operator ----

    def use(self) -> None:
        super().use()
        for node in self.leads():
            for _ in range(self.rng.choice((0, 1, 3))):
                node.read()

    def transfer(self) -> None:
        for node in self.leads():
            target = self.rng.choice(sorted(node.raft.configuration.members))
            self.counts["transfers"] += 1
            node.transfer(target)

    def change(self) -> None:
        """An operator adds, removes or replaces nodes, a few at a time, or takes back one that is
        on its way; none while a node lacks entries, whose vote would be needed then."""
        rng = self.rng
        if self.lacks_any():
            return
        for node in self.leads():
            self.counts["changes"] += 1
            newcomers = sorted(node.raft.configuration.newcomers)
            if newcomers and rng.random() < 0.5:
                node.take_back(rng.choice(newcomers), learns=rng.random() < 0.3)
                continue
            names = rng.sample(sorted(self.nodes), min(len(self.nodes), rng.choice((1, 1, 2))))
            if rng.random() < 0.2:
                names = [node.name]
            kinds = {name: rng.random() for name in names}
            voting = {name for name, kind in kinds.items() if kind < 0.6}
            learning = {name for name, kind in kinds.items() if 0.6 <= kind < 0.75}
            node.change(
                lambda voters, learners, names={*names}, voting=voting, learning=learning: (  # type: ignore[misc]
                    voters - names | voting,
                    learners - names | learning,
                )
            )

    def stall(self) -> None:
        """A disk takes nothing for a while."""
        node = self.raft_nodes[self.rng.choice(sorted(self.nodes))]
        self.counts["stalls"] += 1
        node.sync_ms = self.rng.uniform(300, 2_000)

    def pause(self) -> None:
        """A process is stopped, and goes on as if nothing had been."""
        node = self.rng.choice(self.leads() or [*self.raft_nodes.values()])
        self.counts["pauses"] += 1
        node.paused_ms = self.now_ms + self.rng.uniform(50, 600)

    # ---- a schedule ----

    def run(self) -> Counter[str]:
        """Faults first; then they end, and the cluster must become one log and go on."""
        rng = self.rng
        for node in self.nodes.values():
            node.start()
        self.dial()
        self.every(rng.choice((8, 20, 60)), self.use)
        self.every(rng.choice((60, 200, 1000)), self.break_link)
        self.every(rng.choice((150, 400, 1500)), self.partition)
        self.every(rng.choice((150, 400, 1500)), lambda: self.any().crash())
        self.every(rng.choice((100, 300)), self.hurt_disk)
        self.every(rng.choice((300, 1000)), self.stall)
        self.every(rng.choice((300, 1000)), self.pause)
        self.every(rng.choice((200, 600, 2000)), self.transfer)
        self.every(rng.choice((100, 300, 1000)), self.change)
        self.every(rng.choice((100, 400, 2000)), lambda: self.any().truncate())
        self.run_until(FAULTY_MS)
        self.heal()
        leader = self._elected()
        leader.append(self.acks)
        last_lsn = leader.disk.last_lsn
        self.run_until(self.now_ms + CONVERGE_MS, lambda: self._is_one(last_lsn))
        assert self._is_one(last_lsn), "the cluster does not become one"
        self.checks.finished(self._leader())
        return self.counts

    def heal(self) -> None:
        super().heal()
        for node in self.raft_nodes.values():
            node.free()

    def _is_one(self, lsn: int) -> bool:
        leaders = self.leads()
        if len(leaders) != 1 or leaders[0].disk.last_lsn < lsn:
            return False
        return leaders[0].raft.committed_lsn >= lsn and self.checks.converged(leaders[0])

    def _leader(self) -> RaftSimNode:
        (leader,) = self.leads()
        return leader

    def _elected(self) -> RaftSimNode:
        """Nobody helps: the nodes find a leader that can commit."""
        self.run_until(self.now_ms + ELECTED_MS, lambda: bool(self._good_leaders()))
        assert self._good_leaders(), "nobody is elected"
        return self._good_leaders()[0]

    def _good_leaders(self) -> list[RaftSimNode]:
        return [node for node in self.leads() if self._leads_well(node)]

    def _leads_well(self, node: RaftSimNode) -> bool:
        """Whether it has committed an entry of its term, and no member knows a later one."""
        core = node.raft
        members = [self.raft_nodes[name] for name in core.configuration.members]
        committed = node.disk.term_of(core.committed_lsn) if core.committed_lsn else 0
        return committed == core.term and all(n.disk.term <= core.term for n in members)
