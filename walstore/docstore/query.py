"""Filters: compiled once into a closure that says of a document whether it matches.

Sans-IO. docs/docstore.md compares the operators with MongoDB's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from walstore.docstore.errors import QueryError
from walstore.docstore.leaves import equals, one_of, ordered, regex_of, type_test
from walstore.docstore.paths import Leaf, Match, at_path, checked_path
from walstore.docstore.values import INT_MAX, INT_MIN, MISSING, Key, checked_operand, key_of

__all__ = [
    "Filter",
    "Predicate",
    "compile_filter",
    "element_test",
    "is_operators",
    "simple_equality",
]

Place = Callable[[Leaf, bool], Match]
"""Where a leaf is asked: at a path of a document, or at one element of a list."""


class Predicate(NamedTuple):
    """What every match must satisfy, in a form that an index can use.

    Attributes:
        path: of the field.
        op: "=" one of the keys; ">", ">=", "<", "<=": as compared with the only one.
        keys: of the values.
    """

    path: str
    op: str
    keys: tuple[Key, ...]


class Filter:
    """A compiled filter.

    Attributes:
        match: says of a document whether it matches.
        predicates: necessary conditions, for the planner.
        is_whole: whether these are all, as long as there is no list at their paths; otherwise the
            match decides.
        id_key: when it asks for one _id and for nothing else.
    """

    __slots__ = ("id_key", "is_whole", "match", "predicates")

    def __init__(self, match: Match, predicates: list[Predicate], is_whole: bool) -> None:
        self.match = match
        self.predicates = predicates
        self.is_whole = is_whole
        self.id_key: Key | None = None


def compile_filter(query: object) -> Filter:
    """Compiles a filter.

    Raises:
        QueryError: it makes no sense, and where.
    """
    predicates: list[Predicate] = []
    try:
        matches = _matches(query, predicates, "filter")
    except RecursionError:
        raise QueryError("filter", "is nested too deeply") from None
    compiled = Filter(_all_of(matches), predicates, len(matches) == len(predicates))
    if len(matches) == 1 and len(predicates) == 1:
        path, op, keys = predicates[0]
        if path == "_id" and op == "=" and len(keys) == 1:
            compiled.id_key = keys[0]
    return compiled


def simple_equality(query: object) -> tuple[str, Key] | None:
    """The field and the key that a filter asks for, when it is the most frequent one: one field
    that equals a number, a text or bytes. None: it may be anything else."""
    if type(query) is not dict or len(query) != 1:
        return None
    ((path, value),) = query.items()
    if type(path) is not str or path[:1] == "$":
        return None
    kind = type(value)
    if (
        (kind is str and value.isascii())
        or (kind is int and INT_MIN <= value <= INT_MAX)
        or kind is bytes
    ):
        return path, key_of(value)
    return None


def is_operators(value: object) -> bool:
    """Whether it is a dict of operators rather than a value."""
    return isinstance(value, Mapping) and any(
        type(name) is str and name[:1] == "$" for name in value
    )


def _matches(query: object, predicates: list[Predicate], what: str) -> list[Match]:
    if not isinstance(query, Mapping):
        raise QueryError(what, f"is a {type(query).__name__}, not a dict")
    matches: list[Match] = []
    for name, operand in query.items():
        if type(name) is str and name[:1] == "$":
            matches += _logical(name, operand, predicates, what)
        else:
            path = checked_path(name, what)
            matches += _at(path, operand, predicates, f"{what} {path!r}")
    return matches


def _all_of(matches: list[Match]) -> Match:
    if len(matches) == 1:
        return matches[0]
    if len(matches) == 2:
        first, second = matches
        return lambda document: first(document) and second(document)
    fixed = tuple(matches)
    return lambda document: all(match(document) for match in fixed)


def _logical(name: str, operand: object, predicates: list[Predicate], what: str) -> list[Match]:
    if name == "$comment":
        return []
    if name not in _LOGICAL:
        raise _unknown(name, what, {**_LOGICAL, "$comment": True})
    if not isinstance(operand, list | tuple) or not operand:
        raise QueryError(f"{what} {name}", f"takes a list of filters, not {operand!r}")
    what = f"{what} {name}"
    if name == "$and":
        return [match for branch in operand for match in _matches(branch, predicates, what)]
    # What one branch of an $or needs, not every match does.
    branches = tuple(_all_of(_matches(branch, [], what)) for branch in operand)
    if name == "$or":
        return [lambda document: any(match(document) for match in branches)]
    return [lambda document: not any(match(document) for match in branches)]


def _at(path: str, operand: object, predicates: list[Predicate], what: str) -> list[Match]:
    """The conditions on one field."""

    def place(leaf: Leaf, expand: bool) -> Match:
        return at_path(path, leaf, expand)

    if isinstance(operand, re.Pattern):
        return [place(regex_of(operand, "", what), True)]
    if not is_operators(operand):
        value = checked_operand(operand, what)
        _note(predicates, path, "$eq", value)
        return [place(equals(value), True)]
    assert isinstance(operand, Mapping)
    for name, value in operand.items():
        if name in _NOTED and not isinstance(value, re.Pattern):
            _note(predicates, path, name, value)
    return _operators(operand, place, what)


_NOTED = {"$eq", "$in", "$gt", "$gte", "$lt", "$lte"}
_SIGNS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


def _note(predicates: list[Predicate], path: str, name: str, operand: Any) -> None:
    """Notes what an index can find. Null also stands for what is missing, and a list for its
    elements: these are left to the match."""
    if name == "$in":
        values = operand if isinstance(operand, list | tuple) else [None]
    else:
        values = [operand]
    if any(value is None or isinstance(value, list | tuple | re.Pattern) for value in values):
        return
    keys = dict.fromkeys(key_of(checked_operand(value, path)) for value in values)
    predicates.append(Predicate(path, _SIGNS.get(name, "="), tuple(keys)))


def _operators(operand: Mapping[Any, Any], place: Place, what: str) -> list[Match]:
    matches: list[Match] = []
    for name, value in operand.items():
        if name == "$options":
            if "$regex" not in operand:
                raise QueryError(what, "$options without $regex")
        elif name == "$regex":
            leaf = regex_of(value, operand.get("$options", ""), what)
            matches.append(place(leaf, True))
        else:
            make = _OPERATORS.get(name)
            if make is None:
                raise _unknown(name, what, _OPERATORS)
            matches.append(make(value, place, f"{what} {name}"))
    return matches


def _unknown(name: object, what: str, known: Mapping[str, Any]) -> QueryError:
    if type(name) is not str or name[:1] != "$":
        return QueryError(what, f"{name!r} stands among operators", "write it as a dotted path")
    return QueryError(what, f"unknown operator {name!r}", f"known here: {' '.join(sorted(known))}")


def _eq(value: Any, place: Place, what: str) -> Match:
    return place(equals(checked_operand(value, what)), True)


def _ne(value: Any, place: Place, what: str) -> Match:
    if isinstance(value, re.Pattern):
        raise QueryError(what, "takes no regular expression", "use $not")
    return _negated(_eq(value, place, what))


def _negated(match: Match) -> Match:
    return lambda document: not match(document)


def _in(values: Any, place: Place, what: str) -> Match:
    if not isinstance(values, list | tuple):
        raise QueryError(what, f"takes a list, not {values!r}")
    patterns = [regex_of(value, "", what) for value in values if isinstance(value, re.Pattern)]
    plain = [checked_operand(value, what) for value in values if not isinstance(value, re.Pattern)]
    leaf = one_of(plain)
    if not patterns:
        return place(leaf, True)
    return place(lambda value: leaf(value) or any(test(value) for test in patterns), True)


def _nin(values: Any, place: Place, what: str) -> Match:
    return _negated(_in(values, place, what))


def _compared(name: str) -> Callable[[Any, Place, str], Match]:
    return lambda value, place, what: place(ordered(name, checked_operand(value, what)), True)


def _not(operand: Any, place: Place, what: str) -> Match:
    if isinstance(operand, re.Pattern):
        return _negated(place(regex_of(operand, "", what), True))
    if not is_operators(operand):
        raise QueryError(what, f"takes operators or a regular expression, not {operand!r}")
    return _negated(_all_of(_operators(operand, place, what)))


def _exists(wanted: Any, place: Place, what: str) -> Match:
    if type(wanted) not in (bool, int, float):
        raise QueryError(what, f"takes True or False, not {wanted!r}")
    there = place(lambda value: value is not MISSING, False)
    return there if wanted else _negated(there)


def _type(names: Any, place: Place, what: str) -> Match:
    return place(type_test(names, what), True)


def _size(length: Any, place: Place, what: str) -> Match:
    whole = type(length) is int or (type(length) is float and length.is_integer())
    if not whole or length < 0:
        raise QueryError(what, f"takes a length, not {length!r}")
    return place(lambda value: type(value) is list and len(value) == length, False)


def _mod(operand: Any, place: Place, what: str) -> Match:
    numbers = isinstance(operand, list | tuple) and len(operand) == 2
    if not numbers or any(
        type(item) not in (int, float) or not math.isfinite(item) for item in operand
    ):
        raise QueryError(what, f"takes [divisor, remainder], not {operand!r}")
    divisor, remainder = int(operand[0]), int(operand[1])
    if divisor == 0:
        raise QueryError(what, "the divisor is 0")

    def leaf(value: Any) -> bool:
        if type(value) is float and math.isfinite(value):
            value = int(value)
        if type(value) is not int:
            return False
        rest: int = abs(value) % abs(divisor)  # towards zero, as in C
        return (rest if value >= 0 else -rest) == remainder

    return place(leaf, True)


def _all(values: Any, place: Place, what: str) -> Match:
    if not isinstance(values, list | tuple):
        raise QueryError(what, f"takes a list, not {values!r}")
    matches: list[Match] = []
    for value in values:
        if isinstance(value, re.Pattern):
            matches.append(place(regex_of(value, "", what), True))
        elif is_operators(value):
            if set(value) != {"$elemMatch"}:
                raise QueryError(what, f"takes values and $elemMatch, not {value!r}")
            matches.append(_elem_match(value["$elemMatch"], place, what))
        else:
            matches.append(_eq(value, place, what))
    return _all_of(matches) if matches else lambda document: False


def _elem_match(operand: Any, place: Place, what: str) -> Match:
    if not isinstance(operand, Mapping):
        raise QueryError(what, f"takes a filter, not {operand!r}")
    test = element_test(operand, what, lists=True)
    return place(lambda value: type(value) is list and any(map(test, value)), False)


def element_test(condition: Mapping[Any, Any], what: str, *, lists: bool = False) -> Leaf:
    """A test of one element of a list: operators on it, or a filter that it matches as a dict.

    Args:
        lists: an element that is a list may match, too, as a dict of its positions.

    Raises:
        QueryError: the condition makes no sense.
    """
    if is_operators(condition) and not set(condition) & set(_LOGICAL):
        return _all_of(_operators(condition, lambda leaf, expand: leaf, what))
    inner = _all_of(_matches(condition, [], what))

    def test(item: Any) -> bool:
        if lists and type(item) is list:
            return inner({str(position): value for position, value in enumerate(item)})
        return type(item) is dict and inner(item)

    return test


_LOGICAL = {"$and": True, "$or": True, "$nor": True}
_OPERATORS: dict[Any, Callable[[Any, Place, str], Match]] = {
    "$eq": _eq,
    "$ne": _ne,
    "$in": _in,
    "$nin": _nin,
    "$gt": _compared("$gt"),
    "$gte": _compared("$gte"),
    "$lt": _compared("$lt"),
    "$lte": _compared("$lte"),
    "$not": _not,
    "$exists": _exists,
    "$type": _type,
    "$size": _size,
    "$mod": _mod,
    "$all": _all,
    "$elemMatch": _elem_match,
}
