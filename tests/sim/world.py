"""One schedule: a cluster, its faults and its operator, all drawn from one seed."""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable

from walstore.replication.acks import Acks, AcksOption, majority, parse_acks
from walstore.replication.core import CoreOptions

from .checks import Checks
from .network import Network, Parcel
from .node import Node

FAULTY_MS = 1_500
CONVERGE_MS = 6_000
STEPS_MAX = 60_000


class World:
    """Runs a schedule.

    Args:
        seed: everything that happens follows from it.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = rng = random.Random(seed)
        self.now_ms = 0.0
        self.counts: Counter[str] = Counter()
        self.faulty = True
        self.strict = rng.random() < 0.7
        self.receipts = rng.random() < 0.3
        self.to_be_wiped: set[str] = set()
        self.options = CoreOptions(
            window_bytes=rng.choice((24, 48, 200)),
            chunk_bytes=rng.choice((8, 16, 40)),
            probe_ms=200,
            heartbeat_ms=60,
            commit_delay_ms=10,
        )
        self._payload = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._trace = hashlib.blake2b(digest_size=8)
        self.log: list[str] | None = None
        self.network = Network(self, self.deliver)
        self.nodes: dict[str, Node] = {}
        self.checks = Checks(self)
        self.make_nodes()

    def make_nodes(self) -> None:
        """The cluster."""
        names = "abcde"[: self.rng.choice((1, 2, 3, 3, 3, 3, 4, 5))]
        self.acks = self._draw_acks(names)
        self.nodes |= {name: Node(self, name) for name in names}

    def _draw_acks(self, names: str) -> Acks:
        rng, nodes = self.rng, frozenset(names)
        half = majority(len(nodes))
        options: list[AcksOption] = [
            "quorum",
            "quorum",
            "quorum",
            "all",
            rng.randint(half, len(nodes)),
        ]
        if not self.strict:
            options += ["async", 1, frozenset(rng.sample(names, rng.randint(1, len(names))))]
        return parse_acks(rng.choice(options), nodes)

    # ---- time ----

    def after(self, delay_ms: float, call: Callable[[], None]) -> None:
        """Something will happen."""
        self._count += 1
        heapq.heappush(self._events, (self.now_ms + delay_ms, self._count, call))

    def trace(self, what: str) -> None:
        """What two runs of a seed have in common."""
        line = f"{self.now_ms:.3f} {what}"
        self._trace.update(line.encode())
        if self.log is not None:
            self.log.append(line)

    @property
    def trace_hash(self) -> str:
        """One for each course of things."""
        return self._trace.hexdigest()

    def run_until(self, end_ms: float, done: Callable[[], bool] | None = None) -> bool:
        """Lets events happen; returns whether `done` came true."""
        while self._events and self._events[0][0] <= end_ms:
            self.now_ms, _, call = heapq.heappop(self._events)
            call()
            self.counts["steps"] += 1
            assert self.counts["steps"] < STEPS_MAX, "no end of messages"
            if done is not None and self.counts["steps"] % 8 == 0 and done():
                return True
        self.now_ms = end_ms
        return done is not None and done()

    # ---- what nodes need ----

    def new_payload(self) -> int:
        self._payload += 1
        return self._payload

    def superseded(self, term: int) -> bool:
        """Whether a majority has a higher term."""
        higher = sum(node.disk.term > term for node in self.nodes.values())
        return higher >= majority(len(self.nodes))

    def deliver(self, parcel: Parcel) -> None:
        self.trace(f"{parcel.target}<{parcel.source} {parcel.term}")
        self.nodes[parcel.target].receive(parcel)

    # ---- faults, users and the operator ----

    def every(self, mean_ms: float, call: Callable[[], None]) -> None:
        def again() -> None:
            if self.faulty:
                call()
                self.after(self.rng.expovariate(1 / mean_ms), again)

        self.after(self.rng.expovariate(1 / mean_ms), again)

    def any(self) -> Node:
        return self.nodes[self.rng.choice(sorted(self.nodes))]

    def _pairs(self) -> list[tuple[str, str]]:
        names = sorted(self.nodes)
        return [(a, b) for a in names for b in names if a < b]

    def dial(self) -> None:
        for a, b in self._pairs():
            self.network.connect(a, b)
        self.after(25, self.dial)

    def use(self) -> None:
        """Users append wherever somebody leads; the applications read."""
        nodes = frozenset(self.nodes)
        for node in self.nodes.values():
            if node.core and node.core.role == "leader":
                for _ in range(self.rng.choice((1, 1, 2, 12))):
                    rule = self.rng.choice((self.acks, parse_acks("quorum", nodes), Acks(1)))
                    node.append(rule)
        self.any().show()

    def break_link(self) -> None:
        if self.network.connections:
            pairs = sorted(self.network.connections, key=sorted)
            self.counts["breaks"] += 1
            self.network.close(self.network.connections[self.rng.choice(pairs)])

    def partition(self) -> None:
        """Cuts some nodes off, both ways or one."""
        names = sorted(self.nodes)
        side = set(self.rng.sample(names, self.rng.randint(0, len(names) // 2)))
        both = self.rng.random() < 0.5
        cut = [(a, b) for a in sorted(side) for b in names if b not in side]
        cut += [(b, a) for a, b in cut] if both else []
        for a, b in cut:
            self.network.block(a, b)
        if cut:
            self.counts["partitions" if both else "one-way partitions"] += 1
            self.after(
                self.rng.uniform(50, 700), lambda: self.network.blocked.difference_update(cut)
            )

    def hurt_disk(self) -> None:
        node, kind = self.any(), self.rng.randrange(4)
        if kind == 0:
            node.disk.full = True
            self.counts["full disks"] += 1
            disk = node.disk
            self.after(self.rng.uniform(5, 150), lambda: setattr(disk, "full", False))
        elif kind == 1:
            node.sync_fails = True
        elif kind == 2:
            node.sync_ms = self.rng.choice((1, 5, 100))
        else:
            node.slow_ms = self.rng.choice((0, 0, 40))

    def promote(self, node: Node, force: bool) -> None:
        """An operator's promote(), which gives up after a while."""
        core = node.core
        if core is None or core.role == "leader":
            return
        self.counts["forced" if force else "campaigns"] += 1
        node.step(lambda core: core.campaign(self.now_ms, force))
        term = core.term

        def give_up() -> None:
            if node.core is core and core.term == term and core.campaigning:
                node.step(lambda core: core.give_up())

        self.after(250, give_up)

    def _operate(self) -> None:
        node, choice = self.any(), self.rng.random()
        if choice < 0.15 and node.core:
            self.counts["step downs"] += node.core.role == "leader"
            node.step(lambda core: core.step_down())
        else:
            self.promote(node, force=not self.strict and choice > 0.6)
        self._wipe()

    def _wipe(self) -> None:
        """A person looks after nodes that hold what their leader lacks, one after the other."""
        for name in sorted(self.to_be_wiped):
            node = self.nodes[name]
            if node.core is None:
                continue
            self.to_be_wiped.discard(name)
            if not node.is_well():
                node.crash()
                node.wipe()

    # ---- a schedule ----

    def run(self) -> Counter[str]:
        """Faults first; then they end, and the cluster must become one log."""
        rng = self.rng
        for node in self.nodes.values():
            node.start()
        self.dial()
        self.after(10, lambda: self.promote(self.nodes["a"], force=False))
        self.every(rng.choice((8, 20, 60)), self.use)
        self.every(rng.choice((60, 200, 1000)), self.break_link)
        self.every(rng.choice((150, 400, 1500)), self.partition)
        self.every(rng.choice((150, 400, 1500)), lambda: self.any().crash())
        self.every(rng.choice((100, 300)), self.hurt_disk)
        self.every(rng.choice((200, 500)), self._operate)
        self.every(rng.choice((100, 400, 2000)), lambda: self.any().truncate())
        self.run_until(FAULTY_MS)
        self.heal()
        leader = self._converge()
        self.checks.finished(leader)
        return self.counts

    def heal(self) -> None:
        self.faulty = False
        self.network.blocked.clear()
        for node in self.nodes.values():
            node.disk.full = node.sync_fails = False
            node.sync_ms, node.slow_ms = 2, 0
        self.run_until(self.now_ms + 600)  # everybody comes back; late messages arrive

    def _converge(self) -> Node:
        """The operator promotes until somebody leads; soon after all must have the same."""
        for name in sorted(self.nodes) * 3:
            self._wipe()
            self.run_until(self.now_ms + 500)
            if not self._leaders():
                self.promote(self.nodes[name], force=False)
                self.run_until(self.now_ms + 300)
        assert len(self._leaders()) == 1, "nobody can be elected"
        leader = self._leaders()[0]
        leader.append(self.acks)
        end_ms = self.now_ms + CONVERGE_MS
        while self.now_ms < end_ms and not self.checks.converged(leader):
            self._wipe()
            self.run_until(self.now_ms + 100, lambda: self.checks.converged(leader))
        assert self.checks.converged(leader), "the cluster does not become one"
        return leader

    def _leaders(self) -> list[Node]:
        """Who leads in the highest term."""
        term = max(node.disk.term for node in self.nodes.values())
        nodes = self.nodes.values()
        return [n for n in nodes if n.core and n.core.role == "leader" and n.core.term == term]
