"""The reading side of a log that another process may be writing (read_only=True).

It sees what a recovery would keep, and of a log with a running writer only what that writer has
published as durable. Where the writer's policy leaves entries un-synced, the reader syncs the
file itself before it shows them.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from walstore._native import lib
from walstore.errors import ClosedLogError, CorruptLogError, LogAccessError, NotALogError
from walstore.wal import files
from walstore.wal.layout import Layout, Segment
from walstore.wal.meta import (
    META_NAME,
    Meta,
    Watermark,
    read_commit_mark,
    read_meta,
    read_watermark,
)
from walstore.wal.opening import Opened, access_error, open_meta, read_log
from walstore.wal.reading import Place, SegmentCache, SegmentIndex, explain_in
from walstore.wal.record import Scanner
from walstore.wal.recovery import Cut
from walstore.wal.scan import verify_range
from walstore.wal.segment import RECORDS_AT

__all__ = ["LogFollower"]

_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class _State:
    """What the log was at the last look. Replaced as one: threads that share a reader look at it
    without a lock, and its bounds, segments and places belong together."""

    meta: Meta
    layout: Layout
    writer_running: bool
    cut: Cut | None
    scanned_lsn: int
    scanned_at: int
    scanned_term: int
    index: SegmentIndex
    durable_lsn: int
    committed_lsn: int | None  # None: not replicated


class LogFollower:
    """A log opened to read.

    Args:
        path: the log's directory.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.cache = SegmentCache()
        self._lock = threading.Lock()  # for who looks; the state has none
        self._closed = False
        self._meta_fd = open_meta(path, write=False)
        try:
            self._state = self._load()
        except BaseException:
            files.close(self._meta_fd)
            raise

    def _load(self) -> _State:
        """Reads the log anew. What looks damaged counts only when no writer changed the log, or
        came, while it was read."""
        for _ in range(_ATTEMPTS):
            live = files.is_locked(self._meta_fd)
            before = self._read_meta()
            try:
                opened = read_log(self.path, self._meta_fd, live=live)
                if opened is None:
                    raise NotALogError(self.path, "its making was cut short; it holds nothing")
                return self._settled(self._of(opened, live), opened.watermark)
            except LogAccessError:
                raise
            except (CorruptLogError, FileNotFoundError) as error:
                came = files.is_locked(self._meta_fd) and not live
                if came or self._read_meta() != before:
                    continue
                if isinstance(error, CorruptLogError):
                    raise
                raise access_error(error, self.path, "cannot read") from error
            except OSError as error:
                raise access_error(error, self.path, "cannot read") from error
        busy = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), self.path)
        raise access_error(busy, self.path, "it changes faster than it can be read:")

    def _read_meta(self) -> Meta | None:
        try:
            return read_meta(self._meta_fd, os.path.join(self.path, META_NAME))
        except OSError as error:
            raise access_error(error, self.path, "cannot read") from error

    def _of(self, opened: Opened, live: bool) -> _State:
        tail = opened.tail
        running = live or files.is_locked(self._meta_fd)
        return _State(
            meta=opened.meta,
            layout=opened.layout,
            writer_running=running,
            # Beside a running writer it is an entry on its way, not a torn one.
            cut=None if running else tail.cut,
            scanned_lsn=opened.last_lsn,
            scanned_at=tail.end_at,
            scanned_term=tail.last_term,
            index=SegmentIndex(opened.layout.segments[-1].first_lsn, tail.index, tail.end_at),
            durable_lsn=0,
            committed_lsn=read_commit_mark(self._meta_fd, opened.meta.log_id),
        )

    def _settled(self, state: _State, mark: Watermark | None) -> _State:
        """Decides how far may be read; `mark` was read before the records."""
        current = mark is not None and mark.epoch == state.meta.epoch
        durable_lsn = state.durable_lsn
        if mark and current:
            durable_lsn = max(durable_lsn, min(mark.durable_lsn, state.scanned_lsn))
        if durable_lsn == state.scanned_lsn == state.durable_lsn:
            return state
        if durable_lsn == state.scanned_lsn:
            return replace(state, durable_lsn=durable_lsn)
        running = files.is_locked(self._meta_fd)
        if running and mark and current and mark.level == lib.WALCORE_LEVEL_DURABLE:
            # The writer publishes the rest as soon as it is durable.
            return replace(state, durable_lsn=durable_lsn)
        segment = state.layout.segments[-1]
        with self.cache.open(segment) as handle:
            try:
                files.sync_data(handle.fd, segment.path)
            except OSError as error:
                if error.errno not in (errno.EROFS, errno.EINVAL):
                    raise access_error(error, self.path, "cannot sync") from error
        return replace(state, durable_lsn=state.scanned_lsn)

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """One look at a time, and none through the descriptor of a log that was closed: its number
        may be that of another file by now."""
        with self._lock:
            if self._closed:
                raise ClosedLogError(f"{self.path} is closed")
            yield

    def refresh(self) -> None:
        """Looks for what was appended, or changed, since."""
        with self._looking():
            self._state = self._next()

    def _next(self) -> _State:
        state, meta = self._state, self._read_meta()
        if meta is None or meta.generation != state.meta.generation:
            return self._load()
        try:
            mark = read_watermark(self._meta_fd, state.meta.log_id)
            state = self._scanned(self._committed(state))
        except FileNotFoundError:  # the last segment was truncated away just now
            return self._load()
        except OSError as error:
            raise access_error(error, self.path, "cannot read") from error
        if mark and mark.epoch == state.meta.epoch and mark.durable_lsn > state.scanned_lsn:
            # What was scanned last time was taken back for lack of space, and written over.
            return self._load()
        return self._settled(state, mark)

    def _committed(self, state: _State) -> _State:
        """With what is committed by now, in a replicated log."""
        committed_lsn = read_commit_mark(self._meta_fd, state.meta.log_id)
        if committed_lsn is not None:
            committed_lsn = max(committed_lsn, state.committed_lsn or 0)
        if committed_lsn == state.committed_lsn:
            return state
        return replace(state, committed_lsn=committed_lsn)

    def _scanned(self, state: _State) -> _State:
        """With what the last segment has by now."""
        segment = state.layout.segments[-1]
        header = segment.header
        scanner = Scanner(header.seed, state.scanned_lsn + 1, state.scanned_term)
        found = scanner.state
        with self.cache.open(segment) as handle:
            at = verify_range(handle.fd, scanner, state.scanned_at, header.limit_at, mapped=False)
        if found.next_lsn == state.scanned_lsn + 1:
            return state
        return replace(
            state,
            scanned_lsn=(found.batch_lsn or found.next_lsn) - 1,
            scanned_at=found.batch_at or at,
            scanned_term=found.batch_term if found.batch_lsn else found.term,
        )

    # ---- what was found ----

    @property
    def meta(self) -> Meta:
        """What was true of the whole log."""
        return self._state.meta

    @property
    def layout(self) -> Layout:
        """Its files."""
        return self._state.layout

    @property
    def writer_running(self) -> bool:
        """Whether a writer had it open."""
        return self._state.writer_running

    @property
    def cut(self) -> Cut | None:
        """Its torn tail."""
        return self._state.cut

    # ---- what reading needs (reading.View) ----

    def segments(self) -> tuple[Segment, ...]:
        """The chain as it was at the last refresh."""
        return self._state.layout.segments

    def generation(self) -> int:
        """Changes whenever the writer changes more than the last segment."""
        return self._state.meta.generation

    def segments_in(self, generation: int) -> tuple[Segment, ...] | None:
        """The chain as it was at the last refresh, unless that generation is over."""
        state = self._state
        return state.layout.segments if state.meta.generation == generation else None

    def bounds(self) -> tuple[int, int]:
        """First lsn, and the last that is durable."""
        return _bounds_of(self._state)

    def readable(self) -> tuple[int, int]:
        """First lsn, and the last that readers may be shown."""
        state = self._state
        first_lsn, last_lsn = _bounds_of(state)
        if state.committed_lsn is None:
            return first_lsn, last_lsn
        return first_lsn, max(min(last_lsn, state.committed_lsn), first_lsn - 1)

    def locate_in_tail(self, segment: Segment, lsn: int) -> Place:
        """Where to look in the last segment."""
        state = self._state
        if segment is not state.layout.segments[-1]:
            return Place(segment.first_lsn, RECORDS_AT, RECORDS_AT)
        place = state.index.find(lsn)
        return Place(place.lsn, place.at, max(place.to_at, state.scanned_at))

    def explain(self, error: CorruptLogError) -> Exception:
        """A segment that was truncated away and reused under the reader is not damage."""
        with self._looking():
            state = self._state = self._load()
        return explain_in(state.layout.segments, _bounds_of(state), error)

    def close(self) -> None:
        """Lets go of the log."""
        with self._lock:
            self._closed = True
            self.cache.close()
            files.close(self._meta_fd)


def _bounds_of(state: _State) -> tuple[int, int]:
    first_lsn = state.meta.first_lsn
    return first_lsn, max(state.durable_lsn, first_lsn - 1)
