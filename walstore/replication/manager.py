"""ReplicationWALManager: a log whose entries reach other nodes, as its users see it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Set
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from typing import Any, Literal

from walstore._native import lib
from walstore.errors import (
    CommitTimeoutError,
    CorruptLogError,
    LogAccessError,
    LSNOutOfRangeError,
    NotALogError,
    OptionError,
    WALStoreError,
)
from walstore.limits import LSN_MAX
from walstore.replication.acks import Acks, AcksOption, Receipt, Stage, parse_acks
from walstore.replication.background import Background
from walstore.replication.clients import ClientHandler
from walstore.replication.errors import (
    MembershipError,
    QuarantinedError,
    ReplicationTimeoutError,
    TooFewNodesError,
)
from walstore.replication.events import ReplicationEvent
from walstore.replication.joining import ask_cluster_id, meet, without_log
from walstore.replication.log import CONFIGURATIONS_NAME, NodeLog
from walstore.replication.message import NO_CLUSTER, is_node_id
from walstore.replication.metrics import NetworkMetrics
from walstore.replication.network import NetworkManager
from walstore.replication.options import NetworkOptions, ReplicationOptions
from walstore.replication.repair import (
    damage_of,
    is_mendable,
    mend_log,
    note_damage,
    was_damaged,
    with_hint,
)
from walstore.replication.requests import is_client_id
from walstore.replication.security import TLS, Security
from walstore.replication.snapshots import Snapshots
from walstore.replication.status import NodeStatus
from walstore.replication.streaming import WALReplicationManager, Wish
from walstore.replication.terms import next_term, term_bits
from walstore.replication.waiting import Deadlines
from walstore.wal.arguments import checked_lsn, checked_path
from walstore.wal.commit import Commit
from walstore.wal.manager import FileWALManager, Payload
from walstore.wal.reading import Snapshot
from walstore.wal.record import DATA
from walstore.wal.segment import parse_name
from walstore.wal.writing import Replicated

__all__ = ["ReplicatedCommit", "ReplicationWALManager"]

logger = logging.getLogger("walstore.replication")

_ONLY_QUORUM = (
    "with election='raft' an append is committed by a quorum of the voters, on their disks: "
    "acks is 'quorum', and stage is Stage.DURABLE"
)

Role = Literal["leader", "follower"]


class ReplicatedCommit(Commit):
    """An entry on its way to the disks of several nodes.

    Attributes:
        lsn: its place in the log, should it be committed.
        acks, stage: which nodes it is waited for on, and how far it must have come there.
    """

    __slots__ = ("_node", "acks", "stage")

    def __init__(
        self, node: ReplicationWALManager, generation: int, lsn: int, acks: Acks, stage: Stage
    ) -> None:
        group = node._group
        assert group is not None
        super().__init__(group, generation, lsn)
        self._node = node
        self.acks = acks
        self.stage = stage

    @property
    def receipt(self) -> Receipt:
        """What is known now: which node holds the entry, and at which stage."""
        return self._node.receipt(self.lsn)

    def wait(self, timeout_s: float | None = None) -> int:
        """Waits until the entry is where `acks` asks, and returns its lsn. In a callback of the
        node's, whose thread has to bring that about, it does not wait.

        Args:
            timeout_s: by default the node's.

        Raises:
            ReplicationTimeoutError: not known in time, with the receipt. It may still get there.
            EntryTruncatedError: another leader's entry has its place.
            LogFullError, LogPoisonedError: as Commit.wait.
        """
        limit_s = self._node.timeout_s if timeout_s is None else timeout_s
        self._wait(limit_s, limit_s)
        return self.lsn

    def _wait(self, left_s: float, limit_s: float) -> None:
        if self._node._is_own_to_do(self.acks, self.stage):
            left_s = 0.0
        deadline_s = time.monotonic() + left_s
        usual = self._node._is_usual(self.acks, self.stage)
        level = lib.WALCORE_LEVEL_COMMITTED if usual else lib.WALCORE_LEVEL_DURABLE
        here = self.acks.alone and self.stage is not Stage.APPLIED  # nobody else is asked
        acked = None
        if not (usual or here):
            acked = self._node._streaming.watch(self.lsn, self.acks, self.stage)
        try:
            self._group.wait(self._generation, self.lsn, level, left_s)
            if acked is not None:
                acked.result(max(0.0, deadline_s - time.monotonic()))
        except (CommitTimeoutError, FutureTimeoutError):
            self._check_fate()
            raise self._timeout(limit_s) from None
        finally:
            if acked is not None:
                acked.cancel()
        self._check_fate()

    def check(self) -> None:
        """Raises what keeps the entry out of the log for good, where that is known by now.

        Raises:
            LogFullError, EntryTruncatedError: as `wait`.
        """
        self._check_fate()

    def _check_fate(self) -> None:
        """Raises when the entry is known to be gone: what was acknowledged of its lsn is another's
        then."""
        fate = lib.walcore_fate_of(self._group.raw, self._generation, self.lsn)
        if fate:
            raise self._group.error(fate, self.lsn)

    def __await__(self) -> Generator[Any, None, int]:
        self._group.check_owner()
        node = self._node
        if not node._is_usual(self.acks, self.stage):
            yield from self._acked().__await__()
        elif not (self._seems_done() and self.done()):
            yield from node._committed_future(self).__await__()
        return self.lsn

    async def _acked(self) -> None:
        future = asyncio.wrap_future(self._node._streaming.watch(self.lsn, self.acks, self.stage))
        try:
            async with asyncio.timeout(self._node.timeout_s):
                await future
        except TimeoutError:
            self._check_fate()
            raise self._late() from None
        finally:
            future.cancel()
        self._check_fate()

    def _late(self) -> ReplicationTimeoutError:
        return self._timeout(self._node.timeout_s)

    def _timeout(self, timeout_s: float) -> ReplicationTimeoutError:
        return ReplicationTimeoutError(
            self.receipt, str(self.acks), self.stage.name.lower(), timeout_s
        )


class ReplicationWALManager(FileWALManager):
    """A log on several nodes, of which one leads: a FileWALManager whose appends are done when as
    many nodes as `acks` asks hold the entry.

    Args:
        path: the log's directory. A node without a log takes part in one of two ways: with
            role="leader" it makes a new cluster; otherwise it asks its peers which log theirs is,
            and becomes a copy of it.
        node_id: this node's name, at most 64 bytes; no two nodes of a cluster share one.
        listen: "host:port" to be reached at; port 0 picks a free one, see `url`. None: this node
            only dials.
        advertise: the url that this node tells the others to reach it at, which need not be where
            it listens; port 0 is the one it listens at. They keep it, and find the node again when
            it comes back elsewhere. None: the others know it from their `peers` alone.
        peers: the other nodes of the cluster: {node id: "ws://host:port" or "wss://...", or None
            where only that node dials}.
        role: what the node shall be. "leader": leads when it makes the cluster; otherwise it asks
            the others for their votes as soon as a majority is connected, unless one of them leads.
            Not with election="raft".
        election: who says which node leads. "manual": a person, with `role` and `promote`. "raft":
            the nodes; see docs/replication.md, "Elected clusters". Nodes that have no log yet
            then make a cluster together, of all that are named here, when each has met all others.
            Where there is a log it says who the members are.
        acks: when an entry counts as committed, and what an append waits for: "quorum", a majority
            of all nodes; "all"; "async", the leader alone; a number of nodes, the leader included;
            or a set of node ids. Always durable there. With election="raft", "quorum": a majority
            of the voters, by which an append is committed for good.
        timeout_s: how long an append waits for that.
        too_few: what an append does when fewer nodes than `acks` asks are connected: "wait" for
            them until the timeout, or "refuse" at once with nothing appended.
        secret: proves to each other that nodes belong together, and signs every message. At least
            16 bytes.
        tls: certificates instead, with the node id in each.
        insecure: allows neither, off loopback.
        segment_bytes, clock, entropy: as of FileWALManager.
        snapshots: where the application's snapshots come from and go to; see Snapshots.
        options, network: timings and limits.

    Raises:
        OptionError: an option makes no sense, or the node would be open to strangers.
        UnreachableError: a new node found none of its peers in time; with election="raft", the
            first of them by name did not find all.
        OSError: the address is taken, or no descriptors are left.
        Other errors: as FileWALManager.

    All methods are safe from several threads; `submit` and `await` serve asyncio.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        node_id: str,
        listen: str | None = None,
        advertise: str | None = None,
        peers: Mapping[str, str | None] | None = None,
        role: Role = "follower",
        election: Literal["manual", "raft"] = "manual",
        acks: AcksOption = "quorum",
        timeout_s: float = 10.0,
        too_few: Literal["wait", "refuse"] = "wait",
        secret: bytes | None = None,
        tls: TLS | None = None,
        insecure: bool = False,
        segment_bytes: int = 64 << 20,
        snapshots: Snapshots | None = None,
        options: ReplicationOptions | None = None,
        network: NetworkOptions | None = None,
        clock: Callable[[], int] = time.time_ns,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        members = _members(node_id, peers or {})
        self.node_id, self.acks = node_id, parse_acks(acks, members)
        self.timeout_s = _checked_timeout(timeout_s)
        self._elects = _checked_election(election, role, acks, too_few)
        self._members, self._too_few = members, too_few
        self._deadlines: dict[asyncio.AbstractEventLoop, Deadlines] = {}
        urls = {node: url for node, url in (peers or {}).items() if url}
        make_network = partial(
            NetworkManager, node_id, listen=listen, peers=urls,
            security=Security(secret, tls, insecure), options=network or NetworkOptions(),
            members=None if self._elects else members, clock=clock, entropy=entropy,
        )  # fmt: skip
        without_log(make_network)  # refuses what makes no sense before the log becomes a node's
        times = options or ReplicationOptions()
        is_new = not _is_log(path)
        join = partial(self._join, make_network, urls, times.join_timeout_ms / 1000)
        log_id = join() if is_new and (self._elects or role == "follower") else None
        self._replicated = Replicated(log_id, partial(next_term, node_id=node_id))
        self._open(path, role, segment_bytes=segment_bytes, clock=clock, entropy=entropy)
        try:
            log = NodeLog(self)
            is_empty = not (is_new or log.last_lsn or log.claim)
            if self._elects and is_empty and node_id == min(members):
                is_new, log_id = True, join()  # it was ended amid making a cluster, or lags
            self._streaming = self._driver()(
                log,
                node_id=node_id,
                members=members,
                acks=self.acks,
                wants_to_lead=role == "leader",
                makes_cluster=is_new and log_id is None,
                network=make_network,
                urls=urls,
                advertise=advertise,
                options=times,
                snapshots=snapshots,
            )
            self._background = Background(self._streaming, f"walstore-{node_id}")
            self._background.start()
        except BaseException as error:
            self._give_up(error, role)
            raise

    # ---- the cluster, as its users see it ----

    @property
    def role(self) -> Role:
        """What this node is now."""
        return self._streaming.role

    @property
    def leader_id(self) -> str | None:
        """The node that leads, as far as this one knows."""
        return self._streaming.leader_id

    @property
    def url(self) -> str | None:
        """Where this node listens: what its peers are given. None when it does not."""
        return self._streaming.url

    @property
    def connected(self) -> tuple[str, ...]:
        """The nodes that are connected now."""
        return self._streaming.connected

    @property
    def error(self) -> Exception | None:
        """What keeps this node from taking part until a person has acted, or None."""
        return self._streaming.error

    @property
    def mends_when_reopened(self) -> bool:
        """Whether this node has found its log damaged, and takes no part any more until it is
        closed and opened again: it then gets what is damaged from the others (docs/repair.md)."""
        damaged = isinstance(self.error, CorruptLogError)
        return damaged and was_damaged(self.path)

    def status(self) -> NodeStatus:
        """This node, and the others as it sees them.

        Raises:
            ClosedLogError
        """
        return self._streaming.calls.call(self._streaming.status)

    def metrics(self) -> NetworkMetrics:
        """What its network has counted.

        Raises:
            ClosedLogError
        """
        return self._streaming.calls.call(self._streaming.network.metrics)

    def receipt(self, lsn: int) -> Receipt:
        """Which nodes are known to hold an entry, and at which stage; the leader knows."""
        return self._streaming.receipt(lsn)

    def subscribe(self, callback: Callable[[ReplicationEvent], None]) -> Callable[[], None]:
        """Calls back, in the node's own thread, when its role changes and when nodes connect and
        disconnect. Returns a function that ends it. The callback must not block, and what only
        that thread can bring about is not waited for in it: `submit` raises at once where it would
        wait, and `append` and `close` are refused with OptionError."""
        return self._streaming.subscribe(callback)

    def serve_clients(self, handler: ClientHandler | None) -> None:
        """Has clients let in, and their requests handed to `handler` in the node's own thread,
        which it must not block; None: not any more. A MachineHost does this.

        Raises:
            ClosedLogError
        """
        self._streaming.calls.call(partial(self._streaming.network.serve, handler))

    def report_application(self, error: Exception | None) -> None:
        """Has `status` say what keeps the application on this node from going on; None: nothing.
        The node takes part as before. A MachineHost does this. From any thread."""
        self._streaming.application_error = error

    def url_of(self, node_id: str | None) -> str | None:
        """Where another node listens, as far as this one was told."""
        return self._streaming.url_of(node_id)

    def promote(self, *, force: bool = False, timeout_s: float | None = None) -> int:
        """Makes this node the leader; returns the new term, which is durable then.

        A majority of all nodes, this one included, has to agree; a node agrees when its log is
        not ahead of this one's. The leader before is fenced: a node that knows the new term takes
        nothing from it.

        With election="raft" the leader is asked to hand over, when this node has all its entries;
        appends wait meanwhile. Where there is no leader, one is elected first.

        Args:
            force: lead without them. What only they hold is lost, and what the leader before still
                commits without this node, too: make sure that it has stopped. Not with
                election="raft".
            timeout_s: how long to wait for the votes; by default the node's.

        Raises:
            PromotionError: not enough nodes agreed, and why.
            LogFullError, LogPoisonedError, ClosedLogError
        """
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        return self._streaming.calls.wait_for(self._streaming.promote(force, limit_s))

    def demote(self) -> int:
        """Ends this node's leadership; returns the new term, which is durable then, so that nobody
        takes anything from the old one. Entries that are not committed yet are for the next leader
        to keep or to drop. A node that does not lead stays as it is.

        With election="raft" the voter that has most is handed the leadership. Where it does not
        take over within `election_ms`, the leadership ends as above, and the nodes elect anew.

        Raises:
            PromotionError: with election="raft", an earlier hand-over is under way.
            LogFullError, LogPoisonedError, ClosedLogError
        """
        return self._streaming.calls.wait_for(self._streaming.demote())

    def transfer(self, node_id: str | None = None) -> int:
        """Hands the leadership over, with election="raft", to a voter that has all entries; returns
        the term that this node knows of then. Appends wait meanwhile, for `election_ms` at most,
        and none fails.

        Args:
            node_id: who shall lead; None: the voter that has most.

        Raises:
            NotLeaderError: this node does not lead.
            PromotionError: that one did not come to lead in time; this one still does. Or an
                earlier hand-over is under way.
            OptionError: nodes do not elect here.
            ClosedLogError
        """
        return self._streaming.calls.wait_for(self._streaming.transfer(node_id))

    def linearizable_lsn(self, *, timeout_s: float | None = None) -> int:
        """An lsn to read at, with election="raft", on the leader: what all entries up to it amount
        to is a state that the cluster had between this call and its return. Every append that was
        acknowledged before, by any node, is in it. A quorum has confirmed meanwhile that this
        node leads; no clock is trusted.

        Raises:
            NotLeaderError: it does not lead.
            ReplicationTimeoutError: not confirmed in time.
            OptionError: nodes do not elect here.
            ClosedLogError
        """
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        return self._streaming.calls.wait_for(self._streaming.linearizable_lsn(limit_s))

    # ---- the members: with election="raft", on the leader ----

    def add_learner(self, node_id: str, *, timeout_s: float | None = None) -> int:
        """Has a node hold the log, without a vote; a voter becomes one. The new node is started,
        before or after, with a member as its `peers`, or with all where they do not advertise.
        Returns the lsn of the entry that says so, which is committed then.

        Raises:
            NotLeaderError: this node does not lead.
            MembershipError: an earlier change is not committed yet, or the members cannot be
                these; or a later change has taken the place of this one while it waited for a
                newcomer to get the log.
            ReplicationTimeoutError: not done in time, and why; it still may be.
            OptionError: nodes do not elect here.
            ClosedLogError
        """
        return self._change(
            lambda old, learners: (old - {node_id}, learners | {node_id}), timeout_s
        )

    def add_voter(self, node_id: str, *, timeout_s: float | None = None) -> int:
        """Gives a node a vote, as soon as it has on its disk what is committed; until then it is
        a learner. Otherwise as `add_learner`."""
        return self._change(
            lambda old, learners: (old | {node_id}, learners - {node_id}), timeout_s
        )

    def remove_node(self, node_id: str, *, timeout_s: float | None = None) -> int:
        """Removes a voter or a learner: this node, too, which then leads no longer. The process of
        a removed node is for its user to end. One that is to vote and has not the log yet is taken
        back, and changes that wait for it are abandoned: voters that were to leave then stay.
        Otherwise as `add_learner`."""
        return self._change(
            lambda old, learners: (old - {node_id}, learners - {node_id}), timeout_s
        )

    def replace_node(self, old: str, new: str, *, timeout_s: float | None = None) -> int:
        """Puts a node in another's place: as what that one was, and as soon as it has on its disk
        what is committed. Until then the old one counts as before. Refused where the new one votes
        already: that would be removing the old one. Where both are on their way to vote, the old
        one is taken back, as by `remove_node`. Otherwise as `add_learner`."""

        def wish(voters: Set[str], learners: Set[str]) -> tuple[Set[str], Set[str]]:
            voting = self._streaming.voters()
            if old in voters | learners and new in (voting if old in voters else voting | voters):
                raise MembershipError(
                    f"{new} votes already, and cannot take the place of {old}: start a new node "
                    f"for that, or remove {old}"
                )
            if old in voters:
                return voters - {old} | {new}, learners - {old, new}
            if old in learners:
                return voters, learners - {old} | {new}
            if new in voters | learners:  # it is on its way there, or is there
                return voters, learners
            shall = ", ".join(sorted(voters | learners))
            if old in voting:
                raise MembershipError(
                    f"{old} votes only until those that are on their way do; there shall be "
                    f"{shall}: one of these can be replaced, or removed"
                )
            raise MembershipError(f"{old} is no member: {shall} are")

        return self._change(wish, timeout_s)

    def _change(self, wish: Wish, timeout_s: float | None) -> int:
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        return self._streaming.calls.wait_for(self._streaming.change_members(wish, limit_s))

    def mark_applied(self, lsn: int) -> None:
        """Tells the others that this node's application is done with all entries up to `lsn`.

        Raises:
            LSNOutOfRangeError: not committed yet.
        """
        lsn = checked_lsn("lsn", lsn)
        if lsn > self.committed_lsn:
            raise LSNOutOfRangeError(lsn, self.first_lsn, self.committed_lsn)
        self._streaming.calls.post(partial(self._streaming.applied, lsn))

    def wait_committed(self, lsn: int, *, timeout_s: float | None = None) -> None:
        """Waits until an entry can be read on this node; on a follower, to read what was written
        on the leader.

        Raises:
            ReplicationTimeoutError: it cannot, so far.
            OptionError: it is no whole number.
        """
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + limit_s
        wanted_lsn = min(checked_lsn("lsn", lsn), LSN_MAX)  # behind it there is none
        while not self._await_entry(wanted_lsn):
            if time.monotonic() >= deadline:
                raise ReplicationTimeoutError(
                    self.receipt(lsn), str(self.acks), "committed", limit_s
                )

    # ---- writing: the leader's alone ----

    def append(
        self,
        payload: Payload,
        *,
        kind: int = DATA,
        acks: AcksOption | None = None,
        stage: Stage = Stage.DURABLE,
        timeout_s: float | None = None,
    ) -> int:
        """Appends an entry and returns its lsn when it is on as many nodes as asked.

        Args:
            payload, kind: as FileWALManager.append.
            acks: by default the node's. An append that asks for fewer returns earlier; no reader
                is shown the entry before the node's own policy holds.
            stage: how far the entry must have come there: Stage.RECEIVED, in memory;
                Stage.DURABLE, on disk; Stage.APPLIED, as their applications say.
            timeout_s: by default the node's.

        Raises:
            NotLeaderError, TooFewNodesError: nothing was appended.
            OptionError: nor in a callback of the node's, whose thread has to bring about what is
                waited for: `submit` it there.
            ReplicationTimeoutError: it was, and is not known to be where it was asked to be; the
                receipt says what is known.
            Other errors: as FileWALManager.append.
        """
        return self._append([payload], kind, acks, stage, timeout_s)[0]

    def append_many(
        self,
        payloads: Iterable[Payload],
        *,
        kind: int = DATA,
        acks: AcksOption | None = None,
        stage: Stage = Stage.DURABLE,
        timeout_s: float | None = None,
    ) -> range:
        """Appends a batch, whole or not at all on every node; otherwise as `append`."""
        return self._append(payloads, kind, acks, stage, timeout_s)

    def _append(
        self,
        payloads: Iterable[Payload],
        kind: int,
        acks: AcksOption | None,
        stage: Stage,
        timeout_s: float | None,
    ) -> range:
        wanted = self._ready(acks, stage)
        parts = self._parts_of(payloads)
        if not parts:
            return self._no_entries()
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        deadline_s = time.monotonic() + limit_s
        usual = self._is_usual(wanted, stage)
        if self._is_own_to_do(wanted, stage):
            self._streaming.calls.check_elsewhere()
        self._streaming.wait_to_lead(limit_s)
        first, last = self._append_within(parts, kind, limit_s if usual else 0.0)
        if not (usual and last.done()):
            commit = ReplicatedCommit(self, last._generation, last.lsn, wanted, stage)
            commit._wait(max(0.0, deadline_s - time.monotonic()), limit_s)
        return range(first, first + len(parts))

    def submit(
        self,
        payload: Payload,
        *,
        kind: int = DATA,
        acks: AcksOption | None = None,
        stage: Stage = Stage.DURABLE,
    ) -> ReplicatedCommit:
        """Accepts an entry and returns at once; the commit tells when it is where `acks` asks.

        Raises:
            As `append`, for what is known at once.
        """
        wanted = self._ready(acks, stage)
        commit = super().submit(payload, kind=kind)
        return ReplicatedCommit(self, commit._generation, commit.lsn, wanted, stage)

    def begin_term(self) -> int:
        """Not here: `promote` begins a term."""
        raise OptionError("the terms of a replicated log begin with promote() and demote()")

    def truncate_after(self, lsn: int) -> None:
        """Not here: entries that were acknowledged would be gone from one node."""
        raise OptionError("a replicated log is not truncated at its end; a new leader does that")

    def truncate_before(self, lsn: int) -> None:
        """Drops committed entries before `lsn`, except those that a follower still needs.

        A follower is waited for while it is not further behind than `retention_bytes`, nor gone
        for longer than `retention_s` (see ReplicationOptions). What is kept back is dropped later.

        Raises:
            LSNOutOfRangeError: not committed yet.
            Otherwise as FileWALManager.truncate_before.
        """
        lsn = checked_lsn("lsn", lsn)
        if lsn > self.committed_lsn + 1:
            raise LSNOutOfRangeError(lsn, self.first_lsn, self.committed_lsn)
        kept = self._streaming.calls.call(partial(self._streaming.retain, lsn))
        self._streaming.keep_configuration(kept)
        super().truncate_before(kept)

    # ---- life ----

    def close(self) -> None:
        """Leaves the cluster, then closes the log as FileWALManager.close. Followers get what was
        not sent yet from the next leader that has it.

        Raises:
            OptionError: called in a callback of the node's, or in its Snapshots, for which it would
                wait: use a thread. Nothing has changed.
            Otherwise as FileWALManager.close.
        """
        if not self._forked:
            self._background.stop()
        super().close()

    # ---- inside ----

    def _snapshot(
        self, from_lsn: int | None, to_lsn: int | None, *, everything: bool = False
    ) -> Snapshot:
        """As FileWALManager._snapshot; a node whose log is not that of the others shows nothing."""
        error = self._streaming.error
        if isinstance(error, QuarantinedError) and not everything:
            raise error
        return super()._snapshot(from_lsn, to_lsn, everything=everything)

    def _open(
        self,
        path: str | os.PathLike[str],
        role: Role,
        *,
        segment_bytes: int,
        clock: Callable[[], int],
        entropy: Callable[[int], bytes],
    ) -> None:
        """Opens the log; one that is damaged is cut first, where others have what is lost
        (docs/repair.md)."""
        base = super().__init__
        begin = partial(base, path, segment_bytes=segment_bytes, clock=clock, entropy=entropy)
        where, mends = checked_path(path), self._mends(role)
        if not (mends and was_damaged(where)):
            try:
                begin()
            except (CorruptLogError, LogAccessError) as error:
                if not (mends and is_mendable(error)):
                    raise with_hint(error) from None
                logger.error("%s: %s", self.node_id, error)
            else:
                return
        mend_log(where, segment_bytes, clock(), entropy)
        begin()

    def _mends(self, role: Role) -> bool:
        """Whether what is damaged comes from the others."""
        return len(self._members) > 1 and (self._elects or role == "follower")

    def _give_up(self, error: BaseException, role: Role) -> None:
        """Closes what could not be opened; has the next opening look for damage, where this one met
        some in a full segment."""
        if hasattr(self, "_background"):  # who waited for it to begin was interrupted, perhaps
            self._background.stop()
        try:
            super().close()
        except WALStoreError as closing:  # must not hide what came first
            error.add_note(f"Then closing it failed, too: {closing}")
        damage = damage_of(error) if isinstance(error, Exception) else error
        if isinstance(damage, CorruptLogError) and self._mends(role):
            if parse_name(os.path.basename(damage.path)):
                note_damage(self.path, damage)

    def _join(
        self,
        make_network: Callable[..., NetworkManager],
        urls: Mapping[str, str],
        timeout_s: float,
    ) -> bytes | None:
        """The id of the cluster that there is; None on the node that is to make one."""
        if not self._elects:
            return ask_cluster_id(make_network, urls, timeout_s)
        others = self._members - {self.node_id}
        if not others:
            return None
        met = meet(make_network, others, self.node_id == min(self._members), timeout_s)
        return None if met == NO_CLUSTER else met

    def _driver(self) -> type[WALReplicationManager]:
        """Raises OptionError where a person is to elect for nodes that did so themselves."""
        if self._elects:
            from walstore.raft.driver import RaftReplicationManager

            return RaftReplicationManager
        if os.path.exists(os.path.join(self.path, CONFIGURATIONS_NAME)):
            raise OptionError(f"the nodes of {self.path} elect: give election='raft'")
        return WALReplicationManager

    def _ready(self, acks: AcksOption | None, stage: Stage) -> Acks:
        """Raises unless an append may be tried now; returns whom to wait for."""
        error = self._streaming.error
        if error is not None:
            raise error
        wanted = self.acks if acks is None else parse_acks(acks, self._members)
        if self._elects and not (self._is_usual(wanted, stage) and acks in (None, "quorum")):
            raise OptionError(_ONLY_QUORUM)
        if self._too_few == "refuse":
            there = (self.node_id, *self.connected)
            if not wanted.reached(dict.fromkeys(there, 1), self.node_id):
                raise TooFewNodesError(str(wanted), there)
        return wanted

    def _again(self, rc: int, payload_bytes: int, need_bytes: int, kind: int) -> None:
        """As FileWALManager._again; a node that is to lead and does not yet is waited for."""
        if rc != lib.WALCORE_NOT_LEADER:
            super()._again(rc, payload_bytes, need_bytes, kind)
        else:
            self._streaming.wait_to_lead(self.timeout_s)

    def _is_usual(self, acks: Acks, stage: Stage) -> bool:
        """Whether the log's own group commit knows when these hold."""
        return stage is Stage.DURABLE and acks == self.acks

    def _is_own_to_do(self, acks: Acks, stage: Stage) -> bool:
        """Whether this is the node's own thread, and these hold by what it has to do."""
        needs_others = self._elects or not acks.alone or stage is Stage.APPLIED
        return needs_others and self._streaming.calls.is_here()

    def _committed_future(self, commit: ReplicatedCommit) -> asyncio.Future[None]:
        """A future in the running loop that is done when the entry is committed."""
        assert self._group is not None
        waker = self._group.waker()
        future = waker.future(commit._generation, commit.lsn)
        deadlines = self._deadlines.get(waker.loop)
        if deadlines is None:
            self._deadlines = {
                loop: known for loop, known in self._deadlines.items() if not loop.is_closed()
            }
            deadlines = self._deadlines[waker.loop] = Deadlines(waker.loop)
        deadlines.add(future, self.timeout_s, commit._late)
        return future


def _members(node_id: str, peers: Mapping[str, str | None]) -> frozenset[str]:
    """All nodes, checked.

    Raises:
        OptionError: a name cannot be one, or two of them could choose the same term.
    """
    for name in (node_id, *peers):
        if not isinstance(name, str) or not is_node_id(name) or is_client_id(name):
            raise OptionError(
                "a node id is a printable name of at most 64 bytes that does not begin with "
                f"'client:', not {name!r}"
            )
    if node_id in peers:
        raise OptionError(f"{node_id} is given as a peer of itself")
    bits: dict[int, str] = {}
    for name in sorted({node_id, *peers}):
        other = bits.setdefault(term_bits(name), name)
        if other != name:
            raise OptionError(
                f"nodes {other} and {name} could choose the same term: rename one of them"
            )
    return frozenset(bits.values())


def _checked_election(election: str, role: str, acks: AcksOption, too_few: str) -> bool:
    """Whether the nodes elect.

    Raises:
        OptionError: one of these is none, or makes sense only where a person elects.
    """
    if too_few not in ("wait", "refuse"):
        raise OptionError(f"too_few is 'wait' or 'refuse', not {too_few!r}")
    if role not in ("leader", "follower"):
        raise OptionError(f"role is 'leader' or 'follower', not {role!r}")
    if election not in ("manual", "raft"):
        raise OptionError(f"election is 'manual' or 'raft', not {election!r}")
    if election == "manual":
        return False
    if role != "follower":
        raise OptionError("with election='raft' the nodes say who leads: leave role out")
    if acks != "quorum":
        raise OptionError(_ONLY_QUORUM)
    if too_few != "wait":
        raise OptionError("with election='raft' appends wait for a quorum: leave too_few out")
    return True


def _checked_timeout(timeout_s: float) -> float:
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float)) or not timeout_s > 0:
        raise OptionError(f"timeout_s is a positive number of seconds, not {timeout_s!r}")
    return timeout_s


def _is_log(path: str | os.PathLike[str]) -> bool:
    try:
        FileWALManager(path, read_only=True).close()
    except NotALogError:
        return False
    except WALStoreError:
        return True  # opening it to write says what ails it
    return True
