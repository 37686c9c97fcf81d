"""Values: what can be stored, how it compares, and that it comes back the same."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import itertools
import math
import types
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import seeded
from walstore.docstore.errors import InvalidDocumentError
from walstore.docstore.values import (
    INT_MAX,
    INT_MIN,
    MISSING,
    checked_document,
    checked_value,
    copy_of,
    decode,
    encode,
    key_of,
    storable,
    stored,
)
from walstore.limits import DOCUMENT_DEPTH_MAX

UTC = datetime.UTC
MOMENT = datetime.datetime(2026, 11, 26, 7, 0, 0, 123456, tzinfo=UTC)

texts = st.text(st.characters(exclude_categories=["Cs"]))
names = texts.filter(lambda name: name[:1] != "$")
atoms = (
    st.none()
    | st.booleans()
    | st.integers(INT_MIN, INT_MAX)
    | st.floats(allow_nan=False)
    | texts
    | st.binary(max_size=20)
    | st.datetimes(timezones=st.just(UTC))
)
values = st.recursive(
    atoms, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4)
)


@settings(max_examples=120, deadline=None)
@given(values)
def test_what_is_stored_comes_back_the_same(value: Any) -> None:
    checked = checked_value(value)
    back = decode(encode(checked))
    assert back == value
    assert repr(back) == repr(checked)  # True is not 1, and 1 is not 1.0
    assert key_of(back) == key_of(value)


@settings(max_examples=120, deadline=None)
@given(values, values, values)
def test_keys_have_one_order(one: Any, two: Any, three: Any) -> None:
    keys = [key_of(one), key_of(two), key_of(three)]
    for first, second in itertools.permutations(keys, 2):
        assert (first < second) + (first == second) + (first > second) == 1
        if first == second:
            assert hash(first) == hash(second)
    low, middle, high = sorted(keys)
    assert low <= middle <= high


def test_types_follow_each_other_as_in_mongodb() -> None:
    groups: list[list[Any]] = [
        [None],
        [-math.inf, INT_MIN, -1.5, 0, 2**53, 2**53 + 1, INT_MAX, math.inf],
        ["", "A", "a", "aa", "é", "\U0001f600"],
        [{}, {"a": 1}, {"a": 1, "b": 0}, {"a": 2}, {"b": 0}, {"a": "x"}],
        [[], [1], [1, 2], [2]],
        [b"", b"z", b"aa"],
        [False, True],
        [MOMENT, MOMENT + datetime.timedelta(microseconds=1)],
    ]
    everything = [value for group in groups for value in group]
    keys = [key_of(value) for value in everything]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    assert key_of(1) == key_of(1.0) != key_of(True)
    assert key_of(MISSING) == key_of(None)


class Color(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


def test_what_is_like_a_stored_type_becomes_it() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=2))
    given_: dict[str, Any] = {
        "tuple": (1, (2,)),
        "enum": Color.RED,
        "level": Level.HIGH,
        "bytearray": bytearray(b"x"),
        "view": memoryview(b"y"),
        "local": MOMENT.astimezone(zone),
        "moment": Moment.combine(MOMENT.date(), MOMENT.time(), UTC),
    }
    checked = checked_document(given_)
    assert checked == {
        "tuple": [1, [2]],
        "enum": "red",
        "level": 3,
        "bytearray": b"x",
        "view": b"y",
        "local": MOMENT,
        "moment": MOMENT,
    }
    kinds = [str, int, bytes, bytes, datetime.datetime]
    names = ["enum", "level", "bytearray", "view", "moment"]
    assert [type(checked[name]) for name in names] == kinds
    assert checked["local"].tzinfo is UTC


@pytest.mark.parametrize(
    ("document", "path", "reason"),
    [
        ({"a": {"b": [0, INT_MAX + 1]}}, "a.b.1", "does not fit into 64 bits"),
        ({"a": INT_MIN - 1}, "a", "does not fit into 64 bits"),
        ({"a": 10**5000}, "a", "an integer of 16610 bits does not fit into 64 bits"),
        ({"a": math.nan}, "a", "NaN"),
        ({"a": {1, 2}}, "a", "set cannot be stored"),
        ({"a": object()}, "a", "object cannot be stored"),
        ({"a": 1j}, "a", "complex cannot be stored"),
        ({"a": datetime.date(2026, 1, 1)}, "a", "date cannot be stored"),
        ({"a": datetime.datetime(2026, 1, 1)}, "a", "without a time zone"),
        ({"a": {1: 2}}, "a", "the key 1 is of type int"),
        ({"a": {"$b": 2}}, "a.$b", "cannot begin with $"),
        ({"$a": 2}, "$a", "cannot begin with $"),
        ({"a": "\ud800"}, "a", "not Unicode"),
        ({"a\udfff": 1}, "", "not Unicode"),
        ({"_id": [1]}, "_id", "cannot be a list"),
        ([1], "", "is a list"),
        (None, "", "is a NoneType"),
    ],
)
def test_what_cannot_be_stored_is_named(document: Any, path: str, reason: str) -> None:
    with pytest.raises(InvalidDocumentError, match=r".") as caught:
        checked_document(document)
    assert caught.value.path == path
    assert reason in str(caught.value)


class Moment(datetime.datetime):
    """A time of a class of its own."""


MOVED = collections.OrderedDict(a=1, b=2)
MOVED.move_to_end("a")

ODD: list[Any] = [
    *(
        None,
        True,
        0,
        1,
        -1,
        INT_MAX,
        INT_MIN,
        2**40,
        207 << 40,
        1.5,
        math.inf,
        -0.0,
        b"",
        b"\xcf\xff",
    ),
    *("", "text", "\u03ff\u00ff", "$", "5 $", MOMENT, MOMENT.replace(fold=1), [], {}, (), (1,)),
    *(INT_MAX + 1, 2**64 - 1, 2**64, INT_MIN - 1, math.nan, "\ud800", b"\xcf" * 9, Color.RED),
    *(Level.HIGH, bytearray(b"x"), {1}, frozenset(), object(), 1j, MOMENT.date(), MOMENT.time()),
    *(
        MOMENT.replace(tzinfo=None),
        uuid.UUID(int=1),
        decimal.Decimal("1.5"),
        collections.Counter("x"),
    ),
    *(collections.OrderedDict(a=1), types.MappingProxyType({"a": (2,)}), MOMENT - MOMENT),
    MOVED,
    MOMENT.astimezone(datetime.timezone(datetime.timedelta(hours=2))),
]
ODD_NAMES: list[Any] = [
    "a",
    "b",
    "a.b",
    "",
    "x$",
    "\u03ff\u00ff",
    "$a",
    "\ud800",
    1,
    None,
    b"b",
    True,
]


def outcome(document: Any) -> Any:
    try:
        checked = checked_document(document)
    except InvalidDocumentError as error:
        return error.path, error.reason, error.hint
    return repr(checked)


def test_what_is_stored_as_it_is_and_what_is_looked_at_closely_are_judged_alike() -> None:
    rng = seeded("judged alike")
    seen: collections.Counter[str] = collections.Counter()

    def some_value(depth: int) -> Any:
        drawn = rng.random()
        if depth < 3 and drawn < 0.25:
            return some_fields(depth + 1)
        if depth < 3 and drawn < 0.4:
            return [some_value(depth + 1) for _ in range(rng.randrange(4))]
        return rng.choice(ODD[:18] if drawn < 0.9 else ODD)

    def some_fields(depth: int) -> dict[Any, Any]:
        names = ODD_NAMES[:5] if rng.random() < 0.9 else ODD_NAMES
        return {rng.choice(names): some_value(depth) for _ in range(rng.randrange(5))}

    for _ in range(5000):
        document = some_fields(0)
        found = outcome(document)
        assert found == outcome(types.MappingProxyType(document)), document
        seen["stored" if type(found) is str else "refused"] += 1
    for value in ODD:
        for document in ({"a": value}, {"a": [{"b": value}]}, {"a": {"b": value}}):
            assert outcome(document) == outcome(types.MappingProxyType(document)), document
    print(f"judged: {dict(seen)}")
    assert seen["stored"] >= 1000
    assert seen["refused"] >= 500


odd_names = names | st.sampled_from(ODD_NAMES)
odd_values = st.recursive(
    atoms | st.sampled_from(ODD),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_names, inner, max_size=3),
)


@settings(max_examples=600, deadline=None)
@given(st.lists(st.dictionaries(odd_names, atoms, max_size=2), max_size=3), odd_names, odd_values)
def test_what_is_stored_as_it_is_has_the_bytes_that_the_walk_gives(
    others: list[Any], name: Any, value: Any
) -> None:
    given_ = [*others, {name: value}]
    try:
        walked = [encode(checked_value(document)) for document in given_]
    except InvalidDocumentError:
        with pytest.raises(InvalidDocumentError):
            stored([storable(document) for document in given_])
    else:
        copies, raws = stored([storable(document) for document in given_])
        assert raws == walked
        assert [repr(decode(raw)) for raw in raws] == [repr(copy) for copy in copies]


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def test_nesting_has_a_limit_that_is_said() -> None:
    deepest = {"a": nested(DOCUMENT_DEPTH_MAX - 1)}
    assert decode(encode(checked_document(deepest))) == deepest
    for levels in (DOCUMENT_DEPTH_MAX, 5000):
        with pytest.raises(InvalidDocumentError, match="nested deeper than 100 levels"):
            checked_document({"a": nested(levels)})


def test_a_document_that_holds_itself_is_refused() -> None:
    document: dict[str, Any] = {}
    document["self"] = document
    with pytest.raises(InvalidDocumentError, match="nested deeper"):
        checked_document(document)


def test_keys_with_dots_are_kept() -> None:
    document = {"a.b": {"c.d": 1}, "": 2, "x$": 3}
    assert checked_document(document) == document


def test_copies_share_nothing_that_changes() -> None:
    original = {"a": [1, {"b": [2]}], "c": {"d": "e"}}
    kept = [None, True, 1, 2**63 - 1, 1.5, math.inf, "x", b"x", MOMENT, nested(99)]
    assert [repr(value) for value in copy_of(kept)] == [repr(value) for value in kept]
    copy = copy_of(original)
    copy["a"][1]["b"].append(3)
    copy["c"]["d"] = "f"
    assert original == {"a": [1, {"b": [2]}], "c": {"d": "e"}}
