"""Keeping the end of a log that has lost against another node's: as a log of its own, beside the
segments, before it is cut. It is there whole or not at all: made under another name, closed, synced
and then renamed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from walstore._native import lib
from walstore.errors import CorruptLogError, LogAccessError, LogOpenError, LogPoisonedError
from walstore.limits import SEGMENT_BYTES_MIN
from walstore.wal import files
from walstore.wal.following import LogFollower
from walstore.wal.layout import is_spare
from walstore.wal.opening import Start
from walstore.wal.reading import read_entry
from walstore.wal.records import RecordReader

if TYPE_CHECKING:
    from walstore.wal.writing import LogWriter

__all__ = ["is_branch", "keep_aside", "remove_unfinished"]

_PREFIX = "diverged-"
_UNFINISHED = "diverged.tmp"
_CHUNK_BYTES = 1 << 20


def is_branch(name: str) -> bool:
    """Whether this directory of a log's holds entries that were kept so."""
    return name.startswith(_PREFIX)


def keep_aside(
    log: LogWriter,
    first_lsn: int,
    last_lsn: int,
    make: Callable[[str, Start, int], LogWriter],
) -> str:
    """Copies entries of a log that is frozen to a log of their own; durable at return. Returns its
    path. One that an earlier try, cut short, has left behind is taken as it is.

    Args:
        make: opens a new log in a directory, with segments of so many bytes.
    """
    ends = (first_lsn, log.term_of(first_lsn), last_lsn, log.term_of(last_lsn))
    number = 1
    while True:
        name = f"{_PREFIX}{first_lsn}-{ends[3]}" + (f"-{number}" if number > 1 else "")
        path = os.path.join(log.path, name)
        if not os.path.lexists(path):
            break
        if _ends_of(path) == ends:
            files.sync_directory(log.path)  # its name may not be durable yet
            return path
        number += 1
    unfinished = os.path.join(log.path, _UNFINISHED)
    remove_unfinished(log.path, files.list_directory(log.path))
    _copy(log, first_lsn, last_lsn, unfinished, make)
    files.rename(unfinished, path)
    files.sync_directory(log.path)
    return path


def remove_unfinished(path: str, names: Collection[str]) -> None:
    """Removes what a copy that was cut short has left in the log's directory."""
    if _UNFINISHED not in names:
        return
    unfinished = os.path.join(path, _UNFINISHED)
    for name in files.list_directory(unfinished):
        files.remove(os.path.join(unfinished, name))
    files.remove_directory(unfinished)


def _copy(
    log: LogWriter,
    first_lsn: int,
    last_lsn: int,
    path: str,
    make: Callable[[str, Start, int], LogWriter],
) -> None:
    chunks = RecordReader(log).chunks(first_lsn, _CHUNK_BYTES, last_lsn)
    size = sum(len(records.data) for records in chunks)
    prev_term = log.term_of(first_lsn - 1)
    start = Start(log.meta.log_id, first_lsn, prev_term, log.meta.term)
    branch = make(path, start, max(size, SEGMENT_BYTES_MIN))
    generation = branch.generation()
    try:
        try:
            for records in RecordReader(log).chunks(first_lsn, _CHUNK_BYTES, last_lsn):
                branch.submit_records(records)
            # Not by closing it, which says nothing of entries that found no space.
            branch.group.wait(generation, last_lsn, lib.WALCORE_LEVEL_DURABLE, None)
        finally:
            branch.close()
    except LogPoisonedError as error:  # the branch is; the log itself is as it was
        raise LogAccessError(error.errno or 0, path, "cannot keep a diverged tail in") from error
    for name in files.list_directory(path):
        if is_spare(name):
            files.remove(os.path.join(path, name))
    files.sync_directory(path)


def _ends_of(path: str) -> tuple[int, int, int, int] | None:
    """First and last entry of a log, each with its term: they name all that is between them, as
    far as it comes from one cluster. None for what is no log."""
    try:
        kept = LogFollower(path)
    except (LogOpenError, CorruptLogError):
        return None
    try:
        first_lsn, last_lsn = kept.bounds()
        if last_lsn < first_lsn:
            return None
        terms = [read_entry(kept, kept.segments(), lsn).term for lsn in (first_lsn, last_lsn)]
        return first_lsn, terms[0], last_lsn, terms[1]
    finally:
        kept.close()
