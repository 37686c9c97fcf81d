"""Reading the past, and waiting for what comes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.docstore.sites import Contents, Site, contents
from tests.docstore.streams import write_some
from tests.helpers import seeded
from walstore import FileWALManager
from walstore.docstore import (
    ClosedStoreError,
    HistoryError,
    NoSuchIndexError,
    QueryError,
    StoreView,
    WaitTimeoutError,
)


def contents_of(view: StoreView) -> Contents:
    return {
        name: {repr(document["_id"]): document for document in view[name].find()}
        for name in view.list_collection_names()
    }


def test_every_state_can_be_had_as_far_as_the_log_reaches(site: Site) -> None:
    rng = seeded("the past")
    store = site.open(checkpoint_bytes=None)
    states = {store.applied_lsn: contents(store)}
    indexes: dict[int, list[Any]] = {store.applied_lsn: store["things"].list_indexes()}
    checkpoints = []
    had = gone = 0
    for number in range(60):
        write_some(store, rng, checkpoints=False)
        states[store.applied_lsn] = contents(store)
        indexes[store.applied_lsn] = store["things"].list_indexes()
        if number % 12 == 11:
            checkpoints.append(store.checkpoint())
        if number == 40:
            store = site.reopen(checkpoint_bytes=None)
            states[store.applied_lsn] = contents(store)
            indexes[store.applied_lsn] = store["things"].list_indexes()
        lsn = rng.choice(list(states))
        if len(checkpoints) >= 2 and lsn < sorted(set(checkpoints))[-2]:
            with pytest.raises(HistoryError, match="is gone: it can be had from"):
                store.at(lsn)
            gone += 1
            continue
        view = store.at(lsn)
        assert view.lsn == lsn
        assert contents_of(view) == states[lsn]
        assert view["things"].list_indexes() == indexes[lsn]
        had += 1
    print(f"states: {had} had, {gone} gone")
    assert had >= 20
    assert gone >= 3


def test_a_view_reads_as_a_store_does(site: Site) -> None:
    store = site.open()
    things = store["things"]
    things.create_index("a")
    things.insert_many({"_id": at, "a": at % 3, "tags": ["x", at]} for at in range(9))
    lsn = store.applied_lsn
    things.drop()
    view = store.at(lsn)
    store.close()
    then = view["things"]
    assert then.find_one({"a": 1}) == {"_id": 1, "a": 1, "tags": ["x", 1]}
    assert then.find_one({"_id": 11}) is None
    assert then.count_documents({"a": {"$gt": 0}}) == 6
    assert then.distinct("a") == [0, 1, 2]
    assert [one["_id"] for one in then.find({"a": 2}, {"_id": 1}, sort=[("_id", -1)])] == [8, 5, 2]
    assert then.explain({"a": 2}).index == "a_1"
    with pytest.raises(NoSuchIndexError):
        then.find({}, hint="b_1").to_list()
    found = then.find_one({"_id": 2})
    assert found is not None
    found["tags"].append("mine")
    assert then.find_one({"_id": 2}) == {"_id": 2, "a": 2, "tags": ["x", 2]}
    assert view["nothing"].find().to_list() == []
    assert view.list_collection_names() == ["things"]
    assert not hasattr(then, "insert_one")
    assert (repr(view), repr(then)) == (
        f"<StoreView after entry {lsn}>",
        "<ReadOnlyCollection 'things'>",
    )
    with pytest.raises(ClosedStoreError):
        store.at(lsn)


@pytest.mark.parametrize("lsn", [-1, "1", None, True, 1.0])
def test_what_is_no_lsn(file_site: Site, lsn: Any) -> None:
    store = file_site.open()
    with pytest.raises(QueryError, match="at: takes the lsn of an entry"):
        store.at(lsn)
    with pytest.raises(QueryError, match="wait_for: takes the lsn of an entry"):
        store.wait_for(lsn, 1)


@pytest.mark.parametrize("timeout_s", [-1, None, "1", True, float("nan")])
def test_what_is_no_timeout(file_site: Site, timeout_s: Any) -> None:
    with pytest.raises(QueryError, match="wait_for: timeout_s is a number from 0 on"):
        file_site.open().wait_for(0, timeout_s)


def test_what_is_not_here_yet(site: Site) -> None:
    store = site.open()
    store["things"].insert_one({})
    lsn = store.applied_lsn
    with pytest.raises(HistoryError, match=f"entry {lsn + 1} is not here") as caught:
        store.at(lsn + 1)
    assert "wait_for" in caught.value.hint
    assert contents_of(store.at(lsn)) == contents(store)


def test_a_damaged_snapshot_is_passed_over(file_site: Site) -> None:
    """The older one serves; without it what is before the newer one cannot be had."""
    store = file_site.open(checkpoint_bytes=None)
    lsns = []
    for number in range(3):
        store["things"].insert_one({"_id": number})
        lsns.append(store.checkpoint())
    newest = Path(store._files.path_of(lsns[-1]))
    newest.write_bytes(newest.read_bytes()[:-1])
    assert store.at(lsns[-1])["things"].distinct("_id") == [0, 1, 2]
    Path(store._files.path_of(lsns[-2])).unlink()
    with pytest.raises(HistoryError, match="is gone"):
        store.at(lsns[-1])


def test_waiting_for_an_entry(site: Site) -> None:
    store = site.open()
    store["things"].insert_one({})
    store.wait_for(store.applied_lsn, 0)
    lsn = store.applied_lsn + 1
    with pytest.raises(WaitTimeoutError) as caught:
        store.wait_for(lsn, 0.02)
    assert (caught.value.lsn, caught.value.applied_lsn) == (lsn, lsn - 1)
    with pytest.raises(WaitTimeoutError):
        store.wait_for(1 << 70, 0.01)
    done = threading.Event()

    def wait() -> None:
        store.wait_for(lsn, 60)
        done.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    store["things"].insert_one({})
    assert done.wait(60)
    waiting.join()


def test_waiting_takes_in_what_an_interrupted_writer_left(file_site: Site) -> None:
    store = file_site.open()
    log = file_site.log
    assert log is not None
    store["things"].insert_one({"_id": 1})

    class Interrupted(FileWALManager):
        def append(self, *args: Any, **options: Any) -> int:
            super().append(*args, **options)
            raise KeyboardInterrupt

    log.__class__ = Interrupted
    with pytest.raises(KeyboardInterrupt):
        store["things"].insert_one({"_id": 2})
    log.__class__ = FileWALManager
    assert store.applied_lsn == 1
    store.wait_for(2, 60)
    assert store["things"].distinct("_id") == [1, 2]
