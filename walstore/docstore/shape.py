"""What is shown of documents, and in which order: projections and sorts.

Sans-IO.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from walstore.docstore.errors import QueryError
from walstore.docstore.paths import at_path, checked_fields, checked_path, values_at
from walstore.docstore.values import MISSING, Document, Key, copy_of, key_of

__all__ = ["Show", "Sort", "checked_sort", "compile_projection", "in_order"]

Sort = tuple[tuple[str, int], ...]
_EMPTY_LIST: Key = (0,)  # sorts before null


def checked_sort(sort: Any) -> Sort:
    """The fields to sort by: a name, or a list of (name, 1 or -1), or a dict of these.

    Raises:
        QueryError: it is none of these.
    """
    if sort is None:
        return ()
    items = list(sort.items()) if isinstance(sort, Mapping) else sort
    return checked_fields(items, sort, "sort")


def in_order(documents: list[Document], sort: Sort) -> list[Document]:
    """Sorted by the first field, then the second, ...; of a list counts its least element, or its
    greatest where the order is descending."""
    ordered = documents
    for path, direction in reversed(sort):
        parts = tuple(path.split("."))
        ordered = sorted(ordered, key=_sort_key(parts, direction), reverse=direction < 0)
    return ordered


def _sort_key(parts: tuple[str, ...], direction: int) -> Callable[[Document], Key]:
    best = min if direction > 0 else max
    holds_empty_list = at_path(".".join(parts), lambda value: value == [], expand=False)

    def key(document: Document) -> Key:
        values, many = values_at(document, parts)
        if not many:
            return key_of(values[0])
        if values[0] is MISSING and len(values) == 1 and holds_empty_list(document):
            return _EMPTY_LIST
        return best(map(key_of, values))

    return key


Show = Callable[[list[Document]], list[Document]]
"""Makes the copies of documents that are handed out."""


def compile_projection(projection: Any) -> Show:
    """How documents are shown.

    Args:
        projection: None, all of it; a list of fields to show; a dict of fields to show (1) or of
            fields to hide (0). `_id` is shown unless it is hidden.

    Raises:
        QueryError: it makes no sense.
    """
    if projection is None or projection == {}:
        return copy_of
    if isinstance(projection, list | tuple):
        paths = [checked_path(path, "projection") for path in projection]
        projection = dict.fromkeys([*paths, "_id"], True)
    if not isinstance(projection, Mapping):
        raise QueryError("projection", f"is a dict or a list of fields, not {projection!r}")
    shown: dict[str, bool] = {}
    for path, show in projection.items():
        if type(show) not in (bool, int, float) or show not in (0, 1):
            raise QueryError(f"projection {path!r}", f"takes 0 or 1, not {show!r}")
        shown[checked_path(path, "projection")] = bool(show)
    with_id = shown.pop("_id", None)
    if len(set(shown.values())) > 1:
        raise QueryError("projection", "shows some fields and hides others", "do one of the two")
    including = next(iter(shown.values())) if shown else bool(with_id)
    names_id = with_id is not False if including else with_id is False
    tree = _tree([*shown, *(["_id"] if names_id else [])])
    show_of = _only if including else _without
    return lambda documents: [show_of(document, tree) for document in documents]


Tree = dict[str, Any]


def _tree(paths: list[str]) -> Tree:
    tree: Tree = {}
    for path in paths:
        place = tree
        *way, last = path.split(".")
        for part in way:
            place = place.setdefault(part, {})
            if place is None:
                raise QueryError("projection", f"{path!r} is inside of another one")
        if last in place:
            raise QueryError("projection", f"another one is inside of {path!r}")
        place[last] = None
    return tree


def _only(value: Any, tree: Tree) -> Any:
    shown: Document = {}
    for name, item in value.items():
        inner = tree.get(name, MISSING)
        if inner is None:
            shown[name] = copy_of(item)
        elif inner is not MISSING and type(item) is dict:
            shown[name] = _only(item, inner)
        elif inner is not MISSING and type(item) is list:
            shown[name] = _only_in_list(item, inner)
    return shown


def _only_in_list(items: list[Any], tree: Tree) -> list[Any]:
    shown: list[Any] = []
    for item in items:
        if type(item) is dict:
            shown.append(_only(item, tree))
        elif type(item) is list:
            shown.append(_only_in_list(item, tree))
    return shown


def _without(value: Any, tree: Tree) -> Any:
    if type(value) is list:
        return [_without(item, tree) for item in value]
    if type(value) is not dict:
        return value
    shown: Document = {}
    for name, item in value.items():
        inner = tree.get(name, MISSING)
        if inner is MISSING:
            shown[name] = copy_of(item)
        elif inner is not None:
            shown[name] = _without(item, inner)
    return shown
