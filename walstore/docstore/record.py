"""Entries of the log: what they hold, and their bytes (docs/docstore.md, "In the log").

Sans-IO.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from walstore.docstore.values import UNDECODABLE, Document, checked_size, encode, no_extension
from walstore.errors import UnsupportedFormatError
from walstore.limits import TRANSACTION_PART_BYTES_MAX

__all__ = [
    "CHAINED",
    "KIND",
    "Delete",
    "DropCollection",
    "DropIndex",
    "MakeIndex",
    "Operation",
    "Put",
    "Record",
    "decode_record",
    "encode_nothing",
    "encode_records",
    "encoded_operation",
    "put_operations",
]

KIND = 0x0D0C
"""The kind of an entry of the document store."""

VERSION = 1

CHAINED = -1
"""In the place of `previous`: it follows the entry right before it."""


class Put(msgspec.Struct, tag="p", array_like=True, forbid_unknown_fields=True):
    """A document as it is now; it has an _id."""

    collection: str
    document: Document


class Delete(msgspec.Struct, tag="d", array_like=True, forbid_unknown_fields=True):
    """A document is gone."""

    collection: str
    id: Any


class MakeIndex(msgspec.Struct, tag="i", array_like=True, forbid_unknown_fields=True):
    """An index; see IndexSpec."""

    collection: str
    name: str
    keys: tuple[tuple[str, Literal[1, -1]], ...]
    unique: bool


class DropIndex(msgspec.Struct, tag="x", array_like=True, forbid_unknown_fields=True):
    """An index is gone."""

    collection: str
    name: str


class DropCollection(msgspec.Struct, tag="c", array_like=True, forbid_unknown_fields=True):
    """A collection is gone, with its indexes."""

    collection: str


Operation = Put | Delete | MakeIndex | DropIndex | DropCollection


class Record(NamedTuple):
    """One entry.

    Attributes:
        previous: the last entry that it was computed from, or CHAINED.
        more: whether the transaction goes on in the next entry.
        operations: what it does, one after the other.
    """

    previous: int
    more: bool
    operations: list[Operation]


_Fields = tuple[int, int, bool, list[Operation]]
_decoder = msgspec.msgpack.Decoder(_Fields, ext_hook=no_extension)


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


def encode_nothing(previous: int) -> bytes:
    """An entry that changes nothing; it counts as others do."""
    return encode((VERSION, previous, False, []))


def decode_record(path: str, lsn: int, payload: bytes) -> Record:
    """An entry's payload.

    Raises:
        UnsupportedFormatError: it is of a newer version, or of something else.
    """
    try:
        version, previous, more, operations = _decoder.decode(payload)
    except UNDECODABLE as error:
        raise UnsupportedFormatError(path, f"entry {lsn} ({error})") from None
    if version != VERSION:
        raise UnsupportedFormatError(path, f"entry {lsn}, document format {version},")
    for operation in operations:
        if type(operation) is Put and "_id" not in operation.document:
            raise UnsupportedFormatError(path, f"entry {lsn}, a document without an _id,")
    return Record(previous, more, operations)
