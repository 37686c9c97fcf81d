"""What can go wrong between nodes, as a tree.

WALStoreError
    ReplicationError
        MessageError (ValueError)               bytes that are no message of this protocol
        RefusedError                            a peer refuses this node, or is refused, and why
        UnreachableError (ConnectionError)      a new follower did not find its leader in time
        NotLeaderError                          a write on a follower; names the leader
        ReplicationTimeoutError (TimeoutError)  not known to be on enough followers in time
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from walstore.errors import WALStoreError

__all__ = [
    "CloseCode",
    "MessageError",
    "NotLeaderError",
    "RefusedError",
    "ReplicationError",
    "ReplicationTimeoutError",
    "UnreachableError",
]


class CloseCode(IntEnum):
    """Why a connection was closed: WebSocket codes, and ours from 4000 on."""

    NORMAL = 1000
    GOING_AWAY = 1001
    BAD_MESSAGE = 1002
    NOT_BINARY = 1003
    NOT_AUTHENTICATED = 1008
    TOO_BIG = 1009
    TRY_LATER = 1013
    OTHER_CLUSTER = 4001
    REPLACED = 4005
    NO_ANSWER = 4006
    WRONG_NODE = 4007

    @property
    def final(self) -> bool:
        """Whether trying again can hardly help before a person has done something: it is done
        slowly."""
        return self in _HINTS


_HINTS = {
    CloseCode.NOT_AUTHENTICATED: "give every node the same secret, and certificates of one CA",
    CloseCode.OTHER_CLUSTER: "check the peer's url; or start this node in a new directory",
    CloseCode.WRONG_NODE: "check node_id, and the peer's node id and url in peers",
}


class ReplicationError(WALStoreError):
    """Something between nodes went wrong."""


class MessageError(ReplicationError, ValueError):
    """Bytes that are no message of this protocol, or a message out of place."""

    def __init__(self, reason: str, code: CloseCode = CloseCode.BAD_MESSAGE) -> None:
        self.reason = reason
        self.code = code
        super().__init__(reason)


class RefusedError(ReplicationError):
    """A node does not take part in this replication; nothing was changed."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        self.code = code
        self.reason = reason
        self.hint = _HINTS.get(code, "")
        super().__init__(reason)


class UnreachableError(ReplicationError, ConnectionError):
    """A new follower needs its leader once, to be made as a copy of its log. Nothing was made."""

    hint = "start the leader first, and check its url"

    def __init__(self, node_id: str, url: str, timeout_s: float, reason: str) -> None:
        self.node_id = node_id
        self.url = url
        self.timeout_s = timeout_s
        self.reason = reason
        super().__init__(f"{node_id} did not answer at {url} within {timeout_s:g} s: {reason}")


class NotLeaderError(ReplicationError):
    """Only the leader writes; what a follower holds comes from it."""

    def __init__(self, node_id: str, leader_id: str) -> None:
        self.node_id = node_id
        self.leader_id = leader_id
        self.hint = f"write on {leader_id}"
        super().__init__(f"{node_id} follows {leader_id}, and only the leader writes")


class ReplicationTimeoutError(ReplicationError, TimeoutError):
    """An entry is not known to be durable on enough followers. It may still become so."""

    def __init__(
        self, lsn: int, wanted: int, durable_lsns: Mapping[str, int], timeout_s: float
    ) -> None:
        self.lsn = lsn
        self.wanted = wanted
        self.durable_lsns = dict(durable_lsns)
        self.timeout_s = timeout_s
        known = ", ".join(f"{node} {at}" for node, at in sorted(durable_lsns.items())) or "nobody"
        super().__init__(
            f"lsn {lsn} is not known to be durable on {wanted} followers after {timeout_s:g} s; "
            f"known durable: {known}"
        )
