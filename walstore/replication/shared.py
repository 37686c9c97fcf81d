"""What the parts of one core have in common. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass

from walstore.replication.acks import Rule
from walstore.replication.effects import Effect, SetCommitted
from walstore.replication.entries import LogState

__all__ = ["CoreOptions", "Shared"]


@dataclass(frozen=True, slots=True)
class CoreOptions:
    """Bounds and times.

    Attributes:
        window_bytes: records sent to a follower and not received; one chunk may go beyond.
        chunk_bytes: records of one message.
        probe_ms: a probe that is not answered is repeated after this time.
        heartbeat_ms: a message without entries is sent after this time of silence.
        commit_delay_ms: followers learn of a new committed_lsn at most so much later.
    """

    window_bytes: int = 4 << 20
    chunk_bytes: int = 256 << 10
    probe_ms: float = 500
    heartbeat_ms: float = 100
    commit_delay_ms: float = 10


@dataclass(slots=True)
class Shared:
    """The node's state, one for its core and the role it plays.

    Attributes:
        claim: (term, lsn) of the end of the log before damage took some of it; (0, 0) where none
            did, or all of that is back.
    """

    node_id: str
    nodes: frozenset[str]
    log: LogState
    acks: Rule
    options: CoreOptions
    term: int
    committed_lsn: int
    applied_lsn: int = 0
    receipts: bool = False
    claim: tuple[int, int] = (0, 0)

    def commit(self, lsn: int) -> list[Effect]:
        """Everything up to lsn is committed; it never goes back."""
        if lsn <= self.committed_lsn:
            return []
        self.committed_lsn = lsn
        return [SetCommitted(lsn)]
