"""What a network knows of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Histogram", "NetworkMetrics", "PeerCounters", "PeerMetrics", "peer_metrics"]

_BUCKETS = 32


class Histogram:
    """Durations in buckets that double: bucket n holds those below 2**n microseconds."""

    def __init__(self) -> None:
        self.count = 0
        self.sum_ns = 0
        self.buckets = [0] * _BUCKETS

    def add(self, duration_ns: int) -> None:
        """Counts one."""
        self.count += 1
        self.sum_ns += duration_ns
        self.buckets[min((duration_ns // 1000).bit_length(), _BUCKETS - 1)] += 1


@dataclass(slots=True)
class PeerCounters:
    """Of one peer, over all its connections."""

    messages_sent: int = 0
    messages_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    connects: int = 0
    failures: int = 0
    last_error: str = ""
    refused: Counter[str] = field(default_factory=Counter)
    round_trips: Histogram = field(default_factory=Histogram)
    sent_bytes_per_s: float = 0.0
    received_bytes_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PeerMetrics:
    """Of one peer, since the network was started.

    Attributes:
        connected_since_ns: wall clock; None while not connected.
        messages_sent, messages_received: without handshakes.
        bytes_sent, bytes_received: on the wire, frames included, TLS not.
        sent_bytes_per_s, received_bytes_per_s: in the last heartbeat interval.
        queued_bytes: records and parts of snapshots that wait to be sent.
        connects: handshakes that ended well.
        failures: connections that could not be made, or ended other than by a close.
        last_error: why the last one did.
        refused: how often this node closed a connection to this peer, by reason.
        round_trips: how many were measured.
        round_trip_sum_ns: of all of them.
        round_trip_buckets: bucket n counts those below 2**n microseconds and not below half that.
    """

    connected_since_ns: int | None
    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int
    sent_bytes_per_s: float
    received_bytes_per_s: float
    queued_bytes: int
    connects: int
    failures: int
    last_error: str
    refused: Mapping[str, int]
    round_trips: int
    round_trip_sum_ns: int
    round_trip_buckets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NetworkMetrics:
    """Of a network.

    Attributes:
        peers: by node id.
        handshakes: connections whose other end is not known yet.
        strangers_refused: how often one of those was closed, by reason.
    """

    peers: Mapping[str, PeerMetrics]
    handshakes: int
    strangers_refused: Mapping[str, int]


def peer_metrics(
    counters: PeerCounters, connected_since_ns: int | None, queued_bytes: int
) -> PeerMetrics:
    """A snapshot of the counters."""
    return PeerMetrics(
        connected_since_ns=connected_since_ns,
        messages_sent=counters.messages_sent,
        messages_received=counters.messages_received,
        bytes_sent=counters.bytes_sent,
        bytes_received=counters.bytes_received,
        sent_bytes_per_s=counters.sent_bytes_per_s,
        received_bytes_per_s=counters.received_bytes_per_s,
        queued_bytes=queued_bytes,
        connects=counters.connects,
        failures=counters.failures,
        last_error=counters.last_error,
        refused=dict(counters.refused),
        round_trips=counters.round_trips.count,
        round_trip_sum_ns=counters.round_trips.sum_ns,
        round_trip_buckets=tuple(counters.round_trips.buckets),
    )
