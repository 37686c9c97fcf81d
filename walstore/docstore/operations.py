"""What the calls of a collection do to a draft.

Sans-IO. What comes in was checked and compiled before; each function changes the draft or raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

from walstore.docstore.draft import Draft
from walstore.docstore.errors import (
    DuplicateKeyError,
    IndexExistsError,
    NoSuchIndexError,
    QueryError,
)
from walstore.docstore.index import Index, IndexSpec
from walstore.docstore.paths import overlapping, set_at
from walstore.docstore.plan import find
from walstore.docstore.query import Filter, is_operators
from walstore.docstore.record import encoded_operation
from walstore.docstore.shape import Sort
from walstore.docstore.state import ID_INDEX, Change, found_by
from walstore.docstore.values import Document, checked_document, checked_value, encode, key_of

__all__ = [
    "Changed",
    "Changer",
    "Seed",
    "create_index",
    "delete",
    "drop_collection",
    "drop_index",
    "seed_of",
    "update",
]

Changer = Callable[[Document, bool], Document]
"""Makes the new document from the old one; the second: it is being inserted."""


class Changed(NamedTuple):
    """What an update did.

    Attributes:
        matched, modified: how many documents the filter matched, and how many became others.
        inserted: the document that an upsert made.
        before, after: the only document that was looked at, for find_one_and_update.
    """

    matched: int
    modified: int
    inserted: Document | None = None
    before: Document | None = None
    after: Document | None = None


def _found(
    draft: Draft, name: str, query: Filter, limit: int, sort: Sort = (), hint: str | None = None
) -> list[Document]:
    if draft.reads is not None:
        draft.reads.note(name, query)
    collection = draft.collection(name)
    if query.id_key is not None:
        document = collection.get(query.id_key)
        return [document] if document is not None else []
    return find(collection, nullcontext(), query, sort, limit=limit, hint=hint).documents


def update(
    draft: Draft,
    name: str,
    query: Filter,
    changer: Changer,
    *,
    many: bool = False,
    upsert: Seed | None = None,
    sort: Sort = (),
    hint: str | None = None,
) -> Changed:
    """Changes the documents that match, or the first of them.

    Args:
        upsert: what to begin with, when none matches.

    Raises:
        QueryError, InvalidDocumentError, DuplicateKeyError
    """
    matching = _found(draft, name, query, 0 if many else 1, sort, hint)
    if not matching and upsert is not None:
        document = _complete(changer, upsert)
        operation = encoded_operation("p", name, document)
        draft.insert(name, [(key_of(document["_id"]), document, operation)])
        return Changed(0, 0, inserted=document, after=document)
    modified = 0
    before = after = None
    for before in matching:
        after = changer(before, False)
        if encode(after) != encode(before):
            modified += 1
            draft.put(name, key_of(before["_id"]), before, after)
    return Changed(len(matching), modified, before=before, after=after)


def _complete(changer: Changer, upsert: Seed) -> Document:
    """The document of an upsert: its _id is the filter's, or the update's, or made."""
    document = changer(upsert.fields, True)
    if "_id" in document:
        return checked_document(document)
    return {"_id": upsert.made_id} | document


class Seed(NamedTuple):
    """What an upsert begins with.

    Attributes:
        fields: the values that the filter asks its fields to equal.
        made_id: for when neither the filter nor the update gives an _id.
    """

    fields: Document
    made_id: str


def seed_of(query: Mapping[Any, Any], made_id: str) -> Seed:
    """What an upsert with this filter begins with.

    Raises:
        QueryError: the filter says twice what a field equals, or what it and a part of it equal.
    """
    fields: Document = {}
    taken: list[tuple[str, ...]] = []
    for condition in _conditions(query):
        for path, value in condition.items():
            if isinstance(value, re.Pattern) or (is_operators(value) and "$eq" not in value):
                continue
            equal = value["$eq"] if is_operators(value) else value
            parts = tuple(path.split("."))
            other = overlapping(parts, taken)
            if other is not None:
                raise QueryError("upsert", f"its filter says what {other} and {path} equal")
            taken.append(parts)
            set_at(fields, parts, checked_value(equal), "upsert")
    return Seed(fields, made_id)


def _conditions(query: Mapping[Any, Any]) -> list[Mapping[Any, Any]]:
    here = {path: value for path, value in query.items() if path[:1] != "$"}
    inner = [one for branch in query.get("$and", ()) for one in _conditions(branch)]
    return [here, *inner]


def delete(
    draft: Draft, name: str, query: Filter, *, many: bool = False, hint: str | None = None
) -> int:
    """Deletes the documents that match, or the first of them. Returns how many."""
    matching = _found(draft, name, query, 0 if many else 1, hint=hint)
    for document in matching:
        draft.delete(name, key_of(document["_id"]), document)
    return len(matching)


def create_index(draft: Draft, name: str, spec: IndexSpec) -> None:
    """Builds an index of what is there. One that is there already stays.

    Raises:
        IndexExistsError: another one has its name.
        DuplicateKeyError: it is to be unique, and two documents share a key.
        InvalidDocumentError: a document has lists in two of its fields.
    """
    collection = draft.collection(name)
    for other in collection.specs:
        if other == spec:
            return
        if other.name == spec.name:
            raise IndexExistsError(name, spec.name)
    documents = [(key_of(document["_id"]), document) for document in collection.all()]
    index = Index(spec)
    index.fill(documents)
    shared = index.shared_key() if spec.unique else None
    if shared is not None:
        document = collection.get(shared[1][0])
        assert document is not None
        raise DuplicateKeyError(name, spec.name, found_by(spec, document))
    draft.built[spec.name] = index
    keys = [list(field) for field in spec.keys]
    draft.define(Change("i", name, definition=spec), spec.name, keys, spec.unique)


def drop_index(draft: Draft, name: str, index: str) -> None:
    """Drops an index.

    Raises:
        NoSuchIndexError, QueryError: it is not there, or it is that of _id.
    """
    if index == ID_INDEX.name:
        raise QueryError("drop_index", f"{index!r} is there as long as its collection")
    names = [spec.name for spec in draft.collection(name).specs]
    if index not in names:
        raise NoSuchIndexError(name, index, [ID_INDEX.name, *names])
    draft.define(Change("x", name, definition=index), index)


def drop_collection(draft: Draft, name: str) -> None:
    """Drops a collection, if it is there."""
    collection = draft.collection(name)
    if collection.all() or any(collection.specs):
        draft.define(Change("c", name))
