"""Entries of the log: what they hold, and their bytes (docs/docstore.md, "In the log").

Sans-IO.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from walstore.docstore.values import Document, checked_size, encode
from walstore.errors import UnsupportedFormatError
from walstore.limits import TRANSACTION_PART_BYTES_MAX

__all__ = [
    "CHAINED",
    "KIND",
    "Record",
    "decode_record",
    "encode_records",
    "encoded_operation",
    "put_operations",
]

KIND = 0x0D0C
"""The kind of an entry of the document store."""

VERSION = 1

CHAINED = -1
"""In the place of `previous`: it follows the entry right before it."""


class Record(NamedTuple):
    """One entry.

    Attributes:
        previous: the last entry that it was computed from, or CHAINED.
        more: whether the transaction goes on in the next entry.
        operations: see docs/docstore.md.
    """

    previous: int
    more: bool
    operations: list[list[Any]]


_decoder = msgspec.msgpack.Decoder(tuple[int, int, bool, list[list[Any]]])


def encoded_operation(code: str, collection: str, *fields: Any) -> bytes:
    """The bytes of one operation.

    Raises:
        InvalidDocumentError: the document is too large.
    """
    operation = encode((code, collection, *fields))
    if code == "p":
        checked_size(fields[0], len(operation))
    return operation


def put_operations(
    collection: str, documents: Sequence[Document], raws: Sequence[bytes]
) -> list[bytes]:
    """The operations that put documents, whose bytes are given.

    Raises:
        InvalidDocumentError: a document is too large.
    """
    head = encode(("p", collection, None))[:-1]  # less the byte that None takes
    operations = [head + raw for raw in raws]
    for document, operation in zip(documents, operations, strict=True):
        checked_size(document, len(operation))
    return operations


def encode_records(previous: int, operations: Sequence[bytes]) -> list[bytes]:
    """The entries of one transaction: one, or more when it is large; none when it is empty."""
    if not operations:
        return []
    parts: list[list[msgspec.Raw]] = [[]]
    size_bytes = 0
    for operation in operations:
        if size_bytes >= TRANSACTION_PART_BYTES_MAX:
            parts.append([])
            size_bytes = 0
        parts[-1].append(msgspec.Raw(operation))
        size_bytes += len(operation)
    last = len(parts) - 1
    return [
        encode((VERSION, CHAINED if at else previous, at < last, part))
        for at, part in enumerate(parts)
    ]


def decode_record(path: str, lsn: int, payload: bytes) -> Record:
    """An entry's payload.

    Raises:
        UnsupportedFormatError: it is of a newer version, or of something else.
    """
    try:
        version, previous, more, operations = _decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise UnsupportedFormatError(path, f"entry {lsn} ({error})") from None
    if version != VERSION:
        raise UnsupportedFormatError(path, f"entry {lsn}, document format {version},")
    unknown = {operation[0] for operation in operations if operation} - set("pdixc")
    if unknown:
        raise UnsupportedFormatError(path, f"entry {lsn}, operation {unknown.pop()!r},")
    return Record(previous, more, operations)
