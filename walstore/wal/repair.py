"""Mending the torn tail of a log. Nothing else is ever repaired.

Opening a log to write does the same by itself, so beside a writer there is nothing to mend. This
is for people who want to see first what would be cut, or to mend a log without starting the
application.
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import dataclass

from walstore.errors import NotALogError
from walstore.wal import files
from walstore.wal.arguments import checked_path
from walstore.wal.following import LogFollower
from walstore.wal.layout import Segment
from walstore.wal.opening import access_error, open_meta, read_log, recover_tail
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
    zeros. To do it takes the writer's lock; a look does not, and beside a running writer finds
    nothing. A repair that is cut short is done again by the next one, or by the next open.

    Args:
        path: the log's directory.
        apply: do it. Without, only look.

    Raises:
        CorruptLogError: entries that had been durable are damaged or missing: that cannot be
            mended by cutting. Nothing is changed.
        LogLockedError: a writer has the log open, and `apply` was asked for.
        NotALogError, LogAccessError, UnsupportedFormatError: see there.
    """
    path = checked_path(path)
    return _cut(path) if apply else _look(path)


def _look(path: str) -> TailRepair | None:
    with closing(LogFollower(path)) as view:
        if view.cut is None:
            return None
        return _outcome(view.layout.segments[-1], view.cut, view.bounds()[1], None)


def _cut(path: str) -> TailRepair | None:
    # To read first: what is not there must not be made.
    files.close(open_meta(path, write=False))
    meta_fd = open_meta(path, write=True)
    try:
        opened = read_log(path, meta_fd)
        if opened is None:
            raise NotALogError(path, "its making was cut short; it holds nothing")
        cut, segment = opened.tail.cut, opened.layout.segments[-1]
        if cut is None:
            return None
        fd, _, kept = recover_tail(path, meta_fd, opened, time.time_ns(), os.urandom)
        files.close(fd)
        return _outcome(segment, cut, opened.last_lsn, kept)
    except OSError as error:
        raise access_error(error, path, "cannot repair") from error
    finally:
        files.close(meta_fd)


def _outcome(segment: Segment, cut: Cut, last_lsn: int, kept: str | None) -> TailRepair:
    return TailRepair(
        path=segment.path,
        offset=cut.at,
        bytes=cut.end_at - cut.at,
        lsn=cut.lsn,
        reason=cut.reason,
        last_lsn=last_lsn,
        applied=kept is not None,
        kept=kept,
    )
