"""The example of docs/crash-lab.md: the store without its bugs survives all that the lab does."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from walstore.testing import CrashLab, Mark

from .store import Store


def workload(path: Path, mark: Mark, bug: str = "") -> None:
    with closing(Store(path, bug)) as store:
        for key, value in (("a", 1), ("b", 2), ("a", 3)):
            store.put(key, value)
            mark([key, value])  # from now on this must survive
        store.snapshot()
        store.put("c", 4)
        mark(["c", 4])


def check(path: Path, marks: list[Any]) -> None:
    with closing(Store(path)) as store:
        for key, value in dict(marks).items():
            assert store.get(key) is not None
            assert store.get(key) >= value


def test_store_survives_power_cuts(crash_lab: CrashLab) -> None:
    report = crash_lab.power_cuts(workload, check)
    assert report.in_recovery > 0


def test_store_survives_failing_calls(crash_lab: CrashLab) -> None:
    report = crash_lab.failing_calls(workload, check)
    assert report.faults >= 100


def test_store_survives_a_full_disk(crash_lab: CrashLab) -> None:
    report = crash_lab.full_disk(workload, check)
    assert report.faults >= 50
    assert report.small_disks or report.small_disks_need
