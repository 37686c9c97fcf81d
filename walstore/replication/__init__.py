"""Replication: a log whose entries are on the disks of several nodes."""

# acks
from walstore.replication.acks import Receipt, Stage

# errors
from walstore.replication.errors import (
    CloseCode,
    FatalReplicationError,
    LostDiskError,
    MembershipError,
    MessageError,
    NotLeaderError,
    PromotionError,
    QuarantinedError,
    RefusedError,
    ReplicationError,
    ReplicationTimeoutError,
    TooFewNodesError,
    UnreachableError,
)

# events
from walstore.replication.events import ReplicationEvent, RoleChanged

# manager
from walstore.replication.manager import ReplicatedCommit, ReplicationWALManager

# message
from walstore.replication.message import MessageType, ReplicationMessage

# network
from walstore.replication.network import (
    NetworkError,
    NetworkEvent,
    NetworkManager,
    NodeConnected,
    NodeDisconnected,
    QueueDrained,
)

# options
from walstore.replication.options import NetworkOptions, ReplicationOptions

# security
from walstore.replication.security import TLS, Security

# snapshots
from walstore.replication.snapshots import Snapshots, TermOf

# status
from walstore.replication.status import NodeStatus, PeerStatus

# streaming
from walstore.replication.streaming import WALReplicationManager

__all__ = [
    "TLS",
    "CloseCode",
    "FatalReplicationError",
    "LostDiskError",
    "MembershipError",
    "MessageError",
    "MessageType",
    "NetworkError",
    "NetworkEvent",
    "NetworkManager",
    "NetworkOptions",
    "NodeConnected",
    "NodeDisconnected",
    "NodeStatus",
    "NotLeaderError",
    "PeerStatus",
    "PromotionError",
    "QuarantinedError",
    "QueueDrained",
    "Receipt",
    "RefusedError",
    "ReplicatedCommit",
    "ReplicationError",
    "ReplicationEvent",
    "ReplicationMessage",
    "ReplicationOptions",
    "ReplicationTimeoutError",
    "ReplicationWALManager",
    "RoleChanged",
    "Security",
    "Snapshots",
    "Stage",
    "TermOf",
    "TooFewNodesError",
    "UnreachableError",
    "WALReplicationManager",
]
