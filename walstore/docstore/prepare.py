"""From the arguments of a write to a function of a draft: checked and compiled once, in the
caller's thread, before anybody waits for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from walstore.docstore import operations
from walstore.docstore.draft import Draft, New
from walstore.docstore.errors import BulkWriteError, DocumentStoreError, QueryError
from walstore.docstore.operations import Changed, Changer
from walstore.docstore.query import compile_filter
from walstore.docstore.record import put_operations
from walstore.docstore.results import (
    BulkWriteResult,
    DeleteMany,
    DeleteOne,
    InsertOne,
    ReplaceOne,
    UpdateMany,
    UpdateOne,
    WriteOperation,
)
from walstore.docstore.shape import checked_sort
from walstore.docstore.update import compile_update, replaced
from walstore.docstore.values import Document, copy_of, key_of, storable, stored

__all__ = ["bulk", "deletion", "new_documents", "replacement", "updating"]

BATCH_DOCUMENTS = 256
"""So many documents are checked, copied and encoded together: they fit into the processor's cache,
which makes it a seventh faster than to do one after the other for all of them."""

MakeId = Callable[[], str]


def new_documents(name: str, documents: Iterable[Any], make_id: MakeId) -> list[New]:
    """Documents to insert into a collection, each with its _id in front.

    Raises:
        InvalidDocumentError
        QueryError: they are no documents one after the other.
    """
    new: list[New] = []
    rest = _each(documents, "insert_many", "documents")
    while batch := list(itertools.islice(rest, BATCH_DOCUMENTS)):
        copies, raws = stored([_with_id(storable(document), make_id) for document in batch])
        puts = put_operations(name, copies, raws)
        new += [(key_of(copy["_id"]), copy, put) for copy, put in zip(copies, puts, strict=True)]
    return new


def _each(given: Any, what: str, taken: str) -> Iterator[Any]:
    """Goes through an argument.

    Raises:
        QueryError: it is not one thing after the other.
    """
    try:
        return iter(given)
    except TypeError as error:
        raise QueryError(what, f"takes {taken}, not {given!r}") from error


def _with_id(document: Document, make_id: MakeId) -> Document:
    if next(iter(document), None) == "_id":
        return document
    return {"_id": document["_id"] if "_id" in document else make_id()} | document


def updating(
    name: str,
    make_id: MakeId,
    query: Any,
    update: Any,
    *,
    many: bool,
    upsert: bool,
    sort: Any = None,
    hint: str | None = None,
) -> Callable[[Draft], Changed]:
    """An update_one, update_many or find_one_and_update.

    Raises:
        QueryError
    """
    changer = compile_update(update).applied
    return _changing(name, make_id, query, changer, many=many, upsert=upsert, sort=sort, hint=hint)


def replacement(
    name: str, make_id: MakeId, query: Any, document: Any, *, upsert: bool, hint: str | None = None
) -> Callable[[Draft], Changed]:
    """A replace_one.

    Raises:
        QueryError, InvalidDocumentError
    """
    replaced({}, document)  # what is wrong with it is said now

    def changer(old: Document, inserting: bool) -> Document:
        kept = {"_id": old["_id"]} if "_id" in old else {}
        return replaced(kept, document)

    return _changing(name, make_id, query, changer, many=False, upsert=upsert, hint=hint)


def _changing(
    name: str,
    make_id: MakeId,
    query: Any,
    changer: Changer,
    *,
    many: bool,
    upsert: bool,
    sort: Any = None,
    hint: str | None,
) -> Callable[[Draft], Changed]:
    compiled, order = compile_filter(query), checked_sort(sort)
    seed = operations.seed_of(query, make_id()) if upsert else None

    def compute(draft: Draft) -> Changed:
        return operations.update(
            draft, name, compiled, changer, many=many, upsert=seed, sort=order, hint=hint
        )

    return compute


def deletion(
    name: str, query: Any, *, many: bool, hint: str | None = None
) -> Callable[[Draft], int]:
    """A delete_one or delete_many.

    Raises:
        QueryError
    """
    compiled = compile_filter(query)
    return lambda draft: operations.delete(draft, name, compiled, many=many, hint=hint)


def bulk(
    name: str, make_id: MakeId, requests: Iterable[WriteOperation]
) -> Callable[[Draft], BulkWriteResult]:
    """A bulk_write.

    Raises:
        BulkWriteError: an operation makes no sense, and which.
        QueryError: they are no operations one after the other.
    """
    computes: list[Callable[[Draft], _Count]] = []
    for at, request in enumerate(_each(requests, "bulk_write", "operations")):
        try:
            computes.append(_bulk_operation(name, make_id, request))
        except DocumentStoreError as error:
            raise BulkWriteError(at, error) from error

    def compute(draft: Draft) -> BulkWriteResult:
        inserted = matched = modified = deleted = 0
        upserted_ids: dict[int, Any] = {}
        for at, one in enumerate(computes):
            try:
                count = one(draft)
            except DocumentStoreError as error:
                raise BulkWriteError(at, error) from error
            inserted += count["inserted"]
            matched += count["matched"]
            modified += count["modified"]
            deleted += count["deleted"]
            if "upserted_id" in count:
                upserted_ids[at] = count["upserted_id"]
        return BulkWriteResult(inserted, matched, modified, deleted, upserted_ids)

    return compute


_Count = Mapping[str, Any]
_NOTHING = {"inserted": 0, "matched": 0, "modified": 0, "deleted": 0}


def _bulk_operation(
    name: str, make_id: MakeId, request: WriteOperation
) -> Callable[[Draft], _Count]:
    if isinstance(request, InsertOne):
        new = new_documents(name, [request.document], make_id)

        def inserting(draft: Draft) -> _Count:
            draft.insert(name, new)
            return _NOTHING | {"inserted": 1}

        return inserting
    if isinstance(request, DeleteOne | DeleteMany):
        remove = deletion(name, request.filter, many=isinstance(request, DeleteMany))
        return lambda draft: _NOTHING | {"deleted": remove(draft)}
    if isinstance(request, ReplaceOne):
        change = replacement(
            name, make_id, request.filter, request.replacement, upsert=request.upsert
        )
    elif isinstance(request, UpdateOne | UpdateMany):
        many = isinstance(request, UpdateMany)
        change = updating(
            name, make_id, request.filter, request.update, many=many, upsert=request.upsert
        )
    else:
        raise QueryError("bulk_write", f"{request!r} is no operation", "InsertOne, UpdateOne, ...")
    return lambda draft: _counted(change(draft))


def _counted(changed: Changed) -> _Count:
    count = _NOTHING | {"matched": changed.matched, "modified": changed.modified}
    if changed.inserted is not None:
        return count | {"upserted_id": copy_of(changed.inserted["_id"])}
    return count
