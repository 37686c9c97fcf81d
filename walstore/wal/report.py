"""What `verify` and `stats` answer."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from walstore._native import lib
from walstore.errors import CorruptLogError, LogAccessError, LSNOutOfRangeError
from walstore.wal.following import LogFollower
from walstore.wal.layout import Segment
from walstore.wal.reading import Snapshot, verify_segment
from walstore.wal.record import STOP_REASONS
from walstore.wal.segment import RECORDS_AT
from walstore.wal.writing import LogWriter

__all__ = ["LogStats", "Problem", "VerifyReport", "file_sizes", "log_stats", "verify_log"]


@dataclass(frozen=True, slots=True)
class Problem:
    """A place where the log is not what was written.

    Attributes:
        path: the file.
        offset: the place in it, in bytes.
        lsn: the entry that stands, or should stand, there.
        reason: what is wrong.
    """

    path: str
    offset: int
    lsn: int
    reason: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The outcome of a check of the whole log.

    Attributes:
        status: "clean"; "torn": bytes behind the last entry, which opening to write cuts and
            keeps; "corrupt": entries that had been durable are damaged or missing.
        entries: good entries from first_lsn to last_lsn.
        bytes: bytes of records read.
        problems: one for each damaged segment, or for the torn tail.
    """

    status: Literal["clean", "torn", "corrupt"]
    entries: int
    bytes: int
    first_lsn: int
    last_lsn: int
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class LogStats:
    """Sizes, and for a writer its counters since it was opened.

    Attributes:
        segments: number of segments.
        disk_bytes: size of all files in the log's directory.
        writes, write_bytes: pwrite calls and their bytes, padding included.
        syncs, sync_seconds: fdatasync calls and the time they took.
        sync_histogram: count of syncs by 2^i to 2^(i+1) ns.
        watermark_failures: times the durable lsn could not be published to readers.
    """

    first_lsn: int
    last_lsn: int
    durable_lsn: int
    term: int
    segments: int
    disk_bytes: int
    writes: int
    write_bytes: int
    syncs: int
    sync_seconds: float
    sync_histogram: tuple[int, ...]
    watermark_failures: int


def verify_log(
    view: LogWriter | LogFollower,
    held: Snapshot,
    progress: Callable[[int, int], None] | None,
) -> VerifyReport:
    """Checks every record that the log held."""
    first_lsn, last_lsn, segments = held.first_lsn, held.last_lsn, held.segments
    total = sum(segment.scan_end - RECORDS_AT for segment in segments)
    problems: list[Problem] = []
    entries = done = 0
    for segment in segments:
        end_lsn = last_lsn if segment.last_lsn is None else min(segment.last_lsn, last_lsn)
        found, read_bytes, problem = _verify_one(view, segment, end_lsn)
        entries += found - max(0, min(found, first_lsn - segment.first_lsn))
        done += read_bytes
        if problem:
            problems.append(problem)
        if progress:
            progress(done, total)
    cut = view.cut if isinstance(view, LogFollower) else None
    if cut and not problems:
        tail = segments[-1].path
        return VerifyReport(
            "torn",
            entries,
            done,
            first_lsn,
            last_lsn,
            (Problem(tail, cut.at, cut.lsn, cut.reason),),
        )
    status: Literal["clean", "corrupt"] = "corrupt" if problems else "clean"
    return VerifyReport(status, entries, done, first_lsn, last_lsn, tuple(problems))


def _verify_one(
    view: LogWriter | LogFollower, segment: Segment, end_lsn: int
) -> tuple[int, int, Problem | None]:
    try:
        scanner, at, as_sealed = verify_segment(view, segment, end_lsn)
    except FileNotFoundError:
        return 0, 0, None  # truncated away meanwhile
    except OSError as refusal:
        raise LogAccessError(refusal.errno or 0, segment.path, "cannot read") from refusal
    state, read_bytes = scanner.state, at - RECORDS_AT
    if state.stop != lib.WALCORE_SCAN_LIMIT:
        error = CorruptLogError(segment.path, at, state.next_lsn, STOP_REASONS[state.stop])
    elif not as_sealed:
        reason = "the records are good one by one, but not those that were sealed"
        error = CorruptLogError(segment.path, RECORDS_AT, segment.first_lsn, reason)
    else:
        return state.entries, read_bytes, None
    if isinstance(view.explain(error), LSNOutOfRangeError):
        return state.entries, read_bytes, None
    return state.entries, read_bytes, Problem(error.path, error.offset, error.lsn, error.reason)


def file_sizes(path: str) -> dict[str, int]:
    """The files in a log's directory and their sizes in bytes."""
    sizes: dict[str, int] = {}
    with os.scandir(path) as names:
        for name in names:
            try:
                sizes[name.name] = name.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue  # recycled or removed meanwhile
    return sizes


def log_stats(view: LogWriter | LogFollower) -> LogStats:
    """Sizes and counters as they are now."""
    first_lsn, last_lsn = view.bounds()
    if isinstance(view, LogFollower):
        counters = None
        durable_lsn = last_lsn
    else:
        counters = view.group.status()
        last_lsn, durable_lsn = counters.last_lsn, counters.durable_lsn  # of one moment
    return LogStats(
        first_lsn=first_lsn,
        last_lsn=last_lsn,
        durable_lsn=durable_lsn,
        term=view.meta.term,
        segments=len(view.segments()),
        disk_bytes=sum(file_sizes(view.path).values()),
        writes=counters.writes if counters else 0,
        write_bytes=counters.write_bytes if counters else 0,
        syncs=counters.syncs if counters else 0,
        sync_seconds=counters.sync_ns / 1e9 if counters else 0.0,
        sync_histogram=counters.sync_histogram if counters else (),
        watermark_failures=counters.watermark_failures if counters else 0,
    )
