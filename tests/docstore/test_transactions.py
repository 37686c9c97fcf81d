"""Transactions: all or nothing, one state, and nothing lost between threads."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.docstore.sites import Site, contents
from tests.helpers import run_child, seeded
from tests.replication.nodes import until
from walstore.docstore import (
    Collection,
    ConflictError,
    DocumentStore,
    DuplicateKeyError,
    QueryError,
    TransactionError,
)
from walstore.docstore.draft import Draft
from walstore.docstore.index import Index
from walstore.docstore.prepare import new_documents
from walstore.docstore.state import Change, State
from walstore.docstore.store import _blocks


def elsewhere(call: Callable[[], Any]) -> Any:
    """In another thread, so outside of this one's transaction."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result(timeout=60)


def test_a_block_is_one_entry_and_sees_itself(site: Site) -> None:
    store = site.open()
    things, others = store["things"], store["others"]
    things.insert_many({"_id": at, "a": at} for at in range(5))
    things.create_index("a", unique=True)
    assert site.log is not None
    lsn = site.log.last_lsn
    with store.transaction():
        things.insert_one({"_id": 9, "a": 9})
        things.update_many({"a": {"$lt": 2}}, {"$inc": {"a": 10}})
        things.delete_one({"_id": 2})
        others.insert_one({"_id": 1})
        assert sorted(things.distinct("a")) == [3, 4, 9, 10, 11]
        assert things.find({"a": {"$gte": 9}}, sort=[("a", -1)], limit=2).to_list() == [
            {"_id": 1, "a": 11},
            {"_id": 0, "a": 10},
        ]
        things.insert_one({"_id": 6, "a": 3.5})
        assert [one["a"] for one in things.find(sort="a", limit=3)] == [3, 3.5, 4]
        things.delete_one({"_id": 6})
        assert things.find_one({"_id": 2}) is None
        assert things.explain({"a": 9}).index == "a_1"
        assert others.count_documents({}) == 1
        assert elsewhere(lambda: things.distinct("a")) == [0, 1, 2, 3, 4]
        assert elsewhere(lambda: others.count_documents({})) == 0
        assert site.log.last_lsn == lsn
    assert site.log.last_lsn == lsn + 1
    assert sorted(things.distinct("a")) == [3, 4, 9, 10, 11]
    before = contents(store)
    assert contents(site.reopen()) == before


def test_a_block_that_raises_writes_nothing(site: Site) -> None:
    store = site.open()
    things = store["things"]
    things.insert_one({"_id": 1})
    assert site.log is not None
    lsn = site.log.last_lsn

    def block() -> None:
        with store.transaction():
            things.insert_one({"_id": 2})
            things.delete_one({"_id": 1})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()
    assert store._current_transaction() is None
    assert site.log.last_lsn == lsn
    assert things.find().to_list() == [{"_id": 1}]
    with store.transaction(concern="local"):
        things.count_documents({})
    assert site.log.last_lsn == lsn, "nothing to write, and nobody is asked"
    with store.transaction():
        things.count_documents({})
    assert site.log.last_lsn == lsn + (1 if site.kind == "replicated" else 0)


def test_a_failing_operation_leaves_the_rest_of_the_block(site: Site) -> None:
    store = site.open()
    things = store["things"]
    things.insert_one({"_id": 1, "a": "x"})
    with store.transaction():
        things.insert_one({"_id": 2, "a": 1})
        with pytest.raises(DuplicateKeyError):
            things.insert_many([{"_id": 3}, {"_id": 1}])
        with pytest.raises(QueryError):
            things.update_many({}, {"$inc": {"a": 1}})
        things.insert_one({"_id": 4})
    assert things.find(sort="_id").to_list() == [
        {"_id": 1, "a": "x"},
        {"_id": 2, "a": 1},
        {"_id": 4},
    ]


def test_what_has_no_place_in_a_transaction(site: Site) -> None:
    store = site.open()
    things = store["things"]
    things.create_index("b")
    block = store.transaction()
    with block:
        for call in (
            lambda: things.create_index("a"),
            lambda: things.drop_index("b_1"),
            things.drop,
            lambda: store.transaction().__enter__(),
        ):
            with pytest.raises(TransactionError):
                call()
    with pytest.raises(TransactionError, match="used once"):
        block.__enter__()


class Undone(Exception):
    """Ends a block without what it wrote."""


BLOCKS: dict[str, Callable[[Collection], Any]] = {
    # What the block does last.
    "read": lambda things: things.find_one({"_id": 0}),
    "wrote": lambda things: things.insert_one({"_id": "block"}),
    "raised": lambda things: raised(things.insert_one({"_id": "undone"})),
}


def raised(_result: Any) -> None:
    raise Undone


async def spawned(kind: str, call: Callable[[], Any]) -> Any:
    """A call in a task or thread that inherits the context from here."""
    if kind == "thread":
        return await asyncio.to_thread(call)

    async def run() -> Any:
        return call()

    return await asyncio.create_task(run())


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("kind", ["task", "thread"])
def test_what_a_block_started_goes_on_after_it(site: Site, kind: str, name: str) -> None:
    """It has inherited the context, and must not write into a transaction that is over."""
    store = site.open()
    things = store["things"]

    async def main() -> None:
        ended = asyncio.Event()

        async def later() -> Any:
            await ended.wait()
            return await spawned(kind, lambda: things.insert_one({"_id": "late"}))

        with suppress(Undone), store.transaction():
            begun = asyncio.create_task(later())
            BLOCKS[name](things)
        ended.set()
        assert (await begun).inserted_id == "late"

    asyncio.run(main())
    expected = {"late", "block"} if name == "wrote" else {"late"}
    assert set(things.distinct("_id")) == expected
    assert set(site.reopen()["things"].distinct("_id")) == expected


@pytest.mark.parametrize("kind", ["task", "thread"])
def test_what_a_block_starts_is_outside_of_its_transaction(site: Site, kind: str) -> None:
    store = site.open()
    things = store["things"]

    async def main() -> None:
        with suppress(Undone), store.transaction():
            things.insert_one({"_id": "undone"})
            await spawned(kind, lambda: things.insert_one({"_id": "outside"}))
            assert await spawned(kind, lambda: things.distinct("_id")) == ["outside"]
            await spawned(kind, lambda: store["others"].create_index("a"))
            assert things.distinct("_id") == ["outside", "undone"]
            raise Undone

    asyncio.run(main())
    assert store.list_collection_names() == ["others", "things"]
    assert site.reopen()["things"].distinct("_id") == ["outside"]


@pytest.mark.parametrize("kind", ["task", "thread"])
def test_what_a_block_starts_has_blocks_of_its_own(site: Site, kind: str) -> None:
    store = site.open()
    things = store["things"]

    def block() -> None:
        with store.transaction():
            things.insert_one({"_id": "own"})

    async def main() -> None:
        with suppress(Undone), store.transaction():
            things.insert_one({"_id": "undone"})
            await spawned(kind, block)
            things.insert_one({"_id": "undone, too"})
            raise Undone

    asyncio.run(main())
    assert site.reopen()["things"].distinct("_id") == ["own"]


def suspended(store: DocumentStore) -> Iterator[None]:
    """A generator that waits in a block."""
    with store.transaction():
        store["things"].insert_one({"_id": "generator"})
        yield


def test_a_generator_and_its_caller_share_the_block_while_it_is_open(site: Site) -> None:
    store = site.open()
    things = store["things"]
    with suppress(StopIteration):
        generator = suspended(store)
        next(generator)
        things.insert_one({"_id": "shared"})
        assert elsewhere(lambda: things.distinct("_id")) == []
        next(generator)
    assert things.distinct("_id") == ["generator", "shared"]
    things.insert_one({"_id": "after"})
    assert site.reopen()["things"].distinct("_id") == ["after", "generator", "shared"]


def close_here(generator: Any) -> None:
    generator.close()


def close_in_another_context(generator: Any) -> None:
    contextvars.Context().run(generator.close)


def close_in_another_thread(generator: Any) -> None:
    elsewhere(generator.close)


@pytest.mark.parametrize(
    "close",
    [close_here, close_in_another_context, close_in_another_thread],
    ids=lambda f: f.__name__,
)
def test_what_comes_after_a_suspended_block_is_stored(
    site: Site, close: Callable[[Any], None]
) -> None:
    """Whoever ends it: it can be another thread, or a task that an event loop makes."""
    store = site.open()
    things = store["things"]
    generator: Any = suspended(store)
    next(generator)
    things.insert_one({"_id": "shared"})
    close(generator)
    assert things.distinct("_id") == []
    assert things.insert_one({"_id": "after"}).inserted_id == "after"
    with store.transaction():
        things.insert_one({"_id": "block"})
    assert not store._journal._transactions
    assert site.reopen()["things"].distinct("_id") == ["after", "block"]


@pytest.mark.parametrize("name", ["insert_many", "update_many", "delete_many"])
def test_what_is_interrupted_anywhere_leaves_nothing_in_the_block(site: Site, name: str) -> None:
    """Before each line of the draft's in turn, until none is left."""
    store = site.open()
    things = store["things"]
    calls: dict[str, Callable[[], object]] = {
        "insert_many": lambda: things.insert_many({"_id": at, "a": at} for at in (7, 8)),
        "update_many": lambda: things.update_many({}, {"$inc": {"a": 10}}),
        "delete_many": lambda: things.delete_many({"a": {"$gt": 1}}),
    }
    things.create_index("a")
    things.insert_many({"_id": at, "a": at} for at in range(4))
    for line in itertools.count(1):
        with suppress(ZeroDivisionError), store.transaction():
            things.delete_one({"_id": 0})
            things.update_one({"_id": 1}, {"$set": {"a": 5}})
            before = contents(store)
            by_index = things.find({"a": {"$gte": 0}}).to_list()
            interrupted = interrupt_at(line, calls[name])
            if interrupted:
                assert contents(store) == before
                assert things.find({"a": {"$gte": 0}}).to_list() == by_index
            1 / 0  # noqa: B018  # all of it is taken back for the next round
        if not interrupted:
            break
    assert line > 10


def test_an_interrupted_insert_has_noted_what_it_looked_at(file_site: Site) -> None:
    """So that a drop by somebody else is seen."""
    store = file_site.open(checkpoint_bytes=None)
    things = store["things"]
    looked = 0
    for line in itertools.count(1):
        with suppress(ZeroDivisionError), store.transaction():
            interrupted = interrupt_at(line, lambda: things.insert_one({"_id": 1}))
            transaction = store._current_transaction()
            assert transaction is not None
            if "things" in transaction.draft._collections:
                assert transaction.reads.meet(Change("c", "things"))
                looked += 1
            1 / 0  # noqa: B018  # the next round begins anew
        if not interrupted:
            break
    assert line > looked > 5


def interrupt_at(count: int, call: Callable[[], object]) -> bool:
    """Whether an interrupt came, before the line of draft.py that is run so many lines on."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    try:
        before_line(("draft.py",), count, interrupt, call)
    except KeyboardInterrupt:
        return True
    return False


def before_line(
    files: tuple[str, ...], count: int, act: Callable[[], object], call: Callable[[], object]
) -> bool:
    """Calls, and acts before the line of these files that is run so many lines on. Returns whether
    there was one."""
    left = count

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(files):
            return None
        left -= event == "line"
        if event == "line" and left == 0:
            sys.settrace(None)
            act()
        return trace

    others = sys.gettrace()  # what measures the tests' coverage
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(others)
    return left <= 0


COLLECT = """
    import sys
    from pathlib import Path
    from tests.docstore import test_transactions

    test_transactions.collect_anywhere(Path(sys.argv[1]))
    print("good")
"""


def test_a_suspended_block_is_collected_anywhere(tmp_path: Path) -> None:
    """Also where its thread has a lock. In a process of its own, which may hang."""
    assert run_child(COLLECT, tmp_path / "log").strip() == "good"


def collect_anywhere(path: Path) -> None:
    """Before each line of an operation in turn, until none is left: of one in the block, and of one
    outside of it."""
    site = Site(path, "file")
    store = site.open(checkpoint_bytes=None, log_options={"sync": "os"})
    things = store["things"]
    things.insert_one({"_id": 1, "n": 0})
    files = ("applied.py", "draft.py", "journal.py", "store.py", "transaction.py")
    gc.disable()  # it comes when it is called

    def collect() -> None:
        gc.collect(0)  # what is young, as the generator is

    def add() -> None:
        things.update_one({"_id": 1}, {"$inc": {"n": 1}})

    def add_in_the_block() -> None:
        with suppress(TransactionError):  # it ended when the operation was about to begin
            add()

    inside, outside = contextvars.Context(), contextvars.Context()
    for context, call in ((inside, add_in_the_block), (outside, add)):
        for line in itertools.count(1):
            inside.run(leave_in_a_cycle, store)
            collected = context.run(before_line, files, line, collect, call)
            collect()
            assert not store._journal._transactions
            if not collected:
                break
        assert line > 50
    assert things.find_one({"_id": "generator"}) is None
    left = things.find_one({"_id": 1})
    assert left is not None
    assert left["n"] >= line, "each that was outside of the block is stored"
    assert site.reopen()["things"].find().to_list() == [left]
    site.close()


def watching(store: DocumentStore) -> Iterator[None]:
    with store.watch():
        yield from suspended(store)


def leave_in_a_cycle(store: DocumentStore) -> None:
    """A generator that waits in a block, and in that of a stream, and nobody has."""
    generator = watching(store)
    next(generator)
    cycle: list[Any] = [generator]
    cycle.append(cycle)


def test_an_ended_block_keeps_no_store(site: Site) -> None:
    """Its context may live for long, where the block was closed in another one."""
    store = site.open()

    def suspended() -> Iterator[None]:
        with store.transaction():
            yield

    block = suspended()
    next(block)
    thread = threading.Thread(target=lambda: list(block))
    thread.start()
    thread.join()
    (left,) = _blocks.get()
    assert (left.store, left.owner, left.transaction) == (None, None, None)


def test_a_transaction_that_has_ended_takes_nothing(site: Site) -> None:
    """Where another thread ends the block just when an operation begins."""
    store = site.open()
    with store.transaction():
        transaction = store._current_transaction()
        assert transaction is not None
    with pytest.raises(TransactionError, match="ended"):
        transaction.write(lambda draft: None)
    with pytest.raises(TransactionError, match="ended"), transaction.guard:
        pass
    store["things"].insert_one({})


def test_what_is_written_has_all_of_an_operation_or_nothing(file_site: Site) -> None:
    """Where another thread ends the block amid one."""
    store = file_site.open()
    generator = suspended(store)
    begun, ended = threading.Event(), threading.Event()

    def slow(draft: Draft) -> None:
        for document_id in (1, 2):
            draft.insert("things", new_documents("things", [{"_id": document_id}], str))
            begun.set()
            ended.wait(0.5)  # which is too soon

    def end() -> None:
        assert begun.wait(60)
        assert list(generator) == []
        ended.set()

    with ThreadPoolExecutor(1) as pool:
        next(generator)
        ending = pool.submit(end)
        store._write(slow, "durable")
        ending.result(60)
    for _ in range(2):
        assert store["things"].distinct("_id") == [1, 2, "generator"]
        store = file_site.reopen()


def refused(things: Collection, document: dict[str, Any]) -> None:
    with pytest.raises(DuplicateKeyError):
        things.insert_one(document)


NOTING: dict[str, Callable[[Collection], Any]] = {
    "find_one by _id": lambda things: things.find_one({"_id": 1}),
    "find_one": lambda things: things.find_one({"a": 1}),
    "find": lambda things: things.find({"a": {"$gt": 1}}, sort="a").to_list(),
    "count_documents": lambda things: things.count_documents({"_id": 1}),
    "distinct": lambda things: things.distinct("a"),
    "explain": lambda things: things.explain({"a": 1}),
    "insert_one": lambda things: things.insert_one({"_id": 9, "u": 9}),
    "insert_one, its key taken": lambda things: refused(things, {"_id": 9, "u": -3}),
    "update_one": lambda things: things.update_one({"_id": 1}, {"$inc": {"a": 1}}),
    "update_many": lambda things: things.update_many({"a": 1}, {"$inc": {"a": 1}}),
    "upsert": lambda things: things.update_one({"u": 8}, {"$set": {"a": 1}}, upsert=True),
    "find_one_and_update": lambda things: things.find_one_and_update({"u": -1}, {"$inc": {"a": 1}}),
    "replace_one": lambda things: things.replace_one({"_id": 1}, {"u": 7}),
    "delete_many": lambda things: things.delete_many({"a": 1}),
}


@pytest.mark.parametrize("name", NOTING)
def test_what_is_looked_at_is_noted_under_the_lock(file_site: Site, name: str) -> None:
    """Whoever applies a change goes through it, in another thread."""
    store = file_site.open(checkpoint_bytes=None)
    things = filled(store)
    locked: list[bool] = []

    def look(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_qualname in ("Reads.note", "Reads.note_id"):
            locked.append(store._journal.lock.locked())

    with store.transaction():
        sys.setprofile(look)
        try:
            NOTING[name](things)
        finally:
            sys.setprofile(None)
    assert locked
    assert all(locked), locked


Disturbance = Callable[[Collection], Any]

CONFLICTS: dict[str, tuple[Disturbance, Disturbance]] = {
    # What the transaction does first, and what somebody else does then.
    "read by id, updated": (
        lambda things: things.find_one({"_id": 1}),
        lambda things: things.update_one({"_id": 1}, {"$set": {"x": 1}}),
    ),
    "read as missing, inserted": (
        lambda things: things.find_one({"_id": 99}),
        lambda things: things.insert_one({"_id": 99}),
    ),
    "read, deleted": (
        lambda things: things.find_one({"a": 2}),
        lambda things: things.delete_one({"_id": 2}),
    ),
    "found by a value, one more": (
        lambda things: things.find({"a": 2}).to_list(),
        lambda things: things.insert_one({"a": [7, 2]}),
    ),
    "found by one of two values, moved out": (
        lambda things: things.find({"a": {"$in": [2, 9]}}).to_list(),
        lambda things: things.update_one({"_id": 2}, {"$set": {"a": 100}}),
    ),
    "found by a value, dropped": (
        lambda things: things.find({"a": 2}).to_list(),
        lambda things: things.drop(),
    ),
    "found by none, an index made": (
        lambda things: things.find({"a": {"$in": []}}).to_list(),
        lambda things: things.create_index("b"),
    ),
    "counted, one more": (
        lambda things: things.count_documents({"a": {"$gte": 3}}),
        lambda things: things.insert_one({"a": 7}),
    ),
    "counted, one moved in": (
        lambda things: things.count_documents({"a": {"$gte": 100}}),
        lambda things: things.update_one({"a": 1}, {"$set": {"a": 100}}),
    ),
    "scanned, one moved out": (
        lambda things: things.find({"a": {"$lt": 3}}).to_list(),
        lambda things: things.update_one({"a": 1}, {"$set": {"a": 100}}),
    ),
    "distinct": (
        lambda things: things.distinct("a", {"a": 1}),
        lambda things: things.delete_many({"a": 1}),
    ),
    "updated none, now there is one": (
        lambda things: things.update_one({"b": 1}, {"$set": {"x": 1}}),
        lambda things: things.insert_one({"b": 1}),
    ),
    "written, written": (
        lambda things: things.update_one({"_id": 1}, {"$inc": {"a": 1}}),
        lambda things: things.update_one({"_id": 1}, {"$inc": {"a": 1}}),
    ),
    "inserted, inserted": (
        lambda things: things.insert_one({"_id": 50}),
        lambda things: things.insert_one({"_id": 50}),
    ),
    "a unique key taken": (
        lambda things: things.insert_one({"u": 5}),
        lambda things: things.insert_one({"u": 5}),
    ),
    "found taken, deleted": (
        lambda things: refused(things, {"_id": 1}),
        lambda things: things.delete_one({"_id": 1}),
    ),
    "found its key taken, deleted": (
        lambda things: refused(things, {"_id": 9, "u": -3}),
        lambda things: things.delete_one({"_id": 3}),
    ),
    "an index made": (
        lambda things: things.find_one({"_id": 1}),
        lambda things: things.create_index("b"),
    ),
    "dropped": (lambda things: things.count_documents({}), lambda things: things.drop()),
}


def filled(store: DocumentStore) -> Collection:
    things = store["things"]
    things.create_index("u", unique=True)
    things.insert_many({"_id": at, "a": at, "u": -at} for at in range(5))
    return things


@pytest.mark.parametrize("name", CONFLICTS)
def test_conflict(file_site: Site, name: str) -> None:
    first, then = CONFLICTS[name]
    store = file_site.open()
    things = filled(store)
    after: list[Any] = []

    def block() -> None:
        with store.transaction():
            first(things)
            store["marks"].insert_one({"_id": "never"})
            elsewhere(lambda: then(things))
            after.append(elsewhere(lambda: contents(store)))

    with pytest.raises(ConflictError):
        block()
    assert [contents(store)] == after
    assert store["marks"].count_documents({}) == 0


def test_inserting_nothing_looks_at_nothing(file_site: Site) -> None:
    store = file_site.open()
    things = filled(store)
    with store.transaction():
        things.insert_many([])
        elsewhere(things.drop)
        elsewhere(lambda: things.insert_one({"_id": "new"}))
        assert things.find().to_list() == [{"_id": "new"}]
        store["marks"].insert_one({"_id": things.count_documents({})})
    assert store["marks"].find().to_list() == [{"_id": 1}]


def test_names_and_indexes_are_outside_of_a_transaction(file_site: Site) -> None:
    store = file_site.open()
    things = filled(store)
    with store.transaction():
        store["own"].insert_one({"_id": 1})
        assert store.list_collection_names() == ["things"]
        assert [spec.name for spec in things.list_indexes()] == ["_id_", "u_1"]
        elsewhere(lambda: things.create_index("a"))
        elsewhere(lambda: store["others"].insert_one({}))
        assert store.list_collection_names() == ["others", "things"]
        assert [spec.name for spec in things.list_indexes()] == ["_id_", "u_1", "a_1"]
    assert store.list_collection_names() == ["others", "own", "things"]


HARMLESS: dict[str, tuple[Disturbance, Disturbance]] = {
    "another document": (
        lambda things: things.find_one({"_id": 1}),
        lambda things: things.update_one({"_id": 2}, {"$set": {"x": 1}}),
    ),
    "outside of the filter": (
        lambda things: things.count_documents({"a": {"$gte": 3}}),
        lambda things: things.insert_one({"a": 1, "u": 9}),
    ),
    "another value": (
        lambda things: things.find({"a": 2}).to_list(),
        lambda things: things.insert_one({"a": 7, "b": 2}),
    ),
    "the same value of another collection": (
        lambda things: things.find({"a": 2}).to_list(),
        lambda things: things._store["others"].insert_one({"a": 2}),
    ),
    "another collection": (
        lambda things: things.count_documents({}),
        lambda things: things._store["others"].insert_one({}),
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_no_conflict(file_site: Site, name: str) -> None:
    first, then = HARMLESS[name]
    store = file_site.open()
    things = filled(store)
    with store.transaction():
        first(things)
        store["marks"].insert_one({"_id": "there"})
        elsewhere(lambda: then(things))
    assert store["marks"].count_documents({}) == 1


def test_a_doomed_transaction_shows_nothing_more(file_site: Site) -> None:
    """Otherwise it could see two states, one half of each."""
    store = file_site.open()
    things = filled(store)

    def block() -> None:
        with store.transaction():
            assert things.find_one({"_id": 1}) == {"_id": 1, "a": 1, "u": -1}
            elsewhere(lambda: things.update_many({}, {"$inc": {"a": 1}}))
            with pytest.raises(ConflictError, match="changed by somebody else"):
                things.find_one({"_id": 2})
            with pytest.raises(ConflictError):
                things.insert_one({"_id": 77})

    with pytest.raises(ConflictError):
        block()
    assert things.find_one({"_id": 77}) is None


def test_it_sees_what_came_before_its_first_look(file_site: Site) -> None:
    store = file_site.open()
    things = filled(store)
    with store.transaction():
        elsewhere(lambda: things.update_many({}, {"$set": {"a": 0}}))
        assert things.distinct("a") == [0]
        things.insert_one({"u": 100})


def retried(store: DocumentStore, work: Callable[[], Any]) -> int:
    """Does a transaction until it succeeds; returns how often it did not."""
    for failures in range(10_000):
        try:
            with store.transaction(concern="local"):
                work()
        except ConflictError:
            continue
        return failures
    raise AssertionError("never")


def in_threads(count: int, run: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count), timeout=80))


def test_no_update_is_lost_between_threads(file_site: Site) -> None:
    """Each of them adds unique values; all must be there in the end, each once."""
    store = file_site.open(log_options={"sync": "os"})
    things = store["things"]
    things.insert_many({"_id": at, "values": []} for at in range(3))
    start = threading.Barrier(4)

    def run(thread: int) -> int:
        start.wait()
        failures = 0
        for number in range(40):
            value, place = thread * 1000 + number, number % 3

            def work(value: int = value, place: int = place) -> None:
                found = things.find_one({"_id": place})
                assert found is not None
                found["values"].append(value)
                things.replace_one({"_id": place}, found)

            if number % 4 == 3:  # without a transaction
                change = {"$push": {"values": value}}
                things.update_one({"_id": place}, change, concern="local")
            else:
                failures += retried(store, work)
        return failures

    failures = sum(in_threads(4, run))
    values = [value for document in things.find() for value in document["values"]]
    expected = [thread * 1000 + number for thread in range(4) for number in range(40)]
    print(f"values={len(values)} conflicts={failures}")
    assert sorted(values) == expected
    before = contents(store)
    assert contents(file_site.reopen()) == before


def test_transactions_are_serializable(file_site: Site) -> None:
    """Each reads some lists and appends a value of its own to one. The order in which the values
    stand, and what each saw, give who must come before whom: there must be no cycle."""
    rng = seeded("serializable")
    store = file_site.open(log_options={"sync": "os"})
    things = store["things"]
    places = 4
    things.insert_many({"_id": at, "values": [], "n": 0} for at in range(places))
    plans = [
        [(rng.sample(range(places), 2), rng.randrange(places)) for _ in range(30)] for _ in range(4)
    ]
    seen: dict[int, dict[int, list[int]]] = {}
    start = threading.Barrier(4)

    def run(thread: int) -> int:
        start.wait()
        failures = 0
        for number, (looks, place) in enumerate(plans[thread]):
            value = thread * 1000 + number

            def work(value: int = value, looks: Any = looks, place: int = place) -> None:
                found = things.find({"_id": {"$in": looks}}).to_list()
                seen[value] = {one["_id"]: one["values"] for one in found}
                things.update_one({"_id": place}, {"$push": {"values": value}})

            failures += retried(store, work)
        return failures

    failures = sum(in_threads(4, run))
    final = {one["_id"]: one["values"] for one in things.find()}
    assert sorted(value for values in final.values() for value in values) == sorted(seen)
    before: dict[int, set[int]] = defaultdict(set)
    for values in final.values():
        for one, two in itertools.pairwise(values):
            before[two].add(one)
    for value, looks in seen.items():
        for place, values in looks.items():
            assert values == final[place][: len(values)]
            before[value] |= set(values) - {value}
            for later in final[place][len(values) :]:
                if later != value:
                    before[later].add(value)
    assert acyclic(before)
    print(f"transactions={len(seen)} conflicts={failures}")
    assert len(seen) == 120


def acyclic(before: dict[int, set[int]]) -> bool:
    left = {one: set(others) for one, others in before.items()}
    while left:
        free = {one for one, others in left.items() if not others & left.keys()}
        if not free:
            return False
        left = {one: others for one, others in left.items() if one not in free}
    return True


def test_the_check_for_cycles_finds_one() -> None:
    assert acyclic({1: {2}, 2: {3}})
    assert not acyclic({1: {2}, 2: {3}, 3: {1}})


def test_readers_see_all_of_a_transaction_or_nothing(file_site: Site) -> None:
    """Money moves between accounts; every look at all of them finds the same sum."""
    store = file_site.open(log_options={"sync": "os"})
    things = store["things"]
    things.insert_many({"_id": at, "money": 100} for at in range(5))

    def move(thread: int) -> None:
        rng = seeded(f"move {thread}")
        for _ in range(60):
            source, target = rng.sample(range(5), 2)
            things_moved = rng.randrange(1, 50)

            def work(source: int = source, target: int = target, much: int = things_moved) -> None:
                things.update_one({"_id": source}, {"$inc": {"money": -much}})
                things.update_one({"_id": target}, {"$inc": {"money": much}})

            retried(store, work)

    looks = 0
    with ThreadPoolExecutor(2) as pool:
        moves = [pool.submit(move, thread) for thread in range(2)]
        while not all(one.done() for one in moves):
            assert sum(one["money"] for one in things.find()) == 500
            looks += 1
        for one in moves:
            one.result()
    print(f"looks={looks}")
    assert looks >= 1


def test_readers_see_all_of_an_operation_or_nothing(file_site: Site) -> None:
    """While many documents are changed in memory, too."""
    store = file_site.open(log_options={"sync": "os"})
    things = store["things"]
    things.insert_many({"_id": at, "v": 0} for at in range(300))
    things.create_index("v")
    looks = 0
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that it happens in the middle of applying
    try:
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(
                lambda: [things.update_many({}, {"$inc": {"v": 1}}) for _ in range(30)]
            )
            while not writing.done():
                assert len({one["v"] for one in things.find()}) == 1
                assert len(things.find({"v": {"$gte": 0}}).to_list()) == 300
                looks += 1
            writing.result()
    finally:
        sys.setswitchinterval(interval_s)
    print(f"looks={looks}")
    assert looks >= 3


def test_a_reader_waits_for_an_operation_that_is_half_applied(
    file_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = file_site.open(log_options={"sync": "os"})
    things = store["things"]
    things.insert_many({"_id": at, "v": 0} for at in range(10))
    half_way, looked = threading.Event(), threading.Event()
    apply_all = State.apply_all

    def in_halves(state: State, changes: Sequence[Change], built: Mapping[str, Index]) -> None:
        apply_all(state, changes[:5], built)
        half_way.set()
        assert not looked.wait(0.1), "it has not waited"
        apply_all(state, changes[5:], built)

    def look() -> set[int]:
        assert half_way.wait(30)
        seen = {one["v"] for one in things.find()}
        looked.set()
        return seen

    monkeypatch.setattr(State, "apply_all", in_halves)
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        things.update_many({}, {"$inc": {"v": 1}})
        assert looking.result() == {1}


def test_many_threads_share_syncs(file_site: Site) -> None:
    things = file_site.things()
    log = file_site.log
    assert log is not None
    things.insert_one({})
    before = log.stats().syncs
    start = threading.Barrier(8)

    def run(thread: int) -> None:
        start.wait()
        for number in range(25):
            things.insert_one({"_id": (thread + 1) * 1000 + number})

    in_threads(8, run)
    assert things.count_documents({}) == 201
    assert log.stats().syncs - before < 200


def test_one_of_a_group_fails_alone(file_site: Site) -> None:
    """Threads insert the same ids: each id gets in once, and who came late is told."""
    things = file_site.things()
    start = threading.Barrier(6)

    def run(_thread: int) -> int:
        start.wait()
        won = 0
        for number in range(30):
            with suppress(DuplicateKeyError):
                things.insert_one({"_id": number})
                won += 1
        return won

    assert sum(in_threads(6, run)) == 30
    assert things.count_documents({}) == 30


def in_one_queue(store: DocumentStore, *calls: Callable[[], Any]) -> list[Any]:
    """Calls that all wait while another one is under way, in this order. Returns what each gave,
    or raised."""
    begun, go = threading.Event(), threading.Event()

    def slow(_draft: Any) -> None:
        begun.set()
        assert go.wait(60)

    with ThreadPoolExecutor(len(calls) + 1) as pool:
        first = pool.submit(store._journal.write, slow, "durable")
        assert begun.wait(60)
        waiting = []
        for call in calls:
            waiting.append(pool.submit(call))
            until(lambda: len(store._journal._queue) == len(waiting), "it waits")
        go.set()
        first.result(60)
        return [one.exception(60) or one.result() for one in waiting]


def test_what_fails_in_a_group_leaves_nothing_in_it(file_site: Site) -> None:
    """Computed together with others, it has changed the draft before it failed."""
    store = file_site.open(checkpoint_bytes=None)
    things = store["things"]
    things.insert_one({"_id": 0})
    failed, done = in_one_queue(
        store,
        lambda: things.insert_many([{"_id": 1, "of": "first"}, {"_id": 0}]),
        lambda: things.insert_one({"_id": 1, "of": "second"}),
    )
    assert isinstance(failed, DuplicateKeyError)
    assert done.inserted_id == 1, "nothing is in its way"
    for _ in range(2):
        assert things.find(sort="_id").to_list() == [{"_id": 0}, {"_id": 1, "of": "second"}]
        things = file_site.reopen()["things"]


def test_transactions_in_one_group_conflict(file_site: Site) -> None:
    """Both have looked before the first of them is in the log."""
    store = file_site.open(checkpoint_bytes=None)
    things = store["things"]
    things.insert_one({"_id": 1, "n": 0})

    def add() -> None:
        with store.transaction():
            found = things.find_one({"_id": 1})
            assert found is not None
            things.replace_one({"_id": 1}, {"n": found["n"] + 1})

    first, second = in_one_queue(store, add, add)
    assert first is None
    assert isinstance(second, ConflictError)
    assert things.find_one() == {"_id": 1, "n": 1}


def test_an_index_holds_for_what_waits_behind_it(file_site: Site) -> None:
    store = file_site.open(checkpoint_bytes=None)
    things = store["things"]
    first, name, second, third = in_one_queue(
        store,
        lambda: things.insert_one({"_id": 1, "a": 1}),
        lambda: things.create_index("a", unique=True),
        lambda: things.insert_one({"_id": 2, "a": 1}),
        lambda: things.insert_one({"_id": 3, "a": 3}),
    )
    assert (first.inserted_id, name, third.inserted_id) == (1, "a_1", 3)
    assert isinstance(second, DuplicateKeyError)
    assert sorted(file_site.reopen()["things"].distinct("_id")) == [1, 3]


def test_write_concerns_do_not_share_a_group(file_site: Site) -> None:
    """Who asks for less does not wait for, nor fail with, who asks for more; and the other way
    round."""
    store = file_site.open(checkpoint_bytes=None, log_options={"sync": "os"})
    things, log = store["things"], file_site.log
    assert log is not None
    in_one_queue(
        store,
        lambda: things.insert_one({"_id": 1}, concern="local"),
        lambda: things.insert_one({"_id": 2}, concern="durable"),
    )
    assert log.durable_lsn == 2
    in_one_queue(
        store,
        lambda: things.insert_one({"_id": 3}, concern="durable"),
        lambda: things.insert_one({"_id": 4}, concern="local"),
    )
    assert log.durable_lsn == 3


def test_indexes_come_and_go_while_others_write(file_site: Site) -> None:
    """What is written beside the making of an index is in it; and it never shares a group."""
    store = file_site.open(log_options={"sync": "os"})
    things = store["things"]
    start = threading.Barrier(4)

    def write(thread: int) -> None:
        start.wait()
        for number in range(60):
            things.insert_one({"_id": thread * 1000 + number, "a": number}, concern="local")

    def define(_thread: int) -> None:
        start.wait()
        for number in range(15):
            things.create_index("a", concern="local")
            if number < 14:
                things.drop_index("a_1", concern="local")

    def run(thread: int) -> None:
        if thread == 3:
            define(thread)
        else:
            write(thread)

    in_threads(4, run)
    for _ in range(2):
        for number in range(60):
            asked = things.explain({"a": number})
            assert (asked.index, asked.examined, asked.returned) == ("a_1", 3, 3)
        things = file_site.reopen()["things"]


def test_operations_that_are_too_large_for_one_group_are_all_done(file_site: Site) -> None:
    store = file_site.open(checkpoint_bytes=None, log_options={"sync": "os"})
    things = store["things"]
    pad = b"x" * (6 << 20)
    numbers = range(1, 6)
    in_one_queue(store, *(partial(things.insert_one, {"_id": at, "pad": pad}) for at in numbers))
    assert sorted(things.distinct("_id")) == [1, 2, 3, 4, 5]
    assert sorted(file_site.reopen()["things"].distinct("_id")) == [1, 2, 3, 4, 5]
