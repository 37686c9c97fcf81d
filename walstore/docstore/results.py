"""What calls return, and what bulk_write takes; the names are pymongo's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "BulkWriteResult",
    "DeleteMany",
    "DeleteOne",
    "DeleteResult",
    "Explanation",
    "InsertManyResult",
    "InsertOne",
    "InsertOneResult",
    "ReplaceOne",
    "ReturnDocument",
    "UpdateMany",
    "UpdateOne",
    "UpdateResult",
    "WriteOperation",
]


@dataclass(frozen=True, slots=True)
class InsertOneResult:
    """The _id that was given or made."""

    inserted_id: Any


@dataclass(frozen=True, slots=True)
class InsertManyResult:
    """The _ids, in the order of the documents."""

    inserted_ids: list[Any]


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """How many documents matched, how many became others, and the _id of one that was inserted."""

    matched_count: int
    modified_count: int
    upserted_id: Any = None


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """How many documents were deleted."""

    deleted_count: int


@dataclass(frozen=True, slots=True)
class BulkWriteResult:
    """Sums over all operations; `upserted_ids`: by the operation's place."""

    inserted_count: int
    matched_count: int
    modified_count: int
    deleted_count: int
    upserted_ids: dict[int, Any]


class ReturnDocument:
    """Which document find_one_and_update returns."""

    BEFORE = False
    AFTER = True


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a query was answered.

    Attributes:
        index: the one that was searched; None: every document was looked at.
        ranges: where in it, as (from, to); keys are (rank of the type, value).
        ordered: whether the order that was asked for came from the index.
        examined: how many documents were looked at.
        returned: how many were found.
    """

    index: str | None
    ranges: tuple[tuple[Any, Any], ...]
    ordered: bool
    examined: int
    returned: int


@dataclass(frozen=True, slots=True)
class InsertOne:
    """For bulk_write: as Collection.insert_one."""

    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class UpdateOne:
    """For bulk_write: as Collection.update_one."""

    filter: Mapping[str, Any]
    update: Mapping[str, Any]
    upsert: bool = False


@dataclass(frozen=True, slots=True)
class UpdateMany:
    """For bulk_write: as Collection.update_many."""

    filter: Mapping[str, Any]
    update: Mapping[str, Any]
    upsert: bool = False


@dataclass(frozen=True, slots=True)
class ReplaceOne:
    """For bulk_write: as Collection.replace_one."""

    filter: Mapping[str, Any]
    replacement: Mapping[str, Any]
    upsert: bool = False


@dataclass(frozen=True, slots=True)
class DeleteOne:
    """For bulk_write: as Collection.delete_one."""

    filter: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeleteMany:
    """For bulk_write: as Collection.delete_many."""

    filter: Mapping[str, Any]


WriteOperation = InsertOne | UpdateOne | UpdateMany | ReplaceOne | DeleteOne | DeleteMany
