"""Indexes: what they hold, what they refuse, and that a query finds the same with and without."""

from __future__ import annotations

import datetime
import random
import re
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import seeded
from walstore.docstore.draft import Draft, New, Reads
from walstore.docstore.errors import (
    DuplicateKeyError,
    InvalidDocumentError,
    NoSuchIndexError,
    QueryError,
)
from walstore.docstore.index import Index, IndexSpec, KeyRange, checked_spec
from walstore.docstore.plan import find
from walstore.docstore.query import Filter, compile_filter
from walstore.docstore.record import encoded_operation
from walstore.docstore.shape import checked_sort
from walstore.docstore.state import Change, State
from walstore.docstore.values import checked_document, key_of

SPECS = [
    checked_spec("a", None, False),
    checked_spec([("a", -1)], "a_down", False),
    checked_spec([("a", 1), ("b", 1)], None, False),
    checked_spec([("a", 1), ("b", -1)], None, False),
    checked_spec([("b", -1), ("a", -1)], None, False),
    checked_spec("c.d", None, False),
    checked_spec([("c.d", 1), ("a", 1)], None, False),
]


def state_of(documents: list[Any], specs: list[IndexSpec]) -> State:
    state = State()
    for spec in specs:
        state.apply(Change("i", "things", definition=spec))
    for document in documents:
        state.apply(Change("p", "things", key_of(document["_id"]), None, document))
    return state


def some_value(rng: random.Random, lists: bool) -> Any:
    value = rng.choice([None, True, 0, 1, 2, 2.5, 3, "", "x", "y", b"x", {"z": 1}])
    return [value, rng.randrange(4)] if lists and rng.random() < 0.3 else value


def some_document(rng: random.Random, at: int, lists: bool) -> Any:
    document: dict[str, Any] = {"_id": at}
    # One list a document, as a compound index takes no more.
    place = rng.choice(["a", "b", "c"])
    for name in ("a", "b"):
        if rng.random() < 0.9:
            document[name] = some_value(rng, lists and name == place)
    if rng.random() < 0.9:
        inner = {"d": some_value(rng, False)}
        document["c"] = [inner, {"d": 1}, {}] if lists and place == "c" else inner
    return document


def some_filter(rng: random.Random) -> Any:
    query: dict[str, Any] = {}
    for path in rng.sample(["a", "b", "c.d", "_id"], rng.randrange(1, 4)):
        value = some_value(rng, False) if path != "_id" else rng.randrange(60)
        if rng.random() < 0.4:
            query[path] = value
        else:
            names = rng.sample(["$gt", "$gte", "$lt", "$lte", "$eq", "$ne"], rng.choice([1, 1, 2]))
            query[path] = (
                dict.fromkeys(names, value)
                if rng.random() < 0.5
                else {name: some_value(rng, False) for name in names}
            )
            if rng.random() < 0.2:
                query[path] = {"$in": [some_value(rng, False) for _ in range(3)]}
    if rng.random() < 0.1:
        return {"$and": [query, {rng.choice(["a", "b"]): some_value(rng, False)}]}
    return query


@pytest.mark.parametrize("lists", [False, True], ids=["plain", "with lists"])
def test_a_query_finds_the_same_with_and_without_indexes(lists: bool) -> None:
    rng = seeded(f"indexes, lists={lists}")
    searched = sorted_by_index = decided = 0
    for _ in range(30):
        documents = [some_document(rng, at, lists) for at in range(50)]
        plain = state_of(documents, []).collection("things")
        indexed = state_of(documents, rng.sample(SPECS, 3)).collection("things")
        for _ in range(40):
            query = compile_filter(asked := some_filter(rng))
            sort = checked_sort(
                [
                    (path, rng.choice([1, -1]))
                    for path in rng.sample(["a", "b", "_id"], rng.choice([0, 1, 2]))
                ]
            )
            one = find(plain, nullcontext(), query, sort)
            two = find(indexed, nullcontext(), query, sort)
            found = [document["_id"] for document in two.documents]
            assert sorted(found) == sorted(document["_id"] for document in one.documents), asked
            assert two.examined <= len(documents)
            keys = [
                [key_of(document.get(path)) for path, _way in sort] for document in one.documents
            ]
            if not lists:
                again = [
                    [key_of(document.get(path)) for path, _way in sort]
                    for document in two.documents
                ]
                assert keys == again, (asked, sort, two.plan)
            limited = find(indexed, nullcontext(), query, sort, skip=1, limit=3)
            assert len(limited.documents) == min(3, max(0, len(found) - 1))
            covered = query.is_whole and two.plan.covered == len(query.predicates) > 0
            decided += covered and len(found) > 0
            searched += two.plan.name not in (None, "_id_")
            sorted_by_index += two.plan.ordered and bool(sort)
    print(f"searched={searched} sorted_by_index={sorted_by_index} decided={decided}")
    assert decided >= (20 if not lists else 5)
    assert searched >= 200
    assert sorted_by_index >= (50 if not lists else 10)


def test_an_index_follows_its_documents() -> None:
    rng = seeded("an index follows")
    specs = SPECS
    state = state_of([], specs)
    collection = state.collection("things")
    held: dict[int, Any] = {}
    together = 0
    for _ in range(600):
        at = rng.randrange(40)
        if at in held and rng.random() < 0.4:
            state.apply(Change("d", "things", key_of(at), held.pop(at)))
        elif rng.random() < 0.2:
            new = [other for other in rng.sample(range(40), 15) if other not in held]
            held |= {other: some_document(rng, other, True) for other in new}
            changes = [Change("p", "things", key_of(other), None, held[other]) for other in new]
            state.apply_all(changes, {})
            together += len(new)
        else:
            held[at] = some_document(rng, at, True)
            state.apply(Change("p", "things", key_of(at), None, held[at]))
    for spec in specs:
        fresh = Index(spec)
        fresh.fill((key_of(at), document) for at, document in held.items())
        index = collection.indexes[spec.name]
        assert index.lists == fresh.lists
        everything = KeyRange(None, None)
        assert sorted(index.walk(everything)) == sorted(fresh.walk(everything))
        assert len(index) == len(fresh)
    print(f"together={together}")
    assert together >= 20
    for at in list(held):
        state.apply(Change("d", "things", key_of(at), held.pop(at)))
    assert [len(index) for index in collection.indexes.values()] == [0] * len(specs)
    assert [index.lists for index in collection.indexes.values()] == [0] * len(specs)


def test_the_planner_goes_by_its_rules() -> None:
    documents = [{"_id": at, "a": at % 10, "b": at, "c": {"d": at}} for at in range(100)]
    specs = [
        checked_spec("a", None, False),
        checked_spec([("a", 1), ("b", -1)], None, False),
        checked_spec("c.d", None, True),
    ]
    view = state_of(documents, specs).collection("things")

    def plan(query: Any, sort: Any = None, limit: int = 0, hint: str | None = None) -> Any:
        done = find(
            view, nullcontext(), compile_filter(query), checked_sort(sort), limit=limit, hint=hint
        )
        return done.plan.name, done.plan.ordered, done.examined, len(done.documents)

    assert plan({}) == (None, False, 100, 100)
    assert plan({"x": 1}) == (None, False, 100, 0)
    assert plan({"_id": 5, "a": 5}) == ("_id_", False, 1, 1)
    assert plan({"_id": {"$gte": 95}}) == ("_id_", False, 5, 5)
    assert plan({"_id": {"$in": [1, 2, 200]}}) == ("_id_", False, 2, 2)
    assert plan({"c.d": 7, "a": 7}) == ("c.d_1", False, 1, 1)
    assert plan({"a": 7}) == ("a_1", False, 10, 10)
    assert plan({"a": {"$in": [1, 2]}})[2:] == (20, 20)
    assert plan({"a": 7, "b": 17}) == ("a_1_b_-1", False, 1, 1)
    assert plan({"a": 7, "b": {"$gt": 50}}) == ("a_1_b_-1", False, 5, 5)
    assert plan({"a": {"$in": [1, 2]}, "b": {"$lt": 20}}) == ("a_1_b_-1", False, 4, 4)
    assert plan({"a": 7}, [("b", -1)], 3) == ("a_1_b_-1", True, 3, 3)
    assert plan({"a": 7}, [("b", 1)], 3) == ("a_1_b_-1", True, 3, 3)
    assert plan({"a": 7}, [("a", 1), ("b", 1)], 3) == ("a_1_b_-1", True, 3, 3)
    assert plan({}, [("a", 1), ("b", -1)], 2) == ("a_1_b_-1", True, 2, 2)
    assert plan({}, [("a", -1), ("b", 1)], 2) == ("a_1_b_-1", True, 2, 2)
    assert plan({}, [("a", 1), ("b", 1)], 2) == (None, False, 100, 2)
    assert plan({}, [("_id", -1)], 2) == ("_id_", True, 2, 2)
    assert plan({"a": 7}, hint="c.d_1") == ("c.d_1", False, 100, 10)
    assert plan({"c.d": {"$gte": 10, "$lt": 20}}) == ("c.d_1", False, 10, 10)
    with pytest.raises(NoSuchIndexError, match="'things' has no index 'nothing_1'") as caught:
        plan({}, hint="nothing_1")
    assert "c.d_1" in caught.value.hint
    with pytest.raises(QueryError, match="is the name of an index"):
        plan({}, hint=[("a", 1)])  # type: ignore[arg-type]


def test_a_range_over_a_list_uses_one_bound() -> None:
    """1 and 20 are both outside of it, and yet the document matches, as MongoDB has it."""
    view = state_of([{"_id": 1, "a": [1, 20]}], [SPECS[0]]).collection("things")
    found = find(view, nullcontext(), compile_filter({"a": {"$gt": 5, "$lt": 10}}))
    assert [document["_id"] for document in found.documents] == [1]
    assert found.plan.name == "a_1"


def test_an_index_that_holds_lists_gives_no_order() -> None:
    """The order goes by the least element, also when it is outside of the range."""
    documents = [{"_id": 1, "a": [1, 5]}, {"_id": 2, "a": 3}]
    view = state_of(documents, [SPECS[0]]).collection("things")
    query = compile_filter({"a": {"$gte": 2}})
    found = find(view, nullcontext(), query, checked_sort("a"))
    assert (found.plan.name, found.plan.ordered) == ("a_1", False)
    assert [document["_id"] for document in found.documents] == [1, 2]


def draft_with(spec: IndexSpec, *documents: Any) -> Draft:
    return Draft(state_of(list(documents), [spec]))


def to_insert(document: Any) -> New:
    return key_of(document["_id"]), document, encoded_operation("p", "things", document)


def test_a_unique_index_lets_a_key_in_once() -> None:
    spec = checked_spec([("a", 1), ("b.c", -1)], "pair", True)
    draft = draft_with(spec, {"_id": 1, "a": 1, "b": {"c": 2}})
    with pytest.raises(DuplicateKeyError, match="'pair'") as caught:
        draft.insert("things", [to_insert({"_id": 2, "a": 1.0, "b": {"c": 2}})])
    assert caught.value.fields == {"a": 1.0, "b.c": 2}
    draft.insert("things", [to_insert({"_id": 2, "a": 1, "b": {"c": 3}})])
    with pytest.raises(DuplicateKeyError):  # of the draft itself
        draft.insert("things", [to_insert({"_id": 3, "a": 1, "b": {"c": 3}})])
    old = draft.collection("things").get(key_of(1))
    assert old is not None
    draft.put("things", key_of(1), old, old | {"x": 1})  # its own key is no hindrance
    draft.delete("things", key_of(1), old)
    draft.insert("things", [to_insert({"_id": 3, "a": 1, "b": {"c": 2}})])


def test_a_unique_index_counts_what_is_missing_as_null() -> None:
    draft = draft_with(checked_spec("a", None, True), {"_id": 1})
    with pytest.raises(DuplicateKeyError):
        draft.insert("things", [to_insert({"_id": 2, "a": None})])


def test_a_unique_index_holds_each_element_of_a_list() -> None:
    draft = draft_with(checked_spec("a", None, True), {"_id": 1, "a": [1, 2, 2]})
    with pytest.raises(DuplicateKeyError):
        draft.insert("things", [to_insert({"_id": 2, "a": [3, 2]})])
    draft.insert("things", [to_insert({"_id": 2, "a": [3, [2]]})])


def test_two_lists_in_one_index_are_refused() -> None:
    draft = draft_with(SPECS[2])
    with pytest.raises(InvalidDocumentError, match="a is a list as well"):
        draft.insert("things", [to_insert({"_id": 1, "a": [1, 2], "b": [3, 4]})])
    assert draft.changes == []
    assert draft.collection("things").all() == []


PARTS = ["a", "b", "0", "1", "00", "\u0663", "\u00b2", "9" * 640, "9" * 5000]
PATHS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=3).map(".".join)
KEYS = st.lists(st.tuples(PATHS, st.sampled_from([1, -1])), min_size=1, max_size=2)
ATOMS: Any = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    st.sampled_from(["", "x", "\u00e9", "\U0001f600"]),
    st.binary(max_size=2),
    st.datetimes(timezones=st.just(datetime.UTC)),
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(PARTS), inner, max_size=3)
    ),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from(PARTS), VALUES, max_size=3)


@settings(max_examples=150)
@given(st.lists(st.tuples(KEYS, st.booleans()), max_size=3), st.lists(DOCUMENTS, max_size=5))
def test_what_a_draft_takes_can_be_applied(definitions: Any, documents: list[Any]) -> None:
    """What cannot be is refused before anything is in the log: otherwise no store could be opened
    on it any more."""
    specs = [
        IndexSpec(f"index {at}", tuple(keys), unique)
        for at, (keys, unique) in enumerate(definitions)
    ]
    state = state_of([], specs)
    draft = Draft(state)
    for at, document in enumerate(documents):
        whole = checked_document({"_id": at % 3} | document)
        old = draft.collection("things").get(key_of(at % 3))
        with suppress(DuplicateKeyError, InvalidDocumentError):
            draft.put("things", key_of(at % 3), old, whole)
    state.apply_all(draft.changes, {})
    again = State()
    again.apply_all([Change("i", "things", definition=spec) for spec in specs], {})
    again.apply_all(draft.changes, {})
    kept = state.collection("things")
    assert kept.documents == again.collection("things").documents
    for id_key, document in list(kept.documents.items()):
        kept.delete(id_key, document)
    assert [len(index) for index in kept.indexes.values()] == [0] * len(specs)


class Broken(Index):
    """Has a fault that shows in the keys of a document."""

    def keys_of(self, document: Any) -> Any:
        raise ZeroDivisionError


def test_keys_are_made_before_anything_is_written() -> None:
    """Also those of an index that refuses nothing by its rules."""
    state = state_of([], [checked_spec("c.d", None, False)])
    state.collection("things").indexes["c.d_1"] = Broken(checked_spec("c.d", None, False))
    draft = Draft(state)
    with pytest.raises(ZeroDivisionError):
        draft.put("things", key_of(1), None, {"_id": 1})
    assert draft.changes == []


def test_undoing_brings_a_draft_back() -> None:
    draft = draft_with(checked_spec("a", None, True), {"_id": 1, "a": 1}, {"_id": 2, "a": 2})
    view = draft.collection("things")
    old = view.get(key_of(1))
    assert old is not None
    draft.put("things", key_of(1), old, {"_id": 1, "a": 5})
    count = len(draft.changes)
    new = view.get(key_of(1))
    assert new is not None
    draft.put("things", key_of(1), new, {"_id": 1, "a": 6})
    draft.delete("things", key_of(1), {"_id": 1, "a": 6})
    draft.insert("things", [to_insert({"_id": 3, "a": 1})])
    draft.undo_to(count)
    assert sorted(document["a"] for document in view.all()) == [2, 5]
    draft.undo_to(0)
    assert sorted(document["a"] for document in view.all()) == [1, 2]
    assert draft.operations == []
    with pytest.raises(DuplicateKeyError):
        draft.insert("things", [to_insert({"_id": 4, "a": 1})])


@pytest.mark.parametrize(
    ("keys", "name", "unique"),
    [
        ([], None, False),
        ([("a", 2)], None, False),
        ([("a", 1), ("a", -1)], None, False),
        ([("a", "text")], None, False),
        (1, None, False),
        ({"a": 1}, None, False),
        ("a..b", None, False),
        ("a", "_id_", False),
        ("a", "", False),
        ("a", 7, False),
        ("a", None, 1),
        ([(f"f{at}", 1) for at in range(33)], None, False),
    ],
    ids=lambda item: re.sub(r"\W+", " ", str(item))[:30],
)
def test_an_index_that_makes_no_sense(keys: Any, name: Any, unique: Any) -> None:
    with pytest.raises(QueryError):
        checked_spec(keys, name, unique)


@pytest.mark.parametrize("lists", [False, True], ids=["plain", "with lists"])
def test_reads_meet_what_their_filters_match(lists: bool) -> None:
    """Those of a transaction that are looked up among equalities, too."""
    rng = seeded(f"reads, lists={lists}")
    met = looked_up = 0
    for _ in range(1000):
        reads = Reads()
        noted = [
            (rng.choice(["things", "things", "others"]), compile_filter(some_filter(rng)))
            for _ in range(rng.randrange(1, 5))
        ]
        for name, query in noted:
            reads.note(name, query)
        for _ in range(5):
            old, new = (some_document(rng, 7, lists) for _ in range(2))
            change = Change("p", "things", key_of(7), rng.choice([None, old]), new)
            shown = [one for one in (change.old, change.new) if one is not None]
            matching = [
                query for name, query in noted if name == "things" and any(map(query.match, shown))
            ]
            assert reads.meet(change) == bool(matching), (noted, change)
            met += bool(matching)
            looked_up += len(matching) > 0 and not any(
                match(one) for _name, match in reads._filters for one in shown
            )
        for name in ("things", "others"):
            assert reads.meet(Change("c", name)) == any(name == other for other, _ in noted)
    print(f"met={met} looked_up={looked_up}")
    assert met >= 250
    assert looked_up >= 50


def note_counted(reads: Reads, query: Any, number: int, asked: list[int]) -> None:
    """Notes a filter that says when it is asked."""
    compiled = compile_filter(query)

    def match(document: Any) -> bool:
        asked.append(number)
        return compiled.match(document)

    reads.note("things", Filter(match, compiled.predicates, compiled.is_whole))


def test_a_change_is_looked_up_among_the_equalities_of_a_transaction() -> None:
    """So what it costs others does not grow with how much it has looked for."""
    asked: list[int] = []
    reads = Reads()
    for number in [*range(1000)] * 2:
        query = {"a": number} if number % 2 else {"a": {"$in": [number, -number]}}
        note_counted(reads, query, number, asked)
    put = {"_id": 1, "a": 5000, "b": 7}
    assert not reads.meet(Change("p", "things", key_of(1), None, put))
    assert not reads.meet(Change("p", "others", key_of(1), None, {"_id": 1, "a": 7}))
    assert asked == []
    assert reads.meet(Change("p", "things", key_of(1), put, {"_id": 1, "a": [0, -8]}))
    assert asked == [0]
    assert reads.meet(Change("d", "things", key_of(1), {"_id": 1, "a": [-8]}))
    assert asked == [0, 8]


FILTERS: dict[str, Callable[[int], Any]] = {
    "the other field first": lambda number: {"b": 1, "a": number},
    "the other field last": lambda number: {"a": number, "b": 1},
    "a range": lambda number: {"b": {"$lt": 9}, "a": number},
    "more than an index finds": lambda number: {"b": {"$ne": 2}, "a": number},
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_of_several_fields_is_looked_up_by_one_of_them(name: str) -> None:
    """By one that tells it from others: `b` has the same value in all of them."""
    asked: list[int] = []
    reads = Reads()
    for number in range(1000):
        note_counted(reads, FILTERS[name](number), number, asked)
    put = {"_id": 1, "a": 5000, "b": 1}
    assert not reads.meet(Change("p", "things", key_of(1), None, put))
    assert len(asked) <= 1
    asked.clear()
    assert reads.meet(Change("p", "things", key_of(1), put, {"_id": 1, "a": 8, "b": 1}))
    assert 8 in asked
    assert len(asked) <= 3


def test_filters_that_ask_for_the_same_are_noted_once() -> None:
    asked: list[int] = []
    reads = Reads()
    for number in range(1000):
        note_counted(reads, {"a": 7, "b": {"$gt": 5}}, number, asked)
    assert not reads.meet(Change("p", "things", key_of(1), None, {"_id": 1, "a": 7, "b": 1}))
    assert len(asked) == 1
