"""StoreView: a store as it was at a place in the past, to read."""

from __future__ import annotations

from contextlib import nullcontext

from walstore.docstore.index import IndexSpec
from walstore.docstore.plan import Found, find
from walstore.docstore.query import Filter
from walstore.docstore.reading import ReadOnlyCollection
from walstore.docstore.shape import Sort
from walstore.docstore.state import ID_INDEX, CollectionState, State
from walstore.docstore.values import Document, Key, Missing

__all__ = ["StoreView"]


class StoreView:
    """A store right after an entry of its log. It stays as it is, also when the store is closed,
    and takes as much memory.

    Attributes:
        lsn: the entry.
    """

    def __init__(self, lsn: int, state: State) -> None:
        self.lsn = lsn
        self._state = state

    def __getitem__(self, name: str) -> ReadOnlyCollection:
        """A collection by name; one that was not there is empty."""
        return _PastCollection(name, self._state.looked_at(name))

    def list_collection_names(self) -> list[str]:
        """The collections that had a document or an index, sorted."""
        return self._state.names()

    def __repr__(self) -> str:
        return f"<StoreView after entry {self.lsn}>"


class _PastCollection(ReadOnlyCollection):
    """A collection that nobody changes any more."""

    def __init__(self, name: str, state: CollectionState) -> None:
        super().__init__(name)
        self._state = state

    def __repr__(self) -> str:
        return f"<ReadOnlyCollection {self.name!r}>"

    def list_indexes(self) -> list[IndexSpec]:
        """The indexes, that of _id first."""
        return [ID_INDEX, *self._state.specs]

    def _find(self, query: Filter, sort: Sort, skip: int, limit: int, hint: str | None) -> Found:
        return find(self._state, nullcontext(), query, sort, skip, limit, hint)

    def _first_equal(self, path: str, key: Key) -> Document | Missing | None:
        return self._state.first_equal(path, key)
