"""The document store's entries: what they do, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from walstore.cli.extended_json import to_json
from walstore.cli.output import plain
from walstore.docstore.record import KIND as DOCUMENTS_KIND
from walstore.docstore.record import Record, decode_record
from walstore.errors import UnsupportedFormatError

__all__ = ["DOCUMENTS_KIND", "operations_json", "operations_text"]

_SHAPES = {
    "p": ("put", ("collection", "document")),
    "d": ("delete", ("collection", "_id")),
    "i": ("create index", ("collection", "name", "keys", "unique")),
    "x": ("drop index", ("collection", "name")),
    "c": ("drop collection", ("collection",)),
}


def _shown(payload: bytes, show: Callable[[Record], str]) -> str | None:
    """None: it is of a newer version, or of somebody else's."""
    try:
        record = decode_record("", 0, payload)
        for code, *fields in record.operations:
            if len(fields) != len(_SHAPES[code][1]):
                return None
        return show(record)
    except (UnsupportedFormatError, ValueError, TypeError, RecursionError):
        return None


def operations_json(payload: bytes) -> str | None:
    """As an object with the keys previous, more and operations; None: it cannot be decoded."""
    return _shown(payload, _record_json)


def _record_json(record: Record) -> str:
    shown = ",".join(map(_operation_json, record.operations))
    more = json.dumps(record.more)
    return f'{{"previous":{record.previous},"more":{more},"operations":[{shown}]}}'


def _operation_json(operation: list[Any]) -> str:
    what, names = _SHAPES[operation[0]]
    fields = zip(names, operation[1:], strict=True)
    shown = "".join(f',"{name}":{to_json(value, ascii=True)}' for name, value in fields)
    return f'{{"operation":"{what}"{shown}}}'


def operations_text(payload: bytes) -> str | None:
    """On one line; None: it cannot be decoded."""
    return _shown(payload, _record_text)


def _record_text(record: Record) -> str:
    text = "; ".join(map(_operation_text, record.operations))
    return plain(text + (" ..." if record.more else ""))


def _operation_text(operation: list[Any]) -> str:
    code, collection, *rest = operation
    if code == "i":
        name, keys, unique = rest
        paths = ", ".join(path if way > 0 else f"-{path}" for path, way in keys)
        return f"create {'unique ' if unique else ''}index {name} on {collection} ({paths})"
    if code == "x":
        return f"drop index {rest[0]} on {collection}"
    if code == "c":
        return f"drop collection {collection}"
    return f"{_SHAPES[code][0]} {collection} {to_json(rest[0])}"
