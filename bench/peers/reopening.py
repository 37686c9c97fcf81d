"""Reopening a log whose writer was killed, and preparing the data of the rows that read."""

from __future__ import annotations

import os
import shutil
import time

from bench.peers import machine
from bench.peers.job import Job, Metrics, append_mib, noise, require
from bench.peers.plan import CONTENDERS, payload_of
from bench.peers.stores import WalStore

WATCH_S = 0.2
SEGMENT_NAMES = "[0-9]*.wal"  # of walstore's segments, and not of its spare ones


def reopen(job: Job) -> Metrics:
    """Time an open of a log whose writer was just killed, until the last record's number is known.

    What the writer left in the kernel is not flushed before: a service that dies starts again at
    once.  The process then closes the log, and before the next round ``crash`` runs again.
    """
    before = machine.snapshot(job.path)
    since = time.perf_counter()
    store = job.open()
    held = store.count()
    open_ms = (time.perf_counter() - since) * 1e3
    time.sleep(WATCH_S)  # an open is too short to see in ticks of 10 ms who else was busy
    around = machine.interference(before, machine.snapshot(job.path))
    require(held == job.expected, f"holds {held} records, {job.expected} were acknowledged")
    store.close()
    return {"open_ms": open_ms, **noise(around)}


def crash(job: Job) -> Metrics:
    """Open a log as its user would, append a tail durably, and die by SIGKILL (see ``child``)."""
    store = job.open()
    held = store.count()
    return {"records": held + append_mib(store, job.row.payload_bytes, job.settings.tail_mib)}


def build(job: Job) -> Metrics:
    """Write the data of a row quickly, without syncs, and close it cleanly."""
    shutil.rmtree(job.path, ignore_errors=True)
    builder = CONTENDERS[job.contender.builder]
    store = builder.open(job.path, job.row.payload_bytes)
    append_mib(store, job.row.payload_bytes, job.settings.log_mib(job.row.log))
    if job.row.work == "reopen" and isinstance(store, WalStore):
        _fill_segment(job, store)
    records = store.count()
    store.close()
    os.sync()
    return {"records": records}


def _fill_segment(job: Job, store: WalStore) -> None:
    """Append until the next segment begins.

    Opening reads the last segment.  Small and big log are compared with equally full ones, or the
    comparison would be of the sizes modulo the segment's.
    """
    batch = [payload_of(job.row.payload_bytes)] * 100
    segments = len(list(job.path.glob(SEGMENT_NAMES)))
    for _ in range(100_000):  # 10 GB, far above a segment
        store.append_many(batch)
        if len(list(job.path.glob(SEGMENT_NAMES))) > segments:
            return
    raise AssertionError("no new segment was begun")
