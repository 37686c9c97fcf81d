"""RaftNode: a Core that elects (docs/consensus.md). Sans-IO.

Inputs and effects are those of replication/core.py, and so is the contract: effects are carried
out, in order, before the next input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import replace

from walstore.raft.clock import ElectionClock
from walstore.raft.errors import ConfigurationError
from walstore.raft.history import History
from walstore.raft.leadership import Leadership
from walstore.raft.membership import Configuration, decode_configuration
from walstore.raft.options import RaftLog, RaftOptions
from walstore.replication.campaign import Campaign
from walstore.replication.core import Core, CoreBody, CoreOptions
from walstore.replication.effects import (
    AppendRecords,
    ChangeRefused,
    CutDiverged,
    Effect,
    ReadRefused,
    RoleChanged,
    Send,
    TakeSnapshotPart,
    TransferFailed,
)
from walstore.replication.entries import Batch
from walstore.replication.message import (
    Confirm,
    Confirmed,
    SnapshotPart,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from walstore.replication.terms import next_term

__all__ = ["RaftNode"]

_NO_LEADER = "this node does not lead"


class RaftNode(Core):
    """One node of a cluster that elects its leader.

    Args:
        node_id: this node.
        log: what may be asked of the log; it is asked anew each time.
        term: the log's current term, as recovered: also the node's vote.
        committed_lsn: as recovered; never above what the log holds.
        configurations: lsn and configuration, in order: the one as of the entry before the first
            one held (`Configuration()` where nothing says so), then those in the log.
        uniform: draws a random number between two, for election timeouts.
        now_ms: the time.
        options, raft_options: bounds and times.
    """

    def __init__(
        self,
        node_id: str,
        log: RaftLog,
        term: int,
        committed_lsn: int,
        configurations: Sequence[tuple[int, Configuration]],
        uniform: Callable[[float, float], float],
        now_ms: float,
        options: CoreOptions | None = None,
        raft_options: RaftOptions | None = None,
    ) -> None:
        self._history = History(configurations)
        current = self._history.current
        nodes = current.members | {node_id}
        super().__init__(node_id, nodes, log, term, committed_lsn, current.quorum, options)
        self._log = log
        self._raft_options = raft_options or RaftOptions()
        self._clock = ElectionClock(self._raft_options.election_ms, uniform, now_ms)
        self._now_ms = now_ms
        self._question: Campaign | None = None
        self._leadership: Leadership | None = None
        self._transfer_term = 0
        self._leaving: dict[str, int] = {}
        self._reconfigure(now_ms)

    # ---- what it knows ----

    @property
    def configuration(self) -> Configuration:
        """The membership in force: the last in the log."""
        return self._history.current

    @property
    def configuration_lsn(self) -> int:
        """Its entry; it is committed when committed_lsn is not before it."""
        return self._history.lsn

    @property
    def asking(self) -> bool:
        """Whether it is asking if it would be elected."""
        return self._question is not None

    @property
    def next_deadline_ms(self) -> float | None:
        """When to call `tick` next, if no input comes before; None: no need to."""
        deadline_ms = super().next_deadline_ms
        if self._leadership:
            own_ms = self._leadership.next_deadline_ms(self._now_ms)
            return own_ms if deadline_ms is None else min(own_ms, deadline_ms)
        return self._clock.due_ms if self._may_lead else deadline_ms

    @property
    def _may_lead(self) -> bool:
        return self._shared.node_id in self._history.voters() and not self.lacks

    # ---- connections, time, the own log ----

    def connected(self, node: str, now_ms: float) -> list[Effect]:
        """A (new) connection to a node is up, also to one that is no member yet."""
        self._settle(now_ms)
        if node in self._leaving:  # what it was fed on an older connection is lost
            self.disconnected(node)
        self._connected.add(node)
        effects = super().connected(node, now_ms)
        if node not in self._shared.nodes and node == self._follower.leader_id:
            self._follower.reconnected()
        if self._question and self._question.is_open(node):
            effects.append(self._ask(node))
        return effects

    def disconnected(self, node: str) -> list[Effect]:
        """There is no connection to the node any more."""
        if self._leaving.pop(node, 0) and self._leader:
            self._leader.drop(node)
        return super().disconnected(node)

    def gone(self, node: str, now_ms: float) -> list[Effect]:
        """A connection has ended at the node's side, as when its process dies: a leader is not
        waited for then. A guess, of which nothing but time depends."""
        self._settle(now_ms)
        if node == self.leader_id and self._leadership is None:
            self._clock.lost(now_ms)
        return []

    def tick(self, now_ms: float) -> list[Effect]:
        """Time has passed."""
        self._settle(now_ms)
        effects = super().tick(now_ms)
        if self._leadership:
            return effects + self._leadership.tick(now_ms) + self._progress(now_ms)
        if now_ms < self._clock.due_ms or not self._may_lead:
            return effects
        self._clock.restart(now_ms)
        effects += self.give_up()
        self._question = Campaign(self._shared.node_id, self._electorate, self.term)
        if self._question.won:
            return effects + self.campaign(now_ms)
        asked = self._connected & self._electorate.nodes
        return effects + [self._ask(node) for node in sorted(asked)]

    def written(self) -> list[Effect]:
        """The log's last_lsn has risen."""
        effects = super().written()
        return effects + self._leadership.hold() if self._leadership else effects

    def durable(self, now_ms: float) -> list[Effect]:
        """The log's durable_lsn has risen."""
        self._settle(now_ms)
        return super().durable(now_ms) + self._progress(now_ms)

    def configured(self, lsn: int, now_ms: float) -> list[Effect]:
        """The configuration entry that was to be appended is written, and has this lsn; 0: the disk
        has no space for it."""
        assert self._leadership is not None
        self._leadership.configured(lsn)
        if not lsn:
            return []
        return self._reconfigure(now_ms) + self.written() + self.durable(now_ms)

    def held(self, now_ms: float) -> list[Effect]:
        """HoldAppends(True) is carried out: no user's entry gets an lsn any more."""
        self._settle(now_ms)
        return self._progress(now_ms)

    def _progress(self, now_ms: float) -> list[Effect]:
        """What a leader does when more is durable or committed, or when it is over."""
        if self._leadership is None:
            return []
        self._let_go()
        effects = [] if self._leadership.over else self._leadership.progressed(now_ms)
        return effects + self.resign(now_ms) if self._leadership.over else effects

    # ---- requests ----

    def read(self, read_id: int, now_ms: float) -> list[Effect]:
        """Asks for the lsn that a linearizable read must wait for; ReadReady or ReadRefused
        answers."""
        self._settle(now_ms)
        if self._leadership is None:
            return [ReadRefused(read_id, _NO_LEADER)]
        return self._leadership.read(read_id, now_ms)

    def transfer(self, node: str, now_ms: float) -> list[Effect]:
        """Hands the leadership over to a voter; TransferFailed if that does not succeed in time."""
        self._settle(now_ms)
        if self._leadership is None:
            return [TransferFailed(node, _NO_LEADER)]
        return self._leadership.transfer(node, now_ms)

    def change(self, voters: Set[str], learners: Set[str], now_ms: float) -> list[Effect]:
        """Begins to make these the members, or ChangeRefused. It is done when `configuration` says
        so and is committed."""
        self._settle(now_ms)
        if self._leadership is None:
            return [ChangeRefused(_NO_LEADER)]
        return self._leadership.change(voters, learners)

    # ---- who leads ----

    def campaign(self, now_ms: float, force: bool = False) -> list[Effect]:
        """Begins a new term and asks every voter for its vote, without asking first."""
        self._clock.restart(now_ms)
        return super().campaign(now_ms, force)

    def _adopt(self, term: int, leader_id: str | None) -> list[Effect]:
        return super()._adopt(term, leader_id) + self._stop_leading()

    def _stop_leading(self) -> list[Effect]:
        self._question = None
        self._leaving.clear()
        leadership, self._leadership = self._leadership, None
        return leadership.ended() if leadership else []

    def _lead(self, now_ms: float) -> list[Effect]:
        effects = super()._lead(now_ms)
        assert self._leader is not None
        # The others hear of it before the disk has the term entry: that may take its time.
        self._leadership = Leadership(
            self._shared, self._log, self._leader, self._history, self._raft_options, now_ms
        )
        return self._leadership.tick(now_ms) + effects

    def step_down(self) -> list[Effect]:
        """Leads no longer, and lets the others try first."""
        self._clock.restart(self._now_ms)
        return super().step_down()

    def resign(self, now_ms: float) -> list[Effect]:
        """Leads no longer, in the same term: a new one would depose whoever leads by now. Also for
        a leader whose disk has no space for its term entry."""
        if self._leader is None:
            return []
        self._leader = None
        self._clock.restart(now_ms)
        return [RoleChanged("follower", self.term, None), *self._stop_leading()]

    def _ask(self, node: str) -> Send:
        """Asks whether a node would give its vote."""
        return Send(node, replace(self._vote_request(), pre=True, transfer=False))

    def _vote_request(self) -> VoteRequest:
        request = super()._vote_request()
        return replace(request, transfer=self.term == self._transfer_term)

    def _hears_leader(self, now_ms: float) -> bool:
        """Whether there is a leader that is not to be disturbed."""
        if self._leadership:
            return True
        return self.leader_id is not None and self._clock.hears(now_ms)

    # ---- messages ----

    def received(self, source: str, term: int, body: CoreBody, now_ms: float) -> list[Effect]:
        """A message of another node, on its current connection."""
        self._settle(now_ms)
        if isinstance(body, VoteRequest):
            if not body.transfer and self._hears_leader(now_ms):
                return []
        leads = isinstance(body, Batch | SnapshotPart | Confirm)
        known = leads or isinstance(body, VoteRequest) or source == self.leader_id
        if not known and source not in self._shared.nodes:
            if source not in self._leaving or term > self.term:
                return []  # of a node that was removed meanwhile
        effects = super().received(source, term, body, now_ms)
        if term != self.term:
            return effects
        if self._leadership:
            self._leadership.heard(source, now_ms)
        elif leads and source == self.leader_id:
            self._clock.heard(now_ms)
            self._question = None
        return effects

    def _why_not(self, source: str, body: CoreBody) -> str:
        """Strangers lead and ask for votes, too: they may have been added meanwhile."""
        if source == self._shared.node_id:
            return f"{source} is this node"
        try:
            for payload in _configurations_of(body):
                decode_configuration(payload)
        except ConfigurationError as error:
            return error.reason
        return ""

    def _take(self, source: str, body: CoreBody, now_ms: float) -> list[Effect]:
        match body:
            case Confirm():
                return [Send(source, Confirmed(body.round))]
            case Confirmed():
                leadership = self._leadership
                return leadership.confirmed(source, body.round, now_ms) if leadership else []
            case TimeoutNow():
                return self._take_over(source, now_ms)
            case VoteRequest():
                return [self._answer(source, body, now_ms)]
            case VoteResponse(pre=True):
                return self._count_answer(source, body, now_ms)
        effects = super()._take(source, body, now_ms)
        return effects + self._note(effects, now_ms) + self._progress(now_ms)

    def _answer(self, source: str, request: VoteRequest, now_ms: float) -> Send:
        """No vote without a configuration: who may vote has held the one that says so. One that
        damage took it from has kept its terms, and claims what it had."""
        send = self._vote(source, request)
        assert isinstance(send.body, VoteResponse)
        if not self.configuration.voters and self._shared.claim <= (0, 0):
            return Send(source, replace(send.body, granted=False))
        if send.body.granted and not request.pre:
            self._clock.restart(now_ms)
        return send

    def _count_answer(self, source: str, answer: VoteResponse, now_ms: float) -> list[Effect]:
        if self._question is None:
            return []
        self._question.answered(source, answer)
        if self._question.won:
            return self.campaign(now_ms)
        if self._question.lost:
            self._question = None
        return []

    def _take_over(self, source: str, now_ms: float) -> list[Effect]:
        """The leader asks this node to lead; or a voter asks its leader to let it."""
        if self._leadership:
            return self._leadership.transfer(source, now_ms)
        if source != self.leader_id or not self._may_lead:
            return []
        self._transfer_term = next_term(self.term, self._shared.node_id)
        return self.campaign(now_ms)

    # ---- membership ----

    def _settle(self, now_ms: float) -> None:
        """Before each input: entries may be gone that the disk had no space for."""
        self._now_ms = now_ms
        self._history.committed(self._shared.committed_lsn)
        if self._history.lsn > self._log.last_lsn:
            self._history.cut(self._log.last_lsn)
            self._reconfigure(now_ms)

    def _note(self, effects: list[Effect], now_ms: float) -> list[Effect]:
        """What is about to be done to the log may change who is a member."""
        history, before = self._history, self.configuration
        for effect in effects:
            match effect:
                case CutDiverged():
                    history.cut(effect.after_lsn)
                case AppendRecords():
                    for lsn, payload in effect.batch.configurations:
                        if lsn >= effect.from_lsn:
                            history.note(lsn, decode_configuration(payload))
                case TakeSnapshotPart(last=True):
                    part = effect.part
                    history.restart(part.lsn, decode_configuration(part.configuration))
                case _:
                    pass
        return self._reconfigure(now_ms) if self.configuration != before else []

    def _let_go(self) -> None:
        """Removed nodes are fed until they know that they were removed."""
        assert self._leader is not None
        for node, lsn in list(self._leaving.items()):
            progress = self._leader.progress[node]
            if progress.matched_lsn >= lsn and progress.committed_sent >= lsn:
                del self._leaving[node]
                self._leader.drop(node)

    def _reconfigure(self, now_ms: float) -> list[Effect]:
        """Another configuration is in force."""
        current = self._history.current
        self._shared.nodes = current.members | {self._shared.node_id}
        self._shared.acks = self._electorate = current.quorum
        if self._leader is None or self._leadership is None:
            return []
        self._leadership.reconfigured(now_ms)
        new = self._leader.feed(self._connected)
        removed = self._leader.progress.keys() - self._shared.nodes
        for node in sorted(removed - self._leaving.keys()):
            self._leaving[node] = self._history.lsn
            if node not in self._connected:
                self.disconnected(node)
        for node in self._leaving.keys() & self._shared.nodes:
            del self._leaving[node]
        return [
            effect
            for node in new
            if node in self._connected
            for effect in self._leader.connected(node, now_ms)
        ]


def _configurations_of(body: CoreBody) -> list[bytes]:
    """The payloads of the configurations in a message."""
    if isinstance(body, Batch):
        return [payload for _, payload in body.configurations]
    return [body.configuration] if isinstance(body, SnapshotPart) else []
