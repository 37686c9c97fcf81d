"""Tails: they wait without work, end when they are told, and never go on over a cut history."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import run_threads
from tests.wal.inside import append_numbered, numbered, writer_of
from walstore import (
    EntryTruncatedError,
    FileWALManager,
    LogPoisonedError,
    LSNOutOfRangeError,
    WALEntry,
)
from walstore.wal import writing
from walstore.wal.meta import Meta, write_copy
from walstore.wal.tail import Tail


def take(tail: Tail, count: int) -> list[bytes]:
    return [next(tail).payload for _ in range(count)]


def start(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("refilled", [0, 3, 9])
def test_tail_whose_last_entry_was_truncated_says_so(
    tmp_path: Path, read_only: bool, refilled: int
) -> None:
    """Also when another entry has its lsn by now: of a cut history it shows no second half."""
    path = tmp_path / "log"
    with FileWALManager(path) as log:
        log.append_many([b"%d" % i for i in range(1, 6)])
        with FileWALManager(path, read_only=True) as reader:
            tail = (reader if read_only else log).tail()
            assert take(tail, 5) == [b"1", b"2", b"3", b"4", b"5"]
            log.truncate_after(2)
            for _ in range(refilled):
                log.append(b"other")
            with pytest.raises(EntryTruncatedError) as caught:
                next(tail)
            assert caught.value.lsn == 5
            assert tail.next_lsn == 6


def test_tail_that_was_truncated_stays_so(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log:
        log.append_many([b"%d" % i for i in range(1, 6)])
        tail = log.tail()
        take(tail, 5)
        log.truncate_after(2)
        log.append_many([b"other"] * 9)
        for _ in range(2):
            with pytest.raises(EntryTruncatedError):
                next(tail)


@pytest.mark.parametrize("read_only", [False, True])
def test_tail_behind_the_cut_goes_on_with_what_came_then(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "log"
    with FileWALManager(path) as log:
        log.append_many([b"1", b"2"])
        with FileWALManager(path, read_only=True) as reader:
            tail = (reader if read_only else log).tail()
            assert take(tail, 2) == [b"1", b"2"]
            log.append_many([b"dropped"] * 3)
            log.truncate_after(2)
            log.append_many([b"3", b"4"])
            assert take(tail, 2) == [b"3", b"4"]


def test_truncation_wakes_a_tail_that_waits(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log:
        log.append_many([b"1", b"2", b"3"])
        tail = log.tail(3)
        assert take(tail, 1) == [b"3"]
        errors: list[BaseException] = []

        def follow() -> None:
            try:
                next(tail)
            except EntryTruncatedError as error:
                errors.append(error)

        thread = start(follow)
        log.truncate_after(1)
        thread.join(30)
        assert len(errors) == 1


def test_async_tail_whose_last_entry_was_truncated(tmp_path: Path) -> None:
    async def main(log: FileWALManager) -> None:
        tail = log.tail()
        for _ in range(3):
            await anext(tail)
        waiting = asyncio.ensure_future(first(tail))
        await asyncio.sleep(0)
        log.truncate_after(1)
        with pytest.raises(EntryTruncatedError):
            await asyncio.wait_for(waiting, 30)

    with FileWALManager(tmp_path / "log") as log:
        log.append_many([b"1", b"2", b"3"])
        asyncio.run(main(log))


async def first(tail: Tail) -> WALEntry:
    return await anext(tail)


@pytest.mark.parametrize("read_only", [False, True])
def test_idle_async_tail_burns_no_cpu(tmp_path: Path, read_only: bool) -> None:
    """Waiting is not polling without a pause; neither is it after the waiting was cancelled."""

    async def main(log: FileWALManager) -> None:
        tail = log.tail(2)
        began_s = time.process_time()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(first(tail), 0.6)
        with pytest.raises(TimeoutError):  # what is left of the one before
            await asyncio.wait_for(asyncio.get_running_loop().create_future(), 0.4)
        assert time.process_time() - began_s < 0.4

    with FileWALManager(tmp_path / "log") as log:
        log.append(b"1")
        with FileWALManager(tmp_path / "log", read_only=True) as reader:
            asyncio.run(main(reader if read_only else log))


def test_async_tail_after_a_cancelled_wait_misses_nothing(tmp_path: Path) -> None:
    async def main(log: FileWALManager) -> None:
        tail = log.tail()
        for i in range(1, 6):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(first(tail), 0.01)
            log.append(b"%d" % i)
            assert (await asyncio.wait_for(first(tail), 30)).payload == b"%d" % i

    with FileWALManager(tmp_path / "log") as log:
        asyncio.run(main(log))


def test_tail_whose_next_entry_was_dropped(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log", segment_bytes=4096) as log:
        for i in range(20):
            log.append(b"%02d" % i * 700)
        tail = log.tail()
        log.truncate_before(15)
        with pytest.raises(LSNOutOfRangeError) as caught:
            next(tail)
        assert not isinstance(caught.value, EntryTruncatedError)
        assert (caught.value.lsn, caught.value.first_lsn) == (1, 15)
        assert next(log.tail(15)).lsn == 15


def test_tail_that_has_all_is_not_told_of_what_was_dropped(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log", segment_bytes=4096) as log:
        for i in range(20):
            log.append(b"%02d" % i * 700)
        tail = log.tail(20)
        next(tail)
        log.truncate_before(21)
        log.append(b"on")
        assert take(tail, 1) == [b"on"]


def test_close_of_a_tail_ends_it_in_its_thread(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log:
        log.append(b"1")
        tail = log.tail()
        got: list[bytes] = []
        seen = threading.Event()

        def follow() -> None:
            for entry in tail:
                got.append(entry.payload)
                seen.set()

        thread = start(follow)
        assert seen.wait(30)
        tail.close()
        thread.join(30)
        assert not thread.is_alive()
        log.append(b"2")
        assert got == [b"1"]
        assert list(tail) == []


@pytest.mark.parametrize("sync", ["interval", "os"])
def test_tail_is_served_where_the_policy_syncs_nothing(tmp_path: Path, sync: str) -> None:
    options = {"sync": sync, "sync_interval_ms": 20}
    with FileWALManager(tmp_path / "log", **options) as log:  # type: ignore[arg-type]
        tail = log.tail()
        got: list[bytes] = []

        def follow() -> None:
            got.extend(take(tail, 50))

        def write() -> None:
            for i in range(50):
                log.append(b"%d" % i)

        run_threads(follow, write)
        assert got == [b"%d" % i for i in range(50)]
        assert log.durable_lsn == 50


def test_truncation_between_the_wait_of_a_tail_and_its_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FileWALManager(tmp_path / "log") as log:
        log.append_many([b"%d" % i for i in range(1, 4)])
        tail = log.tail()
        take(tail, 3)
        log.append(b"4")
        replay = log.replay

        def replay_late(from_lsn: int) -> Iterator[WALEntry]:
            log.truncate_after(2)
            return replay(from_lsn)

        monkeypatch.setattr(log, "replay", replay_late)
        with pytest.raises(EntryTruncatedError) as caught:
            next(tail)
        assert caught.value.lsn == 3


def test_truncation_of_entries_that_a_tail_has_yet_to_show(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log", segment_bytes=1 << 20) as log:
        for _ in range(40):
            log.append(bytes(400_000))
        tail = log.tail()
        take(tail, 3)
        log.truncate_after(20)
        log.append(b"new")
        assert take(tail, 17) == [bytes(400_000)] * 17
        assert take(tail, 1) == [b"new"]


def amid_truncation(monkeypatch: pytest.MonkeyPatch, look: Callable[[], object]) -> None:
    """Calls `look` in the middle of the next truncation: one of the copies of the metadata has it,
    and the other not yet."""

    def look_first(fd: int, meta: Meta, path: str, which: int) -> None:
        if which == 1:
            monkeypatch.setattr(writing, "write_copy", write_copy)
            look()
        write_copy(fd, meta, path, which)

    monkeypatch.setattr(writing, "write_copy", look_first)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("looks", [1, 2, 5])
def test_tail_that_looks_amid_a_truncation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: int, read_only: bool
) -> None:
    """What it shows is the log's history from its begin to its end, or it says that it is not."""
    path = tmp_path / "log"
    with FileWALManager(path) as log, FileWALManager(path, read_only=True) as reader:
        append_numbered(log, b"old", 5)
        tail = (reader if read_only else log).tail()
        shown = take(tail, 5)
        append_numbered(log, b"old", 5)

        def look() -> None:
            last_lsn = (reader if read_only else log).last_lsn
            shown.extend(take(tail, min(looks, last_lsn - 5)))

        amid_truncation(monkeypatch, look)
        log.truncate_after(7)
        append_numbered(log, b"new", 6)
        if len(shown) > 7:
            assert shown == [numbered(b"old", lsn) for lsn in range(1, 11)]
            with pytest.raises(EntryTruncatedError):
                next(tail)
        else:
            shown += take(tail, 13 - len(shown))
            assert shown == [entry.payload for entry in log.replay()]


def test_tail_that_is_made_amid_a_truncation_is_told_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tails: list[Tail] = []
    with FileWALManager(tmp_path / "log") as log:
        append_numbered(log, b"old", 10)
        amid_truncation(monkeypatch, lambda: tails.append(log.tail(11)))
        log.truncate_after(7)
        append_numbered(log, b"new", 6)
        with pytest.raises(EntryTruncatedError):
            next(tails[0])


@pytest.mark.parametrize("read_only", [False, True])
def test_truncation_between_the_replay_of_a_tail_and_its_look_at_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_only: bool
) -> None:
    """The last entry shown is still there, and those made ready are not."""
    path = tmp_path / "log"
    with FileWALManager(path) as log, FileWALManager(path, read_only=True) as reader:
        append_numbered(log, b"old", 5)
        watched = reader if read_only else log
        tail = watched.tail()
        take(tail, 5)
        append_numbered(log, b"old", 5)
        replay = watched.replay

        def truncate_late(from_lsn: int) -> Iterator[WALEntry]:
            monkeypatch.undo()
            found = replay(from_lsn)
            log.truncate_after(7)
            append_numbered(log, b"new", 3)
            assert watched.read(8).payload == numbered(b"new", 8)
            return found

        monkeypatch.setattr(watched, "replay", truncate_late)
        old, new = [numbered(b"old", lsn) for lsn in (6, 7)], [numbered(b"new", 8)]
        assert take(tail, 3) == old + new


@pytest.mark.parametrize("read_only", [False, True])
def test_second_truncation_while_a_tail_looks_at_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_only: bool
) -> None:
    path = tmp_path / "log"
    with FileWALManager(path) as log, FileWALManager(path, read_only=True) as reader:
        append_numbered(log, b"old", 10)
        watched = reader if read_only else log
        tail = watched.tail()
        take(tail, 5)
        log.truncate_after(8)
        watched.read(1)
        term_of = watched._term_of

        def truncate_then(lsn: int) -> int:
            monkeypatch.undo()
            term = term_of(lsn)
            log.truncate_after(3)
            append_numbered(log, b"new", 9)
            watched.read(1)
            return term

        monkeypatch.setattr(watched, "_term_of", truncate_then)
        with pytest.raises(EntryTruncatedError):
            take(tail, 2)


def test_truncation_of_the_entry_that_a_tail_asks_to_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has not shown it: nothing is to be told."""
    with FileWALManager(tmp_path / "log", sync="os") as log:
        log.append_many([b"1", b"2"])
        tail = log.tail()
        take(tail, 2)
        log.append(b"old")
        group = writer_of(log).group
        wait = group.wait

        def truncate_first(generation: int, lsn: int, *how: Any) -> None:
            monkeypatch.undo()
            log.truncate_after(2)
            log.append(b"new")
            wait(generation, lsn, *how)

        monkeypatch.setattr(group, "wait", truncate_first)
        assert take(tail, 1) == [b"new"]


def test_tail_whose_last_entry_was_truncated_and_its_successor_dropped(tmp_path: Path) -> None:
    """Of the entry before the log's first the term is known, too."""
    with FileWALManager(tmp_path / "log") as log:
        append_numbered(log, b"old", 6)
        tail = log.tail()
        take(tail, 6)
        log.truncate_after(5)
        append_numbered(log, b"new", 5)
        log.truncate_before(7)
        with pytest.raises(EntryTruncatedError):
            next(tail)


@pytest.mark.parametrize("sync", ["interval", "os"])
@pytest.mark.parametrize("in_loop", [False, True])
def test_tail_of_a_poisoned_log_shows_what_is_durable_and_then_says_so(
    tmp_path: Path, sync: Any, in_loop: bool
) -> None:
    log = FileWALManager(tmp_path / "log", sync=sync, sync_interval_ms=60_000)
    log.append_many([b"1", b"2"])
    log.sync()
    log.append(b"lost")
    writer_of(log).group.poison(errno.EIO)
    tail = log.tail()
    if in_loop:
        assert asyncio.run(take_async(tail, 2)) == [b"1", b"2"]
        with pytest.raises(LogPoisonedError):
            asyncio.run(take_async(tail, 1))
    else:
        assert take(tail, 2) == [b"1", b"2"]
        with pytest.raises(LogPoisonedError):
            next(tail)
    with pytest.raises(LogPoisonedError):
        log.close()


async def take_async(tail: Tail, count: int) -> list[bytes]:
    return [(await anext(tail)).payload for _ in range(count)]
