"""What a leader knows of one follower (docs/protocol.md, "Leader"). Sans-IO."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from walstore.replication.effects import SendEntries, SendSnapshot

__all__ = ["Progress", "State"]


class State(StrEnum):
    """How a follower is fed."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


@dataclass(slots=True)
class Progress:
    """One follower, as its leader knows it in its term.

    Attributes:
        node: the follower.
        state: how it is fed.
        connected: whether messages reach it.
        next_lsn: the next entry to send.
        matched_lsn: its log is durable and the leader's up to here.
        received_lsn, durable_lsn, applied_lsn: the stages it has reported. Like matched_lsn they
            fall only where the node asks for entries that it had: it has lost its disk.
        in_flight_bytes: records sent on this connection and not received yet.
        sending: the send that is under way.
        due_ms: when the next message without entries is due.
        resumed_lsn: where it was last asked for to go on, until that entry is on its disk.
        committed_sent: the highest committed_lsn that it was told on this connection.
        snapshot_lsn: the snapshot that is under way, 0 while none has been found.
        snapshot_bytes, snapshot_sent, snapshot_taken: its size, and how much was sent and taken.
    """

    node: str
    next_lsn: int
    state: State = State.PROBE
    connected: bool = False
    matched_lsn: int = 0
    received_lsn: int = 0
    durable_lsn: int = 0
    applied_lsn: int = 0
    in_flight_bytes: int = 0
    sending: SendEntries | SendSnapshot | None = None
    due_ms: float = 0
    resumed_lsn: int = 0
    committed_sent: int = 0
    snapshot_lsn: int = 0
    snapshot_bytes: int = 0
    snapshot_sent: int = 0
    snapshot_taken: int = 0
    _in_flight: deque[tuple[int, int]] = field(default_factory=deque)

    def probe(self, next_lsn: int) -> None:
        """Where the logs meet is not known; entries before next_lsn are a guess."""
        self._go(State.PROBE, next_lsn)

    def replicate(self, next_lsn: int) -> None:
        """The follower's log is the leader's up to next_lsn - 1."""
        self._go(State.REPLICATE, next_lsn)

    def snapshot(self) -> None:
        """What it needs is no longer held."""
        self._go(State.SNAPSHOT, self.next_lsn)

    def _go(self, state: State, next_lsn: int) -> None:
        self.state = state
        self.next_lsn = next_lsn
        self.sending = None
        self.in_flight_bytes = 0
        self._in_flight.clear()
        self.snapshot_lsn = self.snapshot_bytes = self.snapshot_sent = self.snapshot_taken = 0

    def holds_at_most(self, lsn: int) -> None:
        """The follower has asked for what comes behind lsn."""
        self.matched_lsn = min(self.matched_lsn, lsn)
        self.received_lsn = min(self.received_lsn, lsn)
        self.durable_lsn = min(self.durable_lsn, lsn)
        self.applied_lsn = min(self.applied_lsn, lsn)

    def sent(self, last_lsn: int, nbytes: int) -> None:
        """Records up to last_lsn are on their way."""
        self.next_lsn = last_lsn + 1
        self._in_flight.append((last_lsn, nbytes))
        self.in_flight_bytes += nbytes

    def acked(self, received_lsn: int, durable_lsn: int, applied_lsn: int) -> None:
        """The follower has reported its stages."""
        self.received_lsn = max(self.received_lsn, received_lsn)
        self.durable_lsn = max(self.durable_lsn, durable_lsn)
        self.applied_lsn = max(self.applied_lsn, applied_lsn)
        self.matched_lsn = max(self.matched_lsn, durable_lsn)
        if durable_lsn >= self.resumed_lsn:
            self.resumed_lsn = 0
        while self._in_flight and self._in_flight[0][0] <= received_lsn:
            self.in_flight_bytes -= self._in_flight.popleft()[1]
