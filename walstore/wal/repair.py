"""Mending the torn tail of a log that no writer has open. Nothing else is ever repaired.

Opening a log to write does the same by itself; this is for people who want to see first what
would be cut, or to mend a log without starting the application.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from walstore.errors import LogLockedError, LogOpenError, NotALogError
from walstore.wal import files
from walstore.wal.layout import CUT_PREFIX, Segment
from walstore.wal.opening import Opened, access_error, open_meta, read_log, recover_tail
from walstore.wal.recovery import Cut

__all__ = ["TailRepair", "repair_tail"]


@dataclass(frozen=True, slots=True)
class TailRepair:
    """What was, or would be, cut.

    Attributes:
        path: the segment.
        offset, bytes: the torn bytes in it.
        lsn: the entry that would have stood there; it had never been durable.
        reason: what is wrong with it.
        last_lsn: the last good entry, which stays.
        applied: whether it was done.
        kept: the file that holds the bytes that were cut; None when nothing was done.
    """

    path: str
    offset: int
    bytes: int
    lsn: int
    reason: str
    last_lsn: int
    applied: bool
    kept: str | None


def repair_tail(path: str | os.PathLike[str], *, apply: bool = False) -> TailRepair | None:
    """Finds the torn tail of a log and, if told so, cuts it; None when there is none.

    The torn bytes are copied to a file beside the log, durably, before they are overwritten with
    zeros. The writer's lock is held meanwhile. A repair that is cut short is done again by the
    next one, or by the next open.

    Args:
        path: the log's directory.
        apply: do it. Without, only look.

    Raises:
        CorruptLogError: entries that had been durable are damaged or missing: that cannot be
            mended by cutting. Nothing is changed.
        LogLockedError: a writer has the log open.
        NotALogError, LogAccessError, UnsupportedFormatError: see there.
    """
    path = os.path.abspath(os.fspath(path))
    # To read first: what is not there must not be made.
    meta_fd = open_meta(path, write=False)
    try:
        if files.is_locked(meta_fd):
            raise LogLockedError(path)
        if apply:
            read_fd, meta_fd = meta_fd, open_meta(path, write=True)
            files.close(read_fd)
        return _repair(path, meta_fd, apply)
    except LogOpenError:
        raise
    except OSError as error:
        raise access_error(error, path, "cannot repair" if apply else "cannot read") from error
    finally:
        files.close(meta_fd)


def _repair(path: str, meta_fd: int, apply: bool) -> TailRepair | None:
    opened = read_log(path, meta_fd)
    if opened is None:
        raise NotALogError(path, "its making was cut short; it holds nothing")
    cut, segment = opened.tail.cut, opened.layout.segments[-1]
    if cut is None:
        return None
    kept = _apply(path, meta_fd, opened, segment, cut) if apply else None
    return TailRepair(
        path=segment.path,
        offset=cut.at,
        bytes=cut.end_at - cut.at,
        lsn=cut.lsn,
        reason=cut.reason,
        last_lsn=opened.last_lsn,
        applied=apply,
        kept=kept,
    )


def _apply(path: str, meta_fd: int, opened: Opened, segment: Segment, cut: Cut) -> str | None:
    fd = files.open_file(segment.path)
    try:
        torn = files.read_at(fd, cut.end_at - cut.at, cut.at)
    finally:
        files.close(fd)
    recovered_fd, _ = recover_tail(path, meta_fd, opened, time.time_ns(), os.urandom)
    files.close(recovered_fd)
    return _kept_in(path, segment, cut, torn)


def _kept_in(path: str, segment: Segment, cut: Cut, torn: bytes) -> str | None:
    """The file that recovery kept the torn bytes in."""
    start = f"{CUT_PREFIX}{segment.header.segment_id:08x}-{cut.at:012d}-"
    for name in files.list_directory(path):
        if not name.startswith(start):
            continue
        kept = os.path.join(path, name)
        fd = files.open_file(kept)
        try:
            if files.size_of(fd) == len(torn) and files.read_at(fd, len(torn), 0) == torn:
                return kept
        finally:
            files.close(fd)
    return None
