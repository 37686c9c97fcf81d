"""Messages of another node: a MessageError, or a message that encodes to the same bytes."""

from __future__ import annotations

import struct

from xxhash import xxh3_64_intdigest

from walstore.limits import LSN_MAX
from walstore.replication.errors import CloseCode, MessageError
from walstore.replication.message import (
    Challenge,
    Hello,
    SnapshotPart,
    WalEntry,
    decode,
    encode,
    is_node_id,
)
from walstore.replication.requests import ClientRequest, ClientResponse

__all__ = ["one_input"]

REST_AT = 16
BYTES_MAX = 600


def one_input(data: bytes) -> None:
    """Decodes the input."""
    if not data:
        return
    choice, data = data[0], _fixed(data[1:], data[0])
    try:
        message = decode(data, bytes_max=BYTES_MAX)
    except MessageError as error:
        _check_refusal(error, data)
        return
    assert encode(message) == data
    assert choice & 1 or len(data) > REST_AT
    nameless = isinstance(message.body, Hello | Challenge)
    for name in (message.source, message.target):
        assert name == "" if nameless else is_node_id(name)
    if isinstance(message.body, WalEntry):
        assert message.body.records or not message.body.more
    if isinstance(message.body, SnapshotPart):
        assert message.body.at + len(message.body.data) <= message.body.total_bytes
    if isinstance(message.body, ClientRequest):
        assert max(message.body.session, message.body.sequence, message.body.answered) <= LSN_MAX
    if isinstance(message.body, ClientResponse):
        assert (message.body.leader_id + message.body.leader_url).isprintable()


def _check_refusal(error: MessageError, data: bytes) -> None:
    assert (error.code == CloseCode.TOO_BIG) == (len(data) > BYTES_MAX)


def _fixed(data: bytes, choice: int) -> bytes:
    """The input with a mark and a checksum that fit, unless it asks for its own."""
    if len(data) < REST_AT:
        return data
    if choice & 1:
        data = b"WREP\x02\x00" + data[6:7] + bytes([data[7] & 3]) + data[8:]
    if choice & 2:
        checksum = xxh3_64_intdigest(data[REST_AT:], seed=int.from_bytes(data[:8], "little"))
        data = data[:8] + struct.pack("<Q", checksum) + data[REST_AT:]
    return data
