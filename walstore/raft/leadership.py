"""What a leader does besides feeding its followers (docs/consensus.md, "Leader"). Sans-IO."""

from __future__ import annotations

import math
from collections.abc import Set
from typing import NamedTuple

from walstore.raft.errors import ConfigurationError
from walstore.raft.history import History
from walstore.raft.membership import Configuration
from walstore.raft.options import RaftLog, RaftOptions
from walstore.raft.reads import READS_MAX, Rounds
from walstore.replication.acks import Stage
from walstore.replication.effects import (
    AppendConfiguration,
    ChangeRefused,
    Effect,
    HoldAppends,
    ReadRefused,
    Send,
    TransferFailed,
)
from walstore.replication.lag import DiskWatch
from walstore.replication.leader import Leader
from walstore.replication.message import Confirm, TimeoutNow
from walstore.replication.shared import Shared

__all__ = ["Leadership"]

_ENDED = "the node leads no longer"
_TOO_EARLY = "no entry of this leadership is committed yet"


class _Transfer(NamedTuple):
    node: str
    end_ms: float
    of_all: bool  # that was accepted; else of what is written, by a disk that writes no more


class Leadership:
    """One leadership: made when it begins, thrown away when it ends.

    Args:
        shared, log: the node's state and its log.
        leader: feeds the followers.
        history: the configurations; the node keeps it up to date.
        options: times and bounds.
        now_ms: when it begins.

    Attributes:
        over: set when the node is to resign.
    """

    def __init__(
        self,
        shared: Shared,
        log: RaftLog,
        leader: Leader,
        history: History,
        options: RaftOptions,
        now_ms: float,
    ) -> None:
        self._shared = shared
        self._log = log
        self._leader = leader
        self._history = history
        self._options = options
        self._rounds = Rounds(shared.node_id)
        self._heard_ms: dict[str, float] = {}
        self._transfer: _Transfer | None = None
        self._reached_transfer = False
        self._appending: Configuration | None = None
        self._disk = DiskWatch()
        self._too_much = False
        self._held = False
        self.over = False
        self.reconfigured(now_ms)

    @property
    def _configuration(self) -> Configuration:
        return self._history.current

    # ---- time, and what is heard ----

    def heard(self, node: str, now_ms: float) -> None:
        """A node has sent a message of this term."""
        self._heard_ms[node] = now_ms

    def reconfigured(self, now_ms: float) -> None:
        """There is another configuration: nobody in it has been silent for longer than this."""
        for node in self._configuration.members:
            self._heard_ms.setdefault(node, now_ms)

    def tick(self, now_ms: float) -> list[Effect]:
        """Does what is due."""
        if now_ms >= self._contact_ms(now_ms) + self._options.election_ms:
            self.over = True
            return []
        effects: list[Effect] = []
        if self._transfer and now_ms >= self._transfer.end_ms:
            effects.append(TransferFailed(self._transfer.node, "it did not lead in time"))
            self._transfer = None
        if now_ms >= self._rounds.due_ms:
            effects += self._ask(now_ms)
        return effects + self._look_at_disk(now_ms) + self.hold()

    def next_deadline_ms(self, now_ms: float) -> float:
        """When `tick` has something to do next, if no input comes before."""
        contact_ms = self._contact_ms(now_ms)
        deadline_ms = min(self._rounds.due_ms, contact_ms + self._options.election_ms)
        return min(deadline_ms, self._transfer.end_ms) if self._transfer else deadline_ms

    def _contact_ms(self, now_ms: float) -> float:
        """Since when no quorum has been heard."""
        heard_ms = self._heard_ms | {self._shared.node_id: now_ms}
        return self._configuration.quorum.agreed(heard_ms, -math.inf)

    def progressed(self, now_ms: float) -> list[Effect]:
        """More may be durable or committed: what does that allow?"""
        effects = self.hold()
        if self._transfer and not self._reached_transfer:
            effects += self._time_out_target()
        if self._appending or not self._is_settled():
            return effects
        configuration = self._configuration
        if configuration.joint:
            return effects + self._append(configuration.leave())
        if configuration.target and self._have_caught_up(configuration.newcomers):
            return effects + self._append(configuration.promote())
        if self._shared.node_id not in configuration.voters:
            self.over = True
            best = self._best(now_ms)
            return [*effects, Send(best, TimeoutNow())] if best else effects
        return effects

    def ended(self) -> list[Effect]:
        """What is to be told to those who wait."""
        return [ReadRefused(read_id, _ENDED) for read_id in self._rounds.waiting()]

    # ---- reads ----

    def read(self, read_id: int, now_ms: float) -> list[Effect]:
        """Answers with an lsn, when the node has made sure that it leads."""
        committed_lsn = self._shared.committed_lsn
        if committed_lsn < self._leader.began_lsn:
            return [ReadRefused(read_id, _TOO_EARLY)]
        if len(self._rounds) >= READS_MAX:
            return [ReadRefused(read_id, f"{READS_MAX} reads wait already")]
        self._rounds.read(read_id, committed_lsn)
        return self._ask(now_ms) if self._rounds.wanted(self._configuration.quorum) else []

    def confirmed(self, node: str, number: int, now_ms: float) -> list[Effect]:
        """A node has answered a round."""
        self._rounds.answered(node, number)
        effects: list[Effect] = [*self._rounds.ready(self._configuration.quorum)]
        if self._rounds.wanted(self._configuration.quorum):
            effects += self._ask(now_ms)
        return effects

    def _ask(self, now_ms: float) -> list[Effect]:
        """Asks every node whether it still knows this leadership."""
        number = self._rounds.begin()
        self._rounds.due_ms = now_ms + self._shared.options.heartbeat_ms
        others = sorted(self._configuration.members - {self._shared.node_id})
        effects: list[Effect] = [Send(node, Confirm(number)) for node in others]
        if self._transfer:
            effects += self._time_out_target()
        return [*effects, *self._rounds.ready(self._configuration.quorum)]

    # ---- transfer ----

    def transfer(self, node: str, now_ms: float) -> list[Effect]:
        """Hands the leadership over, when the node has all entries."""
        if node == self._shared.node_id or node not in self._configuration.voters:
            return [TransferFailed(node, f"{node} is no other voter")]
        if self._transfer and self._transfer.node == node:
            return []  # it asks for itself what somebody else has asked for
        if self._transfer:
            return [TransferFailed(node, f"{self._transfer.node} is about to lead")]
        return self._begin_transfer(node, now_ms, of_all=True)

    def _begin_transfer(self, node: str, now_ms: float, *, of_all: bool) -> list[Effect]:
        """What is accepted until appends are held counts: `held` looks, then, at the log's end."""
        self._transfer = _Transfer(node, now_ms + self._options.election_ms, of_all)
        self._reached_transfer = False
        return self.hold() or self._time_out_target()

    def _time_out_target(self) -> list[Effect]:
        """Once when the target has everything, and again with each round."""
        assert self._transfer is not None
        log, progress = self._log, self._leader.progress.get(self._transfer.node)
        end_lsn = log.accepted_lsn if self._transfer.of_all else log.last_lsn
        if progress is None or progress.matched_lsn < end_lsn:
            return []
        self._reached_transfer = True
        return [Send(self._transfer.node, TimeoutNow())]

    def _best(self, now_ms: float) -> str | None:
        """The voter that has most, of those that are there."""
        there = [
            (progress.matched_lsn, node)
            for node, progress in self._leader.progress.items()
            if node in self._configuration.voters
            and now_ms - self._heard_ms[node] < self._options.election_ms
        ]
        return max(there)[1] if there else None

    def _look_at_disk(self, now_ms: float) -> list[Effect]:
        """Hands over when the own disk has taken nothing for too long."""
        stalled_ms = self._disk.stalled_ms(self._log.durable_lsn, self._log.last_lsn, now_ms)
        if stalled_ms < self._options.stall_ms or self._transfer:
            return []
        best = self._best(now_ms)
        return self._begin_transfer(best, now_ms, of_all=False) if best else []

    # ---- appends ----

    def hold(self) -> list[Effect]:
        """Keeps appends out while the leadership is handed over, or too much is not committed."""
        waiting_bytes = self._log.bytes_after(self._shared.committed_lsn)
        most = self._options.uncommitted_bytes_max
        self._too_much = waiting_bytes > (most // 2 if self._too_much else most)
        hold = self._too_much or self._transfer is not None
        if hold == self._held:
            return []
        self._held = hold
        return [HoldAppends(hold)]

    # ---- membership ----

    def change(self, voters: Set[str], learners: Set[str]) -> list[Effect]:
        """Begins to make these nodes the members."""
        if self._shared.committed_lsn < self._leader.began_lsn:
            return [ChangeRefused(_TOO_EARLY)]
        if self._appending or not self._is_settled():
            return [ChangeRefused("an earlier change is not committed yet")]
        try:
            changed = self._configuration.change(voters, learners)
        except ConfigurationError as error:
            return [ChangeRefused(error.reason)]
        return self._append(changed)

    def configured(self, lsn: int) -> None:
        """The configuration has been appended; 0: the disk has no space for it."""
        configuration, self._appending = self._appending, None
        assert configuration is not None
        if lsn:
            self._history.note(lsn, configuration)

    def _append(self, configuration: Configuration) -> list[Effect]:
        self._appending = configuration
        return [AppendConfiguration(configuration.encode())]

    def _is_settled(self) -> bool:
        """Whether the configuration in force and an entry of the own term are committed."""
        least = max(self._history.lsn, self._leader.began_lsn)
        return self._shared.committed_lsn >= least

    def _have_caught_up(self, nodes: Set[str]) -> bool:
        """Whether they have on their disks all that is committed."""
        lsns, committed_lsn = self._leader.lsns(Stage.DURABLE), self._shared.committed_lsn
        return all(lsns[node] >= committed_lsn for node in nodes)
