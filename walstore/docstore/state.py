"""The state: collections of documents with their indexes, changed by what is in the log alone.

Sans-IO. Documents are never changed in place: who has a reference to one may keep it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sortedcontainers import SortedDict

from walstore.docstore.index import Index, IndexSpec, KeyRange
from walstore.docstore.record import (
    Delete,
    DropCollection,
    DropIndex,
    MakeIndex,
    Operation,
    Put,
)
from walstore.docstore.values import MISSING, Document, Key, Missing, copy_of, key_of

__all__ = ["ID_INDEX", "Change", "CollectionState", "State", "found_by"]

ID_INDEX = IndexSpec("_id_", (("_id", 1),), True)
"""What every collection is found by, without an index of its own: its documents are sorted."""


class Change(msgspec.Struct, frozen=True):
    """One operation, as it was applied or is to be.

    Attributes:
        code: "p" a document put, "d" deleted; "i" an index made, "x" dropped; "c" a collection
            dropped.
        collection: its name.
        id_key: the key of the document's _id; None for "i", "x" and "c".
        old, new: the document before and after; None where there is none.
        definition: of "i": the index; of "x": its name.
    """

    code: str
    collection: str
    id_key: Key | None = None
    old: Document | None = None
    new: Document | None = None
    definition: IndexSpec | str | None = None


class CollectionState:
    """One collection.

    Attributes:
        documents: by the key of their _id.
        indexes: by name.
    """

    __slots__ = ("documents", "indexes", "name")

    def __init__(self, name: str, specs: Iterable[IndexSpec] = ()) -> None:
        self.name = name
        self.documents: SortedDict[Key, Document] = SortedDict()
        self.indexes = {spec.name: Index(spec) for spec in specs}

    def add(self, documents: Mapping[Key, Document]) -> None:
        """Puts documents whose _ids are new; many take less time together than one by one."""
        count = len(self.documents) + len(documents)
        self.documents.update(documents)
        assert len(self.documents) == count
        for index in self.indexes.values():
            index.fill(documents.items())

    def put(self, id_key: Key, document: Document) -> None:
        """Puts a document in the place of the one that has its _id, or as a new one."""
        old = self.documents.get(id_key)
        self.documents[id_key] = document
        for index in self.indexes.values():
            if old is not None:
                index.remove(id_key, old)
            index.add(id_key, document)

    def delete(self, id_key: Key, document: Document) -> None:
        """Removes a document that is there."""
        del self.documents[id_key]
        for index in self.indexes.values():
            index.remove(id_key, document)

    # ---- what queries ask; a DraftCollection answers the same ----

    @property
    def size(self) -> int:
        """How many documents there are; of a DraftCollection, at the most."""
        return len(self.documents)

    in_order = True
    """Whether `search` gives documents in the order of the index."""

    @property
    def specs(self) -> Iterator[IndexSpec]:
        """All that can be searched by."""
        return (index.spec for index in self.indexes.values())

    def has_lists(self, name: str) -> bool:
        """Whether a document has a list in a field of this index."""
        return name != ID_INDEX.name and self.indexes[name].lists > 0

    def get(self, id_key: Key) -> Document | None:
        """The document with this _id."""
        document: Document | None = self.documents.get(id_key)
        return document

    def first_equal(self, path: str, key: Key) -> Document | Missing | None:
        """The first document whose field has this key, by an index of that field alone; MISSING:
        there is no such index."""
        if path == "_id":
            return self.get(key)
        for index in self.indexes.values():
            if len(index.paths) == 1 and index.paths[0] == path:
                for id_key in index.ids_of((key,)):
                    return self.get(id_key)
                return None
        return MISSING

    def all(self) -> list[Document]:
        """Every document, in no order that is promised."""
        documents: Any = self.documents  # a dict, whose own order is the fastest
        return list(dict.values(documents))

    def search(self, name: str, ranges: Sequence[KeyRange], reverse: bool) -> Iterator[Document]:
        """The documents in these ranges of an index, each of them once."""
        return map(self.documents.__getitem__, self.ids_in(name, ranges, reverse))

    def ids_in(self, name: str, ranges: Sequence[KeyRange], reverse: bool) -> Iterator[Key]:
        """The same, by the keys of their _ids; asked by a DraftCollection."""
        if name == ID_INDEX.name:
            return self._own_ids_in(ranges, reverse)
        index = self.indexes[name]
        ids = itertools.chain.from_iterable(index.walk(keys, reverse) for keys in ranges)
        return iter(list(dict.fromkeys(ids))) if index.lists else ids

    def _own_ids_in(self, ranges: Sequence[KeyRange], reverse: bool) -> Iterator[Key]:
        documents = self.documents
        for keys in ranges:
            low: Any = keys.low[0] if keys.low else None
            high = keys.high[0] if keys.high else None
            if not keys.is_point:
                yield from documents.irange(low, high, (True, False), reverse)
            elif low in documents:
                yield low


class State:
    """All collections.

    Attributes:
        collections: by name; also empty ones that were to be written.
    """

    __slots__ = ("collections",)

    def __init__(self) -> None:
        self.collections: dict[str, CollectionState] = {}

    def collection(self, name: str) -> CollectionState:
        """A collection, made when there is none: who holds it sees what comes."""
        return self.collections.get(name) or self.collections.setdefault(
            name, CollectionState(name)
        )

    def looked_at(self, name: str) -> CollectionState:
        """A collection to read; an empty one that nobody keeps when there is none."""
        return self.collections.get(name) or CollectionState(name)

    def names(self) -> list[str]:
        """The collections that have a document or an index."""
        known = list(self.collections.items())
        return sorted(name for name, one in known if one.documents or one.indexes)

    def changes_of(self, operations: Iterable[Operation]) -> list[Change]:
        """The changes that the operations of one transaction make to this state, each of them
        after those before it."""
        made: dict[tuple[str, Key | None], Document | None] = {}
        changes = []
        for operation in operations:
            name = operation.collection
            new: Document | None
            if isinstance(operation, Put):
                code, new, id_key = "p", operation.document, key_of(operation.document["_id"])
            elif isinstance(operation, Delete):
                code, new, id_key = "d", None, key_of(operation.id)
            else:
                changes.append(_definition(operation))
                continue
            before: Mapping[Key, Document] = self.collection(name).documents
            place = (name, id_key)
            old = made[place] if place in made else before.get(id_key)
            made[place] = new
            changes.append(Change(code, name, id_key, old, new))
        return changes

    def apply_all(self, changes: Iterable[Change], built: Mapping[str, Index]) -> None:
        """Makes changes, one after the other.

        Args:
            built: the indexes that were built for them before, by name.
        """
        for name, group in itertools.groupby(changes, _grows):
            if name is None:
                for change in group:
                    self.apply(change, built)
            else:
                new: Any = {change.id_key: change.new for change in group}
                self.collection(name).add(new)

    def apply(self, change: Change, built: Mapping[str, Index] | None = None) -> None:
        """Makes a change. `built`: the indexes that were built for it before, by name."""
        code, name = change.code, change.collection
        if code == "c":
            self.collections.pop(name, None)
            return
        collection = self.collection(name)
        if code == "p":
            assert change.id_key is not None
            assert change.new is not None
            collection.put(change.id_key, change.new)
        elif code == "d":
            assert change.id_key is not None
            document = collection.get(change.id_key)  # perhaps put by the same transaction
            if document is not None:
                collection.delete(change.id_key, document)
        elif code == "i":
            assert isinstance(change.definition, IndexSpec)
            index = (built or {}).get(change.definition.name)
            if index is None:
                index = Index(change.definition)
                index.fill(collection.documents.items())
            collection.indexes[change.definition.name] = index
        else:
            assert code == "x", code
            collection.indexes.pop(str(change.definition), None)


def _grows(change: Change) -> str | None:
    """The collection, if a change puts a new document into it."""
    return change.collection if change.code == "p" and change.old is None else None


def _definition(operation: MakeIndex | DropIndex | DropCollection) -> Change:
    if isinstance(operation, MakeIndex):
        spec = IndexSpec(operation.name, operation.keys, operation.unique)
        return Change("i", operation.collection, definition=spec)
    if isinstance(operation, DropIndex):
        return Change("x", operation.collection, definition=operation.name)
    return Change("c", operation.collection)


def found_by(spec: IndexSpec, document: Document) -> dict[str, Any]:
    """The fields of a document that an index looks at, for messages."""
    fields: dict[str, Any] = {}
    for path, _direction in spec.keys:
        value: Any = document
        for part in path.split("."):
            value = value.get(part) if type(value) is dict else None
        fields[path] = copy_of(value)
    return fields
