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
from walstore.wal.recovery import Cut, cut_index
from walstore.wal.scan import verify_range
from walstore.wal.segment import RECORDS_AT, index_pairs_max

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
    last_lsn: int  # all up to here is durable, and has its place in the index
    last_term: int  # or a lower one
    end_at: int
    index: SegmentIndex
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
                return self._of(opened, live)
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
        tail, mark = opened.tail, opened.watermark
        running = live or files.is_locked(self._meta_fd)
        segment = opened.layout.segments[-1]
        state = _State(
            meta=opened.meta,
            layout=opened.layout,
            writer_running=running,
            # Beside a running writer it is an entry on its way, not a torn one.
            cut=None if running else tail.cut,
            last_lsn=opened.last_lsn,
            last_term=tail.last_term,
            end_at=tail.end_at,
            index=SegmentIndex(segment.first_lsn, tail.index, tail.end_at),
            committed_lsn=read_commit_mark(self._meta_fd, opened.meta.log_id),
        )
        synced_lsn = _synced_lsn(opened.meta, mark)
        if synced_lsn >= state.last_lsn:
            return state
        if not self._is_awaited(opened.meta, mark):
            self._sync(state)
            return state
        # Entries on their way may be taken back, and others come to lie where they were: it is
        # scanned anew from the last place that will stay.
        pairs = cut_index(tail.index, synced_lsn + 1 - segment.first_lsn)
        place = SegmentIndex(segment.first_lsn, pairs, RECORDS_AT).find(synced_lsn)
        before = replace(
            state,
            last_lsn=place.lsn - 1,
            last_term=segment.header.prev_term,
            end_at=place.at,
            index=SegmentIndex(segment.first_lsn, pairs, place.at),
        )
        return self._scanned(before, synced_lsn)

    def _is_awaited(self, meta: Meta, mark: Watermark | None) -> bool:
        """Whether a writer publishes what it has written as soon as that is durable."""
        current = mark is not None and mark.epoch == meta.epoch
        durable = mark is not None and mark.level == lib.WALCORE_LEVEL_DURABLE
        return current and durable and files.is_locked(self._meta_fd)

    def _sync(self, state: _State) -> None:
        segment = state.layout.segments[-1]
        with self.cache.open(segment) as handle:
            try:
                files.sync_data(handle.fd, segment.path)
            except OSError as error:
                if error.errno not in (errno.EROFS, errno.EINVAL):
                    raise access_error(error, self.path, "cannot sync") from error

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
            mark = read_watermark(self._meta_fd, meta.log_id)
            known_lsn = max(state.last_lsn, _synced_lsn(meta, mark))
            state = self._committed(state)
            if not self._is_awaited(meta, mark):
                state = self._scanned(state, None)
            elif known_lsn > state.last_lsn:
                state = self._scanned(state, known_lsn)
        except FileNotFoundError:  # the last segment was truncated away just now
            return self._load()
        except OSError as error:
            raise access_error(error, self.path, "cannot read") from error
        if state.last_lsn < known_lsn:
            # What was shown last time was taken back for lack of space, and written over.
            return self._load()
        if state.last_lsn > known_lsn:
            self._sync(state)
        return state

    def _committed(self, state: _State) -> _State:
        """With what is committed by now, in a replicated log."""
        committed_lsn = read_commit_mark(self._meta_fd, state.meta.log_id)
        if committed_lsn is not None:
            committed_lsn = max(committed_lsn, state.committed_lsn or 0)
        if committed_lsn == state.committed_lsn:
            return state
        return replace(state, committed_lsn=committed_lsn)

    def _scanned(self, state: _State, to_lsn: int | None) -> _State:
        """With what the last segment has by now, up to an entry that ends a batch."""
        segment = state.layout.segments[-1]
        header = segment.header
        scanner = Scanner(
            header.seed,
            state.last_lsn + 1,
            state.last_term,
            to_lsn,
            index_first_lsn=header.first_lsn,
            index_max=index_pairs_max(header.limit_at - state.end_at),
        )
        found = scanner.state
        with self.cache.open(segment) as handle:
            at = verify_range(handle.fd, scanner, state.end_at, header.limit_at, mapped=False)
        if found.next_lsn == state.last_lsn + 1:
            return state
        last_lsn = (found.batch_lsn or found.next_lsn) - 1
        end_at = found.batch_at or at
        pairs = cut_index(scanner.index_pairs(), last_lsn + 1 - header.first_lsn)
        return replace(
            state,
            last_lsn=last_lsn,
            last_term=found.batch_term if found.batch_lsn else found.term,
            end_at=end_at,
            index=state.index.extended(pairs, end_at),
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
        return state.index.find(lsn)

    def explain(self, error: CorruptLogError) -> Exception:
        """A segment that was truncated away and reused under the reader is not damage."""
        with self._looking():
            state = self._state = self._load()
        return explain_in(state.layout.segments, _bounds_of(state), error)

    def close(self) -> None:
        """Lets go of the log. Who is interrupted calls it again."""
        with self._lock:
            self._closed = True
            self.cache.close()
            fd, self._meta_fd = self._meta_fd, -1  # once: its number may be another file's next
            if fd >= 0:
                files.close(fd)


def _bounds_of(state: _State) -> tuple[int, int]:
    first_lsn = state.meta.first_lsn
    return first_lsn, max(state.last_lsn, first_lsn - 1)


def _synced_lsn(meta: Meta, mark: Watermark | None) -> int:
    """How far the writer is known to have synced the log, in its present history."""
    return mark.durable_lsn if mark and mark.epoch == meta.epoch else 0
