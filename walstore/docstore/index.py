"""Indexes: the values of some fields, sorted, and the documents that have them.

Sans-IO. The key of a document is a tuple with a part for each field of the index; a list gives a
document one key for each element. A descending part of a compound key sorts the other way round.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sortedcontainers import SortedDict

from walstore.docstore.errors import InvalidDocumentError, QueryError
from walstore.docstore.paths import checked_fields, values_at
from walstore.docstore.values import MISSING, Document, Key, checked_operand, key_of

__all__ = [
    "ASCENDING",
    "DESCENDING",
    "INDEX_FIELDS_MAX",
    "TOP",
    "Index",
    "IndexSpec",
    "KeyRange",
    "Reversed",
    "checked_spec",
]

ASCENDING = 1
DESCENDING = -1
INDEX_FIELDS_MAX = 32


class IndexSpec(NamedTuple):
    """What an index is.

    Attributes:
        name: unique in its collection.
        keys: (path, ASCENDING or DESCENDING) of each field.
        unique: whether no two documents may share a key.
    """

    name: str
    keys: tuple[tuple[str, int], ...]
    unique: bool


class KeyRange(NamedTuple):
    """Keys from `low` on, below `high`; or one key, when they are the same; None: no bound."""

    low: Key | None
    high: Key | None

    @property
    def is_point(self) -> bool:
        """Whether it is one whole key."""
        return self.low is not None and self.low == self.high


def checked_spec(keys: Any, name: Any, unique: Any) -> IndexSpec:
    """The index that the arguments of create_index ask for.

    Raises:
        QueryError: they make no sense.
    """
    what = "create_index"
    fields = checked_fields(keys, keys, what)
    paths = [checked_operand(path, what) for path, _direction in fields]
    if not fields or len(fields) > INDEX_FIELDS_MAX or len(set(paths)) < len(paths):
        raise QueryError(what, f"an index has 1 to {INDEX_FIELDS_MAX} fields, each of them once")
    if type(unique) is not bool:
        raise QueryError(what, f"unique is True or False, not {unique!r}")
    if name is None:
        name = "_".join(f"{path}_{direction}" for path, direction in fields)
    if type(name) is not str or not name or name == "_id_" or not name.isprintable():
        raise QueryError(what, f"{name!r} cannot be the name of an index")
    return IndexSpec(name, fields, unique)


class Reversed:
    """A part of a key that sorts the other way round."""

    __slots__ = ("key",)

    def __init__(self, key: Key) -> None:
        self.key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reversed) and self.key == other.key

    def __lt__(self, other: object) -> bool:
        if isinstance(other, Reversed):
            return other.key < self.key
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"Reversed({self.key!r})"


class _Top:
    """Greater than every part of a key."""

    def __lt__(self, other: object) -> bool:
        return False

    def __gt__(self, other: object) -> bool:
        return True

    def __repr__(self) -> str:
        return "TOP"


TOP = _Top()


class Index:
    """One index of one collection.

    Attributes:
        spec: what it is.
        paths: of its fields.
        lists: how many of its documents have a list in an indexed field.
        takes_anything: whether no document is refused.
    """

    __slots__ = (
        "_compound",
        "_entries",
        "_name",
        "_parts",
        "lists",
        "paths",
        "spec",
        "takes_anything",
    )

    def __init__(self, spec: IndexSpec) -> None:
        self.spec = spec
        self.paths = tuple(path for path, _direction in spec.keys)
        self.lists = 0
        # A key's documents: the id, or a dict of them, which serves as an ordered set.
        self._entries: SortedDict[Key, Any] = SortedDict()
        self._parts = tuple(tuple(path.split(".")) for path, _direction in spec.keys)
        self._compound = len(spec.keys) > 1
        self.takes_anything = not (spec.unique or self._compound or "." in self.paths[0])
        first, *_others = self._parts
        self._name = None if self._compound or len(first) > 1 else first[0]

    def __len__(self) -> int:
        return len(self._entries)

    def keys_of(self, document: Document) -> tuple[Iterable[Key], bool]:
        """The keys of a document, and whether a list gave them.

        Raises:
            InvalidDocumentError: more than one of the fields is a list.
        """
        if self._name is not None:
            value = document.get(self._name, MISSING)
            if type(value) is not list:
                return ((key_of(value),),), False
        fields = [values_at(document, parts) for parts in self._parts]
        lists = sum(many for _values, many in fields)
        if lists > 1:
            self._check_lists(fields)
        keyed = [
            dict.fromkeys(self._part(at, value) for value in values)
            for at, (values, _many) in enumerate(fields)
        ]
        return dict.fromkeys(itertools.product(*keyed)), lists > 0

    def _check_lists(self, fields: list[tuple[list[Any], bool]]) -> None:
        paths = [
            path
            for (path, _direction), (values, many) in zip(self.spec.keys, fields, strict=True)
            if many and len(values) > 1
        ]
        if len(paths) > 1:
            raise InvalidDocumentError(
                paths[1],
                f"index {self.spec.name!r} cannot hold it: {paths[0]} is a list as well",
                "one field of an index may be a list",
            )

    def _part(self, at: int, value: Any) -> Any:
        key = key_of(value)
        if self._compound and self.spec.keys[at][1] == DESCENDING:
            return Reversed(key)
        return key

    def add(self, id_key: Key, document: Document) -> None:
        """Takes in a document that is new."""
        keys, many = self.keys_of(document)
        self.lists += many
        entries = self._entries
        for key in keys:
            held = entries.setdefault(key, id_key)
            if held is not id_key:
                if type(held) is not dict:
                    held = entries[key] = {held: None}
                held[id_key] = None

    def remove(self, id_key: Key, document: Document) -> None:
        """Takes a document out that is in it."""
        keys, many = self.keys_of(document)
        self.lists -= many
        entries = self._entries
        for key in keys:
            held = entries[key]
            if type(held) is dict and len(held) > 1:
                del held[id_key]
            else:
                del entries[key]

    def fill(self, documents: Iterable[tuple[Key, Document]]) -> None:
        """Takes in documents that are new; many take less time together than one by one."""
        entries = self._entries
        new: dict[Key, Any] = {}  # what has no place among the sorted keys yet
        for id_key, document in documents:
            keys, many = self.keys_of(document)
            self.lists += many
            for key in keys:
                place = entries if key in entries else new
                held = place.setdefault(key, id_key)
                if held is not id_key:
                    if type(held) is not dict:
                        held = place[key] = {held: None}
                    held[id_key] = None
        entries.update(new)

    def ids_of(self, key: Key) -> Iterable[Key]:
        """The ids of a key."""
        held = self._entries.get(key)
        if held is None:
            return ()
        return held if type(held) is dict else (held,)

    def shared_key(self) -> tuple[Key, list[Key]] | None:
        """A key of more than one document, with their ids."""
        for key, held in self._entries.items():
            if type(held) is dict and len(held) > 1:
                return key, list(held)
        return None

    def walk(self, keys: KeyRange, reverse: bool = False) -> Iterator[Key]:
        """The ids of a range of keys in order; one that has several of the keys comes as often."""
        if keys.is_point:
            assert keys.low is not None
            yield from self.ids_of(keys.low)
            return
        entries = self._entries
        found = entries.irange(keys.low, keys.high, (True, False), reverse)
        for held in map(entries.__getitem__, found):
            if type(held) is dict:
                yield from held
            else:
                yield held
