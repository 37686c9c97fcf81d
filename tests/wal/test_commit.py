"""Commits: what they promise, when they time out, and what becomes of them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import run_threads
from tests.helpers import contents, crash_copy, payloads, run_child
from walstore import (
    CommitTimeoutError,
    EntryTruncatedError,
    FileWALManager,
    LogPoisonedError,
    LSNOutOfRangeError,
    OptionError,
    WALStoreError,
)
from walstore._native import lib


def poison(log: FileWALManager, error: int = errno.EIO) -> None:
    """What a failed write or sync does."""
    assert log._writer is not None
    lib.walcore_poison(log._writer.group.raw, error)


def test_commit_of_a_truncated_entry_harms_nothing(tmp_path: Path) -> None:
    """It had been durable, so waiting for it again returns; later entries must reach the disk."""
    with FileWALManager(tmp_path / "log") as log:
        commits = [log.submit(b"%d" % i) for i in range(5)]
        commits[-1].wait()
        log.truncate_after(2)
        with contextlib.suppress(WALStoreError):  # it is known to have been truncated
            assert commits[-1].wait(timeout_s=5) == 5
        assert (log.durable_lsn, log.last_lsn) == (2, 2)
        assert log.append(b"after") == 3
        assert log.durable_lsn == 3
        crash_copy(tmp_path / "log", tmp_path / "copy")
    assert payloads(contents(tmp_path / "copy")) == [b"0", b"1", b"after"]


def test_await_of_a_truncated_entry_returns(tmp_path: Path) -> None:
    async def main(log: FileWALManager) -> None:
        commits = [log.submit(b"%d" % i) for i in range(5)]
        await commits[-1]
        log.truncate_after(2)
        with contextlib.suppress(WALStoreError):
            assert await asyncio.wait_for(commits[-1], 5) == 5

    with FileWALManager(tmp_path / "log") as log:
        asyncio.run(main(log))
        assert log.durable_lsn == 2


def test_appends_under_truncation_are_on_disk_when_acked(tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with contextlib.suppress(LSNOutOfRangeError):
                log.append(b"x" * 50)
            stats = log.stats()  # of one moment
            assert stats.durable_lsn <= stats.last_lsn

    def truncate() -> None:
        for _ in range(150):
            log.truncate_after(max(log.first_lsn - 1, log.last_lsn - 3))
        stop.set()

    with FileWALManager(tmp_path / "log", segment_bytes=1 << 16) as log:
        run_threads(write, write, truncate)
        assert log.sync() == log.last_lsn
        crash_copy(tmp_path / "log", tmp_path / "copy")
        last_lsn = log.last_lsn
    assert len(contents(tmp_path / "copy")) == last_lsn


def test_poisoned_log_refuses_everything_and_stays_readable(tmp_path: Path) -> None:
    log = FileWALManager(tmp_path / "log")
    log.append(b"safe")
    poison(log)
    for call in (
        lambda: log.append(b"x"),
        lambda: log.append_many([b"x"]),
        lambda: log.submit(b"x"),
        log.begin_term,
        lambda: log.truncate_before(1 + log.last_lsn),
        lambda: log.truncate_after(0),
    ):
        with pytest.raises(LogPoisonedError) as caught:
            call()
        assert caught.value.errno == errno.EIO
        assert isinstance(caught.value, OSError)
        assert caught.value.path == str(tmp_path / "log")
        assert caught.value.hint
    assert log.read(1).payload == b"safe"
    log.close()
    with FileWALManager(tmp_path / "log") as log:
        assert payloads(log.replay()) == [b"safe"]
        assert log.append(b"on") == 2


def test_poison_wakes_every_waiter(tmp_path: Path) -> None:
    """A tail that waits for the next entry ends with the error."""
    log = FileWALManager(tmp_path / "log", sync="os")
    log.append(b"x")
    tail = log.tail()
    assert next(tail).payload == b"x"

    def follow() -> None:
        with pytest.raises(LogPoisonedError):
            next(tail)

    run_threads(follow, lambda: poison(log))
    log.close()


def test_poison_wakes_an_event_loop(tmp_path: Path) -> None:
    async def main(log: FileWALManager) -> None:
        assert log._group is not None
        pending = log._group.waker().future(log._group.generation, log.last_lsn + 1)
        await asyncio.sleep(0)
        poison(log)
        with pytest.raises(LogPoisonedError):
            await asyncio.wait_for(pending, 10)

    log = FileWALManager(tmp_path / "log")
    log.append(b"x")
    asyncio.run(main(log))
    log.close()


SLOW = """
    import os, sys, threading
    from walstore import CommitTimeoutError, FileWALManager
    log = FileWALManager(sys.argv[1])
    log.append(b"fast")
    open(sys.argv[2], "w").close()          # from now on a sync waits for the pipe
    commit = log.submit(b"slow")
    os.read(os.open(sys.argv[4], os.O_RDWR), 1)  # the flusher is inside the sync
    assert not commit.done()
    for timeout_s in (0.05, 0.0, -1):
        try:
            commit.wait(timeout_s)
        except CommitTimeoutError as error:
            assert error.lsn == commit.lsn == 2 and isinstance(error, TimeoutError)
        else:
            raise AssertionError("no timeout")
    os.unlink(sys.argv[2])
    os.write(os.open(sys.argv[3], os.O_RDWR), b"go")
    assert commit.wait(30) == 2
    log.close()
    print("good")
"""

SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (!access(getenv("SLOW_FLAG"), F_OK)) {
        char byte = 1;
        int entered = open(getenv("SLOW_ENTERED"), O_RDWR);
        if (write(entered, &byte, 1) != 1) abort();
        int pipe = open(getenv("SLOW_FIFO"), O_RDWR);
        if (read(pipe, &byte, 1) != 1) abort();
        close(pipe);
    }
    return real(fd);
}
"""


def test_a_timeout_says_nothing_of_the_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shim.c").write_text(SHIM)
    shim, flag, fifo = tmp_path / "shim.so", tmp_path / "flag", tmp_path / "fifo"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", shim, tmp_path / "shim.c", "-ldl"], check=True)
    entered = tmp_path / "entered"
    os.mkfifo(fifo)
    os.mkfifo(entered)
    monkeypatch.setenv("SLOW_ENTERED", str(entered))
    monkeypatch.setenv("SLOW_FLAG", str(flag))
    monkeypatch.setenv("SLOW_FIFO", str(fifo))
    # Behind what is preloaded already: a sanitizer wants to be the first.
    monkeypatch.setenv("LD_PRELOAD", f"{os.environ.get('LD_PRELOAD', '')} {shim}".strip())
    assert run_child(SLOW, tmp_path / "log", flag, fifo, entered, timeout_s=20).strip() == "good"
    monkeypatch.delenv("LD_PRELOAD")
    assert payloads(contents(tmp_path / "log")) == [b"fast", b"slow"]


def test_timeout_error_has_its_data() -> None:
    error = CommitTimeoutError(7, 0.5)
    assert (error.lsn, error.timeout_s) == (7, 0.5)
    assert "may still" in str(error)


def test_await_of_a_generation_that_its_loop_has_seen_end(tmp_path: Path) -> None:
    """Its lsn is another entry's by now: that one's success is not its own."""

    async def main(log: FileWALManager) -> None:
        commits = [log.submit(b"old %d" % number) for number in range(4)]
        log.sync()
        log.truncate_after(1)
        log.append_many([b"new 2", b"new 3"])
        await log.submit(b"new 4")  # the loop's waker learns of the truncation
        for commit in commits[1:]:
            with pytest.raises(EntryTruncatedError):
                await asyncio.wait_for(commit, 10)
        assert await commits[0] == 1

    with FileWALManager(tmp_path / "log") as log:
        asyncio.run(main(log))


def test_waiting_in_vain_leaves_nothing_behind(tmp_path: Path) -> None:
    async def main(log: FileWALManager) -> None:
        assert log._group is not None
        waker = log._group.waker()
        for _ in range(50):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(waker.future(0, 9), 0.001)
        assert len(waker._pending) == 1

    with FileWALManager(tmp_path / "log") as log:
        asyncio.run(main(log))


def test_loops_of_many_threads_come_and_go(tmp_path: Path) -> None:
    loops_each, errors, lsns = 150, [], set()

    async def one() -> int:
        return await log.submit(b"x")

    def run_loops() -> None:
        for _ in range(loops_each):
            try:
                lsns.add(asyncio.run(one()))
            except (KeyError, RuntimeError) as error:
                errors.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with FileWALManager(tmp_path / "log") as log:
            run_threads(*[run_loops] * 8)
    finally:
        sys.setswitchinterval(before)
    assert not errors
    assert len(lsns) == 8 * loops_each


@pytest.mark.parametrize("timeout_s", [float("inf"), 1e300])
def test_endless_timeouts_wait(tmp_path: Path, timeout_s: float) -> None:
    with FileWALManager(tmp_path / "log") as log:
        assert log.submit(b"x").wait(timeout_s) == 1


def test_a_timeout_is_a_number(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log, pytest.raises(OptionError, match="nan"):
        log.submit(b"x").wait(float("nan"))


class Changing(list[bytes]):
    """A list that is shorter at each look, as one may be that another thread changes."""

    def __iter__(self) -> Iterator[bytes]:
        self[:] = [item[:-32] for item in self[:]]
        return iter(self[:])


def test_batch_is_looked_at_once(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log:
        assert log.append_many(Changing([b"a" * 200] * 50)) == range(1, 51)
        assert [entry.payload for entry in log.replay()] == [b"a" * 168] * 50
