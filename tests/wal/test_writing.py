"""The writing side: what is acked is on the disk, whatever interrupts, fails or changes."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import (
    contents,
    crash_copy,
    open_descriptors,
    payloads,
    restore,
    run_child,
    segment_files,
    snapshot,
)
from tests.native.twin import Record
from tests.wal.inside import header_of, settle, writer_of
from tests.wal.replicas import records_of
from walstore import (
    CorruptLogError,
    EntryTruncatedError,
    FileWALManager,
    LogFullError,
    LogPoisonedError,
    OptionError,
)
from walstore.limits import LSN_MAX
from walstore.wal import files
from walstore.wal.segment import encode_header


def without_watermark(path: Path) -> Path:
    """As when the crash took what was never synced."""
    with open(path / "meta", "r+b") as file:
        file.seek(8192)
        file.write(bytes(24))
    return path


def test_waiting_for_a_truncated_entry_harms_no_later_one(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log:
        commits = [log.submit(b"%d" % i) for i in range(10)]
        commits[-1].wait(30)
        log.truncate_before(3)
        log.truncate_after(5)
        for _ in range(2):
            with pytest.raises(EntryTruncatedError) as caught:
                commits[-1].wait(30)
            error = caught.value
            assert (error.lsn, error.first_lsn, error.last_lsn) == (10, 3, 5)
            assert (log.last_lsn, log.durable_lsn) == (5, 5)
            assert not commits[-1].done()
        assert commits[4].wait(30) == 5
        syncs = log.stats().syncs
        assert log.append(b"later") == 6
        assert log.stats().syncs == syncs + 1
        copy = without_watermark(crash_copy(tmp_path / "log", tmp_path / "copy"))
        # Another entry has its lsn by now: it is still not this one.
        log.append_many([b"other"] * 8)
        with pytest.raises(EntryTruncatedError):
            commits[-1].wait(30)
    assert payloads(contents(copy)) == [b"2", b"3", b"4", b"later"]


def test_awaits_resolve_in_any_order(tmp_path: Path) -> None:
    async def main(log: FileWALManager) -> None:
        ahead = writer_of(log).group.waker().future(0, 6)  # as a tail that waits
        commit = log.submit(b"1")
        mine = writer_of(log).group.waker().future(0, 1)
        await asyncio.wait_for(mine, 30)
        assert not ahead.done()
        commits = [log.submit(b"x" * 200_000) for _ in range(20)]

        async def wait(i: int) -> int:
            return await commits[i]

        waits = [wait(i) for i in reversed(range(20))]
        assert await asyncio.wait_for(asyncio.gather(*waits), 30) == list(range(21, 1, -1))
        await asyncio.wait_for(ahead, 30)
        assert await commit == 1

    with FileWALManager(tmp_path / "log") as log:
        asyncio.run(main(log))


def test_adopted_term_holds_for_local_entries_too(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log:
        log.append(b"a")
        log._adopt_term(5)
        log._submit_records(records_of(Record(2, term=5, payload=b"b")))
        assert log.term == 5
        log.append(b"c")
        log.append_many([b"d", b"e"])
        writer_of(log).adopt_term(3)
        assert log.term == 5
        log.append(b"f")
        terms = [entry.term for entry in log.replay()]
        assert terms == [terms[0], 5, 5, 5, 5, 5]
        copy = without_watermark(crash_copy(tmp_path / "log", tmp_path / "copy"))
    assert payloads(contents(copy)) == [b"a", b"b", b"c", b"d", b"e", b"f"]


def test_term_that_no_log_could_be_opened_with_is_refused(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log:
        log.append_many([b"a", b"b"])
        for term in (LSN_MAX + 1, (1 << 64) - 1):
            with pytest.raises(OptionError, match="a term is at most"):
                log._adopt_term(term)
        assert (log.last_lsn, log.term) == (2, 1)
        log._adopt_term(LSN_MAX)
        log._submit_records(records_of(Record(3, term=LSN_MAX, payload=b"c")))
        for last in (log.begin_term, lambda: log.truncate_after(1)):
            with pytest.raises(OptionError, match="a term is at most"):
                last()
        assert log.append(b"d") == 4
    with FileWALManager(tmp_path / "log") as log:
        assert (log.last_lsn, log.term) == (4, LSN_MAX)


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("after", [False, True])
def test_interrupt_in_the_meta_write_of_a_roll(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, after: bool
) -> None:
    """Whether the roll happened nobody can tell: the log is latched shut, and nothing is lost."""
    path = tmp_path / "log"
    log = FileWALManager(path, segment_bytes=4096)
    acked = [b"%02d" % i * 25 for i in range(30)]
    for payload in acked:
        log.append(payload)
    real, calls = files.sync_data, [0]

    def interrupted(fd: int, name: str) -> None:
        calls[0] += name.endswith("meta")
        hit = name.endswith("meta") and calls[0] == call
        if after or not hit:
            real(fd, name)
        if hit:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "sync_data", interrupted)
        with pytest.raises(KeyboardInterrupt):
            log.append(b"x" * 3000)
    for late in (lambda: log.append(b"late"), lambda: log.submit(b"late"), log.begin_term):
        with pytest.raises(LogPoisonedError):
            late()
    copy = without_watermark(crash_copy(path, tmp_path / "copy"))
    log.close()
    for where in (path, copy):
        with FileWALManager(where, segment_bytes=4096) as again:
            assert payloads(again.replay()) == acked
            assert again.append(b"x" * 3000) == 31
        assert payloads(contents(where)) == [*acked, b"x" * 3000]


def test_bytearray_that_changes_during_append(tmp_path: Path) -> None:
    """Which of its bytes are taken is open; that the entry is whole is not."""
    buffer = bytearray(4 << 20)
    stop = threading.Event()

    def change() -> None:
        i = 0
        while not stop.is_set():
            i += 1
            buffer[:] = bytes([i & 255]) * len(buffer)

    with FileWALManager(tmp_path / "log", sync="os") as log:
        thread = threading.Thread(target=change)
        thread.start()
        try:
            for _ in range(12):
                log.append(buffer)
        finally:
            stop.set()
            thread.join()
        assert [len(entry.payload) for entry in log.replay()] == [len(buffer)] * 12
        assert log.verify().status == "clean"


FORK = """
    import os, sys
    from walstore import FileWALManager
    log = FileWALManager(sys.argv[1])
    log.append(b"parent")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)  # until the parent is done
        os._exit(0)
    log.close()
    with FileWALManager(sys.argv[1]) as log:
        assert log.append(b"again") == 2
    os.close(writing)
    assert os.waitpid(pid, 0)[1] == 0
    print("good")
"""


def test_forked_child_holds_no_lock_when_the_parent_has_closed(tmp_path: Path) -> None:
    assert run_child(FORK, tmp_path / "log", timeout_s=60).strip() == "good"


@pytest.mark.parametrize("sync", ["always", "interval", "os"])
def test_close_of_a_poisoned_log_says_what_may_be_lost(tmp_path: Path, sync: Any) -> None:
    before = open_descriptors()
    log = FileWALManager(tmp_path / "log", sync=sync, sync_interval_ms=60_000)
    log.append(b"x")
    writer_of(log).group.poison(errno.EIO)
    if sync == "always":
        log.close()  # whoever was acked has lost nothing
    else:
        with pytest.raises(LogPoisonedError) as caught:
            log.close()
        assert caught.value.errno == errno.EIO
    log.close()
    assert open_descriptors() == before
    with FileWALManager(tmp_path / "log") as log:
        assert log.append(b"y") == 2


LIMITED = """
    import errno, resource, sys
    from walstore import FileWALManager, LogFullError
    log = FileWALManager(sys.argv[1], segment_bytes=1 << 20)
    for i in range(10):
        log.append(b"%d" % i * 1000)
    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    for call in (
        lambda: log.append(b"n" * 5000),
        lambda: log.append_many([b"n" * 5000] * 3),
        lambda: log.submit(b"n" * 5000).wait(30),
    ):
        limit(20000)
        for _ in range(2):
            try:
                call()
            except LogFullError as error:
                assert error.errno == errno.EFBIG, error
            else:
                raise AssertionError("no error")
            assert log.last_lsn == log.durable_lsn
        limit(resource.RLIM_INFINITY)
        log.append(b"y" * 3000)
    assert log.verify().status == "clean"
    print(log.last_lsn)
    log.close()
"""


REFUSED_TERMS = """
    import resource, sys
    from tests.native.twin import Record
    from tests.wal.replicas import records_of
    from walstore import FileWALManager, LogFullError
    from walstore.wal.commit import Commit
    log = FileWALManager(sys.argv[1], segment_bytes=1 << 20)
    log.append(b"x")
    log._adopt_term(5)
    entries = [Record(lsn, term=term, payload=b"p" * 5000) for lsn, term in ((2, 3), (3, 5))]
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192 + 3000, resource.RLIM_INFINITY))
    group = log._writable()
    generation = group.refresh_generation()
    try:
        Commit(group, generation, log._submit_records(records_of(*entries))).wait(30)
    except LogFullError:
        pass
    else:
        raise AssertionError("no error")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    log._submit_records(records_of(*entries[:1]))
    print([(entry.lsn, entry.term) for entry in log.replay()])
    log.close()
"""


def test_refused_entries_leave_no_term_behind(tmp_path: Path) -> None:
    assert run_child(REFUSED_TERMS, tmp_path / "log").strip() == "[(1, 1), (2, 3)]"


def test_file_size_limit_is_no_space_and_appends_go_on(tmp_path: Path) -> None:
    assert run_child(LIMITED, tmp_path / "log", timeout_s=60).strip() == "13"
    wanted = [*[b"%d" % i * 1000 for i in range(10)], *[b"y" * 3000] * 3]
    assert payloads(contents(tmp_path / "log")) == wanted


HOSTILE: list[dict[str, int]] = [
    {"limit_at": 1 << 63},
    {"limit_at": 1 << 44},
    {"limit_at": 0},
    {"first_lsn": 0},
    {"first_lsn": 1 << 63},
    {"segment_id": 1},
    {"prev_segment_id": 1 << 40},
    {"prev_segment_id": -1},
]


@pytest.mark.parametrize("change", HOSTILE, ids=str)
@pytest.mark.parametrize("read_only", [False, True])
def test_hostile_header_is_corruption(
    tmp_path: Path, change: dict[str, int], read_only: bool
) -> None:
    """Its checksum is right, so only sense can refuse it: no loop, no huge map, nothing held."""
    path = tmp_path / "log"
    with FileWALManager(path, segment_bytes=4096) as log:
        for i in range(20):
            log.append(b"%02d" % i * 500)
        settle(log)
    good = snapshot(path)
    last = segment_files(path)[-1]
    header = header_of(last)
    changed = {k: header.segment_id if v < 0 else v for k, v in change.items()}  # -1: itself
    data = last.read_bytes()
    last.write_bytes(encode_header(replace(header, **changed)) + data[4096:])  # type: ignore[arg-type]
    bad, before = snapshot(path), open_descriptors()
    for _ in range(3):
        with pytest.raises(CorruptLogError) as caught:
            FileWALManager(path, read_only=read_only)
        assert caught.value.hint
    assert open_descriptors() == before
    assert snapshot(path) == bad
    with FileWALManager(restore(path, good)) as log:
        assert log.last_lsn == 20


@pytest.mark.parametrize("step", ["reserve", "zero_fill", "rename", "write_at"])
def test_failed_rolls_leak_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "log"

    real = getattr(files, step)
    refused_at: set[int] = set()

    def full(*arguments: Any) -> None:
        if step == "write_at":  # only to `meta`: no space for a change, and some to undo it
            _fd, _data, at, name = arguments
            if not name.endswith("meta") or at in refused_at:
                refused_at.discard(at)
                real(*arguments)
                return
            refused_at.add(at)
        raise OSError(errno.ENOSPC, "no space")

    with FileWALManager(path, segment_bytes=4096) as log:
        log.append(b"a" * 1500)
        with monkeypatch.context() as patch:
            patch.setattr(files, step, full)
            log.append(b"a" * 1500)
            for i in range(6):
                with pytest.raises(LogFullError) as caught:
                    log.append(b"a" * 3000)
                assert caught.value.errno == errno.ENOSPC
                settle(log)
                if i == 0:
                    before = open_descriptors()
            assert open_descriptors() == before
        names = os.listdir(path)
        assert len(segment_files(path)) == 1
        assert len([name for name in names if name.startswith("spare-")]) <= 1
        assert len(names) <= 3
        assert log.append(b"b" * 3000) == 3
        assert log.verify().status == "clean"
    assert payloads(contents(path)) == [b"a" * 1500, b"a" * 1500, b"b" * 3000]


def beside(log: FileWALManager, threads: int, payload: bytes, main: Callable[[], None]) -> None:
    """Runs a function while other threads append."""
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            log.append(payload)

    writers = [threading.Thread(target=write) for _ in range(threads)]
    for writer in writers:
        writer.start()
    try:
        main()
    finally:
        stop.set()
        for writer in writers:
            writer.join()


def test_oversize_entries_are_not_starved_by_small_ones(tmp_path: Path) -> None:
    """The segment that is made for one is not filled by others: one segment for each."""
    with FileWALManager(tmp_path / "log", segment_bytes=4096, sync="os") as log:

        def append_large() -> None:
            for i in range(5):
                log.append(b"%d" % i * 500_000)

        beside(log, 3, b"x" * 100, append_large)
        segments = writer_of(log).segments()
        large = [segment for segment in segments if segment.header.limit_at > 400_000]
        assert len(large) <= 8  # were none preferred, there would be dozens
        held = [entry for entry in log.replay() if len(entry.payload) == 500_000]
        assert payloads(held) == [b"%d" % i * 500_000 for i in range(5)]


def test_sync_beside_an_appender_is_woken_when_it_is_done(tmp_path: Path) -> None:
    """A wakeup that is lost costs 200 ms, after which a waiter looks by itself."""
    slow: list[float] = []
    with FileWALManager(tmp_path / "log", sync="os") as log:

        def sync() -> None:
            for _ in range(100):
                began_s = time.monotonic()
                lsn = log.last_lsn
                assert log.sync() >= lsn
                slow.append(time.monotonic() - began_s)

        beside(log, 3, b"x" * 20_000, sync)
    assert len([took_s for took_s in slow if took_s > 0.19]) <= 3, sorted(slow)[-8:]


def test_each_copy_of_meta_is_synced_before_the_other_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power loss between the two leaves one whole, whatever it does to the other."""
    with FileWALManager(tmp_path / "log") as log:
        settle(log)
        calls: list[object] = []
        write_at, sync_data = files.write_at, files.sync_data

        def written(fd: int, data: bytes, at: int, path: str) -> None:
            calls.append(at)
            write_at(fd, data, at, path)

        def synced(fd: int, path: str) -> None:
            calls.append("sync")
            sync_data(fd, path)

        monkeypatch.setattr(files, "write_at", written)
        monkeypatch.setattr(files, "sync_data", synced)
        log.begin_term()
        monkeypatch.undo()
    assert calls == [0, "sync", 4096, "sync"]
