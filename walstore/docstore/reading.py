"""Reading a collection: what the live one and those of the past have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any

from walstore.docstore.cursor import Cursor
from walstore.docstore.index import IndexSpec
from walstore.docstore.paths import checked_path, values_at
from walstore.docstore.plan import Found
from walstore.docstore.query import Filter, compile_filter, simple_equality
from walstore.docstore.results import Explanation
from walstore.docstore.shape import Sort, checked_sort, compile_projection
from walstore.docstore.values import MISSING, Document, Key, Missing, copy_of, key_of

__all__ = ["ReadOnlyCollection"]


class ReadOnlyCollection(ABC):
    """A collection to read; the calls are those of pymongo.

    What every call may raise:
        QueryError: an argument makes no sense.
        NoSuchIndexError: there is no index as hinted.
        Of a store that is open, ClosedStoreError, StoreLostError; in a transaction ConflictError.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def find(
        self,
        filter: Mapping[str, Any] | None = None,
        projection: Any = None,
        *,
        sort: Any = None,
        skip: int = 0,
        limit: int = 0,
        hint: str | None = None,
    ) -> Cursor:
        """Finds documents.

        Args:
            filter: none: all of them.
            projection: fields to show (1, or a list of names) or to hide (0).
            sort: a field, or a list of (field, 1 or -1).
            skip, limit: leaves out the first so many; ends after so many, 0 for no limit.
            hint: the name of the index to use.
        """
        query = compile_filter({} if filter is None else filter)
        show = compile_projection(projection)
        return Cursor(partial(self._find, query), show, sort, skip, limit, hint)

    def find_one(
        self,
        filter: Mapping[str, Any] | None = None,
        projection: Any = None,
        *,
        sort: Any = None,
        skip: int = 0,
        hint: str | None = None,
    ) -> Document | None:
        """The first document that `find` gives, or None."""
        show = compile_projection(projection)
        simple = simple_equality(filter) if sort is None and hint is None and not skip else None
        if simple is not None:
            first = self._first_equal(*simple)
            if not isinstance(first, Missing):
                return None if first is None else show(first)
        query = compile_filter({} if filter is None else filter)
        found = self._find(query, checked_sort(sort) if sort else (), skip, 1, hint)
        return show(found.documents[0]) if found.documents else None

    def count_documents(
        self,
        filter: Mapping[str, Any],
        *,
        skip: int = 0,
        limit: int = 0,
        hint: str | None = None,
    ) -> int:
        """How many documents match."""
        return self.find(filter, skip=skip, limit=limit, hint=hint).explain().returned

    def distinct(self, key: str, filter: Mapping[str, Any] | None = None) -> list[Any]:
        """The different values of a field, those of lists one by one, sorted."""
        parts = tuple(checked_path(key, "distinct").split("."))
        query = compile_filter({} if filter is None else filter)
        values: dict[Any, Any] = {}
        for document in self._find(query, (), 0, 0, None).documents:
            for value in values_at(document, parts)[0]:
                if value is not MISSING:
                    values.setdefault(key_of(value), value)
        return [copy_of(values[at]) for at in sorted(values)]

    def explain(self, filter: Mapping[str, Any] | None = None, **options: Any) -> Explanation:
        """Which index a `find` with these arguments uses, and how much it looks at."""
        return self.find(filter, **options).explain()

    @abstractmethod
    def list_indexes(self) -> list[IndexSpec]:
        """The indexes, that of _id first."""

    @abstractmethod
    def _find(self, query: Filter, sort: Sort, skip: int, limit: int, hint: str | None) -> Found:
        """The documents: references, not to be handed out."""

    @abstractmethod
    def _first_equal(self, path: str, key: Key) -> Document | Missing | None:
        """As CollectionState.first_equal; MISSING: use `_find`."""
