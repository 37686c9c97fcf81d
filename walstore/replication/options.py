"""Times and bounds."""

from __future__ import annotations

from dataclasses import dataclass, fields

from walstore.errors import OptionError

__all__ = ["NetworkOptions", "ReplicationOptions"]


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
        clients_max: connections of clients at the same time.
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
    clients_max: int = 256

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
                raise OptionError(f"{option.name} must be a positive int, not {value!r}")
        if self.silence_ms <= self.heartbeat_ms:
            raise OptionError("silence_ms must be more than heartbeat_ms")
        if self.reconnect_max_ms < self.reconnect_min_ms:
            raise OptionError("reconnect_max_ms must be at least reconnect_min_ms")


@dataclass(frozen=True, slots=True)
class ReplicationOptions:
    """Times and bounds of a node.

    Attributes:
        window_bytes: records on their way to a follower, at most; a slow one costs this memory.
        heartbeat_ms: a leader is heard of at least so often.
        commit_delay_ms: followers learn at most so much later what is committed.
        probe_ms: an unanswered question where a follower's log meets the leader's is repeated.
        leader_timeout_ms: a node that is to lead and hears of no leader for so long asks for votes.
        join_timeout_ms: how long a new node looks for a peer that has a log.
        retention_bytes, retention_s: how much log is kept back from `truncate_before` for a
            follower that is behind, and for how long for one that is gone.
        catch_up_bytes_per_s: bound on what followers that are behind are sent, together. None: 64
            MiB/s and twice what is appended, while something is; else none.
        election_ms: of nodes that elect: a leader that was not heard for so long, or up to twice as
            long, is replaced, and one that hears no quorum for so long leads no longer. At least
            three times heartbeat_ms.
        stall_ms: of nodes that elect: a leader whose disk takes nothing for so long hands over.
        uncommitted_bytes_max: of nodes that elect: appends wait while more than this is not
            committed.
        learner_gone_s: of nodes that elect: a learner that was not connected for so long is
            removed.
        audit_bytes, audit_ms: so many bytes of committed entries are read on every node, and
            compared, so often (docs/repair.md).

    Raises:
        OptionError: a value is not a positive number.
    """

    window_bytes: int = 4 << 20
    heartbeat_ms: float = 100.0
    commit_delay_ms: float = 10.0
    probe_ms: float = 500.0
    leader_timeout_ms: float = 1000.0
    join_timeout_ms: float = 10_000.0
    retention_bytes: int = 1 << 30
    retention_s: float = 86_400.0
    catch_up_bytes_per_s: int | None = None
    election_ms: float = 1000.0
    stall_ms: float = 3000.0
    uncommitted_bytes_max: int = 64 << 20
    learner_gone_s: float = 7 * 86_400.0
    audit_bytes: int = 1 << 20
    audit_ms: float = 1000.0

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if value is None and option.name == "catch_up_bytes_per_s":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise OptionError(f"{option.name} is a positive number, not {value!r}")
