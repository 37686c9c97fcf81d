"""The follower's half of replication (docs/protocol.md, "Follower"). Sans-IO."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from walstore.replication.effects import (
    AppendRecords,
    CutDiverged,
    Effect,
    Refuse,
    Reset,
    Send,
    StopFollowing,
    TakeSnapshotPart,
)
from walstore.replication.entries import Batch, first_conflict, last_of_term
from walstore.replication.message import Ack, SnapshotAck, SnapshotPart, SyncRequest
from walstore.replication.shared import Shared

__all__ = ["Follower"]

_NOTHING = Ack(0, 0, 0)


class _Taken(NamedTuple):
    """The first `end` bytes of a snapshot."""

    lsn: int
    total_bytes: int
    end: int


class Follower:
    """One term of following a leader: made when the term begins, thrown away when it ends.

    Args:
        shared: the node's state; its term is the leader's.
        leader_id: the only node that may lead in this term; None until it has spoken.

    Nothing is known to match before the leader has said so in this term. Not even what is
    committed here: after a forced promotion the leader may lack it, and must not be told that
    this node holds its entries there.
    """

    def __init__(self, shared: Shared, leader_id: str | None = None) -> None:
        self._shared = shared
        self.leader_id = leader_id
        self.stopped = False
        self._matched_lsn = 0
        self._leader_committed_lsn = 0
        self._acked = _NOTHING
        self._refused: tuple[int, int] | None = None
        self._passed_over: tuple[int, int] | None = None  # of an empty message since then
        self._snapshot: _Taken | None = None

    @property
    def matched_lsn(self) -> int:
        """Up to here this log is the leader's. Falls with the log when an append was refused."""
        return min(self._matched_lsn, self._shared.log.last_lsn)

    @property
    def has_what_is_committed(self) -> bool:
        """Whether the leader has said how far entries of its own term are committed, and all of
        that is on the disk here."""
        log, lsn = self._shared.log, self._leader_committed_lsn
        here = log.first_lsn <= lsn <= min(self.matched_lsn, log.durable_lsn)
        return here and log.term_of(lsn) == self._shared.term

    def reconnected(self) -> None:
        """What was asked for or was under way on the old connection is lost."""
        self._refused = None
        self._acked = _NOTHING

    # ---- entries ----

    def entries(self, batch: Batch) -> list[Effect]:
        """Entries of the leader's log, or none."""
        assert self.leader_id is not None
        if self.stopped:
            return []
        log = self._shared.log
        if batch.runs and not _is_sound(batch, self._shared.term):
            return [Refuse(self.leader_id, f"a batch after lsn {batch.prev_lsn} makes no sense")]
        if not self._holds(batch.prev_lsn, batch.prev_term):
            if log.first_lsn - 1 <= batch.prev_lsn <= self._shared.committed_lsn:
                return self._stop(batch.prev_lsn)
            return self._ask(batch)
        self._refused = None
        conflict_lsn = first_conflict(log, batch)
        if conflict_lsn is not None and conflict_lsn <= self._shared.committed_lsn:
            return self._stop(conflict_lsn)
        # What the log holds for sure while the effects below are still to be carried out.
        held_lsn = log.last_lsn if conflict_lsn is None else conflict_lsn - 1
        self._matched_lsn = max(self._matched_lsn, batch.end_lsn)
        self._leader_committed_lsn = max(self._leader_committed_lsn, batch.committed_lsn)
        effects = self._commit(held_lsn)
        if conflict_lsn is not None:
            effects.append(CutDiverged(conflict_lsn - 1, self._shared.term))
        if batch.end_lsn > held_lsn:
            effects.append(AppendRecords(batch, held_lsn + 1))
        if batch.receipt or batch.end_lsn <= held_lsn:
            effects.append(self._ack(self._matched_lsn, held_lsn))
        return effects

    def _holds(self, lsn: int, term: int) -> bool:
        log = self._shared.log
        return log.first_lsn - 1 <= lsn <= log.last_lsn and log.term_of(lsn) == term

    def _ask(self, batch: Batch) -> list[Effect]:
        """Asks the leader to go on elsewhere, once per refused place.

        What was under way behind a refused message lies at the same place or behind it; the
        answer, and only that, lies before it in (lsn, term) or is what is asked for. Where the
        leader has lost the question, as with a node that it has dropped and feeds anew, it asks
        at one place again and again.
        """
        assert self.leader_id is not None
        place = (batch.prev_lsn, batch.prev_term)
        is_behind = self._refused is not None and (
            place > self._refused or (batch.runs and place == self._refused)
        )
        if is_behind and (batch.runs or place != self._passed_over):
            self._passed_over = None if batch.runs else place
            return []
        self._refused, self._passed_over = place, None
        log = self._shared.log
        lsn = last_of_term(log, batch.prev_lsn, batch.prev_term)
        if lsn is None:
            # All before the first entry is committed, so that a leader's log agrees there.
            lsn = log.first_lsn - 1
            if batch.prev_lsn >= lsn:
                return self._stop(lsn)
        mending = self._shared.claim > (0, 0)
        return [Send(self.leader_id, SyncRequest(lsn, log.term_of(lsn), mending))]

    def _stop(self, lsn: int) -> list[Effect]:
        assert self.leader_id is not None
        self.stopped = True
        reason = f"{self.leader_id} has another entry at lsn {lsn}, which is committed here"
        return [StopFollowing(self.leader_id, lsn, reason)]

    # ---- snapshots ----

    def snapshot(self, part: SnapshotPart) -> list[Effect]:
        """The next bytes of a snapshot; with the last of them the log begins anew behind it."""
        assert self.leader_id is not None
        if self.stopped:
            return []
        end = part.at + len(part.data)
        if end > part.total_bytes or part.lsn < 1:
            return [Refuse(self.leader_id, f"a snapshot of lsn {part.lsn} makes no sense")]
        log, committed_lsn = self._shared.log, self._shared.committed_lsn
        whole = Send(self.leader_id, SnapshotAck(part.lsn, part.total_bytes))
        if self._holds(part.lsn, part.lsn_term):
            self._matched_lsn = max(self._matched_lsn, part.lsn)
            self._leader_committed_lsn = max(self._leader_committed_lsn, part.lsn)
            return [*self._commit(log.last_lsn), whole]
        if part.lsn < log.first_lsn - 1:
            return [whole]  # behind what is committed here: the next entries tell whether it fits
        if part.lsn <= committed_lsn:
            return self._stop(part.lsn)
        held = self._held_of(part)
        if part.total_bytes and not part.data:
            return [Send(self.leader_id, SnapshotAck(part.lsn, held))]
        if part.at > held:
            return []  # the rest of one that was given up
        if end < part.total_bytes:
            end = max(end, held) if part.at else end  # a part at 0 begins anew
            self._snapshot = _Taken(part.lsn, part.total_bytes, end)
            return [
                TakeSnapshotPart(part, last=False),
                Send(self.leader_id, SnapshotAck(part.lsn, end)),
            ]
        return [*self._install(part), whole]

    def _held_of(self, part: SnapshotPart) -> int:
        """How many bytes of its snapshot are here. In one leadership a snapshot that goes on is the
        same file; of an earlier leadership's nothing is known."""
        taken = self._snapshot
        if taken is None or (taken.lsn, taken.total_bytes) != (part.lsn, part.total_bytes):
            return 0
        return taken.end

    def _install(self, part: SnapshotPart) -> list[Effect]:
        """Keeps entries that are not known to be the leader's: they may be nowhere else."""
        shared, effects = self._shared, list[Effect]()
        if shared.log.last_lsn > shared.committed_lsn:
            effects.append(CutDiverged(shared.committed_lsn, shared.term))
        effects.append(TakeSnapshotPart(part, last=True))
        effects.append(Reset(part.lsn + 1, part.lsn_term, shared.term))
        self._snapshot = self._refused = None
        self._matched_lsn = max(self._matched_lsn, part.lsn)
        return effects + shared.commit(part.lsn)

    # ---- acks ----

    def report(self) -> list[Effect]:
        """More is durable or applied: it may be committed, and the leader is told."""
        if self.leader_id is None or self.stopped or not self._matched_lsn:
            return []
        last_lsn = self._shared.log.last_lsn
        effects = self._commit(last_lsn)
        told = self._acked
        stages = self._stages(self.matched_lsn, last_lsn)
        more = stages.durable_lsn > told.durable_lsn or stages.applied_lsn > told.applied_lsn
        if more:
            effects.append(self._ack(self.matched_lsn, last_lsn))
        return effects

    def _commit(self, held_lsn: int) -> list[Effect]:
        # Durable, too: what the disk refuses later would count as committed for good.
        held_lsn = min(held_lsn, self._shared.log.durable_lsn)
        lsn = min(self._leader_committed_lsn, self._matched_lsn, held_lsn)
        return self._shared.commit(lsn)

    def _stages(self, received_lsn: int, held_lsn: int) -> Ack:
        """What is durable or applied lies in the held part of the log that matches."""
        shared = self._shared
        held_lsn = min(held_lsn, self._matched_lsn)
        durable_lsn = min(shared.log.durable_lsn, held_lsn)
        return Ack(received_lsn, durable_lsn, min(shared.applied_lsn, durable_lsn))

    def _ack(self, received_lsn: int, held_lsn: int) -> Send:
        assert self.leader_id is not None
        self._acked = self._stages(received_lsn, held_lsn)
        return Send(self.leader_id, self._acked)


def _is_sound(batch: Batch, term: int) -> bool:
    """Whether the entries follow prev_lsn, and none is of a term that has not begun."""
    lsns = [batch.prev_lsn, *(run.first_lsn for run in batch.runs), batch.last_lsn + 1]
    terms = [batch.prev_term, *(run.term for run in batch.runs), term]
    rises = all(before < after for before, after in pairwise(lsns))
    return rises and lsns[1] == batch.prev_lsn + 1 and terms == sorted(terms)
