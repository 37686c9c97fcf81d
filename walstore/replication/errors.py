"""What can go wrong between nodes, as a tree.

WALStoreError
    ReplicationError
        MessageError (ValueError)               bytes that are no message of this protocol
        RefusedError                            a peer refuses this node, or is refused, and why
        UnreachableError (ConnectionError)      a new node did not find its cluster in time
        NotLeaderError                          a write on a node that does not lead
        TooFewNodesError                        not enough nodes are connected for this append
        PromotionError                          not enough nodes agreed to a new leader
        MembershipError                         the members of an elected cluster were not changed
        ReplicationTimeoutError (TimeoutError)  not known to be on enough nodes in time
        FatalReplicationError                   this node cannot go on without a person
            LostDiskError                       it votes, and its log is gone
        QuarantinedError                        this node's log is not that of the others
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING

from walstore.errors import WALStoreError

if TYPE_CHECKING:
    from walstore.replication.acks import Receipt

__all__ = [
    "CloseCode",
    "FatalReplicationError",
    "LostDiskError",
    "MembershipError",
    "MessageError",
    "NotLeaderError",
    "PromotionError",
    "QuarantinedError",
    "RefusedError",
    "ReplicationError",
    "ReplicationTimeoutError",
    "TooFewNodesError",
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
    LOST_DISK = 4008

    @property
    def final(self) -> bool:
        """Whether trying again can hardly help before a person has done something: it is done
        slowly."""
        return self in _HINTS


_REPLACE = (
    "give the node another node_id, start it in an empty directory, and tell the cluster: "
    "walstore cluster replace URL... --node OLD --with NEW"
)
_HINTS = {
    CloseCode.NOT_AUTHENTICATED: "give every node the same secret, and certificates of one CA",
    CloseCode.OTHER_CLUSTER: "check the peer's url; or start this node in a new directory",
    CloseCode.WRONG_NODE: "check node_id, and the peer's node id and url in peers",
    CloseCode.LOST_DISK: _REPLACE,
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
    """A node does not answer. Where a new one asked, which needs a peer once to become a copy of
    its log, nothing was made."""

    hint = "start that node first, and check its url"

    def __init__(self, node_id: str, url: str, timeout_s: float, reason: str) -> None:
        self.node_id = node_id
        self.url = url
        self.timeout_s = timeout_s
        self.reason = reason
        super().__init__(f"{node_id} did not answer at {url} within {timeout_s:g} s: {reason}")


class NotLeaderError(ReplicationError):
    """Only the leader writes; nothing was appended.

    Attributes:
        node_id: the node that was asked.
        leader_id, leader_url: the leader it knows of, or None.
    """

    def __init__(self, node_id: str, leader_id: str | None, leader_url: str | None = None) -> None:
        self.node_id = node_id
        self.leader_id = leader_id
        self.leader_url = leader_url
        if leader_id is None:
            self.hint = "promote a node, or wait until one leads"
            super().__init__(f"{node_id} does not lead, and knows of no leader")
            return
        self.hint = f"write on {leader_id}" + (f", at {leader_url}" if leader_url else "")
        super().__init__(f"{node_id} follows {leader_id}, and only the leader writes")


class TooFewNodesError(ReplicationError):
    """Fewer nodes are connected than this append is to be on; nothing was appended."""

    hint = "bring nodes back, or append with acks that ask for fewer"

    def __init__(self, acks: str, connected: tuple[str, ...]) -> None:
        self.acks = acks
        self.connected = connected
        super().__init__(
            f"acks={acks} cannot be reached: connected are only {', '.join(connected) or 'none'}"
        )


class PromotionError(ReplicationError):
    """Not enough nodes agreed: this node does not lead.

    Attributes:
        reasons: {node id: why it did not agree}.
        elected: whether the nodes elect, and none can be forced to lead.
    """

    hint = (
        "promote the node whose log is longest; force=True leads without the others' agreement, "
        "and what only they hold is lost"
    )

    def __init__(self, node_id: str, reasons: Mapping[str, str], *, elected: bool = False) -> None:
        self.node_id = node_id
        self.reasons = dict(reasons)
        self.elected = elected
        if elected:
            self.hint = "have a voter lead that is connected and has the whole log; or ask again"
        why = "; ".join(f"{node}: {reason}" for node, reason in sorted(reasons.items()))
        super().__init__(f"{node_id} was not promoted: {why}")


class MembershipError(ReplicationError):
    """The members were not changed, or are not known to be.

    Attributes:
        reason: why not.
    """

    hint = "look at the voters and learners in status() of the leader, and ask again"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the members were not changed: {reason}")


class FatalReplicationError(ReplicationError):
    """What the leader says contradicts what this node was promised; it has stopped following, and
    its log is as it was."""

    hint = "compare the logs with 'walstore diff', and decide which one is right"


class LostDiskError(FatalReplicationError):
    """The log of a node that votes is gone, and with it what the node has promised. It takes no
    part under its name any more.

    Attributes:
        node_id: the node.
    """

    hint = _REPLACE

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        super().__init__(
            f"{node_id} votes in its cluster, and its log is empty: it has lost what it voted and "
            "acknowledged, and must not come back under this name"
        )


class QuarantinedError(ReplicationError):
    """Committed entries of this node's log are not those of the others: it takes part in nothing,
    and answers no reader.

    Attributes:
        first_lsn, last_lsn: the first difference is among these.
    """

    hint = (
        "compare the logs with 'walstore diff'; keep this directory, remove the node from the "
        "cluster, and add one with another id in a new directory"
    )

    def __init__(self, node_id: str, first_lsn: int, last_lsn: int) -> None:
        self.node_id = node_id
        self.first_lsn = first_lsn
        self.last_lsn = last_lsn
        super().__init__(
            f"{node_id} is quarantined: its entries {first_lsn} to {last_lsn} are not those of the "
            "other nodes"
        )


class ReplicationTimeoutError(ReplicationError, TimeoutError):
    """An entry is not known to be on as many nodes as was asked, or a change of the members is not
    made. It may still get there.

    Attributes:
        receipt: what is known to hold where.
        reason: why the members are not changed yet; "" where an entry is waited for.
    """

    hint = "the entry is in the leader's log: wait for it again, or look at the receipt"

    def __init__(
        self, receipt: Receipt, acks: str, stage: str, timeout_s: float, *, reason: str = ""
    ) -> None:
        self.receipt = receipt
        self.acks = acks
        self.stage = stage
        self.timeout_s = timeout_s
        self.reason = reason
        if reason:
            self.hint = (
                "it may still be made; ask again, or take a node back that does not come: remove it"
            )
            super().__init__(f"the members are not changed after {timeout_s:g} s: {reason}")
            return
        super().__init__(
            f"lsn {receipt.lsn} is not known to be {stage} as acks={acks} asks after "
            f"{timeout_s:g} s; known: {receipt}"
        )
