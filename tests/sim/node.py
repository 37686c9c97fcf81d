"""A node: a driver that carries a core's effects out on a simulated disk and network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from walstore.replication.acks import Acks, Stage
from walstore.replication.core import Core, CoreBody
from walstore.replication.effects import (
    AppendRecords,
    AppendTermEntry,
    CutDiverged,
    Effect,
    PersistTerm,
    Refuse,
    Reset,
    RoleChanged,
    Send,
    SendEntries,
    SendSnapshot,
    SetCommitted,
    StopFollowing,
    TakeSnapshotPart,
    VoteFailed,
)
from walstore.replication.message import SnapshotPart, SyncRequest, WalEntry

from .disk import TERM_PAYLOAD, Disk, DiskFullError, Entry, Snapshot, batch_of, entries_of
from .network import Connection, Parcel, record_bytes

if TYPE_CHECKING:
    from .world import World


class CrashError(Exception):
    """The power goes."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An append that waits for its acks."""

    lsn: int
    entry: Entry
    acks: Acks
    superseded: bool


class Node:
    """One node. Its core is None while it is down."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.disk = self.make_disk()
        self.core: Core | None = None
        self.connections: dict[str, Connection] = {}
        self.pending: list[Pending] = []
        self.part = b""
        self.outgoing: dict[str, Snapshot] = {}
        self.slow_ms = 0.0
        self.damaged_ms = -1.0
        self.sync_ms = 5.0
        self.sync_fails = False
        self._syncing = False
        self._tick_ms: float | None = None

    # ---- up and down ----

    def make_disk(self) -> Disk:
        """An empty one."""
        return Disk()

    def start(self) -> None:
        """Opens the log."""
        assert self.core is None
        self.part = b""
        self.core = self.make_core()
        self.core.want_receipts(self.world.receipts)
        self.world.checks.started(self)
        self._plan_tick(self.core)

    def make_core(self) -> Core:
        """A core on the disk as it is."""
        world, disk = self.world, self.disk
        nodes = frozenset(world.nodes)
        return Core(self.name, nodes, disk, disk.term, disk.mark, world.acks, world.options)

    def crash(self) -> None:
        """Loses what is not durable, and every connection."""
        if self.core is None:
            return
        self.core = None
        self.pending.clear()
        self.outgoing.clear()
        self.connections.clear()
        self._syncing = False
        self.sync_fails = False
        self._tick_ms = None
        self.disk.crash(self.world.rng)
        self.world.network.close_all(self.name)
        self.world.counts["crashes"] += 1
        self.world.after(self.world.rng.uniform(20, 400), self.restart)

    def restart(self) -> None:
        """Comes back, unless it already has."""
        if self.core is None:
            self.start()

    def is_well(self) -> bool:
        """Whether it leads, or follows somebody whose entries it takes."""
        core = self.core
        assert core is not None
        follows = core.leader_id is not None and core.matched_lsn > 0 and not core.stopped
        return core.role == "leader" or follows

    def wipe(self) -> None:
        """A person puts the directory aside and starts the node anew."""
        self.world.checks.wiped(self)
        self.disk.diverged.append(
            {self.disk.first_lsn + i: entry for i, entry in enumerate(self.disk.entries)}
        )
        kept, self.disk = self.disk, self.make_disk()
        self.disk.diverged = kept.diverged
        self.disk.term = kept.term
        self.world.counts["wiped"] += 1

    # ---- inputs of the core ----

    def step(self, call: Callable[[Core], list[Effect]]) -> None:
        """One call of the core, and all that comes of it."""
        core = self.core
        if core is None:
            return
        try:
            self._carry_out(core, call(core))
        except CrashError:
            self.crash()
            return
        self.acknowledge(core)
        self.world.checks.stepped(self, core)
        self._sync()
        self._plan_tick(core)

    def connected(self, peer: str, connection: Connection) -> None:
        self.connections[peer] = connection
        self.step(lambda core: core.connected(peer, self.world.now_ms))

    def lost(self, peer: str, connection: Connection) -> None:
        """The end of a connection, unless a newer one has taken its place."""
        if self.connections.get(peer) is connection:
            del self.connections[peer]
            self.step(lambda core: core.disconnected(peer))

    def receive(self, parcel: Parcel) -> None:
        self.step(lambda core: self._received(core, parcel))

    def _received(self, core: Core, parcel: Parcel) -> list[Effect]:
        if core.role == "leader" and isinstance(parcel.body, SyncRequest):
            self.world.checks.asked(self, parcel.source, parcel.body.lsn)
        return core.received(parcel.source, parcel.term, parcel.body, self.world.now_ms)

    def append(self, acks: Acks) -> None:
        """A user appends, where the node believes that it leads."""
        core = self.core
        if core is None or core.role != "leader":
            return
        entry = Entry(core.term, self.world.new_payload())
        try:
            lsn = self.disk.append(entry)
        except DiskFullError:
            return
        self.world.checks.appended(lsn, entry)
        superseded = self.world.superseded(core.term)
        self.pending.append(Pending(lsn, entry, acks, superseded))
        self.world.counts["appends"] += 1
        self.step(lambda core: core.written())

    # ---- the disk ----

    def _sync(self) -> None:
        disk, rng = self.disk, self.world.rng
        if self._syncing or disk.durable_lsn >= disk.last_lsn:
            return
        self._syncing = True
        upto, generation, core = disk.last_lsn, disk.generation, self.core

        def done() -> None:
            if self.core is not core:
                return
            self._syncing = False
            if self.sync_fails:
                self.world.counts["failed syncs"] += 1
                self.crash()
                return
            if disk.generation == generation:
                disk.durable_lsn = max(disk.durable_lsn, upto)
            self.step(lambda core: core.durable(self.world.now_ms))

        self.world.after(self.sync_ms * rng.uniform(0.2, 2), done)

    def show(self) -> None:
        """The application reads all that is visible, and is done with some of it."""
        if self.core is None:
            return
        visible = min(self.disk.durable_lsn, self.core.committed_lsn)
        self.world.checks.read(self, visible)
        lsn = self.world.rng.randint(0, visible)
        self.step(lambda core: core.applied(lsn))

    def truncate(self) -> None:
        """A snapshot is taken, and what it stands for may be truncated."""
        if self.core is None:
            return
        disk, rng = self.disk, self.world.rng
        visible = min(disk.durable_lsn, self.core.committed_lsn)
        if visible < disk.first_lsn:
            return
        disk.take_snapshot(visible, rng.randint(4, 120))
        disk.mark = max(disk.mark, visible)
        lsn = rng.randint(disk.first_lsn, visible + 1)
        gone = {at: disk.entry(at) for at in range(disk.first_lsn, lsn)}
        self.world.checks.truncated(self, gone)
        disk.truncate_before(lsn)
        self.world.counts["truncations"] += 1

    # ---- effects ----

    def _carry_out(self, core: Core, effects: list[Effect]) -> None:
        for effect in effects:
            if self.world.faulty and self.world.rng.random() < 0.0005:
                raise CrashError
            more = self.carry_out_one(core, effect)
            if more:
                self._carry_out(core, more)

    def carry_out_one(self, core: Core, effect: Effect) -> list[Effect]:
        disk, checks = self.disk, self.world.checks
        match effect:
            case Send():
                self._send(core, effect)
            case SendEntries():
                return self._begin_send(core, effect)
            case SendSnapshot():
                return self._send_snapshot(core, effect)
            case AppendRecords():
                self._append_records(effect)
            case AppendTermEntry():
                return self._append_term_entry(core)
            case SetCommitted():
                checks.committed(self, effect.lsn)
                if self.world.rng.random() < 0.5:
                    disk.mark = effect.lsn
            case PersistTerm():
                assert effect.term > disk.term
                disk.term = effect.term
            case CutDiverged():
                checks.cut(self, effect.after_lsn)
                disk.cut(effect.after_lsn, checks.known(self))
                disk.term = max(disk.term, effect.term)
                self.world.counts["divergences"] += 1
            case Reset():
                checks.reset(self)
                disk.reset(effect.first_lsn, effect.prev_term)
            case TakeSnapshotPart():
                self._take(effect)
            case StopFollowing():
                checks.stopped(self, effect)
            case Refuse():
                checks.refused(self, effect)
            case RoleChanged() | VoteFailed():
                self._role(core, effect)
            case _:
                pass
        return []

    def _role(self, core: Core, effect: RoleChanged | VoteFailed) -> None:
        counts = self.world.counts
        if isinstance(effect, VoteFailed):
            counts["votes failed"] += 1
        elif effect.role == "leader":
            counts["promotions"] += 1
            self.world.checks.leads(self, core)
        else:
            self.outgoing.clear()
            self.pending.clear()  # their fate is unknown from here on

    def _append_records(self, effect: AppendRecords) -> None:
        """All of it, or on a full disk nothing."""
        disk, batch = self.disk, effect.batch
        assert effect.from_lsn == disk.last_lsn + 1
        assert disk.term_of(batch.prev_lsn) == batch.prev_term, "appended behind another entry"
        if disk.full:
            self.world.counts["refused appends"] += 1
            return
        for lsn, entry in enumerate(entries_of(batch), batch.prev_lsn + 1):
            if lsn >= effect.from_lsn:
                disk.append(entry)
                self.world.checks.appended(lsn, entry)

    def _append_term_entry(self, core: Core) -> list[Effect]:
        entry = Entry(core.term, TERM_PAYLOAD)
        try:
            lsn = self.disk.append(entry)
        except DiskFullError:
            return self.refused_term_entry(core)
        self.world.checks.appended(lsn, entry)
        return core.written()

    def refused_term_entry(self, core: Core) -> list[Effect]:
        """There is no space for the entry that the leadership would begin with."""
        return core.step_down()

    def _take(self, effect: TakeSnapshotPart) -> None:
        part = effect.part
        if part.at == 0:
            self.part = b""
        assert part.at <= len(self.part), "a snapshot with a hole"
        self.part = self.part[: part.at] + part.data + self.part[part.at + len(part.data) :]
        if effect.last:
            assert len(self.part) == part.total_bytes
            self.disk.snapshot = Snapshot(part.lsn, part.lsn_term, self.part)
            self.world.counts["snapshots"] += 1

    # ---- sends ----

    def post(self, core: Core, node: str, body: CoreBody) -> bool:
        """Puts a message into the queue of a connection, if there is one."""
        assert self.disk.term == core.term, "a message of a term that is not durable"
        connection = self.connections.get(node)
        if connection is None:
            return False
        parcel = Parcel(self.name, node, core.term, body, record_bytes(body))
        world = self.world
        world.trace(f"{self.name}>{node} {body}")
        world.network.send(connection, parcel, self.slow_ms + world.nodes[node].slow_ms)
        world.checks.posted(self, connection, parcel)
        return True

    def _send(self, core: Core, effect: Send) -> None:
        body = effect.body
        if isinstance(body, WalEntry):
            self.post(core, effect.node, batch_of(_prev(body), body.committed_lsn, [], False))
        else:
            self.post(core, effect.node, body)

    def _begin_send(self, core: Core, send: SendEntries) -> list[Effect]:
        """Most reads are done at once; some take their time, and the world goes on meanwhile."""
        rng = self.world.rng
        if rng.random() < 0.85:
            return self._send_entries(core, send)

        def later() -> None:
            if self.core is core:
                self.step(lambda core: self._send_entries(core, send) if core.awaits(send) else [])

        self.world.after(rng.uniform(0.1, 5), later)
        return []

    def _send_entries(self, core: Core, send: SendEntries) -> list[Effect]:
        disk, now_ms = self.disk, self.world.now_ms
        if send.from_lsn < disk.first_lsn:
            return core.not_sent(send, now_ms)
        entries = disk.read(send.from_lsn, send.bytes_max)
        batch = batch_of(_prev(send), send.committed_lsn, entries, send.receipt)
        if not self.post(core, send.node, batch):
            return []
        return core.sent(send, batch.last_lsn, record_bytes(batch), now_ms)

    def _send_snapshot(self, core: Core, send: SendSnapshot) -> list[Effect]:
        snapshot, newest, data = self.outgoing.get(send.node), self.disk.snapshot, b""
        if send.lsn == 0 and (snapshot is None or snapshot.lsn < self.disk.first_lsn - 1):
            if newest is None or newest.lsn < self.disk.first_lsn - 1:
                return core.not_sent(send, self.world.now_ms)
            snapshot = self.outgoing[send.node] = newest  # it stays, whatever comes after it
            data = snapshot.data[: send.bytes_max]
        assert snapshot is not None
        if send.lsn:
            assert send.lsn == snapshot.lsn
            data = snapshot.data[send.at : send.at + send.bytes_max]
        elif not data:  # one that a disconnect cut short: how much of it is there?
            self.world.counts["snapshots resumed"] += 1
        part = SnapshotPart(snapshot.lsn, snapshot.term, send.at, len(snapshot.data), data)
        if not self.post(core, send.node, part):
            return []
        if self.world.faulty and self.world.rng.random() < 0.15:
            connection = self.connections[send.node]  # seldom broken by chance while one travels
            self.world.after(
                self.world.rng.uniform(0, 5), lambda: self.world.network.close(connection)
            )
        end = send.at + len(data)
        return core.snapshot_sent(send, snapshot.lsn, len(snapshot.data), end)

    # ---- the clock, and what users learn ----

    def _plan_tick(self, core: Core) -> None:
        at_ms = core.next_deadline_ms
        if at_ms is None or (self._tick_ms is not None and self._tick_ms <= at_ms):
            return
        self._tick_ms = at_ms = max(at_ms, self.world.now_ms)

        def tick() -> None:
            if self.core is core and self._tick_ms == at_ms:
                self._tick_ms = None
                self.step(lambda core: core.tick(self.world.now_ms))

        self.world.after(at_ms - self.world.now_ms, tick)

    def acknowledge(self, core: Core) -> None:
        """Tells users of appends that are on enough nodes."""
        if not self.pending or core.role != "leader":
            return
        lsns = core.lsns(Stage.DURABLE)
        reached = {rule: rule.reached(lsns, self.name) for rule in {i.acks for i in self.pending}}
        waiting = []
        for item in self.pending:
            if reached[item.acks] >= item.lsn:
                self.world.checks.acked(self, item)
            else:
                waiting.append(item)
        self.pending = waiting


def _prev(message: WalEntry | SendEntries) -> tuple[int, int]:
    return message.prev_lsn, message.prev_term
