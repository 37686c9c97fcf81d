"""Reading a log of 1 KiB records in the page cache: replay, check, and single entries at random."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.conftest import Measure
from bench.peers.plan import SEED, payload_of
from walstore import FileWALManager

RECORDS = 200_000  # 205 MB: several segments
RECORD_BYTES = 1 << 10
BATCH = 1000
PASSES = 5
READS = 20_000


@pytest.fixture(scope="module")
def log(module_disk: Path) -> Iterator[FileWALManager]:
    with FileWALManager(module_disk / "read", sync="os") as wal:
        for _ in range(RECORDS // BATCH):
            wal.append_many([payload_of(RECORD_BYTES)] * BATCH)
        wal.sync()
        yield wal


def test_replay(measure: Measure, log: FileWALManager) -> None:
    def count_entries() -> int:
        entries = 0
        for _entry in log.replay():
            entries += 1
        return entries

    records = measure(count_entries, rounds=PASSES, records=RECORDS)
    assert records == RECORDS


def test_verify(measure: Measure, log: FileWALManager) -> None:
    report = measure(log.verify, rounds=PASSES, warmup_rounds=1, records=RECORDS)
    assert (report.status, report.entries) == ("clean", RECORDS)


def test_read_random(measure: Measure, log: FileWALManager) -> None:
    choose = random.Random(SEED)

    def arguments() -> tuple[tuple[int], dict[str, object]]:
        return (choose.randint(1, RECORDS),), {}

    entry = measure(log.read, setup=arguments, rounds=READS)
    assert entry.payload == payload_of(RECORD_BYTES)
