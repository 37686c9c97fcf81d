"""A simulated node whose core is a RaftNode."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from tests.sim.disk import DiskFullError, Entry, entries_of
from tests.sim.network import Connection
from tests.sim.node import Node, Pending
from walstore.raft.history import as_of
from walstore.raft.membership import Configuration
from walstore.raft.node import RaftNode
from walstore.replication.acks import Acks
from walstore.replication.core import Core, CoreBody
from walstore.replication.effects import (
    AppendConfiguration,
    ChangeRefused,
    Effect,
    Elected,
    HoldAppends,
    PersistTerm,
    ReadReady,
    ReadRefused,
    RoleChanged,
    TakeSnapshotPart,
    TransferFailed,
)
from walstore.replication.entries import Batch
from walstore.replication.message import SnapshotPart, TimeoutNow
from walstore.replication.streaming import Wish

from .disk import RaftDisk

if TYPE_CHECKING:
    from .world import RaftWorld

__all__ = ["RaftSimNode"]


class RaftSimNode(Node):
    """One node.

    Args:
        world: all of them.
        name: this one.
        first: the configuration that its empty log begins with.
    """

    world: RaftWorld
    disk: RaftDisk

    def __init__(self, world: RaftWorld, name: str, first: Configuration) -> None:
        self._first = first
        self.held = False
        self._led_term = 0
        self.paused_ms = 0.0  # until when
        self._waiting: deque[tuple[Core | None, Callable[[Core], list[Effect]]]] = deque()
        self._to_transfer = False
        super().__init__(world, name)

    @property
    def raft(self) -> RaftNode:
        """Its core, while it is up."""
        assert isinstance(self.core, RaftNode)
        return self.core

    def make_disk(self) -> RaftDisk:
        world: RaftWorld = self.world
        return RaftDisk(world.configurations, self._first)

    def make_core(self) -> RaftNode:
        world, disk = self.world, self.disk
        core = RaftNode(
            self.name,
            disk,
            disk.term,
            disk.mark,
            disk.configurations,
            world.rng.uniform,
            world.now_ms,
            world.options,
            world.raft_options,
        )
        core.claim(*disk.claim)
        return core

    def lost(self, peer: str, connection: Connection) -> None:
        """Half of the time it seems to be the peer's end."""
        super().lost(peer, connection)
        if self.world.rng.random() < 0.5:
            self.step(lambda core: cast(RaftNode, core).gone(peer, self.world.now_ms))

    def crash(self) -> None:
        """Its disk may be damaged when it comes back."""
        was_up = self.core is not None
        super().crash()
        if was_up and self.world.may_damage(self):
            self.world.checks.wiped(self)  # a leader counts it until it hears of it
            self.disk.damage(self.world.rng)
            self.damaged_ms = self.world.now_ms
            self.world.counts["damages"] += 1

    def step(self, call: Callable[[Core], list[Effect]]) -> None:
        """What comes while the process is stopped waits, in order, until it goes on."""
        world = self.world
        if world.now_ms >= self.paused_ms and not self._waiting:
            super().step(call)
            self._look_at_claim()
            return
        if not self._waiting:
            world.after(max(0.0, self.paused_ms - world.now_ms), self._resume)
        self._waiting.append((self.core, call))

    def _resume(self) -> None:
        """It goes on, unless it has been stopped once more."""
        if self.world.now_ms < self.paused_ms:
            self.world.after(self.paused_ms - self.world.now_ms + 0.001, self._resume)
            return
        while self._waiting:
            core, call = self._waiting.popleft()
            if self.core is core:
                super().step(call)

    def _look_at_claim(self) -> None:
        """As a driver does now and then."""
        if self.core is not None and self.disk.claim > (0, 0) and not self.core.lacks:
            end = self.disk.term_of(self.disk.last_lsn), self.disk.last_lsn
            self.world.counts["mended"] += 1
            self.world.counts["mended by the same leader"] += end < self.disk.claim
            self.disk.claim = (0, 0)
            self.core.claim(0, 0)

    def free(self) -> None:
        """Its disk works again, also on what it was asked to sync long ago."""
        self._syncing = False
        self._sync()

    # ---- what users do ----

    def append(self, acks: Acks) -> None:
        """While the disk works, what comes may wait before it is written."""
        world = self.world
        if self.held or world.now_ms < self.paused_ms:
            return
        if self.disk.accepted or (self._syncing and world.rng.random() < 0.1):
            self._accept(acks)
        else:
            super().append(acks)

    def _accept(self, acks: Acks) -> None:
        """An entry gets its lsn, and is written when the disk is done with those before."""
        core, world, disk = self.core, self.world, self.disk
        if core is None or core.role != "leader":
            return
        entry = Entry(core.term, world.new_payload())
        disk.accepted.append(entry)
        superseded = world.superseded(core.term)
        self.pending.append(Pending(disk.accepted_lsn, entry, acks, superseded))
        world.counts["appends"] += 1
        world.counts["accepted"] += 1

    def _write_accepted(self) -> None:
        """What a full disk has no space for fails."""
        disk = self.disk
        entries, disk.accepted = disk.accepted, []
        for entry in entries:
            try:
                lsn = disk.append(entry)
            except DiskFullError:
                self.pending = [item for item in self.pending if item.lsn <= disk.last_lsn]
                return
            self.world.checks.appended(lsn, entry)

    def _sync(self) -> None:
        if self.disk.accepted and not self._syncing:
            self._write_accepted()
            self.world.after(0.0, lambda: self.step(lambda core: core.written()))
        super()._sync()

    def read(self) -> None:
        """A linearizable read: it must show all that was acked before it."""
        read_id = self.world.new_read()

        def call(core: Core) -> list[Effect]:
            return self.raft.read(read_id, self.world.now_ms)

        if self._waiting:  # a process that goes on may hear its user before its peers
            self._waiting.appendleft((self.core, call))
        else:
            self.step(call)

    def transfer(self, target: str) -> None:
        """An operator hands the leadership over."""
        self._to_transfer = True
        self.step(lambda core: self.raft.transfer(target, self.world.now_ms))
        self._to_transfer = False

    def change(self, wish: Wish) -> None:
        """An operator wants other members; also when that has waited, none while a node lacks
        entries."""

        def change(core: Core) -> list[Effect]:
            if self.world.lacks_any():
                return []
            return self.raft.change(*self.raft.configuration.wished(wish), self.world.now_ms)

        self.step(change)

    def take_back(self, node: str, *, learns: bool) -> None:
        """An operator has enough of waiting for a newcomer: no voter loses its vote by that."""
        learning = {node} if learns else set[str]()

        def change(core: Core) -> list[Effect]:
            before = self.raft.configuration
            if self.world.lacks_any() or node not in before.newcomers:
                return []
            voters, learners = before.wished(
                lambda voters, learners: (voters - {node}, learners - {node} | learning)
            )
            assert voters >= before.voters, "a vote is lost with a newcomer"
            self.world.counts["newcomers taken back"] += 1
            return self.raft.change(voters, learners, self.world.now_ms)

        self.step(change)

    def acknowledge(self, core: Core) -> None:
        """Users are told of what is committed."""
        while core.role == "leader" and self.pending and self.pending[0].lsn <= core.committed_lsn:
            self.world.checks.acked(self, self.pending.pop(0))

    # ---- effects ----

    def carry_out_one(self, core: Core, effect: Effect) -> list[Effect]:
        world, counts = self.world, self.world.counts
        match effect:
            case AppendConfiguration():
                return self._append_configuration(effect)
            case ReadReady():
                world.checks.read_ready(effect.read_id, effect.lsn)
            case ReadRefused():
                counts["reads refused"] += 1
            case TransferFailed():
                counts["transfers failed"] += 1
            case ChangeRefused():
                counts["changes refused"] += 1
            case HoldAppends():
                if effect.hold and world.faulty and world.rng.random() < 0.3:
                    self._accept(world.acks)  # another thread was faster
                self.held = effect.hold
                counts["holds"] += effect.hold
                counts["handed over"] += self._hands_over(effect)
                return self.raft.held(world.now_ms) if effect.hold else []
            case _:
                if isinstance(effect, PersistTerm | RoleChanged):
                    self._write_accepted()
                if isinstance(effect, RoleChanged):
                    self.held = False
                    counts["resigned"] += self._resigns(effect)
                if isinstance(effect, Elected):
                    counts["elections"] += 1
                    counts["transferred"] += core.term == self.raft._transfer_term
                if isinstance(effect, TakeSnapshotPart) and effect.last:
                    self.disk.incoming = effect.part.configuration
                return super().carry_out_one(core, effect)
        return []

    def _resigns(self, effect: RoleChanged) -> bool:
        """Whether the leader of this very term leads no longer."""
        if effect.role == "leader":
            self._led_term = effect.term
        return effect.role == "follower" and effect.term == self._led_term

    def _hands_over(self, effect: HoldAppends) -> bool:
        """Whether the leader has decided to, since its disk is stalled."""
        leadership = self.raft._leadership
        transfers = leadership is not None and leadership._transfer is not None
        return effect.hold and transfers and not self._to_transfer

    def refused_term_entry(self, core: Core) -> list[Effect]:
        return self.raft.resign(self.world.now_ms)

    def _append_configuration(self, effect: AppendConfiguration) -> list[Effect]:
        world, core = self.world, self.raft
        entry = Entry(core.term, world.new_payload())
        world.configurations[entry.payload] = effect.payload
        self._write_accepted()
        try:
            lsn = self.disk.append(entry)
        except DiskFullError:
            return core.configured(0, world.now_ms)
        world.checks.appended(lsn, entry)
        self._count_change()
        return core.configured(lsn, world.now_ms)

    def _count_change(self) -> None:
        counts, (_, configuration) = self.world.counts, self.disk.configurations[-1]
        counts["configurations"] += 1
        counts["joint"] += configuration.joint
        counts["newcomers"] += len(configuration.newcomers)
        counts["left by the leader"] += (
            not configuration.joint and self.name not in configuration.voters
        )

    def post(self, core: Core, node: str, body: CoreBody) -> bool:
        """Messages say which of the entries that they carry are configurations."""
        if isinstance(body, Batch) and body.runs:
            payloads = self.world.configurations
            found = tuple(
                (lsn, payloads[entry.payload])
                for lsn, entry in enumerate(entries_of(body), body.prev_lsn + 1)
                if entry.payload in payloads
            )
            body = replace(body, configurations=found)
        elif isinstance(body, SnapshotPart):
            members = as_of(self.disk.configurations, body.lsn)
            body = replace(body, configuration=members.encode())
        elif isinstance(body, TimeoutNow):
            self.world.checks.hands_over(self, node)
        return super().post(core, node, body)
