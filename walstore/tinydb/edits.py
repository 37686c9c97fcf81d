"""What a write changes, and whether it can be stored at all.

Sans-IO. A document is compared by its bytes: 1, 1.0 and True are equal in Python, and differ there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from walstore.docstore.errors import InvalidDocumentError
from walstore.docstore.values import Document, checked_value, encode
from walstore.tinydb.lazy import LazyDocument

__all__ = ["Edit", "Rows", "UnstorableDocumentError", "table_edit", "value_edit"]

Rows = dict[str, bytes]
"""A table: the bytes of each document by its id, in the order in which they were inserted."""


class UnstorableDocumentError(InvalidDocumentError, TypeError):
    """A document cannot be stored; also a TypeError, which TinyDB's users expect. Nothing was
    written."""


@dataclass
class Edit:
    """What becomes of one name in the database.

    Attributes:
        name: of the table.
        puts: documents that are new, or not what they were: each with its bytes.
        seen: the ids of all documents that were looked at.
        gone: the ids of those that are not there any more.
        value: the bytes of what is there instead of a table.
        drop: whether the name itself is to go.
    """

    name: str
    puts: dict[str, tuple[Document, bytes]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    gone: list[str] = field(default_factory=list)
    value: bytes | None = None
    drop: bool = False


def table_edit(name: str, rows: Rows, documents: Iterable[tuple[Any, Any]]) -> Edit:
    """An edit that puts these documents; those that are what they were are left out.

    Raises:
        UnstorableDocumentError
    """
    edit = Edit(name)
    for doc_id, document in documents:
        key = _key_of(name, doc_id)
        edit.seen.add(key)
        fields = document.fields if type(document) is LazyDocument else document
        checked = _checked(fields, f"{name}.{key}")
        raw = encode(checked)
        if raw != rows.get(key):
            edit.puts[key] = checked, raw
    return edit


def value_edit(name: str, value: Any) -> Edit:
    """An edit that makes the name stand for something that is no table.

    Raises:
        UnstorableDocumentError
    """
    return Edit(name, value=encode(_checked(value, name)))


def _key_of(name: str, doc_id: object) -> str:
    """As in a JSON file: ids are text."""
    if isinstance(doc_id, str | int):
        return str(doc_id)
    raise UnstorableDocumentError(
        name, f"the id {doc_id!r} is of type {type(doc_id).__name__}", "ids are str or int"
    )


def _checked(value: Any, place: str) -> Any:
    """A copy of a value, in the types that are stored; as deep as it may be in the stored row."""
    try:
        return checked_value({"doc": value})["doc"]
    except InvalidDocumentError as error:
        within = error.path.removeprefix("doc").removeprefix(".")
        path = f"{place}.{within}" if within else place
        raise UnstorableDocumentError(path, error.reason, error.hint) from None
