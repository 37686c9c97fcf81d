"""ReplicationMessage and its bytes. Sans-IO: bytes in, messages out.

One WebSocket message carries one ReplicationMessage, all numbers little-endian:

    0         4         6      7       8         16           24     32             40
    +---------+---------+------+-------+---------+------------+------+--------------+
    | "WREP"  | version | type | zero  | xxh3_64 | message_id | term | timestamp_ns |
    +---------+---------+------+-------+---------+------------+------+--------------+
    40       56           57           58     60
    +--------+------------+------------+------+--------+--------+------+
    | log_id | source len | target len | zero | source | target | body |
    +--------+------------+------------+------+--------+--------+------+

The XXH3 covers every other byte of the message. Bodies, by type:

    HELLO      u64 last_lsn, u64 last_term
    WAL_ENTRY  u64 first_lsn, u32 count, u32 zero,
               count x (u64 term, u64 timestamp_ns, u32 payload bytes, u16 kind, u16 zero),
               the payloads, end to end
    ACK        u64 durable_lsn

docs/replication.md says who sends what when.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

from xxhash import xxh3_64_intdigest

from walstore.limits import LSN_MAX, PAYLOAD_BYTES_MAX
from walstore.replication.errors import CloseCode, MessageError
from walstore.wal.record import WALEntry

__all__ = [
    "BATCH_BYTES",
    "CONTROL_BYTES_MAX",
    "MESSAGE_BYTES_MAX",
    "NODE_ID_BYTES_MAX",
    "NO_LOG",
    "VERSION",
    "Ack",
    "Body",
    "Entries",
    "Hello",
    "MessageType",
    "ReplicationMessage",
    "decode",
    "encode",
    "entry_bytes",
    "is_node_id",
]

VERSION = 1
_MAGIC = b"WREP"
_MARK = struct.Struct("<4sHBB")
_CHECKSUM = struct.Struct("<Q")
_REST = struct.Struct("<QQQ16sBBH")
_HEADER_BYTES = _MARK.size + _CHECKSUM.size + _REST.size
_CHECKSUM_AT = _MARK.size
_REST_AT = _MARK.size + _CHECKSUM.size
assert _HEADER_BYTES == 60

_HELLO = struct.Struct("<QQ")
_ACK = struct.Struct("<Q")
_BATCH = struct.Struct("<QII")
_ENTRY = struct.Struct("<QQIHH")
assert _ENTRY.size == 24

NODE_ID_BYTES_MAX = 64
"""Longest node id, in UTF-8."""

CONTROL_BYTES_MAX = 4096
"""Largest message that carries no entries: all that a leader ever takes from a connection."""

BATCH_BYTES = 256 << 10
"""Entries are gathered up to this size into one message; a larger one travels alone."""

MESSAGE_BYTES_MAX = PAYLOAD_BYTES_MAX + BATCH_BYTES + CONTROL_BYTES_MAX
"""Largest message a follower takes."""

NO_LOG = bytes(16)
"""The log id of a node that has no log yet, and asks for the leader's id to make one."""

_TERM_MAX = (1 << 63) - 1

assert _HEADER_BYTES + 2 * NODE_ID_BYTES_MAX + _HELLO.size <= CONTROL_BYTES_MAX
assert _HEADER_BYTES + 2 * NODE_ID_BYTES_MAX + _BATCH.size + _ENTRY.size <= CONTROL_BYTES_MAX


class MessageType(IntEnum):
    """What a message is. Zero is never valid."""

    HELLO = 1
    WAL_ENTRY = 2
    ACK = 3


@dataclass(frozen=True, slots=True)
class Hello:
    """Where a node's durable log ends; the term of the entry there, 0 when there never was one."""

    last_lsn: int
    last_term: int


@dataclass(frozen=True, slots=True)
class Entries:
    """Consecutive entries of the leader's log, at least one."""

    entries: tuple[WALEntry, ...]


@dataclass(frozen=True, slots=True)
class Ack:
    """The sender's log is on its disk up to here."""

    durable_lsn: int


Body = Hello | Entries | Ack

_TYPES: dict[type[Body], MessageType] = {
    Hello: MessageType.HELLO,
    Entries: MessageType.WAL_ENTRY,
    Ack: MessageType.ACK,
}


@dataclass(frozen=True, slots=True)
class ReplicationMessage:
    """One message between two nodes.

    Attributes:
        source, target: node ids; `target` is empty where the sender does not know it yet.
        message_id: counts the sender's messages on this connection, from 1.
        term: the sender's current term.
        timestamp_ns: the sender's wall clock.
        log_id: names the history that the sender holds; 16 bytes, or NO_LOG where it has none.
        body: by type.
    """

    source: str
    target: str
    message_id: int
    term: int
    timestamp_ns: int
    log_id: bytes
    body: Body

    @property
    def type(self) -> MessageType:
        """What the message is."""
        return _TYPES[type(self.body)]


def is_node_id(name: str) -> bool:
    """Whether a name can be a node's: printable, and at most 64 bytes of UTF-8."""
    return name.isprintable() and 0 < len(name.encode(errors="replace")) <= NODE_ID_BYTES_MAX


def entry_bytes(entry: WALEntry) -> int:
    """What an entry adds to a message."""
    return _ENTRY.size + len(entry.payload)


def _checksum(head: bytes, tail: bytes | memoryview) -> int:
    """XXH3 over all but the checksum: the mark seeds what covers the rest."""
    return xxh3_64_intdigest(tail, seed=int.from_bytes(head, "little"))


# ---- encoding ----


def _encode_body(body: Body) -> Iterable[bytes]:
    if isinstance(body, Hello):
        return [_HELLO.pack(body.last_lsn, body.last_term)]
    if isinstance(body, Ack):
        return [_ACK.pack(body.durable_lsn)]
    entries = body.entries
    return [
        _BATCH.pack(entries[0].lsn, len(entries), 0),
        *(_ENTRY.pack(e.term, e.timestamp_ns, len(e.payload), e.kind, 0) for e in entries),
        *(e.payload for e in entries),
    ]


def encode(message: ReplicationMessage) -> bytes:
    """The message's bytes."""
    source, target = message.source.encode(), message.target.encode()
    mark = _MARK.pack(_MAGIC, VERSION, message.type, 0)
    rest = _REST.pack(
        message.message_id,
        message.term,
        message.timestamp_ns,
        message.log_id,
        len(source),
        len(target),
        0,
    )
    tail = b"".join([rest, source, target, *_encode_body(message.body)])
    return mark + _CHECKSUM.pack(_checksum(mark, tail)) + tail


# ---- decoding ----


def _require(truth: bool, reason: str) -> None:
    if not truth:
        raise MessageError(reason)


def _decode_hello(body: memoryview) -> Hello:
    _require(len(body) == _HELLO.size, "a hello of the wrong size")
    last_lsn, last_term = _HELLO.unpack(body)
    _require(last_lsn <= LSN_MAX and last_term <= _TERM_MAX, "a hello beyond every lsn or term")
    return Hello(last_lsn, last_term)


def _decode_ack(body: memoryview) -> Ack:
    _require(len(body) == _ACK.size, "an ack of the wrong size")
    (durable_lsn,) = _ACK.unpack(body)
    _require(durable_lsn <= LSN_MAX, "an ack beyond every lsn")
    return Ack(durable_lsn)


def _decode_entries(body: memoryview) -> Entries:
    _require(len(body) >= _BATCH.size, "a batch of the wrong size")
    first_lsn, count, zero = _BATCH.unpack_from(body)
    payloads_at = _BATCH.size + count * _ENTRY.size
    _require(count > 0 and zero == 0, "a batch without entries")
    _require(payloads_at <= len(body), "a batch shorter than its entries")
    _require(0 < first_lsn <= LSN_MAX - count, "a batch beyond every lsn")
    entries = []
    at = payloads_at
    rows = _ENTRY.iter_unpack(body[_BATCH.size : payloads_at])
    for lsn, (term, timestamp_ns, size, kind, zero) in enumerate(rows, first_lsn):
        _require(size <= PAYLOAD_BYTES_MAX, "a payload beyond the maximum")
        _require(at + size <= len(body), "a batch shorter than its payloads")
        _require(kind > 0 and zero == 0, "an entry with a field no leader sends")
        entries.append(WALEntry(lsn, term, timestamp_ns, kind, bytes(body[at : at + size])))
        at += size
    _require(at == len(body), "a batch longer than its payloads")
    _require(0 < entries[0].term and entries[-1].term <= _TERM_MAX, "an entry beyond every term")
    _require(_terms_rise(entries), "entries whose terms go back")
    return Entries(tuple(entries))


def _terms_rise(entries: Sequence[WALEntry]) -> bool:
    return all(before.term <= after.term for before, after in pairwise(entries))


_DECODERS: dict[int, Callable[[memoryview], Body]] = {
    MessageType.HELLO: _decode_hello,
    MessageType.WAL_ENTRY: _decode_entries,
    MessageType.ACK: _decode_ack,
}


def _decode_node_id(data: memoryview) -> str:
    try:
        name = str(data, "utf-8")
    except UnicodeDecodeError:
        raise MessageError("a node id that is not UTF-8") from None
    _require(is_node_id(name), "a node id that cannot be one")
    return name


def decode(data: bytes, *, bytes_max: int = MESSAGE_BYTES_MAX) -> ReplicationMessage:
    """The message in `data`, which must be exactly one.

    Raises:
        MessageError: it is none, with the reason and the code to close the connection with.
    """
    if len(data) > bytes_max:
        reason = f"a message of {len(data)} bytes; at most {bytes_max} are taken"
        raise MessageError(reason, CloseCode.TOO_BIG)
    _require(len(data) >= _HEADER_BYTES, "shorter than any message")
    magic, version, number, zero = _MARK.unpack_from(data)
    _require(magic == _MAGIC, "not a walstore message")
    _require(version == VERSION, f"protocol version {version}; this node speaks {VERSION}")
    view = memoryview(data)
    (checksum,) = _CHECKSUM.unpack_from(data, _CHECKSUM_AT)
    tail = view[_REST_AT:]
    _require(checksum == _checksum(data[:_CHECKSUM_AT], tail), "checksum does not match")
    decoder = _DECODERS.get(number)
    _require(decoder is not None and zero == 0, f"message type {number} is not known")
    assert decoder is not None
    message_id, term, timestamp_ns, log_id, source_len, target_len, zero = _REST.unpack_from(tail)
    body_at = _REST.size + source_len + target_len
    _require(zero == 0 and body_at <= len(tail), "node ids of the wrong size")
    _require(term <= _TERM_MAX, "a term beyond every term")
    target = tail[_REST.size + source_len : body_at]
    return ReplicationMessage(
        source=_decode_node_id(tail[_REST.size : _REST.size + source_len]),
        target=_decode_node_id(target) if target else "",
        message_id=message_id,
        term=term,
        timestamp_ns=timestamp_ns,
        log_id=log_id,
        body=decoder(tail[body_at:]),
    )
