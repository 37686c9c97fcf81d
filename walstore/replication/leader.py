"""The leader's half of replication (docs/protocol.md, "Leader"). Sans-IO."""

from __future__ import annotations

from collections.abc import Collection

from walstore.replication.acks import Stage
from walstore.replication.effects import Effect, Refuse, Send, SendEntries, SendSnapshot
from walstore.replication.entries import last_of_term
from walstore.replication.message import Ack, SnapshotAck, SyncRequest, WalEntry
from walstore.replication.progress import Progress, State
from walstore.replication.shared import Shared

__all__ = ["Leader"]


class Leader:
    """One leadership: made when it begins, thrown away when it ends.

    Args:
        shared: the node's state; its term is the leadership's. The next entry appended to the
            log begins it.
        connected: the nodes that messages reach.
    """

    def __init__(self, shared: Shared, connected: Collection[str]) -> None:
        self._shared = shared
        self.began_lsn = shared.log.last_lsn + 1
        self.progress: dict[str, Progress] = {}
        self.feed(connected)

    def feed(self, connected: Collection[str]) -> list[str]:
        """Feeds each other node of the cluster from now on, too; returns those that are new.

        Messages reach those that are `connected`; the leader probes them at the next `tick`.
        """
        shared = self._shared
        new = sorted(shared.nodes - {shared.node_id} - self.progress.keys())
        fed = {node: Progress(node, shared.log.last_lsn + 1) for node in new}
        for node, progress in fed.items():
            progress.connected = node in connected
        self.progress = self.progress | fed  # another thread may be looking at the old one
        return new

    def drop(self, node: str) -> None:
        """Feeds the node no longer."""
        self.progress = {name: item for name, item in self.progress.items() if name != node}

    def lsns(self, stage: Stage) -> dict[str, int]:
        """How far each node is known to have come with the stage, this one among them."""
        shared = self._shared
        match stage:
            case Stage.RECEIVED:
                lsns = {node: progress.received_lsn for node, progress in self.progress.items()}
                lsns[shared.node_id] = shared.log.last_lsn
            case Stage.DURABLE:
                lsns = {node: progress.matched_lsn for node, progress in self.progress.items()}
                lsns[shared.node_id] = shared.log.durable_lsn
            case Stage.APPLIED:
                lsns = {node: progress.applied_lsn for node, progress in self.progress.items()}
                lsns[shared.node_id] = shared.applied_lsn
            case Stage.UNKNOWN:
                raise ValueError("no stage")
        return lsns

    # ---- connections and time ----

    def connected(self, node: str, now_ms: float) -> list[Effect]:
        """A new connection: what was on its way on an old one is lost."""
        progress = self.progress[node]
        progress.connected = True
        progress.committed_sent = progress.resumed_lsn = 0
        progress.probe(self._shared.log.last_lsn + 1)
        return self._send_empty(progress, now_ms)

    def disconnected(self, node: str) -> None:
        """Nothing reaches the node until it is connected again."""
        progress = self.progress[node]
        progress.connected = False
        progress.probe(progress.next_lsn)

    def tick(self, now_ms: float) -> list[Effect]:
        """Sends what is due."""
        effects: list[Effect] = []
        for progress in self.progress.values():
            if not _waits_for_time(progress) or progress.due_ms > now_ms:
                continue
            if progress.state is State.SNAPSHOT:
                effects += self._pump_snapshot(progress)
            else:
                effects += self._send_empty(progress, now_ms)
        return effects

    def next_deadline_ms(self) -> float | None:
        """When `tick` has something to do next, if no input comes before."""
        waiting = (item.due_ms for item in self.progress.values() if _waits_for_time(item))
        return min(waiting, default=None)

    # ---- the own log ----

    def written(self) -> list[Effect]:
        """The log has new entries: they travel while the disk works."""
        return [effect for item in self.progress.values() for effect in self._pump(item)]

    def durable(self, now_ms: float) -> list[Effect]:
        """The own disk has more, or a follower's: what is committed now?

        Only an entry of the own term is counted; what lies before it is committed with it
        (Ongaro, 3.6.2).
        """
        shared = self._shared
        reached = shared.acks.reached(self.lsns(Stage.DURABLE), shared.node_id)
        if reached < self.began_lsn or reached <= shared.committed_lsn:
            return []
        effects = shared.commit(reached)
        for progress in self.progress.values():
            self._tell_committed(progress, now_ms)
        return effects

    # ---- messages ----

    def acked(self, node: str, ack: Ack, now_ms: float) -> list[Effect]:
        """A follower of this term reports its stages."""
        if max(ack.received_lsn, ack.durable_lsn) > self._shared.log.last_lsn:
            return [Refuse(node, f"an ack of lsn {ack.received_lsn}, which was never sent")]
        progress = self.progress[node]
        progress.acked(ack.received_lsn, ack.durable_lsn, ack.applied_lsn)
        if progress.state is State.PROBE and ack.received_lsn >= progress.next_lsn - 1:
            progress.replicate(progress.next_lsn)
            self._tell_committed(progress, now_ms)
        return self.durable(now_ms) + self._pump(progress)

    def sync_requested(self, node: str, request: SyncRequest, now_ms: float) -> list[Effect]:
        """A follower cannot take what it was sent, and says where it could go on."""
        progress, log = self.progress[node], self._shared.log
        progress.holds_at_most(request.lsn)
        if progress.state is State.SNAPSHOT:
            return []  # it was asked before the snapshot began to travel
        if request.lsn > log.last_lsn:
            # Followers ask behind what they were sent only for what they know to be committed.
            reason = f"it holds lsn {request.lsn} as committed, and this log ends at {log.last_lsn}"
            return [Refuse(node, reason)]
        agreed = last_of_term(log, request.lsn, request.term)
        if agreed is None:
            return self._begin_snapshot(progress)
        if agreed == request.lsn and log.term_of(agreed) == request.term:
            if progress.resumed_lsn == agreed + 1:
                return self._pause(progress, now_ms)
            progress.resumed_lsn = agreed + 1
            progress.replicate(agreed + 1)
            self._tell_committed(progress, now_ms)
            return self._pump(progress)
        # Behind what it was sent, too: the follower is shown that what it holds was replaced.
        progress.probe((agreed if request.lsn < progress.next_lsn else request.lsn) + 1)
        return self._send_empty(progress, now_ms)

    def _pause(self, progress: Progress, now_ms: float) -> list[Effect]:
        """A follower has asked for the same again, and nothing of it is on its disk, which may be
        full: after a while it is asked whether it can go on."""
        if progress.state is State.REPLICATE:
            progress.probe(progress.resumed_lsn)
            progress.due_ms = now_ms + self._shared.options.probe_ms
        return []

    def snapshot_acked(self, node: str, ack: SnapshotAck, now_ms: float) -> list[Effect]:
        """A follower has taken a part of a snapshot, or has all that it stands for."""
        progress = self.progress[node]
        if progress.state is not State.SNAPSHOT or ack.lsn != progress.snapshot_lsn:
            return []
        if ack.at >= progress.snapshot_bytes:
            progress.replicate(ack.lsn + 1)
            self._tell_committed(progress, now_ms)
            return self._pump(progress)
        if not progress.snapshot_sent:  # it was asked how much of it is there already
            progress.snapshot_sent = ack.at
        progress.snapshot_taken = max(progress.snapshot_taken, ack.at)
        return self._pump_snapshot(progress)

    # ---- what became of sends ----

    def sent(self, send: SendEntries, last_lsn: int, nbytes: int, now_ms: float) -> list[Effect]:
        """Records are on their way, up to last_lsn."""
        progress = self.progress[send.node]
        if progress.sending is not send:
            return []
        progress.sending = None
        progress.sent(last_lsn, nbytes)
        progress.committed_sent = send.committed_lsn
        progress.due_ms = now_ms + self._shared.options.heartbeat_ms
        self._tell_committed(progress, now_ms)
        return self._pump(progress)

    def snapshot_sent(
        self, send: SendSnapshot, lsn: int, total_bytes: int, end: int
    ) -> list[Effect]:
        """The part of a snapshot that ends at byte `end` is on its way; 0: the question how much of
        it the follower holds, whose answer tells where to go on."""
        progress = self.progress[send.node]
        if progress.sending is not send:
            return []
        progress.sending = None
        progress.snapshot_lsn = lsn
        progress.snapshot_bytes = total_bytes
        progress.snapshot_sent = end
        return self._pump_snapshot(progress) if end else []

    def not_sent(self, send: SendEntries | SendSnapshot, now_ms: float) -> list[Effect]:
        """The log, or the snapshot, no longer holds what was to be sent."""
        progress = self.progress[send.node]
        if progress.sending is not send:
            return []
        if isinstance(send, SendEntries) and send.from_lsn < self._shared.log.first_lsn:
            return self._begin_snapshot(progress)
        if isinstance(send, SendSnapshot):
            progress.snapshot()
        else:
            progress.probe(send.from_lsn)
        progress.due_ms = now_ms + self._shared.options.probe_ms
        return []

    # ---- sending ----

    def _term_of(self, lsn: int) -> int:
        """Entries of the own leadership are not looked up: this is on the way of each message."""
        shared = self._shared
        return shared.term if lsn >= self.began_lsn else shared.log.term_of(lsn)

    def _tell_committed(self, progress: Progress, now_ms: float) -> None:
        """Sees to it that the follower learns of committed_lsn soon."""
        if progress.state is not State.REPLICATE:
            return
        if progress.committed_sent < self._shared.committed_lsn:
            soon_ms = now_ms + self._shared.options.commit_delay_ms
            progress.due_ms = min(progress.due_ms, soon_ms)

    def _send_empty(self, progress: Progress, now_ms: float) -> list[Effect]:
        """Asks whether the logs meet before next_lsn, and says what is committed."""
        shared = self._shared
        prev_lsn = progress.next_lsn - 1
        if prev_lsn < shared.log.first_lsn - 1:
            return self._begin_snapshot(progress)
        probes = progress.state is State.PROBE
        pause_ms = shared.options.probe_ms if probes else shared.options.heartbeat_ms
        progress.due_ms = now_ms + pause_ms
        progress.committed_sent = shared.committed_lsn
        entry = WalEntry(prev_lsn, self._term_of(prev_lsn), shared.committed_lsn, 0, b"")
        return [Send(progress.node, entry)]

    def _pump(self, progress: Progress) -> list[Effect]:
        """Sends the next records, if the follower may have more."""
        shared, log = self._shared, self._shared.log
        options = shared.options
        if progress.state is not State.REPLICATE or progress.sending is not None:
            return []
        if progress.next_lsn > log.last_lsn or progress.in_flight_bytes >= options.window_bytes:
            return []
        if progress.next_lsn < log.first_lsn:
            return self._begin_snapshot(progress)
        prev_lsn = progress.next_lsn - 1
        progress.sending = SendEntries(
            node=progress.node,
            prev_lsn=prev_lsn,
            prev_term=self._term_of(prev_lsn),
            from_lsn=progress.next_lsn,
            bytes_max=options.chunk_bytes,
            committed_lsn=shared.committed_lsn,
            receipt=shared.receipts,
        )
        return [progress.sending]

    def _begin_snapshot(self, progress: Progress) -> list[Effect]:
        progress.snapshot()
        return self._pump_snapshot(progress)

    def _pump_snapshot(self, progress: Progress) -> list[Effect]:
        """Sends the next part of the snapshot, if the follower may have more."""
        options = self._shared.options
        under_way = progress.snapshot_sent - progress.snapshot_taken
        whole = progress.snapshot_lsn and progress.snapshot_sent >= progress.snapshot_bytes
        if progress.sending is not None or under_way >= options.window_bytes or whole:
            return []
        progress.sending = SendSnapshot(
            progress.node, progress.snapshot_lsn, progress.snapshot_sent, options.chunk_bytes
        )
        return [progress.sending]


def _waits_for_time(progress: Progress) -> bool:
    """Whether time alone makes the leader send something."""
    if progress.state is not State.SNAPSHOT:
        return progress.connected
    return progress.connected and not progress.snapshot_lsn and progress.sending is None
