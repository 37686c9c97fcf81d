"""Replication: a log whose entries reach its followers over WebSockets."""

# errors
from walstore.replication.errors import (
    CloseCode,
    MessageError,
    NotLeaderError,
    RefusedError,
    ReplicationError,
    ReplicationTimeoutError,
    UnreachableError,
)

# manager
from walstore.replication.manager import ReplicationWALManager

# message
from walstore.replication.message import MessageType, ReplicationMessage

__all__ = [
    "CloseCode",
    "MessageError",
    "MessageType",
    "NotLeaderError",
    "RefusedError",
    "ReplicationError",
    "ReplicationMessage",
    "ReplicationTimeoutError",
    "ReplicationWALManager",
    "UnreachableError",
]
