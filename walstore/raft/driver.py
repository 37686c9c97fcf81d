"""Replication whose nodes elect their leader: what a RaftNode wants done, on a log and a network
(docs/consensus.md, "What a driver owes it").

As in replication/streaming.py everything runs in one event loop, but what says otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

from walstore.errors import LogFullError, OptionError, WALStoreError
from walstore.raft.ledger import Ledger, Mark
from walstore.raft.membership import Configuration
from walstore.raft.node import RaftNode
from walstore.raft.options import RaftOptions
from walstore.replication import effects
from walstore.replication.core import CoreBody
from walstore.replication.effects import Effect
from walstore.replication.errors import (
    CloseCode,
    LostDiskError,
    MembershipError,
    PromotionError,
    ReplicationTimeoutError,
    TooFewNodesError,
)
from walstore.replication.lag import Samples
from walstore.replication.log import NodeLog
from walstore.replication.message import SyncRequest, TimeoutNow
from walstore.replication.network import NetworkEvent, NodeDisconnected
from walstore.replication.options import ReplicationOptions
from walstore.replication.status import NodeStatus
from walstore.replication.streaming import (
    WALReplicationManager,
    Wish,
    core_options,
    monotonic_ms,
)
from walstore.replication.tasks import begin_task
from walstore.replication.terms import next_term

__all__ = ["RaftReplicationManager"]

logger = logging.getLogger("walstore.replication")

_LOOK_S = 0.01
_HAND_OVER_ELECTIONS = 2
"""So many times `election_ms` one is waited for; the core gives it one."""
_HEARTBEATS_MIN = 3


def _found_cluster(log: NodeLog, node_id: str, members: frozenset[str]) -> None:
    """Makes an empty log the first one of a new cluster; durable at return.

    Its first entry says that this node votes alone, and that the others shall vote as soon as they
    have all of the log: so a node that was never told of a cluster never votes in it.

    Raises:
        ConfigurationError: these nodes cannot be a cluster.
    """
    first = Configuration(frozenset({node_id}))
    if members != first.voters:
        first = first.change(members)
    first.check()
    log.adopt_term(next_term(log.term, node_id))
    log.wait_durable(log.append_configuration(first.encode()))


def _is_founding(configurations: Sequence[tuple[int, Configuration]]) -> bool:
    """Whether the first node of a cluster has not had others with it yet."""
    named = [(lsn, now) for lsn, now in configurations if now.voters]
    return (
        bool(named)
        and named[0][0] == 1
        and all(len(now.voters) == 1 and now.target for _, now in named)
    )


@dataclass(eq=False, slots=True)
class _Change:
    """Of the members, that somebody waits for.

    Attributes:
        made: the lsn of the entry that says so, when that is committed.
        wanted: the voters and the learners there shall be.
        lsn: of its first entry; 0: it is not written.
    """

    made: asyncio.Future[int]
    wanted: tuple[Set[str], Set[str]] = (frozenset(), frozenset())
    lsn: int = 0

    def refuse(self, reason: str) -> None:
        """Tells who waits that it is not made, and why."""
        if not self.made.done():
            self.made.set_exception(MembershipError(reason))


class _View:
    """What a RaftNode may ask of the log."""

    def __init__(self, log: NodeLog, samples: Samples) -> None:
        self._log = log
        self._samples = samples
        self.term_of = log.term_of

    @property
    def first_lsn(self) -> int:
        return self._log.first_lsn

    @property
    def last_lsn(self) -> int:
        return self._log.last_lsn

    @property
    def accepted_lsn(self) -> int:
        return self._log.accepted_lsn

    @property
    def durable_lsn(self) -> int:
        return self._log.durable_lsn

    def bytes_after(self, lsn: int) -> int:
        """About how many bytes lie behind an entry, of those written while this node led."""
        last_lsn = self._log.last_lsn
        return self._samples.lag(lsn, last_lsn, 0.0).bytes if lsn < last_lsn else 0


class RaftReplicationManager(WALReplicationManager):
    """One node of a cluster that elects.

    Args:
        log, node_id, members, options: as of WALReplicationManager, and so is the rest. The
            members are those of a log that says nothing of its own.

    Raises:
        OptionError: the times do not fit each other.
        CorruptLogError, ConfigurationError: as Ledger.
    """

    core: RaftNode

    def __init__(
        self,
        log: NodeLog,
        *,
        node_id: str,
        members: frozenset[str],
        options: ReplicationOptions,
        makes_cluster: bool,
        **others: Any,
    ) -> None:
        if options.election_ms < _HEARTBEATS_MIN * options.heartbeat_ms:
            raise OptionError(
                f"election_ms={options.election_ms:g} is less than {_HEARTBEATS_MIN} times "
                f"heartbeat_ms={options.heartbeat_ms:g}"
            )
        if makes_cluster:
            _found_cluster(log, node_id, members)
        self._ledger = Ledger(log, members, damaged=log.claim is not None)
        self._held = False
        self._founding = _is_founding(self._ledger.configurations())
        self._admitted = threading.Event()
        self._reads: dict[int, asyncio.Future[int]] = {}
        self._next_read = 0
        self._member_since_ms: dict[str, float] = {}
        self._learning_since_ms: dict[str, float] = {}
        self._changes: set[_Change] = set()  # that are waited for
        self._change: _Change | None = None  # that the core is about to answer
        self._transfer: asyncio.Future[str] | None = None
        self._target = ""
        self._configuration_lsn = 0
        super().__init__(
            log, node_id=node_id, members=members, options=options, makes_cluster=False, **others
        )
        self._note_members()

    def _make_core(self) -> RaftNode:
        options, log = self._options, self._log
        return RaftNode(
            self._node_id,
            _View(log, self._samples),
            log.term,
            log.committed_lsn,
            self._ledger.configurations(),
            random.SystemRandom().uniform,
            monotonic_ms(),
            core_options(options),
            RaftOptions(options.election_ms, options.stall_ms, options.uncommitted_bytes_max),
        )

    def _handlers_by_kind(self) -> dict[type, Callable[[Any], None]]:
        return super()._handlers_by_kind() | {
            effects.HoldAppends: self._hold_appends,
            effects.ReadReady: self._read_ready,
            effects.ReadRefused: self._read_refused,
            effects.TransferFailed: self._transfer_failed,
            effects.ChangeRefused: self._change_refused,
        }

    def _disk_handlers_by_kind(self) -> dict[type, Callable[[Any], None]]:
        own = {effects.AppendConfiguration: self._append_configuration}
        return super()._disk_handlers_by_kind() | own

    async def stop(self) -> None:
        """Ends; no task and no connection is left."""
        await super().stop()
        self._end_requests(self.calls.closed())
        try:
            await asyncio.to_thread(self._ledger.write, self._ledger.mark())
        except (OSError, WALStoreError) as error:  # the next opening reads more of the log
            logger.warning("%s: %s", self._node_id, error)

    def _fail(self, error: Exception) -> None:
        super()._fail(error)
        self._end_requests(self.error or error)

    def _end_requests(self, error: Exception) -> None:
        changes = [change.made for change in self._changes]
        for future in [*self._reads.values(), *changes, self._transfer]:
            if future is not None and not future.done():
                future.set_exception(error)
        self._reads.clear()
        self._admitted.set()

    # ---- lost disks ----

    def _receive(self, peer: str, term: int, body: CoreBody) -> None:
        if isinstance(body, SyncRequest) and self._has_lost_disk(peer, body):
            error = LostDiskError(peer)
            self.network.refuse(peer, str(error), CloseCode.LOST_DISK)
        else:
            super()._receive(peer, term, body)

    def _has_lost_disk(self, peer: str, request: SyncRequest) -> bool:
        """Whether a node that asks for the whole log had one, and does not know: who votes does,
        but in a cluster that has not written down who votes yet."""
        core = self.core
        return (
            not (request.lsn or request.mending)
            and self.leading
            and peer in core.configuration.quorum.nodes
            and core.configuration_lsn != self._ledger.assumed
        )

    def _on_network(self, event: NetworkEvent) -> None:
        super()._on_network(event)
        if not isinstance(event, NodeDisconnected):
            return
        if event.code != CloseCode.REPLACED:
            self._input(lambda: self.core.gone(event.node_id, monotonic_ms()))
        if event.code == CloseCode.LOST_DISK and not self._log.last_lsn:
            self._fail(LostDiskError(self._node_id))

    # ---- the members ----

    @property
    def members(self) -> frozenset[str]:
        """Every node of the cluster. From any thread."""
        return self.core.configuration.members | {self._node_id}

    def voters(self) -> frozenset[str]:
        return self.core.configuration.voters

    def _unseen_since_ms(self, node: str) -> float:
        return self._member_since_ms.get(node, monotonic_ms())  # not noted yet: just now

    def _configuration_at(self, lsn: int) -> bytes:
        return self._ledger.at(lsn)

    def keep_configuration(self, lsn: int) -> None:
        """Keeps what the entries before lsn say of the members. From any thread; durable at
        return."""
        if self._ledger.marked_lsn < lsn - 1:
            self._ledger.write(self.calls.call(self._ledger.mark))

    def _append_term_entry(self, effect: effects.AppendTermEntry) -> None:
        self._ledger.cut(self._log.last_lsn)  # the disk may have refused what was noted
        super()._append_term_entry(effect)

    def _append_records(self, effect: effects.AppendRecords) -> None:
        self._ledger.cut(effect.from_lsn - 1)  # as above
        for lsn, payload in effect.batch.configurations:
            if lsn >= effect.from_lsn:
                self._ledger.note(lsn, payload)
        super()._append_records(effect)

    def _cut_diverged(self, effect: effects.CutDiverged) -> None:
        super()._cut_diverged(effect)
        self._ledger.cut(effect.after_lsn)

    def _take_snapshot_part(self, effect: effects.TakeSnapshotPart) -> None:
        if effect.last:  # the log is about to begin anew behind it
            part = effect.part
            known = ((part.lsn, bytes(part.configuration)),)
            self._ledger.write(self._ledger.mark(), Mark(part.lsn, part.lsn_term, known))
        super()._take_snapshot_part(effect)

    def _reset(self, effect: effects.Reset) -> None:
        try:
            super()._reset(effect)
        finally:  # also where the log has begun anew, and then the disk failed
            if self._log.first_lsn == effect.first_lsn:
                self._ledger.begin_anew()

    def _append_configuration(self, effect: effects.AppendConfiguration) -> None:
        try:
            lsn = self._log.append_configuration(effect.payload)
        except LogFullError as error:
            logger.warning("%s: the members stay as they are: %s", self._node_id, error)
            self._configuration_lsn = 0
            return
        self._ledger.note(lsn, effect.payload)
        self._configuration_lsn = lsn

    def _leave_disk(self, effect: Effect, done: bool) -> None:
        super()._leave_disk(effect, done)
        if isinstance(effect, effects.AppendConfiguration):
            lsn = self._configuration_lsn
            self._effects.extend(self.core.configured(lsn, monotonic_ms()))
            self._note_members()
            self._admit()
            change, self._change = self._change, None
            if change is not None and lsn:
                change.lsn = lsn
            elif change is not None:
                change.refuse("the disk has no space for it")
        elif isinstance(effect, effects.AppendTermEntry) and not done:
            self._effects.extend(self.core.resign(monotonic_ms()))

    def _gives_up(self, effect: Effect) -> bool:
        return isinstance(effect, effects.AppendTermEntry)

    def _change_refused(self, effect: effects.ChangeRefused) -> None:
        change, self._change = self._change, None
        if change is not None:
            change.refuse(effect.reason)

    async def change_members(self, wish: Wish, timeout_s: float) -> int:
        """See ReplicationWALManager.add_learner. What comes amid the steps of an earlier change the
        core refuses; one that waits for a newcomer to get the log gives way."""
        self._check_leading()
        change = _Change(self.loop.create_future())
        self._changes.add(change)
        try:
            async with asyncio.timeout(timeout_s):
                self._input(partial(self._begin_change, change, wish))
                return await change.made
        except TimeoutError:
            receipt, reason = self.core.receipt(self.core.configuration_lsn), self._not_yet(change)
            raise ReplicationTimeoutError(
                receipt, "quorum", "committed", timeout_s, reason=reason
            ) from None
        finally:
            self._changes.remove(change)

    def _begin_change(self, change: _Change, wish: Wish) -> list[Effect]:
        if change.made.done():  # nobody waits for it any more
            return []
        try:
            change.wanted = self.core.configuration.wished(wish)
        except MembershipError as error:
            change.refuse(error.reason)
            return []
        if self.core.configuration_lsn and self.core.configuration.outcome == change.wanted:
            change.lsn = self.core.configuration_lsn  # it is under way, or made, already
            return []
        self._change = change  # answered before the core gets its next input
        return self.core.change(*change.wanted, monotonic_ms())

    def _turn(self) -> None:
        super()._turn()
        if self._changes:  # before a later one is in the log: the turn ends where the disk begins
            self._look_at_changes()

    def _look_at_changes(self) -> None:
        """Tells those who wait what has become of the changes that are in the log."""
        core = self.core
        for change in self._changes:
            if not change.lsn or change.made.done():
                continue
            if self._has_become(*change.wanted):
                change.made.set_result(core.configuration_lsn)
            elif not self.leading:
                change.refuse("the leader changed meanwhile; it may still be made")
            elif core.configuration.outcome != change.wanted:
                coming = ", ".join(sorted(core.configuration.newcomers))
                still = f", after which these are yet to vote: {coming}" if coming else ""
                change.refuse(f"a later change has taken the place of this one{still}")

    def _not_yet(self, change: _Change) -> str:
        """Why a change is not made."""
        core = self.core
        if not change.lsn:
            return "it is not written to the leader's log"
        if core.configuration_lsn > core.committed_lsn:
            receipt = core.receipt(core.configuration_lsn)
            return f"its entry, lsn {core.configuration_lsn}, is not committed; known: {receipt}"
        coming = ", ".join(sorted(core.configuration.newcomers))
        return f"not with all of the log yet: {coming}" if coming else "its last step is not begun"

    def _has_become(self, voters: Set[str], learners: Set[str]) -> bool:
        """Whether these are the members, for good."""
        core = self.core
        now = core.configuration
        settled = not (now.joint or now.target) and core.configuration_lsn <= core.committed_lsn
        return settled and (now.voters, now.learners) == (voters, learners)

    async def _maintain(self) -> None:
        own = begin_task(self._keep_members(), self._fail)
        try:
            await super()._maintain()
        finally:
            own.cancel()

    async def _keep_members(self) -> None:
        """The log of a cluster that did not elect before says nothing of its members: the first
        leader writes it down. And learners that are gone for too long are removed."""
        while True:
            if self.leading and self.core.configuration_lsn == self._ledger.assumed:
                self._input(self._write_down)
            self._note_members()  # those of another leader, too
            gone = self._gone() if self.leading else []
            if gone and not self._changes:
                await self._remove_gone(gone)
            await asyncio.sleep(self._options.election_ms / 1000)

    def _note_members(self) -> None:
        """Notes since when each node has been a member, and each learner without a vote has been
        one."""
        now, now_ms = self.core.configuration, monotonic_ms()
        self._member_since_ms = {
            node: self._member_since_ms.get(node, now_ms) for node in self.members
        }
        self._learning_since_ms = {
            node: self._learning_since_ms.get(node, now_ms) for node in now.learners - now.voters
        }

    def _gone(self) -> list[str]:
        """Learners without a vote that were not heard for too long, nor became learners since."""
        return [node for node in sorted(self._learning_since_ms) if self._is_gone(node)]

    async def _remove_gone(self, gone: Sequence[str]) -> None:
        limit_s = self._options.learner_gone_s
        logger.warning("%s: gone for %g s, removed: %s", self._node_id, limit_s, ", ".join(gone))
        try:
            with self._unless_ended():
                await self.change_members(
                    lambda voters, learners: (voters - {*gone}, learners - {*gone}),
                    self._options.election_ms / 1000,
                )
        except WALStoreError as error:  # it is tried again
            logger.info("%s: %s", self._node_id, error)

    def _is_gone(self, node: str) -> bool:
        since_ms = max(self._role_since_ms, self._learning_since_ms[node])
        seen_ms = max(self._seen_ms.get(node, 0.0), since_ms)
        gone_s = (monotonic_ms() - seen_ms) / 1000
        return node not in self.network.connected and gone_s >= self._options.learner_gone_s

    def _write_down(self) -> list[Effect]:
        core = self.core
        if core.configuration_lsn != self._ledger.assumed:  # somebody's change has, meanwhile
            return []
        return core.change(core.configuration.voters, set(), monotonic_ms())

    # ---- appends ----

    def _let_appends_in(self) -> None:
        self._log.accept_appends(True, hold=True)
        self._hold_or_admit()

    def _watches_disk(self) -> bool:
        return True

    def _hold_appends(self, effect: effects.HoldAppends) -> None:
        self._held = effect.hold
        self._admit()
        if effect.hold:
            self._input(lambda: self.core.held(monotonic_ms()))

    def _admit(self) -> None:
        """Lets users' appends in, or keeps them out, while this node leads."""
        if self.leading:
            self._hold_or_admit()

    def _hold_or_admit(self) -> None:
        hold = self._keeps_appends_out()
        if hold:
            self._admitted.clear()
        self._log.hold_appends(hold)
        if not hold:
            self._admitted.set()

    def _keeps_appends_out(self) -> bool:
        """Also while the first node of a new cluster would commit them alone."""
        now = self.core.configuration
        self._founding = self._founding and bool(now.target) and len(now.voters) == 1
        return self._held or self._founding

    def _role_changed(self, effect: effects.RoleChanged) -> None:
        super()._role_changed(effect)
        if effect.role != "leader":
            self._held = False
            self._admitted.set()  # for those who wait to see that it leads no longer

    def _leads_within(self, timeout_s: float) -> bool:
        if self.leading and not self._admitted.wait(timeout_s):
            raise TooFewNodesError("quorum", (self._node_id, *self.connected))
        return self.leading

    # ---- reads ----

    async def linearizable_lsn(self, timeout_s: float) -> int:
        """See ReplicationWALManager.linearizable_lsn."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (lsn := await self._ask_to_read()):
                    await asyncio.sleep(_LOOK_S)
                return lsn
        except TimeoutError:
            raise ReplicationTimeoutError(
                self.core.receipt(self.core.committed_lsn), "quorum", "confirmed", timeout_s
            ) from None

    async def _ask_to_read(self) -> int:
        """The lsn; 0: not now."""
        self._check_leading()
        self._next_read += 1
        read_id = self._next_read
        future: asyncio.Future[int] = self.loop.create_future()
        self._reads[read_id] = future
        self._input(lambda: self.core.read(read_id, monotonic_ms()))
        try:
            return await future
        finally:
            self._reads.pop(read_id, None)

    def _read_ready(self, effect: effects.ReadReady) -> None:
        self._answer_read(effect.read_id, effect.lsn)

    def _read_refused(self, effect: effects.ReadRefused) -> None:
        self._answer_read(effect.read_id, 0)

    def _answer_read(self, read_id: int, lsn: int) -> None:
        future = self._reads.get(read_id)
        if future is not None and not future.done():
            future.set_result(lsn)

    # ---- who leads ----

    def _check_leading(self) -> None:
        self.check()
        if not self.leading:
            raise self.not_leader()

    async def promote(self, force: bool, timeout_s: float) -> int:
        """Asks the leader to hand over; where there is none, waits until one is elected.

        Raises:
            PromotionError: this node does not vote, or does not lead in time.
        """
        if force:
            raise OptionError("a node that is elected cannot be forced to lead: leave force out")
        deadline_s = time.monotonic() + timeout_s
        while not self.leading:
            self.check()
            core, leader_id = self.core, self.core.leader_id
            if self._node_id not in core.configuration.voters:
                raise PromotionError(self._node_id, {self._node_id: "it is no voter"}, elected=True)
            if time.monotonic() >= deadline_s:
                reason = "it did not hand over in time" if leader_id else "no leader was elected"
                raise PromotionError(
                    self._node_id, {leader_id or self._node_id: reason}, elected=True
                )
            if leader_id not in (None, self._node_id):
                ask = effects.Send(str(leader_id), TimeoutNow())
                self._input(lambda ask=ask: [ask])  # type: ignore[misc]
            await asyncio.sleep(self._options.heartbeat_ms / 1000)
        return self.core.term

    async def demote(self) -> int:
        """Hands over to the voter that has most; where nobody takes over, begins a term in which
        nobody leads.

        Raises:
            PromotionError: an earlier hand-over is under way.
        """
        self.check()
        target = self._best_voter()
        if self.leading and target is not None:
            await self._hand_over(target)
        if self.leading:
            return await super().demote()
        while self._work is not None:
            await asyncio.wait([self._work])
        return self.core.term

    async def transfer(self, node: str | None) -> int:
        """See ReplicationWALManager.transfer."""
        self._check_leading()
        target = self._best_voter() if node is None else node
        if target is None:
            raise PromotionError(
                self._node_id, {"nobody": "no other voter is connected"}, elected=True
            )
        reason = await self._hand_over(target)
        if self.leading:
            raise PromotionError(
                target, {target: reason or "it did not lead in time"}, elected=True
            )
        return self.core.term

    async def _hand_over(self, target: str) -> str:
        """Has another node lead; why not, where it does not in time. The core says when that is,
        but while the disk holds it up.

        Raises:
            PromotionError: another one is about to lead.
        """
        if self._transfer is not None:
            raise PromotionError(target, {self._target: "it is about to lead"}, elected=True)
        failed = self._transfer = self.loop.create_future()
        self._target = target
        deadline_ms = monotonic_ms() + _HAND_OVER_ELECTIONS * self._options.election_ms

        def begin() -> list[Effect]:
            return self.core.transfer(target, monotonic_ms()) if self._transfer is failed else []

        try:
            self._input(begin)
            while self.leading and not failed.done() and monotonic_ms() < deadline_ms:
                await asyncio.wait([failed], timeout=_LOOK_S)
        finally:
            self._transfer = None
        reason = failed.result() if failed.done() else ""
        self.check()  # closed, it leads no longer, and has handed over nothing
        return reason

    def _best_voter(self) -> str | None:
        progress = {node: self.core.progress(node) for node in self.core.configuration.voters}
        there = [
            (known.matched_lsn, node)
            for node, known in progress.items()
            if known is not None and known.connected
        ]
        return max(there)[1] if there else None

    def _transfer_failed(self, effect: effects.TransferFailed) -> None:
        logger.info("%s: %s does not take over: %s", self._node_id, effect.node, effect.reason)
        failed = self._transfer if self._target == effect.node else None
        if failed is not None and not failed.done():
            failed.set_result(effect.reason)

    # ---- what people look at ----

    def status(self) -> NodeStatus:
        """This node and the others. In the loop."""
        self._note_members()
        now = self.core.configuration
        settled = self._has_become(now.voters, now.learners)
        return (
            super()
            .status()
            .with_members(
                now.voters,
                now.learners,
                now.outgoing,
                now.newcomers,
                now.leaving,
                changing=not settled,
            )
        )
