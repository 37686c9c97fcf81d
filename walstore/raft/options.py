"""What a node that elects is told. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from walstore.replication.entries import LogState

__all__ = ["RaftLog", "RaftOptions"]


class RaftLog(LogState, Protocol):
    """What a RaftNode may ask of the log, besides."""

    @property
    def accepted_lsn(self) -> int:
        """The last entry of a user's that has its lsn; those behind last_lsn are not written yet,
        and the disk may still refuse them."""

    def bytes_after(self, lsn: int) -> int:
        """About how many bytes of records lie behind an entry."""


@dataclass(frozen=True, slots=True)
class RaftOptions:
    """Times and bounds.

    Attributes:
        election_ms: a leader that was not heard for so long may be replaced, and one that hears no
            quorum for so long resigns. Several times the heartbeat of CoreOptions.
        stall_ms: a leader whose disk takes nothing for so long, while entries wait, hands over.
        uncommitted_bytes_max: no appends are let in while more than this is not committed.
    """

    election_ms: float = 1_000
    stall_ms: float = 3_000
    uncommitted_bytes_max: int = 64 << 20
