"""Updates: compiled once into actions that make a changed copy of a document.

Sans-IO.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from walstore.docstore.errors import QueryError
from walstore.docstore.leaves import equals, regex_of
from walstore.docstore.paths import Leaf, checked_path, get_at, overlapping, set_at, unset_at
from walstore.docstore.query import element_test
from walstore.docstore.shape import checked_sort
from walstore.docstore.values import (
    MISSING,
    Document,
    checked_document,
    checked_operand,
    copy_of,
    encode,
    key_of,
)

__all__ = ["Update", "compile_update", "replaced"]

Parts = tuple[str, ...]
Action = Callable[[Document], None]


class Update:
    """A compiled update."""

    __slots__ = ("_actions", "_on_insert")

    def __init__(self, actions: list[Action], on_insert: list[Action]) -> None:
        self._actions = actions
        self._on_insert = on_insert

    def applied(self, document: Document, inserting: bool = False) -> Document:
        """The document as it is after the update; the given one stays as it is.

        Raises:
            QueryError: an operator does not fit what it found in the document.
            InvalidDocumentError: the outcome cannot be stored.
        """
        changed: Document = copy_of(document)
        for action in self._actions:
            action(changed)
        if inserting:
            for action in self._on_insert:
                action(changed)
        return _with_same_id(checked_document(changed), document)


def replaced(document: Document, replacement: Any) -> Document:
    """The replacement, under the _id of the document.

    Raises:
        QueryError: it holds operators, or another _id.
        InvalidDocumentError: it cannot be stored.
    """
    if isinstance(replacement, Mapping):
        operators = [name for name in replacement if type(name) is str and name[:1] == "$"]
        if operators:
            raise QueryError(
                "replacement", f"holds operator {operators[0]!r}", "use update_one for operators"
            )
    checked = checked_document(replacement)
    if "_id" in document:
        checked = {"_id": document["_id"]} | checked
    return _with_same_id(checked, document)


def _with_same_id(changed: Document, document: Document) -> Document:
    if "_id" in document:
        new = changed.get("_id", MISSING)
        if new is MISSING or encode(new) != encode(document["_id"]):  # 1 is not 1.0 here
            raise QueryError(
                "update",
                f"_id {document['_id']!r} would become {new!r}",
                "an _id never changes: insert a new document",
            )
    return changed


def compile_update(update: object) -> Update:
    """Compiles an update.

    Raises:
        QueryError: it makes no sense, and where.
    """
    if not isinstance(update, Mapping) or not update:
        raise QueryError("update", f"is a dict of operators, not {update!r}")
    actions: list[Action] = []
    on_insert: list[Action] = []
    taken: set[Parts] = set()
    for name, fields in update.items():
        what = f"update {name}"
        make = _OPERATORS.get(name)
        if make is None:
            raise _unknown(name)
        if not isinstance(fields, Mapping):
            raise QueryError(what, f"takes a dict of fields, not {fields!r}")
        for path, operand in fields.items():
            parts = tuple(checked_path(path, what).split("."))
            _take(parts, taken, what)
            if name == "$rename":
                _take(tuple(checked_path(operand, what).split(".")), taken, what)
            action = make(parts, operand, f"{what} {path!r}")
            (on_insert if name == "$setOnInsert" else actions).append(action)
    return Update(actions, on_insert)


def _unknown(name: object) -> QueryError:
    if type(name) is str and name[:1] == "$":
        known = " ".join(sorted(_OPERATORS))
        return QueryError("update", f"unknown operator {name!r}", f"known here: {known}")
    return QueryError(
        "update", f"{name!r} is no operator", "use $set for fields, replace_one for all of it"
    )


def _take(parts: Parts, taken: set[Parts], what: str) -> None:
    """Two operators must not meet: which of them comes first would matter."""
    other = overlapping(parts, taken)
    if other is not None:
        raise QueryError(what, f"{'.'.join(parts)} and {other} are both changed by it")
    taken.add(parts)


def _set(parts: Parts, operand: Any, what: str) -> Action:
    value = checked_operand(operand, what)
    return lambda document: set_at(document, parts, copy_of(value), what)


def _unset(parts: Parts, operand: Any, what: str) -> Action:
    return lambda document: unset_at(document, parts)


def _number(value: Any, what: str) -> Any:
    if type(value) not in (int, float):
        raise QueryError(what, f"{value!r} is not a number")
    return value


def _arithmetic(compute: Callable[[Any, Any], Any]) -> Callable[..., Action]:
    def make(parts: Parts, operand: Any, what: str) -> Action:
        number = _number(checked_operand(operand, what), what)

        def act(document: Document) -> None:
            old = get_at(document, parts)
            if old is MISSING:
                old = type(number)(0)
            set_at(document, parts, compute(_number(old, what), number), what)

        return act

    return make


def _extreme(better: Callable[[Any, Any], bool]) -> Callable[..., Action]:
    def make(parts: Parts, operand: Any, what: str) -> Action:
        value = checked_operand(operand, what)
        key = key_of(value)

        def act(document: Document) -> None:
            old = get_at(document, parts)
            if old is MISSING or better(key, key_of(old)):
                set_at(document, parts, copy_of(value), what)

        return act

    return make


def _rename(parts: Parts, operand: str, what: str) -> Action:
    target = tuple(operand.split("."))

    def act(document: Document) -> None:
        value = get_at(document, parts)
        if value is MISSING:
            return
        for way in (parts, target):
            if any(type(get_at(document, way[:at])) is list for at in range(1, len(way))):
                raise QueryError(what, f"{'.'.join(way)} leads through a list")
        unset_at(document, parts)
        set_at(document, target, value, what)

    return act


def _list_at(document: Document, parts: Parts, what: str) -> Any:
    old = get_at(document, parts)
    if old is not MISSING and type(old) is not list:
        raise QueryError(what, f"{old!r} is not a list")
    return old


_MODIFIERS = {"$each", "$position", "$slice", "$sort"}


def _each(operand: Any, allowed: set[str], what: str) -> tuple[list[Any], dict[str, Any]]:
    """The elements to add, and the modifiers."""
    if not isinstance(operand, Mapping) or not any(
        type(name) is str and name[:1] == "$" for name in operand
    ):
        return [checked_operand(operand, what)], {}
    unknown = [name for name in operand if name not in allowed]
    if unknown:
        hint = f"known here: {' '.join(sorted(allowed))}"
        raise QueryError(what, f"unknown modifier {unknown[0]!r}", hint)
    modifiers = dict(operand)
    items = modifiers.pop("$each", None)
    if not isinstance(items, list | tuple):
        raise QueryError(what, f"$each takes a list, not {items!r}")
    for name, number in modifiers.items():
        if name != "$sort" and type(number) is not int:
            raise QueryError(what, f"{name} takes a whole number, not {number!r}")
    return [checked_operand(item, what) for item in items], modifiers


def _sorter(sort: Any, what: str) -> Callable[[list[Any]], list[Any]]:
    """Sorts a list by its elements, or by their fields: one that is not there counts as null."""
    if type(sort) is int and sort in (1, -1):
        return lambda items: sorted(items, key=key_of, reverse=sort < 0)
    if not isinstance(sort, Mapping) or not sort:
        raise QueryError(what, f"$sort takes 1, -1, or a dict of fields with these, not {sort!r}")
    fields = [(tuple(path.split(".")), direction) for path, direction in checked_sort(sort)]

    def by_fields(items: list[Any]) -> list[Any]:
        for parts, direction in reversed(fields):
            keys = [key_of(get_at(item, parts)) for item in items]
            order = sorted(range(len(items)), key=keys.__getitem__, reverse=direction < 0)
            items = [items[at] for at in order]
        return items

    return by_fields


def _push(parts: Parts, operand: Any, what: str) -> Action:
    items, modifiers = _each(operand, _MODIFIERS, what)
    in_order = _sorter(modifiers["$sort"], what) if "$sort" in modifiers else list

    def act(document: Document) -> None:
        old = _list_at(document, parts, what)
        new = [] if old is MISSING else list(old)
        at = modifiers.get("$position", len(new))
        new[at:at] = copy_of(items)
        new = in_order(new)
        if "$slice" in modifiers:
            length = modifiers["$slice"]
            new = new[:length] if length >= 0 else new[length:]
        set_at(document, parts, new, what)

    return act


def _add_to_set(parts: Parts, operand: Any, what: str) -> Action:
    items, _modifiers = _each(operand, {"$each"}, what)

    def act(document: Document) -> None:
        old = _list_at(document, parts, what)
        new = [] if old is MISSING else list(old)
        known = {key_of(item) for item in new}
        for item in items:
            key = key_of(item)
            if key not in known:
                known.add(key)
                new.append(copy_of(item))
        set_at(document, parts, new, what)

    return act


def _pull(parts: Parts, operand: Any, what: str) -> Action:
    test: Leaf
    if isinstance(operand, Mapping):
        test = element_test(operand, what)
    elif isinstance(operand, re.Pattern):
        test = regex_of(operand, "", what)
    else:
        test = equals(checked_operand(operand, what))

    def act(document: Document) -> None:
        old = _list_at(document, parts, what)
        if old is not MISSING:
            set_at(document, parts, [item for item in old if not test(item)], what)

    return act


_OPERATORS: dict[Any, Callable[[Parts, Any, str], Action]] = {
    "$set": _set,
    "$setOnInsert": _set,
    "$unset": _unset,
    "$inc": _arithmetic(lambda old, number: old + number),
    "$mul": _arithmetic(lambda old, number: old * number),
    "$min": _extreme(lambda new, old: new < old),
    "$max": _extreme(lambda new, old: new > old),
    "$rename": _rename,
    "$push": _push,
    "$pull": _pull,
    "$addToSet": _add_to_set,
}
