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
    "UnreachableError",
]
