"""The crash lab on a store: power cuts, failing calls and full disks, during transactions,
checkpoints, truncation and the making of an index; what a stream had shown, and snapshots that come
from other nodes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.crash.settings import scaled
from walstore import FileWALManager
from walstore.docstore import ChangeStream, DocumentSnapshots, DocumentStore, record
from walstore.docstore.record import KIND
from walstore.testing import CrashLab, Mark
from walstore.wal.manager import SyncPolicy

IS_SOAK = scaled(10) > 10

pytestmark = pytest.mark.timeout(7200 if IS_SOAK else 90)


@contextmanager
def opened(path: Path, sync: SyncPolicy = "always") -> Iterator[DocumentStore]:
    with (
        FileWALManager(path / "log", segment_bytes=4096, sync=sync) as log,
        DocumentStore(log, checkpoint_bytes=None) as store,
    ):
        yield store


def transfer(store: DocumentStore, number: int) -> None:
    """A transaction over two collections: 105 in all, and how many there were."""
    with store.transaction():
        transfer_in(store, number)


def transfer_in(store: DocumentStore, number: int) -> None:
    store["accounts"].update_one({"_id": number % 3}, {"$inc": {"money": -number}})
    store["accounts"].update_one({"_id": (number + 1) % 3}, {"$inc": {"money": number}})
    store["counts"].update_one({"_id": 1}, {"$inc": {"transfers": 1}}, upsert=True)


def workload(path: Path, mark: Mark) -> None:
    with opened(path) as store:
        money = ({"_id": at, "money": 30 + at * 5, "pad": "x" * 300} for at in range(3))
        store["accounts"].insert_many(money)
        mark(0)
        for number in range(1, 4):
            transfer(store, number)
            mark(number)
        store.checkpoint()
        store["accounts"].create_index("money")
        for number in range(4, 6):
            transfer(store, number)
            mark(number)
        store.checkpoint()
    with opened(path, "os") as store:
        transfer(store, 6)
        mark(6)
        with store.transaction(concern="local"):
            store["accounts"].update_many({}, {"$set": {"seen": True}})
        store.checkpoint()
        mark(6)


def short_workload(path: Path, mark: Mark) -> None:
    """Each of its calls fails once, so there are few."""
    with opened(path) as store:
        store["accounts"].insert_many({"_id": at, "money": 30 + at * 5} for at in range(3))
        transfer(store, 1)
        mark(1)
        store.checkpoint()


def check(path: Path, marks: list[Any]) -> None:
    with opened(path) as store:
        names = os.listdir(path / "log" / "documents")
        assert not [name for name in names if name.startswith("refused")], "it was ahead of its log"
        accounts = store["accounts"].find(sort="_id").to_list()
        counts = store["counts"].find_one()
        transfers = counts["transfers"] if counts else 0
        assert transfers >= (marks[-1] if marks else 0)
        expected = [30, 35, 40]
        for number in range(1, transfers + 1):
            expected[number % 3] -= number
            expected[(number + 1) % 3] += number
        assert [one["money"] for one in accounts] == (expected if accounts else [])
        assert accounts or not marks
        if transfers >= 4:
            assert store["accounts"].explain({"money": 1}).index == "money_1"


def test_a_store_survives_power_cuts(crash_lab: CrashLab) -> None:
    report = crash_lab.power_cuts(workload, check, states_min=scaled(500))
    assert report.in_recovery > 0


def test_a_store_survives_failing_calls(crash_lab: CrashLab) -> None:
    report = crash_lab.failing_calls(workload if IS_SOAK else short_workload, check)
    assert report.faults >= 100


def test_a_store_survives_a_full_disk(crash_lab: CrashLab) -> None:
    report = crash_lab.full_disk(workload if IS_SOAK else short_workload, check)
    assert report.faults >= 30


# ---- streams: what was shown stays, and a token goes on right after it ----

BEGIN = [30, 35, 40]
SHOWN = 3  # changes of a transfer


def watched_workload(path: Path, mark: Mark) -> None:
    """A consumer marks what it has been shown, though nothing was waited for; transactions of
    several entries, void ones, and checkpoints under its hands."""
    vars(record)["TRANSACTION_PART_BYTES_MAX"] = 40
    with opened(path, "os") as store:
        for at, money in enumerate(BEGIN):
            store["accounts"].insert_one({"_id": at, "money": money})
        with store.watch() as changes:
            for number in range(1, 5):
                transfer_unsynced(store, number)
                mark([number, _tokens(changes, SHOWN)[-1]])
                void = store.log.read(store.log.first_lsn)
                store.log.append(void.payload, kind=KIND)
                if number != 2:
                    store.checkpoint()
    with opened(path, "os") as store:
        transfer_unsynced(store, 5)
        with store["accounts"].watch(from_lsn=store.applied_lsn) as changes:
            token = _tokens(changes, 2)[0]  # in the middle of a transaction
            mark([5, token])
        store.checkpoint()


def transfer_unsynced(store: DocumentStore, number: int) -> None:
    with store.transaction(concern="local"):
        transfer_in(store, number)


def _tokens(changes: ChangeStream, count: int) -> list[str]:
    return [change.token for change in islice(changes, count)]


def check_watched(path: Path, marks: list[Any]) -> None:
    with opened(path) as store:
        counts = store["counts"].find_one()
        transfers = counts["transfers"] if counts else 0
        _check_past(store)
        if not marks:
            return
        shown, token = marks[-1]
        assert transfers >= shown
        money = _money_after(shown)
        end = store["ends"].insert_one({}).inserted_id
        rest = []
        with store.watch(resume_after=token) as changes:
            for change in changes:
                if change.document_id == end:
                    break
                rest.append(change)
        rest = [change for change in rest if change.collection != "ends"]
        left = 2 if shown == 5 else 0
        assert len(rest) == SHOWN * (transfers - shown) + left, "all of the rest, and nothing else"
        for change in rest[left:]:
            if change.collection == "accounts":
                assert change.before is not None
                assert change.after is not None
                assert change.before["money"] == money[change.document_id]
                money[change.document_id] = change.after["money"]


def _money_after(transfers: int) -> list[int]:
    money = list(BEGIN)
    for number in range(1, transfers + 1):
        money[number % 3] -= number
        money[(number + 1) % 3] += number
    return money


def _check_past(store: DocumentStore) -> None:
    """Every state that can still be had is one between transactions."""
    first_lsn = store._past._begin_lsn()
    for lsn in range(first_lsn, store.applied_lsn + 1):
        view = store.at(lsn)
        accounts = view["accounts"].find(sort="_id").to_list()
        counts = view["counts"].find_one()
        if counts is None:
            assert [one["money"] for one in accounts] == BEGIN[: len(accounts)]
        else:
            assert [one["money"] for one in accounts] == _money_after(counts["transfers"])


def test_what_a_stream_has_shown_survives_power_cuts(crash_lab: CrashLab) -> None:
    report = crash_lab.power_cuts(watched_workload, check_watched, states_min=scaled(200))
    assert report.in_recovery > 0


# ---- snapshots that come from other nodes ----


def carried_workload(path: Path, mark: Mark) -> None:
    FileWALManager(path / "other", segment_bytes=4096).close()
    with opened(path) as store:
        for number in range(2):
            store["accounts"].insert_one({"_id": number, "pad": "x" * 3000})
            lsn = store.checkpoint()
            newest = DocumentSnapshots(path / "log").newest(lambda lsn: 1)
            assert newest is not None
            came = path / "came"
            with open(newest[1], "rb") as source, open(came, "wb") as target:
                shutil.copyfileobj(source, target)
                target.flush()
                os.fsync(target.fileno())
            DocumentSnapshots(path / "other").install(lsn, str(came))
            mark(lsn)


def check_carried(path: Path, marks: list[Any]) -> None:
    newest = DocumentSnapshots(path / "other").newest(lambda lsn: 1)
    if marks:
        assert newest is not None
        assert newest[0] >= marks[-1]
    folder = path / "other" / "documents"
    names = os.listdir(folder) if folder.exists() else []
    assert newest is None or newest[1] == str(folder / max(names)), "each one is whole"


def test_a_snapshot_that_was_taken_over_survives_power_cuts(crash_lab: CrashLab) -> None:
    crash_lab.power_cuts(carried_workload, check_carried, states_min=scaled(100))
