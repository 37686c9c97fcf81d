"""Tests that must fail, run by test_plugin.py: stores with bugs, and misuse of the lab."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.testing import journal, store, test_store
from walstore.testing import CrashLab, Mark


@pytest.mark.parametrize("bug", store.BUGS)
def test_store_with(crash_lab: CrashLab, bug: str) -> None:
    crash_lab.power_cuts(partial(test_store.workload, bug=bug), test_store.check, states_min=200)


def test_journal_syncs_again(crash_lab: CrashLab) -> None:
    crash_lab.failing_calls(partial(journal.workload, bug="sync-again"), journal.check)


def test_journal_writes_short(crash_lab: CrashLab) -> None:
    crash_lab.failing_calls(partial(journal.workload, bug="short-write"), journal.check)


def test_journal_ignores_a_full_disk(crash_lab: CrashLab) -> None:
    crash_lab.full_disk(partial(journal.workload, bug="full-disk-ignored"), journal.check)


def test_journal_does_not_recover(crash_lab: CrashLab) -> None:
    check = partial(journal.check, bug="no-recovery")
    crash_lab.power_cuts(partial(journal.workload, bug="no-recovery"), check, states_min=200)


def gives_up(path: Path, mark: Mark) -> None:
    try:
        journal.workload(path, mark)
    except OSError as error:
        raise AssertionError("not under this") from error


def test_workload_that_gives_up(crash_lab: CrashLab) -> None:
    crash_lab.failing_calls(gives_up, journal.check)


def recovers_in_place(path: Path, marks: list[Any]) -> None:
    """Right after one power cut, and wrong when there is another one while it recovers."""
    file = path / "journal"
    data = file.read_bytes() if file.exists() else b""
    file.write_bytes(data)  # truncates it first
    journal.check(path, marks)


def test_journal_recovers_in_place(crash_lab: CrashLab) -> None:
    crash_lab.power_cuts(journal.workload, recovers_in_place, states_min=200)


# What the lab refuses, in one sentence.


def test_local_function(crash_lab: CrashLab) -> None:
    def workload(path: Path, mark: Mark) -> None:
        (path / "x").write_text("x")

    crash_lab.power_cuts(workload, journal.check)


def fails(path: Path, mark: Mark) -> None:
    raise ValueError("no good")


def does_nothing(path: Path, mark: Mark) -> None:
    mark("done")


def links(path: Path, mark: Mark) -> None:
    (path / "x").write_text("x")
    os.link(path / "x", path / "y")


def writes_once(path: Path, mark: Mark) -> None:
    (path / "x").mkdir()


def passes(path: Path, marks: list[Any]) -> None:
    pass


def dies(path: Path, marks: list[Any]) -> None:
    if marks:
        os.kill(os.getpid(), 11)


@pytest.mark.parametrize("workload", [fails, does_nothing, links, writes_once])
def test_workload(crash_lab: CrashLab, workload: Any) -> None:
    crash_lab.power_cuts(workload, passes)


def test_check_that_dies(crash_lab: CrashLab) -> None:
    crash_lab.power_cuts(journal.workload, dies, states_min=100)
