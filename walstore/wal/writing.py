"""The writing side of an open log: its segments, and every change to them.

`meta` is the point of commitment of each change: a roll, a truncation, a term, a close. What a
change needs is made durable before, what it no longer needs is removed after.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from walstore._native import ffi, lib
from walstore.errors import (
    ClosedLogError,
    CorruptLogError,
    LogAccessError,
    LogFullError,
    LogPoisonedError,
    LSNOutOfRangeError,
    OptionError,
    RefusedRecordsError,
    WALStoreError,
)
from walstore.limits import LSN_MAX
from walstore.wal import files
from walstore.wal.commit import GroupCommit
from walstore.wal.diverged import keep_aside, remove_unfinished
from walstore.wal.housekeeper import Housekeeper
from walstore.wal.layout import Segment
from walstore.wal.meta import (
    COMMIT_MARK_AT,
    META_NAME,
    WATERMARK_AT,
    Meta,
    read_commit_mark,
    watermark_seed,
    write_copy,
)
from walstore.wal.opening import (
    Opened,
    Start,
    create_log,
    mark_open,
    open_meta,
    read_log,
    recover_tail,
)
from walstore.wal.reading import Place, SegmentCache, explain_in, find_segment, read_entry
from walstore.wal.records import Records, check_records
from walstore.wal.recovery import cut_index
from walstore.wal.segment import RECORDS_AT, SegmentHeader, limit_for, new_salt
from walstore.wal.space import activate, seal_segment
from walstore.wal.spares import Spares

__all__ = ["LogWriter", "Replicated"]

logger = logging.getLogger("walstore")

_NO_SPACE = files.NO_SPACE
_PREFER_NS = 100_000_000
"""How long smaller entries wait for the large one that a segment was made for."""
_NO_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def _checked_term(term: int) -> int:
    """A term that a log can be opened with again."""
    if term > LSN_MAX:
        raise OptionError(f"a term is at most {LSN_MAX}, not {term}")
    return term


def _one_more(term: int) -> int:
    return term + 1


@dataclass(frozen=True, slots=True)
class Replicated:
    """What is different in a log that several nodes hold. Its readers are shown what is durable
    and committed, and nothing is committed until `set_committed` says so.

    Attributes:
        log_id: of a log that is made now; by default a random one.
        next_term: the term to begin after this one; higher.
    """

    log_id: bytes | None = None
    next_term: Callable[[int], int] = field(default=_one_more)


class LogWriter:
    """Owns an open log's metadata, segments, spare file and C writer.

    Args:
        path: the log's directory.
        meta_fd: its `meta`, locked.
        opened: what reading it gave.
        durable, interval_ns: the sync policy, see GroupCommit.
        segment_bytes: record area of new segments.
        clock, entropy: wall clock in ns, and random bytes.
        replicated: None for a log of one node.
    """

    def __init__(
        self,
        path: str,
        meta_fd: int,
        opened: Opened,
        *,
        durable: bool,
        interval_ns: int,
        segment_bytes: int,
        clock: Callable[[], int],
        entropy: Callable[[int], bytes],
        replicated: Replicated | None = None,
    ) -> None:
        self.path = path
        self.cache = SegmentCache()
        self._meta_fd = meta_fd
        self._segment_bytes = segment_bytes
        self._limit_at = limit_for(segment_bytes)
        self._clock = clock
        self._entropy = entropy
        self._replicated = replicated
        self._changes = threading.RLock()  # one change of segments or metadata at a time
        # For what the housekeeper changes and readers look at too; a signal's handler may look amid
        # a look, or a change, of the thread that it comes into.
        self._lock = threading.RLock()
        self._closed = False
        self.released = False  # whether `close` got as far as giving the log away
        fd, opened, _ = recover_tail(path, meta_fd, opened, clock(), entropy)
        self._segments = opened.layout.segments
        self._next_id = opened.layout.segment_id_max + 1
        self._fds = [fd]  # the last segment's is the last
        try:
            self._start(opened, durable, interval_ns)
        except BaseException:
            files.close(fd)
            raise
        for segment, index in opened.unsealed:
            self._seal_later(segment, index)

    def _start(self, opened: Opened, durable: bool, interval_ns: int) -> None:
        committed_lsn = self._committed_at_open(opened)
        replicated = self._replicated is not None
        self.meta = mark_open(self._meta_fd, self.path, opened, replicated=replicated)
        remove_unfinished(self.path, opened.layout.strays)
        self._spares = Spares(self.path, self._limit_at, opened.layout)
        self._housekeeper = Housekeeper(self._on_background_error)
        self.group = GroupCommit(
            self.path,
            durable=durable,
            interval_ns=interval_ns,
            watermark_fd=self._meta_fd,
            watermark_at=WATERMARK_AT,
            watermark_seed=watermark_seed(self.meta.log_id),
            first_lsn=lambda: self.meta.first_lsn,
            committed_lsn=committed_lsn,
            mark_at=COMMIT_MARK_AT,
        )
        tail = opened.tail
        self._asked = False
        self._attach(tail.next_lsn, tail.last_term, tail.end_at, tail.index, zeroed=False)
        self.group.start()
        self.group.thaw()

    def _committed_at_open(self, opened: Opened) -> int | None:
        """How far a replicated log is known to be committed."""
        if self._replicated is None:
            return None
        mark = read_commit_mark(self._meta_fd, opened.meta.log_id) or 0
        return max(min(mark, opened.last_lsn), opened.meta.first_lsn - 1)

    # ---- what reading needs (reading.View) ----

    def segments(self) -> tuple[Segment, ...]:
        """The chain as it is now; never changed in place."""
        return self._segments

    def generation(self) -> int:
        """Changes whenever entries leave the log's end."""
        return lib.walcore_generation(self.group.raw)

    def segments_in(self, generation: int) -> tuple[Segment, ...] | None:
        """The chain as it is now, unless that generation is over."""
        with self._lock:
            return self._segments if self.generation() == generation else None

    def bounds(self) -> tuple[int, int]:
        """First and last lsn."""
        with self._lock:
            return self._bounds()

    def _bounds(self) -> tuple[int, int]:
        return self.meta.first_lsn, lib.walcore_last_lsn(self.group.raw)

    def readable(self) -> tuple[int, int]:
        """First lsn, and the last that readers may be shown: those of `bounds`, which are durable
        once somebody waits for it, or in a replicated log what is committed."""
        if self._replicated is None:
            return self.bounds()
        with self._lock:
            first_lsn = self.meta.first_lsn
            return first_lsn, max(lib.walcore_visible_lsn(self.group.raw), first_lsn - 1)

    def locate_in_tail(self, segment: Segment, lsn: int) -> Place:
        """Where to look in the segment that is written to."""
        with self._lock:
            found = self.group.locate(lsn) if segment is self._segments[-1] else None
        if found is None:
            # The log rolled since the reader took its segments: scan from the start.
            return Place(segment.first_lsn, RECORDS_AT, RECORDS_AT)
        return Place(*found)

    def explain(self, error: CorruptLogError) -> Exception:
        """Records that were truncated away under a reader may be overwritten: no damage."""
        with self._lock:
            return explain_in(self._segments, self._bounds(), error)

    # ---- metadata ----

    def _write_meta(self, meta: Meta) -> Meta:
        """Commits a change: durable in one copy, then in the other. Returns what is in force from
        then on: the caller shows it to readers together with the rest of the change, and does all
        this inside `_all_or_poisoned`.

        Raises:
            LogFullError: no space, and nothing changed.
        """
        meta = meta.next()
        fd, path = self._meta_fd, os.path.join(self.path, META_NAME)
        try:
            write_copy(fd, meta, path, 0)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            # Enough of it may have been written to count.
            self.meta = self.meta.next()
            write_copy(fd, self.meta, path, 0)
            files.sync_data(fd, path)
            raise LogFullError(error.errno, self.path) from error
        files.sync_data(fd, path)
        meta = meta.next()
        try:
            write_copy(fd, meta, path, 1)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            # There is no way back: one copy holds the change. Space may have been freed.
            write_copy(fd, meta, path, 1)
        files.sync_data(fd, path)
        return meta

    @contextmanager
    def _all_or_poisoned(self) -> Iterator[None]:
        """What is interrupted in here, by a signal too, may have happened or not: nothing more is
        accepted until the log is read anew. A LogFullError says that it has not happened."""
        try:
            yield
        except LogFullError:
            raise
        except OSError as error:
            raise self._poison(error) from error
        except BaseException:
            self.group.poison(errno.EINTR)
            raise

    def _poison(self, error: OSError) -> LogPoisonedError:
        code = error.errno or errno.EIO
        self.group.poison(code)
        return LogPoisonedError(code, self.path)

    def _fail(self, error: OSError) -> Exception:
        """What an error inside a change means: no space leaves the log as it was, anything
        else latches it shut."""
        if isinstance(error, WALStoreError):
            return error
        if error.errno in _NO_SPACE:
            return LogFullError(error.errno, self.path)
        if error.errno in _NO_RESOURCES:
            return LogAccessError(error.errno, self.path, "cannot change")
        return self._poison(error)

    def _on_background_error(self, error: OSError) -> None:
        logger.error("%s: background work failed: %s", self.path, error)
        if error.errno not in _NO_SPACE | _NO_RESOURCES:
            self._poison(error)

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _ask_for_spare(self) -> None:
        """Has the housekeeper prepare a spare, and lets the writer use the whole segment."""
        if not self._asked:
            self._asked = True
            limit_at = self._segments[-1].header.limit_at
            lib.walcore_writer_set_limit(self.group.raw, limit_at)
            self._housekeeper.add(self._spares.prepare)

    # ---- segments ----

    def _attach(
        self, next_lsn: int, last_term: int, tail_at: int, index: bytes, *, zeroed: bool
    ) -> None:
        """Points the C writer at the last segment. Until that is half full it is told a limit
        of half, so that it asks, and a spare is prepared in time."""
        meta, header = self.meta, self._segments[-1].header
        self.group.attach(
            self._fds[-1], header, next_lsn, meta.term, last_term, meta.epoch, tail_at, zeroed
        )
        self.group.load_index(index)
        half_at = RECORDS_AT + (header.limit_at - RECORDS_AT) // 2
        self._asked = self._spares.ready or tail_at > half_at
        if not self._asked:
            lib.walcore_writer_set_limit(self.group.raw, half_at)

    def _add_segment(self, first_lsn: int, limit_at: int, meta: Meta, *, restart: bool) -> None:
        """Makes a segment that starts with `first_lsn`, commits it as the log's last together
        with `meta`, and points the writer at it. Segments that start later leave the chain;
        `restart`: all of them."""
        kept = [segment for segment in self._segments if segment.first_lsn < first_lsn]
        if first_lsn == meta.first_lsn:
            kept = []
        before_lsn = first_lsn - 1
        prev_term = meta.prev_term if before_lsn < meta.first_lsn else self.term_of(before_lsn)
        header = SegmentHeader(
            log_id=meta.log_id,
            segment_id=self._take_id(),
            prev_segment_id=kept[-1].header.segment_id if kept else 0,
            first_lsn=first_lsn,
            term=meta.term,
            prev_term=prev_term,
            created_ns=self._clock(),
            limit_at=limit_at,
            salt=new_salt(self._entropy),
        )
        spare = self._spares.take(limit_at)
        try:
            segment, fd = activate(self.path, spare.path, header)
        except BaseException:
            self._spares.give_back(spare)
            raise
        if kept:
            kept[-1] = replace(kept[-1], last_lsn=first_lsn - 1)
        self._fds.append(fd)
        try:
            with self._all_or_poisoned():
                meta = self._write_meta(replace(meta, tail_segment_id=header.segment_id))
                with self._lock:  # a reader must see all of it or nothing
                    self.meta = meta
                    self._segments = (*kept, segment)
                    if restart:
                        self.group.restart(first_lsn, watermark_seed(meta.log_id))
                    self._attach(first_lsn, header.prev_term, RECORDS_AT, b"", zeroed=spare.zeroed)
        except LogFullError:  # it has not become part of the log
            files.close(self._fds.pop())
            files.remove(segment.path)
            raise
        files.close(self._fds.pop(0))

    def term_of(self, lsn: int) -> int:
        """The term of an entry, or of the one before the log's first."""
        if lsn >= self.meta.first_lsn:
            try:
                return read_entry(self, self._segments, lsn).term
            except LSNOutOfRangeError:
                if lsn >= self.meta.first_lsn:
                    raise  # or else another thread has truncated it meanwhile
        return self.meta.prev_term

    def _seal_later(self, segment: Segment, index: bytes) -> None:
        """Has the housekeeper seal a segment that another one follows now."""

        def job() -> None:
            try:
                sealed = seal_segment(segment, index)
            except CorruptLogError as error:
                logger.error("%s: not sealed: %s", self.path, error)
                return
            with self._lock:
                self._segments = tuple(
                    sealed if other is segment else other for other in self._segments
                )

        self._housekeeper.add(job)

    def _drop(self, dropped: list[Segment]) -> None:
        """Recycles or removes segments that left the chain. The change is committed: what
        cannot be removed now is removed at the next open."""
        try:
            for segment in dropped:
                if self.cache.forget(segment):
                    self._spares.recycle(segment)
                else:
                    files.remove(segment.path)
            if dropped:
                files.sync_directory(self.path)
        except OSError as error:
            logger.warning("%s: truncated segments are left to be removed: %s", self.path, error)

    # ---- changes ----

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One change at a time, and none to a log that is closed or latched shut."""
        with self._changes:
            if self._closed:
                raise ClosedLogError(f"{self.path} is closed")
            if self.group.status().poisoned:
                raise self.group.error(lib.WALCORE_POISONED)
            yield

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        """Keeps appends out while the segments change."""
        # At most one segment besides the last is ever without a seal, and none is being sealed
        # while a truncation cuts it.
        self._housekeeper.wait_idle()
        try:
            self.group.freeze()
            yield
        except OSError as error:
            raise self._fail(error) from error
        finally:  # also when interrupted while it froze; a failed freeze has been undone already
            self.group.thaw()

    def roll(self, need_bytes: int) -> None:
        """Makes room for a record, or batch, of `need_bytes` after the writer said ROLL. The
        caller tries again; it may be told ROLL again when others were faster.

        Raises:
            LogFullError: no space for another segment; the log is as it was.
            LogPoisonedError
        """
        with self._changing():
            tail = self._segments[-1]
            if not self._asked:
                self._ask_for_spare()
                return
            if self.group.status().tail_at + need_bytes <= tail.header.limit_at:
                return  # another thread was faster
            with self._frozen():
                next_lsn = lib.walcore_last_lsn(self.group.raw) + 1
                limit_at = limit_for(self._segment_bytes, need_bytes)
                self._replace_tail(next_lsn, limit_at, self.meta)
                if limit_at > self._limit_at:
                    lib.walcore_writer_prefer(self.group.raw, need_bytes, _PREFER_NS)

    def _replace_tail(
        self, first_lsn: int, limit_at: int, meta: Meta, *, restart: bool = False
    ) -> None:
        """Begins a new last segment with `first_lsn`; then seals the one before it, and drops
        those that are not part of the log any more."""
        index = self.group.index()
        before = self._segments
        self._add_segment(first_lsn, limit_at, meta, restart=restart)
        kept = {segment.header.segment_id for segment in self._segments}
        self._drop([segment for segment in before if segment.header.segment_id not in kept])
        # A log that fills one segment will fill another: the next file first.
        self._ask_for_spare()
        if before[-1].header.segment_id in kept:
            tail = self._segments[-2]
            self._seal_later(tail, cut_index(index, first_lsn - tail.first_lsn))

    def _next_term(self) -> int:
        term = self.meta.term
        following = self._replicated.next_term(term) if self._replicated else term + 1
        if following <= term:
            raise OptionError(f"the term after {term} cannot be {following}")
        return _checked_term(following)

    def begin_term(self) -> int:
        """Begins a new term; durable at return."""
        with self._changing():
            self._set_term(self._next_term())
            return self.meta.term

    def adopt_term(self, term: int) -> None:
        """Makes another node's term durable before its entries are; a lower one changes nothing."""
        if _checked_term(term) <= self.meta.term:
            return
        with self._changing():
            self._set_term(max(term, self.meta.term))

    def _set_term(self, term: int) -> None:
        try:
            with self._all_or_poisoned():
                self.meta = self._write_meta(replace(self.meta, term=term))
        except OSError as error:
            raise self._fail(error) from error
        lib.walcore_writer_set_term(self.group.raw, term)

    def truncate_before(self, lsn: int) -> None:
        """Drops entries before `lsn`; durable at return."""
        with self._changing():
            first_lsn, last_lsn = self.bounds()
            if not 1 <= lsn <= last_lsn + 1:
                raise LSNOutOfRangeError(lsn, first_lsn, last_lsn)
            if lsn <= first_lsn:
                return
            self.group.wait(self.generation(), lsn - 1, lib.WALCORE_LEVEL_DURABLE, None)
            self._housekeeper.wait_idle()
            try:
                meta = replace(self.meta, first_lsn=lsn, prev_term=self.term_of(lsn - 1))
                with self._all_or_poisoned():
                    meta = self._write_meta(meta)
                    with self._lock:  # as in `_add_segment`
                        self.meta = meta
                        first = find_segment(self._segments, lsn)
                        dropped, self._segments = self._segments[:first], self._segments[first:]
            except OSError as error:
                raise self._fail(error) from error
            self._drop(list(dropped))

    def truncate_after(self, lsn: int) -> None:
        """Drops entries after `lsn` and begins a new term; durable at return."""
        with self._changing(), self._frozen():
            first_lsn, last_lsn = self.bounds()
            if not first_lsn - 1 <= lsn <= last_lsn:
                raise LSNOutOfRangeError(lsn, first_lsn, last_lsn)
            if lsn == last_lsn:
                self.begin_term()
                return
            meta = replace(self.meta, term=self._next_term(), epoch=self.meta.epoch + 1)
            self._replace_tail(lsn + 1, self._limit_at, meta)

    # ---- replication ----

    def submit_records(self, records: Records) -> int:
        """Appends whole batches of another log, which keep lsn, term, timestamp, kind and bounds,
        and returns the last lsn without waiting for the disk. The caller is the only one to append.
        Should they find no space when they are written, `last_lsn` goes back and the generation
        changes: `group.wait` with the generation from before this call tells.

        Raises:
            RefusedRecordsError: they are damaged, do not follow the last entry, or are of a term
                beyond the log's; nothing was appended.
            LogFullError, LogPoisonedError, ClosedLogError: some of them may have been appended.
        """
        check_records(records)
        raw = self.group.raw
        generation = lib.walcore_generation(raw)
        taken, need = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        with ffi.from_buffer("uint8_t[]", records.data) as view:
            at = 0
            while True:
                rc: int = lib.walcore_submit_records(raw, view + at, len(view) - at, taken, need)
                at += taken[0]
                if rc > 0:
                    return rc
                if rc == lib.WALCORE_ROLL:
                    self.roll(need[0])
                    continue
                if rc != lib.WALCORE_REFUSED:
                    raise self.group.error(rc)
                fate = lib.walcore_fate_of(raw, generation, records.last_lsn)
                if fate:  # those before were refused for lack of space
                    raise self.group.error(fate, records.last_lsn)
                last_lsn = lib.walcore_last_lsn(raw)
                reason = f"they do not follow entry {last_lsn} in term {self.meta.term}"
                raise RefusedRecordsError(records.first_lsn, reason)

    def set_committed(self, lsn: int) -> None:
        """Entries up to `lsn` are committed; it never goes back."""
        assert self._replicated is not None
        lib.walcore_set_committed(self.group.raw, lsn)

    def cut_diverged(self, after_lsn: int, term: int) -> str:
        """Keeps the entries after `after_lsn` as a log of its own, then drops them here and adopts
        `term` in one change; durable at return. Returns the kept log's path.

        Raises:
            OptionError: `term` is lower than the log's, or entries to be cut are committed.
            LSNOutOfRangeError: there are none to be cut.
            LogFullError: no space to keep them, or for the change; nothing changed here.
            LogPoisonedError, ClosedLogError
        """
        with self._changing(), self._frozen():
            first_lsn, last_lsn = self.bounds()
            if not first_lsn - 1 <= after_lsn < last_lsn:
                raise LSNOutOfRangeError(after_lsn, first_lsn, last_lsn)
            if _checked_term(term) < self.meta.term:
                raise OptionError(f"the term is {self.meta.term} and cannot become {term}")
            committed_lsn = lib.walcore_committed_lsn(self.group.raw)
            if self._replicated and after_lsn < committed_lsn:
                raise OptionError(f"entries up to {committed_lsn} are committed")
            kept = keep_aside(self, after_lsn + 1, last_lsn, self._make_branch)
            meta = replace(self.meta, term=term, epoch=self.meta.epoch + 1)
            self._replace_tail(after_lsn + 1, self._limit_at, meta)
            return kept

    def _make_branch(self, path: str, start: Start, segment_bytes: int) -> LogWriter:
        segment_bytes = min(segment_bytes, self._segment_bytes)
        meta_fd = open_meta(path, write=True)
        try:
            create_log(path, meta_fd, segment_bytes, self._clock(), self._entropy, start)
            opened = read_log(path, meta_fd)
            assert opened is not None
            return LogWriter(
                path,
                meta_fd,
                opened,
                durable=True,
                interval_ns=0,
                segment_bytes=segment_bytes,
                clock=self._clock,
                entropy=self._entropy,
            )
        except BaseException:
            files.close(meta_fd)
            raise

    def reset(self, first_lsn: int, prev_term: int, term: int, log_id: bytes | None) -> None:
        """Empties the log, which then begins at `first_lsn` behind an entry of `prev_term`, in one
        change; durable at return. In a replicated log everything before counts as committed.

        Raises:
            OptionError: the term is lower than the log's, or than `prev_term`, or no lsn.
            LogFullError: no space; nothing changed.
            LogPoisonedError, ClosedLogError
        """
        with self._changing(), self._frozen():
            if not 1 <= first_lsn <= LSN_MAX or not 0 <= prev_term <= term:
                raise OptionError(f"a log cannot begin at {first_lsn} after term {prev_term}")
            if _checked_term(term) < self.meta.term:
                raise OptionError(f"the term is {self.meta.term} and cannot become {term}")
            meta = replace(
                self.meta,
                log_id=log_id or self.meta.log_id,
                term=term,
                first_lsn=first_lsn,
                prev_term=prev_term,
                epoch=self.meta.epoch + 1,
            )
            self._replace_tail(first_lsn, self._limit_at, meta, restart=True)

    def abandon(self) -> None:
        """In a child made by fork: lets go of the descriptors, and so of the lock, which would
        otherwise outlive the parent."""
        self._closed = True
        self.group.abandon()
        for fd in (*self._fds, self._meta_fd):
            files.close(fd)

    def close(self) -> None:
        """Makes everything durable, marks the log as closed and lets go of it. Who is interrupted
        calls it again, until it is `released`.

        Raises:
            LogPoisonedError: what an un-synced policy had accepted could not be made durable.
        """
        # A thread that the interpreter has stopped at its end may be amid a change, for ever.
        if not self._changes.acquire(blocking=not sys.is_finalizing()):
            return
        try:
            self._housekeeper.stop()  # interrupted here, it holds the log still: it may be at work
            try:
                if not self._closed:
                    self._mark_closed()
            finally:
                self._closed = True
                self._release()
        finally:
            self._changes.release()

    def _mark_closed(self) -> None:
        status = self.group.status()
        if status.poisoned:
            if self.group.level == lib.WALCORE_LEVEL_WRITTEN and status.behind:
                raise self.group.error(lib.WALCORE_POISONED)
            return
        with self._frozen():
            last_lsn = lib.walcore_last_lsn(self.group.raw)
            with self._all_or_poisoned():
                self._write_meta(replace(self.meta, clean=True, clean_lsn=last_lsn))
            self.group.stop()  # before the thaw, which would let appends in again

    def _release(self) -> None:
        """The lock last: at the end of the interpreter, whose threads may be amid a write although
        they are stopped, by the system once they are gone. An interrupt may come anywhere in here:
        no descriptor is closed twice, since its number may be another file's by then."""
        self.group.stop()
        self.cache.close()
        while self._fds:
            files.close(self._fds.pop())
        if sys.is_finalizing():
            return
        files.unlock(self._meta_fd)
        self.released = True
        files.close(self._meta_fd)
