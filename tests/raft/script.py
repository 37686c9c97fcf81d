"""Scenarios as text: a cluster that does what a script says, step by step.

A line that begins with `> ` is a command; the lines behind it are what came of it. The clock goes
only when a script says so, nothing is random, every message takes 0.2 ms and every sync 1 ms.

    cluster ab +c     a and b are voters, c begins with an empty log; all of them start
    log a 1a 1a 2b    before `cluster`: terms of the entries on a's disk, round and owner
    run 500           time passes, in ms
    elect a           a's election timer runs out, then 20 ms pass
    timeout a b       the election timers of these run out, at this moment
    campaign a        a campaigns without asking first
    append a 3        users append; nothing where the node does not lead
    read a            a linearizable read
    transfer a b      a is to hand over to b
    change a abd +e   voters and learners, by a
    cut a b           no message passes between them; `cut a>b`: from a to b only
    drop a>b          messages in this direction are lost, the connection stays
    heal              all connections are good again
    crash a, start a  the disk keeps what it has synced
    gone a bc         b and c take the end of their connection to a for its own
    stall a, free a   the disk takes nothing for now
    fill a, free a    the disk has no space
    compact a         a snapshot of what is committed takes its place
    status            every node: role, term, last, durable, committed lsn, membership
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from tests.sim.disk import Entry
from tests.sim.network import Connection, Network, Parcel
from tests.sim.node import Node
from tests.sim.world import World
from walstore.raft.membership import Configuration, decode_configuration
from walstore.raft.node import RaftNode
from walstore.raft.options import RaftOptions
from walstore.replication.acks import Acks
from walstore.replication.core import Core, CoreBody, CoreOptions
from walstore.replication.effects import (
    AppendConfiguration,
    ChangeRefused,
    CutDiverged,
    Effect,
    HoldAppends,
    ReadReady,
    ReadRefused,
    Reset,
    RoleChanged,
    SetCommitted,
    TransferFailed,
    VoteFailed,
)
from walstore.replication.message import TimeoutNow, VoteRequest, VoteResponse
from walstore.replication.terms import term_bits

from .invariants import check_all
from .sim.checks import RaftChecks
from .sim.node import RaftSimNode
from .sim.world import RaftWorld

__all__ = ["Script", "play"]

ELECTION_MS = 1_000
FOREVER_MS = 1e9


class Steady:
    """Draws the same each time."""

    def random(self) -> float:
        return 0.5

    def uniform(self, low: float, high: float) -> float:
        return low

    def randint(self, low: int, high: int) -> int:
        return low

    def choice(self, items: Sequence[int]) -> int:
        return items[0]


class ScriptNetwork(Network):
    """Loses what a script says."""

    def __init__(self, world: World, deliver: Callable[[Parcel], None]) -> None:
        super().__init__(world, deliver)
        self.dropped: set[tuple[str, str]] = set()

    def send(self, connection: Connection, parcel: Parcel, slow_ms: float) -> None:
        if (parcel.source, parcel.target) not in self.dropped:
            super().send(connection, parcel, slow_ms)


class ScriptChecks(RaftChecks):
    """All invariants, between all nodes, after each step of one."""

    def stepped(self, node: Node, core: Core) -> None:
        super().stepped(node, core)
        check_all(self.world.raft_nodes.values())  # type: ignore[arg-type]


class ScriptNode(RaftSimNode):
    """A node that says what it does."""

    world: Script

    def make_core(self) -> RaftNode:
        """The election timer of each node is 50 ms longer than that of the one before."""
        world, disk = self.world, self.disk
        more_ms = 50.0 * sorted(world.nodes).index(self.name)
        return RaftNode(
            self.name,
            disk,
            disk.term,
            disk.mark,
            disk.configurations,
            lambda low, high: low + more_ms,
            world.now_ms,
            world.options,
            world.raft_options,
        )

    def restart(self) -> None:
        """Only when the script says so."""

    def carry_out_one(self, core: Core, effect: Effect) -> list[Effect]:
        said = _said(effect)
        if said:
            self.world.say(f"{self.name} {said}")
        return super().carry_out_one(core, effect)

    def post(self, core: Core, node: str, body: CoreBody) -> bool:
        done = super().post(core, node, body)
        said = _asked(body)
        if said and done:
            self.world.say(f"{self.name}>{node} {said} in {named(core.term)}")
        return done


def named(term: int) -> str:
    """A term as round and owner."""
    owners = [name for name in "abcdefghij" if term_bits(name) == term & 0xFFFF]
    return f"{term >> 16}{owners[0]}" if term else "0"


def of(name: str) -> int:
    """The term of that name."""
    return int(name[:-1]) << 16 | term_bits(name[-1])


def members(configuration: Configuration) -> str:
    """A membership as text."""
    parts = ["".join(sorted(configuration.voters))]
    for sign, nodes in (
        ("&", configuration.outgoing),
        ("+", configuration.learners),
        ("->", configuration.target),
    ):
        parts += [sign + "".join(sorted(nodes))] if nodes else []
    return "".join(parts) or "-"


def _said(effect: Effect) -> str:
    match effect:
        case RoleChanged(role="leader"):
            return f"leads in {named(effect.term)}"
        case RoleChanged():
            return f"follows {effect.leader_id or 'nobody'} in {named(effect.term)}"
        case SetCommitted():
            return f"commits {effect.lsn}"
        case VoteFailed():
            reasons = "; ".join(f"{node}: {why}" for node, why in sorted(effect.reasons.items()))
            return f"is not elected in {named(effect.term)}: {reasons}"
        case CutDiverged():
            return f"cuts what is after {effect.after_lsn}"
        case Reset():
            return f"has a snapshot of {effect.first_lsn - 1}"
        case AppendConfiguration():
            return f"appends {members(decode_configuration(effect.payload))}"
        case ReadReady():
            return f"reads at {effect.lsn}"
        case ReadRefused():
            return f"refuses to read: {effect.reason}"
        case TransferFailed():
            return f"does not hand over to {effect.node}: {effect.reason}"
        case ChangeRefused():
            return f"refuses to change: {effect.reason}"
        case HoldAppends():
            return "holds appends" if effect.hold else "takes appends again"
        case _:
            return ""


def _asked(body: CoreBody) -> str:
    match body:
        case VoteRequest():
            kind = "would you vote" if body.pre else "vote"
            why = " (handed over)" if body.transfer else ""
            return f"{kind}{why}? {body.last_lsn}/{named(body.last_term)}"
        case VoteResponse():
            return ("yes" if body.granted else "no") + (", I would" * body.pre)
        case TimeoutNow():
            return "lead"
        case _:
            return ""


class Script(RaftWorld):
    """The world of one script."""

    def __init__(self) -> None:
        self.said: list[str] = []
        super().__init__(0)
        self.rng = Steady()  # type: ignore[assignment]
        self.faulty = False
        self.network = ScriptNetwork(self, self.deliver)
        self._payloads: dict[tuple[int, int], int] = {}
        self._logs: dict[str, list[int]] = {}

    def make_nodes(self) -> None:
        """None yet."""
        self.strict = True
        self.acks = Acks(1)
        self.options = CoreOptions(window_bytes=400, chunk_bytes=100)
        self.raft_options = RaftOptions(ELECTION_MS, 1_500, 200)
        self.checks = ScriptChecks(self)
        self.configurations = {}
        self.raft_nodes = {}
        self._read_id = 0

    def say(self, line: str) -> None:
        """A line of the transcript."""
        self.said.append(line)

    def do(self, line: str) -> list[str]:
        """Carries a command out; returns what came of it."""
        self.said.clear()
        name, *arguments = line.split()
        getattr(self, f"do_{name}")(*arguments)
        return list(self.said)

    # ---- commands ----

    def do_log(self, name: str, *terms: str) -> None:
        self._logs[name] = [of(term) for term in terms]

    def do_cluster(self, voters: str, spare: str = "") -> None:
        first = Configuration(frozenset(voters))
        for name in voters:
            self.raft_nodes[name] = ScriptNode(self, name, first)
        for name in spare.removeprefix("+"):
            self.raft_nodes[name] = ScriptNode(self, name, Configuration())
        self.nodes |= self.raft_nodes
        for name, node in self.raft_nodes.items():
            node.sync_ms = 5.0  # of which the steady draw makes 1
            disk = node.disk
            for lsn, term in enumerate(self._logs.get(name, ()), 1):
                disk.term = term
                payload = self._payloads.setdefault((lsn, term), len(self._payloads) + 1_000)
                disk.append(Entry(term, payload))
                self.checks.appended(lsn, disk.entry(lsn))
            disk.durable_lsn = disk.last_lsn
            node.start()
        self.dial()
        self.run_until(self.now_ms + 1)

    def do_run(self, ms: str) -> None:
        self.run_until(self.now_ms + float(ms))

    def do_timeout(self, *names: str) -> None:
        for name in names:
            node = self.raft_nodes[name]
            node.raft._clock.due_ms = self.now_ms
        for name in names:
            self.raft_nodes[name].step(lambda core: core.tick(self.now_ms))

    def do_elect(self, name: str) -> None:
        self.do_timeout(name)
        self.run_until(self.now_ms + 20)

    def do_campaign(self, name: str) -> None:
        self.raft_nodes[name].step(lambda core: core.campaign(self.now_ms))

    def do_append(self, name: str, count: str = "1") -> None:
        for _ in range(int(count)):
            self.raft_nodes[name].append(self.acks)

    def do_read(self, name: str) -> None:
        self.raft_nodes[name].read()

    def do_transfer(self, name: str, target: str) -> None:
        self.raft_nodes[name].transfer(target)

    def do_change(self, name: str, voters: str, learners: str = "") -> None:
        wanted = set(voters), set(learners.removeprefix("+"))
        self.raft_nodes[name].change(lambda *_: wanted)

    def do_cut(self, first: str, second: str = "") -> None:
        """Both ways: connections end at once. One way: when the silence is noticed."""
        both = ">" not in first
        sources, targets = (first, second) if both else first.split(">")
        for source in sources:
            for target in targets:
                self.network.block(source, target)
                connection = self.network.connections.get(frozenset((source, target)))
                if both:
                    self.network.block(target, source)
                    if connection:
                        self.network.close(connection)

    def do_drop(self, way: str) -> None:
        source, target = way.split(">")
        assert isinstance(self.network, ScriptNetwork)
        self.network.dropped |= {(x, y) for x in source for y in target}

    def do_heal(self) -> None:
        assert isinstance(self.network, ScriptNetwork)
        self.network.blocked.clear()
        self.network.dropped.clear()

    def do_crash(self, name: str) -> None:
        self.raft_nodes[name].crash()

    def do_gone(self, name: str, others: str) -> None:
        for other in others:
            self.raft_nodes[other].step(lambda core: cast(RaftNode, core).gone(name, self.now_ms))

    def do_start(self, name: str) -> None:
        self.raft_nodes[name].start()

    def do_stall(self, name: str) -> None:
        self.raft_nodes[name].sync_ms = FOREVER_MS

    def do_fill(self, name: str) -> None:
        self.raft_nodes[name].disk.full = True

    def do_free(self, name: str) -> None:
        node = self.raft_nodes[name]
        node.disk.full = False
        node.sync_ms = 5.0
        node.free()

    def do_compact(self, name: str) -> None:
        disk = self.raft_nodes[name].disk
        lsn = self.raft_nodes[name].raft.committed_lsn
        disk.take_snapshot(lsn, 10)
        disk.mark = lsn
        self.checks.truncated(
            self.raft_nodes[name], {at: disk.entry(at) for at in range(disk.first_lsn, lsn + 1)}
        )
        disk.truncate_before(lsn + 1)

    def do_status(self) -> None:
        for name, node in self.raft_nodes.items():
            disk = node.disk
            if node.core is None:
                self.say(f"{name} is down, term {named(disk.term)}, log {self._log_of(node)}")
                continue
            self.say(
                f"{name} {_role(node.raft)} in {named(disk.term)}, log {self._log_of(node)}, "
                f"durable {disk.durable_lsn}, committed {node.raft.committed_lsn}, "
                f"members {members(node.raft.configuration)}"
            )

    def _log_of(self, node: RaftSimNode) -> str:
        """Runs of terms: 1-3:1a."""
        runs: list[list[int]] = []
        disk = node.disk
        for lsn in range(disk.first_lsn, disk.last_lsn + 1):
            if runs and disk.term_of(runs[-1][0]) == disk.term_of(lsn):
                runs[-1][1] = lsn
            else:
                runs.append([lsn, lsn])
        texts = [
            f"{first}{f'-{last}' if last > first else ''}:{named(disk.term_of(first))}"
            for first, last in runs
        ]
        return " ".join(texts) or f"empty after {disk.last_lsn}"


def _role(core: RaftNode) -> str:
    if core.role == "leader":
        return "leads"
    return "campaigns" if core.campaigning else f"follows {core.leader_id or 'nobody'}"


def play(text: str) -> str:
    """A script with what comes of its commands now."""
    script = Script()
    out: list[str] = []
    for line in text.splitlines():
        if line.startswith("> "):
            out += [line, *script.do(line[2:])]
        elif line.startswith("#") or not line.strip():
            out.append(line)
    return "\n".join(out) + "\n"
