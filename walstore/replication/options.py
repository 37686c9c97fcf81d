"""Options of the network."""

from __future__ import annotations

from dataclasses import dataclass, fields

from walstore.errors import OptionError

__all__ = ["NetworkOptions"]


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """How patient a network is, and how much it holds. All are positive.

    Attributes:
        queue_bytes: records and parts of snapshots that may wait to be sent, per peer.
        heartbeat_ms: how often a peer is asked for a sign of life; each answer measures a round
            trip.
        silence_ms: a peer that was not heard of for so long is disconnected.
        connect_timeout_ms: to reach a peer's port.
        handshake_timeout_ms: from there until both ends know each other, TLS included.
        close_timeout_ms: for a peer to take note that a connection is closed.
        reconnect_min_ms, reconnect_max_ms: the first and the longest pause between attempts; it
            doubles from one to the next, and up to half of it is taken off at random.
        handshakes_max: connections whose other end is not known yet; further ones are closed.
        peers_max: nodes that are connected at the same time.
    """

    queue_bytes: int = 4 << 20
    heartbeat_ms: int = 500
    silence_ms: int = 5000
    connect_timeout_ms: int = 5000
    handshake_timeout_ms: int = 5000
    close_timeout_ms: int = 2000
    reconnect_min_ms: int = 50
    reconnect_max_ms: int = 5000
    handshakes_max: int = 64
    peers_max: int = 64

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
                raise OptionError(f"{option.name} must be a positive int, not {value!r}")
        if self.silence_ms <= self.heartbeat_ms:
            raise OptionError("silence_ms must be more than heartbeat_ms")
        if self.reconnect_max_ms < self.reconnect_min_ms:
            raise OptionError("reconnect_max_ms must be at least reconnect_min_ms")
