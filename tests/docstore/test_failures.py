"""When the disk is full, or fails, when an interrupt comes, and when the process is killed."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.docstore.interrupts import interrupted_in
from tests.docstore.sites import Site, contents
from tests.helpers import child, end, interrupt_and_close_again, run_child
from tests.replication.nodes import until
from walstore import FileWALManager, LogPoisonedError, UnsupportedFormatError
from walstore.docstore import (
    ClosedStoreError,
    DocumentStore,
    HistoryError,
    OutcomeUnknownError,
    QueryError,
    StoreLostError,
)
from walstore.docstore.concern import Concern
from walstore.docstore.draft import Draft
from walstore.docstore.journal import Journal
from walstore.docstore.record import (
    CHAINED,
    KIND,
    Record,
    decode_record,
    encode_records,
    encoded_operation,
)
from walstore.docstore.values import key_of
from walstore.limits import TRANSACTION_PART_BYTES_MAX

Result = TypeVar("Result")

FULL_DISK = """
import resource, sys
from pathlib import Path
from walstore import FileWALManager, LogFullError
from walstore.docstore import DocumentStore
from tests.docstore.sites import contents

path = Path(sys.argv[1])
log = FileWALManager(path, segment_bytes=4096)
store = DocumentStore(log, checkpoint_bytes=None)
things = store["things"]
things.create_index("a", unique=True)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
acked = []
refused = 0
for number in range(20):
    size = 60_000 if number % 4 == 3 else 100  # an entry for which a large file is needed
    try:
        things.insert_one({"_id": number, "a": number, "pad": b"x" * size})
        acked.append(number)
    except LogFullError:
        refused += 1
        assert things.find_one({"_id": number}) is None
        assert things.find_one({"a": number}) is None
assert things.distinct("_id") == acked
assert (len(acked), refused) == (15, 5), (len(acked), refused)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
things.insert_one({"_id": 3, "a": 3, "pad": b"x" * 60_000})
things.update_many({}, {"$unset": {"pad": 1}})
expected = contents(store)
store.close()
log.close()
with FileWALManager(path) as log, DocumentStore(log) as store:
    assert contents(store) == expected
    assert store["things"].count_documents({}) == 16
"""


def test_a_full_disk_costs_one_operation(tmp_path: Path) -> None:
    run_child(FULL_DISK, tmp_path / "log")


def break_disk(log: FileWALManager) -> None:
    """From now on the log's files cannot be written: their descriptors are for reading."""
    broken = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # that of the listing itself
            continue
        if target.startswith(f"{log.path}/") and target.endswith(".wal"):
            fd = os.open(target, os.O_RDONLY)
            os.dup2(fd, int(name))
            os.close(fd)
            broken += 1
    assert broken


def test_a_failed_write_leaves_memory_as_it_was(file_site: Site) -> None:
    store = file_site.open()
    things = store["things"]
    things.create_index("a", unique=True)
    things.insert_many({"_id": at, "a": at} for at in range(5))
    before = contents(store)
    log = file_site.log
    assert log is not None
    break_disk(log)
    for _ in range(2):
        with pytest.raises(LogPoisonedError):
            things.update_many({}, {"$inc": {"a": 10}})
        with pytest.raises(LogPoisonedError):
            things.insert_one({"_id": 9, "a": 9})
        assert contents(store) == before
        assert things.find_one({"a": 9}) is None
    with pytest.raises(LogPoisonedError), store.transaction():
        things.delete_many({})
    assert contents(store) == before
    assert contents(file_site.reopen()) == before


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell lets its background jobs ignore the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def inserting(number: int) -> Any:
    """An operation, for the journal."""

    def compute(draft: Draft) -> int:
        document = {"_id": number}
        operation = encoded_operation("p", "things", document)
        draft.insert("things", [(key_of(number), document, operation)])
        return number

    return compute


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_waiting_withdraws_the_operation(file_site: Site) -> None:
    store = file_site.open(checkpoint_bytes=None)
    journal, go, begun = store._journal, threading.Event(), threading.Event()

    def slow(draft: Draft) -> None:
        begun.set()
        assert go.wait(60)

    main, out = threading.get_ident(), threading.Event()

    def interrupt() -> None:
        assert begun.wait(60)
        until(lambda: len(journal._queue) == 1, "the main thread waits")
        while not out.is_set():
            signal.pthread_kill(main, signal.SIGINT)
            out.wait(1)  # Python misses one that comes right before it blocks

    with ThreadPoolExecutor(3) as pool:
        leader = pool.submit(journal.write, slow, "durable")
        assert begun.wait(60)
        pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            journal.write(inserting(1), "durable")
        out.set()
        assert not journal._queue
        later = pool.submit(journal.write, inserting(2), "durable")
        go.set()
        leader.result(60)
        assert later.result(60) == 2
    assert store["things"].distinct("_id") == [2]
    assert store["things"].insert_one({"_id": 3}).inserted_id == 3


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_leading_is_told_to_the_others(file_site: Site) -> None:
    store = file_site.open(checkpoint_bytes=None)
    journal, begun = store._journal, threading.Event()

    def slow(draft: Draft) -> None:
        begun.set()
        until(lambda: len(journal._queue) == 2, "both wait")

    def interrupted(draft: Draft) -> None:
        signal.raise_signal(signal.SIGINT)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(journal.write, slow, "durable")
        assert begun.wait(60)

        def behind() -> Any:
            until(lambda: len(journal._queue) == 1, "the main thread waits first")
            return journal.write(inserting(1), "durable")

        other = pool.submit(behind)
        with pytest.raises(KeyboardInterrupt):
            journal.write(interrupted, "durable")  # leads the second group
        first.result(60)
        with pytest.raises(OutcomeUnknownError, match="was interrupted"):
            other.result(60)
    assert store["things"].count_documents({}) == 0
    store["things"].insert_one({"_id": 1})
    assert contents(file_site.reopen()) == {"things": {"1": {"_id": 1}}}


def in_time(call: Callable[[], Result]) -> Result:
    """What it gives, in a thread of its own, which may hang."""
    given: list[Result] = []
    thread = threading.Thread(target=lambda: given.append(call()), daemon=True)
    thread.start()
    thread.join(30)
    assert given, "it hangs, or has raised"
    return given[0]


def closed(store: DocumentStore) -> bool:
    store.close()
    return store.closed


def test_an_interrupt_anywhere_in_a_write_holds_up_no_other(file_site: Site) -> None:
    """Before each line of the journal's in turn, until none is left."""
    store = file_site.open(checkpoint_bytes=None, log_options={"sync": "os"})
    things, there = store["things"], 0
    for line in itertools.count(1):
        interrupted = interrupted_in(JOURNAL, line, partial(things.insert_one, {"_id": line}))
        assert in_time(partial(things.insert_one, {"_id": -line})).inserted_id == -line
        there += things.find_one({"_id": line}) is not None
        if not interrupted:
            break
    assert line > there > 10
    for line in itertools.count(1):
        store = file_site.reopen(checkpoint_bytes=None)
        store["things"].insert_one({})
        if not interrupted_in(JOURNAL, line, store.close):
            break
        in_time(partial(closed, store))
    assert line > 5


def test_an_interrupt_anywhere_in_a_read_holds_up_no_other(file_site: Site) -> None:
    """The same of what takes in what another process wrote."""
    things = file_site.things(checkpoint_bytes=None, log_options={"sync": "os"})
    with (
        FileWALManager(file_site.path, read_only=True) as log,
        DocumentStore(log) as reader,
    ):
        for line in itertools.count(1):
            things.insert_one({"_id": line})
            interrupted = interrupted_in(JOURNAL, line, reader["things"].find_one)
            assert in_time(lambda: reader["things"].count_documents({})) == line
            if not interrupted:
                break
    assert line > 10


JOURNAL = "/journal.py"
LEADING = ("_commit_next", "_done", "_finish", "_hand_on", "_lead", "_take", "settle", "wake")


def test_an_interrupt_anywhere_while_others_wait_holds_up_none(file_site: Site) -> None:
    """It waits behind a first group, and leads the second, in which another one is. That one is
    written or told that it may be, and so is one of a third group."""
    store = file_site.open(checkpoint_bytes=None, log_options={"sync": "os"})
    journal = store._journal
    outcomes: Counter[str] = Counter()
    line = missed = 0
    while missed < 5:  # in a row: now and then another thread is quicker, and leads for this one
        line += 1
        call = partial(journal.write, inserting(10 * line), "local")
        front = partial(interrupted_in, JOURNAL, line, call, LEADING)
        missed = 0 if waiting_behind(journal, line, outcomes, front) else missed + 1
    assert line > 20
    assert outcomes.keys() == {"written", "unknown"}
    unknown = outcomes["unknown"]
    for again in range(1, 20):  # a second one comes while the first is told to the others
        call = partial(journal.write, interrupted, "local")
        front = partial(interrupted_in, JOURNAL, again, call, ("_finish",))
        waiting_behind(journal, line + again, outcomes, front)
    assert outcomes["unknown"] > unknown + 5
    assert in_time(lambda: journal.write(inserting(-1), "durable")) == -1


def interrupted(_draft: Draft) -> None:
    raise KeyboardInterrupt


def waiting_behind(
    journal: Journal, number: int, outcomes: Counter[str], front: Callable[[], bool]
) -> bool:
    """What the one in front gives."""
    begun, over = threading.Event(), threading.Event()

    def waits(count: int) -> None:
        until(lambda: len(journal._queue) >= count or over.is_set(), "so many wait")

    def slow(_draft: Draft) -> None:
        begun.set()
        waits(3)

    def behind(place: int, concern: Concern) -> None:
        waits(place)
        try:
            journal.write(inserting(10 * number + place), concern)
            outcomes["written"] += 1
        except OutcomeUnknownError:
            outcomes["unknown"] += 1

    first = started(journal.write, slow, "local")
    assert begun.wait(30)
    threads = [first, started(behind, 1, "local"), started(behind, 2, "durable")]
    try:
        return front()
    finally:
        over.set()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive(), "it hangs"


def started(call: Callable[..., object], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=call, args=arguments, daemon=True)
    thread.start()
    return thread


class Interrupting:
    """Stands among the transactions, and is interrupted when a change is applied."""

    def notice(self, changes: Any) -> None:
        raise KeyboardInterrupt


def test_an_interrupt_while_applying_ends_the_store(file_site: Site) -> None:
    """Half of an entry may be in memory: nobody is shown it."""
    store = file_site.open(checkpoint_bytes=None)
    changes = store.watch()
    store._journal._transactions.add(Interrupting())  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        store["things"].insert_one({"_id": 1})
    for call in (
        lambda: store["things"].find_one(),
        lambda: store["things"].insert_one({}),
        store.checkpoint,
        lambda: next(changes),
        store.watch,
        lambda: store.at(0),
        lambda: store.wait_for(1, 60),
    ):
        with pytest.raises(StoreLostError, match="applying entry 1 was interrupted"):
            call()
    assert contents(file_site.reopen()) == {"things": {"1": {"_id": 1}}}


def test_who_calls_from_deep_inside_of_a_recursion_loses_nothing(file_site: Site) -> None:
    """Wherever the stack ends, an operation is whole or fails, and the store goes on."""
    store = file_site.open(checkpoint_bytes=None, log_options={"sync": "os"})
    things = store["things"]
    things.create_index("a.b")
    known: list[int] = []

    def insert(frames: int) -> None:
        if frames:
            insert(frames - 1)
        else:
            things.insert_one({"_id": len(known), "a": {"b": frames}}, concern="local")
            known.append(len(known))

    ended = 0
    room = sys.getrecursionlimit() - len(inspect.stack())
    for frames in range(room - 60, room):
        try:
            insert(frames)
        except RecursionError:
            ended += 1
            known = things.distinct("_id")
    assert 0 < ended < 60
    things.insert_one({"_id": "last"})
    assert things.count_documents({}) > 60 - ended
    expected = contents(store)
    assert contents(file_site.reopen()) == expected


def test_who_reads_from_deep_inside_of_a_recursion_loses_nothing(file_site: Site) -> None:
    """Reading takes in what another process wrote."""
    things = file_site.things(checkpoint_bytes=None, log_options={"sync": "os"})
    things.create_index("a")
    deep: Any = 1
    for _ in range(90):
        deep = {"b": deep}  # its key takes many calls

    def read(frames: int) -> object:
        return read(frames - 1) if frames else reader["things"].find_one({"_id": 0})

    ended = 0
    with (
        FileWALManager(file_site.path, read_only=True) as log,
        DocumentStore(log) as reader,
    ):
        room = sys.getrecursionlimit() - len(inspect.stack())
        for frames in range(room - 120, room, 2):
            things.insert_one({"_id": frames, "a": deep})
            try:
                read(frames)
            except RecursionError:
                ended += 1
        assert 0 < ended < 60
        assert contents(reader) == contents(file_site.store)  # type: ignore[arg-type]


def test_entries_cut_off_behind_its_back_are_noticed(file_site: Site) -> None:
    store = file_site.open(checkpoint_bytes=None)
    things = store["things"]
    for number in range(3):
        things.insert_one({"_id": number})
    assert file_site.log is not None
    changes, shown = store.watch(from_lsn=2), store.watch(from_lsn=2)
    assert next(shown).document_id == 1
    file_site.log.truncate_after(1)
    with pytest.raises(StoreLostError):
        things.insert_one({"_id": 9})
    for stream in (changes, shown):
        with pytest.raises(StoreLostError):
            next(stream)
        assert list(stream) == []
    with pytest.raises(StoreLostError):
        things.find_one()
    assert contents(file_site.reopen()) == {"things": {"0": {"_id": 0}}}, (
        "computed from what is gone"
    )


def test_a_stream_that_waits_is_told_that_the_store_is_lost(file_site: Site) -> None:
    store = file_site.open(checkpoint_bytes=None)
    with ThreadPoolExecutor(1) as pool, store.watch() as changes:
        waiting = pool.submit(next, changes)
        store._journal._transactions.add(Interrupting())  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt):
            store["things"].insert_one({"_id": 1})
        with pytest.raises(StoreLostError):
            waiting.result(timeout=60)


def test_a_task_that_waits_is_told_that_the_store_is_lost(file_site: Site) -> None:
    store = file_site.open(checkpoint_bytes=None)

    def interrupted() -> None:
        store._journal._transactions.add(Interrupting())  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt):
            store["things"].insert_one({"_id": 1})

    async def consume() -> None:
        with store.watch() as changes:
            waiting = asyncio.ensure_future(anext(changes))
            await asyncio.to_thread(interrupted)
            with pytest.raises(StoreLostError):
                await asyncio.wait_for(waiting, 60)
            assert [change async for change in changes] == []

    asyncio.run(consume())


def test_a_stream_on_a_log_that_is_shut_says_so(file_site: Site) -> None:
    """It shows what was durable, and does not wait for what cannot come."""
    store = file_site.open(checkpoint_bytes=None)
    log = file_site.log
    assert log is not None

    async def consume() -> list[Any]:
        return [(await anext(later)).document_id for _ in range(4)]

    with store.watch() as changes, store.watch() as later:
        for number in range(3):
            store["things"].insert_one({"_id": number})
        break_disk(log)
        with pytest.raises(LogPoisonedError):
            store["things"].insert_one({"_id": 3})
        assert [next(changes).document_id for _ in range(3)] == [0, 1, 2]
        with pytest.raises(LogPoisonedError):
            next(changes)
        with pytest.raises(LogPoisonedError):
            asyncio.run(consume())


def test_entries_cut_off_under_a_stream_are_noticed(file_site: Site) -> None:
    """Before the store notices: nothing is shown that did not stay."""
    store = file_site.open(checkpoint_bytes=None)
    with store.watch() as changes:
        for number in range(3):
            store["things"].insert_one({"_id": number})
            assert next(changes).document_id == number
        assert file_site.log is not None
        file_site.log.truncate_after(1)
        with pytest.raises(HistoryError, match="entry 3 was truncated away"):
            next(changes)
        assert list(changes) == []


def test_entries_of_others_are_passed_over(file_site: Site) -> None:
    store = file_site.open(checkpoint_bytes=None)
    things, log = store["things"], file_site.log
    assert log is not None
    for number in range(3):
        log.append(b"not a document", kind=7)
        things.insert_one({"_id": number})
        log.append_many([b"", b"x"])
    things.update_many({}, {"$set": {"a": 1}})
    expected = contents(store)
    assert len(expected["things"]) == 3
    assert contents(file_site.reopen()) == expected


def test_an_entry_of_a_newer_version_ends_the_opening(file_site: Site) -> None:
    store = file_site.open(checkpoint_bytes=None)
    store["things"].insert_one({"_id": 1})
    assert file_site.log is not None
    file_site.log.append(b"\x94\x02\x00\xc2\x90", kind=KIND)
    with pytest.raises(UnsupportedFormatError, match="document format 2"):
        file_site.reopen()


ENDLESS = "a." + "9" * 5000
"""A path that no list has a place for, and of whose digits Python makes no number."""


def test_a_transaction_that_was_cut_stays_away(file_site: Site) -> None:
    """Cut between its parts: what comes later does not bring the first ones back."""
    options = {"sync": "os", "segment_bytes": 1 << 20}
    store = file_site.open(checkpoint_bytes=None, log_options=options)
    store["things"].insert_one({"_id": "before"})
    pad = b"x" * (TRANSACTION_PART_BYTES_MAX // 4)
    store["things"].insert_many({"_id": at, "pad": pad} for at in range(6))
    log = file_site.log
    assert log is not None
    assert log.last_lsn == 3
    store.close()
    log.truncate_after(2)
    store = file_site.reopen(checkpoint_bytes=None, log_options=options)
    assert set(contents(store)["things"]) == {"'before'"}
    store["things"].insert_one({"_id": "after"})
    with store.transaction():
        store["things"].insert_one({"_id": "last"})
    for _ in range(2):
        assert set(contents(store)["things"]) == {"'before'", "'after'", "'last'"}
        at_end = store.at(store.applied_lsn)["things"]
        assert set(at_end.distinct("_id")) == {"before", "after", "last"}
        store = file_site.reopen(checkpoint_bytes=None, log_options=options)


def test_part_of_a_transaction_is_looked_at_once(
    file_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the rest may still come."""
    monkeypatch.setattr("walstore.docstore.record.TRANSACTION_PART_BYTES_MAX", 200)
    store = file_site.open(checkpoint_bytes=None)
    store["things"].insert_one({"_id": "before"})
    puts = [encoded_operation("p", "things", {"_id": at, "pad": "x" * 100}) for at in range(6)]
    *parts, last_part = encode_records(1, puts)
    log = file_site.log
    assert log is not None
    log.append_many(parts, kind=KIND)
    assert log.last_lsn == 3
    decoded: list[int] = []
    seen: list[int] = []

    def decode(path: str, lsn: int, payload: bytes) -> Record:
        decoded.append(lsn)
        if lsn == 4:
            seen.append(reader._journal.seen_lsn)
        return decode_record(path, lsn, payload)

    monkeypatch.setattr("walstore.docstore.replay.decode_record", decode)
    with (
        FileWALManager(file_site.path, read_only=True) as read_log,
        DocumentStore(read_log) as reader,
        reader.watch() as changes,
    ):
        reader.wait_for(3, 5)
        for _ in range(3):
            assert set(contents(reader)["things"]) == {"'before'"}
            assert reader.applied_lsn == 1
        assert decoded == [1, 2, 3]
        store = file_site.reopen(checkpoint_bytes=None)
        assert store.checkpoint() == 1, "not amid a transaction"
        store = file_site.reopen(checkpoint_bytes=None)
        assert file_site.log is not None
        file_site.log.append(last_part, kind=KIND)
        assert [next(changes).document_id for _ in range(6)] == list(range(6))
        assert seen == [3], "nor is it forgotten that it was, while the rest is"
        assert reader.applied_lsn == 4
        store["things"].insert_one({"_id": "after"})
        expected = contents(reader)
        assert len(expected["things"]) == 8
        assert contents(store) == expected
    assert contents(file_site.reopen()) == expected


def test_an_index_of_a_path_that_no_list_has_keeps_no_store_from_opening(file_site: Site) -> None:
    """As an older version took it."""
    store = file_site.open(checkpoint_bytes=None)
    store["things"].insert_one({"_id": 0, "a": [1]})
    definition = encoded_operation("i", "things", "endless", [[ENDLESS, 1]], False)
    assert file_site.log is not None
    file_site.log.append_many(encode_records(CHAINED, [definition]), kind=KIND)
    for number in range(1, 4):
        things = file_site.reopen(checkpoint_bytes=None)["things"]
        assert [spec.name for spec in things.list_indexes()] == ["_id_", "endless"]
        things.insert_many([{"_id": number, "a": [1, {"b": 2}]}, {"_id": -number, "a": {"b": 1}}])
        assert things.explain({}, hint="endless").returned == 2 * number + 1
        things.delete_one({"_id": -number})
        things.insert_one({"_id": -number})
    file_site.reopen()["things"].drop_index("endless")


def test_a_path_of_endless_digits_is_refused(file_site: Site) -> None:
    things = file_site.things()
    things.insert_one({"_id": 0, "a": [1]})
    calls: list[Callable[[], Any]] = [
        lambda: things.create_index(ENDLESS),
        lambda: things.find_one({ENDLESS: 1}),
        lambda: things.find({}, sort=ENDLESS),
        lambda: things.find({}, {ENDLESS: 1}),
        lambda: things.distinct(ENDLESS),
        lambda: things.update_one({}, {"$set": {ENDLESS: 1}}),
        lambda: things.update_one({}, {"$unset": {ENDLESS: 1}}),
        lambda: things.update_one({}, {"$rename": {"b": ENDLESS}}),
        lambda: things.update_one({}, {"$push": {"b": {"$each": [], "$sort": {ENDLESS: 1}}}}),
    ]
    for call in calls:
        with pytest.raises(QueryError, match="more than 640 digits"):
            call()
    longest = "a." + "9" * 640
    assert things.find_one({longest: 1}) is None
    things.create_index(longest)
    with pytest.raises(QueryError, match="far behind the end"):
        things.update_one({}, {"$set": {longest: 1}})
    things.update_one({}, {"$unset": {longest: 1}})
    assert file_site.reopen()["things"].find_one() == {"_id": 0, "a": [1]}


def test_closing_waits_for_what_has_begun(file_site: Site) -> None:
    store = file_site.open(checkpoint_bytes=None)
    begun, go = threading.Event(), threading.Event()

    def slow(draft: Draft) -> int:
        begun.set()
        assert go.wait(60)
        return int(inserting(1)(draft))

    with ThreadPoolExecutor(2) as pool:
        write = pool.submit(store._journal.write, slow, "durable")
        assert begun.wait(60)
        closing = pool.submit(store.close)
        until(lambda: store.closed, "it is closing")
        with pytest.raises(ClosedStoreError):
            store["things"].insert_one({})
        assert not closing.done()
        go.set()
        closing.result(60)
        assert write.result(60) == 1
    assert contents(file_site.reopen()) == {"things": {"1": {"_id": 1}}}


WRITER = """
import sys, threading
from walstore import FileWALManager
from walstore.docstore import DocumentStore

log = FileWALManager(sys.argv[1], segment_bytes=1 << 16)
store = DocumentStore(log, checkpoint_bytes=3000)
lock = threading.Lock()

def run(thread):
    number = store["things"].count_documents({"thread": thread})
    while True:
        with store.transaction():
            made = store["things"].insert_one({"thread": thread, "number": number})
            store["counts"].update_one({"_id": thread}, {"$inc": {"count": 1}}, upsert=True)
        if number % 20 == 0:
            store.checkpoint()
        with lock:
            print(thread, number, flush=True)
        number += 1

for thread in range(3):
    threading.Thread(target=run, args=(thread,), daemon=True).start()
sys.stdin.read()
"""


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    acked: set[tuple[int, int]] = set()
    for _ in range(3):
        process = child(WRITER, tmp_path / "log")
        assert process.stdout is not None
        for _ in range(150):
            line = process.stdout.readline().split()
            assert len(line) == 2, process.stderr and process.stderr.read()
            acked.add((int(line[0]), int(line[1])))
        process.kill()
        rest = [line.split() for line in process.stdout.read().splitlines()]
        acked |= {(int(line[0]), int(line[1])) for line in rest if len(line) == 2}
        end(process)
        with FileWALManager(tmp_path / "log") as log, DocumentStore(log) as store:
            found = {(one["thread"], one["number"]) for one in store["things"].find()}
            assert acked <= found
            assert len(found - acked) <= 3, "one a thread may have been on its way"
            assert store["things"].count_documents({}) == len(found)
            for thread in range(3):
                count = store["counts"].find_one({"_id": thread})
                assert (count or {"count": 0})["count"] == sum(one[0] == thread for one in found)
            assert log.first_lsn > 1, "checkpoints were made"
            acked |= found
    assert len(acked) >= 450


def test_a_close_that_was_interrupted_is_ended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has waited for a checkpoint, which would go on in a log that is another's by then."""
    with FileWALManager(tmp_path / "log") as log:
        store = DocumentStore(log, checkpoint_bytes=1)
        begun, goes_on = threading.Event(), threading.Event()
        write = store._files.write

        def paused(*arguments: Any) -> None:
            begun.set()
            assert goes_on.wait(30)
            write(*arguments)

        monkeypatch.setattr(store._files, "write", paused)
        store["things"].insert_one({"a": 1})
        assert begun.wait(30)
        interrupt_and_close_again(store.close, goes_on)
        assert store._files.lsns
