"""Readers beside a writer, in this process and another: never more than what is durable."""

from __future__ import annotations

import errno
import os
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conformance import run_threads
from tests.helpers import (
    child,
    crash_copy,
    end,
    expect_line,
    payloads,
    run_child,
    segment_files,
    tell,
)
from tests.native.twin import Record
from tests.wal.inside import header_of, roll_once
from tests.wal.raw import encode_all, watermark_bytes
from walstore import ClosedLogError, FileWALManager, LogAccessError, LSNOutOfRangeError
from walstore.wal import files, following
from walstore.wal.manager import SyncPolicy
from walstore.wal.meta import WATERMARK_AT, Watermark, read_watermark
from walstore.wal.record import record_bytes
from walstore.wal.segment import RECORDS_AT

WRITER = """
    import sys
    from walstore import FileWALManager
    path, sync = sys.argv[1:3]
    log = FileWALManager(path, sync=sync, segment_bytes=4096)
    log.append(b"1")
    print("ready", flush=True)
    sys.stdin.readline()
    for round in range(25):
        for i in range(20):
            lsn = log.append(b"%d" % (log.last_lsn + 1) * (1 + i * 7 % 40))
        log.append_many([b"%d" % (log.last_lsn + 1 + i) for i in range(4)])
        if round % 3 == 2:
            log.truncate_before(log.last_lsn - 60)
        if round % 5 == 4:
            log.truncate_after(log.last_lsn - 7)
    print("done", log.last_lsn, flush=True)
    sys.stdin.readline()
    log.close()
"""


@pytest.mark.parametrize("sync", ["always", "interval", "os"])
def test_reader_beside_a_writer_that_appends_rolls_and_truncates(tmp_path: Path, sync: str) -> None:
    path = tmp_path / "log"
    process = child(WRITER, path, sync)
    reads = gone = 0
    try:
        expect_line(process, "ready")
        with FileWALManager(path, read_only=True) as log:
            assert log.read(1).payload == b"1"
            tell(process, "go")
            assert process.stdout is not None
            done: list[str] = []

            def follow() -> None:
                nonlocal reads, gone
                while not done:
                    try:
                        entries = list(log.replay())
                    except LSNOutOfRangeError:
                        gone += 1
                        continue
                    assert all(b.lsn == a.lsn + 1 for a, b in pairwise(entries))
                    for entry in entries:
                        number = b"%d" % entry.lsn
                        assert not entry.payload.replace(number, b"") or number in entry.payload
                        assert entry.payload.startswith(number)
                    reads += len(entries)

            def wait() -> None:
                assert process.stdout is not None
                done.append(process.stdout.readline())

            run_threads(follow, wait)
            assert done[0].startswith("done"), process.stderr and process.stderr.read()
            last_lsn = int(done[0].split()[1])
            assert list(log.replay())[-1].lsn == last_lsn
            assert log.verify().status == "clean"
    finally:
        end(process)
    print(f"reads={reads} gone={gone}")


DURABLE = """
    import sys
    from walstore import FileWALManager
    with FileWALManager(sys.argv[1], read_only=True) as log:
        print(*[entry.lsn for entry in log.replay()])
"""


def test_reader_sees_nothing_beyond_the_durable_entry(tmp_path: Path) -> None:
    """Bytes that are in the file and were not synced are not shown."""
    with FileWALManager(tmp_path / "log") as log:
        log.append_many([b"a", b"b", b"c"])
        crash_copy(tmp_path / "log", tmp_path / "copy")
        log.append(b"d")
        after = crash_copy(tmp_path / "log", tmp_path / "after")
    # The file is ahead of the watermark, as between a pwrite and its fdatasync.
    segment = next(file for file in after.iterdir() if file.name[:1].isdigit())
    (tmp_path / "copy" / segment.name).write_bytes(segment.read_bytes())
    fd = files.open_file(str(tmp_path / "copy" / "meta"), write=True)
    assert files.lock(fd)
    with FileWALManager(tmp_path / "copy", read_only=True) as reader:
        assert reader.last_lsn == reader.durable_lsn == 3
        with pytest.raises(LSNOutOfRangeError):
            reader.read(4)
        assert payloads(reader.replay()) == [b"a", b"b", b"c"]
    files.close(fd)
    assert run_child(DURABLE, tmp_path / "copy").split() == ["1", "2", "3", "4"]


def test_verify_beside_a_writer_that_is_writing_is_clean_once_it_has(tmp_path: Path) -> None:
    """What looked torn when the log was opened was an entry under way."""
    with FileWALManager(tmp_path / "log") as log:
        log.append(b"a" * 100)
        crash_copy(tmp_path / "log", tmp_path / "copy")
        log.append(b"b" * 100)
        after = crash_copy(tmp_path / "log", tmp_path / "after")
    copy = tmp_path / "copy"
    segment = next(file for file in copy.iterdir() if file.name[:1].isdigit())
    whole = (after / segment.name).read_bytes()
    second = 8192 + 152
    segment.write_bytes(whole[: second + 70] + bytes(len(whole) - second - 70))
    fd = files.open_file(str(copy / "meta"), write=True)
    assert files.lock(fd)
    with FileWALManager(copy, read_only=True) as reader:
        assert payloads(reader.replay()) == [b"a" * 100]
        segment_fd = files.open_file(str(segment), write=True)
        files.write_at(segment_fd, whole[second:], second, str(segment))
        files.close(segment_fd)
        meta = (after / "meta").read_bytes()
        files.write_at(fd, meta[8192:], 8192, str(copy / "meta"))
        assert payloads(reader.replay()) == [b"a" * 100, b"b" * 100]
        assert reader.verify().status == "clean"
        assert reader.verify().entries == 2
    files.close(fd)


def test_tail_of_a_reader_follows_the_writer(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log", segment_bytes=4096) as log:
        log.append(b"0")
        with FileWALManager(tmp_path / "log", read_only=True) as reader:
            got: list[bytes] = []

            def follow() -> None:
                for entry in reader.tail():
                    got.append(entry.payload)
                    if len(got) == 60:
                        return

            def write() -> None:
                for i in range(1, 60):
                    log.append(b"%d" % i + b"." * (i * 9))

            run_threads(follow, write)
    assert [data.rstrip(b".") for data in got] == [b"%d" % i for i in range(60)]


def test_refresh_while_the_last_segment_is_truncated_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its look at the metadata and at the segment that they name."""
    with FileWALManager(tmp_path / "log", segment_bytes=4096) as log:
        log.append(b"first")
        for _ in range(2):
            roll_once(log, b"x", 5)
        with FileWALManager(tmp_path / "log", read_only=True) as reader:
            truncations: list[int] = []

            def truncate(fd: int, log_id: bytes) -> Watermark | None:
                if not truncations:
                    truncations.append(1)
                    log.truncate_after(1)
                return read_watermark(fd, log_id)

            monkeypatch.setattr(following, "read_watermark", truncate)
            assert payloads(reader.replay()) == [b"first"]
            assert truncations == [1]


def test_reader_of_a_disk_that_fails_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with FileWALManager(tmp_path / "log") as log:
        log.append(b"x")
        with FileWALManager(tmp_path / "log", read_only=True) as reader:
            with monkeypatch.context() as patched:
                patched.setattr(files, "read_at", fail)
                with pytest.raises(LogAccessError, match="cannot read"):
                    FileWALManager(tmp_path / "log", read_only=True)
                with pytest.raises(LogAccessError, match="cannot read"):
                    reader.read(1)
            log.append(b"y")
            with monkeypatch.context() as patched:
                patched.setattr(following, "verify_range", fail)  # the scan for what is new
                with pytest.raises(LogAccessError, match="cannot read"):
                    reader.read(1)
            assert reader.read(1).payload == b"x"


def test_what_was_shown_stays_readable_while_another_thread_looks_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        FileWALManager(tmp_path / "log", sync="os") as log,
        FileWALManager(tmp_path / "log", read_only=True) as reader,
    ):
        for number in range(1, 51):
            log.append(b"%d" % number)
        assert len(list(reader.replay())) == 50
        view = reader._follower
        assert view is not None
        segment = view.segments()[-1]
        log.begin_term()
        log.append(b"51")
        inside, go_on = threading.Event(), threading.Event()
        other = threading.Thread(target=view.refresh)
        real = files.sync_data

        def sync(fd: int, path: str) -> None:
            if threading.current_thread() is other:
                inside.set()
                assert go_on.wait(60)
            real(fd, path)

        monkeypatch.setattr(files, "sync_data", sync)
        other.start()
        try:
            assert inside.wait(60)
            assert (reader.last_lsn, reader.term) == (50, 1)
            assert view.segments_in(view.generation()) == view.segments()
            place = view.locate_in_tail(segment, 50)
            assert place.at < place.to_at
        finally:
            go_on.set()
            other.join()
        assert (reader.last_lsn, reader.term) == (51, 2)


def test_threads_that_share_a_reader_beside_a_writer_that_changes_the_log(tmp_path: Path) -> None:
    done = threading.Event()
    reads = [0, 0]
    with (
        FileWALManager(tmp_path / "log", sync="os", segment_bytes=4096) as log,
        FileWALManager(tmp_path / "log", read_only=True) as reader,
    ):
        log.append_many([b"shown"] * 9)
        assert len(list(reader.replay())) == 9

        def read(which: int) -> None:
            while not done.is_set():
                assert reader.read(9).payload == b"shown"
                reads[which] += 1

        def change() -> None:
            try:
                for _ in range(60):
                    log.begin_term()
                    log.append(b"more" * 50)
            finally:
                done.set()

        run_threads(lambda: read(0), lambda: read(1), change)
    print(f"reads={reads}")
    assert min(reads) >= 10


@pytest.mark.parametrize("look", ["refresh", "explain"])
def test_a_reader_that_another_thread_closes_looks_at_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    """The number of its descriptor may be that of another log by the time it gets to look."""
    with FileWALManager(tmp_path / "log") as log, FileWALManager(tmp_path / "other") as other:
        log.append(b"x" * 100)
        other.append(b"y" * 100)
        other.begin_term()
        reader = FileWALManager(tmp_path / "log", read_only=True)
        view, others = reader._follower, []
        real = getattr(view, look)

        def close_first(*arguments: object) -> object:
            reader.close()
            others.append(FileWALManager(tmp_path / "other", read_only=True))
            return real(*arguments)

        if look == "explain":
            with open(segment_files(tmp_path / "log")[0], "r+b") as file:
                file.seek(RECORDS_AT + 60)  # in the payload
                file.write(b"?")
        monkeypatch.setattr(view, look, close_first)
        with pytest.raises(ClosedLogError):
            reader.read(1)
        assert payloads(others[0].replay()) == [b"y" * 100]
        others[0].close()


@pytest.mark.parametrize("sync", ["always", "os"])
def test_a_reader_knows_the_places_of_what_came_since_it_was_opened(
    tmp_path: Path, sync: SyncPolicy
) -> None:
    """As well as one that is opened now: a look does not begin where that one's opening ended."""
    path = tmp_path / "log"
    with FileWALManager(path, sync=sync) as log, FileWALManager(path, read_only=True) as reader:
        for number in range(40):
            log.append(b"x" * (100 + number * 150 % 7000))
            log.append_many([b"y" * 3000] * (number % 4))
            assert reader.read(log.last_lsn)
        with FileWALManager(path, read_only=True) as fresh:
            early, late = reader._follower, fresh._follower
            assert early is not None
            assert late is not None
            places = [
                [view.locate_in_tail(view.segments()[-1], lsn) for lsn in range(1, log.last_lsn)]
                for view in (early, late)
            ]
            assert places[0] == places[1]
            assert len({place.at for place in places[0]}) > 10


def test_entries_that_a_writer_took_back_leave_no_places_behind(tmp_path: Path) -> None:
    """Written when the reader was opened, and refused then: others lie there by now."""
    path, after = tmp_path / "log", tmp_path / "after"
    with FileWALManager(path) as log:
        log.append_many([b"1", b"2", b"3"])
        crash_copy(path, tmp_path / "copy")
        log.append_many([b"taken back" * 1000] * 9)
        crash_copy(path, after)
        log_id = bytes.fromhex(log.log_id)
    copy = tmp_path / "copy"
    (segment,), (written,) = segment_files(copy), segment_files(after)
    segment.write_bytes(written.read_bytes())
    fd = files.open_file(str(copy / "meta"), write=True)
    assert files.lock(fd)
    with FileWALManager(copy, read_only=True) as reader:
        assert reader.last_lsn == 3
        others = [Record(lsn, payload=b"kept" * 1900) for lsn in range(4, 9)]
        with open(segment, "r+b") as file:
            file.seek(RECORDS_AT + 3 * record_bytes(1))
            file.write(encode_all(others, header_of(segment).seed))
        files.write_at(fd, watermark_bytes(8, log_id=log_id), WATERMARK_AT, "meta")
        for lsn in range(4, 9):
            assert reader.read(lsn).payload == b"kept" * 1900
    files.close(fd)
