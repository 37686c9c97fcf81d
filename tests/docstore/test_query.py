"""Filters, operator by operator, with MongoDB's semantics where docs/docstore.md promises them."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest

from walstore.docstore.errors import QueryError
from walstore.docstore.query import compile_filter
from walstore.docstore.values import key_of

MOMENT = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

# filter, documents that match, documents that do not.
CASES: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "nothing asked": ({}, [{}, {"a": 1}], []),
    "equal": ({"a": 1}, [{"a": 1}, {"a": 1.0}], [{"a": True}, {"a": "1"}, {}, {"b": 1}]),
    "equal true": ({"a": True}, [{"a": True}], [{"a": 1}, {"a": "True"}]),
    "equal text": ({"a": "é"}, [{"a": "é"}, {"a": ["x", "é"]}], [{"a": "e"}, {"a": b"\xc3\xa9"}]),
    "equal bytes": ({"a": b"x"}, [{"a": b"x"}], [{"a": "x"}]),
    "equal time": ({"a": MOMENT}, [{"a": MOMENT}], [{"a": str(MOMENT)}]),
    "two fields": ({"a": 1, "b": 2}, [{"a": 1, "b": 2}], [{"a": 1}, {"b": 2}]),
    "null is missing": ({"a": None}, [{"a": None}, {}, {"a": [1, None]}], [{"a": 0}, {"a": []}]),
    "an element": ({"a": 1}, [{"a": [0, 1]}], [{"a": [[1]]}, {"a": [True]}]),
    "the list itself": ({"a": [1, 2]}, [{"a": [1, 2]}, {"a": [[1, 2]]}], [{"a": [2, 1]}, {"a": 1}]),
    "an empty list": ({"a": []}, [{"a": []}, {"a": [[]]}], [{"a": [1]}, {}, {"a": None}]),
    "a dict, in order": (
        {"a": {"x": 1, "y": 2}},
        [{"a": {"x": 1, "y": 2}}, {"a": [{"x": 1, "y": 2}]}],
        [{"a": {"y": 2, "x": 1}}, {"a": {"x": 1}}, {"a": {"x": True, "y": 2}}],
    ),
    "an empty dict": ({"a": {}}, [{"a": {}}], [{"a": {"b": 1}}, {}]),
    "dotted": ({"a.b": 1}, [{"a": {"b": 1}}], [{"a": 1}, {"a.b": 1}, {"a": {"b": 2}}]),
    "dotted, in a list": (
        {"a.b": 1},
        [{"a": [{"b": 0}, {"b": 1}]}, {"a": {"b": [1]}}, {"a": [{"b": [2, 1]}]}],
        [{"a": [{"b": 0}]}, {"a": [[{"b": 1}]]}, {"a": [1]}],
    ),
    "by position": (
        {"a.1": 5},
        [{"a": [0, 5]}, {"a": {"1": 5}}, {"a": [{"1": 5}]}, {"a": [0, [5]]}],
        [{"a": [5]}, {"a": [5, 0]}, {"a": 5}],
    ),
    "by no position, a 0 in front": (
        {"a.01": 5},
        [{"a": {"01": 5}}, {"a": [{"01": 5}]}],
        [{"a": [0, 5]}, {"a": {"1": 5}}],
    ),
    "by no position, other digits": (
        {"a.\u0661": 5},
        [{"a": {"\u0661": 5}}],
        [{"a": [0, 5]}, {"a": {"1": 5}}],
    ),
    "by the first position": ({"a.0": 5}, [{"a": [5]}], [{"a": [0, 5]}]),
    "by no position, missing": ({"a.00": {"$exists": True}}, [{"a": [{"00": 1}]}], [{"a": [5]}]),
    "by position, deeper": ({"a.0.b": 1}, [{"a": [{"b": 1}]}], [{"a": [{"b": 0}, {"b": 1}]}]),
    "dotted null": (
        {"a.b": None},
        [{"a": {}}, {}, {"a": 1}, {"a": [{"b": 1}, {}]}, {"a": {"b": None}}],
        [{"a": {"b": 1}}, {"a": [{"b": 1}]}, {"a": [1, 2]}],
    ),
    "$eq": ({"a": {"$eq": 1}}, [{"a": 1}, {"a": [1]}], [{"a": 2}]),
    "$eq dict": ({"a": {"$eq": {"b": 1}}}, [{"a": {"b": 1}}], [{"a": {"b": 1, "c": 2}}]),
    "$ne": (
        {"a": {"$ne": 1}},
        [{"a": 2}, {}, {"a": [2, 3]}, {"a": True}],
        [{"a": 1}, {"a": [1, 2]}],
    ),
    "$ne null": ({"a": {"$ne": None}}, [{"a": 0}, {"a": []}], [{"a": None}, {}]),
    "$gt": (
        {"a": {"$gt": 5}},
        [{"a": 6}, {"a": 5.1}, {"a": [1, 9]}],
        [{"a": 5}, {"a": "9"}, {"a": None}, {}, {"a": True}, {"a": [[9]]}],
    ),
    "$gte": ({"a": {"$gte": 5}}, [{"a": 5}, {"a": 5.0}], [{"a": 4}, {"a": MOMENT}]),
    "$lt": (
        {"a": {"$lt": 5}},
        [{"a": -1}, {"a": [9, 1]}],
        [{"a": 5}, {}, {"a": None}, {"a": False}],
    ),
    "$lte": ({"a": {"$lte": 5}}, [{"a": 5}], [{"a": 6}, {"a": ""}]),
    "$gt text": ({"a": {"$gt": "b"}}, [{"a": "c"}, {"a": "ba"}], [{"a": "B"}, {"a": 99}]),
    "$gt bytes": ({"a": {"$gt": b"z"}}, [{"a": b"aa"}], [{"a": b"y"}, {"a": "zz"}]),
    "$lt time": ({"a": {"$lt": MOMENT}}, [{"a": MOMENT.replace(year=1999)}], [{"a": 0}]),
    "$gt bool": ({"a": {"$gt": False}}, [{"a": True}], [{"a": 1}, {"a": False}]),
    "$gte null": ({"a": {"$gte": None}}, [{"a": None}, {}], [{"a": 0}]),
    "$gt null": ({"a": {"$gt": None}}, [], [{"a": None}, {}, {"a": 1}]),
    "$gt list": ({"a": {"$gt": [1, 2]}}, [{"a": [1, 3]}, {"a": [2]}], [{"a": [1, 2]}, {"a": 9}]),
    "$gt dict": ({"a": {"$gt": {"b": 1}}}, [{"a": {"b": 2}}], [{"a": {"b": 1}}]),
    "2**53 is not 2**53 + 1": ({"a": {"$gt": float(2**53)}}, [{"a": 2**53 + 1}], [{"a": 2**53}]),
    "a range, over two elements": (
        {"a": {"$gt": 5, "$lt": 7}},
        [{"a": 6}, {"a": [1, 9]}],
        [{"a": 9}],
    ),
    "$in": (
        {"a": {"$in": [1, "x", None]}},
        [{"a": 1.0}, {"a": "x"}, {}, {"a": [7, 1]}],
        [{"a": True}, {"a": 2}, {"a": [1.5]}],
    ),
    "$in one": ({"a": {"$in": [True]}}, [{"a": True}], [{"a": 1}]),
    "$in nothing": ({"a": {"$in": []}}, [], [{"a": 1}, {}]),
    "$in lists": ({"a": {"$in": [[1, 2], 9]}}, [{"a": [1, 2]}, {"a": [9]}], [{"a": [1]}]),
    "$in patterns": ({"a": {"$in": [re.compile("^x"), 3]}}, [{"a": "xy"}, {"a": 3}], [{"a": "yx"}]),
    "$nin": ({"a": {"$nin": [1, 2]}}, [{"a": 3}, {}, {"a": [3]}], [{"a": 1}, {"a": [3, 2]}]),
    "$nin null": ({"a": {"$nin": [None]}}, [{"a": 3}], [{}, {"a": None}]),
    "$and": ({"$and": [{"a": 1}, {"b": 2}]}, [{"a": 1, "b": 2}], [{"a": 1}]),
    "$or": ({"$or": [{"a": 1}, {"b": 2}]}, [{"a": 1}, {"b": 2}], [{"a": 2}, {}]),
    "$or beside": ({"$or": [{"a": 1}, {"a": 2}], "b": 1}, [{"a": 2, "b": 1}], [{"a": 2}, {"b": 1}]),
    "$nor": ({"$nor": [{"a": 1}, {"b": 2}]}, [{"a": 2}, {}], [{"a": 1}, {"b": 2}]),
    "$not": ({"a": {"$not": {"$gt": 5}}}, [{"a": 5}, {}, {"a": "x"}], [{"a": 6}, {"a": [1, 6]}]),
    "$not of two": ({"a": {"$not": {"$gt": 5, "$lt": 9}}}, [{"a": 9}, {"a": 1}], [{"a": 6}]),
    "$not pattern": ({"a": {"$not": re.compile("x")}}, [{"a": "y"}, {}], [{"a": "axb"}]),
    "$exists": ({"a": {"$exists": True}}, [{"a": None}, {"a": []}], [{}]),
    "$exists not": ({"a": {"$exists": False}}, [{}, {"b": 1}], [{"a": None}]),
    "$exists 1": ({"a": {"$exists": 1}}, [{"a": None}], [{}]),
    "$exists 0.0": ({"a": {"$exists": 0.0}}, [{}], [{"a": None}]),
    "$comment": ({"$comment": "why", "a": 1}, [{"a": 1}], [{"a": 2}]),
    "$comment in $and": ({"$and": [{"$comment": 1}, {"a": 1}]}, [{"a": 1}], [{"a": 2}]),
    "$comment alone": ({"$comment": {}}, [{}], []),
    "$exists deep": (
        {"a.b": {"$exists": True}},
        [{"a": {"b": 0}}, {"a": [{}, {"b": 0}]}],
        [{"a": [1]}, {"a": {}}, {"a": 1}],
    ),
    "$exists position": ({"a.2": {"$exists": True}}, [{"a": [1, 2, 3]}], [{"a": [1, 2]}]),
    "$type text": ({"a": {"$type": "string"}}, [{"a": "x"}, {"a": [1, "x"]}], [{"a": 1}, {}]),
    "$type number": ({"a": {"$type": "number"}}, [{"a": 1}, {"a": 1.5}], [{"a": True}, {"a": "1"}]),
    "$type int": (
        {"a": {"$type": "int"}},
        [{"a": 2**31 - 1}],
        [{"a": 2**31}, {"a": True}, {"a": 1.0}],
    ),
    "$type long": ({"a": {"$type": "long"}}, [{"a": 2**31}], [{"a": 1}, {"a": 1e10}]),
    "$type double": ({"a": {"$type": 1}}, [{"a": 1.0}], [{"a": 1}]),
    "$type bool": ({"a": {"$type": "bool"}}, [{"a": False}], [{"a": 0}, {}]),
    "$type null": ({"a": {"$type": 10}}, [{"a": None}], [{}, {"a": 0}]),
    "$type array": ({"a": {"$type": "array"}}, [{"a": []}, {"a": [[1]]}], [{"a": {}}]),
    "$type object": ({"a": {"$type": "object"}}, [{"a": {}}, {"a": [{}]}], [{"a": []}]),
    "$type binary": ({"a": {"$type": "binData"}}, [{"a": b""}], [{"a": ""}]),
    "$type date": ({"a": {"$type": "date"}}, [{"a": MOMENT}], [{"a": "2026"}]),
    "$type of several": ({"a": {"$type": ["int", "string"]}}, [{"a": 1}, {"a": ""}], [{"a": None}]),
    "$regex": (
        {"a": {"$regex": "^a.c$"}},
        [{"a": "abc"}, {"a": ["abc"]}],
        [{"a": "ABC"}, {"a": 1}, {}],
    ),
    "$regex options": ({"a": {"$regex": "^b$", "$options": "im"}}, [{"a": "a\nB"}], [{"a": "ab"}]),
    "$regex dot": ({"a": {"$regex": "a.b", "$options": "s"}}, [{"a": "a\nb"}], [{"a": "ab"}]),
    "$regex spaced": ({"a": {"$regex": "a b", "$options": "x"}}, [{"a": "ab"}], [{"a": "a b"}]),
    "pattern": ({"a": re.compile("X", re.I)}, [{"a": "x"}], [{"a": b"x"}, {}]),
    "$elemMatch values": (
        {"a": {"$elemMatch": {"$gt": 5, "$lt": 7}}},
        [{"a": [1, 6]}],
        [{"a": [1, 9]}, {"a": 6}, {"a": [[6]]}, {}],
    ),
    "$elemMatch dicts": (
        {"a": {"$elemMatch": {"b": 1, "c": {"$gt": 2}}}},
        [{"a": [{"b": 1, "c": 3}]}],
        [{"a": [{"b": 1, "c": 1}, {"b": 2, "c": 3}]}, {"a": {"b": 1, "c": 3}}, {"a": [1]}],
    ),
    "$elemMatch lists": (
        {"a": {"$elemMatch": {"0": 1, "1.b": 2}}},
        [{"a": [[1, {"b": 2}]]}, {"a": [0, {"0": 1, "1": {"b": 2}}]}],
        [{"a": [1, {"b": 2}]}, {"a": [[[1, {"b": 2}]]]}, {"a": [[1], [0, {"b": 2}]]}, {"a": []}],
    ),
    "$elemMatch lists have no other fields": (
        {"a": {"$elemMatch": {"b": None}}},
        [{"a": [[{"b": 1}]]}, {"a": [{}]}],
        [{"a": [{"b": 1}]}, {"a": [1]}, {"a": []}],
    ),
    "$elemMatch $or": (
        {"a": {"$elemMatch": {"$or": [{"b": 1}, {"b": 2}]}}},
        [{"a": [{"b": 2}]}],
        [{"a": [{"b": 3}]}],
    ),
    "$elemMatch nested": (
        {"a": {"$elemMatch": {"$elemMatch": {"$eq": 1}}}},
        [{"a": [[0, 1]]}],
        [{"a": [1]}],
    ),
    "$elemMatch $not": ({"a": {"$elemMatch": {"$not": {"$gt": 5}}}}, [{"a": [9, 1]}], [{"a": [9]}]),
    "$all": ({"a": {"$all": [1, 2]}}, [{"a": [2, 3, 1]}], [{"a": [1]}, {"a": 1}, {}]),
    "$all one": ({"a": {"$all": [1]}}, [{"a": 1}, {"a": [1]}], [{"a": 2}]),
    "$all nothing": ({"a": {"$all": []}}, [], [{"a": []}, {"a": 1}, {}]),
    "$all lists": ({"a": {"$all": [[1, 2]]}}, [{"a": [1, 2]}, {"a": [[1, 2]]}], [{"a": [2]}]),
    "$all $elemMatch": (
        {"a": {"$all": [{"$elemMatch": {"b": 1}}, {"$elemMatch": {"b": 2}}]}},
        [{"a": [{"b": 1}, {"b": 2}]}],
        [{"a": [{"b": 1}]}],
    ),
    "$size": (
        {"a": {"$size": 2}},
        [{"a": [1, [2]]}],
        [{"a": [1]}, {"a": "xy"}, {}, {"a": [[1, 2]]}],
    ),
    "$size 1.0": ({"a": {"$size": 1.0}}, [{"a": [5]}], [{"a": []}]),
    "$size 0": ({"a": {"$size": 0}}, [{"a": []}], [{"a": [[]]}, {}]),
    "$mod": (
        {"a": {"$mod": [4, 1]}},
        [{"a": 5}, {"a": 5.9}, {"a": [0, 1]}],
        [{"a": 4}, {"a": "5"}, {}],
    ),
    "$mod below 0": ({"a": {"$mod": [4, -1]}}, [{"a": -5}], [{"a": 5}, {"a": 3}]),
    "$mod bool": ({"a": {"$mod": [1, 0]}}, [{"a": 7}], [{"a": True}, {"a": float("inf")}]),
    "keys with dots": ({"a": {"b.c": 1}}, [{"a": {"b.c": 1}}], [{"a": {"b": {"c": 1}}}]),
}


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str) -> None:
    query, matching, others = CASES[name]
    match = compile_filter(query).match
    assert [document for document in matching if not match(document)] == []
    assert [document for document in others if match(document)] == []


REFUSED: list[tuple[Any, str]] = [
    ([], "is a list, not a dict"),
    ({"a": {"$foo": 1}}, "unknown operator '$foo'"),
    ({"$foo": 1}, "unknown operator '$foo'"),
    ({"$where": "x"}, "unknown operator '$where'"),
    ({"a": {"$gt": 1, "b": 2}}, "'b' stands among operators"),
    ({"a": {"b": {"$gt": 1}}}, "cannot begin with $"),
    ({"a": {"$not": 1}}, "takes operators or a regular expression"),
    ({"a": {"$not": {"$foo": 1}}}, "unknown operator '$foo'"),
    ({"a": {"$in": 1}}, "takes a list"),
    ({"a": {"$nin": {"b": 1}}}, "takes a list"),
    ({"a": {"$all": 1}}, "takes a list"),
    ({"a": {"$all": [{"$gt": 1}]}}, "takes values and $elemMatch"),
    ({"a": {"$size": -1}}, "takes a length"),
    ({"a": {"$size": True}}, "takes a length"),
    ({"a": {"$size": "2"}}, "takes a length"),
    ({"a": {"$mod": [4]}}, "takes [divisor, remainder]"),
    ({"a": {"$mod": [0, 1]}}, "the divisor is 0"),
    ({"a": {"$mod": [float("inf"), 1]}}, "takes [divisor, remainder]"),
    ({"a": {"$exists": "yes"}}, "takes True or False"),
    ({"a": {"$size": 1.5}}, "takes a length"),
    ({"a": {"$size": float("inf")}}, "takes a length"),
    ({"a": {"$comment": "x"}}, "unknown operator '$comment'"),
    ({"a": {"$type": "strong"}}, "unknown type 'strong'"),
    ({"a": {"$type": []}}, "takes a type"),
    ({"a": {"$type": True}}, "unknown type True"),
    ({"a": {"$regex": "("}}, "'('"),
    ({"a": {"$regex": "a{99999999999}"}}, "repetition number is too large"),
    ({"a": {"$regex": "(" * 5000 + ")" * 5000}}, "recursion"),
    ({"a": {"$regex": 1}}, "takes text"),
    ({"a": {"$regex": "x", "$options": "q"}}, "other letters than"),
    ({"a": {"$options": "i"}}, "$options without $regex"),
    ({"a": {"$ne": re.compile("x")}}, "takes no regular expression"),
    ({"a": {"$elemMatch": 1}}, "takes a filter"),
    ({"$and": []}, "takes a list of filters"),
    ({"$or": {"a": 1}}, "takes a list of filters"),
    ({"$nor": [1]}, "is a int, not a dict"),
    ({"a..b": 1}, "is not a path"),
    ({"": 1}, "is not a path"),
    ({"a.": 1}, "is not a path"),
    ({"a.$": 1}, "no part of a path begins with $"),
    ({1: 1}, "a field is named by a str"),
    ({"a": 2**64}, "does not fit into 64 bits"),
    ({"a": {"$gt": float("nan")}}, "NaN"),
    ({"a": object}, "type cannot be stored"),
]


@pytest.mark.parametrize(("query", "reason"), REFUSED, ids=lambda item: str(item)[:40])
def test_a_filter_that_makes_no_sense_is_refused(query: Any, reason: str) -> None:
    with pytest.raises(QueryError, match=re.escape(reason)):
        compile_filter(query)


def test_the_error_names_the_place_and_what_is_known() -> None:
    with pytest.raises(QueryError) as caught:
        compile_filter({"$and": [{"a.b": {"$bar": 1}}]})
    assert str(caught.value) == "filter $and 'a.b': unknown operator '$bar'"
    assert "$elemMatch" in caught.value.hint


def test_a_filter_that_is_nested_too_deeply() -> None:
    query: Any = {"a": 1}
    for _ in range(100_000):
        query = {"$and": [query]}
    with pytest.raises(QueryError, match="nested too deeply"):
        compile_filter(query)


def test_what_an_index_can_use() -> None:
    def told(query: Any) -> list[Any]:
        return [tuple(predicate) for predicate in compile_filter(query).predicates]

    one, two = key_of(1), key_of(2)
    assert told({"a": 1}) == [("a", "=", (one,))]
    assert told({"a": {"$in": [1, 2, 1.0]}}) == [("a", "=", (one, two))]
    assert told({"a": {"$gte": 1, "$lt": 2}}) == [("a", ">=", (one,)), ("a", "<", (two,))]
    assert told({"$and": [{"a": 1}, {"b.c": {"$eq": 2}}]}) == [
        ("a", "=", (one,)),
        ("b.c", "=", (two,)),
    ]
    for query in (
        {"a": None},
        {"a": [1]},
        {"a": {"$in": [1, None]}},
        {"a": {"$in": [1, re.compile("x")]}},
        {"a": {"$ne": 1}},
        {"a": {"$not": {"$eq": 1}}},
        {"$or": [{"a": 1}, {"b": 1}]},
        {"$nor": [{"a": 1}]},
        {"a": {"$elemMatch": {"$eq": 1}}},
        {"a": {"$exists": True}},
        {"a": re.compile("x")},
    ):
        assert told(query) == [], query


def test_a_filter_for_one_id_is_known_as_such() -> None:
    assert compile_filter({"_id": "x"}).id_key == key_of("x")
    assert compile_filter({"_id": {"$in": ["x"]}}).id_key == key_of("x")
    for query in ({"_id": "x", "a": 1}, {"_id": {"$gte": "x"}}, {"_id": {"$in": ["x", "y"]}}, {}):
        assert compile_filter(query).id_key is None, query
