"""Many records wait for one sync: threads, one thread that submits ahead, asyncio tasks.

A round stores a fixed number of records; the latencies shown are those of a whole round, since what
counts here is how many records share a sync.  ``bench.peers`` notes the latency of each record.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from pathlib import Path

import pytest

from bench.conftest import Measure
from bench.peers.plan import payload_of
from walstore import Commit, FileWALManager

ROUNDS = 10
THREADS = 16
APPENDS_PER_THREAD = 50
PIPELINED_RECORDS = 5_000
WINDOW = 256
RECORDS_PER_TASK = 20
SIZES = (128, 1 << 10, 16 << 10)


@pytest.mark.parametrize("size", SIZES)
def test_append_16_threads(measure: Measure, disk: Path, size: int) -> None:
    payload = payload_of(size)

    def append_some() -> None:
        for _ in range(APPENDS_PER_THREAD):
            wal.append(payload)

    def round_of_threads() -> None:
        workers = [threading.Thread(target=append_some) for _ in range(THREADS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    with FileWALManager(disk / "log") as wal:
        measure(
            round_of_threads, rounds=ROUNDS, warmup_rounds=1, records=THREADS * APPENDS_PER_THREAD
        )
        assert wal.durable_lsn % (THREADS * APPENDS_PER_THREAD) == 0


@pytest.mark.parametrize("size", SIZES)
def test_submit_pipelined(measure: Measure, disk: Path, size: int) -> None:
    """One thread; every commit is waited for, at most 256 of them outstanding."""
    payload = payload_of(size)

    def stream() -> None:
        pending: deque[Commit] = deque()
        for _ in range(PIPELINED_RECORDS):
            pending.append(wal.submit(payload))
            if len(pending) >= WINDOW:
                pending.popleft().wait()
        while pending:
            pending.popleft().wait()

    with FileWALManager(disk / "log") as wal:
        measure(stream, rounds=ROUNDS, warmup_rounds=1, records=PIPELINED_RECORDS)
        assert wal.durable_lsn % PIPELINED_RECORDS == 0


@pytest.mark.parametrize("size", SIZES)
def test_submit_asyncio_256_in_flight(measure: Measure, disk: Path, size: int) -> None:
    payload = payload_of(size)

    async def one_task() -> None:
        for _ in range(RECORDS_PER_TASK):
            await wal.submit(payload)

    async def all_tasks() -> None:
        await asyncio.gather(*(one_task() for _ in range(WINDOW)))

    with FileWALManager(disk / "log") as wal, asyncio.Runner() as runner:
        measure(
            lambda: runner.run(all_tasks()),
            rounds=ROUNDS,
            warmup_rounds=1,
            records=WINDOW * RECORDS_PER_TASK,
        )
        assert wal.durable_lsn % (WINDOW * RECORDS_PER_TASK) == 0
