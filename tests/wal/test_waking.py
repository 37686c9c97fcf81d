"""GroupCommit by itself: what results mean, how long waits last, how event loops are woken."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import re
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import open_descriptors
from tests.wal import raw
from walstore import (
    ClosedLogError,
    CommitTimeoutError,
    EntryTruncatedError,
    LogFullError,
    LogPoisonedError,
)
from walstore._native import ffi, lib
from walstore.errors import OptionError
from walstore.wal import commit as commit_module
from walstore.wal.commit import Commit, GroupCommit, _LoopWaker
from walstore.wal.meta import (
    COMMIT_MARK_AT,
    WATERMARK_AT,
    read_commit_mark,
    read_watermark,
    watermark_seed,
)
from walstore.wal.segment import RECORDS_AT

LIMIT_AT = RECORDS_AT + (1 << 20)
HEADER = raw.header_of(limit_at=LIMIT_AT)
TOTAL = 56  # of a record of one byte
SLICE_NS = 200_000_000
DURABLE = lib.WALCORE_LEVEL_DURABLE
LOG_ID = b"0123456789abcdef"


class Group(GroupCommit):
    """A group commit on a file of its own."""

    def __init__(
        self,
        path: Path,
        *,
        durable: bool = True,
        watermark_fd: int = -1,
        committed_lsn: int | None = None,
    ) -> None:
        super().__init__(
            str(path),
            durable=durable,
            interval_ns=0,
            watermark_fd=watermark_fd,
            watermark_at=WATERMARK_AT,
            watermark_seed=watermark_seed(LOG_ID),
            first_lsn=lambda: 1,
            committed_lsn=committed_lsn,
            mark_at=COMMIT_MARK_AT,
        )
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT)
        self.point_at(1)
        self.start()
        self.thaw()

    def point_at(self, next_lsn: int) -> None:
        self.attach(self.fd, HEADER, next_lsn, 1, 1, 0, RECORDS_AT, True)

    def append(self, count: int = 1) -> None:
        for _ in range(count):
            assert lib.walcore_append(self.raw, b"x", 1, 5, 1) > 0

    def append_uncommitted(self, count: int) -> None:
        """Durable at return, as `append`, which would wait for the commit."""
        for _ in range(count):
            lsn = lib.walcore_submit(self.raw, lib.walcore_generation(self.raw), b"x", 1, 5, 1)
            assert lsn > 0
        self.wait(self.refresh_generation(), lsn, DURABLE, None)

    def truncate(self, next_lsn: int) -> None:
        self.freeze()
        self.point_at(next_lsn)
        self.thaw()


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    group = Group(tmp_path / "log")
    yield group
    group.stop()
    os.close(group.fd)


@pytest.fixture
def lazy(tmp_path: Path) -> Iterator[Group]:
    """One that syncs nothing by itself."""
    group = Group(tmp_path / "lazy", durable=False)
    yield group
    group.stop()
    os.close(group.fd)


@pytest.fixture
def meta_fd(tmp_path: Path) -> Iterator[int]:
    """Where a log's watermark and its commit mark are published."""
    fd = os.open(tmp_path / "meta", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


@pytest.fixture
def replicated(tmp_path: Path, meta_fd: int) -> Iterator[Group]:
    """One of a log of which one entry is known to be committed."""
    group = Group(tmp_path / "replicated", watermark_fd=meta_fd, committed_lsn=1)
    yield group
    group.stop()
    os.close(group.fd)


class Proxy:
    """The library, with calls that are watched or changed."""

    def __init__(self, **calls: Callable[..., Any]) -> None:
        self.__dict__.update(calls)

    def __getattr__(self, name: str) -> Any:
        return getattr(lib, name)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 10))


# What results mean.


def test_status_is_a_snapshot_of_the_writer(group: Group) -> None:
    group.append(3)
    status = group.status()
    assert status.durable_lsn == 3
    assert status.tail_at == RECORDS_AT + 3 * TOTAL
    assert (status.writes, status.write_bytes, status.syncs) == (3, 3 * TOTAL, 3)
    assert status.sync_ns > 0
    assert (status.watermark_failures, status.error) == (0, 0)
    assert (len(status.sync_histogram), sum(status.sync_histogram)) == (32, 3)
    assert (status.behind, status.poisoned) == (False, False)
    group.poison(errno.EIO)
    assert (group.status().poisoned, group.status().error) == (True, errno.EIO)


def test_a_log_is_behind_by_one_entry_already(lazy: Group) -> None:
    assert not lazy.status().behind
    lazy.append()
    assert lazy.status().behind
    lazy.wait(0, 1, DURABLE, None)
    assert not lazy.status().behind


def test_a_watermark_that_cannot_be_published_is_counted(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    group = GroupCommit(
        "log",
        durable=True,
        interval_ns=0,
        watermark_fd=fd,
        watermark_at=0,
        watermark_seed=0,
        first_lsn=lambda: 1,
        committed_lsn=None,
        mark_at=0,
    )
    group.attach(fd, HEADER, 1, 1, 1, 0, RECORDS_AT, True)
    assert group.status().watermark_failures == 1
    group.stop()
    os.close(fd)


def test_each_bad_result_is_an_error_of_its_own(group: Group, tmp_path: Path) -> None:
    group.append(2)
    group.poison(errno.ENOSPC)
    path = str(tmp_path / "log")
    closed, memory, full, poisoned, truncated = (
        group.error(rc, 7)
        for rc in (
            lib.WALCORE_STOPPED,
            lib.WALCORE_NO_MEMORY,
            lib.WALCORE_FULL,
            lib.WALCORE_POISONED,
            lib.WALCORE_TRUNCATED,
        )
    )
    assert isinstance(closed, ClosedLogError)
    assert str(closed) == f"{path} is closed"
    assert isinstance(memory, MemoryError)
    assert str(memory) == "no memory to stage the entry"
    for error, kind in ((full, LogFullError), (poisoned, LogPoisonedError)):
        assert isinstance(error, kind)
        assert isinstance(error, LogFullError | LogPoisonedError)
        assert (error.errno, error.path) == (errno.ENOSPC, path)
    assert isinstance(truncated, EntryTruncatedError)
    assert str(truncated) == str(EntryTruncatedError(7, 1, 2))
    assert str(group.error(lib.WALCORE_TRUNCATED)) == str(EntryTruncatedError(0, 1, 2))


def test_a_writer_without_memory_is_no_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_module, "lib", Proxy(walcore_writer_new=lambda *_: ffi.NULL))
    with pytest.raises(MemoryError, match=r"^no memory for the writer's buffers$"):
        GroupCommit(
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


def test_a_thread_that_cannot_be_made_is_said(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Proxy(walcore_writer_start=lambda _: -errno.EAGAIN)
    monkeypatch.setattr(commit_module, "lib", start)
    with pytest.raises(OSError, match="cannot start the flusher thread: ") as caught:
        group.start()
    assert caught.value.errno == errno.EAGAIN
    assert caught.value.strerror == (
        f"cannot start the flusher thread: {os.strerror(errno.EAGAIN)}"
    )


def test_the_index_is_loaded_copied_and_looked_up(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = struct.pack("<4I", 0, RECORDS_AT // 8, 5, 4096)
    assert group.index() == b""
    group.freeze()
    group.point_at(11)
    group.load_index(b"")
    assert group.index() == b""
    group.load_index(pairs)
    group.thaw()
    assert group.index() == pairs
    assert group.locate(3) == (1, RECORDS_AT, 32768)
    assert group.locate(8) == (6, 32768, RECORDS_AT)
    assert group.locate(11) is None
    group.freeze()
    group.point_at(1)
    group.thaw()
    group.append()
    assert group.index() == struct.pack("<2I", 0, RECORDS_AT // 8)
    full = Proxy(walcore_writer_index_load=lambda *_: lib.WALCORE_NO_MEMORY)
    monkeypatch.setattr(commit_module, "lib", full)
    with pytest.raises(MemoryError, match=r"^no memory for the segment's index$"):
        group.load_index(pairs)


def test_a_poisoned_log_cannot_be_frozen(group: Group) -> None:
    group.poison(errno.EIO)
    with pytest.raises(LogPoisonedError):
        group.freeze()


def test_a_freeze_says_what_kept_it(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = Proxy(walcore_freeze=lambda _: lib.WALCORE_STOPPED)
    monkeypatch.setattr(commit_module, "lib", stopped)
    with pytest.raises(ClosedLogError):
        group.freeze()


def test_a_log_cannot_begin_anew_without_memory_to_say_so(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def restart(_raw: Any, next_lsn: int, seed: int) -> int:
        asked.append((next_lsn, seed))
        return int(lib.WALCORE_NO_MEMORY)

    monkeypatch.setattr(commit_module, "lib", Proxy(walcore_writer_restart=restart))
    with pytest.raises(MemoryError, match=r"^no memory to end the log's generation$"):
        group.restart(5, 99)
    assert asked == [(5, 99)]


def test_a_log_that_begins_anew_is_committed_up_to_there(replicated: Group, meta_fd: int) -> None:
    other = b"fedcba9876543210"
    replicated.append_uncommitted(3)
    replicated.freeze()
    replicated.restart(10, watermark_seed(other))
    replicated.point_at(10)
    replicated.thaw()
    assert read_commit_mark(meta_fd, other) == lib.walcore_committed_lsn(replicated.raw) == 9
    assert Commit(replicated, 0, 1).wait(10) == 1
    with pytest.raises(EntryTruncatedError):
        Commit(replicated, 0, 2).wait(10)


def test_a_child_made_by_fork_is_told_whose_the_log_is(group: Group) -> None:
    held = group.raw  # as the parent holds it
    group.check_owner()
    group.abandon()
    told = rf"^{re.escape(group.path)} was opened by the parent process; open it anew in this one$"
    with pytest.raises(ClosedLogError, match=told):
        group.check_owner()
    group.raw = held


def test_the_generation_is_asked_for(group: Group) -> None:
    group.append(3)
    group.truncate(2)
    assert group.generation == 0
    assert group.refresh_generation() == group.generation == 1


# How long a wait lasts.


@pytest.mark.parametrize(
    ("timeout_s", "slices"),
    [
        (0.5, [SLICE_NS, SLICE_NS, SLICE_NS // 2]),
        (0.4, [SLICE_NS] * 2),
        (100, [SLICE_NS] * 500),
        (0.200000001, [SLICE_NS, 1]),
        (1e-9, [1]),
        (0, [0]),
        (-3, [0]),
    ],
)
def test_a_wait_is_cut_into_slices(
    group: Group, monkeypatch: pytest.MonkeyPatch, timeout_s: float, slices: list[int]
) -> None:
    waits = []

    def wait(*arguments: Any) -> int:
        waits.append(arguments)
        assert len(waits) <= len(slices), "waits on after its time is over"
        return lib.WALCORE_TIMEOUT

    monkeypatch.setattr(commit_module, "lib", Proxy(walcore_wait=wait))
    with pytest.raises(CommitTimeoutError) as caught:
        group.wait(3, 4, DURABLE, timeout_s)
    assert (caught.value.lsn, caught.value.timeout_s) == (4, timeout_s)
    assert waits == [(group.raw, 3, 4, DURABLE, slice_ns) for slice_ns in slices]


@pytest.mark.parametrize("timeout_s", [None, float("inf"), 1e300, 1e9 + 1])
def test_a_wait_longer_than_anyone_waits_has_no_end(
    group: Group, monkeypatch: pytest.MonkeyPatch, timeout_s: float | None
) -> None:
    results = [lib.WALCORE_TIMEOUT] * 20 + [lib.WALCORE_OK]
    slices = []

    def wait(*arguments: Any) -> int:
        slices.append(arguments[-1])
        return results.pop(0)

    monkeypatch.setattr(commit_module, "lib", Proxy(walcore_wait=wait))
    group.wait(0, 1, DURABLE, timeout_s)
    assert slices == [SLICE_NS] * 21


def test_the_longest_wait_has_an_end(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    slices = []

    def wait(*arguments: Any) -> int:
        slices.append(arguments[-1])
        return lib.WALCORE_TIMEOUT if len(slices) == 1 else lib.WALCORE_OK

    monkeypatch.setattr(commit_module, "WAIT_SLICE_NS", 10**18)
    monkeypatch.setattr(commit_module, "lib", Proxy(walcore_wait=wait))
    with pytest.raises(CommitTimeoutError):
        group.wait(0, 1, DURABLE, 1e9)
    assert slices == [10**18]


def test_a_timeout_that_is_no_number_is_refused(group: Group) -> None:
    with pytest.raises(OptionError, match=r"^timeout_s is a number of seconds, not nan$"):
        group.wait(0, 1, DURABLE, float("nan"))


def test_a_wait_for_what_is_gone_says_which(group: Group) -> None:
    group.append(3)
    group.truncate(2)
    with pytest.raises(EntryTruncatedError) as caught:
        group.wait(0, 3, DURABLE, None)
    assert str(caught.value) == str(EntryTruncatedError(3, 1, 1))


# Commits.


def test_a_commit_says_how_far_it_is(group: Group, lazy: Group) -> None:
    group.append(2)
    commit, later = Commit(group, 0, 2), Commit(group, 0, 3)
    assert (commit.done(), later.done()) == (True, False)
    assert repr(commit) == "<Commit lsn=2 done>"
    assert repr(later) == "<Commit lsn=3 pending>"
    assert commit.wait() == 2
    group.truncate(2)
    assert not commit.done()
    lazy.append()
    assert Commit(lazy, 0, 1).done(), "handed to the kernel, as the policy asks"
    assert Commit(lazy, 0, 1).wait() == 1
    assert lazy.status().durable_lsn == 0


def test_a_commit_of_a_replicated_log_is_done_when_it_is_committed(
    replicated: Group, meta_fd: int
) -> None:
    replicated.append_uncommitted(3)
    commits = [Commit(replicated, 0, lsn) for lsn in (1, 2, 3)]
    assert [commit.done() for commit in commits] == [True, False, False]
    assert read_commit_mark(meta_fd, LOG_ID) == 1
    with pytest.raises(CommitTimeoutError):
        commits[1].wait(0)
    lib.walcore_set_committed(replicated.raw, 2)
    assert [commit.done() for commit in commits] == [True, True, False]
    assert commits[1].wait(10) == 2
    assert read_commit_mark(meta_fd, LOG_ID) == 2
    mark = read_watermark(meta_fd, LOG_ID)
    assert mark is not None
    assert (mark.level, mark.durable_lsn) == (DURABLE, 3)


def test_an_await_asks_only_when_the_entry_seems_done(replicated: Group, lazy: Group) -> None:
    """Durable and committed, both: a call gives the interpreter away."""
    lib.walcore_set_committed(replicated.raw, 3)
    commits = [Commit(replicated, 0, lsn) for lsn in range(1, 6)]
    assert [commit._seems_done() for commit in commits] == [False] * 5
    replicated.append_uncommitted(4)
    assert [commit._seems_done() for commit in commits] == [True] * 3 + [False] * 2
    assert Commit(lazy, 0, 9)._seems_done(), "the policy asks for no sync"


def test_a_commit_s_wait_has_its_generation_and_level(
    lazy: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = []

    def wait(*arguments: Any) -> int:
        waits.append(arguments)
        return lib.WALCORE_OK

    monkeypatch.setattr(commit_module, "lib", Proxy(walcore_wait=wait))
    assert Commit(lazy, 4, 7).wait(0.1) == 7
    assert waits == [(lazy.raw, 4, 7, lib.WALCORE_LEVEL_WRITTEN, SLICE_NS // 2)]


def test_await_of_what_is_durable_asks_no_loop(group: Group) -> None:
    async def main() -> None:
        group.append()
        assert await Commit(group, 0, 1) == 1
        assert not group._wakers

    run(main())


def test_await_of_what_another_has_the_lsn_of(group: Group) -> None:
    async def main() -> None:
        group.append(3)
        group.truncate(2)
        group.append(2)
        with pytest.raises(EntryTruncatedError):
            await Commit(group, 0, 3)
        assert await Commit(group, 1, 3) == 3

    run(main())


def test_await_of_what_is_to_come(group: Group) -> None:
    async def wait(lsn: int) -> int:
        return await Commit(group, 0, lsn)

    async def main() -> None:
        waiting = [asyncio.ensure_future(wait(lsn)) for lsn in (2, 1)]
        await asyncio.sleep(0)
        assert len(group.waker()._pending) == 2
        group.append(2)
        assert await asyncio.gather(*waiting) == [2, 1]

    run(main())


# Event loops.


def test_awaited_in_any_order_and_woken_in_that_of_the_lsn(group: Group) -> None:
    async def main() -> None:
        waker = group.waker()
        assert group.waker() is waker
        futures = {lsn: waker.future(0, lsn) for lsn in (3, 1, 4, 2, 2)}
        assert waker._armed_lsn == 1
        group.append(2)
        await futures[2]
        assert [futures[lsn].done() for lsn in (1, 3, 4)] == [True, False, False]
        assert waker._armed_lsn == 3
        group.append(2)
        await futures[4]
        assert futures[3].done()
        assert (waker._pending, waker._armed_lsn) == ([], 0)

    run(main())


def test_many_awaits_of_one_lsn(group: Group) -> None:
    async def main() -> None:
        futures = [group.waker().future(0, 1) for _ in range(20)]
        group.append()
        await asyncio.gather(*futures)

    run(main())


def test_what_is_durable_already_is_settled_without_a_wakeup(group: Group) -> None:
    async def main() -> None:
        group.append()
        await group.waker().future(0, 1)
        with pytest.raises(BlockingIOError):
            os.read(group.waker()._slot._read_fd, 8)

    run(main())


def test_what_is_gone_fails_and_what_is_to_come_is_kept(group: Group) -> None:
    async def main() -> None:
        group.append(5)
        waker = group.waker()
        gone = [waker.future(0, lsn) for lsn in (7, 6)]
        group.truncate(3)
        kept = [waker.future(1, lsn) for lsn in (5, 3, 4)]
        for lsn, future in zip((7, 6), gone, strict=True):
            with pytest.raises(EntryTruncatedError) as caught:
                await future
            assert str(caught.value) == str(EntryTruncatedError(lsn, 1, 2))
        assert not any(future.done() for future in kept)
        assert waker._armed_lsn == 3
        group.append(3)
        await asyncio.gather(*kept)

    run(main())


def test_what_was_before_a_truncation_is_waited_for_after_it(group: Group) -> None:
    """Its generation is over, and it is there all the same."""

    async def main() -> None:
        group.append(5)
        group.truncate(3)
        there, gone = (group.waker().future(0, lsn) for lsn in (2, 3))
        with pytest.raises(EntryTruncatedError) as caught:
            await gone
        assert str(caught.value) == str(EntryTruncatedError(3, 1, 2))
        await there

    run(main())


def test_a_loop_that_has_seen_a_generation_end_is_not_misled_by_its_lsns(group: Group) -> None:
    async def main() -> None:
        waker = group.waker()
        group.append(3)
        group.truncate(2)
        group.append(2)
        await waker.future(1, 3)
        assert waker._generation == 1
        with pytest.raises(EntryTruncatedError) as caught:
            await waker.future(0, 2)
        assert str(caught.value) == str(EntryTruncatedError(2, 1, 3))
        await waker.future(0, 1)

    run(main())


def test_waiters_that_gave_up_do_not_pile_up(group: Group) -> None:
    async def main() -> None:
        waker = group.waker()
        for _ in range(5):
            waker.future(0, 1).cancel()
        waiting = waker.future(0, 1)
        assert len(waker._pending) == 1
        group.append()
        await waiting

    run(main())


def test_every_truncation_is_noticed(group: Group) -> None:
    async def main() -> None:
        group.append(5)
        for generation, next_lsn in enumerate((4, 3, 2)):
            gone = group.waker().future(generation, 6)
            group.truncate(next_lsn)
            with pytest.raises(EntryTruncatedError):
                await gone

    run(main())


def test_a_waiter_that_gave_up_is_passed_over(group: Group) -> None:
    async def main() -> None:
        waker = group.waker()
        given_up, waiting, gone = waker.future(0, 1), waker.future(0, 2), waker.future(0, 9)
        given_up.cancel()
        waker._resolve()
        assert waker._armed_lsn == 2
        gone.cancel()
        group.append(2)
        await waiting
        group.stop()

    run(main())


def test_a_descriptor_that_is_not_readable_after_all_changes_nothing(group: Group) -> None:
    async def main() -> None:
        waker = group.waker()
        future = waker.future(0, 1)
        waker._armed_lsn = 77
        waker._slot._on_readable()
        assert (future.done(), waker._armed_lsn) == (False, 77)
        future.cancel()

    run(main())


def test_pipes_serve_where_there_is_no_eventfd(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "eventfd")

    async def main() -> None:
        before = open_descriptors()
        waker = group.waker()
        assert waker._slot._read_fd != waker._slot._write_fd
        assert not os.get_blocking(waker._slot._read_fd)
        assert not os.get_blocking(waker._slot._write_fd)
        for lsn in (1, 2):
            future = waker.future(0, lsn)
            group.append()
            await future
        group.stop()
        assert open_descriptors() == before

    run(main())


def test_a_log_serves_sixteen_loops_and_again_when_they_are_closed(group: Group) -> None:
    async def waker() -> _LoopWaker:
        return group.waker()

    loops = [asyncio.new_event_loop() for _ in range(17)]
    before = open_descriptors()
    for loop in loops[:16]:
        loop.run_until_complete(waker())
    assert open_descriptors() == before + 16
    with pytest.raises(OptionError, match=r"^a log serves at most 16 event loops"):
        loops[16].run_until_complete(waker())
    gc.collect()
    assert open_descriptors() == before + 16
    loops[0].close()
    loops[16].run_until_complete(waker())
    assert set(group._wakers) == set(loops[1:])
    group.stop()
    assert not group._wakers
    for loop in loops[1:]:
        loop.run_until_complete(asyncio.sleep(0))  # each lets go in its own time
        loop.close()


def test_a_failure_wakes_whoever_is_left(group: Group) -> None:
    async def main() -> None:
        futures = [group.waker().future(0, lsn) for lsn in (1, 2)]
        group.poison(errno.EIO)
        for future in futures:
            with pytest.raises(LogPoisonedError) as caught:
                await future
            assert caught.value.errno == errno.EIO

    run(main())


def test_who_gave_up_is_not_told_of_a_failure(group: Group) -> None:
    async def main() -> None:
        waiting, given_up = (group.waker().future(0, lsn) for lsn in (1, 2))
        given_up.cancel()
        group.poison(errno.EIO)
        with pytest.raises(LogPoisonedError):
            await waiting
        assert given_up.cancelled()

    run(main())


def closed_error(future: asyncio.Future[None], group: Group) -> bool:
    error = future.exception()
    return isinstance(error, ClosedLogError) and str(error) == f"{group.path} is closed"


def test_stop_in_the_loop_itself_settles_what_it_can(group: Group) -> None:
    async def main() -> None:
        before = open_descriptors()
        pending, done = group.waker().future(0, 2), group.waker().future(0, 1)
        group.append()
        due = group.waker().future(0, 1)
        group.stop()
        assert (done.result(), due.result()) == (None, None)
        assert closed_error(pending, group)
        assert open_descriptors() == before
        await asyncio.sleep(0)  # what was due to be resolved finds nothing to do

    run(main())


def test_what_is_due_finds_nothing_to_do_after_a_stop(group: Group) -> None:
    async def main() -> None:
        errors: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: errors.append(context))
        group.append()
        due = group.waker().future(0, 1)
        assert not due.done()
        group.stop()
        assert due.result() is None
        await asyncio.sleep(0)  # the call that it had asked for
        assert errors == []

    run(main())


def test_a_loop_that_is_woken_by_the_stop_fails_what_is_pending(group: Group) -> None:
    """Before the thread that stops comes to tell it."""

    async def main() -> None:
        future = group.waker().future(0, 1)
        lib.walcore_writer_stop(group.raw)
        await asyncio.wait([future])
        assert closed_error(future, group)
        assert not group.waker()._slot.released

    run(main())


def test_who_asks_after_the_stop_is_answered_at_once(group: Group) -> None:
    """And nothing is kept for the loop, which nobody would let go of."""

    async def main() -> None:
        before = open_descriptors()
        group.append()
        group.stop()
        done, pending = group.waker().future(0, 1), group.waker().future(0, 2)
        assert done.result() is None
        assert closed_error(pending, group)
        assert not group._wakers
        assert open_descriptors() == before

    run(main())


@pytest.mark.parametrize("with_loop", [False, True])
def test_stop_elsewhere_lets_the_loop_let_go(group: Group, with_loop: bool) -> None:
    ready = threading.Event()
    found = []
    wakers = []
    stopped = asyncio.Event()

    async def follow() -> None:
        waker = group.waker()
        wakers.append(waker)
        future = waker.future(0, 1)
        ready.set()
        with pytest.raises(ClosedLogError):
            await future
        found.append(closed_error(future, group))
        await stopped.wait()
        found.append(waker._slot.released)

    async def stop() -> None:
        group.stop()

    thread = threading.Thread(target=run, args=(follow(),))
    thread.start()
    assert ready.wait(15)
    if with_loop:
        run(stop())
    else:
        group.stop()
    wakers[0].loop.call_soon_threadsafe(stopped.set)  # behind what the stop has asked for
    thread.join(15)
    assert found == [True, True]


@pytest.mark.parametrize("just_now", [False, True])
def test_stop_after_a_loop_was_closed(
    group: Group, monkeypatch: pytest.MonkeyPatch, just_now: bool
) -> None:
    async def waker() -> _LoopWaker:
        return group.waker()

    before = open_descriptors()
    loop = asyncio.new_event_loop()
    held = loop.run_until_complete(waker())
    loop.close()
    if just_now:  # it was open when it was asked
        monkeypatch.setattr(loop, "is_closed", lambda: False)
    group.stop()
    assert held._slot.released
    assert open_descriptors() == before
