"""The document store's entries: what they do, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable

from walstore.cli.extended_json import to_json
from walstore.cli.output import plain
from walstore.docstore.record import KIND as DOCUMENTS_KIND
from walstore.docstore.record import (
    Delete,
    DropCollection,
    DropIndex,
    MakeIndex,
    Operation,
    Put,
    Record,
    decode_record,
)
from walstore.errors import UnsupportedFormatError

__all__ = ["DOCUMENTS_KIND", "operations_json", "operations_text"]

_WHAT = {
    Put: "put",
    Delete: "delete",
    MakeIndex: "create index",
    DropIndex: "drop index",
    DropCollection: "drop collection",
}


def _shown(payload: bytes, show: Callable[[Record], str]) -> str | None:
    """None: it is of a newer version, or of somebody else's."""
    try:
        return show(decode_record("", 0, payload))
    except (UnsupportedFormatError, ValueError, TypeError):
        return None


def operations_json(payload: bytes) -> str | None:
    """As an object with the keys previous, more and operations; None: it cannot be decoded."""
    return _shown(payload, _record_json)


def _record_json(record: Record) -> str:
    shown = ",".join(map(_operation_json, record.operations))
    more = json.dumps(record.more)
    return f'{{"previous":{record.previous},"more":{more},"operations":[{shown}]}}'


def _operation_json(operation: Operation) -> str:
    shown = f'"operation":"{_WHAT[type(operation)]}"'
    for name in operation.__struct_fields__:
        value = to_json(getattr(operation, name), ascii=True)
        shown += f',"{"_id" if name == "id" else name}":{value}'
    return f"{{{shown}}}"


def operations_text(payload: bytes) -> str | None:
    """On one line; None: it cannot be decoded."""
    return _shown(payload, _record_text)


def _record_text(record: Record) -> str:
    text = "; ".join(map(_operation_text, record.operations)) or "nothing"
    return plain(text + (" ..." if record.more else ""))


def _operation_text(operation: Operation) -> str:
    collection = operation.collection
    if isinstance(operation, Put):
        return f"put {collection} {to_json(operation.document)}"
    if isinstance(operation, Delete):
        return f"delete {collection} {to_json(operation.id)}"
    if isinstance(operation, MakeIndex):
        paths = ", ".join(path if way > 0 else f"-{path}" for path, way in operation.keys)
        unique = "unique " if operation.unique else ""
        return f"create {unique}index {operation.name} on {collection} ({paths})"
    if isinstance(operation, DropIndex):
        return f"drop index {operation.name} on {collection}"
    return f"drop collection {collection}"
