"""The crash lab on a store: power cuts, failing calls and full disks, during transactions,
checkpoints, truncation and the making of an index."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.crash.settings import scaled
from walstore import FileWALManager
from walstore.docstore import DocumentStore
from walstore.testing import CrashLab, Mark
from walstore.wal.manager import SyncPolicy

IS_SOAK = scaled(10) > 10


@contextmanager
def opened(path: Path, sync: SyncPolicy = "always") -> Iterator[DocumentStore]:
    with (
        FileWALManager(path / "log", segment_bytes=4096, sync=sync) as log,
        DocumentStore(log, checkpoint_bytes=None) as store,
    ):
        yield store


def transfer(store: DocumentStore, number: int) -> None:
    """A transaction over two collections: 100 in all, and how many there were."""
    with store.transaction():
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
