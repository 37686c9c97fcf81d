"""The core of replication: messages and time in, effects out (docs/protocol.md). Sans-IO.

One Core is one node. It holds no payload, reads no clock and keeps no promise of its own: the
driver carries its effects out, in order, before it calls again (see effects.py for which ones may
go on meanwhile). Calls are not safe from several threads.
"""

from __future__ import annotations

from typing import Literal

from walstore.replication.acks import Receipt, Rule, Stage
from walstore.replication.campaign import Campaign
from walstore.replication.effects import (
    AppendTermEntry,
    Effect,
    Elected,
    PersistTerm,
    Refuse,
    RoleChanged,
    Send,
    SendEntries,
    SendSnapshot,
    VoteFailed,
)
from walstore.replication.entries import Batch, LogState
from walstore.replication.follower import Follower
from walstore.replication.leader import Leader
from walstore.replication.message import (
    Ack,
    Confirm,
    Confirmed,
    SnapshotAck,
    SnapshotPart,
    SyncRequest,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from walstore.replication.progress import Progress
from walstore.replication.quorum import Quorum
from walstore.replication.shared import CoreOptions, Shared
from walstore.replication.terms import next_term, owns_term

__all__ = ["Core", "CoreBody", "CoreOptions"]

CoreBody = (
    Batch
    | SyncRequest
    | Ack
    | SnapshotPart
    | SnapshotAck
    | VoteRequest
    | VoteResponse
    | Confirm
    | Confirmed
    | TimeoutNow
)
"""Bodies of messages that are the core's; of a WAL_ENTRY the driver makes a Batch."""


class Core:
    """One node: a follower of nobody, until it hears a leader or is made one.

    Here a person says who leads, and the nodes of the cluster stay the same; raft.node.RaftNode
    is a Core that elects.

    Args:
        node_id: this node.
        nodes: every node of the cluster, this one among them.
        log: what may be asked of the log; it is asked anew each time.
        term: the log's current term, as recovered.
        committed_lsn: as recovered; never above what the log holds.
        acks: what makes an entry committed.
        options: bounds and times.
    """

    def __init__(
        self,
        node_id: str,
        nodes: frozenset[str],
        log: LogState,
        term: int,
        committed_lsn: int,
        acks: Rule,
        options: CoreOptions | None = None,
    ) -> None:
        self._shared = Shared(
            node_id, nodes, log, acks, options or CoreOptions(), term, committed_lsn
        )
        self._connected: set[str] = set()
        self._electorate = Quorum(nodes)
        self._campaign: Campaign | None = None
        self._leader: Leader | None = None
        self._follower = Follower(self._shared)

    # ---- what it knows ----

    @property
    def role(self) -> Literal["leader", "follower"]:
        """What the node is."""
        return "follower" if self._leader is None else "leader"

    @property
    def term(self) -> int:
        """The current term; every message to others carries it."""
        return self._shared.term

    @property
    def leader_id(self) -> str | None:
        """Who leads in this term, as far as the node knows."""
        return self._shared.node_id if self._leader else self._follower.leader_id

    @property
    def committed_lsn(self) -> int:
        """Everything up to here is committed."""
        return self._shared.committed_lsn

    @property
    def matched_lsn(self) -> int:
        """Up to here this log is the current leader's; a leader's own last_lsn."""
        return self._shared.log.last_lsn if self._leader else self._follower.matched_lsn

    @property
    def campaigning(self) -> bool:
        """Whether votes are being asked for."""
        return self._campaign is not None

    @property
    def stopped(self) -> bool:
        """Whether the leader of this term is not followed, since it lacks what is committed."""
        return self._leader is None and self._follower.stopped

    @property
    def next_deadline_ms(self) -> float | None:
        """When to call `tick` next, if no input comes before; None: no need to."""
        return self._leader.next_deadline_ms() if self._leader else None

    @property
    def applied_lsn(self) -> int:
        """How far the application of this node is."""
        return self._shared.applied_lsn

    @property
    def lacks(self) -> bool:
        """Whether damage took entries that this node has not got back: it does not lead then."""
        claim = self._shared.claim
        if claim <= (0, 0) or claim <= self._end_on_disk()[::-1]:
            return False
        return claim[0] != self.term or not self._follower.has_what_is_committed

    def claim(self, term: int, lsn: int) -> None:
        """The log had been as far as this before it was damaged (docs/repair.md); 0: it has all of
        that again."""
        self._shared.claim = (term, lsn)

    def progress(self, node: str) -> Progress | None:
        """What a leader knows of a follower; None on a node that does not lead."""
        leader = self._leader  # which another thread may be about to take away
        return leader.progress.get(node) if leader else None

    def lsns(self, stage: Stage) -> dict[str, int]:
        """How far each node is known to have come with a stage; empty where it does not lead."""
        leader = self._leader  # which another thread may be about to take away
        return leader.lsns(stage) if leader else {}

    def receipt(self, lsn: int) -> Receipt:
        """What is known about an entry of the own leadership."""
        stages = dict.fromkeys(sorted(self._shared.nodes), Stage.UNKNOWN)
        for stage in (Stage.RECEIVED, Stage.DURABLE, Stage.APPLIED):
            stages |= {node: stage for node, at in self.lsns(stage).items() if at >= lsn}
        return Receipt(lsn, stages)

    def want_receipts(self, wanted: bool) -> None:
        """Whether followers are to report what they have received before it is durable."""
        self._shared.receipts = wanted

    # ---- connections, time, the own log ----

    def connected(self, node: str, now_ms: float) -> list[Effect]:
        """A (new) connection to a node is up; what was on its way on an older one is lost."""
        if node not in self._shared.nodes:
            return []
        self._connected.add(node)
        if leader := self._feeding(node):
            return leader.connected(node, now_ms)
        if node == self._follower.leader_id:
            self._follower.reconnected()
        if self._campaign and self._campaign.is_open(node):
            return [self._ask_for_vote(node)]
        return []

    def disconnected(self, node: str) -> list[Effect]:
        """There is no connection to the node any more."""
        self._connected.discard(node)
        if leader := self._feeding(node):
            leader.disconnected(node)
        return []

    def _feeding(self, node: str) -> Leader | None:
        """The own leadership, if the node is one that it feeds."""
        return self._leader if self._leader and node in self._leader.progress else None

    def tick(self, now_ms: float) -> list[Effect]:
        """Time has passed."""
        return self._leader.tick(now_ms) if self._leader else []

    def written(self) -> list[Effect]:
        """The log's last_lsn has risen."""
        return self._leader.written() if self._leader else []

    def durable(self, now_ms: float) -> list[Effect]:
        """The log's durable_lsn has risen."""
        return self._leader.durable(now_ms) if self._leader else self._follower.report()

    def applied(self, lsn: int) -> list[Effect]:
        """The application has done with everything up to lsn."""
        self._shared.applied_lsn = max(self._shared.applied_lsn, lsn)
        return [] if self._leader else self._follower.report()

    # ---- what became of sends ----

    def sent(self, send: SendEntries, last_lsn: int, nbytes: int, now_ms: float) -> list[Effect]:
        """The records up to last_lsn are in the node's queue, nbytes of them.

        To be called in the same step: before a later message of that node is received.
        """
        leader = self._feeding(send.node)
        return leader.sent(send, last_lsn, nbytes, now_ms) if leader else []

    def snapshot_sent(
        self, send: SendSnapshot, lsn: int, total_bytes: int, end: int
    ) -> list[Effect]:
        """The part of the snapshot of `lsn` that ends at byte `end` is in the node's queue."""
        leader = self._feeding(send.node)
        return leader.snapshot_sent(send, lsn, total_bytes, end) if leader else []

    def not_sent(self, send: SendEntries | SendSnapshot, now_ms: float) -> list[Effect]:
        """What was to be sent is not there (any more)."""
        leader = self._feeding(send.node)
        return leader.not_sent(send, now_ms) if leader else []

    def awaits(self, send: SendEntries | SendSnapshot) -> bool:
        """Whether a send is still to be done; to be asked when it was not carried out at once."""
        leader = self._feeding(send.node)
        return leader is not None and leader.progress[send.node].sending is send

    # ---- who leads ----

    def campaign(self, now_ms: float, force: bool = False) -> list[Effect]:
        """Begins a new term and asks every node for its vote to lead in it.

        Args:
            force: lead at once, whoever may know better. Entries that are committed can be lost.
        """
        shared = self._shared
        if self.lacks and not force:
            reason = f"damage took entries up to {shared.claim[1]} of it, which it waits for"
            return [VoteFailed(shared.term, {shared.node_id: reason})]
        effects = self._adopt(next_term(shared.term, shared.node_id), None)
        self._campaign = Campaign(shared.node_id, self._electorate, shared.term)
        if force or self._campaign.won:
            return effects + self._lead(now_ms)
        asked = self._connected & self._electorate.nodes
        return effects + [self._ask_for_vote(node) for node in sorted(asked)]

    def give_up(self) -> list[Effect]:
        """Ends a campaign that takes too long. The node keeps its term and follows nobody."""
        campaign, self._campaign = self._campaign, None
        if campaign is None:
            return []
        return [VoteFailed(campaign.term, campaign.reasons(frozenset(self._connected)))]

    def step_down(self) -> list[Effect]:
        """Leads no longer, and begins a term in which nobody leads: whoever hears of it takes
        nothing more from this leadership."""
        if self._leader is None:
            return []
        return self._adopt(next_term(self.term, self._shared.node_id), None)

    def _lead(self, now_ms: float) -> list[Effect]:
        assert self._campaign is not None
        shared, granted = self._shared, frozenset(self._campaign.granted)
        self._campaign = None
        self._leader = Leader(shared, self._connected)
        return [
            RoleChanged("leader", shared.term, shared.node_id),
            Elected(shared.term, granted),
            AppendTermEntry(shared.term),
            *self._leader.tick(now_ms),
        ]

    def began(self, lsn: int) -> None:
        """The term entry has this lsn: lower than was expected where the disk refused entries that
        were on their way."""
        if self._leader is not None:
            self._leader.began_lsn = lsn

    def _ask_for_vote(self, node: str) -> Send:
        return Send(node, self._vote_request())

    def _vote_request(self) -> VoteRequest:
        return VoteRequest(*self._end_on_disk())

    def _end_on_disk(self) -> tuple[int, int]:
        """Lsn and term of the last entry that the disk has: it may still refuse the rest, and a
        vote would have been won with it."""
        log = self._shared.log
        last_lsn = max(min(log.last_lsn, log.durable_lsn), log.first_lsn - 1)
        return last_lsn, log.term_of(last_lsn)

    def _adopt(self, term: int, leader_id: str | None) -> list[Effect]:
        """A new term has begun: durable before anything else comes of it."""
        effects = self.give_up()
        told = self.role, self.leader_id
        self._leader = None
        self._shared.term = term
        self._follower = Follower(self._shared, leader_id)
        effects.insert(0, PersistTerm(term))
        if told != ("follower", leader_id):
            effects.append(RoleChanged("follower", term, leader_id))
        return effects

    # ---- messages ----

    def received(self, source: str, term: int, body: CoreBody, now_ms: float) -> list[Effect]:
        """A message of another node, on its current connection."""
        shared = self._shared
        reason = self._why_not(source, body)
        if reason:
            return [Refuse(source, reason)]
        if term < shared.term:
            return [Send(source, Ack(0, 0, 0))]
        leads = isinstance(body, Batch | SnapshotPart | Confirm)
        claims = leads or (isinstance(body, VoteRequest) and not body.pre)
        if claims and not owns_term(term, source):
            return [Refuse(source, f"term {term} is not one of {source}")]
        effects: list[Effect] = []
        if term > shared.term:
            effects = self._adopt(term, source if leads else None)
        elif leads and self._follower.leader_id is None:
            self._follower.leader_id = source
            effects = [RoleChanged("follower", term, source)]
        return effects + self._take(source, body, now_ms)

    def _why_not(self, source: str, body: CoreBody) -> str:
        """Why a message changes nothing, whatever its term is; empty for one to be taken."""
        if source not in self._shared.nodes or source == self._shared.node_id:
            return f"{source} is no other node of this cluster"
        votes = isinstance(body, VoteRequest) and (body.pre or body.transfer)
        answers = isinstance(body, VoteResponse) and body.pre
        if votes or answers or isinstance(body, Confirm | Confirmed | TimeoutNow):
            return "nodes do not elect here"
        return ""

    def _take(self, source: str, body: CoreBody, now_ms: float) -> list[Effect]:
        """A message of the current term."""
        match body:
            case Batch():
                return self._follower.entries(body)
            case SnapshotPart():
                return self._follower.snapshot(body)
            case VoteRequest():
                return [self._vote(source, body)]
            case VoteResponse():
                return self._count(source, body, now_ms)
        leader = self._feeding(source)
        if leader is None:
            return []  # of a leadership that is over
        match body:
            case Ack():
                return leader.acked(source, body, now_ms)
            case SyncRequest():
                return leader.sync_requested(source, body, now_ms)
            case SnapshotAck():
                return leader.snapshot_acked(source, body, now_ms)
        return []

    def _vote(self, source: str, request: VoteRequest) -> Send:
        """Grants the vote unless the own log goes further (Ongaro, 3.6.1).

        Only one node can ask for a term, so that there is nobody else the vote could be given to.
        Of a log that was damaged counts what it had: others may have been told that it is there.
        But who led in the claim's term has on its disk all that was committed in it, and before.
        """
        log, claim = self._shared.log, self._shared.claim
        end = log.term_of(log.last_lsn), log.last_lsn
        last_term, last_lsn = max(end, claim)
        asks = request.last_term, request.last_lsn
        led = request.last_term == claim[0] and owns_term(claim[0], source)
        granted = asks >= end and (asks >= claim or led)
        return Send(source, VoteResponse(granted, last_lsn, last_term, request.pre))

    def _count(self, source: str, answer: VoteResponse, now_ms: float) -> list[Effect]:
        if self._campaign is None:
            return []
        self._campaign.answered(source, answer)
        if self._campaign.won:
            return self._lead(now_ms)
        return self.give_up() if self._campaign.lost else []
