"""ReplicationMessage and its bytes. Sans-IO: bytes in, messages out.

One WebSocket message carries one ReplicationMessage; docs/protocol.md gives the layout of the
header and of every body, and says who sends what when.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from xxhash import xxh3_64, xxh3_64_intdigest

from walstore.limits import LSN_MAX
from walstore.replication.errors import CloseCode, MessageError
from walstore.replication.requests import (
    ANSWER_BYTES_MAX,
    COMMAND_BYTES_MAX,
    ClientRequest,
    ClientResponse,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)

__all__ = [
    "CONTROL_BYTES_MAX",
    "MAC_BYTES",
    "MESSAGE_BYTES",
    "MESSAGE_BYTES_MAX",
    "NODE_ID_BYTES_MAX",
    "NONCE_BYTES",
    "NO_CLUSTER",
    "TERM_MAX",
    "URL_BYTES_MAX",
    "VERSION",
    "Ack",
    "Address",
    "Addresses",
    "Audit",
    "Audited",
    "Body",
    "Challenge",
    "Confirm",
    "Confirmed",
    "Heartbeat",
    "Hello",
    "MessageType",
    "Proof",
    "Quarantine",
    "ReplicationMessage",
    "SnapshotAck",
    "SnapshotPart",
    "SyncRequest",
    "TimeoutNow",
    "VoteRequest",
    "VoteResponse",
    "WalEntry",
    "Welcome",
    "decode",
    "encode",
    "is_node_id",
]

VERSION = 2
_MAGIC = b"WREP"
_MARK = struct.Struct("<4sHBB")
_CHECKSUM = struct.Struct("<Q")
_REST = struct.Struct("<QQQ16sBBH")
_CHECKSUM_AT = _MARK.size
_REST_AT = _MARK.size + _CHECKSUM.size
_HEADER_BYTES = _REST_AT + _REST.size
assert _HEADER_BYTES == 60

_TWO = struct.Struct("<QQ")
_ONE = struct.Struct("<Q")
_THREE = struct.Struct("<QQQ")
_ENTRIES = struct.Struct("<QQQII")
_SNAPSHOT = struct.Struct("<QQQQ")
_GRANT = struct.Struct("<QQQ")
_PREFIX = struct.Struct("<II")
_ADDRESS = struct.Struct("<QBxH")

_MORE = 1
_RECEIPT = 2
_PRE = 1
_TRANSFER = 2
_CONFIGURATION = 1
_MENDING = 1

NODE_ID_BYTES_MAX = 64
"""Longest node id, in UTF-8."""

URL_BYTES_MAX = 1024
"""Longest url of a node, in UTF-8."""

NONCE_BYTES = 32
"""Random bytes that each end of a connection puts into its handshake."""

MAC_BYTES = 32
"""HMAC-SHA256 (RFC 2104)."""

CONTROL_BYTES_MAX = 4096
"""Largest message without records or a part of a snapshot: all a stranger may send."""

MESSAGE_BYTES = 256 << 10
"""Records are gathered up to this size into one message; a larger batch travels in parts."""

MESSAGE_BYTES_MAX = 1 << 20
"""Largest message taken."""

# A request or an answer always fits, with its names and its MAC.
assert max(COMMAND_BYTES_MAX, ANSWER_BYTES_MAX) + CONTROL_BYTES_MAX <= MESSAGE_BYTES_MAX

NO_CLUSTER = bytes(16)
"""The cluster id of a node that has no log yet."""

TERM_MAX = (1 << 63) - 1
"""Largest term."""

_U63_MAX = (1 << 63) - 1

_NOTHING = struct.Struct("")
_NONCE = struct.Struct(f"{NONCE_BYTES}s")
_MAC = struct.Struct(f"{MAC_BYTES}s")


class MessageType(IntEnum):
    """What a message is. Zero is never valid."""

    HELLO = 1
    CHALLENGE = 2
    PROOF = 3
    WELCOME = 4
    HEARTBEAT = 5
    SYNC_REQUEST = 6
    WAL_ENTRY = 7
    ACK = 8
    SNAPSHOT = 9
    SNAPSHOT_ACK = 10
    VOTE_REQUEST = 11
    VOTE_RESPONSE = 12
    CONFIRM = 13
    CONFIRMED = 14
    TIMEOUT_NOW = 15
    REQUEST = 16
    RESPONSE = 17
    ADDRESSES = 18
    AUDIT = 19
    AUDITED = 20
    QUARANTINE = 21


@dataclass(frozen=True, slots=True)
class Hello:
    """The dialer's first message. Like a CHALLENGE it names no node, term or cluster."""

    nonce: bytes


@dataclass(frozen=True, slots=True)
class Challenge:
    """The listener's answer to a HELLO."""

    nonce: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """The dialer knows the secret; zeros where none is set."""

    proof: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """The listener knows it too, and takes the connection."""

    proof: bytes


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life.

    Attributes:
        sent_ns: the sender's monotonic clock.
        echo_ns: sent_ns of the heartbeat that this one answers; 0: it asks for an answer.
    """

    sent_ns: int
    echo_ns: int


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """A follower asks to go on after the entry (lsn, term); `mending`: since damage took the rest,
    and it has noted what it had (docs/repair.md)."""

    lsn: int
    term: int
    mending: bool = False


@dataclass(frozen=True, slots=True)
class WalEntry:
    """Entries of the leader's log, or none: then it only says what is committed.

    Attributes:
        prev_lsn, prev_term: the entry before the first one.
        committed_lsn: the leader's.
        seed: of the segment that the records lie in.
        records: their bytes as they are in the log (docs/format.md); after `decode` a view of
            the message.
        more: the batch goes on in the next message.
        receipt: the follower is to say when it has the records in its memory, too.
    """

    prev_lsn: int
    prev_term: int
    committed_lsn: int
    seed: int
    records: bytes | memoryview
    more: bool = False
    receipt: bool = False


@dataclass(frozen=True, slots=True)
class Ack:
    """How far a follower is, at most as far as its log is known to be the leader's."""

    received_lsn: int
    durable_lsn: int
    applied_lsn: int


@dataclass(frozen=True, slots=True)
class SnapshotPart:
    """Bytes of a snapshot.

    Attributes:
        lsn, lsn_term: the last entry that the snapshot covers.
        at: where these bytes belong in it.
        total_bytes: its size.
        data: the bytes; after `decode` a view of the message.
        configuration: the membership as of lsn, encoded; empty where nodes do not elect.
    """

    lsn: int
    lsn_term: int
    at: int
    total_bytes: int
    data: bytes | memoryview
    configuration: bytes = b""


@dataclass(frozen=True, slots=True)
class SnapshotAck:
    """A follower has the first `at` bytes of the snapshot of `lsn`."""

    lsn: int
    at: int


@dataclass(frozen=True, slots=True)
class VoteRequest:
    """A node wants to lead in the term of the header; where its log ends.

    Attributes:
        last_lsn, last_term: its last entry.
        pre: it only asks whether it would get the vote; the term is its current one.
        transfer: its leader has asked it to lead.
    """

    last_lsn: int
    last_term: int
    pre: bool = False
    transfer: bool = False


@dataclass(frozen=True, slots=True)
class VoteResponse:
    """The answer; where the log of the one who answers ends."""

    granted: bool
    last_lsn: int
    last_term: int
    pre: bool = False


@dataclass(frozen=True, slots=True)
class Confirm:
    """The sender leads in the term of the header. Rounds count from 1 in each term."""

    round: int


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The answer to a CONFIRM: its round."""

    round: int


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """The leader asks a follower to campaign at once."""


class Address(NamedTuple):
    """Where a node is reached.

    Attributes:
        node: which one.
        stamp: that node counts its addresses; the highest is the one that holds.
        url: "ws://host:port" or "wss://...".
    """

    node: str
    stamp: int
    url: str


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where nodes are reached, as far as the sender knows."""

    known: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """The leader asks for a hash of committed entries (docs/repair.md)."""

    first_lsn: int
    last_lsn: int


@dataclass(frozen=True, slots=True)
class Audited:
    """The answer to an AUDIT: the hash of these entries in the sender's log."""

    first_lsn: int
    last_lsn: int
    digest: int


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The leader tells a node that these entries of its log are not those of the others."""

    first_lsn: int
    last_lsn: int


Body = (
    Hello
    | Challenge
    | Proof
    | Welcome
    | Heartbeat
    | SyncRequest
    | WalEntry
    | Ack
    | SnapshotPart
    | SnapshotAck
    | VoteRequest
    | VoteResponse
    | Confirm
    | Confirmed
    | TimeoutNow
    | ClientRequest
    | ClientResponse
    | Addresses
    | Audit
    | Audited
    | Quarantine
)

_TYPES: dict[type[Body], MessageType] = {
    Hello: MessageType.HELLO,
    Challenge: MessageType.CHALLENGE,
    Proof: MessageType.PROOF,
    Welcome: MessageType.WELCOME,
    Heartbeat: MessageType.HEARTBEAT,
    SyncRequest: MessageType.SYNC_REQUEST,
    WalEntry: MessageType.WAL_ENTRY,
    Ack: MessageType.ACK,
    SnapshotPart: MessageType.SNAPSHOT,
    SnapshotAck: MessageType.SNAPSHOT_ACK,
    VoteRequest: MessageType.VOTE_REQUEST,
    VoteResponse: MessageType.VOTE_RESPONSE,
    Confirm: MessageType.CONFIRM,
    Confirmed: MessageType.CONFIRMED,
    TimeoutNow: MessageType.TIMEOUT_NOW,
    ClientRequest: MessageType.REQUEST,
    ClientResponse: MessageType.RESPONSE,
    Addresses: MessageType.ADDRESSES,
    Audit: MessageType.AUDIT,
    Audited: MessageType.AUDITED,
    Quarantine: MessageType.QUARANTINE,
}


@dataclass(frozen=True, slots=True)
class ReplicationMessage:
    """One message between two nodes.

    Attributes:
        source, target: node ids; both empty in a HELLO and a CHALLENGE, and nowhere else.
        message_id: counts the sender's messages on this connection, from 1.
        term: the sender's current term.
        timestamp_ns: the sender's wall clock.
        cluster_id: the id of the sender's log, 16 bytes; NO_CLUSTER where it has none.
        body: by type.
    """

    source: str
    target: str
    message_id: int
    term: int
    timestamp_ns: int
    cluster_id: bytes
    body: Body

    @property
    def type(self) -> MessageType:
        """What the message is."""
        return _TYPES[type(self.body)]


def is_node_id(name: str) -> bool:
    """Whether a name can be a node's: printable, and at most 64 bytes of UTF-8."""
    return name.isprintable() and 0 < len(name.encode(errors="replace")) <= NODE_ID_BYTES_MAX


# ---- encoding ----


def _encode_body(body: Body) -> tuple[int, bytes, bytes | memoryview]:
    """Flags, the fields of the body, and the bulk that follows them."""
    match body:
        case WalEntry():
            flags = _MORE * body.more | _RECEIPT * body.receipt
            fields = _ENTRIES.pack(body.prev_lsn, body.prev_term, body.committed_lsn, body.seed, 0)
            return flags, fields, body.records
        case Ack():
            return 0, _THREE.pack(body.received_lsn, body.durable_lsn, body.applied_lsn), b""
        case Heartbeat():
            return 0, _TWO.pack(body.sent_ns, body.echo_ns), b""
        case SnapshotPart():
            fields = _SNAPSHOT.pack(body.lsn, body.lsn_term, body.at, body.total_bytes)
            if not body.configuration:
                return 0, fields, body.data
            size = _PREFIX.pack(len(body.configuration), 0)
            return _CONFIGURATION, fields + size + body.configuration, body.data
        case SnapshotAck():
            return 0, _TWO.pack(body.lsn, body.at), b""
        case SyncRequest():
            return _MENDING * body.mending, _TWO.pack(body.lsn, body.term), b""
        case VoteRequest():
            flags = _PRE * body.pre | _TRANSFER * body.transfer
            return flags, _TWO.pack(body.last_lsn, body.last_term), b""
        case VoteResponse():
            fields = _GRANT.pack(body.granted, body.last_lsn, body.last_term)
            return _PRE * body.pre, fields, b""
        case Confirm() | Confirmed():
            return 0, _ONE.pack(body.round), b""
        case TimeoutNow():
            return 0, b"", b""
        case ClientRequest():
            return 0, *encode_request(body)
        case ClientResponse():
            return 0, *encode_response(body)
        case Addresses():
            return 0, _PREFIX.pack(len(body.known), 0), b"".join(map(_encode_address, body.known))
        case Audit() | Quarantine():
            return 0, _TWO.pack(body.first_lsn, body.last_lsn), b""
        case Audited():
            return 0, _THREE.pack(body.first_lsn, body.last_lsn, body.digest), b""
        case Hello() | Challenge():
            return 0, body.nonce, b""
        case Proof() | Welcome():
            return 0, body.proof, b""


def _encode_address(address: Address) -> bytes:
    node, url = address.node.encode(), address.url.encode()
    return _ADDRESS.pack(address.stamp, len(node), len(url)) + node + url


def encode(message: ReplicationMessage, key: bytes | None = None) -> bytes:
    """The message's bytes; bulk is copied once.

    Args:
        message: what to encode.
        key: of the connection and direction; adds the MAC.
    """
    flags, fields, bulk = _encode_body(message.body)
    source, target = message.source.encode(), message.target.encode()
    mark = _MARK.pack(_MAGIC, VERSION, message.type, flags)
    rest = _REST.pack(
        message.message_id,
        message.term,
        message.timestamp_ns,
        message.cluster_id,
        len(source),
        len(target),
        0,
    )
    head = b"".join((rest, source, target, fields))
    # XXH3 over all but the checksum: the mark seeds what covers the rest.
    digest = xxh3_64(head, seed=int.from_bytes(mark, "little"))
    digest.update(bulk)
    head = b"".join((mark, _CHECKSUM.pack(digest.intdigest()), head))
    if key is None:
        return b"".join((head, bulk)) if bulk else head
    mac = hmac.new(key, head, "sha256")
    mac.update(bulk)
    return b"".join((head, bulk, mac.digest()))


# ---- decoding ----


def _require(truth: bool, reason: str) -> None:
    if not truth:
        raise MessageError(reason)


def _unpack(shape: struct.Struct, body: memoryview) -> tuple[Any, ...]:
    """The fields of a body that has nothing else in it."""
    if len(body) != shape.size:
        raise MessageError(f"a body of {len(body)} bytes where {shape.size} were due")
    return shape.unpack(body)


def _require_entry(lsn: int, term: int) -> None:
    if lsn > LSN_MAX or term > TERM_MAX:
        raise MessageError("an entry beyond every lsn or term")


def _sync_request(body: memoryview, flags: int) -> SyncRequest:
    lsn, term = _unpack(_TWO, body)
    _require_entry(lsn, term)
    return SyncRequest(lsn, term, bool(flags & _MENDING))


def _wal_entry(body: memoryview, flags: int) -> WalEntry:
    _require(len(body) >= _ENTRIES.size, "a WAL_ENTRY shorter than its fields")
    prev_lsn, prev_term, committed_lsn, seed, zero = _ENTRIES.unpack_from(body)
    _require_entry(prev_lsn, prev_term)
    _require(committed_lsn <= LSN_MAX and zero == 0, "a WAL_ENTRY no leader sends")
    records = body[_ENTRIES.size :]
    more = bool(flags & _MORE)
    _require(not more or len(records) > 0, "a part of a batch without bytes")
    return WalEntry(prev_lsn, prev_term, committed_lsn, seed, records, more, bool(flags & _RECEIPT))


def _ack(body: memoryview, flags: int) -> Ack:
    lsns = _unpack(_THREE, body)
    _require(max(lsns) <= LSN_MAX, "an ack beyond every lsn")
    return Ack(*lsns)


def _snapshot(body: memoryview, flags: int) -> SnapshotPart:
    _require(len(body) >= _SNAPSHOT.size, "a SNAPSHOT shorter than its fields")
    lsn, lsn_term, at, total_bytes = _SNAPSHOT.unpack_from(body)
    _require_entry(lsn, lsn_term)
    data, configuration = body[_SNAPSHOT.size :], b""
    if flags & _CONFIGURATION:
        _require(len(data) >= _PREFIX.size, "a SNAPSHOT shorter than its configuration")
        size, zero = _PREFIX.unpack_from(data)
        end = _PREFIX.size + size
        _require(zero == 0 and 0 < size <= len(data) - _PREFIX.size, "no configuration")
        configuration, data = bytes(data[_PREFIX.size : end]), data[end:]
    _require(at + len(data) <= total_bytes <= _U63_MAX, "a part beyond its snapshot")
    return SnapshotPart(lsn, lsn_term, at, total_bytes, data, configuration)


def _snapshot_ack(body: memoryview, flags: int) -> SnapshotAck:
    lsn, at = _unpack(_TWO, body)
    _require(lsn <= LSN_MAX and at <= _U63_MAX, "an ack beyond every snapshot")
    return SnapshotAck(lsn, at)


def _vote_request(body: memoryview, flags: int) -> VoteRequest:
    last_lsn, last_term = _unpack(_TWO, body)
    _require_entry(last_lsn, last_term)
    return VoteRequest(last_lsn, last_term, bool(flags & _PRE), bool(flags & _TRANSFER))


def _vote_response(body: memoryview, flags: int) -> VoteResponse:
    granted, last_lsn, last_term = _unpack(_GRANT, body)
    _require_entry(last_lsn, last_term)
    _require(granted <= 1, "a vote that is neither yes nor no")
    return VoteResponse(bool(granted), last_lsn, last_term, bool(flags & _PRE))


def _addresses(body: memoryview, flags: int) -> Addresses:
    _require(len(body) >= _PREFIX.size, "an ADDRESSES shorter than its fields")
    count, zero = _PREFIX.unpack_from(body)
    known, at = list[Address](), _PREFIX.size
    while at < len(body):
        _require(len(body) - at >= _ADDRESS.size, "an address shorter than its fields")
        stamp, node_len, url_len = _ADDRESS.unpack_from(body, at)
        url_at = at + _ADDRESS.size + node_len
        end = url_at + url_len
        _require(end <= len(body) and url_len <= URL_BYTES_MAX, "an address of the wrong size")
        _require(0 < stamp <= _U63_MAX and body[at + 9] == 0, "an address no node has")
        url = bytes(body[url_at:end])
        _require(url.isascii() and url.decode("ascii").isprintable(), "an url that is none")
        known.append(Address(_node_id(body[url_at - node_len : url_at]), stamp, url.decode()))
        at = end
    _require(zero == 0 and count == len(known), "fewer addresses than it says, or more")
    return Addresses(tuple(known))


def _span(shape: struct.Struct, body: memoryview) -> tuple[Any, ...]:
    """The fields of a body that begins with the first and the last lsn of some entries."""
    fields = _unpack(shape, body)
    _require(1 <= fields[0] <= fields[1] <= LSN_MAX, "entries that no log has")
    return fields


_DECODERS: dict[int, Callable[[memoryview, int], Body]] = {
    MessageType.HELLO: lambda body, flags: Hello(*_unpack(_NONCE, body)),
    MessageType.CHALLENGE: lambda body, flags: Challenge(*_unpack(_NONCE, body)),
    MessageType.PROOF: lambda body, flags: Proof(*_unpack(_MAC, body)),
    MessageType.WELCOME: lambda body, flags: Welcome(*_unpack(_MAC, body)),
    MessageType.HEARTBEAT: lambda body, flags: Heartbeat(*_unpack(_TWO, body)),
    MessageType.SYNC_REQUEST: _sync_request,
    MessageType.WAL_ENTRY: _wal_entry,
    MessageType.ACK: _ack,
    MessageType.SNAPSHOT: _snapshot,
    MessageType.SNAPSHOT_ACK: _snapshot_ack,
    MessageType.VOTE_REQUEST: _vote_request,
    MessageType.VOTE_RESPONSE: _vote_response,
    MessageType.CONFIRM: lambda body, flags: Confirm(*_unpack(_ONE, body)),
    MessageType.CONFIRMED: lambda body, flags: Confirmed(*_unpack(_ONE, body)),
    MessageType.TIMEOUT_NOW: lambda body, flags: TimeoutNow(*_unpack(_NOTHING, body)),
    MessageType.REQUEST: lambda body, flags: decode_request(body),
    MessageType.RESPONSE: lambda body, flags: decode_response(body),
    MessageType.ADDRESSES: _addresses,
    MessageType.AUDIT: lambda body, flags: Audit(*_span(_TWO, body)),
    MessageType.AUDITED: lambda body, flags: Audited(*_span(_THREE, body)),
    MessageType.QUARANTINE: lambda body, flags: Quarantine(*_span(_TWO, body)),
}

_FLAGS = {
    MessageType.WAL_ENTRY: _MORE | _RECEIPT,
    MessageType.SNAPSHOT: _CONFIGURATION,
    MessageType.SYNC_REQUEST: _MENDING,
    MessageType.VOTE_REQUEST: _PRE | _TRANSFER,
    MessageType.VOTE_RESPONSE: _PRE,
}
_NAMELESS = frozenset((MessageType.HELLO, MessageType.CHALLENGE))


def _node_id(data: memoryview) -> str:
    try:
        name = str(data, "utf-8")
    except UnicodeDecodeError:
        raise MessageError("a node id that is not UTF-8") from None
    _require(is_node_id(name), "a node id that cannot be one")
    return name


def _names(data: memoryview, source_len: int, target_len: int, number: int) -> tuple[str, str]:
    if number in _NAMELESS:
        _require(source_len == target_len == 0, "a node id before the proof")
        return "", ""
    return _node_id(data[:source_len]), _node_id(data[source_len : source_len + target_len])


def _authenticated(data: bytes | memoryview, key: bytes) -> memoryview:
    """The message without its MAC, which must be good."""
    view = memoryview(data)
    signed, mac = view[:-MAC_BYTES], view[-MAC_BYTES:]
    good = hmac.compare_digest(hmac.new(key, signed, "sha256").digest(), mac)
    _require(good, "MAC does not match")
    return signed


def decode(
    data: bytes | memoryview, *, bytes_max: int = MESSAGE_BYTES_MAX, key: bytes | None = None
) -> ReplicationMessage:
    """The message in `data`, which must be exactly one. Bulk is not copied.

    Args:
        data: from one WebSocket message.
        bytes_max: the largest size taken.
        key: of the connection and direction: there must be a good MAC.

    Raises:
        MessageError: it is none, with the reason and the code to close the connection with.
    """
    if len(data) > bytes_max:
        reason = f"a message of {len(data)} bytes; at most {bytes_max} are taken"
        raise MessageError(reason, CloseCode.TOO_BIG)
    needed = _HEADER_BYTES if key is None else _HEADER_BYTES + MAC_BYTES
    _require(len(data) >= needed, "shorter than any message")
    magic, version, number, flags = _MARK.unpack_from(data)
    _require(magic == _MAGIC, "not a walstore message")
    if version != VERSION:
        raise MessageError(f"protocol version {version}; this node speaks {VERSION}")
    view = memoryview(data) if key is None else _authenticated(data, key)
    (checksum,) = _CHECKSUM.unpack_from(view, _CHECKSUM_AT)
    tail = view[_REST_AT:]
    seed = int.from_bytes(view[:_CHECKSUM_AT], "little")
    _require(checksum == xxh3_64_intdigest(tail, seed), "checksum does not match")
    decoder = _DECODERS.get(number)
    if decoder is None or flags & ~_FLAGS.get(number, 0):
        raise MessageError(f"message type {number} with flags {flags} is not known")
    message_id, term, timestamp_ns, cluster_id, source_len, target_len, zero = _REST.unpack_from(
        tail
    )
    body_at = _REST.size + source_len + target_len
    _require(zero == 0 and body_at <= len(tail), "node ids of the wrong size")
    _require(term <= TERM_MAX, "a term beyond every term")
    source, target = _names(tail[_REST.size : body_at], source_len, target_len, number)
    body = decoder(tail[body_at:], flags)
    return ReplicationMessage(source, target, message_id, term, timestamp_ns, cluster_id, body)
