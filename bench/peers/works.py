"""The work of the rows that write and of those that read."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from typing import cast

from bench.peers import loops, machine
from bench.peers.job import Job, Metrics, noise, require
from bench.peers.plan import SEED, payload_of
from bench.peers.stores import Store, WalStore

RAW_READ_BYTES = 1 << 20
RANDOM_READS = 4096  # different records, visited again and again


# Rows that write.


def write(job: Job) -> Metrics:
    """Append for a time; then reopen the store and count what it holds."""
    store = job.open()
    os.sync()  # what setting up left dirty is not part of the work
    before = machine.snapshot(job.path)
    sample = _write_loop(job, store)
    around = machine.interference(before, machine.snapshot(job.path))
    store.close()
    if job.contender.family != "raw" or "growing" in job.contender.name:
        reopened = job.open()
        held = reopened.count()
        reopened.close()
        require(held == sample.acknowledged, f"holds {held}, acknowledged {sample.acknowledged}")
    return {
        **loops.figures(sample),
        "flushes_per_op": around.flushes / sample.acknowledged,
        **noise(around),
    }


def _write_loop(job: Job, store: Store) -> loops.Sample:
    settings, payload, span = job.settings, payload_of(job.row.payload_bytes), job.span()
    batch = [payload] * settings.batch
    append = store.append
    match job.row.work:
        case "append":
            return loops.single(append, payload, span)
        case "threads":
            call = _in_turns(append) if store.needs_lock else append
            return loops.threads(call, payload, span, count=settings.threads)
        case "pipelined" if isinstance(store, WalStore):
            each = job.contender.name.endswith("wait-each")
            loop = loops.pipelined_each if each else loops.pipelined
            return loop(store.wal.submit, payload, span, window=settings.window)
        case "batch" | "pipelined":
            return loops.single(store.append_many, batch, span, records=len(batch))
        case "asyncio" if isinstance(store, WalStore):
            submit = store.wal.submit
            return loops.asyncio_tasks(submit, payload, span, in_flight=settings.in_flight)
        case "asyncio":
            return loops.asyncio_blocking(append, payload, span, in_flight=settings.in_flight)
        case other:
            raise AssertionError(f"{other} does not write")


def _in_turns(append: Callable[[bytes], object]) -> Callable[[bytes], object]:
    lock = threading.Lock()

    def locked(payload: bytes) -> None:
        with lock:
            append(payload)

    return locked


# Rows that read.


def read(job: Job) -> Metrics:
    """Read prepared data, warm, as often as the time allows and at least once."""
    store = job.open()
    held = store.count()
    require(held == job.expected, f"holds {held} records, {job.expected} were written")
    payload_bytes = job.row.payload_bytes
    one_pass = _read_pass(job, store)
    one_pass()  # warm-up: pages into the cache, mappings made
    before = machine.snapshot(job.path)
    if job.row.work == "random_read":
        metrics = _random_reads(job, store)
    else:
        seconds: list[float] = []
        deadline = time.perf_counter() + job.settings.seconds
        while not seconds or time.perf_counter() < deadline:
            since = time.perf_counter()
            records = one_pass()
            seconds.append(time.perf_counter() - since)
            require(records == held, f"read {records} records of {held}")
        rate = held / loops.percentile(sorted(seconds), 0.5)
        metrics = {"ops_per_s": rate, "gb_per_s": rate * payload_bytes / 1e9}
    around = machine.interference(before, machine.snapshot(job.path))
    store.close()
    return {**metrics, **noise(around)}


def _read_pass(job: Job, store: Store) -> Callable[[], int]:
    """Return a function that goes once through the data and counts the records it saw."""

    def verify() -> int:
        report = cast(WalStore, store).wal.verify()
        require(report.status == "clean", f"verify says {report.status}: {report.problems[:1]}")
        return report.entries

    def read_blocks() -> int:
        fd = os.open(job.path / "raw", os.O_RDONLY)
        block = bytearray(RAW_READ_BYTES)
        total = 0
        while size := os.readv(fd, [block]):
            total += size
        os.close(fd)
        return total // job.row.payload_bytes

    def replay() -> int:
        records = 0
        for _entry in store.replay():
            records += 1
        return records

    if job.row.work == "verify":
        return verify if isinstance(store, WalStore) else read_blocks
    return replay


def _random_reads(job: Job, store: Store) -> Metrics:
    choose = random.Random(SEED)
    wanted = [choose.randint(1, job.expected) for _ in range(RANDOM_READS)]
    position = 0

    def read_next(_unused: object) -> None:
        nonlocal position
        store.read(wanted[position])
        position = (position + 1) % RANDOM_READS

    return loops.figures(loops.single(read_next, None, job.span()))
