"""Messages of another node: a MessageError, or a message that encodes to the same bytes."""

from __future__ import annotations

import struct

from xxhash import xxh3_64_intdigest

from walstore.replication.errors import CloseCode, MessageError
from walstore.replication.message import Entries, decode, encode, is_node_id

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
    assert is_node_id(message.source)
    assert not message.target or is_node_id(message.target)
    assert choice & 1 or len(data) > REST_AT
    if isinstance(message.body, Entries):
        entries = message.body.entries
        first_lsn = entries[0].lsn
        assert [entry.lsn for entry in entries] == [*range(first_lsn, first_lsn + len(entries))]
        assert all(entry.kind and entry.term for entry in entries)


def _check_refusal(error: MessageError, data: bytes) -> None:
    assert (error.code == CloseCode.TOO_BIG) == (len(data) > BYTES_MAX)


def _fixed(data: bytes, choice: int) -> bytes:
    """The input with a mark and a checksum that fit, unless it asks for its own."""
    if len(data) < REST_AT:
        return data
    if choice & 1:
        data = b"WREP\x01\x00" + data[6:7] + b"\0" + data[8:]
    if choice & 2:
        checksum = xxh3_64_intdigest(data[REST_AT:], seed=int.from_bytes(data[:8], "little"))
        data = data[:8] + struct.pack("<Q", checksum) + data[REST_AT:]
    return data
