"""Dotted paths: finding what a filter or an index looks at, and changing what an update names.

Sans-IO. A path goes through dicts by key, and through lists both by position and into each dict
of the list, as MongoDB's do. It does not go into lists of lists, and no key with a dot is reached.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from walstore.docstore.errors import QueryError
from walstore.docstore.values import MISSING

__all__ = [
    "LIST_LENGTH_MAX",
    "POSITION_DIGITS_MAX",
    "Leaf",
    "Match",
    "at_path",
    "checked_fields",
    "checked_path",
    "get_at",
    "overlapping",
    "set_at",
    "unset_at",
    "values_at",
]

Leaf = Callable[[Any], bool]
"""Says of a value, or of MISSING, whether it is one of those that are looked for."""

Match = Callable[[Any], bool]
"""Says the same of a document."""

LIST_LENGTH_MAX = 1_000_000
"""How far an update may extend a list with nulls, to set an element behind its end."""

POSITION_DIGITS_MAX = sys.int_info.str_digits_check_threshold
"""How many digits a part of a path may have, if it has nothing else: Python makes a number of so
many, whatever it is set to (sys.set_int_max_str_digits)."""


def checked_path(path: object, what: str) -> str:
    """A path that an argument names.

    Raises:
        QueryError: it is none.
    """
    if type(path) is not str:
        raise QueryError(what, f"a field is named by a str, not by {path!r}")
    if not path or path[0] == "." or path[-1] == "." or ".." in path:
        raise QueryError(what, f"{path!r} is not a path", "join names with single dots")
    if path[0] == "$" or ".$" in path:
        raise QueryError(what, f"{path!r}: no part of a path begins with $ here")
    if len(path) > POSITION_DIGITS_MAX and any(map(_is_endless, path.split("."))):
        raise QueryError(
            what,
            f"{path[:40]!r}... has a part of more than {POSITION_DIGITS_MAX} digits",
            "no list has such a position",
        )
    return path


def checked_fields(items: Any, given: Any, what: str) -> tuple[tuple[str, int], ...]:
    """The fields to order by that an argument names: one, or a list of them, each alone (ascending)
    or with 1 or -1.

    Args:
        given: the argument, to be shown when it makes no sense.

    Raises:
        QueryError
    """
    if type(items) is str:
        items = [items]
    fields: list[tuple[str, int]] = []
    for item in items if isinstance(items, list | tuple) else [None]:
        pair = (item, 1) if type(item) is str else item
        if not isinstance(pair, list | tuple) or len(pair) != 2 or pair[1] not in (1, -1):
            raise QueryError(what, f"{given!r} is not a field, nor a list of (field, 1 or -1)")
        fields.append((checked_path(pair[0], what), int(pair[1])))
    return tuple(fields)


def _is_endless(part: str) -> bool:
    return part.isdecimal() and len(part) > POSITION_DIGITS_MAX


def _number(part: str) -> int:
    """The position that the digits of a part name. Behind the end of every list are digits that
    name none, as they begin with a 0 or are not ASCII's, and those of which no number is made: a
    log may hold an index of such a path."""
    if len(part) > POSITION_DIGITS_MAX or not part.isascii() or (part[0] == "0" and part != "0"):
        return sys.maxsize
    return int(part)


def at_path(path: str, leaf: Leaf, expand: bool) -> Match:
    """Whether the leaf says yes at the path; `expand`: or to an element of a list there."""
    name, *rest = path.split(".")
    if rest:
        parts = (name, *rest)
        return lambda document: _walk(document, parts, 0, leaf, expand)
    if not expand:
        return lambda document: leaf(document.get(name, MISSING))

    def match(document: Any) -> bool:
        value = document.get(name, MISSING)
        if type(value) is list:
            return leaf(value) or any(map(leaf, value))
        return leaf(value)

    return match


def _walk(value: Any, parts: tuple[str, ...], at: int, leaf: Leaf, expand: bool) -> bool:
    part = parts[at]
    if type(value) is dict:
        return _step(value.get(part, MISSING), parts, at, leaf, expand)
    if part.isdecimal() and (position := _number(part)) < len(value):
        item = value[position]
        last = at + 1 == len(parts)
        if (last or type(item) in (dict, list)) and _step(item, parts, at, leaf, expand):
            return True
    return any(type(item) is dict and _walk(item, parts, at, leaf, expand) for item in value)


def _step(value: Any, parts: tuple[str, ...], at: int, leaf: Leaf, expand: bool) -> bool:
    if at + 1 == len(parts):
        return leaf(value) or (expand and type(value) is list and any(map(leaf, value)))
    if type(value) is dict or type(value) is list:
        return _walk(value, parts, at + 1, leaf, expand)
    return leaf(MISSING)


def values_at(document: Any, parts: tuple[str, ...]) -> tuple[list[Any], bool]:
    """What a path leads to, for an index or a sort: the values, those of a list one by one, and
    whether there was a list. An empty list, and a path that leads nowhere, give MISSING."""
    found: list[Any] = []
    many = _collect(document, parts, 0, found)
    return found or [MISSING], many


def _collect(value: Any, parts: tuple[str, ...], at: int, found: list[Any]) -> bool:
    if at == len(parts):
        if type(value) is list:
            found.extend(value)
            return True
        found.append(value)
        return False
    part = parts[at]
    if type(value) is dict:
        return _collect(value.get(part, MISSING), parts, at + 1, found)
    if type(value) is not list:
        found.append(MISSING)
        return False
    if part.isdecimal() and (position := _number(part)) < len(value):
        _collect(value[position], parts, at + 1, found)
    for item in value:
        if type(item) is dict:
            _collect(item, parts, at, found)
    return True


def overlapping(parts: tuple[str, ...], others: Iterable[tuple[str, ...]]) -> str | None:
    """The first of other paths that is this one, or leads through it, or is on its way."""
    for other in others:
        length = min(len(parts), len(other))
        if parts[:length] == other[:length]:
            return ".".join(other)
    return None


def get_at(document: Any, parts: tuple[str, ...]) -> Any:
    """The value that an update means by a path, or MISSING: lists are entered by position only."""
    value = document
    for part in parts:
        if type(value) is dict:
            value = value.get(part, MISSING)
        elif type(value) is list and part.isdecimal() and _number(part) < len(value):
            value = value[_number(part)]
        else:
            return MISSING
    return value


def set_at(document: Any, parts: tuple[str, ...], value: Any, what: str) -> None:
    """Puts a value at a path, making the dicts on the way that are not there.

    Raises:
        QueryError: the way leads through a value that is neither dict nor list.
    """
    *way, last = parts
    place = document
    for at, part in enumerate(way):
        place = _entered(place, part, parts, at, what)
    if type(place) is dict:
        place[last] = value
    else:
        _put(place, _position(place, last, parts, what), value)


def _entered(place: Any, part: str, parts: tuple[str, ...], at: int, what: str) -> Any:
    if type(place) is dict:
        inner = place.setdefault(part, {})
    else:
        position = _position(place, part, parts, what)
        if position >= len(place):
            _put(place, position, {})
        inner = place[position]
    if type(inner) is dict or type(inner) is list:
        return inner
    where, field = ".".join(parts[: at + 1]), parts[at + 1]
    raise QueryError(what, f"{where} is {inner!r}, which has no field {field!r}")


def _position(place: list[Any], part: str, parts: tuple[str, ...], what: str) -> int:
    path = ".".join(parts)
    position = _number(part) if part.isdecimal() else sys.maxsize
    if position == sys.maxsize:
        raise QueryError(what, f"{path}: a list has no field {part!r}", "name a position in it")
    if position > len(place) + LIST_LENGTH_MAX:
        raise QueryError(what, f"{path}: position {position} is far behind the end of the list")
    return position


def _put(place: list[Any], position: int, value: Any) -> None:
    place.extend([None] * (position + 1 - len(place)))
    place[position] = value


def unset_at(document: Any, parts: tuple[str, ...]) -> None:
    """Removes what is at a path; in a list null takes its place, as positions must not move."""
    *way, last = parts
    place = get_at(document, tuple(way))
    if type(place) is dict:
        place.pop(last, None)
    elif type(place) is list and last.isdecimal() and _number(last) < len(place):
        place[_number(last)] = None
