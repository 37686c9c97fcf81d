"""The reading side of a log that another process may be writing (read_only=True).

It sees what a recovery would keep, and of a log with a running writer only what that writer has
published as durable. Where the writer's policy leaves entries un-synced, the reader syncs the
file itself before it shows them.
"""

from __future__ import annotations

import errno
import os
import threading

from walstore._native import lib
from walstore.errors import CorruptLogError, LogAccessError, NotALogError
from walstore.wal import files
from walstore.wal.layout import Segment
from walstore.wal.meta import META_NAME, Meta, Watermark, read_meta, read_watermark
from walstore.wal.opening import Opened, access_error, open_meta, read_log
from walstore.wal.reading import Place, SegmentCache, SegmentIndex, explain_in
from walstore.wal.record import Scanner
from walstore.wal.recovery import Cut
from walstore.wal.scan import verify_range
from walstore.wal.segment import RECORDS_AT

__all__ = ["LogFollower"]

_ATTEMPTS = 8


class LogFollower:
    """A log opened to read.

    Args:
        path: the log's directory.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.cache = SegmentCache()
        self._lock = threading.Lock()
        self._meta_fd = open_meta(path, write=False)
        try:
            self._load()
        except BaseException:
            files.close(self._meta_fd)
            raise

    def _load(self) -> None:
        """Reads the log anew. What looks damaged counts only when no writer changed the log, or
        came, while it was read."""
        for _ in range(_ATTEMPTS):
            live = files.is_locked(self._meta_fd)
            before = self._read_meta()
            try:
                opened = read_log(self.path, self._meta_fd, live=live)
                if opened is None:
                    raise NotALogError(self.path, "its making was cut short; it holds nothing")
                self._take(opened, live)
                return
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

    def _take(self, opened: Opened, live: bool) -> None:
        tail, segment = opened.tail, opened.layout.segments[-1]
        self.meta: Meta = opened.meta
        self.layout = opened.layout
        self.writer_running = live or files.is_locked(self._meta_fd)
        # Beside a running writer it is an entry on its way, not a torn one.
        self.cut: Cut | None = None if self.writer_running else tail.cut
        self._scanned_lsn = opened.last_lsn
        self._scanned_at = tail.end_at
        self._scanned_term = tail.last_term
        self._index = SegmentIndex(segment.first_lsn, tail.index, tail.end_at)
        self._durable_lsn = 0
        self._settle(opened.watermark)

    def _settle(self, mark: Watermark | None) -> None:
        """Decides how far may be read; `mark` was read before the records."""
        current = mark is not None and mark.epoch == self.meta.epoch
        if mark and current:
            self._durable_lsn = max(self._durable_lsn, min(mark.durable_lsn, self._scanned_lsn))
        if self._durable_lsn == self._scanned_lsn:
            return
        running = files.is_locked(self._meta_fd)
        if running and mark and current and mark.level == lib.WALCORE_LEVEL_DURABLE:
            return  # the writer publishes the rest as soon as it is durable
        target = self._scanned_lsn
        with self.cache.open(self.layout.segments[-1]) as handle:
            try:
                files.sync_data(handle.fd, self.layout.segments[-1].path)
            except OSError as error:
                if error.errno not in (errno.EROFS, errno.EINVAL):
                    raise access_error(error, self.path, "cannot sync") from error
        self._durable_lsn = target

    def refresh(self) -> None:
        """Looks for what was appended, or changed, since."""
        with self._lock:
            meta = self._read_meta()
            if meta is None or meta.generation != self.meta.generation:
                self._load()
                return
            try:
                mark = read_watermark(self._meta_fd, self.meta.log_id)
                self._scan_on()
            except FileNotFoundError:  # the last segment was truncated away just now
                self._load()
                return
            except OSError as error:
                raise access_error(error, self.path, "cannot read") from error
            if mark and mark.epoch == self.meta.epoch and mark.durable_lsn > self._scanned_lsn:
                # What was scanned last time was taken back for lack of space, and written over.
                self._load()
            else:
                self._settle(mark)

    def _scan_on(self) -> None:
        segment = self.layout.segments[-1]
        header = segment.header
        scanner = Scanner(header.seed, self._scanned_lsn + 1, self._scanned_term)
        state = scanner.state
        with self.cache.open(segment) as handle:
            at = verify_range(handle.fd, scanner, self._scanned_at, header.limit_at, mapped=False)
        whole_to = state.batch_lsn or state.next_lsn
        self._scanned_lsn = whole_to - 1
        self._scanned_at = state.batch_at or at
        self._scanned_term = state.batch_term if state.batch_lsn else state.term

    # ---- what reading needs (reading.View) ----

    def segments(self) -> tuple[Segment, ...]:
        """The chain as it was at the last refresh."""
        return self.layout.segments

    def generation(self) -> int:
        """Changes whenever the writer changes more than the last segment."""
        with self._lock:  # not while another thread is taking a new one over, bounds and all
            return self.meta.generation

    def segments_in(self, generation: int) -> tuple[Segment, ...] | None:
        """The chain as it was at the last refresh, unless that generation is over."""
        with self._lock:
            return self.layout.segments if self.meta.generation == generation else None

    def bounds(self) -> tuple[int, int]:
        """First lsn, and the last that may be read."""
        return self.meta.first_lsn, max(self._durable_lsn, self.meta.first_lsn - 1)

    def locate_in_tail(self, segment: Segment, lsn: int) -> Place:
        """Where to look in the last segment."""
        if segment is not self.layout.segments[-1]:
            return Place(segment.first_lsn, RECORDS_AT, RECORDS_AT)
        place = self._index.find(lsn)
        return Place(place.lsn, place.at, max(place.to_at, self._scanned_at))

    def explain(self, error: CorruptLogError) -> Exception:
        """A segment that was truncated away and reused under the reader is not damage."""
        with self._lock:
            self._load()
            return explain_in(self.layout.segments, self.bounds(), error)

    def close(self) -> None:
        """Lets go of the log."""
        with self._lock:
            self.cache.close()
            files.close(self._meta_fd)
