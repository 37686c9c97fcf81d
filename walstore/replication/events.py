"""What a node tells those who subscribe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from walstore.replication.network import NetworkEvent

__all__ = ["ReplicationEvent", "RoleChanged"]


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """The node leads, follows, or knows no leader, in this term."""

    role: Literal["leader", "follower"]
    term: int
    leader_id: str | None


ReplicationEvent = RoleChanged | NetworkEvent
