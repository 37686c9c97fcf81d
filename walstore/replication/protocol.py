"""The rules between a leader and its followers. Sans-IO: messages in, bytes or a refusal out.

A follower opens the connection and says hello with the end of its durable log. The leader checks
that this is a place in its own log, answers with its own hello, and sends every entry after it
as soon as it is durable there. The follower answers each batch, once that is on its disk, with
an ack.

A node that has no log yet says hello once before, for NO_LOG, and learns from the answer which
log it is going to be a copy of; there that connection ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from walstore.replication.errors import CloseCode, MessageError, RefusedError
from walstore.replication.message import (
    MESSAGE_BYTES_MAX,
    Body,
    Entries,
    Hello,
    ReplicationMessage,
    decode,
    encode,
)

__all__ = ["Position", "Session", "check_entries", "check_follower", "check_leader"]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a log stands.

    Attributes:
        log_id: its history.
        term: its current term.
        first_lsn: the first entry it holds.
        last_lsn: the last one that is durable; 0 when there never was one.
    """

    log_id: bytes
    term: int
    first_lsn: int
    last_lsn: int


class Session:
    """One node's end of one connection: makes and checks what every message carries.

    Args:
        node_id: this node.
        peer_id: the node at the other end; empty until its hello tells.
        bytes_max: largest message taken.
    """

    def __init__(self, node_id: str, peer_id: str = "", bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self.node_id = node_id
        self.peer_id = peer_id
        self.peer_log_id = b""
        self._bytes_max = bytes_max
        self._sent = 0
        self._received = 0

    def pack(self, body: Body, position: Position, timestamp_ns: int) -> bytes:
        """The next message to the peer."""
        self._sent += 1
        return encode(
            ReplicationMessage(
                source=self.node_id,
                target=self.peer_id,
                message_id=self._sent,
                term=position.term,
                timestamp_ns=timestamp_ns,
                log_id=position.log_id,
                body=body,
            )
        )

    def unpack(self, data: bytes | str) -> ReplicationMessage:
        """The next message of the peer; the first one is its hello.

        Raises:
            MessageError: it is not what may come now.
        """
        if isinstance(data, str):
            raise MessageError("a text message; this protocol is binary", CloseCode.NOT_BINARY)
        message = decode(data, bytes_max=self._bytes_max)
        self._received += 1
        if message.message_id != self._received:
            raise MessageError(f"message {message.message_id} where {self._received} was due")
        if isinstance(message.body, Hello) != (self._received == 1):
            raise MessageError(f"a message of type {message.type.name} out of place")
        if self._received == 1:
            self._learn_peer(message)
        if message.source != self.peer_id:
            raise MessageError(f"a message of {message.source} on the connection of {self.peer_id}")
        if message.target not in (self.node_id, ""):
            reason = f"a message to {message.target}, and this is {self.node_id}"
            raise MessageError(reason, CloseCode.WRONG_NODE)
        return message

    def _learn_peer(self, message: ReplicationMessage) -> None:
        if not self.peer_id:
            self.peer_id = message.source
        if message.source == self.node_id:
            reason = f"two nodes are called {self.node_id}"
            raise MessageError(reason, CloseCode.WRONG_NODE)
        self.peer_log_id = message.log_id


def check_follower(
    hello: ReplicationMessage, leader: Position, term_of: Callable[[int], int]
) -> None:
    """The leader's check of a follower's hello.

    Args:
        term_of: the term of an entry of the leader's, from the one before its first on.

    Raises:
        RefusedError: streaming to this follower would not give it the leader's log.
    """
    assert isinstance(hello.body, Hello)
    last_lsn, last_term = hello.body.last_lsn, hello.body.last_term
    name = hello.source
    if hello.log_id != leader.log_id:
        reason = f"{name} holds log {hello.log_id.hex()}, the leader's is {leader.log_id.hex()}"
        raise RefusedError(CloseCode.OTHER_LOG, reason)
    if hello.term > leader.term:
        reason = f"{name} has seen term {hello.term}, this leader's is {leader.term}"
        raise RefusedError(CloseCode.STALE_LEADER, reason)
    if last_lsn > leader.last_lsn:
        reason = f"{name} ends at lsn {last_lsn}, the leader at {leader.last_lsn}"
        raise RefusedError(CloseCode.DIVERGED, reason)
    if last_lsn + 1 < leader.first_lsn:
        reason = f"{name} ends at lsn {last_lsn}, the leader begins at {leader.first_lsn}"
        raise RefusedError(CloseCode.BEHIND, reason)
    held = term_of(last_lsn) if last_lsn else 0
    if held != last_term:
        reason = f"lsn {last_lsn} is of term {last_term} on {name}, of term {held} on the leader"
        raise RefusedError(CloseCode.DIVERGED, reason)


def check_leader(hello: ReplicationMessage, follower: Position) -> None:
    """The follower's check of the leader's answer. The leader has made its own by then.

    Raises:
        RefusedError: what this leader would send is not this log's continuation.
    """
    if hello.term < follower.term:
        reason = f"the leader's term {hello.term} is older than {follower.term}"
        raise RefusedError(CloseCode.STALE_LEADER, reason)
    if hello.log_id != follower.log_id:
        reason = f"this log is {follower.log_id.hex()}, the leader's is {hello.log_id.hex()}"
        raise RefusedError(CloseCode.OTHER_LOG, reason)


def check_entries(message: ReplicationMessage, follower: Position) -> Entries:
    """The follower's check of a batch: the next entries of this log, and no older term's.

    Raises:
        MessageError, RefusedError: nothing of it may be appended.
    """
    batch = message.body
    if not isinstance(batch, Entries):
        raise MessageError(f"a message of type {message.type.name} from a leader")
    if message.log_id != follower.log_id:
        raise MessageError("a batch of another log")
    first, last = batch.entries[0], batch.entries[-1]
    if first.lsn != follower.last_lsn + 1:
        raise MessageError(f"lsn {first.lsn} where {follower.last_lsn + 1} was due")
    if first.term < follower.term:
        reason = f"an entry of term {first.term}, and term {follower.term} has begun"
        raise RefusedError(CloseCode.STALE_LEADER, reason)
    if last.term > message.term:
        raise MessageError(f"an entry of term {last.term} from a leader of term {message.term}")
    return batch
