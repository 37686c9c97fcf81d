"""One thread appends: single records and batches of 100, by sync policy and record size."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.conftest import Measure
from bench.peers.plan import payload_of
from bench.peers.stores import SyncPolicy
from walstore import FileWALManager

POLICIES: tuple[SyncPolicy, ...] = ("always", "interval", "os")
SIZES = (128, 1 << 10, 16 << 10)
CALLS = {"always": 1000, "interval": 10_000, "os": 10_000}
BATCH = 100
BATCHES = 200
WARMUP_CALLS = 20


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("policy", POLICIES)
def test_append(measure: Measure, disk: Path, policy: SyncPolicy, size: int) -> None:
    with FileWALManager(disk / "log", sync=policy) as wal:
        calls = CALLS[policy]
        measure(wal.append, payload_of(size), rounds=calls, warmup_rounds=WARMUP_CALLS)
        assert wal.last_lsn >= 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("policy", POLICIES)
def test_append_many_100(measure: Measure, disk: Path, policy: SyncPolicy, size: int) -> None:
    batch = [payload_of(size)] * BATCH
    with FileWALManager(disk / "log", sync=policy) as wal:
        measure(wal.append_many, batch, rounds=BATCHES, warmup_rounds=WARMUP_CALLS, records=BATCH)
        assert wal.last_lsn % BATCH == 0
