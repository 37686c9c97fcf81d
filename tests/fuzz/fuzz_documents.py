"""What the document store reads: an entry, a snapshot, a token. What is taken encodes again to the
same thing."""

from __future__ import annotations

import io
from contextlib import suppress

import msgspec

from walstore.docstore import snapshot
from walstore.docstore.changes import ResumeToken
from walstore.docstore.errors import QueryError
from walstore.docstore.record import Put, decode_record, encode_records
from walstore.docstore.values import encode
from walstore.errors import UnsupportedFormatError
from walstore.snapshot_files import UnusableSnapshotError

__all__ = ["one_input"]


def one_input(data: bytes) -> None:
    """Reads the input as what its first byte says."""
    if data:
        (_entry, _snapshot, _token)[data[0] % 3](data[1:])


def _entry(data: bytes) -> None:
    try:
        record = decode_record("log", 1, data)
    except UnsupportedFormatError:
        return
    for operation in record.operations:
        assert not isinstance(operation, Put) or "_id" in operation.document
    if record.operations:
        with suppress(msgspec.MsgspecError, OverflowError, TypeError):  # a key that is no text
            parts = [encode(operation) for operation in record.operations]
            (again,) = encode_records(record.previous, parts)
            assert encode(decode_record("log", 1, again).operations) == encode(record.operations)


def _snapshot(data: bytes) -> None:
    try:
        position, state = snapshot.read("path", memoryview(data))
    except (UnusableSnapshotError, UnsupportedFormatError):
        return
    assert snapshot.position_of("path", io.BytesIO(data)) == position
    copy = snapshot.copy_of_state(state)
    again = b"".join(snapshot.write(position, copy))
    _position, state = snapshot.read("path", memoryview(again))
    assert encode(snapshot.copy_of_state(state)) == encode(copy)


def _token(data: bytes) -> None:
    text = data.decode("utf-8", errors="surrogateescape")
    try:
        token = ResumeToken.parsed(text)
    except QueryError:
        return
    assert ResumeToken.parsed(str(token)) == token
