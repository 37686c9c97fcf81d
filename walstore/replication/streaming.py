"""WALReplicationManager: carries out what the core decides, on a log and a network.

Everything here runs in one event loop. Inputs (a message, bytes that were written or became
durable, time) go to the core one after the other; what it wants done is done in order. What must
wait for the disk (a term, a cut) is done in a thread, and what comes meanwhile waits in line. The
few methods that may be called from any thread say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Set
from concurrent.futures import Future
from functools import partial
from typing import Any, Literal, TypeVar

from walstore._native import lib
from walstore.errors import (
    CorruptLogError,
    LogFullError,
    OptionError,
    RefusedRecordsError,
    WALStoreError,
)
from walstore.replication import effects
from walstore.replication.acks import Acks, Receipt, Stage
from walstore.replication.addressing import Addressing
from walstore.replication.auditing import Auditor
from walstore.replication.background import LoopCalls
from walstore.replication.candidacy import Candidacy
from walstore.replication.core import Core, CoreBody, CoreOptions
from walstore.replication.effects import Effect
from walstore.replication.errors import (
    FatalReplicationError,
    MessageError,
    NotLeaderError,
    PromotionError,
    QuarantinedError,
)
from walstore.replication.events import ReplicationEvent, RoleChanged
from walstore.replication.lag import DiskWatch, Samples
from walstore.replication.log import NodeLog
from walstore.replication.message import (
    Ack,
    Addresses,
    Audit,
    Audited,
    Quarantine,
    ReplicationMessage,
    WalEntry,
)
from walstore.replication.metrics import PeerMetrics
from walstore.replication.network import (
    NetworkEvent,
    NetworkManager,
    NodeConnected,
    NodeDisconnected,
)
from walstore.replication.notes import QUARANTINE_NAME, write_note
from walstore.replication.options import ReplicationOptions
from walstore.replication.receiving import Joiner, records_from
from walstore.replication.repair import damage_of, note_damage
from walstore.replication.retention import needed_from
from walstore.replication.sending import Sender
from walstore.replication.snapshots import Incoming, Snapshots
from walstore.replication.status import NodeStatus, PeerStatus
from walstore.replication.tasks import begin_task
from walstore.replication.throttle import Throttle
from walstore.replication.waiting import Waiters
from walstore.wal import files
from walstore.wal.watch import LsnWatch

__all__ = ["WALReplicationManager", "Wish", "core_options", "monotonic_ms"]

logger = logging.getLogger("walstore.replication")

T = TypeVar("T")
Nodes = Set[str]
Wish = Callable[[Nodes, Nodes], tuple[Nodes, Nodes]]
"""Of the voters and the learners there are, those there shall be."""

_MAKE_TIMEOUT_S = 60.0
_MAINTAIN_S = 0.2
_FULL_PAUSE_S = 0.5
_NOTHING = (0, 0)
_NEEDS_RAFT = "nodes elect, and change their members, with election='raft' only"
_UNSYNCED_BYTES_MAX = 4 << 20
"""A follower takes nothing more from the network while so much waits for its disk."""


class WALReplicationManager:
    """One node's replication.

    Args:
        log: its log.
        node_id, members: this node and all of its cluster.
        acks: when an entry is committed.
        wants_to_lead: asks for votes when no node leads.
        makes_cluster: leads at once: there is nobody who could have another history.
        network: makes the NetworkManager, given cluster_id, term and on_message.
        urls: where the other nodes listen, as far as is known.
        advertise: where this node tells the others that it is reached; None: it does not.
        options, snapshots: see there.
    """

    def __init__(
        self,
        log: NodeLog,
        *,
        node_id: str,
        members: frozenset[str],
        acks: Acks,
        wants_to_lead: bool,
        makes_cluster: bool,
        network: Callable[..., NetworkManager],
        urls: Mapping[str, str],
        advertise: str | None,
        options: ReplicationOptions,
        snapshots: Snapshots | None,
    ) -> None:
        self._log = log
        self._node_id = node_id
        self._given_members = members
        self._acks = acks
        self._candidacy = Candidacy(wants_to_lead, node_id, members, options.leader_timeout_ms)
        self._makes_cluster = makes_cluster
        self._mends = len(members) > 1 and not wants_to_lead
        self._options = options
        self._snapshots = snapshots
        self._samples, self._disk = Samples(), DiskWatch()
        self.core = self._make_core()
        self.network = network(
            cluster_id=lambda: log.cluster_id,
            term=lambda: self.core.term,
            on_message=self._on_message,
        )
        self._addressing = Addressing(log.path, node_id, self.network, urls, advertise)
        self._sender = Sender(
            log,
            self.network,
            self.core,
            self._input,
            self._fail,
            snapshots,
            Throttle(options.catch_up_bytes_per_s),
            monotonic_ms,
            self._configuration_at,
        )
        self._auditor = self._make_auditor()
        self.calls = LoopCalls(log.path, log.check_owner)
        self._joiner, self._incoming = Joiner(), Incoming(log.path)
        self._waiters = Waiters()
        self._inbox: deque[Callable[[], list[Effect]]] = deque()
        self._effects: deque[Effect] = deque()
        self._turning = False
        self._work: asyncio.Task[None] | None = None
        self._idle: list[asyncio.Future[None]] = []
        self._callbacks: list[Callable[[ReplicationEvent], None]] = []
        self._campaign: asyncio.Future[int] | None = None
        self._watches: list[LsnWatch] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0.0
        self._started_ms = self._role_since_ms = self._leader_heard_ms = monotonic_ms()
        self._seen_ms: dict[str, float] = {}
        self._maintenance: asyncio.Task[None] | None = None
        self._ending = False
        self._truncate_to = self._durable_armed = self._term_entry_lsn = 0
        self._demotions: list[asyncio.Future[None]] = []
        self.leading = False
        self.error: Exception | None = None
        self.application_error: Exception | None = None
        self._lacks_space = ""
        self._handlers = self._handlers_by_kind()
        self._disk_handlers = self._disk_handlers_by_kind()

    # ---- what another way to elect does differently (raft.driver) ----

    def _make_core(self) -> Core:
        log = self._log
        return Core(
            self._node_id,
            self._given_members,
            log,
            log.term,
            log.committed_lsn,
            self._acks,
            core_options(self._options),
        )

    def _make_auditor(self) -> Auditor:
        return Auditor(
            self._node_id,
            self._log,
            self.network,
            self.core,
            self.voters,
            self._fail,
            self._quarantine,
            self._options.audit_bytes,
            self._options.audit_ms,
        )

    @property
    def members(self) -> frozenset[str]:
        """Every node of the cluster. From any thread."""
        return self._given_members

    def voters(self) -> frozenset[str]:
        """The nodes that vote, and whose word counts in an audit. From any thread."""
        return self._given_members

    def _unseen_since_ms(self, node: str) -> float:
        """Since when a member has been one that this process has not seen yet."""
        return self._started_ms

    def _configuration_at(self, lsn: int) -> bytes:
        """What a snapshot of lsn says of the members; nothing where they stay the same."""
        return b""

    def _let_appends_in(self) -> None:
        self._log.accept_appends(True, alone=self._acks.alone)

    def _watches_disk(self) -> bool:
        """Whether a leader is to hear at once of what is durable here."""
        return self._acks.alone or bool(self._waiters)

    def _gives_up(self, effect: Effect) -> bool:
        """Whether what the disk has no space for is left undone, rather than waited for."""
        return False

    def _leave_disk(self, effect: Effect, done: bool) -> None:
        """What the core is told when the disk has done something, or had no space for it."""
        if done and isinstance(effect, effects.AppendTermEntry):
            self._begin_to_lead()

    def keep_configuration(self, lsn: int) -> None:
        """What is before lsn is about to be dropped, and may say who the members are. From any
        thread; durable at return."""

    async def linearizable_lsn(self, timeout_s: float) -> int:
        """See ReplicationWALManager.linearizable_lsn."""
        raise OptionError(_NEEDS_RAFT)

    async def transfer(self, node: str | None) -> int:
        """See ReplicationWALManager.transfer."""
        raise OptionError(_NEEDS_RAFT)

    async def change_members(self, wish: Wish, timeout_s: float) -> int:
        """See ReplicationWALManager.add_learner.

        Args:
            wish: gives the voters and the learners there shall be, of those there are.
        """
        raise OptionError(_NEEDS_RAFT)

    # ---- the handlers ----

    def _handlers_by_kind(self) -> dict[type, Callable[[Any], None]]:
        return {
            effects.AppendRecords: self._append_records,
            effects.SetCommitted: self._set_committed,
            effects.Send: self._send,
            effects.SendEntries: self._sender.entries,
            effects.SendSnapshot: self._sender.snapshot,
            effects.RoleChanged: self._role_changed,
            effects.Elected: self._elected,
            effects.VoteFailed: self._vote_failed,
            effects.Refuse: self._refuse,
            effects.StopFollowing: self._stop_following,
        }

    def _disk_handlers_by_kind(self) -> dict[type, Callable[[Any], None]]:
        """Of those that wait for the disk: they are done in a thread."""
        return {
            effects.PersistTerm: self._persist_term,
            effects.AppendTermEntry: self._append_term_entry,
            effects.CutDiverged: self._cut_diverged,
            effects.Reset: self._reset,
            effects.TakeSnapshotPart: self._take_snapshot_part,
        }

    # ---- life (background.Service) ----

    async def start(self) -> None:
        """Begins; returns when the node listens, and leads where it makes the cluster.

        Raises:
            OSError: the address is taken, or no descriptors are left.
            OptionError: the log serves as many event loops as it can.
            WALStoreError: the log does not take the new term.
        """
        self.loop = self.calls.loop = asyncio.get_running_loop()
        self.core.claim(*(self._log.claim or _NOTHING))
        self._written = self._watch(lib.WALCORE_LEVEL_WRITTEN, self._on_written)
        self._durable = self._watch(lib.WALCORE_LEVEL_DURABLE, self._on_durable)
        self.network.subscribe(self._on_network)
        self.network.fail = self._fail
        if self._log.quarantine is not None:
            self.error = QuarantinedError(self._node_id, **self._log.quarantine)
            logger.error("%s; %s", self.error, self.error.hint)
            return
        await self.network.start()
        self._addressing.begin()
        self._arm_durable(self._log.durable_lsn + 1)
        if self._makes_cluster:
            await self.promote(force=True, timeout_s=_MAKE_TIMEOUT_S)
        self._maintenance = begin_task(self._maintain(), self._fail)
        self._arm_timer()

    async def stop(self) -> None:
        """Ends; no task and no connection is left."""
        if self._maintenance is not None:
            self._maintenance.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._inbox.clear()
        self._effects.clear()
        self._ending = True
        self.leading = False  # before the log takes none: who is refused would try again
        self._log.accept_appends(False)
        self._end_demotions(self.calls.closed())
        while self._work is not None:
            await asyncio.wait([self._work])
        self._sender.clear()
        await self._auditor.stop()
        self._incoming.close()
        await self.network.stop()
        for watch in self._watches:
            watch.close()
        self._candidacy.withdraw()
        self._waiters.fail(self.calls.closed())
        for waiting in self._idle:
            waiting.cancel()
        if self._addressing.changed:  # who moves next would look for the others where they were
            await asyncio.to_thread(self._addressing.keep)

    def _watch(self, level: int, callback: Callable[[], None]) -> LsnWatch:
        watch = self._log.watch(level, callback)
        self._watches.append(watch)  # to be closed, also where the next one is refused
        return watch

    def _end_demotions(self, error: Exception) -> None:
        for done in self._demotions:
            if not done.done():
                done.set_exception(error)
        self._demotions.clear()

    # ---- turns: inputs to the core, effects from it ----

    @property
    def _has_ended(self) -> bool:
        """Whether this node takes no part any more, amid effects that are not carried out."""
        return self.error is not None or self._ending

    def _input(self, thunk: Callable[[], list[Effect]]) -> None:
        """Gives the core an input when its turn has come; at once, if nothing is under way. Not any
        more when replication has ended, amid effects that were not carried out."""
        if self._has_ended:
            return
        self._inbox.append(thunk)
        if not self._turning and self._work is None:
            self._turn()

    def _turn(self) -> None:
        self._turning = True
        self.network.hold()
        try:
            while self._effects or self._inbox:
                if not self._effects:
                    self._effects.extend(self._ask(self._inbox.popleft()) or ())
                    continue
                effect = self._effects.popleft()
                slow = self._disk_handlers.get(type(effect))
                if slow is not None:
                    if isinstance(effect, effects.PersistTerm):
                        self._end_term()
                    self._work = begin_task(self._on_disk(slow, effect), self._fail)
                    return
                self._handlers[type(effect)](effect)
        finally:
            self._turning = False
            self.network.release()
        self._arm_timer()
        if self._waiters:
            self._waiters.look()
        if self._idle and not self._is_ahead_of_disk():
            for future in self._idle:
                if not future.done():
                    future.set_result(None)
            self._idle.clear()

    def _ask(self, question: Callable[[], T]) -> T | None:
        """What the core answers. It may look up terms in the log: where that cannot be read, or the
        core makes a mistake, what it has decided is half done, so that this node takes no part any
        more; None then."""
        if self.error is not None:
            return None
        try:
            return question()
        except (OSError, WALStoreError, MemoryError) as error:
            self._fail(error)
        except Exception as error:  # a mistake of ours, as in a task
            logger.exception("this node's core made a mistake")
            self._fail(error)
        return None

    def _end_term(self) -> None:
        """The next term is about to be made durable: what is still on its way of a leadership of
        the one before must not leave under the new number."""
        self.leading = False
        self._sender.clear()

    async def _on_disk(self, work: Callable[[Any], None], effect: Effect) -> None:
        done = False
        try:
            while not done:
                try:
                    await asyncio.to_thread(work, effect)
                    self._lacks_space = ""
                    done = True
                except LogFullError as error:  # nothing was changed: there may be space later
                    if self._has_ended:
                        return
                    self._lacks_space = str(error)
                    logger.warning("%s: waiting for space: %s", self._node_id, error)
                    if self._gives_up(effect):
                        break
                    await asyncio.sleep(_FULL_PAUSE_S)
        except Exception as error:  # the application's, too: nothing that follows may be done
            self._fail(error)
            return
        finally:
            self._work = None
        if self._has_ended:
            return
        self._ask(partial(self._leave_disk, effect, done))
        self._turn()

    def _on_message(self, peer: str, message: ReplicationMessage) -> asyncio.Future[None] | None:
        """A message from a peer. The future, if any, is done when the next may come."""
        if self.error is not None:
            return None
        body = message.body
        if isinstance(body, WalEntry):
            self._leader_heard_ms = monotonic_ms()
            try:
                batch = self._joiner.batch(peer, message.term, body)
            except (MessageError, RefusedRecordsError) as error:
                self.network.refuse(peer, str(error))
                return None
            if batch is None:
                return None
            self._receive(peer, message.term, batch)
        elif isinstance(body, Addresses):
            self._addressing.told(peer, body.known, self.members)
        elif isinstance(body, Audit | Audited | Quarantine):
            self._on_audit(peer, message.term, body)
            return None
        elif isinstance(body, CoreBody):
            if self.leading and isinstance(body, Ack) and body.durable_lsn > self._log.durable_lsn:
                self._arm_durable(body.durable_lsn)
            self._receive(peer, message.term, body)
        if self._work is None and not self._is_ahead_of_disk():
            return None
        future = self.loop.create_future()
        self._idle.append(future)
        return future

    def _on_audit(self, peer: str, term: int, body: Audit | Audited | Quarantine) -> None:
        """Of the current term and its leader only: what others say changes nothing."""
        core = self.core
        if term != core.term or (peer != core.leader_id and core.role != "leader"):
            return
        match body:
            case Audited() if core.role == "leader":
                self._auditor.answered(peer, body)
            case Audit() if core.role != "leader":
                self._auditor.asked(peer, body)
            case Quarantine() if core.role != "leader":
                self._quarantine(body)

    def _quarantine(self, verdict: Quarantine) -> None:
        """This node's log is not that of the others: it ends here, also when it starts again."""
        span = {"first_lsn": verdict.first_lsn, "last_lsn": verdict.last_lsn}
        try:
            write_note(self._log.path, QUARANTINE_NAME, span)
        except OSError as error:
            logger.error("%s: the quarantine could not be noted: %s", self._node_id, error)
        self._fail(QuarantinedError(self._node_id, **span))

    def _is_ahead_of_disk(self) -> bool:
        """Whether a follower has taken more than its disk soon can."""
        return not self.leading and self._log.bytes_unsynced > _UNSYNCED_BYTES_MAX

    def _receive(self, peer: str, term: int, body: CoreBody) -> None:
        self._input(lambda: self.core.received(peer, term, body, monotonic_ms()))

    def _on_network(self, event: NetworkEvent) -> None:
        match event:
            case NodeConnected(node_id=node):
                self._seen_ms[node] = monotonic_ms()
                self._addressing.tell(node)
                self._input(lambda: self.core.connected(node, monotonic_ms()))
            case NodeDisconnected(node_id=node):
                self._seen_ms[node] = monotonic_ms()
                self._sender.forget(node)
                self._joiner.forget(node)
                self._input(lambda: self.core.disconnected(node))
        self._tell(event)

    def _on_written(self) -> None:
        # Armed before the core looks: what comes in between wakes once more. Each watch is armed
        # by its own callback only, or a wake that is on its way would be taken for one too early.
        if self.leading:  # a follower has nothing to do before its disk has
            self._written.arm(self._log.written_lsn + 1)
            self._look_at_log(self.core.written)

    def _on_durable(self) -> None:
        # A leader's own disk is mostly there before the others have answered, and is looked at
        # then: it is waited for when it is not.
        self._durable_armed = 0
        if not self.leading or self._watches_disk():
            self._arm_durable(self._log.durable_lsn + 1)
        self._look_at_log(lambda: self.core.durable(monotonic_ms()))

    def _arm_durable(self, lsn: int) -> None:
        """Never replaces what is due earlier: a wake that is on its way would be lost."""
        if not self._durable_armed or lsn < self._durable_armed:
            self._durable_armed = lsn
            self._durable.arm(lsn)

    def _look_at_log(self, thunk: Callable[[], list[Effect]]) -> None:
        try:
            self._log.check()
        except WALStoreError as error:
            self._fail(error)
            return
        now_ms = monotonic_ms()
        if self._samples.due(now_ms):
            self._note_end(now_ms)
        self._input(thunk)

    def _note_end(self, now_ms: float) -> None:
        """Notes where the log of a leader ends, from which lags are measured."""
        if self.leading:
            self._samples.note(self._log.last_lsn, self._log.bytes_written, now_ms)

    def _arm_timer(self) -> None:
        due_ms = self._ask(lambda: self.core.next_deadline_ms)
        if due_ms is None or (self._timer is not None and self._timer_ms <= due_ms):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ms = due_ms
        self._timer = self.loop.call_later(max(0.0, due_ms - monotonic_ms()) / 1000, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._input(lambda: self.core.tick(monotonic_ms()))

    def _fail(self, error: Exception) -> None:
        """The log, or what the leader says, leaves nothing to do here without a person."""
        if self.error is not None:
            return
        error = damage_of(error)
        if isinstance(error, CorruptLogError) and self._mends:
            self._note_damage(error)
        self.error = error
        self.leading = False
        self._log.accept_appends(False)
        self._candidacy.withdraw()
        hint = error.hint if isinstance(error, WALStoreError) else ""
        logger.error("%s: replication ends here: %s; %s", self._node_id, error, hint)
        self._effects.clear()
        self._inbox.clear()
        self._waiters.fail(error)
        self._end_demotions(error)
        self._end_campaign(error)
        self._stopping = begin_task(self.network.stop(), self._fail)

    def _note_damage(self, error: CorruptLogError) -> None:
        """Has the next opening cut the log before the damage."""
        try:
            note_damage(self._log.path, error)
        except OSError as refusal:
            logger.error("%s: the damage could not be noted: %s", self._node_id, refusal)

    # ---- effects ----

    def _append_records(self, effect: effects.AppendRecords) -> None:
        try:
            self._log.submit_records(records_from(effect.batch, effect.from_lsn))
            self._lacks_space = ""
        except LogFullError as error:  # the core sees where the log ends, and asks again
            self._lacks_space = str(error)
            logger.warning("%s: %s", self._node_id, error)
        except (WALStoreError, MemoryError) as error:
            self._fail(error)

    def _set_committed(self, effect: effects.SetCommitted) -> None:
        self._log.set_committed(effect.lsn)

    def _send(self, effect: effects.Send) -> None:
        self.network.send(effect.node, effect.body)

    def _persist_term(self, effect: effects.PersistTerm) -> None:
        self._log.accept_appends(False)
        self._log.adopt_term(effect.term)

    def _append_term_entry(self, effect: effects.AppendTermEntry) -> None:
        self._term_entry_lsn = self._log.append_term_entry(self._node_id.encode())

    def _begin_to_lead(self) -> None:
        """The term entry is durable, and everything before it."""
        self._samples.restart(self._log.last_lsn, self._log.bytes_written, monotonic_ms())
        self.core.began(self._term_entry_lsn)
        self._let_appends_in()
        self.leading = True
        self._candidacy.settled.set()
        self._end_campaign(None)
        self._written.arm(self._log.written_lsn + 1)
        self._effects.extend(self.core.written())
        self._effects.extend(self.core.durable(monotonic_ms()))

    def _cut_diverged(self, effect: effects.CutDiverged) -> None:
        last_lsn = self._log.last_lsn
        path = self._log.cut_diverged(effect.after_lsn, effect.term)
        logger.warning(
            "%s: entries %d to %d are not the leader's; they are kept in %s",
            self._node_id, effect.after_lsn + 1, last_lsn, path,
        )  # fmt: skip

    def _reset(self, effect: effects.Reset) -> None:
        self._log.reset(effect.first_lsn, effect.prev_term, effect.term)
        self._incoming.remove()

    def _take_snapshot_part(self, effect: effects.TakeSnapshotPart) -> None:
        part = effect.part
        if part.total_bytes:
            try:
                self._incoming.write(part.at, part.data)
            except OSError as error:
                if error.errno not in files.NO_SPACE:
                    raise
                raise LogFullError(error.errno, self._log.path) from error
        if effect.last and part.total_bytes:
            path = self._incoming.finish()
            if self._snapshots is None:
                raise FatalReplicationError(
                    f"the leader sent a snapshot of lsn {part.lsn}, and no application takes it"
                )
            self._snapshots.install(part.lsn, path)

    def _role_changed(self, effect: effects.RoleChanged) -> None:
        if effect.role != "leader":
            self.leading = False
            self._candidacy.settled.clear()
            if effect.leader_id is not None:  # it is left to lead
                self._candidacy.withdraw()
            self._log.accept_appends(False)
            self._sender.clear()
            self._arm_durable(self._log.durable_lsn + 1)
        self._role_since_ms = monotonic_ms()
        logger.info(
            "%s: %s in term %d, leader %s",
            self._node_id,
            effect.role,
            effect.term,
            effect.leader_id,
        )
        self._tell(RoleChanged(effect.role, effect.term, effect.leader_id))

    def _elected(self, effect: effects.Elected) -> None:
        logger.info("%s: elected by %s", self._node_id, ", ".join(sorted(effect.granted)))

    def _vote_failed(self, effect: effects.VoteFailed) -> None:
        self._end_campaign(PromotionError(self._node_id, effect.reasons))

    def _end_campaign(self, error: Exception | None) -> None:
        """Tells who asked for the promotion what became of it."""
        if self._campaign is None or self._campaign.done():
            return
        if error is None:
            self._campaign.set_result(self.core.term)
        else:
            self._campaign.set_exception(error)

    def _refuse(self, effect: effects.Refuse) -> None:
        self.network.refuse(effect.node, effect.reason)

    def _stop_following(self, effect: effects.StopFollowing) -> None:
        self._fail(FatalReplicationError(effect.reason))

    def _tell(self, event: ReplicationEvent) -> None:
        # Each in a turn of its own, so that a mistake of theirs is logged and harms nothing here.
        for callback in self._callbacks:
            self.loop.call_soon(callback, event)

    # ---- leading ----

    def check(self) -> None:
        """Raises what keeps this node from taking part, if anything does. From any thread."""
        if self.error is not None:
            raise self.error
        if self._ending:
            raise self.calls.closed()

    def not_leader(self) -> NotLeaderError:
        """What to raise where only a leader can do what was asked. From any thread."""
        leader_id = self.leader_id if self.leader_id != self._node_id else None
        return NotLeaderError(self._node_id, leader_id, self.url_of(leader_id))

    @property
    def role(self) -> Literal["leader", "follower"]:
        """What this node is; a leader from when it takes appends. From any thread."""
        return "leader" if self.leading else "follower"

    @property
    def leader_id(self) -> str | None:
        """Who leads, as far as is known. From any thread."""
        return self.core.leader_id

    def wait_to_lead(self, timeout_s: float) -> None:
        """Returns when this node leads and takes appends: in time, where it is to lead, or does and
        keeps them out. From any thread; the loop's own, which has that to bring about, does not
        wait.

        Raises:
            NotLeaderError: it does not.
            TooFewNodesError: it has kept them out for so long.
            ClosedLogError: it is being closed.
        """
        if not self._leads_within(0.0 if self.calls.is_here() else timeout_s):
            if self._ending:
                raise self.calls.closed()
            raise self.not_leader()

    def _leads_within(self, timeout_s: float) -> bool:
        return self.leading or (self._candidacy.wait(timeout_s) and self.leading)

    async def promote(self, force: bool, timeout_s: float) -> int:
        """Asks for votes, or leads without; returns the term.

        Raises:
            PromotionError: not enough nodes agreed.
        """
        self.check()
        if self.leading:
            return self.core.term
        while force and self._campaign is not None and not self._campaign.done():
            self._input(self.core.give_up)  # votes that were asked for before are not waited for
            await asyncio.wait([self._campaign])
        if self.leading:
            return self.core.term
        if self._campaign is None or self._campaign.done():
            self._campaign = self.loop.create_future()
            self._input(lambda: self.core.campaign(monotonic_ms(), force))
        campaign = self._campaign  # when it has ended, somebody else may begin another one
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(campaign)
        except TimeoutError:
            self._input(self.core.give_up)
        await asyncio.wait([campaign], timeout=_FULL_PAUSE_S)
        if campaign.done():
            return campaign.result()
        raise PromotionError(self._node_id, {self._node_id: "its disk does not take the new term"})

    async def demote(self) -> int:
        """Ends the leadership with a new term; returns it."""
        self._candidacy.withdraw()
        self.check()
        done = self.loop.create_future()
        self._demotions.append(done)

        def step_down() -> list[Effect]:
            self._demotions.remove(done)
            self.loop.call_soon(done.set_result, None)
            return self.core.step_down()

        self._input(step_down)
        await done
        while self._work is not None:
            await asyncio.wait([self._work])
        self.check()
        return self.core.term

    async def _maintain(self) -> None:
        """What is looked at now and then: whether to ask for votes, and what may be truncated."""
        while True:
            await asyncio.sleep(_MAINTAIN_S)
            self._disk.stalled_ms(self._log.durable_lsn, self._log.last_lsn, monotonic_ms())
            self._addressing.reach(self.members)
            if self._addressing.changed:
                await asyncio.to_thread(self._addressing.keep)
            if self._log.claim is not None and self._has_all_again():
                await self._drop_claim()
            if self.leading and len(self.members) > 1:
                self._auditor.begin(monotonic_ms())
            if self._candidacy.wanted and self._should_campaign():
                await self._campaign_quietly()
            if self._truncate_to > self._log.first_lsn:
                lsn = self.retain(self._truncate_to)
                if lsn > self._log.first_lsn:
                    await asyncio.to_thread(self._truncate, lsn)

    def _has_all_again(self) -> bool:
        """Whether the core says so now. It is not asked while a thread changes the log, which may
        show neither what it was nor what it will be."""
        return self._work is None and self._ask(lambda: self.core.lacks) is False

    async def _drop_claim(self) -> None:
        """What damage took of the log is back."""
        try:
            await asyncio.to_thread(self._log.drop_claim)
        except OSError as error:
            logger.warning("%s: the note of what it lost stays: %s", self._node_id, error)
            return
        self.core.claim(*_NOTHING)
        logger.warning("%s: its log has all again that damage took of it", self._node_id)

    def _should_campaign(self) -> bool:
        core, now_ms = self.core, monotonic_ms()
        if self.leading or self.error is not None or core.campaigning or core.leader_id is not None:
            return False
        silent_ms = now_ms - max(self._leader_heard_ms, *self._seen_ms.values(), 0.0)
        peers = self.network.metrics().peers
        return self._candidacy.is_due(
            core.term,
            silent_ms,
            len(self.network.connected),
            {node: metrics.messages_received for node, metrics in peers.items()},
        )

    async def _campaign_quietly(self) -> None:
        try:
            with self._unless_ended():
                await self.promote(False, self._options.leader_timeout_ms / 1000)
        except PromotionError as error:
            logger.warning("%s", error)

    @contextlib.contextmanager
    def _unless_ended(self) -> Iterator[None]:
        """Of a task that waits for something: what ends this node's part meanwhile, and is raised
        to all who wait, has been said, and is no mistake of the task's."""
        try:
            yield
        except Exception as error:
            if error is not self.error:
                raise

    # ---- retention ----

    def retain(self, lsn: int) -> int:
        """Up to where the log may be truncated now, of what may be truncated before `lsn`.

        Raises:
            ClosedLogError: a leader that ends no longer knows what the others need.
        """
        if self._ending:
            raise self.calls.closed()
        self._truncate_to = max(self._truncate_to, lsn)
        if not self.leading:
            return lsn
        now_ms = monotonic_ms()
        self._note_end(now_ms)
        others = self.members - {self._node_id}
        return min([lsn, *(self._needed_by(node, now_ms) for node in others)])

    def _needed_by(self, node: str, now_ms: float) -> int:
        gone_ms = now_ms - self._seen_ms.get(node, self._role_since_ms)
        return needed_from(
            self.core.progress(node), self._log, self._samples, self._options, gone_ms, now_ms
        )

    def _truncate(self, lsn: int) -> None:
        try:
            self.keep_configuration(lsn)
            self._log.drop_before(lsn)
        except (OSError, WALStoreError) as error:
            logger.warning("%s: nothing was truncated: %s", self._node_id, error)

    # ---- from any thread ----

    @property
    def url(self) -> str | None:
        """Where this node listens; None: it only dials."""
        try:
            return self.network.url
        except OptionError:
            return None

    @property
    def connected(self) -> tuple[str, ...]:
        """The nodes that are connected now."""
        return self.network.connected

    def url_of(self, node: str | None) -> str | None:
        """Where a node listens, as far as this one was told."""
        return self._addressing.url_of(node) if node is not None else None

    def receipt(self, lsn: int) -> Receipt:
        """What is known of an entry."""
        return self.core.receipt(lsn)

    def applied(self, lsn: int) -> None:
        """The application is done with everything up to lsn. In the loop."""
        self._input(lambda: self.core.applied(lsn))

    def watch(self, lsn: int, acks: Acks, stage: Stage) -> Future[None]:
        """A future that is done when an entry is where it was asked to be."""

        def look() -> None:
            if stage is Stage.RECEIVED:
                self.core.want_receipts(True)
            self._arm_durable(self._log.durable_lsn + 1)
            self._waiters.look()

        # Added here: once it is posted nobody may come any more who would run it.
        future = self._waiters.add(lsn, lambda: acks.reached(self.core.lsns(stage), self._node_id))
        self.calls.post(look)
        return future

    def subscribe(self, callback: Callable[[ReplicationEvent], None]) -> Callable[[], None]:
        """Calls back, in the loop, at each event; returns a function that ends it, and may be
        called again."""
        told = partial(callback)  # another one than where the same is subscribed twice
        self._callbacks.append(told)

        def end() -> None:
            if told in self._callbacks:
                self._callbacks.remove(told)

        return end

    # ---- what people look at ----

    def status(self) -> NodeStatus:
        """This node and the others. In the loop."""
        log, core, now_ms = self._log, self.core, monotonic_ms()
        self._note_end(now_ms)
        metrics = self.network.metrics().peers
        others = sorted(self.members - {self._node_id})
        return NodeStatus(
            node_id=self._node_id,
            cluster_id=log.cluster_id.hex(),
            url=self.url,
            role=self.role,
            leader_id=core.leader_id,
            term=core.term,
            first_lsn=log.first_lsn,
            last_lsn=log.last_lsn,
            durable_lsn=log.durable_lsn,
            committed_lsn=log.committed_lsn,
            applied_lsn=core.applied_lsn,
            acks=str(self._acks),
            since_s=(now_ms - self._role_since_ms) / 1000,
            error=self._what_ails_it(),
            stalled_s=self._disk.stalled_ms(log.durable_lsn, log.last_lsn, now_ms) / 1000,
            quarantined=isinstance(self.error, QuarantinedError),
            lost_to_lsn=log.claim.lsn if log.claim is not None else 0,
            peers=tuple(self._peer_status(node, metrics.get(node), now_ms) for node in others),
        )

    def _what_ails_it(self) -> str:
        of_application = self.application_error or self._sender.application_error
        return str(self.error or self._lacks_space or of_application or "")

    def _peer_status(self, node: str, metrics: PeerMetrics | None, now_ms: float) -> PeerStatus:
        since_ms = self._seen_ms.get(node, self._unseen_since_ms(node))
        known = PeerStatus(
            node_id=node,
            url=self.url_of(node),
            connected=node in self.network.connected,
            since_s=(now_ms - since_ms) / 1000,
        )
        progress = self.core.progress(node) if self.leading else None
        last_lsn = self._log.last_lsn
        return known.with_figures(
            metrics, progress, lambda lsn: self._samples.lag(lsn, last_lsn, now_ms)
        )


def core_options(options: ReplicationOptions) -> CoreOptions:
    """What of them the core is told."""
    return CoreOptions(
        window_bytes=options.window_bytes,
        probe_ms=options.probe_ms,
        heartbeat_ms=options.heartbeat_ms,
        commit_delay_ms=options.commit_delay_ms,
    )


def monotonic_ms() -> float:
    """The time that a node's core is told."""
    return time.monotonic() * 1000
