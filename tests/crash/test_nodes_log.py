"""A log that a node makes, or opens for the first time, and a crash or a failing call in the middle
of it: once the node has it, nobody else writes to it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.wal.replicas import replicated
from walstore import FileWALManager, NotALogError, ReplicatedLogError
from walstore.testing import CrashLab, Mark

SEGMENT_BYTES = 4096
ENTRIES = [b"<one>", b"<two>"]


def workload(path: Path, mark: Mark, plain_first: bool) -> None:
    log_path = path / "log"
    if plain_first:
        with FileWALManager(log_path, segment_bytes=SEGMENT_BYTES) as log:
            log.append_many(ENTRIES)
        mark("plain")
    with replicated(log_path, segment_bytes=SEGMENT_BYTES) as log:
        mark("a node's")
        log._adopt_term(7 << 16)
        mark("voted")


def check(path: Path, marks: list[Any], plain_first: bool) -> None:
    log_path = path / "log"
    try:
        FileWALManager(log_path, read_only=True).close()
    except NotALogError:
        assert not marks
        return
    refused = False
    try:
        FileWALManager(log_path, segment_bytes=SEGMENT_BYTES).close()
    except ReplicatedLogError:
        refused = True
    assert refused or "a node's" not in marks
    with replicated(log_path, segment_bytes=SEGMENT_BYTES) as log:
        assert log.term >= (7 << 16 if "voted" in marks else 1)
        log._set_committed(log.last_lsn)
        entries = [entry.payload for entry in log.replay()]
    assert entries == (ENTRIES if plain_first and marks else entries)
    with pytest.raises(ReplicatedLogError):
        FileWALManager(log_path)


@pytest.mark.parametrize("plain_first", [False, True])
def test_a_nodes_log_stays_its_own_after_power_cuts(crash_lab: CrashLab, plain_first: bool) -> None:
    report = crash_lab.power_cuts(
        partial(workload, plain_first=plain_first),
        partial(check, plain_first=plain_first),
        states_min=250,
    )
    assert report.in_recovery > 0


def test_a_nodes_log_stays_its_own_after_failing_calls(crash_lab: CrashLab) -> None:
    report = crash_lab.failing_calls(
        partial(workload, plain_first=True), partial(check, plain_first=True)
    )
    assert report.faults >= 50
