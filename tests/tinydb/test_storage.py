"""WALStorage and WALTable: what a write leaves in the log, and what nobody wrote stays out."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tinydb import TinyDB, where
from tinydb.middlewares import CachingMiddleware
from tinydb.operations import delete
from tinydb.storages import JSONStorage
from tinydb.table import Document, Table

from tests.helpers import contents, run_child, seeded
from walstore import FileWALManager, LogLockedError, NotALogError, ReadOnlyLogError
from walstore.docstore import (
    ClosedStoreError,
    DocumentStore,
    QueryError,
    SnapshotError,
    StoreLostError,
)
from walstore.docstore.record import KIND, decode_record
from walstore.docstore.values import encode
from walstore.limits import DOCUMENT_BYTES_MAX, DOCUMENT_DEPTH_MAX
from walstore.tinydb import UnstorableDocumentError, WALStorage, WALTable, WALTinyDB

Open = Callable[[], TinyDB]


class OwnTable(TinyDB):
    """TinyDB with its own table on this storage."""

    default_storage_class: Any = WALStorage


@pytest.fixture(params=[OwnTable, WALTinyDB])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the database anew, with TinyDB's own table or with WALTable."""
    opened: list[TinyDB] = []

    def open_again() -> TinyDB:
        close()
        opened.append(request.param(tmp_path / "db"))
        return opened[-1]

    def close() -> None:
        for db in opened:
            db.close()

    yield open_again
    close()


def operations(path: Path) -> list[list[list[Any]]]:
    """What each entry of a closed database's log does."""
    return [
        [msgspec.to_builtins(each) for each in decode_record("", 0, entry.payload).operations]
        for entry in contents(path)
        if entry.kind == KIND
    ]


# ---- what is written ----


def test_a_write_is_one_entry_of_what_changed(opener: Open, tmp_path: Path) -> None:
    db = opener()
    db.insert_multiple({"n": n} for n in range(1000))
    db.insert({"n": 1000})
    db.update({"seen": True}, where("n") == 7)
    db.update(lambda document: document["tags"].append("x"), where("tags").exists())  # nobody
    db.remove(doc_ids=[3, 4])
    db.table("other").insert({"a": 1})
    db.close()
    first, insert, update, remove, other = operations(tmp_path / "db")
    assert len(first) == 1001
    assert insert == [["p", "_default", {"_id": "1001", "at": 1002, "doc": {"n": 1000}}]]
    assert [each[2]["doc"] for each in update] == [{"n": 7, "seen": True}]
    assert remove == [["d", "_default", "3"], ["d", "_default", "4"]]
    assert [each[:2] for each in other] == [["p", "tinydb"], ["p", "other"]]


def test_a_write_of_several_tables_is_one_entry(tmp_path: Path) -> None:
    with TinyDB(tmp_path / "db", storage=WALStorage) as db:
        db.storage.write({"a": {"1": {"x": 1}}, "b": {"1": {"x": 2}, "2": {"x": 3}}})
        db.storage.write({"b": {"2": {"x": 4}}, "c": {}})
        assert db.storage.read() == {"b": {"2": {"x": 4}}, "c": {}}
    assert len(operations(tmp_path / "db")) == 2
    with TinyDB(tmp_path / "db", storage=WALStorage) as db:
        assert db.storage.read() == {"b": {"2": {"x": 4}}, "c": {}}


def test_a_change_that_python_calls_equal_is_written(opener: Open) -> None:
    db = opener()
    db.insert({"a": 1, "b": [0]})
    for value, nested in ((True, [False]), (1.0, [0.0]), (1, [0])):
        db.update({"a": value, "b": nested})
        db = opener()
        (document,) = db.all()
        assert repr(document) == repr({"a": value, "b": nested})


def test_changes_in_place_are_noticed(opener: Open) -> None:
    db = opener()
    db.insert_multiple([{"tags": ["a"], "deep": {"x": {"y": 1}}}, {"tags": [], "deep": {}}])

    def change(document: Any) -> None:
        document["tags"].append("b")
        document["deep"].setdefault("x", {})["y"] = 2

    db.update(change)
    expected = [
        {"tags": ["a", "b"], "deep": {"x": {"y": 2}}},
        {"tags": ["b"], "deep": {"x": {"y": 2}}},
    ]
    assert db.all() == expected
    assert opener().all() == expected


def test_what_was_not_written_is_nobody_elses(opener: Open) -> None:
    db = opener()
    db.insert_multiple([{"tags": ["a"]}, {"tags": ["a"]}])

    def half(document: Any) -> None:
        document["tags"].append("b")
        document["gone"]

    with pytest.raises(KeyError):
        db.update(half)
    for found in (db.all(), db.search(where("tags").exists()), [db.get(doc_id=1)]):
        assert found
        for document in found:
            document["tags"].append("c")
    db.clear_cache()
    db.insert({"tags": []})
    assert [document["tags"] for document in db.all()] == [["a"], ["a"], []]
    assert [document["tags"] for document in opener().all()] == [["a"], ["a"], []]


def test_two_readers_share_nothing(tmp_path: Path) -> None:
    with TinyDB(tmp_path / "db", storage=WALStorage) as db:
        db.insert({"a": [1]})
        one, two = db.storage.read(), db.storage.read()
        assert one is not None
        assert two is not None
        one["_default"]["1"]["a"].append(2)
        assert two["_default"]["1"]["a"] == [1]
        db.storage.write(one)
        assert db.all() == [{"a": [1, 2]}]
        db.storage.write(two)  # the older one: what it has not is taken back
        assert db.all() == [{"a": [1]}]


def test_documents_that_were_looked_into_may_move(tmp_path: Path) -> None:
    with TinyDB(tmp_path / "db", storage=WALStorage) as db:
        db.insert_multiple([{"a": 1}, {"a": 2}])
        data = db.storage.read()
        assert data is not None
        assert data["_default"]["1"]["a"] == 1
        db.storage.write({"other": {"7": data["_default"]["1"], "8": data["_default"]["2"]}})
        assert db.storage.read() == {"other": {"7": {"a": 1}, "8": {"a": 2}}}


def test_an_operation_of_ones_own(opener: Open) -> None:
    def change(table: dict[int, Any]) -> None:
        assert table.pop(1) == {"n": 1}
        assert 1 not in table
        table[1] = {"n": "again"}
        del table[2]
        table[9] = {"n": 9}
        table[10] = {"n": 10}
        del table[10]
        assert list(table) in ([1, 3, 9], [3, 1, 9])
        assert len(table) == 3

    def replace(table: dict[int, Any]) -> None:
        table[3]["n"] = "unseen"
        table[11] = {}
        table.clear()
        assert len(table) == 0
        table[3] = {"n": 33}

    db = opener()
    db.insert_multiple({"n": n} for n in (1, 2, 3))
    table = db.table("_default")
    table._update_table(change)
    assert [(d.doc_id, d["n"]) for d in db] == [(1, "again"), (3, 3), (9, 9)]
    db = opener()
    assert [(d.doc_id, d["n"]) for d in db] == [(1, "again"), (3, 3), (9, 9)]
    db.table("_default")._update_table(replace)
    assert [(d.doc_id, d["n"]) for d in opener()] == [(3, 33)]


def test_what_is_no_table_is_kept_too(tmp_path: Path) -> None:
    states: list[dict[str, Any]] = [
        {"a": [1, [None]], "b": 7, "c": {"hp": 13}, "d": {"1": {"x": 1}}},
        {"a": {"1": {"x": 1}}, "b": 7.0, "c": {"hp": 14}, "d": {"1": {"x": 1}, "2": 3}},
        {"a": {}, "b": {"1": {"x": 1}}, "c": {"1": {}}, "e": None},
        {},
        {"a": "x"},
    ]
    for state in states:
        with TinyDB(tmp_path / "db", storage=WALStorage) as db:
            for _twice in range(2):
                db.storage.write(state)
                assert repr(db.storage.read()) == (repr(state) if state else "None")
        with TinyDB(tmp_path / "db", storage=WALStorage) as db:
            found = db.storage.read() or {}
            assert sorted(map(repr, found.items())) == sorted(map(repr, state.items()))
    assert len(operations(tmp_path / "db")) == len(states)


def test_order_stays(opener: Open) -> None:
    db = opener()
    db.insert_multiple({"n": n} for n in range(12))
    db.insert(Document({"n": "low"}, doc_id=-5))
    db.update({"m": 1}, doc_ids=[2])
    db.remove(doc_ids=[1])
    db.storage.checkpoint()  # type: ignore[attr-defined]
    ids = [*range(2, 13), -5]
    assert [document.doc_id for document in db.all()] == ids
    assert [document.doc_id for document in opener().all()] == ids
    assert opener().insert({}) == 13


def test_values_come_back_as_they_were(opener: Open) -> None:
    value = {
        "text": "zażółć 🙂",
        "bytes": b"\x00\xff",
        "when": datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
        "numbers": [0, -1, 2**63 - 1, -(2**63), 0.1, float("inf")],
        "none": None,
        "_id": "one of the document's own",
        "": {"a.b": [[], {}, [True, False]]},
    }
    opener().insert(value)
    assert opener().all() == [value]
    assert repr(opener().all()[0]) == repr(value)


# ---- what is refused ----

REFUSED: list[tuple[Any, str]] = [
    ({"a": [1, {"b": object()}]}, r"_default\.2\.a\.1\.b: object cannot be stored"),
    ({"a": {1: 2}}, r"_default\.2\.a: the key 1 is of type int"),
    ({"a": float("nan")}, r"_default\.2\.a: NaN"),
    ({"a": 1 << 64}, r"_default\.2\.a: .* 64 bits"),
    ({"$a": 1}, r"_default\.2\.\$a: a key cannot begin with \$"),
    ({"a": datetime(2026, 1, 1)}, r"_default\.2\.a: a datetime without a time zone"),
]


@pytest.mark.parametrize(("document", "text"), REFUSED)
def test_what_cannot_be_stored_is_refused_whole(
    opener: Open, tmp_path: Path, document: Any, text: str
) -> None:
    db = opener()
    db.insert({"good": 1})
    for error in (TypeError, ValueError, UnstorableDocumentError):
        with pytest.raises(error, match=text):
            db.insert_multiple([Document({"good": 2}, 3), Document(document, 2)])
    assert db.all() == [{"good": 1}]
    for value in (object(), set()):  # the bytes of a set would be those of a list
        db.update({"x": []})
        with pytest.raises(UnstorableDocumentError):
            db.update({"x": value})
    db.update(delete("x"))
    assert db.all() == [{"good": 1}]
    db.close()
    assert len(operations(tmp_path / "db")) == 3
    assert opener().all() == [{"good": 1}]


@pytest.mark.parametrize("name", ["tinydb", "", "a\nb", "x" * 256])
def test_a_name_that_a_table_cannot_have(opener: Open, name: str) -> None:
    db = opener()
    with pytest.raises(QueryError):
        db.table(name).insert({})
    assert db.tables() == set()


def test_ids_are_text_or_numbers(tmp_path: Path) -> None:
    with TinyDB(tmp_path / "db", storage=WALStorage) as db:
        db.storage.write({"t": {1: {"a": 1}, "2": {"a": 2}}})
        db.storage.write({"t": {2: {"a": 2}, "1": {"a": 3}}})
        assert db.storage.read() == {"t": {"1": {"a": 3}, "2": {"a": 2}}}
        with pytest.raises(UnstorableDocumentError, match=r"t: the id 1\.5 is of type float"):
            db.storage.write({"t": {1.5: {}}})
        db.storage.write({"t": {1: {"a": 4}, "1": {"a": 5}}})
        assert db.storage.read() == {"t": {"1": {"a": 5}}}
        db.storage.write({"t": {"1": {"a": 5}, "2": {"a": 6}}})
        data: Any = db.storage.read()
        db.storage.write({"t": {"1": data["t"]["1"], 1: {"a": 7}}})  # as many as before
        assert db.storage.read() == {"t": {"1": {"a": 7}}}


def test_ids_of_another_class(tmp_path: Path) -> None:
    class Named(WALTable):
        document_id_class = str  # type: ignore[assignment]

    with WALTinyDB(tmp_path / "db") as db:
        db.table_class = Named
        table = db.table("people")
        table.insert(Document({"n": 1}, "ada"))  # type: ignore[arg-type]
        table.update({"n": 2}, doc_ids=["ada", "bob"])
        assert table.get(doc_id="ada") == {"n": 2}


@pytest.mark.parametrize("base", [Table, WALTable])
def test_ids_that_are_no_text(base: type[Table], tmp_path: Path) -> None:
    """Of a class that takes nothing but text."""

    class ByUUID(base):  # type: ignore[misc, valid-type]
        document_id_class = uuid.UUID

        def _get_next_id(self) -> uuid.UUID:
            return uuid.uuid4()

    def opened() -> TinyDB:
        db = WALTinyDB(tmp_path / "db")
        db.table_class = ByUUID
        return db

    with opened() as db:
        table = db.table("people")
        first, second = table.insert_multiple([{"n": 1}, {"n": 2}])
        table.update({"n": 3}, doc_ids=[first])
        assert table.remove(doc_ids=[second]) == [second]
        with pytest.raises(ValueError, match="already exists"):
            table.insert(Document({}, first))
    with opened() as db:
        table = db.table("people")
        assert [(found.doc_id, found) for found in table.all()] == [(first, {"n": 3})]
        assert table.get(doc_id=first) == {"n": 3}
        if base is WALTable:
            assert table.remove(doc_ids=[str(first), 7]) == []
        assert table.remove(doc_ids=[first]) == [first]


def test_ids_that_are_not_of_the_tables_class_match_as_in_a_dict(opener: Open) -> None:
    db = opener()
    db.insert_multiple([{}, {}, {}])
    assert db.remove(doc_ids=["1", None, float("nan"), "x"]) == []
    assert db.remove(doc_ids=[2.0]) == [2.0]
    assert [document.doc_id for document in db.all()] == [1, 3]


# ---- the database's life ----


def test_options_pass_through(tmp_path: Path) -> None:
    with TinyDB(tmp_path / "db", storage=WALStorage, sync="os", segment_bytes=4096) as db:
        storage = db.storage
        assert isinstance(storage, WALStorage)
        assert storage._log.sync_policy == "os"
        db.insert({"a": 1})
        assert storage._log.durable_lsn < storage._log.last_lsn  # nobody synced
    with pytest.raises(TypeError, match="indent"):
        TinyDB(tmp_path / "db", storage=WALStorage, indent=4)
    with TinyDB(tmp_path / "db", storage=WALStorage) as db:  # it is not locked by that
        assert db.all() == [{"a": 1}]
        with pytest.raises(LogLockedError):
            TinyDB(tmp_path / "db", storage=WALStorage)


def test_reading_beside_a_writer(opener: Open, tmp_path: Path) -> None:
    db = opener()
    db.insert({"a": 1})
    with TinyDB(tmp_path / "db", storage=WALStorage, read_only=True) as view:
        assert view.all() == [{"a": 1}]
        with pytest.raises(ReadOnlyLogError):
            view.insert({"a": 2})
        assert view.all() == [{"a": 1}]
        db.insert({"a": 3})
    with WALTinyDB(tmp_path / "db", read_only=True) as view:
        assert view.all() == [{"a": 1}, {"a": 3}]


def test_it_is_a_document_store(opener: Open, tmp_path: Path) -> None:
    """docs/tinydb.md says where in it the documents are."""
    opener().insert_multiple([{"n": 1, "_id": "own"}, {"n": 2}])
    with FileWALManager(tmp_path / "db", read_only=True) as log, DocumentStore(log) as store:
        assert store.list_collection_names() == ["_default", "tinydb"]
        assert store["_default"].find({"doc.n": 1}).to_list() == [
            {"_id": "1", "at": 2, "doc": {"n": 1, "_id": "own"}}
        ]
        assert store["tinydb"].find().to_list() == [{"_id": "_default", "at": 1}]


def test_what_cannot_be_opened_is_not_kept_locked(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "db", segment_bytes=4096) as log:
        for _entry in range(100):
            log.append(b"x" * 100)
        log.truncate_before(90)
        assert log.first_lsn > 1
    with pytest.raises(SnapshotError) as caught:
        TinyDB(tmp_path / "db", storage=WALStorage)
    FileWALManager(tmp_path / "db").close()
    assert "no snapshot can be used" in str(caught.value)


def test_a_json_file_is_not_taken_for_a_log(tmp_path: Path) -> None:
    with TinyDB(tmp_path / "old.json") as old:
        old.insert({"a": 1})
        with pytest.raises(NotALogError):
            TinyDB(tmp_path / "old.json", storage=WALStorage)
        with TinyDB(tmp_path / "new", storage=WALStorage) as new:
            new.storage.write(old.storage.read() or {})
            assert new.all() == old.all() == [{"a": 1}]


def test_a_closed_database_says_so(opener: Open) -> None:
    db = opener()
    db.insert({})
    db.close()
    for call in (db.all, lambda: db.insert({}), db.tables):
        with pytest.raises(ClosedStoreError):
            call()
    db.storage.close()


def test_the_log_does_not_grow_for_ever(tmp_path: Path) -> None:
    with WALTinyDB(tmp_path / "db", sync="os", segment_bytes=16384, checkpoint_bytes=30_000) as db:
        storage = db.storage
        assert isinstance(storage, WALStorage)
        db.insert({"n": 0, "pad": "x" * 500})
        for n in range(1, 600):
            db.update({"n": n})
            if n % 100 == 0:
                storage.checkpoint()
        assert storage._log.first_lsn > 300
        assert storage._log.last_lsn - storage._log.first_lsn < 300
    with WALTinyDB(tmp_path / "db") as db:
        assert [document["n"] for document in db.all()] == [599]


def test_after_an_interrupt_it_must_be_reopened(
    opener: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = opener()
    db.insert({"n": 1})
    storage = db.storage
    assert isinstance(storage, WALStorage)
    append = storage._log.append

    def interrupted(*arguments: Any, **options: Any) -> int:
        append(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(storage._log, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            db.insert({"n": 2})
    for call in (db.all, lambda: db.insert({"n": 3})):
        with pytest.raises(StoreLostError, match="interrupted"):
            call()
    assert opener().all() == [{"n": 1}, {"n": 2}]


def test_behind_a_middleware(tmp_path: Path) -> None:
    caching: Any = CachingMiddleware
    for count, database in enumerate((TinyDB, WALTinyDB), 1):
        with database(tmp_path / "db", storage=caching(WALStorage)) as db:
            for n in range(5):
                db.insert({"n": n, "round": count})
                db.update({"seen": n}, where("n") == n)
            db.storage.flush()
            db.update({"late": True}, where("n") == 4)
        with TinyDB(tmp_path / "db", storage=WALStorage) as db:
            assert db.count(where("round") == count) == 5
            assert db.count(where("late") == True) == count  # noqa: E712


def test_without_tinydb_it_says_what_to_install() -> None:
    out = run_child(
        """
        import sys
        sys.modules["tinydb"] = None
        import walstore.docstore
        try:
            import walstore.tinydb
        except ImportError as error:
            print(error)
        """
    )
    assert out == (
        "walstore.tinydb needs TinyDB, which is not installed: pip install 'walstore[tinydb]'\n"
    )
    assert "tinydb" in sys.modules


# ---- a model: TinyDB on its JSON file ----


def noop() -> None:
    """Most of the time."""


def step(db: TinyDB, rng: Any) -> Any:
    """A random operation; the same on each database that is given the same generator."""
    table = db.table(rng.choice(["_default", "a", "b"]))
    some = where("n") == rng.randrange(6)
    ids = [rng.randrange(1, 15) for _ in range(3)]
    value = rng.choice([0, 1, True, 1.0, "x", None, [1, [2]], {"k": [1]}])

    def nested(document: Any) -> None:
        document.setdefault("list", []).append(value)
        if len(document["list"]) > 6:
            raise ZeroDivisionError

    choices: list[Callable[[], Any]] = [
        lambda: table.insert({"n": rng.randrange(6), "value": value}),
        lambda: table.insert_multiple([{"n": n} for n in range(3)]),
        lambda: table.insert(Document({"n": 1}, doc_id=ids[0])),
        lambda: table.update({"value": value}, some),
        lambda: table.update(nested, some),
        lambda: table.update(nested, doc_ids=ids),
        lambda: table.upsert({"n": 3, "value": value}, some),
        lambda: table.remove(some),
        lambda: table.remove(doc_ids=ids),
        lambda: table.update_multiple([({"value": 2}, some), (nested, where("value") == 1)]),
        lambda: rng.choice([table.truncate, *[noop] * 7])(),
        lambda: rng.choice([lambda: db.drop_table(table.name), *[noop] * 7])(),
        lambda: rng.choice([db.drop_tables, *[noop] * 29])(),
        lambda: [document["list"].append(3) for document in table.search(where("list").exists())],
    ]
    try:
        return rng.choice(choices)()
    except (KeyError, ValueError, ZeroDivisionError) as error:
        return type(error)


def everything(db: TinyDB) -> str:
    """All tables, with types and order."""
    tables = {name: [(d.doc_id, dict(d)) for d in db.table(name)] for name in sorted(db.tables())}
    return repr(tables)


def test_it_does_what_the_json_file_does(tmp_path: Path) -> None:
    rng = seeded("tinydb model")
    databases: list[Callable[[], TinyDB]] = [
        lambda: TinyDB(tmp_path / "db.json", storage=JSONStorage),
        lambda: TinyDB(tmp_path / "stock", storage=WALStorage, sync="os"),
        lambda: WALTinyDB(tmp_path / "table", sync="os"),
    ]
    steps = changed = failed = 0
    before = ""
    for _round in range(6):
        dbs = [make() for make in databases]
        for _step in range(60):
            seed = rng.randrange(1 << 30)
            results = [step(db, type(rng)(seed)) for db in dbs]
            assert results[1:] == results[:1] * 2
            model, *others = map(everything, dbs)
            assert others == [model] * 2
            steps, failed = steps + 1, failed + isinstance(results[0], type)
            changed, before = changed + (model != before), model
        for db in dbs:
            db.close()
    print(f"steps={steps} changed={changed} failed={failed}")
    assert steps == 360
    assert changed >= 150
    assert failed >= 1


def test_a_reader_opens_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is read, another write of both tables comes."""
    writer = WALStorage(tmp_path / "db")
    writer.write({"a": {"1": {"n": 0}}, "b": {"1": {"n": 0}}})
    used = "walstore.tinydb.storage.encode"
    calls = []

    def encode_beside_a_write(value: Any) -> bytes:
        monkeypatch.setattr(used, encode)
        calls.append(value)
        writer.write({"a": {"1": {"n": 1}}, "b": {"1": {"n": 1}}})
        return encode(value)

    monkeypatch.setattr(used, encode_beside_a_write)
    reader = WALStorage(tmp_path / "db", read_only=True)
    found = reader.read()
    assert found == {"a": {"1": {"n": 0}}, "b": {"1": {"n": 0}}}
    assert calls == [{"n": 0}]
    reader.close()
    writer.close()


def test_a_document_beyond_the_limits_is_refused(opener: Open) -> None:
    def nested(levels: int) -> dict[str, Any]:
        return {"n": nested(levels - 1)} if levels > 1 else {"n": 1}

    db = opener()
    db.insert({"deep": nested(DOCUMENT_DEPTH_MAX - 2)})
    with pytest.raises(UnstorableDocumentError, match=r"_default\.2\.deep\.n.*nested deeper"):
        db.insert({"deep": nested(DOCUMENT_DEPTH_MAX - 1)})
    with pytest.raises(UnstorableDocumentError, match=r"_default\.3: takes \d+ bytes, more than"):
        db.insert({"large": "x" * DOCUMENT_BYTES_MAX})
    assert len(db) == 1
    db = opener()
    assert db.all() == [{"deep": nested(DOCUMENT_DEPTH_MAX - 2)}]


def test_what_cannot_be_loaded_leaves_nothing_open(tmp_path: Path) -> None:
    """Somebody else's collection, in which the storage's own fields are missing."""
    with FileWALManager(tmp_path / "db") as log, DocumentStore(log) as store:
        store["tinydb"].insert_one({"_id": "_default"})
    before = set(threading.enumerate())
    with pytest.raises(KeyError):
        WALStorage(tmp_path / "db")
    assert set(threading.enumerate()) <= before
    FileWALManager(tmp_path / "db").close()
