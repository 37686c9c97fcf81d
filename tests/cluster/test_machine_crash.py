"""The crash lab on a machine: power cuts, failing calls and full disks, amid calls, snapshots and
the truncation behind them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.registers import Registers, put
from tests.crash.settings import scaled
from walstore import FileWALManager
from walstore.cluster import MachineHost
from walstore.cluster.commands import KIND, Command, encode_command
from walstore.replication.requests import Ask
from walstore.testing import CrashLab, Mark

IS_SOAK = scaled(10) > 10

pytestmark = pytest.mark.timeout(7200 if IS_SOAK else 90)


@contextmanager
def opened(path: Path) -> Iterator[MachineHost]:
    """A host; its log is closed first, so that nobody waits for a last look at it."""
    log = FileWALManager(path / "log", segment_bytes=4096)
    try:
        host = MachineHost(log, Registers())
        try:
            yield host
        finally:
            log.close()
            host.close()
    finally:
        log.close()


def command(session: int, number: int) -> bytes:
    return encode_command(Command(Ask.COMMAND, session, number, number, one(number)))


def one(number: int) -> bytes:
    return put(f"c{number}", "k", "x" * 300)


def workload(path: Path, mark: Mark) -> None:
    """A session, whose commands are all in the log twice."""
    with opened(path) as host:
        session = host.log.append(encode_command(Command(Ask.OPEN, 0, 1)), kind=KIND)
        for number in range(1, 10):
            host.log.append(command(session, number), kind=KIND)
            host.wait_applied(host.log.last_lsn)
            mark(number)
            if number % 3 == 0:
                host.checkpoint()
            host.log.append(command(session, number), kind=KIND)
    with opened(path) as host:
        host.log.append(command(session, 10), kind=KIND)
        host.wait_applied(host.log.last_lsn)
        mark(10)
        host.checkpoint()


def short_workload(path: Path, mark: Mark) -> None:
    """Each of its calls fails once, so there are few."""
    with opened(path) as host:
        host.call(one(1))
        mark(1)
        host.checkpoint()


def check(path: Path, marks: list[Any]) -> None:
    with opened(path) as host:
        names = os.listdir(path / "log" / "machine")
        assert not [name for name in names if name.startswith("refused")], "it was ahead of its log"
        host.wait_applied(host.log.last_lsn)
        applied = json.loads(host.read_stale(b"applied"))
        assert applied == {f"c{number}": 1 for number in range(1, len(applied) + 1)}
        assert len(applied) >= (marks[-1] if marks else 0)


def test_a_machine_survives_power_cuts(crash_lab: CrashLab) -> None:
    report = crash_lab.power_cuts(workload, check, states_min=scaled(150))
    assert report.in_recovery > 0


@pytest.mark.skipif(not IS_SOAK, reason="takes long for what tests/test_durable.py has, too")
def test_a_machine_survives_failing_calls(crash_lab: CrashLab) -> None:
    report = crash_lab.failing_calls(workload if IS_SOAK else short_workload, check)
    assert report.faults >= 40


def test_a_machine_survives_a_full_disk(crash_lab: CrashLab) -> None:
    report = crash_lab.full_disk(workload if IS_SOAK else short_workload, check)
    assert report.faults >= 15
