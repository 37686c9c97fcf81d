"""The calls of a collection, on a plain log and on a replicated one."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable
from contextlib import nullcontext
from types import FrameType
from typing import Any

import pytest

from tests.docstore.sites import Site, contents
from walstore import OptionError
from walstore.docstore import (
    BulkWriteError,
    ClosedStoreError,
    Collection,
    DeleteMany,
    DeleteOne,
    DuplicateKeyError,
    IndexExistsError,
    InsertOne,
    InvalidDocumentError,
    NoSuchIndexError,
    QueryError,
    ReplaceOne,
    ReturnDocument,
    UpdateMany,
    UpdateOne,
)
from walstore.docstore.plan import MATCHED_LOCKED_MIN
from walstore.docstore.prepare import BATCH_DOCUMENTS
from walstore.limits import COLLECTION_NAME_BYTES_MAX, DOCUMENT_BYTES_MAX

MOMENT = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def test_insert_and_find(site: Site) -> None:
    things = site.things()
    given: dict[str, Any] = {"name": "ada", "tags": ["x"], "raw": b"\0", "at": MOMENT}
    made = things.insert_one(given).inserted_id
    assert len(made) == 32
    assert "_id" not in given
    assert things.find_one() == {"_id": made, **given}
    assert list(things.find_one() or {}) == ["_id", "name", "tags", "raw", "at"]
    assert things.insert_one({"a": 1, "_id": 7}).inserted_id == 7
    assert list(things.find_one(7 and {"_id": 7}) or {}) == ["_id", "a"]
    many = things.insert_many([{"n": 1}, {"n": 2, "_id": "mine"}]).inserted_ids
    assert many[1] == "mine"
    assert things.count_documents({}) == 4
    assert things.find_one({"_id": "no"}) is None


def test_what_is_handed_out_is_a_copy(site: Site) -> None:
    things = site.things()
    given = {"_id": {"k": 1}, "a": [1]}
    made = things.insert_one(given).inserted_id
    made["k"] = 2
    given["a"].append(2)  # type: ignore[attr-defined]
    found = things.find_one()
    assert found == {"_id": {"k": 1}, "a": [1]}
    found["a"].append(3)
    assert things.find_one() == {"_id": {"k": 1}, "a": [1]}
    next(things.find())["a"].append(3)
    things.distinct("_id")[0]["k"] = 3
    changed = things.find_one_and_update({}, {"$set": {"b": {}}}, return_document=True)
    assert changed is not None
    changed["b"]["c"] = 1
    upsert = UpdateOne({"_id": {"k": 2}}, {"$set": {"b": {}}}, upsert=True)
    things.bulk_write([upsert]).upserted_ids[0]["k"] = 3
    made = things.update_one({"_id": {"k": 4}}, {"$set": {"b": {}}}, upsert=True).upserted_id
    made["k"] = 3
    with pytest.raises(DuplicateKeyError) as caught:
        things.create_index("b", unique=True)
    caught.value.fields["b"]["c"] = 1
    assert things.find().to_list() == [
        {"_id": {"k": 1}, "a": [1], "b": {}},
        {"_id": {"k": 2}, "b": {}},
        {"_id": {"k": 4}, "b": {}},
    ]


def test_an_id_is_unique(site: Site) -> None:
    things = site.things()
    things.insert_one({"_id": 1, "a": 1})
    for same in (1, 1.0):
        with pytest.raises(DuplicateKeyError, match="index '_id_'"):
            things.insert_one({"_id": same})
    things.insert_many([{"_id": True}, {"_id": "1"}, {"_id": None}, {"_id": b"1"}])
    with pytest.raises(DuplicateKeyError):
        things.insert_many([{"_id": 2}, {"_id": 3}, {"_id": 2}])
    assert things.count_documents({}) == 5
    assert things.find_one({"_id": 1}) == {"_id": 1, "a": 1}


def test_many_documents_are_all_inserted_or_none(site: Site) -> None:
    things = site.things()
    count = 2 * BATCH_DOCUMENTS + 10
    given: list[dict[str, Any]] = [{"n": at, "list": [at], "_id": at} for at in range(count)]
    given[5] = {"n": 5}  # without _id
    given[BATCH_DOCUMENTS] = {"_id": BATCH_DOCUMENTS, "n": "$", "tuple": (1,)}
    for bad, error in (
        ({"_id": "bad", "a": 1j}, InvalidDocumentError),
        ({"_id": "bad", "a": "\udfff"}, InvalidDocumentError),
        ({"_id": "bad", "a": {"$b": 1}}, InvalidDocumentError),
        ({"_id": "bad", "a": 2**63}, InvalidDocumentError),
        ({"_id": 7}, DuplicateKeyError),
    ):
        with pytest.raises(error):
            things.insert_many([*given, bad])
    assert things.count_documents({}) == 0
    ids = things.insert_many(iter(given)).inserted_ids
    assert ids[:5] + ids[6:] == [at for at in range(count) if at != 5]
    given[6]["list"].append(1)  # which is the caller's
    found = {document["_id"]: document for document in things.find()}
    assert {document["_id"]: document for document in site.reopen()["things"].find()} == found
    assert list(found[ids[5]]) == ["_id", "n"]
    assert found[6] == {"_id": 6, "n": 6, "list": [6]}
    assert found[BATCH_DOCUMENTS] == {"_id": BATCH_DOCUMENTS, "n": "$", "tuple": [1]}
    assert len(found) == count


def test_find_with_everything(site: Site) -> None:
    things = site.things()
    things.insert_many({"_id": at, "n": at % 4} for at in range(20))
    found = things.find({"n": {"$lt": 2}}, {"n": 0}, sort=[("n", -1), ("_id", 1)], skip=1, limit=3)
    assert list(found) == [{"_id": 5}, {"_id": 9}, {"_id": 13}]
    cursor = things.find({"n": 3}).sort("_id", -1).skip(1).limit(2)
    assert next(cursor)["_id"] == 15
    assert cursor.to_list() == [{"_id": 11, "n": 3}]
    with pytest.raises(QueryError, match="iterated already"):
        cursor.sort("n")
    assert things.count_documents({"n": 3}, skip=1, limit=3) == 3
    assert [one["_id"] for one in things.find(sort=[("_id", -1)], limit=2)] == [19, 18]
    assert things.find_one({"n": 1}, sort=[("_id", -1)]) == {"_id": 17, "n": 1}
    assert things.find_one({"n": 1}, ["_id"], sort="_id", skip=1) == {"_id": 5}
    for bad in ({"skip": -1}, {"limit": -1}, {"limit": 1.5}, {"limit": True}):
        with pytest.raises(QueryError, match="is a whole number"):
            things.find({}, **bad)


def test_a_cursor_shows_one_moment(site: Site) -> None:
    things = site.things()
    things.insert_many({"_id": at} for at in range(10))
    cursor = things.find(sort="_id")
    assert next(cursor) == {"_id": 0}
    things.delete_many({})
    assert [one["_id"] for one in cursor] == list(range(1, 10))
    assert things.count_documents({}) == 0


def test_distinct(site: Site) -> None:
    things = site.things()
    things.insert_many([{"a": [1, "x"]}, {"a": 1.0}, {"a": {"b": 2}}, {}, {"a": None}, {"a": True}])
    assert things.distinct("a") == [None, 1, "x", {"b": 2}, True]
    assert things.distinct("a.b") == [2]
    assert things.distinct("a", {"a": True}) == [True]


def test_updates(site: Site) -> None:
    things = site.things()
    things.insert_many({"_id": at, "n": at % 2} for at in range(6))
    done = things.update_one({"n": 1}, {"$set": {"x": 1}})
    assert (done.matched_count, done.modified_count, done.upserted_id) == (1, 1, None)
    done = things.update_many({"n": 1}, {"$set": {"x": 1}})
    assert (done.matched_count, done.modified_count) == (3, 2)
    done = things.update_many({"n": 9}, {"$set": {"x": 1}})
    assert (done.matched_count, done.modified_count) == (0, 0)
    assert things.count_documents({"x": 1}) == 3
    done = things.replace_one({"_id": 1}, {"y": 1})
    assert (done.matched_count, done.modified_count) == (1, 1)
    assert things.find_one({"_id": 1}) == {"_id": 1, "y": 1}
    assert things.update_one({"_id": 1}, {"$set": {"y": 1.0}}).modified_count == 1
    assert repr(things.find_one({"_id": 1})) == "{'_id': 1, 'y': 1.0}"


def test_an_update_that_fails_half_way_changes_nothing(site: Site) -> None:
    things = site.things()
    things.insert_many([{"_id": 1, "a": 1}, {"_id": 2, "a": "x"}, {"_id": 3, "a": 3}])
    before = contents(things._store)
    with pytest.raises(QueryError, match="'x' is not a number"):
        things.update_many({}, {"$inc": {"a": 1}})
    assert contents(things._store) == before
    assert contents(site.reopen()) == before


@pytest.mark.parametrize(
    ("query", "update", "document"),
    [
        ({"_id": 5}, {"$set": {"a": 1}}, {"_id": 5, "a": 1}),
        ({"_id": {"$eq": 5}}, {"$inc": {"a": 1}}, {"_id": 5, "a": 1}),
        ({"_id": 5, "b": 2, "c": {"$gt": 1}}, {"$set": {"a": 1}}, {"_id": 5, "b": 2, "a": 1}),
        ({"_id": 5, "b.c": 2}, {"$set": {"b.d": 3}}, {"_id": 5, "b": {"c": 2, "d": 3}}),
        ({"$and": [{"_id": 5}, {"b": 1}]}, {"$inc": {"b": 1}}, {"_id": 5, "b": 2}),
        ({"b": 1}, {"$set": {"_id": 5}}, {"b": 1, "_id": 5}),
        ({"_id": 5}, {"$setOnInsert": {"a": 1}}, {"_id": 5, "a": 1}),
    ],
    ids=str,
)
def test_upserts(file_site: Site, query: Any, update: Any, document: Any) -> None:
    things = file_site.things()
    done = things.update_one(query, update, upsert=True)
    assert (done.matched_count, done.modified_count, done.upserted_id) == (0, 0, 5)
    assert things.find_one() == document


@pytest.mark.parametrize(
    "query",
    [
        {"p": 1, "$and": [{"p": 2}]},
        {"$and": [{"p": 1}, {"p": {"$eq": 1}}]},
        {"p": {"q": 1}, "p.q": 1},
        {"p.q": 1, "$and": [{"p": {"q": 1}}]},
    ],
    ids=str,
)
def test_an_upsert_that_does_not_know_what_a_field_equals(file_site: Site, query: Any) -> None:
    """It would make a document that its own filter may not match."""
    things = file_site.things()
    with pytest.raises(QueryError, match="its filter says what"):
        things.update_one(query, {"$set": {"a": 1}}, upsert=True)
    assert things.count_documents({}) == 0
    things.update_one({"p": {"$gt": 1}, "$and": [{"p": 2}]}, {"$set": {"a": 1}}, upsert=True)
    assert things.find_one({}, {"_id": 0}) == {"p": 2, "a": 1}


def test_upserts_make_an_id_and_replace(site: Site) -> None:
    things = site.things()
    made = things.update_one({"a": 1}, {"$set": {"b": 2}}, upsert=True).upserted_id
    assert things.find_one() == {"_id": made, "a": 1, "b": 2}
    again = things.update_one({"a": 1}, {"$set": {"b": 3}}, upsert=True)
    assert (again.matched_count, again.upserted_id) == (1, None)
    assert things.replace_one({"_id": 9}, {"c": 1}, upsert=True).upserted_id == 9
    assert things.find_one({"_id": 9}) == {"_id": 9, "c": 1}
    with pytest.raises(QueryError, match="_id 8 would become 7"):
        things.update_one({"_id": 8}, {"$set": {"_id": 7}}, upsert=True)


def test_find_one_and_update(site: Site) -> None:
    things = site.things()
    things.insert_many({"_id": at, "n": at} for at in range(3))
    up = {"$inc": {"n": 10}}
    assert things.find_one_and_update({}, up, sort=[("n", -1)]) == {"_id": 2, "n": 2}
    after = things.find_one_and_update(
        {"_id": 2}, up, {"_id": 0}, return_document=ReturnDocument.AFTER
    )
    assert after == {"n": 22}
    assert things.find_one_and_update({"_id": 9}, up) is None
    assert things.find_one_and_update({"_id": 9}, up, upsert=True) is None
    made = things.find_one_and_update(
        {"_id": 10}, up, upsert=True, return_document=ReturnDocument.AFTER
    )
    assert made == {"_id": 10, "n": 10}


def test_deletes(site: Site) -> None:
    things = site.things()
    things.insert_many({"_id": at, "n": at % 2} for at in range(6))
    assert things.delete_one({"n": 1}).deleted_count == 1
    assert things.delete_many({"n": 1}).deleted_count == 2
    assert things.delete_many({"n": 1}).deleted_count == 0
    assert things.delete_one({"_id": 4}).deleted_count == 1
    assert sorted(things.distinct("_id")) == [0, 2]


def test_bulk_write(site: Site) -> None:
    things = site.things()
    done = things.bulk_write(
        [
            InsertOne({"_id": 1, "a": 1}),
            InsertOne({"_id": 2, "a": 1}),
            UpdateMany({"a": 1}, {"$inc": {"a": 1}}),
            UpdateOne({"_id": 3}, {"$set": {"a": 5}}, upsert=True),
            ReplaceOne({"_id": 2}, {"b": 1}),
            DeleteOne({"_id": 1}),
            DeleteMany({"a": 77}),
        ]
    )
    assert (done.inserted_count, done.matched_count, done.modified_count) == (2, 3, 3)
    assert (done.deleted_count, done.upserted_ids) == (1, {3: 3})
    assert things.find(sort="_id").to_list() == [{"_id": 2, "b": 1}, {"_id": 3, "a": 5}]
    lsn = site.log.last_lsn if site.log else 0
    with pytest.raises(BulkWriteError, match="operation 1 of bulk_write") as caught:
        things.bulk_write([InsertOne({"_id": 9}), InsertOne({"_id": 9}), DeleteMany({})])
    assert caught.value.at == 1
    assert isinstance(caught.value.error, DuplicateKeyError)
    with pytest.raises(BulkWriteError, match="operation 0 of bulk_write"):
        things.bulk_write([UpdateOne({}, {"$foo": 1})])
    with pytest.raises(BulkWriteError, match="is no operation"):
        things.bulk_write([{"insert": 1}])  # type: ignore[list-item]
    assert site.log is not None
    assert site.log.last_lsn == lsn
    assert things.count_documents({}) == 2


def test_one_operation_is_one_entry(site: Site) -> None:
    things = site.things()
    log = site.log
    assert log is not None
    for write in (
        lambda: things.insert_many({"n": at} for at in range(50)),
        lambda: things.update_many({}, {"$inc": {"n": 1}}),
        lambda: things.create_index("n"),
        lambda: things.delete_many({"n": {"$gt": 10}}),
    ):
        lsn = log.last_lsn
        write()
        assert log.last_lsn == lsn + 1
    lsn = log.last_lsn
    things.update_many({"n": -1}, {"$inc": {"n": 1}})  # nothing to write
    things.update_many({"n": 1}, {"$set": {"n": 1}})
    things.delete_one({"n": -1})
    assert log.last_lsn == lsn + (3 if site.kind == "replicated" else 0), "it asks the others"


def test_reading_a_collection_that_is_not_there_leaves_nothing(file_site: Site) -> None:
    store = file_site.open()
    for at in range(10):
        unknown = store[f"unknown {at}"]
        assert unknown.find_one({"_id": 1}) is unknown.find_one({"a": 1}) is None
        assert unknown.find().to_list() == unknown.distinct("a") == []
        assert unknown.count_documents({}) == unknown.explain({}).returned == 0
        assert [spec.name for spec in unknown.list_indexes()] == ["_id_"]
    assert store._journal.state.collections == {}


def test_indexes(site: Site) -> None:
    things = site.things()
    things.insert_many({"_id": at, "a": at % 5, "b": at} for at in range(50))
    assert things.create_index("a") == "a_1"
    assert things.create_index("a") == "a_1"
    assert things.create_index([("a", 1), ("b", -1)], name="both") == "both"
    assert things.create_index("b", unique=True) == "b_1"
    with pytest.raises(IndexExistsError, match="another index 'both'"):
        things.create_index("c", name="both")
    with pytest.raises(DuplicateKeyError, match="'a_unique'"):
        things.create_index("a", name="a_unique", unique=True)
    names = ["_id_", "a_1", "both", "b_1"]
    for _ in range(2):
        assert [spec.name for spec in things.list_indexes()] == names
        assert things.explain({"a": 3}, sort=[("b", 1)]).index == "both"
        with pytest.raises(DuplicateKeyError):
            things.insert_one({"b": 7})
        things = site.reopen()["things"]
    explained = things.explain({"a": 3})
    assert (explained.index, explained.examined, explained.returned) == ("a_1", 10, 10)
    assert things.explain({"a": 3}, hint="_id_").examined == 50
    things.drop_index("b_1")
    things.insert_one({"b": 7})
    with pytest.raises(NoSuchIndexError, match="no index 'b_1'"):
        things.drop_index("b_1")
    with pytest.raises(QueryError, match="as long as its collection"):
        things.drop_index("_id_")
    assert [spec.name for spec in site.reopen()["things"].list_indexes()] == names[:3]


def test_a_unique_index_keeps_a_batch_out_whole(site: Site) -> None:
    things = site.things()
    things.create_index("a", unique=True)
    things.insert_many([{"_id": 1, "a": 1}, {"_id": 2, "a": 2}])
    for fails in (
        lambda: things.insert_many([{"a": 3}, {"a": 4}, {"a": 3}]),
        lambda: things.insert_many([{"a": 3}, {"a": 2}]),
        lambda: things.update_many({}, {"$set": {"a": 5}}),
        lambda: things.update_one({"_id": 1}, {"$set": {"a": 2}}),
        lambda: things.replace_one({"_id": 1}, {"a": 2}),
    ):
        with pytest.raises(DuplicateKeyError):
            fails()
        assert things.find(sort="_id").to_list() == [{"_id": 1, "a": 1}, {"_id": 2, "a": 2}]
    things.bulk_write([UpdateOne({"_id": 1}, {"$set": {"a": 9}}), InsertOne({"_id": 3, "a": 1})])
    assert contents(site.reopen()) == {
        "things": {"1": {"_id": 1, "a": 9}, "2": {"_id": 2, "a": 2}, "3": {"_id": 3, "a": 1}}
    }


def test_drop(site: Site) -> None:
    things = site.things()
    things.create_index("a", unique=True)
    things.insert_one({"a": 1})
    store = site.store
    assert store is not None
    store["others"].insert_one({"_id": 1})
    things.drop()
    things.drop()
    assert store.list_collection_names() == ["others"]
    things.insert_many([{"a": 1}, {"a": 1}])
    assert things.list_indexes()[1:] == []
    assert site.reopen().list_collection_names() == ["others", "things"]


def test_what_cannot_be_stored_fails_before_anything_is_written(site: Site) -> None:
    things = site.things()
    things.insert_one({"_id": 1, "a": 1})
    assert site.log is not None
    lsn = site.log.last_lsn
    huge = {"_id": 3, "a": b"x" * DOCUMENT_BYTES_MAX}
    for fails in (
        lambda: things.insert_many([{"_id": 2}, {"_id": 3, "a": object()}]),
        lambda: things.insert_many([{"_id": 2}, huge]),
        lambda: things.insert_one([1]),  # type: ignore[arg-type]
        lambda: things.replace_one({"_id": 1}, {"a": 2**63}),
        lambda: things.update_one({"_id": 1}, {"$inc": {"a": 2**63 - 1}}),
    ):
        with pytest.raises(InvalidDocumentError):
            fails()
    assert site.log.last_lsn == lsn
    assert things.find().to_list() == [{"_id": 1, "a": 1}]
    assert contents(site.reopen()) == {"things": {"1": {"_id": 1, "a": 1}}}


def test_a_huge_document_and_odd_names(site: Site) -> None:
    odd: dict[str, Any] = {"": 1, "a.b": {"c.d": 2}, "x$y": 3, "é\U0001f600\0": "\n\u2028"}
    huge = {"_id": 1, "a": b"x" * (DOCUMENT_BYTES_MAX - 1000)}
    store = site.open()
    store["sachen \U0001f600 $.x"].insert_one({"_id": 1, **odd})
    store["huge"].insert_one(huge)
    again = site.reopen()
    assert again["sachen \U0001f600 $.x"].find_one() == {"_id": 1, **odd}
    assert again["huge"].find_one() == huge


@pytest.mark.parametrize(
    "name", ["", "a\0", "x" * (COLLECTION_NAME_BYTES_MAX + 1), 7, None, "\ud800"]
)
def test_a_name_that_is_none(file_site: Site, name: Any) -> None:
    with pytest.raises(QueryError, match="cannot be a name"):
        file_site.open()[name]


def test_what_can_be_gone_through_by_position_is_taken(file_site: Site) -> None:
    """As `for` and `list` take it."""

    class Pages:
        def __init__(self, *pages: Any) -> None:
            self.pages = pages

        def __getitem__(self, position: int) -> Any:
            return self.pages[position]

    things = file_site.things()
    documents: Any = Pages({"_id": 1}, {"_id": 2})
    assert things.insert_many(documents).inserted_ids == [1, 2]
    requests: Any = Pages(InsertOne({"_id": 3}), DeleteOne({"_id": 1}))
    assert things.bulk_write(requests).inserted_count == 1
    assert things.distinct("_id") == [2, 3]


@pytest.mark.parametrize("given", [5, None, object()], ids=["number", "none", "object"])
def test_what_is_not_one_thing_after_the_other_is_refused(file_site: Site, given: Any) -> None:
    things = file_site.things()
    with pytest.raises(QueryError, match="insert_many: takes documents, not"):
        things.insert_many(given)
    with pytest.raises(QueryError, match="bulk_write: takes operations, not"):
        things.bulk_write(given)
    with pytest.raises(InvalidDocumentError):
        things.insert_many([{"a": 1}, given])
    assert things.count_documents({}) == 0


def test_an_index_of_what_is_no_text_is_refused(file_site: Site) -> None:
    """No document has such a field, and the log could not name it."""
    things = file_site.things()
    for keys in ("\ud800", [("a", 1), ("b.\udfff", -1)]):
        with pytest.raises(QueryError, match=r"create_index: .*is not Unicode text"):
            things.create_index(keys, name="given")
        with pytest.raises(QueryError):
            things.create_index(keys)
    assert things.create_index("é\U0001f600") == "é\U0001f600_1"
    assert [spec.name for spec in file_site.reopen()["things"].list_indexes()] == [
        "_id_",
        "é\U0001f600_1",
    ]


def test_unknown_operators_are_named(file_site: Site) -> None:
    things = file_site.things()
    with pytest.raises(QueryError, match=r"unknown operator '\$near'") as caught:
        things.find({"a": {"$near": 1}})
    assert "$gte" in caught.value.hint
    with pytest.raises(QueryError, match=r"unknown operator '\$currentDate'"):
        things.update_one({}, {"$currentDate": {"a": True}})


def test_a_closed_store(site: Site) -> None:
    things = site.things()
    things.insert_one({"_id": 1})
    store = site.store
    assert store is not None
    cursor = things.find()
    store.close()
    store.close()
    assert store.closed
    for call in (
        lambda: things.insert_one({}),
        lambda: things.find_one(),
        lambda: list(cursor),
        lambda: things.create_index("a"),
        lambda: things.list_indexes(),
        store.list_collection_names,
        store.checkpoint,
        lambda: store.transaction().__enter__(),
    ):
        with pytest.raises(ClosedStoreError, match="is closed"):
            call()
    assert "closed" in repr(store)
    assert site.log is not None
    assert not site.log.closed


def test_options_that_make_no_sense(file_site: Site) -> None:
    from walstore.docstore import DocumentStore

    for bad in (0, -1, 1.5, True, "1"):
        with pytest.raises(OptionError, match="checkpoint_bytes"):
            file_site.open(checkpoint_bytes=bad)
    with pytest.raises(OptionError, match="log is an open FileWALManager"):
        DocumentStore("path")  # type: ignore[arg-type]
    things = file_site.things()
    with pytest.raises(OptionError, match="concern is"):
        things.insert_one({}, concern="majority")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="concern is"):
        things._store.transaction(concern=1)  # type: ignore[arg-type]
    assert things.count_documents({}) == 0


def test_write_concerns(site: Site) -> None:
    things = site.things()
    for concern in ("local", "durable"):
        things.insert_one({"c": concern}, concern=concern)
    if site.kind == "replicated":
        things.insert_one({"c": "quorum"}, concern="quorum")
    else:
        with pytest.raises(OptionError, match="needs a replicated log"):
            things.insert_one({"c": "quorum"}, concern="quorum")
    assert things.count_documents({}) == (3 if site.kind == "replicated" else 2)


def test_durable_means_the_disk_whatever_the_log_does_by_itself(file_site: Site) -> None:
    things = file_site.things(log_options={"sync": "os"})
    log = file_site.log
    assert log is not None
    things.insert_one({}, concern="local")
    assert log.durable_lsn < log.last_lsn == 1
    things.insert_one({})
    assert log.durable_lsn == log.last_lsn == 2


def _read_in_a_transaction(things: Collection) -> None:
    with things._store.transaction():
        assert things.find_one({"_id": 1}) == {"_id": 1, "n": 1}


def _insert_again(things: Collection) -> None:
    with pytest.raises(DuplicateKeyError):
        things.insert_one({"_id": 1})


NOTHING_CHANGED: dict[str, Callable[[Collection], object]] = {
    "update": lambda things: things.update_one({"_id": 1}, {"$set": {"n": 1}}, upsert=True),
    "delete": lambda things: things.delete_many({"_id": 2}),
    "drop": lambda things: things._store["others"].drop(),
    "transaction": _read_in_a_transaction,
    "duplicate": _insert_again,
}


@pytest.mark.parametrize("change", NOTHING_CHANGED.values(), ids=NOTHING_CHANGED)
def test_what_changes_nothing_is_durable_too(
    file_site: Site, change: Callable[[Collection], object]
) -> None:
    """What it says rests on what others wrote."""
    things = file_site.things(log_options={"sync": "os"})
    log = file_site.log
    assert log is not None
    things.insert_one({"_id": 1, "n": 1}, concern="local")
    things.update_one({"_id": 1}, {"$set": {"n": 1}}, concern="local")
    assert log.durable_lsn < log.last_lsn == 1
    change(things)
    assert log.durable_lsn == log.last_lsn == 1


@pytest.mark.parametrize("sort", [None, "_id", "a"])
@pytest.mark.parametrize("limit", [sys.maxsize, sys.maxsize + 1, 1 << 70])
def test_a_limit_may_be_any_number(file_site: Site, limit: int, sort: Any) -> None:
    things = file_site.things()
    things.create_index("a")
    things.insert_many({"_id": at, "a": at} for at in range(5))
    for query in ({}, {"a": {"$gte": 2}}, {"a": {"$gte": 2}, "b": None}):
        expected = things.find(query, sort=sort).to_list()
        for skip in (0, 1, limit):
            found = things.find(query, sort=sort, skip=skip, limit=limit).to_list()
            assert found == expected[skip:]


@pytest.mark.parametrize("sort", [None, "a", [("a", -1)]])
@pytest.mark.parametrize("inside", [False, True], ids=["", "in a transaction"])
def test_what_few_match_is_matched_outside_of_the_lock(
    file_site: Site, sort: Any, inside: bool
) -> None:
    """Others do not wait while a query that wants a few goes through an index."""
    store = file_site.open(checkpoint_bytes=None)
    things = store["things"]
    count = 3 * MATCHED_LOCKED_MIN
    things.insert_many({"_id": at, "a": at, "b": {"c": at % 4}} for at in range(count))
    things.create_index("a")
    locked = {True: 0, False: 0}

    def look(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_name == "_walk" and frame.f_locals["at"] == 0:
            locked[store._journal.lock.locked()] += 1

    with store.transaction() if inside else nullcontext():
        for skip in (0, MATCHED_LOCKED_MIN // 4 - 2, count // 4 - 3):
            query = {"a": {"$gte": 0}, "b.c": 3}
            found = things.find(query, sort=sort, skip=skip, limit=5, hint="a_1").to_list()
            assert found == things.find(query, sort=sort or "a").to_list()[skip : skip + 5]
        sys.setprofile(look)
        try:
            assert things.find_one({"a": {"$gte": 0}, "b.c": 9}, sort=sort) is None
        finally:
            sys.setprofile(None)
    assert locked == {True: MATCHED_LOCKED_MIN, False: count - MATCHED_LOCKED_MIN}
    assert things.explain({"a": {"$gte": 0}, "b.c": 9}, limit=1).examined == count
    assert things.explain({"a": {"$gte": 0}, "b.c": 3}, limit=1).examined == 4
