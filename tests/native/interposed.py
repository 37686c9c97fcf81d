"""What the C helper does when libc fails it; each function here runs under interpose.c.

test_interposed.py calls `run_all` in a process that has the library preloaded.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.native.test_writer import LIMIT_AT, SECOND_NS, SEED, START_AT, Native
from walstore._native import ffi, lib
from walstore.wal.commit import GroupCommit

PWRITE, FDATASYNC, FALLOCATE, PTHREAD_CREATE, COND_WAIT = range(5)
NOTHING, HALF, GATE, ANNOUNCE = (1 << bit for bit in range(16, 20))

libc = ctypes.CDLL(None)
libc.set_clock.argtypes = [ctypes.c_int, ctypes.c_longlong]


def script(call: int, *outcomes: int) -> None:
    """What the next calls do."""
    libc.script(call, (ctypes.c_int * len(outcomes))(*outcomes), len(outcomes))


def done(*calls: int) -> None:
    """Every outcome of these scripts has been played."""
    assert [libc.left(call) for call in calls] == [0] * len(calls)


@contextmanager
def writer(
    path: Path, level: int = lib.WALCORE_LEVEL_DURABLE, committed_lsn: int | None = None
) -> Iterator[Native]:
    script(COND_WAIT, ANNOUNCE)
    name = f"file{len(os.listdir(path))}"
    native = Native(path / name, level, committed_lsn=committed_lsn)
    libc.await_entered()  # the flusher sleeps, and waits no more by itself
    try:
        yield native
    finally:
        lib.walcore_writer_stop(native.raw)
        os.close(native.fd)


class Call(threading.Thread):
    """A call in a thread of its own; `result()` waits for what it returned."""

    def __init__(self, function: Callable[..., int | None], *arguments: Any) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._arguments = arguments
        self._got: list[int | None] = []
        self.start()

    def run(self) -> None:
        self._got.append(self._function(*self._arguments))

    def result(self) -> int | None:
        self.join(30)
        assert self._got, "the call hangs"
        return self._got[0]


def interrupted_write_is_repeated(path: Path) -> None:
    with writer(path) as native:
        script(PWRITE, errno.EINTR, HALF, errno.EINTR)
        assert native.append(b"abcdefgh") == 1
        done(PWRITE)
        assert native.payloads() == [b"abcdefgh"]


def no_space_takes_the_group_back(path: Path) -> None:
    with writer(path) as native:
        outcomes = [(NOTHING,), (errno.ENOSPC,), (HALF, errno.EDQUOT), (HALF, errno.EFBIG)]
        for outcome in outcomes:
            script(PWRITE, *outcome)
            assert native.append(b"x" * 500) == lib.WALCORE_FULL, outcome
            done(PWRITE)
            assert native.payloads() == []
            error = errno.ENOSPC if outcome == (NOTHING,) else outcome[-1]
            assert native.status().error == error
            assert not any(os.pread(native.fd, 1000, START_AT))
        assert lib.walcore_generation(native.raw) == len(outcomes)
        assert native.append(b"fits") == 1


def no_space_for_a_submitted_entry(path: Path) -> None:
    """The flusher no longer has what it was asked for."""
    with writer(path) as native:
        script(PWRITE, errno.ENOSPC)
        assert native.submit(b"x") == 1
        assert native.wait(1) == lib.WALCORE_FULL
        assert native.submit(b"y") == lib.WALCORE_STALE
        assert native.submit(b"y", generation=1) == 1
        assert native.wait(1, generation=1) == lib.WALCORE_OK
        assert native.payloads() == [b"y"]


def what_cannot_be_taken_back_poisons(path: Path) -> None:
    for sync_outcomes, writes in (((errno.EIO,), ()), ((), (errno.EIO,))):
        with writer(path) as native:
            script(FDATASYNC, *sync_outcomes)
            script(PWRITE, HALF, errno.ENOSPC, *writes)
            assert native.append(b"x" * 500) == lib.WALCORE_POISONED
            done(PWRITE, FDATASYNC)
            # Zeros may not be on the disk: the next opening is to see what may, and to clear it.
            assert b"x" * 200 in os.pread(native.fd, 1000, START_AT)
            assert native.status().error == errno.EIO
            assert native.append(b"y") == lib.WALCORE_POISONED


def a_group_is_taken_back_after_the_sync_under_way(path: Path) -> None:
    for outcome, wanted in ((0, (1, lib.WALCORE_FULL)), (errno.EIO, (lib.WALCORE_POISONED,) * 2)):
        with writer(path) as native:
            script(FDATASYNC, GATE | outcome)
            first = Call(native.append, b"first")
            libc.await_entered()
            script(PWRITE, HALF, errno.ENOSPC)
            script(COND_WAIT, ANNOUNCE)
            second = Call(native.append, b"second" * 50)
            libc.await_entered()  # it waits for the first one's sync
            libc.let_go()
            assert (first.result(), second.result()) == wanted
            done(PWRITE, FDATASYNC, COND_WAIT)


def failed_calls_poison(path: Path) -> None:
    for call in (PWRITE, FDATASYNC):
        with writer(path) as native:
            script(call, errno.EIO)
            assert native.append(b"x") == lib.WALCORE_POISONED
            done(call)
            assert native.status().error == errno.EIO
            assert lib.walcore_freeze(native.raw) == lib.WALCORE_POISONED


def the_flusher_survives_a_sync_that_failed(path: Path) -> None:
    with writer(path) as native:
        script(FDATASYNC, errno.EIO)
        script(COND_WAIT, ANNOUNCE)
        assert native.submit(b"x") == 1
        libc.await_entered()  # it sleeps again, though what it was asked for is not durable
        assert native.status().durable_lsn == 0
        assert native.wait(1) == lib.WALCORE_POISONED


def freeze_that_cannot_sync_is_undone(path: Path) -> None:
    with writer(path, lib.WALCORE_LEVEL_WRITTEN) as native:
        assert native.append(b"x") == 1
        script(FDATASYNC, errno.EIO)
        assert lib.walcore_freeze(native.raw) == lib.WALCORE_POISONED
        assert lib.walcore_freeze(native.raw) == lib.WALCORE_POISONED  # and hangs not
        assert native.wait(1) == lib.WALCORE_POISONED


def callers_wait_for_a_thaw(path: Path) -> None:
    with writer(path) as native:
        calls = ((native.append, b"x", 1), (lib.walcore_freeze, native.raw, lib.WALCORE_OK))
        for function, argument, wanted in calls:
            assert lib.walcore_freeze(native.raw) == lib.WALCORE_OK
            script(COND_WAIT, ANNOUNCE)
            waiting = Call(function, argument)
            libc.await_entered()
            lib.walcore_thaw(native.raw)
            assert waiting.result() == wanted
        lib.walcore_thaw(native.raw)


def stop_waits_for_calls_under_way(path: Path) -> None:
    """And they come to their end."""
    for call in (PWRITE, FDATASYNC):
        with writer(path) as native:
            script(call, GATE)
            append = Call(native.append, b"x")
            libc.await_entered()
            script(COND_WAIT, ANNOUNCE)
            stop = Call(lib.walcore_writer_stop, native.raw)
            libc.await_entered()
            assert stop.is_alive()
            libc.let_go()
            # What was only written when it stopped may be left so, and then is not acked.
            may = {1} if call == FDATASYNC else {1, lib.WALCORE_STOPPED}
            assert append.result() in may
            assert stop.result() is None
            assert native.status().state == lib.WALCORE_STOPPED


def one_caller_marks_for_all_that_come_meanwhile(path: Path) -> None:
    with writer(path, committed_lsn=0) as native:
        script(PWRITE, GATE, 0, errno.EIO)
        first = Call(lib.walcore_set_committed, native.raw, 3)
        libc.await_entered()
        for lsn in (4, 6, 5):
            lib.walcore_set_committed(native.raw, lsn)  # and is not held up
        assert lib.walcore_committed_lsn(native.raw) == 6
        assert native.marked_lsn() == 0
        libc.let_go()
        first.result()
        assert native.marked_lsn() == 6
        assert libc.left(PWRITE) == 1, "more than one mark was written for them"


def a_mark_that_cannot_be_written_is_made_up_for_by_the_next(path: Path) -> None:
    with writer(path, committed_lsn=0) as native:
        script(PWRITE, errno.EIO)
        lib.walcore_set_committed(native.raw, 3)
        done(PWRITE)
        status = native.status()
        assert (status.watermark_failures, status.state) == (1, lib.WALCORE_OK)
        assert (lib.walcore_committed_lsn(native.raw), native.marked_lsn()) == (3, 0)
        lib.walcore_set_committed(native.raw, 4)
        assert native.marked_lsn() == 4


def stop_waits_for_the_mark_and_for_no_other(path: Path) -> None:
    with writer(path, committed_lsn=0) as native:
        script(PWRITE, GATE, errno.EIO)
        first = Call(lib.walcore_set_committed, native.raw, 3)
        libc.await_entered()
        lib.walcore_set_committed(native.raw, 5)
        script(COND_WAIT, ANNOUNCE)
        stop = Call(lib.walcore_writer_stop, native.raw)
        libc.await_entered()
        assert stop.is_alive()
        libc.let_go()
        assert (first.result(), stop.result()) == (None, None)
        assert native.marked_lsn() == 3
        assert libc.left(PWRITE) == 1, "a mark was written to what may be another file"


def a_restart_waits_for_the_mark(path: Path) -> None:
    """Or the mark of the log before would stay behind that of the new one."""
    with writer(path, committed_lsn=0) as native:
        assert lib.walcore_freeze(native.raw) == lib.WALCORE_OK
        script(PWRITE, GATE)
        mark = Call(lib.walcore_set_committed, native.raw, 3)
        libc.await_entered()
        script(COND_WAIT, ANNOUNCE)
        restart = Call(lib.walcore_writer_restart, native.raw, 10, 8)
        libc.await_entered()
        assert restart.is_alive()
        libc.let_go()
        assert (mark.result(), restart.result()) == (None, lib.WALCORE_OK)
        assert native.marked_lsn() == 3
        native.attach(10)
        assert native.marked_lsn(seed=8) == lib.walcore_committed_lsn(native.raw) == 9


def a_wait_ends_in_time(path: Path) -> None:
    with writer(path) as native:
        script(FDATASYNC, GATE)
        append = Call(native.append, b"x")
        libc.await_entered()
        level = lib.WALCORE_LEVEL_DURABLE
        assert lib.walcore_wait(native.raw, 0, 1, level, 1) == lib.WALCORE_TIMEOUT
        libc.let_go()
        assert append.result() == 1


def a_writer_may_wait_for_a_buffer(path: Path) -> None:
    """Both buffers are full and one is on its way."""
    with writer(path) as native:
        lib.walcore_writer_set_limit(native.raw, START_AT + (32 << 20))
        script(PWRITE, GATE)
        first = Call(native.append, b"1" * (3 << 20))
        libc.await_entered()
        script(COND_WAIT, ANNOUNCE, ANNOUNCE)
        assert native.submit(b"2" * (3 << 20)) == 2
        third = Call(native.submit, b"3" * (3 << 20))
        libc.await_entered()
        libc.await_entered()  # the flusher and the third, in any order
        libc.let_go()
        assert (first.result(), third.result()) == (1, 3)
        assert native.wait(3) == lib.WALCORE_OK
        assert native.status().durable_lsn == 3


def the_flusher_cannot_be_started(path: Path) -> None:
    group = GroupCommit(
        "log",
        durable=True,
        interval_ns=0,
        watermark_fd=-1,
        watermark_at=0,
        watermark_seed=0,
        first_lsn=lambda: 1,
        committed_lsn=None,
        mark_at=0,
    )
    script(PTHREAD_CREATE, errno.EAGAIN)
    with pytest.raises(OSError, match="cannot start the flusher thread") as caught:
        group.start()
    assert caught.value.errno == errno.EAGAIN
    group.stop()


def the_pace_ends_when_another_has_synced(path: Path) -> None:
    fd = os.open(path / "paced", os.O_RDWR | os.O_CREAT)
    level = lib.WALCORE_LEVEL_WRITTEN
    raw = ffi.gc(lib.walcore_writer_new(level, SECOND_NS // 4, -1, 0, 0), lib.walcore_writer_free)
    args = (fd, SEED, 1, 1, 1, 0, 1, START_AT, LIMIT_AT, True)
    assert lib.walcore_writer_attach(raw, *args) == 0
    script(COND_WAIT, ANNOUNCE)
    assert lib.walcore_writer_start(raw) == 0
    libc.await_entered()  # the flusher sleeps
    lib.walcore_thaw(raw)
    script(COND_WAIT, ANNOUNCE)
    assert lib.walcore_append(raw, b"x", 1, 5, 1) == 1
    assert lib.walcore_wait(raw, 0, 1, lib.WALCORE_LEVEL_DURABLE, 30 * SECOND_NS) == 0
    libc.await_entered()  # it sleeps again
    status: Any = ffi.new("walcore_status *")
    lib.walcore_writer_status(raw, status)
    assert status.syncs == 1, "the flusher synced what was durable"
    assert lib.walcore_append(raw, b"x", 1, 5, 1) == 2
    lib.walcore_writer_stop(raw)  # while it paces
    os.close(fd)


def clocks_that_jump(path: Path) -> None:
    with writer(path) as native:
        libc.set_clock(0, 9 * SECOND_NS)
        assert native.append(b"x") == 1
        libc.set_clock(0, 0)
        histogram = list(native.status().sync_histogram)
        assert histogram[-1] == sum(histogram) == 1, "longer than the last bucket"
        libc.set_clock(1, 0)
        assert lib.walcore_watch(native.raw, 2, 0) == lib.WALCORE_TIMEOUT
        libc.set_clock(0, 0)


def space_is_asked_for_where_it_can_be(path: Path) -> None:
    fd = os.open(path / "reserved", os.O_RDWR | os.O_CREAT)
    for error in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
        script(FALLOCATE, errno.EINTR, error)
        assert lib.walcore_reserve(fd, 4096) == 0
        done(FALLOCATE)
        assert os.fstat(fd).st_size == 0
    script(FALLOCATE, errno.ENOSPC)
    assert lib.walcore_reserve(fd, 4096) == -errno.ENOSPC
    script(FALLOCATE, errno.EINTR)
    assert lib.walcore_reserve(fd, 4096) == 0
    assert os.fstat(fd).st_size == 4096
    os.close(fd)


def a_forked_child_touches_nothing(path: Path) -> None:
    with writer(path) as native:
        assert native.append(b"x") == 1
        pid = os.fork()
        if not pid:
            lib.walcore_writer_stop(native.raw)
            ffi.release(native.raw)
            raise SystemExit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert native.append(b"y") == 2


CASES = (
    interrupted_write_is_repeated,
    no_space_takes_the_group_back,
    no_space_for_a_submitted_entry,
    what_cannot_be_taken_back_poisons,
    a_group_is_taken_back_after_the_sync_under_way,
    failed_calls_poison,
    the_flusher_survives_a_sync_that_failed,
    freeze_that_cannot_sync_is_undone,
    callers_wait_for_a_thaw,
    stop_waits_for_calls_under_way,
    one_caller_marks_for_all_that_come_meanwhile,
    a_mark_that_cannot_be_written_is_made_up_for_by_the_next,
    stop_waits_for_the_mark_and_for_no_other,
    a_restart_waits_for_the_mark,
    a_wait_ends_in_time,
    a_writer_may_wait_for_a_buffer,
    the_flusher_cannot_be_started,
    the_pace_ends_when_another_has_synced,
    clocks_that_jump,
    space_is_asked_for_where_it_can_be,
    a_forked_child_touches_nothing,
)


def run_all(directory: str) -> None:
    """Runs every case and prints its name."""
    for case in CASES:
        for call in range(5):
            script(call)
        case(Path(directory))
        print(case.__name__, flush=True)
