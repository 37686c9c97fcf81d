"""Tests of single values: what the operators of a filter ask at the end of a path.

Sans-IO. Python's own comparisons are used where they agree with MongoDB's: text, bytes and times
equal only their own kind, but True equals 1 in Python, and must not here.
"""

from __future__ import annotations

import datetime
import operator
import re
from collections.abc import Callable
from typing import Any

from walstore.docstore.errors import QueryError
from walstore.docstore.paths import Leaf
from walstore.docstore.values import MISSING, key_of

__all__ = ["equals", "one_of", "ordered", "regex_of", "type_test"]

_PLAIN = (str, bytes, datetime.datetime)


def equals(wanted: Any) -> Leaf:
    """Equal by type and value; None also equals what is missing."""
    kind = type(wanted)
    if kind in _PLAIN:
        return lambda value: bool(value == wanted)
    if kind is int or kind is float:
        return lambda value: value == wanted and type(value) is not bool
    if kind is bool:
        return lambda value: value is wanted
    if wanted is None:
        return lambda value: value is None or value is MISSING
    key = key_of(wanted)  # a dict, whose order counts, or a list
    return lambda value: type(value) is kind and key_of(value) == key


def one_of(wanted: list[Any]) -> Leaf:
    """Equal to one of them."""
    if len(wanted) == 1:
        return equals(wanted[0])
    keys = {key_of(value) for value in wanted}
    return lambda value: key_of(value) in keys


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def ordered(name: str, wanted: Any) -> Leaf:
    """Greater or less, among values of the same type; others never match."""
    compare = _COMPARISONS[name]
    kind = type(wanted)
    if kind in _PLAIN and kind is not bytes:  # bytes are ordered by length first
        return lambda value: type(value) is kind and compare(value, wanted)
    if kind is int or kind is float:
        return lambda value: (type(value) is int or type(value) is float) and compare(value, wanted)
    key = key_of(wanted)
    rank = key[0]

    def leaf(value: Any) -> bool:
        other = key_of(value)
        return other[0] == rank and compare(other, key)

    return leaf


_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}


def regex_of(pattern: Any, options: Any, what: str) -> Leaf:
    """Text in which the pattern is found.

    Raises:
        QueryError: it is no regular expression, or an option is unknown.
    """
    if type(options) is not str or not set(options) <= set(_FLAGS):
        raise QueryError(f"{what} $options", f"{options!r} has other letters than i, m, s, x")
    flags = 0
    for letter in options:
        flags |= _FLAGS[letter]
    if isinstance(pattern, re.Pattern):
        flags |= pattern.flags
        pattern = pattern.pattern
    if type(pattern) is not str:
        raise QueryError(f"{what} $regex", f"takes text, not {pattern!r}")
    try:
        search = re.compile(pattern, flags).search
    except (re.error, OverflowError, RecursionError) as error:
        raise QueryError(f"{what} $regex", f"{pattern!r}: {error}") from None
    return lambda value: type(value) is str and search(value) is not None


_INT32_MAX = 1 << 31

# By the names and the numbers that MongoDB gives them.
_TYPES: dict[str, tuple[int, Leaf]] = {
    "double": (1, lambda value: type(value) is float),
    "string": (2, lambda value: type(value) is str),
    "object": (3, lambda value: type(value) is dict),
    "array": (4, lambda value: type(value) is list),
    "binData": (5, lambda value: type(value) is bytes),
    "bool": (8, lambda value: type(value) is bool),
    "date": (9, lambda value: type(value) is datetime.datetime),
    "null": (10, lambda value: value is None),
    "int": (16, lambda value: type(value) is int and -_INT32_MAX <= value < _INT32_MAX),
    "long": (18, lambda value: type(value) is int and not -_INT32_MAX <= value < _INT32_MAX),
}
_BY_NUMBER = {number: leaf for number, leaf in _TYPES.values()}


def type_test(names: Any, what: str) -> Leaf:
    """A test for one of these types.

    Raises:
        QueryError: an unknown type.
    """
    leaves: list[Leaf] = []
    for name in names if isinstance(names, list | tuple) else [names]:
        if name == "number":
            leaves.append(lambda value: type(value) is int or type(value) is float)
        elif type(name) is str and name in _TYPES:
            leaves.append(_TYPES[name][1])
        elif type(name) is int and name in _BY_NUMBER:
            leaves.append(_BY_NUMBER[name])
        else:
            known = " ".join([*_TYPES, "number"])
            raise QueryError(what, f"unknown type {name!r}", f"known here: {known}")
    if not leaves:
        raise QueryError(what, "takes a type, or a list of some")
    return leaves[0] if len(leaves) == 1 else lambda value: any(test(value) for test in leaves)
