"""Change streams: nothing is missed, shown twice or wrong, wherever one begins."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import pytest

from tests.docstore.sites import Contents, Site, contents
from tests.docstore.streams import filled, follow, take, write_some
from tests.helpers import seeded
from tests.replication.nodes import until
from walstore import FileWALManager, Tail
from walstore.docstore import (
    ChangeStream,
    ClosedStoreError,
    ConflictError,
    DocumentChange,
    DocumentStore,
    HistoryError,
    QueryError,
    applied,
)
from walstore.docstore.draft import Draft
from walstore.docstore.record import KIND, encode_records, encoded_operation


def told(change: DocumentChange) -> tuple[Any, ...]:
    return change.operation, change.document_id, change.before, change.after


def test_each_operation_is_told(site: Site) -> None:
    store = site.open()
    things, others = store["things"], store["others"]
    things.insert_one({"_id": 0})
    with store.watch() as changes, things.watch() as of_things:
        things.insert_one({"_id": 1, "a": 1})
        things.update_one({"_id": 1}, {"$inc": {"a": 1}})
        things.create_index("a")
        things.replace_one({"_id": 1}, {"b": 1})
        others.insert_many([{"_id": 1}, {"_id": 2}])
        things.delete_many({})
        things.update_one({"_id": 9}, {"$set": {"a": 1}})  # nothing
        things.update_one({"_id": 5}, {"$set": {"a": 1}}, upsert=True)
        others.drop()
        store["nothing"].drop()
        expected: list[tuple[Any, ...]] = [
            ("insert", 1, None, {"_id": 1, "a": 1}),
            ("update", 1, {"_id": 1, "a": 1}, {"_id": 1, "a": 2}),
            ("update", 1, {"_id": 1, "a": 2}, {"_id": 1, "b": 1}),
            ("insert", 1, None, {"_id": 1}),
            ("insert", 2, None, {"_id": 2}),
            ("delete", 0, {"_id": 0}, None),
            ("delete", 1, {"_id": 1, "b": 1}, None),
            ("insert", 5, None, {"_id": 5, "a": 1}),
            ("drop", None, None, None),
        ]
        found = take(changes, 9)
        assert [told(change) for change in found] == expected
        assert [change.collection for change in found] == [
            *["things"] * 3,
            *["others"] * 2,
            *["things"] * 3,
            "others",
        ]
        assert take(of_things, 6) == [one for one in found if one.collection == "things"]
        things.insert_one({"_id": "last"})
        assert next(changes) == next(of_things), "nothing else was waiting"
    assert list(changes) == []
    assert repr(changes) == "<ChangeStream of the store closed>"


def test_changes_of_a_transaction_belong_together(site: Site) -> None:
    store = site.open()
    things, others = store["things"], store["others"]
    things.insert_one({"_id": 1, "a": 0})
    with store.watch() as changes, others.watch() as of_others:
        with store.transaction():
            things.update_one({"_id": 1}, {"$inc": {"a": 1}})
            others.insert_one({"_id": 1})
            things.update_one({"_id": 1}, {"$inc": {"a": 1}})
            things.delete_one({"_id": 1})
            things.insert_one({"_id": 1, "a": 9})
        things.insert_one({"_id": 2})
        found = take(changes, 6)
        assert [told(change)[2:] for change in found[:5]] == [
            ({"_id": 1, "a": 0}, {"_id": 1, "a": 1}),
            (None, {"_id": 1}),
            ({"_id": 1, "a": 1}, {"_id": 1, "a": 2}),
            ({"_id": 1, "a": 2}, None),
            (None, {"_id": 1, "a": 9}),
        ]
        assert {change.lsn for change in found[:5]} == {found[0].lsn} != {found[5].lsn}
        assert [(one.position, one.count) for one in found] == [
            *((position, 5) for position in range(5)),
            (0, 1),
        ]
        (other,) = take(of_others, 1)
        assert (other.position, other.count, other.lsn) == (1, 5, found[0].lsn)


def test_a_transaction_of_several_entries_is_one(
    file_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its changes have the lsn of its last entry, wherever a stream begins."""
    monkeypatch.setattr("walstore.docstore.record.TRANSACTION_PART_BYTES_MAX", 200)
    store = file_site.open()
    begin_lsn = store.applied_lsn + 1
    with store.watch() as changes:
        with store.transaction():
            for number in range(10):
                store["things"].insert_one({"_id": number, "pad": "x" * 100})
        found = take(changes, 10)
    end_lsn = store.applied_lsn
    assert end_lsn - begin_lsn >= 3, "it has several"
    assert {change.lsn for change in found} == {end_lsn}
    assert [change.position for change in found] == list(range(10))
    for lsn in range(begin_lsn, end_lsn + 1):
        with store.watch(from_lsn=lsn) as again:
            assert take(again, 10) == found
    store = file_site.reopen()
    for at, change in enumerate(found[:-1]):
        with store.watch(resume_after=change.token) as again:
            assert take(again, 9 - at) == found[at + 1 :]
    for lsn in range(begin_lsn, end_lsn):
        assert store.at(lsn).list_collection_names() == []
    assert store.at(end_lsn)["things"].count_documents({}) == 10


def watched(store: DocumentStore, begin: dict[str, Any]) -> ChangeStream | None:
    """A stream, unless it would begin too far back."""
    try:
        return store.watch(**begin)
    except HistoryError:
        return None


@pytest.mark.parametrize("history_bytes", [1, 3000, 16 << 20])
def test_streams_tell_all_wherever_they_begin(
    file_site: Site, monkeypatch: pytest.MonkeyPatch, history_bytes: int
) -> None:
    """At random: each change says what was before; all of them together give the store; a stream
    that begins anywhere shows what the first one shows from there on."""
    monkeypatch.setattr(applied, "HISTORY_BYTES_MAX", history_bytes)
    rng = seeded("streams")
    store = file_site.open(checkpoint_bytes=None)
    seen: list[DocumentChange] = []
    state: Contents = {}
    counts = dict.fromkeys(("changes", "resumed", "from_lsn", "too old", "reopened"), 0)
    with store.watch() as first:
        for _ in range(40):
            write_some(store, rng, checkpoints=False)
        store["end"].insert_one({})
        while not seen or seen[-1].collection != "end":
            seen.append(next(first))
            follow(state, seen[-1])
    assert filled(state) == filled(contents(store))
    for turn in range(40):
        store = file_site.reopen(checkpoint_bytes=None) if turn % 3 == 0 else store
        counts["reopened"] += turn % 3 == 0
        before = rng.choice(seen[-100:])
        by_token = rng.random() < 0.5
        with store.watch(resume_after=seen[-1].token) as tip:
            for number in range(rng.randrange(20)):
                write_some(store, rng, checkpoints=number == 0)
            store["end"].insert_one({})
            last_lsn = store.applied_lsn
            while seen[-1].lsn < last_lsn:
                seen.append(next(tip))
                follow(state, seen[-1])
        assert filled(state) == filled(contents(store))
        begin: dict[str, Any] = (
            {"resume_after": before.token} if by_token else {"from_lsn": before.lsn}
        )
        changes = watched(store, begin)
        if changes is None:
            assert file_site.log is not None
            assert file_site.log.first_lsn > 1
            assert before.lsn <= min(store._files.lsns)
            counts["too old"] += 1
            continue
        with changes:
            expected = seen[seen.index(before) + 1 :]
            if not by_token:
                expected = [change for change in seen if change.lsn >= before.lsn]
            assert take(changes, len(expected)) == expected
            counts["resumed" if by_token else "from_lsn"] += 1
    counts["changes"] = len(seen)
    print("streams:", counts)
    assert counts["changes"] > 300
    assert counts["resumed"] + counts["from_lsn"] >= 10
    assert counts["too old"] >= 1


def test_a_slow_stream_falls_behind_and_catches_up(
    file_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept for the others is bounded; what it misses of it, it makes itself."""
    monkeypatch.setattr(applied, "HISTORY_BYTES_MAX", 2000)
    store = file_site.open(checkpoint_bytes=None)
    things = store["things"]
    with store.watch() as slow, store.watch() as fast:
        for number in range(100):
            things.update_one({"_id": 1}, {"$set": {"n": number, "pad": "x" * 100}}, upsert=True)
            assert next(fast).count == 1
        assert fast._own is None, "it never needed a state of its own"
        kept = store._journal._history
        assert kept is not None
        assert len(kept._applied) < 20
        before: dict[str, Any] | None = None
        for number in range(90):
            change = next(slow)
            assert change.before == before
            before = change.after
            assert before is not None
            assert before["n"] == number
            assert number > 80 or slow._own is not None
        assert take(slow, 10)[-1].after == things.find_one({})
        assert slow._own is None, "it has caught up"
    for stream in (slow, fast):
        assert stream.closed
    things.insert_one({"_id": 2})
    assert store._journal._history is None, "nobody watches: nothing is kept"


def test_a_stream_that_is_forgotten_is_not_kept_for(site: Site) -> None:
    store = site.open()
    changes = store.watch()
    store["things"].insert_one({})
    assert store._journal._history is not None
    del changes
    gc.collect()
    store["things"].insert_one({})
    assert store._journal._history is None


def test_a_stream_waits(site: Site) -> None:
    store = site.open()
    things = store["things"]
    with store.watch() as changes, ThreadPoolExecutor(1) as pool:
        for number in range(20):
            waiting = pool.submit(next, changes)
            things.insert_one({"_id": number})
            assert waiting.result(timeout=60).document_id == number
        ended = pool.submit(lambda: list(changes))
        store.close()
        assert ended.result(timeout=60) == []
    with pytest.raises(ClosedStoreError):
        store.watch()


def test_a_stream_in_an_event_loop(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from the past; and a wait that is given up loses nothing."""
    monkeypatch.setattr(applied, "HISTORY_BYTES_MAX", 500)
    store = site.open(checkpoint_bytes=None)
    things = store["things"]
    begin_lsn = store.applied_lsn + 1
    for number in range(30):
        things.insert_one({"_id": number})

    async def consume() -> tuple[list[int], int]:
        found: list[int] = []
        given_up = 0
        with store.watch(from_lsn=begin_lsn) as changes:
            while len(found) < 60:
                try:
                    async with asyncio.timeout(0):  # gives up wherever it has to wait
                        found.append((await anext(changes)).document_id)
                    continue
                except TimeoutError:
                    given_up += 1
                if len(found) == things.count_documents({}):
                    await asyncio.to_thread(things.insert_one, {"_id": len(found)})
                found.append((await anext(changes)).document_id)
            store.close()
            assert [change async for change in changes] == []
        return found, given_up

    found, given_up = asyncio.run(consume())
    assert found == list(range(60))
    assert given_up >= 30


def test_streams_beside_many_writers(site: Site) -> None:
    """Each stream sees what is committed, in the log's order, while others write."""
    store = site.open(checkpoint_bytes=20_000)
    with store.watch() as first, store["things"].watch() as second:

        def write(worker: int) -> None:
            for number in range(40):
                try:
                    with store.transaction():
                        store["things"].update_one(
                            {"_id": number % 4}, {"$inc": {"n": 1}}, upsert=True
                        )
                        store["others"].insert_one({"worker": worker})
                except ConflictError:
                    pass

        states: list[Contents] = [{}, {}]

        def consume(at: int, changes: ChangeStream) -> int:
            count, lsn = 0, 0
            for change in changes:
                if change.collection == "others" and change.document_id == "end":
                    return count
                if change.collection == "things" and change.document_id == "end":
                    return count
                assert change.lsn >= lsn
                assert store.applied_lsn >= change.lsn, "what is shown can be read"
                lsn = change.lsn
                count += 1
                follow(states[at], change)
            raise AssertionError("it ended")

        with ThreadPoolExecutor(6) as pool:
            consumers = [pool.submit(consume, 0, first), pool.submit(consume, 1, second)]
            for writer in [pool.submit(write, worker) for worker in range(4)]:
                writer.result(timeout=60)
            for name in ("others", "things"):
                expected = contents(store)
                store[name].insert_one({"_id": "end"})
            counts = [consumer.result(timeout=60) for consumer in consumers]
    expected["others"].pop("'end'")
    assert states[0] == expected
    assert states[1] == {"things": expected["things"]}
    print("changes:", counts)
    assert counts[1] >= 40
    assert counts[0] == 2 * counts[1]


def test_void_entries_are_not_shown(file_site: Site) -> None:
    store = file_site.open()
    things, log = store["things"], file_site.log
    assert log is not None
    with store.watch() as changes:
        things.insert_one({"_id": 1})
        void = log.read(store.applied_lsn).payload
        log.append(void, kind=KIND)  # computed from what was before the first one
        log.append(b"somebody else's", kind=7)
        things.insert_one({"_id": 2})
        assert [told(change)[1] for change in take(changes, 2)] == [1, 2]
    with file_site.reopen().watch(from_lsn=1) as again:
        assert [told(change)[1] for change in take(again, 2)] == [1, 2]


def test_only_what_is_durable_is_shown(file_site: Site) -> None:
    store = file_site.open(log_options={"sync": "os"})
    log = file_site.log
    assert log is not None
    with store.watch() as changes:
        for number in range(5):
            store["things"].insert_one({"_id": number}, concern="local")
            assert next(changes).document_id == number
            assert log.durable_lsn == store.applied_lsn, "showing it has made it durable"
        store["things"].insert_one({"_id": "x"}, concern="local")
        with store.watch() as later:  # begins behind what is not durable yet
            store["things"].insert_one({"_id": "y"}, concern="local")
            assert next(later).document_id == "y"
        assert take(changes, 2)[1].document_id == "y"


def test_what_an_interrupted_writer_left_is_shown(file_site: Site) -> None:
    """It is in the log, and the state does not know it yet."""
    store = file_site.open()
    log = file_site.log
    assert log is not None
    store["things"].insert_one({"_id": 1})

    class Interrupted(FileWALManager):
        def append(self, *args: Any, **options: Any) -> int:
            super().append(*args, **options)
            raise KeyboardInterrupt

    with store.watch() as changes:
        log.__class__ = Interrupted
        with pytest.raises(KeyboardInterrupt):
            store["things"].insert_one({"_id": 2})
        log.__class__ = FileWALManager
        assert next(changes).document_id == 2
        assert store["things"].count_documents({}) == 2


@contextmanager
def _waiting_for_a_writer(store: DocumentStore) -> Iterator[Callable[[], object]]:
    """There is an entry that streams must wait for: a writer has not ended that began before it.
    Gives what lets it end."""
    journal, begun, go = store._journal, threading.Event(), threading.Event()

    def slow(draft: Draft) -> None:
        begun.set()
        go.wait()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(journal.write, slow, "local")
        begun.wait()
        put = encoded_operation("p", "things", {"_id": "waited for"})
        store.log.append_many(encode_records(journal.state_lsn, [put]), kind=KIND)
        try:
            yield go.set
        finally:
            go.set()
            writing.result()


def test_a_stream_that_waits_for_its_store_is_closed(file_site: Site) -> None:
    store = file_site.open(checkpoint_bytes=None)
    store["things"].insert_one({})
    changes = store.watch()
    with ThreadPoolExecutor(1) as pool, _waiting_for_a_writer(store):
        found = pool.submit(list, changes)
        until(lambda: store._journal._waiting, "it waits")
        changes.close()
        assert found.result(5) == []


@pytest.mark.parametrize("then", ["in the same loop", "in another loop", "in no loop"])
def test_a_stream_goes_on_after_its_loop_was_cancelled(file_site: Site, then: str) -> None:
    """Everything in it, as when a loop ends: nothing is lost, or told twice."""
    store = file_site.open(checkpoint_bytes=None)
    store["things"].insert_one({})
    changes = store.watch()

    async def rest() -> list[Any]:
        return [(await anext(changes)).document_id for _ in range(2)]

    async def cancelled(go: Callable[[], object]) -> list[Any] | None:
        waiting = asyncio.ensure_future(anext(changes))
        while not store._journal._waiting:
            await asyncio.sleep(0.001)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go()
        store["things"].insert_one({"_id": "last"})
        return await rest() if then == "in the same loop" else None

    with _waiting_for_a_writer(store) as go:
        found = asyncio.run(cancelled(go))
    if then == "in another loop":
        found = asyncio.run(rest())
    elif then == "in no loop":
        found = [change.document_id for change in take(changes, 2)]
    assert found == ["waited for", "last"]
    changes.close()


@pytest.fixture
def tokens(file_site: Site, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens of 40 changes, of which a checkpoint has dropped the first."""
    monkeypatch.setattr(applied, "HISTORY_BYTES_MAX", 1)
    store = file_site.open(checkpoint_bytes=None)
    found = []
    with store.watch() as changes:
        for number in range(40):
            store["things"].insert_one({"_id": number})
            found.append(next(changes).token)
            if number % 10 == 9:
                store.checkpoint()
    return found


def test_what_is_too_old_is_refused(file_site: Site, tokens: list[str]) -> None:
    store = file_site.reopen(checkpoint_bytes=None)
    snapshots = store._files.lsns
    assert len(snapshots) == 2
    at = snapshots[0] - 1  # of the change whose entry the older snapshot ends with
    with store.watch(resume_after=tokens[at]) as changes:
        assert next(changes).document_id == at + 1
    with store.watch(from_lsn=snapshots[0] + 1) as changes:
        assert next(changes).lsn == snapshots[0] + 1
    for options in ({"resume_after": tokens[at - 1]}, {"from_lsn": snapshots[0]}):
        with pytest.raises(HistoryError, match=f"it can be had from {snapshots[0]} on") as caught:
            store.watch(**options)
        assert "read the documents anew" in caught.value.hint
    lsn = store.applied_lsn
    with pytest.raises(HistoryError, match=f"entry {lsn + 1} is not here") as caught:
        store.watch(from_lsn=lsn + 2)
    assert caught.value.lsn == lsn + 1
    assert "wait_for" in caught.value.hint


def test_a_stream_of_a_store_that_closes_meanwhile_leaves_no_tail(file_site: Site) -> None:
    store = file_site.open()
    store["things"].insert_one({})
    tails: list[Tail] = []

    class Closing(FileWALManager):
        def tail(self, *args: Any, **options: Any) -> Tail:
            tails.append(super().tail(*args, **options))
            store.close()
            return tails[-1]

    store.log.__class__ = Closing
    with pytest.raises(ClosedStoreError):
        store.watch()
    store.log.__class__ = FileWALManager
    assert tails[0]._closed


def test_a_stream_that_begins_while_its_store_closes_ends(
    file_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = file_site.open(checkpoint_bytes=None)
    with ThreadPoolExecutor(2) as pool:

        def closing(watchers: list[ChangeStream]) -> WeakSet[ChangeStream]:
            closed = pool.submit(store.close)
            until(lambda: store.closed, "it closes")
            wait([closed], timeout=0.05)  # it should wait for the stream that begins
            return WeakSet(watchers)

        monkeypatch.setattr(applied, "WeakSet", closing)
        changes = store.watch()
        assert pool.submit(list, changes).result(5) == []


@pytest.mark.parametrize("number", ["1" * 5000, "1" * 21, "-1", "\u0661"])
def test_a_token_with_what_is_no_number_is_refused(
    file_site: Site, tokens: list[str], number: str
) -> None:
    store = file_site.store
    assert store is not None
    log_id, _lsn, *place = tokens[-1].split(".")
    with pytest.raises(QueryError, match="is not the token of a change"):
        store.watch(resume_after=".".join([log_id, number, *place]))


def test_a_token_of_another_history_is_refused(file_site: Site, tokens: list[str]) -> None:
    store = file_site.store
    assert store is not None
    log_id, lsn, term, *place = tokens[-1].split(".")
    for fields in ([log_id, lsn, str(int(term) + 1)], ["00" * 16, lsn, term]):
        with pytest.raises(HistoryError, match=r"did not survive|is of another log") as caught:
            store.watch(resume_after=".".join([*fields, *place]))
        assert caught.value.lsn == int(lsn)
    with pytest.raises(HistoryError, match="is not here"):
        store.watch(resume_after=".".join([log_id, str(int(lsn) + 1), term, *place]))


def test_an_undone_entry_is_not_gone_on_from(file_site: Site) -> None:
    """It was cut off and another one has its lsn: (lsn, term) tells them apart."""
    store = file_site.open()
    with store.watch() as changes:
        store["things"].insert_one({"_id": "stays"})
        store["things"].insert_one({"_id": "undone"})
        stays, undone = take(changes, 2)
    file_site.close()
    with FileWALManager(file_site.path) as log:
        log.truncate_after(stays.lsn)
    store = file_site.open()
    with pytest.raises(HistoryError, match="is not here"):
        store.watch(resume_after=undone.token)
    store["things"].insert_one({"_id": "another"})
    assert store.applied_lsn == undone.lsn
    with pytest.raises(HistoryError, match="did not survive"):
        store.watch(resume_after=undone.token)
    with store.watch(resume_after=stays.token) as changes:
        assert next(changes).document_id == "another"


def test_checkpoints_leave_what_is_kept_for_streams(file_site: Site) -> None:
    store = file_site.open(checkpoint_bytes=None, log_options={"segment_bytes": 4096})
    with store.watch() as changes:
        for number in range(60):
            store["things"].insert_one({"_id": number, "pad": "x" * 300})
            if number % 10 == 9:
                store.checkpoint()
        assert [change.document_id for change in take(changes, 60)] == list(range(60))
    store["things"].insert_one({"_id": "last"})
    store.checkpoint()
    assert store.log.first_lsn > 50, "nobody watches any more"


async def _first(changes: ChangeStream) -> DocumentChange:
    return await anext(changes)


def test_what_somebody_else_cut_off_is_gone(file_site: Site) -> None:
    """The log is the store's to truncate; where it was not, nothing is made up."""
    store = file_site.open(checkpoint_bytes=None)
    with store.watch() as changes:
        for number in range(5):
            store["things"].insert_one({"_id": number})
        store.log.truncate_before(4)
        with pytest.raises(HistoryError, match="too far behind"):
            next(changes)
        for lsn in (2, 3):
            with store.watch(), pytest.raises(HistoryError):
                store.watch(from_lsn=lsn)
        with pytest.raises(HistoryError, match="is gone"):
            store.at(3)


def test_a_stream_that_is_overtaken_by_checkpoints_says_so(
    file_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applied, "HISTORY_BYTES_MAX", 100)
    store = file_site.open(checkpoint_bytes=None, log_options={"segment_bytes": 4096})
    changes, later = store.watch(), store.watch()
    for number in range(60):
        store["things"].insert_one({"_id": number, "pad": "x" * 300})
        if number % 10 == 9:
            store.checkpoint()
    with pytest.raises(HistoryError) as caught:
        next(changes)
    assert "watch from there" in caught.value.hint
    assert list(changes) == [], "it has ended"
    with pytest.raises(HistoryError):
        asyncio.run(_first(later))
    lsn = store.applied_lsn
    state = {"things": {repr(one["_id"]): one for one in store.at(lsn)["things"].find()}}
    with store.watch(from_lsn=lsn + 1) as changes:
        store["things"].update_many({}, {"$set": {"pad": ""}})
        for change in take(changes, 60):
            follow(state, change)
    assert state == contents(store)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"from_lsn": 0}, "from_lsn: is the lsn of an entry, not 0"),
        ({"from_lsn": "1"}, "from_lsn: is the lsn of an entry, not '1'"),
        ({"from_lsn": True}, "from_lsn: is the lsn of an entry, not True"),
        ({"resume_after": "what"}, "resume_after: 'what' is not the token of a change"),
        ({"from_lsn": 1, "resume_after": "x"}, "watch: takes from_lsn or resume_after, not both"),
    ],
)
def test_what_makes_no_sense(file_site: Site, options: dict[str, Any], text: str) -> None:
    store = file_site.open()
    with pytest.raises(QueryError) as caught:
        store.watch(**options)
    assert str(caught.value) == text
    assert not store._journal._watchers
