"""What must hold, whatever the schedule does."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from walstore.replication.acks import Stage
from walstore.replication.core import Core
from walstore.replication.effects import Refuse, StopFollowing

from .disk import Entry
from .network import Connection, Parcel

if TYPE_CHECKING:
    from .node import Node, Pending
    from .world import World

ENTRY_BYTES_MAX = 8


class Checks:
    """The invariants, and what they need to remember of the past.

    In a strict schedule nobody is promoted by force and a commit takes a majority, so that nothing
    committed may be lost anywhere. In a weak one the promise is weaker: what was acked stays
    where it was durable, in the log, or aside in a log of its own.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._named: dict[tuple[int, int], int] = {}  # (lsn, term): payload
        self.entries: dict[int, Entry] = {}  # in strict schedules
        self._commits: list[tuple[int, int]] = []  # (term of the leader, lsn)
        self._known: dict[str, int] = {}  # committed_lsn by node, since it started
        self.acknowledged: list[tuple[Pending, frozenset[str]]] = []
        self._covered: dict[str, set[tuple[int, Entry]]] = {}
        self._cut: dict[str, set[tuple[int, Entry]]] = {}
        self._wiped: dict[tuple[str, str], set[tuple[int, Entry]]] = {}
        self._led: dict[int, str] = {}
        self._windows: Counter[Connection] = Counter()

    # ---- events ----

    def known(self, node: Node) -> int:
        """What a node has been told to be committed since it started."""
        return self._known[node.name]

    def started(self, node: Node) -> None:
        """A node has opened its log."""
        self._known[node.name] = node.disk.mark
        assert node.disk.mark <= node.disk.last_lsn

    def appended(self, lsn: int, entry: Entry) -> None:
        """(lsn, term) names one entry in all of the cluster."""
        assert self._named.setdefault((lsn, entry.term), entry.payload) == entry.payload

    def committed(self, node: Node, lsn: int) -> None:
        """Committed never goes back, and never is rewritten."""
        known = self._known[node.name]
        assert known < lsn <= node.disk.last_lsn, "committed goes back, or beyond the log"
        self._known[node.name] = lsn
        core = node.core
        if core and core.role == "leader":
            self.is_committed(node, core, lsn)
            self._commits.append((core.term, lsn))
        if not self.world.strict:
            return
        for at in range(max(known + 1, node.disk.first_lsn), lsn + 1):
            entry = node.disk.entry(at)
            assert self.entries.setdefault(at, entry) == entry, "committed is rewritten"

    def is_committed(self, node: Node, core: Core, lsn: int) -> None:
        """A leader commits an entry of its term that enough disks hold."""
        entry = node.disk.entry(lsn)
        assert entry.term == core.term, "an entry of another term is counted"
        holders = self.holders(node, lsn, entry)
        acks = self.world.acks
        assert acks.reached(holders, node.name) >= lsn, "committed is not on enough disks"

    def leads(self, node: Node, core: Core) -> None:
        """A term has one leader, and a legitimate one holds all that earlier terms committed."""
        self._windows.update(node.connections.values())  # an earlier term's may be under way
        assert self._led.setdefault(core.term, node.name) == node.name
        if self.world.strict:
            earlier = max((lsn for term, lsn in self._commits if term < core.term), default=0)
            for lsn in range(node.disk.first_lsn, earlier + 1):
                assert node.disk.holds(lsn), f"{node.name} leads without committed lsn {lsn}"
                assert node.disk.entry(lsn) == self.entries[lsn]

    def acked(self, node: Node, item: Pending) -> None:
        """An ack is true: the nodes that the rule asks for have the entry on their disks."""
        world = self.world
        holders = self.holders(node, item.lsn, item.entry)
        assert item.acks.reached(holders, node.name) >= item.lsn, "an ack that is not true"
        if item.acks.count > len(world.nodes) // 2:
            assert not item.superseded, "an old leader acks"
        nodes = world.nodes.items()
        kept_by = frozenset(name for name, n in nodes if self.has(n, item.lsn, item.entry))
        self.acknowledged.append((item, kept_by))
        world.counts["acks"] += 1

    def holders(self, leader: Node, lsn: int, entry: Entry) -> dict[str, int]:
        """By node: the lsn where it holds the entry, else 0. A node is counted that has put the
        entry aside for another leader, or was wiped, while this one could not know."""
        return {
            name: lsn
            * (
                self._is_durable(node, lsn, entry)
                or (lsn, entry) in self._cut.get(name, ())
                or (lsn, entry) in self._wiped.get((leader.name, name), ())
            )
            for name, node in self.world.nodes.items()
        }

    def cut(self, node: Node, after_lsn: int) -> None:
        """What is about to be put aside may have been durable, and acked to another leader: who
        in a strict schedule has no majority."""
        if not self.world.strict:
            self._cut.setdefault(node.name, set()).update(_durable(node, after_lsn))

    def wiped(self, node: Node) -> None:
        """A person is about to put the node's log aside."""
        for name in self.world.nodes:
            self._wiped.setdefault((name, node.name), set()).update(_durable(node, 0))

    def asked(self, leader: Node, node: str, lsn: int) -> None:
        """A leader has heard where the node's log ends, and counts it no more behind that."""
        wiped = self._wiped.get((leader.name, node), set())
        wiped -= {(at, entry) for at, entry in wiped if at > lsn}
        if node in leader.connections:
            self._windows[leader.connections[node]] += 1

    def _is_durable(self, node: Node, lsn: int, entry: Entry) -> bool:
        disk = node.disk
        if disk.first_lsn <= lsn <= disk.durable_lsn:
            return disk.entry(lsn) == entry
        if lsn >= disk.first_lsn:
            return False
        return not self.world.strict or self.entries.get(lsn) == entry

    def has(self, node: Node, lsn: int, entry: Entry) -> bool:
        """Whether the entry itself has been on the node's disk."""
        if lsn < node.disk.first_lsn:
            return (lsn, entry) in self._covered.get(node.name, ())
        return self._is_durable(node, lsn, entry)

    def read(self, node: Node, visible: int) -> None:
        """No reader sees what another history could replace."""
        self.world.counts["reads"] += 1
        assert visible <= min(node.disk.durable_lsn, self._known[node.name])
        if self.world.strict:
            for lsn in range(max(node.disk.first_lsn, visible - 3), visible + 1):
                assert self.entries[lsn] == node.disk.entry(lsn)

    def stopped(self, node: Node, effect: StopFollowing) -> None:
        """Only a forced leader, or one that needed no majority, lacks what is committed."""
        assert not self.world.strict, f"{node.name}: {effect.reason}"
        self.world.counts["stopped"] += 1
        self.world.to_be_wiped.add(node.name)

    def refused(self, node: Node, effect: Refuse) -> None:
        """A leader refuses only a node that holds committed entries it lacks."""
        assert not self.world.strict, f"{node.name}: {effect.reason}"
        assert "as committed" in effect.reason, effect.reason
        self.world.counts["refused"] += 1
        self.world.to_be_wiped.add(effect.node)

    def reset(self, node: Node) -> None:
        """What a snapshot stands for is not lost; what is behind it has been put aside."""
        disk = node.disk
        assert disk.last_lsn <= self.known(node) or not disk.entries
        covered = self._covered.setdefault(node.name, set())
        covered.update((disk.first_lsn + i, entry) for i, entry in enumerate(disk.entries))

    def truncated(self, node: Node, entries: dict[int, Entry]) -> None:
        """A user has truncated entries that a snapshot stands for."""
        self._covered.setdefault(node.name, set()).update(entries.items())

    def posted(self, node: Node, connection: Connection, parcel: Parcel) -> None:
        """The bytes on the way to a node are bounded: one window, and one more for each refusal,
        since what was sent before it is on its way, or the acks of that are.

        Where messages came late, behind those of a newer connection, the leader cannot know.
        """
        options = self.world.options
        bound = options.window_bytes + options.chunk_bytes + ENTRY_BYTES_MAX
        if parcel.nbytes and connection.alive and not self.world.counts["late"]:
            bound *= 1 + self._windows[connection]
            assert connection.undelivered(parcel.target) <= bound, "the window is not kept"

    def stepped(self, node: Node, core: Core) -> None:
        """After each step of a node."""
        if core.role != "leader":
            assert core.matched_lsn <= node.disk.last_lsn
            leader = self.world.nodes[core.leader_id] if core.leader_id else None
            if leader and leader.core and leader.core.role == "leader":
                self._matches(node, core, leader)
            return
        options = self.world.options
        bound = options.window_bytes + options.chunk_bytes + ENTRY_BYTES_MAX
        for name in self.world.nodes:
            progress = core.progress(name) if name != node.name else None
            if progress:
                assert progress.in_flight_bytes <= bound

    def _matches(self, node: Node, core: Core, leader: Node) -> None:
        """What a follower says matches is a prefix of the leader's log; terms name the rest."""
        assert leader.core is not None
        lsn = core.matched_lsn
        if leader.core.term == core.term and node.disk.holds(lsn) and leader.disk.holds(lsn):
            assert node.disk.term_of(lsn) == leader.disk.term_of(lsn), "matched does not match"

    # ---- the end ----

    def converged(self, leader: Node) -> bool:
        """Whether every node has all of the leader's log, and knows it to be committed."""
        core = leader.core
        if core is None or core.role != "leader":
            return False
        last_lsn = leader.disk.last_lsn
        for node in self.world.nodes.values():
            if node.core is None or node.core.term != core.term:
                return False
            if node.disk.durable_lsn != last_lsn or node.core.committed_lsn != last_lsn:
                return False
            if node is not leader and core.lsns(Stage.DURABLE)[node.name] != last_lsn:
                return False
        return True

    def finished(self, leader: Node) -> None:
        """All logs are one, and what was acked is where it must be."""
        last_lsn = leader.disk.last_lsn
        for node in self.world.nodes.values():
            assert node.disk.last_lsn == last_lsn
            low = max(node.disk.first_lsn, leader.disk.first_lsn)
            for lsn in range(low, last_lsn + 1):
                assert node.disk.entry(lsn) == leader.disk.entry(lsn)
            if self.world.strict:
                assert node.disk.digest_at(low - 1) == leader.disk.digest_at(low - 1)
        for item, holders in self.acknowledged:
            if self.world.strict and item.acks.count > len(self.world.nodes) // 2:
                assert self.entries[item.lsn] == item.entry, "an acked entry is lost"
            for name in holders:
                assert self.kept(self.world.nodes[name], item), f"{name} lost an acked entry"

    def kept(self, node: Node, item: Pending) -> bool:
        disk = node.disk
        if disk.holds(item.lsn) and disk.entry(item.lsn) == item.entry:
            return True
        if any(aside.get(item.lsn) == item.entry for aside in disk.diverged):
            return True
        covered = (item.lsn, item.entry) in self._covered.get(node.name, ())
        return covered or (self.world.strict and self.entries.get(item.lsn) == item.entry)


def _durable(node: Node, after_lsn: int) -> set[tuple[int, Entry]]:
    """What is durable there, behind an lsn."""
    disk = node.disk
    lsns = range(max(disk.first_lsn, after_lsn + 1), disk.durable_lsn + 1)
    return {(lsn, disk.entry(lsn)) for lsn in lsns}
