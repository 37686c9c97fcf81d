"""A draft: changes over a state that is not changed by them, until they are in the log.

Sans-IO. For each collection that it touches, a draft has the documents that it put, with indexes
of their own, and None for those that it removed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from walstore.docstore.errors import DuplicateKeyError
from walstore.docstore.index import Index, IndexSpec, KeyRange
from walstore.docstore.paths import Match, values_at
from walstore.docstore.query import Filter, Predicate
from walstore.docstore.record import encoded_operation
from walstore.docstore.state import ID_INDEX, Change, CollectionState, State, found_by
from walstore.docstore.values import MISSING, Document, Key, Missing, key_of

__all__ = ["Draft", "DraftCollection", "New", "Reads"]

New = tuple[Key, Document, bytes]
"""A document to insert: the key of its _id, itself, and the operation that puts it."""


class DraftCollection:
    """One collection, as the draft would have it."""

    __slots__ = ("_base", "_indexed", "_own")

    def __init__(self, base: CollectionState) -> None:
        self._base = base
        self._own: dict[Key, Document | None] = {}  # None: removed
        self._indexed: CollectionState | None = None  # the own ones, once they are searched

    @property
    def name(self) -> str:
        return self._base.name

    @property
    def size(self) -> int:
        return self._base.size + len(self._own)

    @property
    def in_order(self) -> bool:
        """Not once there are two places to look in."""
        return not self._own

    @property
    def specs(self) -> Iterator[IndexSpec]:
        return self._base.specs

    def has_lists(self, name: str) -> bool:
        return self._base.has_lists(name) or self._own_ones().has_lists(name)

    def get(self, id_key: Key) -> Document | None:
        own = self._own.get(id_key, MISSING)
        return self._base.get(id_key) if isinstance(own, Missing) else own

    def __contains__(self, id_key: Key) -> bool:
        own = self._own
        return own[id_key] is not None if id_key in own else id_key in self._base.documents

    def all(self) -> list[Document]:
        own = self._own
        if not own:
            return self._base.all()
        documents: Any = self._base.documents
        shown = [doc for id_key, doc in dict.items(documents) if id_key not in own]
        return shown + [doc for doc in own.values() if doc is not None]

    def search(self, name: str, ranges: Sequence[KeyRange], reverse: bool) -> Iterator[Document]:
        own, documents = self._own, self._base.documents
        for id_key in self._base.ids_in(name, ranges, reverse):
            if id_key not in own:
                yield documents[id_key]
        if own:
            yield from self._own_ones().search(name, ranges, reverse)

    def _own_ones(self) -> CollectionState:
        if self._indexed is None:
            self._indexed = CollectionState(self._base.name, self._base.specs)
            for id_key, document in self._own.items():
                if document is not None:
                    self._indexed.put(id_key, document)
        return self._indexed

    @property
    def takes_anything(self) -> bool:
        """Whether `check` has nothing to say about any document."""
        return all(index.takes_anything for index in self._base.indexes.values())

    def check(self, id_key: Key, document: Document, reads: Reads | None) -> None:
        """Raises when a document has no place here. `reads`: where to note what is in its way.

        Raises:
            DuplicateKeyError: a unique index has one of its keys.
            InvalidDocumentError: an index cannot hold it.
        """
        for name, index in self._base.indexes.items():
            if index.takes_anything:
                continue
            # Also where none of them is refused: what cannot have keys must fail here, where
            # nothing is written yet, and not when it is applied.
            keys, _many = index.keys_of(document)
            if not index.spec.unique:
                continue
            for key in keys:
                holders = [held for held in index.ids_of(key) if held not in self._own]
                if self._own:
                    holders += self._own_ones().indexes[name].ids_of(key)
                others = [held for held in holders if held != id_key]
                if others:
                    if reads is not None:
                        reads.note_id(self._base.name, others[0])
                    raise DuplicateKeyError(self._base.name, name, found_by(index.spec, document))

    def own(self, id_key: Key) -> Document | Missing | None:
        """What `restore` is to be given, to have again what there is now."""
        return self._own.get(id_key, MISSING)

    def put(self, id_key: Key, document: Document | None) -> None:
        """Puts a document; None: removes it."""
        before = self._own.get(id_key)
        self._own[id_key] = document
        if self._indexed is not None:
            if document is not None:
                self._indexed.put(id_key, document)
            elif before is not None:
                self._indexed.delete(id_key, before)

    def restore(self, id_key: Key, before: Document | Missing | None) -> None:
        """Takes a `put` back, also one that was interrupted, or that never came."""
        self._indexed = None
        if isinstance(before, Missing):
            self._own.pop(id_key, None)
        else:
            self._own[id_key] = before


class Reads:
    """What a transaction has looked at: documents by _id, and filters. Noted under the lock of the
    state: whoever applies a change goes through it."""

    def __init__(self) -> None:
        self._ids: set[tuple[str, Key]] = set()
        # By collection and path: what asks for one of these keys there, among other things. A
        # change is looked up among them. Those that ask for the same are one: a filter's predicates
        # stand for it where they are all that it asks.
        self._equal: dict[tuple[str, str], dict[Key, dict[object, Match]]] = {}
        self._filters: list[tuple[str, Match]] = []

    def note_id(self, name: str, id_key: Key) -> None:
        """A document was looked for, or changed, by its _id."""
        self._ids.add((name, id_key))

    def note(self, name: str, query: Filter) -> None:
        """Documents were looked for by a filter."""
        if query.id_key is not None:
            self._ids.add((name, query.id_key))
            return
        equal = [predicate for predicate in query.predicates if predicate.op == "="]
        if not equal:
            self._filters.append((name, query.match))
            return
        path, _op, keys = min(equal, key=lambda predicate: self._crowd(name, predicate))
        what = tuple(query.predicates) if query.is_whole else query.match
        noted = self._equal.setdefault((name, path), {})
        for key in keys:
            noted.setdefault(key, {})[what] = query.match

    def _crowd(self, name: str, predicate: Predicate) -> int:
        """How many keys an equality has, and filters that stand there already."""
        noted = self._equal.get((name, predicate.path), {})
        return sum(1 + len(noted.get(key, ())) for key in predicate.keys)

    def meet(self, change: Change) -> bool:
        """Whether a change by somebody else could have changed what was seen."""
        name, id_key = change.collection, change.id_key
        if id_key is None:
            noted = itertools.chain(self._ids, self._equal, self._filters)
            return any(other == name for other, _what in noted)
        if (name, id_key) in self._ids:
            return True
        documents = [one for one in (change.old, change.new) if one is not None]
        return any(
            self._meets_equal(name, one)
            or any(match(one) for filtered, match in self._filters if filtered == name)
            for one in documents
        )

    def _meets_equal(self, name: str, document: Document) -> bool:
        for (filtered, path), matches in self._equal.items():
            if filtered == name:
                values, _many = values_at(document, tuple(path.split(".")))
                for key in map(key_of, values):
                    if any(match(document) for match in matches.get(key, {}).values()):
                        return True
        return False


class Draft:
    """Changes over a state.

    Args:
        reads: where to note what is looked at; None: nobody asks.

    Attributes:
        changes: in the order in which they were made.
        operations: the same, as they will be in the log.
        built: the indexes that were built for it, by name.
    """

    def __init__(self, state: State, reads: Reads | None = None) -> None:
        self._state = state
        self.reads = reads
        self._collections: dict[str, DraftCollection] = {}
        self._undo: list[tuple[DraftCollection, Key, Document | Missing | None]] = []
        self.changes: list[Change] = []
        self.operations: list[bytes] = []
        self.built: dict[str, Index] = {}

    def collection(self, name: str) -> DraftCollection:
        """A collection as this draft would have it."""
        found = self._collections.get(name)
        if found is None:
            found = self._collections[name] = DraftCollection(self._state.collection(name))
        return found

    def insert(self, name: str, documents: Sequence[New]) -> None:
        """Puts documents with new _ids.

        Raises:
            DuplicateKeyError, InvalidDocumentError: those before are put, for the caller to undo.
        """
        if not documents:
            return  # a collection is not looked at without a note
        if self.reads is not None:
            for id_key, _document, _operation in documents:
                self.reads.note_id(name, id_key)
        collection = self.collection(name)
        takes_anything = collection.takes_anything
        for id_key, document, operation in documents:
            if id_key in collection:
                raise DuplicateKeyError(name, ID_INDEX.name, {"_id": document["_id"]})
            if not takes_anything:
                collection.check(id_key, document, self.reads)
            self._make(collection, Change("p", name, id_key, None, document), operation)

    def put(self, name: str, id_key: Key, old: Document | None, document: Document) -> None:
        """Puts a document in the place of `old`.

        Raises:
            DuplicateKeyError, InvalidDocumentError: nothing was changed.
        """
        if self.reads is not None:
            self.reads.note_id(name, id_key)
        collection = self.collection(name)
        operation = encoded_operation("p", name, document)
        collection.check(id_key, document, self.reads)
        self._make(collection, Change("p", name, id_key, old, document), operation)

    def delete(self, name: str, id_key: Key, old: Document) -> None:
        """Removes a document that is there."""
        if self.reads is not None:
            self.reads.note_id(name, id_key)
        operation = encoded_operation("d", name, old["_id"])
        self._make(self.collection(name), Change("d", name, id_key, old), operation)

    def define(self, change: Change, *fields: object) -> None:
        """Makes or drops an index or a collection: the only change of its draft, as the others
        would not see it."""
        assert not self.changes
        operation = encoded_operation(change.code, change.collection, *fields)
        self.changes.append(change)
        self.operations.append(operation)

    def _make(self, collection: DraftCollection, change: Change, operation: bytes) -> None:
        """Makes a change of a document. What undoes it comes first: an interrupt may come between
        any two of these steps."""
        assert change.id_key is not None
        self._undo.append((collection, change.id_key, collection.own(change.id_key)))
        collection.put(change.id_key, change.new)
        self.changes.append(change)
        self.operations.append(operation)

    def undo_to(self, count: int) -> None:
        """Takes back all changes but the first so many, and one that was interrupted."""
        while len(self._undo) > count:
            collection, id_key, before = self._undo[-1]
            collection.restore(id_key, before)
            self._undo.pop()
        del self.changes[count:], self.operations[count:]
