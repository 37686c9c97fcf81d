"""Projections and sorts."""

from __future__ import annotations

import re
from typing import Any

import pytest

from walstore.docstore.errors import QueryError
from walstore.docstore.shape import checked_sort, compile_projection, in_order

DOCUMENT = {"_id": 1, "a": {"b": 2, "c": [3, {"d": 4, "e": 5}, [{"d": 6}]]}, "f": [7], "g.h": 8}


@pytest.mark.parametrize(
    ("projection", "shown"),
    [
        (None, DOCUMENT),
        ({}, DOCUMENT),
        ([], {"_id": 1}),
        (["f"], {"_id": 1, "f": [7]}),
        ({"f": 1}, {"_id": 1, "f": [7]}),
        ({"f": True, "_id": 0}, {"f": [7]}),
        ({"f": 1.0, "_id": 0.0}, {"f": [7]}),
        ({"_id": 1}, {"_id": 1}),
        ({"_id": 0}, {name: DOCUMENT[name] for name in ("a", "f", "g.h")}),
        ({"a.b": 1, "_id": 0}, {"a": {"b": 2}}),
        ({"a.c.d": 1, "_id": 0}, {"a": {"c": [{"d": 4}, [{"d": 6}]]}}),
        ({"f.x": 1, "_id": 0}, {"f": []}),
        ({"a.b.x": 1, "_id": 0}, {"a": {}}),
        ({"nothing": 1}, {"_id": 1}),
        ({"g.h": 1}, {"_id": 1}),
        ({"a": 0}, {"_id": 1, "f": [7], "g.h": 8}),
        ({"a": 0, "f": 0, "_id": 0}, {"g.h": 8}),
        ({"a.c.d": 0, "f": 0, "_id": 0}, {"a": {"b": 2, "c": [3, {"e": 5}, [{}]]}, "g.h": 8}),
    ],
    ids=str,
)
def test_projection(projection: Any, shown: Any) -> None:
    assert compile_projection(projection)([DOCUMENT, DOCUMENT]) == [shown, shown]


@pytest.mark.parametrize(
    ("projection", "reason"),
    [
        ({"a": 1, "b": 0}, "shows some fields and hides others"),
        ({"a": 2}, "takes 0 or 1"),
        ({"a": 0.5}, "takes 0 or 1"),
        ({"a": {"$slice": 1}}, "takes 0 or 1"),
        ({"a": 1, "a.b": 1}, "inside of another one"),
        ({"a.b": 1, "a": 1}, "another one is inside"),
        ("a", "is a dict or a list of fields"),
        ({"a..b": 1}, "is not a path"),
        ([1], "a field is named by a str"),
        ([{"a": 1}], "a field is named by a str"),
        (["a", ["b"]], "a field is named by a str"),
    ],
    ids=str,
)
def test_a_projection_that_makes_no_sense(projection: Any, reason: str) -> None:
    with pytest.raises(QueryError, match=re.escape(reason)):
        compile_projection(projection)


def test_what_is_shown_is_a_copy() -> None:
    for projection in (None, {"f": 1, "a": 1}, {"x": 0}, {"a.b": 0}):
        [shown] = compile_projection(projection)([DOCUMENT])
        shown["f"].append(9) if "f" in shown else None
        if "a" in shown:
            shown["a"]["c"][1]["d"] = 9
    assert DOCUMENT["f"] == [7]
    assert DOCUMENT["a"] == {"b": 2, "c": [3, {"d": 4, "e": 5}, [{"d": 6}]]}


def ids(documents: list[Any], sort: Any) -> list[Any]:
    return [document["_id"] for document in in_order(documents, checked_sort(sort))]


def test_sort_over_types_and_what_is_missing() -> None:
    documents: list[Any] = [
        {"_id": "text", "a": "x"},
        {"_id": "missing"},
        {"_id": "true", "a": True},
        {"_id": "number", "a": 3},
        {"_id": "empty list", "a": []},
        {"_id": "dict", "a": {"b": 1}},
        {"_id": "null", "a": None},
    ]
    order = ["empty list", "missing", "null", "number", "text", "dict", "true"]
    assert ids(documents, "a") == order
    backwards = ids(documents, [("a", -1)])
    assert backwards[:4] == ["true", "dict", "text", "number"]
    assert backwards[-1] == "empty list"


def test_sort_by_what_is_missing_inside_of_lists() -> None:
    """Only a list that is empty itself comes before what is null or missing."""
    documents: list[Any] = [
        {"_id": 1, "a": {"b": 1}},
        {"_id": 2},
        {"_id": 3, "a": [{}]},
        {"_id": 4, "a": []},
        {"_id": 5, "a": [7]},
        {"_id": 6, "a": {"b": None}},
        {"_id": 7, "a": {"b": []}},
        {"_id": 8, "a": [{"b": []}]},
    ]
    assert ids(documents, "a.b") == [7, 8, 2, 3, 4, 5, 6, 1]
    assert ids(documents, [("a.b", -1)]) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_sort_by_lists_takes_the_least_or_the_greatest() -> None:
    documents = [{"_id": 1, "a": [5, 1]}, {"_id": 2, "a": 3}, {"_id": 3, "a": [4]}]
    assert ids(documents, [("a", 1)]) == [1, 2, 3]
    assert ids(documents, [("a", -1)]) == [1, 3, 2]


def test_sort_by_several_fields_is_stable() -> None:
    documents = [
        {"_id": 1, "a": 1, "b": {"c": 1}},
        {"_id": 2, "a": 2, "b": {"c": 2}},
        {"_id": 3, "a": 1, "b": {"c": 3}},
        {"_id": 4, "a": 1, "b": {"c": 3}},
    ]
    assert ids(documents, [("a", 1), ("b.c", -1)]) == [3, 4, 1, 2]
    assert ids(documents, {"a": -1, "b.c": 1}) == [2, 1, 3, 4]
    assert ids(documents, ["a"]) == [1, 3, 4, 2]


@pytest.mark.parametrize("sort", [1, [("a", 2)], [("a",)], [("a", 1, 1)], {"a": "up"}, [None]])
def test_a_sort_that_makes_no_sense(sort: Any) -> None:
    with pytest.raises(QueryError, match="is not a field, nor a list of"):
        checked_sort(sort)
