"""Group commit as Python sees it: the C writer, the Commit it hands out, and waking event loops.

The writer (writer.c) has its own flusher thread and wakes waiting threads itself. An event loop
is woken through a descriptor, once per group, by that same thread: no call into the interpreter,
and no thread hop per append.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import os
import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from walstore._native import ffi, lib
from walstore.errors import (
    ClosedLogError,
    CommitTimeoutError,
    EntryTruncatedError,
    LogFullError,
    LogPoisonedError,
    OptionError,
)
from walstore.wal.watch import LoopSlot

if TYPE_CHECKING:
    from walstore.wal.segment import SegmentHeader

__all__ = ["WAIT_SLICE_NS", "Commit", "GroupCommit", "Status", "forked_error"]

_FOREVER_S = 1e9
WAIT_SLICE_NS = 200_000_000
"""Longest uninterrupted wait in C, so that a signal (Ctrl-C) is served in time."""


def forked_error(path: str) -> ClosedLogError:
    """What a child made by fork is told of a log that its parent opened."""
    return ClosedLogError(f"{path} was opened by the parent process; open it anew in this one")


class Status:
    """A snapshot of the writer: counters since it was opened."""

    def __init__(self, raw: Any) -> None:
        self.last_lsn: int = raw.next_lsn - 1
        self.durable_lsn: int = raw.durable_lsn
        self.tail_at: int = raw.tail_at
        self.writes: int = raw.writes
        self.write_bytes: int = raw.write_bytes
        self.syncs: int = raw.syncs
        self.sync_ns: int = raw.sync_ns
        self.watermark_failures: int = raw.watermark_failures
        self.sync_histogram: tuple[int, ...] = tuple(raw.sync_histogram)
        self.behind: bool = raw.durable_lsn + 1 < raw.next_lsn
        self.poisoned: bool = raw.state == lib.WALCORE_POISONED
        self.stopped: bool = raw.state == lib.WALCORE_STOPPED
        self.error: int = raw.error


class GroupCommit:
    """Owns the C writer of one log.

    Args:
        path: of the log, for error texts.
        durable: whether an append waits for a sync (sync="always").
        interval_ns: sync this long after the first un-synced append; 0: never by the clock.
        watermark_fd, watermark_at, watermark_seed: where to publish the durable lsn.
        first_lsn: of the log, for errors.
        committed_lsn: of a replicated log, how far it is known to be committed; None: it is not
            replicated.
        mark_at: where to publish it, beside the watermark.
    """

    def __init__(
        self,
        path: str,
        *,
        durable: bool,
        interval_ns: int,
        watermark_fd: int,
        watermark_at: int,
        watermark_seed: int,
        first_lsn: Callable[[], int],
        committed_lsn: int | None,
        mark_at: int,
    ) -> None:
        self.path = path
        self._first_lsn = first_lsn
        self.level: int = lib.WALCORE_LEVEL_DURABLE if durable else lib.WALCORE_LEVEL_WRITTEN
        raw = lib.walcore_writer_new(
            self.level, interval_ns, watermark_fd, watermark_at, watermark_seed
        )
        if raw == ffi.NULL:
            raise MemoryError("no memory for the writer's buffers")
        if committed_lsn is not None:
            lib.walcore_writer_commits(raw, committed_lsn, mark_at)
            if durable:
                self.level = lib.WALCORE_LEVEL_COMMITTED
        self.raw: Any = ffi.gc(raw, lib.walcore_writer_free)
        # Read without a call: a call gives the interpreter away, and getting it back takes long
        # when another thread is busy.
        self.shared: Any = lib.walcore_shared_of(raw)
        self.generation = 0
        self._wakers: dict[asyncio.AbstractEventLoop, _LoopWaker] = {}
        self._wakers_lock = threading.Lock()  # loops of several threads
        self._stopped = False

    def start(self) -> None:
        """Starts the flusher thread."""
        rc = lib.walcore_writer_start(self.raw)
        if rc:
            raise OSError(-rc, f"cannot start the flusher thread: {os.strerror(-rc)}")

    def attach(
        self,
        fd: int,
        header: SegmentHeader,
        next_lsn: int,
        term: int,
        last_term: int,
        epoch: int,
        tail_at: int,
        zeroed: bool,
    ) -> None:
        """Points the writer at a segment; only while frozen. `zeroed`: all behind it is zero."""
        lib.walcore_writer_attach(
            self.raw,
            fd,
            header.seed,
            next_lsn,
            term,
            last_term,
            epoch,
            header.first_lsn,
            tail_at,
            header.limit_at,
            zeroed,
        )

    def load_index(self, pairs: bytes) -> None:
        """Gives the writer the index of records a recovery found; only while frozen."""
        if pairs:
            view = ffi.from_buffer("uint32_t[]", pairs)
            if lib.walcore_writer_index_load(self.raw, view, len(view) // 2):
                raise MemoryError("no memory for the segment's index")

    def index(self) -> bytes:
        """The index of the current segment; only while frozen."""
        count = lib.walcore_index_copy(self.raw, ffi.NULL, 0)
        pairs = ffi.new("uint32_t[]", 2 * count)
        lib.walcore_index_copy(self.raw, pairs, count)
        return bytes(ffi.buffer(pairs))

    def locate(self, lsn: int) -> tuple[int, int, int] | None:
        """Where to read for an lsn of the current segment: (lsn of the record there, from, to);
        None when it is not in this segment."""
        found = ffi.new("uint64_t[3]")
        if lib.walcore_locate(self.raw, lsn, found, found + 1, found + 2):
            return None
        return found[0], found[1], found[2]

    def error(self, rc: int, lsn: int = 0) -> Exception:
        """What a negative result of the writer means, for an entry."""
        if rc == lib.WALCORE_STOPPED:
            return ClosedLogError(f"{self.path} is closed")
        if rc == lib.WALCORE_NO_MEMORY:
            return MemoryError("no memory to stage the entry")
        status = self.status()
        if rc == lib.WALCORE_TRUNCATED:
            last_lsn = lib.walcore_last_lsn(self.raw)
            return EntryTruncatedError(lsn, self._first_lsn(), last_lsn)
        if rc == lib.WALCORE_FULL:
            return LogFullError(status.error, self.path)
        return LogPoisonedError(status.error, self.path)

    def refresh_generation(self) -> int:
        """Learns the generation after a refused group ended the one before."""
        self.generation = lib.walcore_generation(self.raw)
        return self.generation

    def wait(self, generation: int, lsn: int, level: int, timeout_s: float | None) -> None:
        """Waits for an lsn, taking part in the work.

        Raises:
            CommitTimeoutError, LogFullError, LogPoisonedError, EntryTruncatedError, ClosedLogError
            OptionError: `timeout_s` is not a number.
        """
        self.check_owner()
        if timeout_s is not None and math.isnan(timeout_s):
            raise OptionError("timeout_s is a number of seconds, not nan")
        # Longer than anyone waits is for ever.
        forever = timeout_s is None or timeout_s > _FOREVER_S
        left_ns = None if timeout_s is None or forever else max(0, int(timeout_s * 1e9))
        while True:
            slice_ns = WAIT_SLICE_NS if left_ns is None else min(left_ns, WAIT_SLICE_NS)
            rc = lib.walcore_wait(self.raw, generation, lsn, level, slice_ns)
            if rc == lib.WALCORE_OK:
                return
            if rc != lib.WALCORE_TIMEOUT:
                raise self.error(rc, lsn)
            if left_ns is not None:
                left_ns -= slice_ns
                if left_ns <= 0:
                    assert timeout_s is not None
                    raise CommitTimeoutError(lsn, timeout_s)

    def restart(self, next_lsn: int, watermark_seed: int) -> None:
        """Before `attach` of a segment that begins an emptied log; only while frozen."""
        if lib.walcore_writer_restart(self.raw, next_lsn, watermark_seed):
            raise MemoryError("no memory to end the log's generation")

    def freeze(self) -> None:
        """Keeps appends out and makes all staged entries durable. Undo with `thaw`."""
        rc = lib.walcore_freeze(self.raw)
        if rc:
            raise self.error(rc)

    def thaw(self) -> None:
        """Lets appends in again."""
        lib.walcore_thaw(self.raw)

    def poison(self, error: int) -> None:
        """Latches the log shut."""
        lib.walcore_poison(self.raw, error)

    def status(self) -> Status:
        """Counters and state."""
        raw = ffi.new("walcore_status *")
        lib.walcore_writer_status(self.raw, raw)
        return Status(raw)

    def stop(self) -> None:
        """Ends the flusher; every waiting or later call returns."""
        lib.walcore_writer_stop(self.raw)
        with self._wakers_lock:
            self._stopped = True
            wakers = list(self._wakers.values())
            self._wakers.clear()
        for waker in wakers:
            waker.detach()

    def abandon(self) -> None:
        """In a child made by fork: the parent's threads and locks are not here, and descriptors of
        these numbers may come to name other files."""
        self.raw = None

    def check_owner(self) -> None:
        """Raises ClosedLogError in a child made by fork."""
        if self.raw is None:
            raise forked_error(self.path)

    def waker(self) -> _LoopWaker:
        """The waker of the running event loop."""
        loop = asyncio.get_running_loop()
        with self._wakers_lock:
            waker = self._wakers.get(loop)
            if waker is None:
                for old in [old for old in self._wakers if old.is_closed()]:
                    self._wakers.pop(old).detach()
                waker = _LoopWaker(self, loop)
                if self._stopped:
                    waker.detach()  # nobody else will; it answers at once
                else:
                    self._wakers[loop] = waker
        return waker


class Commit:
    """An entry on its way to the disk.

    Attributes:
        lsn: its place in the log, should it become durable.

    `commit.wait()` for threads and `await commit` for asyncio return the lsn once the entry is
    durable as the log's policy asks, or raise what kept it from becoming so.
    """

    __slots__ = ("_generation", "_group", "lsn")

    def __init__(self, group: GroupCommit, generation: int, lsn: int) -> None:
        self._group = group
        self._generation = generation
        self.lsn = lsn

    def __repr__(self) -> str:
        return f"<Commit lsn={self.lsn} {'done' if self.done() else 'pending'}>"

    def done(self) -> bool:
        """Whether the entry is durable as the policy asks; False as well when it never will be."""
        group = self._group
        group.check_owner()
        durable = group.level == lib.WALCORE_LEVEL_WRITTEN or (
            lib.walcore_visible_lsn(group.raw) >= self.lsn
        )
        # In this order: once it is durable, only another entry of its lsn can be meant.
        return durable and not lib.walcore_fate_of(group.raw, self._generation, self.lsn)

    def wait(self, timeout_s: float | None = None) -> int:
        """Waits until the entry is durable as the policy asks and returns its lsn.

        The waiting thread takes part in the group commit. A timeout says nothing of the entry's
        fate: it may still become durable.

        Raises:
            CommitTimeoutError: not known to be durable after `timeout_s`.
            LogFullError: there was no space for the entry; it is not in the log.
            EntryTruncatedError: truncate_after dropped it.
            LogPoisonedError: a write or sync failed first.
        """
        self._group.wait(self._generation, self.lsn, self._group.level, timeout_s)
        return self.lsn

    def _seems_done(self) -> bool:
        """Whether it is worth to ask; cheap."""
        group = self._group
        shared = group.shared
        return group.level == lib.WALCORE_LEVEL_WRITTEN or (
            self.lsn <= shared.durable_lsn and self.lsn <= shared.committed_lsn
        )

    def __await__(self) -> Generator[Any, None, int]:
        self._group.check_owner()
        if not (self._seems_done() and self.done()):
            yield from self._group.waker().future(self._generation, self.lsn).__await__()
        return self.lsn


class _LoopWaker:
    """Resolves the futures of one event loop, once per group of entries."""

    def __init__(self, group: GroupCommit, loop: asyncio.AbstractEventLoop) -> None:
        self._group = group
        self.loop = loop
        # A heap of (lsn, order, generation, future): awaited in any order, due in that of the lsn.
        self._pending: list[tuple[int, int, int, asyncio.Future[None]]] = []
        self._order = 0
        self._generation = group.generation
        self._armed_lsn = 0
        self._slot = LoopSlot(group, loop, self._resolve)

    def future(self, generation: int, lsn: int) -> asyncio.Future[None]:
        """A future that is done when the entry is durable, and committed in a replicated log."""
        future = self.loop.create_future()
        if self._group.shared.generation != generation:
            fate = lib.walcore_fate_of(self._group.raw, generation, lsn)
            if fate:  # another entry has its lsn by now, or will
                _fail(future, self._group.error(fate, lsn))
                return future
        while self._pending and self._pending[0][3].done():  # nobody waits for those any more
            heapq.heappop(self._pending)
        self._order += 1
        heapq.heappush(self._pending, (lsn, self._order, generation, future))
        if self._slot.released:  # the log is closed
            self._resolve()
            return future
        if not self._armed_lsn or lsn < self._armed_lsn:
            self._arm()
        return future

    def _arm(self) -> None:
        """Asks to be woken when the lowest pending lsn is due."""
        lsn, _order, generation, _future = self._pending[0]
        self._armed_lsn = lsn
        if self._slot.arm(generation, lsn, lib.WALCORE_LEVEL_COMMITTED):
            self.loop.call_soon(self._resolve)

    def _resolve(self) -> None:
        """Settles every future whose outcome is known, then asks to be woken for the next."""
        self._armed_lsn = 0
        self._settle()
        if not self._pending:
            return
        status = self._group.status()
        if status.poisoned:
            self._fail_pending(self._group.error(lib.WALCORE_POISONED))
        elif status.stopped:
            self._fail_pending(self._group.error(lib.WALCORE_STOPPED))
        else:
            self._arm()

    def _settle(self) -> None:
        group = self._group
        # In this order, see Commit.done.
        visible_lsn = lib.walcore_visible_lsn(group.raw)
        generation = lib.walcore_generation(group.raw)
        if generation != self._generation:
            self._generation = generation
            self._fail_gone()
        pending = self._pending
        while pending and (pending[0][0] <= visible_lsn or pending[0][3].done()):
            future = heapq.heappop(pending)[3]
            if not future.done():
                future.set_result(None)

    def _fail_gone(self) -> None:
        """Fails what was refused or truncated."""
        kept = []
        for item in self._pending:
            lsn, _order, generation, future = item
            fate = lib.walcore_fate_of(self._group.raw, generation, lsn)
            if fate:
                _fail(future, self._group.error(fate, lsn))
            else:
                kept.append(item)
        heapq.heapify(kept)
        self._pending = kept

    def _fail_pending(self, error: Exception) -> None:
        for _lsn, _order, _generation, future in self._pending:
            _fail(future, error)
        self._pending.clear()

    def detach(self) -> None:
        """Lets go of the loop; what is still pending there fails, since the log is closed. Futures
        are touched in their loop's thread only, and of a closed loop nobody waits for them."""
        if self.loop.is_closed():
            self._slot.release()
            return
        try:
            here = asyncio.get_running_loop() is self.loop
        except RuntimeError:
            here = False
        if here:
            self._leave_loop()
            return
        try:
            self.loop.call_soon_threadsafe(self._leave_loop)
        except RuntimeError:  # closed just now
            self._slot.release()

    def _leave_loop(self) -> None:
        self._settle()
        self._slot.leave_loop()
        self._fail_pending(ClosedLogError(f"{self._group.path} is closed"))
        self._slot.release()


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
