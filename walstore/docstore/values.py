"""Values: which can be stored, how they compare, and their bytes.

Sans-IO. A value's key is a tuple (rank of its type, something that compares): keys of all values
together have one order, MongoDB's, and are hashable, so that they serve dictionaries and indexes.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import to_builtins

from walstore.docstore.errors import InvalidDocumentError, QueryError
from walstore.limits import DOCUMENT_BYTES_MAX, DOCUMENT_DEPTH_MAX

__all__ = [
    "INT_MAX",
    "INT_MIN",
    "MISSING",
    "NULL_KEY",
    "UNDECODABLE",
    "Document",
    "Key",
    "Missing",
    "checked_document",
    "checked_operand",
    "checked_size",
    "checked_value",
    "copy_of",
    "decode",
    "encode",
    "key_of",
    "no_extension",
    "storable",
    "stored",
]

Document = dict[str, Any]
Key = tuple[Any, ...]

INT_MIN = -(1 << 63)
INT_MAX = (1 << 63) - 1


class Missing:
    """The type of MISSING: a field that is not there."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = Missing()

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoders raise of bytes that are not MessagePack, or not of the type that they decode."""


def no_extension(code: int, data: memoryview) -> object:
    """For decoders of what may be somebody else's bytes: nothing of ours has MessagePack's
    extensions, but for the one of times.

    Raises:
        msgspec.ValidationError
    """
    raise msgspec.ValidationError(f"extension {code} of MessagePack, {len(data)} bytes")


_KEPT = (bytes, datetime.datetime)
"""Types of which msgspec's copies would otherwise be text."""

_ATOMS = frozenset({bool, type(None), bytes})
"""Types whose every value can be stored."""

NULL, NUMBER, TEXT, OBJECT, ARRAY, BINARY, BOOLEAN, DATE = 1, 2, 3, 4, 5, 6, 7, 8
NULL_KEY: Key = (NULL,)


def key_of(value: Any) -> Key:
    """Where a value stands among all values. MISSING counts as null."""
    kind = type(value)
    if kind is str:
        return TEXT, value
    if kind is int or kind is float:
        return NUMBER, value
    if value is None or value is MISSING:
        return NULL_KEY
    if kind is bool:
        return BOOLEAN, value
    if kind is bytes:
        return BINARY, len(value), value
    if kind is datetime.datetime:
        return DATE, value
    if kind is list:
        return ARRAY, tuple([key_of(item) for item in value])
    assert kind is dict, kind
    fields = []
    for name, item in value.items():
        key = key_of(item)
        fields.append((key[0], name, key))
    return OBJECT, tuple(fields)


def copy_of(value: Any) -> Any:
    """A copy that shares nothing that can change. One call for many documents in a list takes less
    time than one for each."""
    return to_builtins(value, builtin_types=_KEPT)


def checked_value(value: Any, path: str = "", depth: int = 0) -> Any:
    """A copy of a value, in the types that are stored.

    Raises:
        InvalidDocumentError: it cannot be stored; `path` says where.
    """
    kind = type(value)
    if kind is str:
        return _checked_text(value, path)
    if kind is int:
        if INT_MIN <= value <= INT_MAX:
            return value
        raise InvalidDocumentError(
            path, f"{_shown(value)} does not fit into 64 bits", "store it as a str or as bytes"
        )
    if kind is float:
        if value == value:
            return value
        raise InvalidDocumentError(
            path, "NaN is equal to nothing and could not be found again", "store None instead"
        )
    if kind in _ATOMS:
        return value
    return _checked_other(value, path, depth)


def checked_operand(value: Any, what: str) -> Any:
    """The same, of a value in a filter or an update.

    Raises:
        QueryError: it cannot be stored, and `what` holds it.
    """
    try:
        return checked_value(value)
    except InvalidDocumentError as error:
        raise QueryError(what, str(error), error.hint) from None


def _checked_text(value: str, path: str) -> str:
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidDocumentError(
            path, f"{value!r} is not Unicode text: {error.reason}", "store it as bytes"
        ) from None
    return value


def _checked_other(value: Any, path: str, depth: int) -> Any:
    if depth >= DOCUMENT_DEPTH_MAX and isinstance(value, Mapping | list | tuple):
        raise InvalidDocumentError(
            _shortened(path), f"is nested deeper than {DOCUMENT_DEPTH_MAX} levels", "flatten it"
        )
    if isinstance(value, Mapping):
        return _checked_mapping(value, path, depth)
    if isinstance(value, list | tuple):
        return [
            checked_value(item, f"{path}.{at}" if path else str(at), depth + 1)
            for at, item in enumerate(value)
        ]
    if isinstance(value, datetime.datetime):
        return _checked_datetime(value, path)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):  # of a class of its own, an enum for example
        return _checked_text(str.__str__(value), path)
    if isinstance(value, int):
        return checked_value(int(value), path)
    if isinstance(value, float):
        return checked_value(float(value), path)
    raise InvalidDocumentError(
        path,
        f"{type(value).__name__} cannot be stored",
        "convert it: str, int, float, bool, None, bytes, datetime, list and dict can",
    )


def _checked_mapping(value: Mapping[Any, Any], path: str, depth: int) -> Document:
    fields: Document = {}
    for name, item in value.items():
        if type(name) is not str:
            raise InvalidDocumentError(
                path, f"the key {name!r} is of type {type(name).__name__}", "keys are str"
            )
        if name[:1] == "$":
            raise InvalidDocumentError(
                f"{path}.{name}" if path else name,
                "a key cannot begin with $: filters would take it for an operator",
                "rename it",
            )
        if not name.isascii():
            _checked_text(name, path)
        kind = type(item)
        if (
            (kind is str and item.isascii())
            or (kind is int and INT_MIN <= item <= INT_MAX)
            or kind in _ATOMS
        ):
            fields[name] = item  # the usual, without a path that nobody asks for
        else:
            fields[name] = checked_value(item, f"{path}.{name}" if path else name, depth + 1)
    return fields


def _checked_datetime(value: datetime.datetime, path: str) -> datetime.datetime:
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidDocumentError(
            path, "a datetime without a time zone", "say which: datetime.now(timezone.utc)"
        )
    try:
        utc = value.astimezone(datetime.UTC)
    except OverflowError:
        raise InvalidDocumentError(path, f"{value} is out of range in UTC") from None
    # Neither a class of its own nor the fold is kept.
    return datetime.datetime.combine(utc.date(), utc.time().replace(fold=0), datetime.UTC)


def _shown(value: int) -> str:
    """A number as text, which Python refuses to make of one that is too long (gh-95778)."""
    bits = value.bit_length()
    return str(value) if bits <= 128 else f"an integer of {bits} bits"


def _shortened(path: str) -> str:
    return path if len(path) <= 60 else f"{path[:60]}..."


def storable(document: Any) -> Document:
    """A document in the types that are stored: itself when it has no others, or a copy.

    Raises:
        InvalidDocumentError: it cannot be stored, and where and why; but see `stored`.
    """
    if type(document) is dict and _is_plain(document, 0):
        kept: Document = document
    elif isinstance(document, Mapping):
        kept = _checked_mapping(document, "", 0)
    else:
        raise InvalidDocumentError("", f"is a {type(document).__name__}, not a dict")
    if type(kept.get("_id")) is list:
        raise InvalidDocumentError("_id", "cannot be a list", "use a str, bytes or a dict")
    return kept


def stored(documents: list[Document]) -> tuple[list[Document], list[bytes]]:
    """Copies of documents that are storable, and the bytes of each. Many take less time together
    than one by one.

    Raises:
        InvalidDocumentError: one cannot be stored, for what shows in its bytes.
    """
    copies: list[Document] = copy_of(documents)
    try:
        raws = list(map(encode, copies))
    except (UnicodeEncodeError, OverflowError):
        for copy in copies:
            _checked_mapping(copy, "", 0)
        raise
    for copy, raw in zip(copies, raws, strict=True):
        if _DOLLAR in raw or (_UINT64 in raw and _BEYOND_INT_MAX.search(raw)):
            _checked_mapping(copy, "", 0)  # there is a key, or number, that is refused; or not
    return copies, raws


_DOLLAR, _UINT64 = b"$\xcf"
_BEYOND_INT_MAX = re.compile(rb"\xcf[\x80-\xff]")
"""What an integer beyond INT_MAX looks like; other bytes may look the same."""


def checked_document(document: Any) -> Document:
    """A copy of a document, in the types that are stored.

    Raises:
        InvalidDocumentError: it cannot be stored, and where and why.
    """
    (copy,), _raws = stored([storable(document)])
    return copy


_PLAIN_ATOMS = _ATOMS | {str, int}
"""Types that are stored as they are. Whether a text is Unicode, and an integer not too large, is
seen by its bytes, in less time."""


def _is_plain(value: dict[Any, Any] | list[Any], depth: int) -> bool:
    """Whether there is nothing in it but the very types that are stored, as they are stored."""
    items: Iterable[Any] = value
    if type(value) is dict:
        for name in value:
            if type(name) is not str:
                return False
        items = value.values()
    for item in items:
        kind = type(item)
        if kind in _PLAIN_ATOMS:
            continue
        if kind is dict or kind is list:
            if depth + 1 >= DOCUMENT_DEPTH_MAX or not _is_plain(item, depth + 1):
                return False
        elif kind is float:
            if item != item:
                return False
        elif kind is not datetime.datetime or item.tzinfo is not datetime.UTC or item.fold:
            return False
    return True


def checked_size(document: Document, size_bytes: int) -> None:
    """Raises when a document is too large."""
    if size_bytes > DOCUMENT_BYTES_MAX:
        raise InvalidDocumentError(
            f"the document with _id {document['_id']!r}",
            f"takes {size_bytes} bytes, more than {DOCUMENT_BYTES_MAX}",
            "store it in parts",
        )
