"""What verify and stats answer, for a writer and for a reader."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from tests.helpers import crash_copy, segment_files
from tests.wal.inside import header_of, settle, writer_of
from walstore import FileWALManager, LogAccessError
from walstore.wal import reading
from walstore.wal.record import crc32c, record_bytes
from walstore.wal.report import LogStats, Problem, VerifyReport
from walstore.wal.segment import RECORDS_AT


def build(path: Path, count: int = 12) -> FileWALManager:
    """A log of 3 entries of 1000 bytes in each segment."""
    log = FileWALManager(path, segment_bytes=4096)
    for i in range(count):
        log.append(b"%02d" % i * 500)
    settle(log)
    assert [segment.first_lsn for segment in writer_of(log).segments()] == list(range(1, count, 3))
    return log


def damage(path: str | Path, number: int) -> int:
    """Flips a bit of the number-th record of 1000 bytes and says where the record is."""
    at = RECORDS_AT + number * record_bytes(1000)
    with open(path, "r+b") as file:
        file.seek(at + 200)
        byte = file.read(1)[0]
        file.seek(at + 200)
        file.write(bytes([byte ^ 1]))
    return at


def test_verify_of_a_good_log(tmp_path: Path) -> None:
    with build(tmp_path / "log") as log:
        steps: list[tuple[int, int]] = []
        report = log.verify(lambda done, total: steps.append((done, total)))
        with FileWALManager(tmp_path / "log", read_only=True) as reader:
            assert reader.verify() == report
    assert (report.status, report.entries, report.problems) == ("clean", 12, ())
    assert (report.first_lsn, report.last_lsn) == (1, 12)
    assert len(steps) == 4
    assert steps == sorted(steps)
    assert steps[-1][0] == report.bytes == 12 * record_bytes(1000)
    assert report.bytes <= steps[-1][1]


def test_verify_names_each_damaged_segment_and_counts_the_good_entries(tmp_path: Path) -> None:
    with build(tmp_path / "log") as log:
        segments = writer_of(log).segments()
        at = [damage(segments[0].path, 1), damage(segments[2].path, 0)]
        report = log.verify()
        assert report.status == "corrupt"
        assert [(p.path, p.offset, p.lsn) for p in report.problems] == [
            (segments[0].path, at[0], 2),
            (segments[2].path, at[1], 7),
        ]
        assert all(problem.reason for problem in report.problems)
        assert report.entries == 1 + 3 + 0 + 3
        assert (report.first_lsn, report.last_lsn) == (1, 12)


def forge(path: str | Path, lsn: int) -> None:
    """Gives the record of an lsn, of 1000 bytes, another payload and checksums that fit it."""
    header = header_of(Path(path))
    at = RECORDS_AT + (lsn - header.first_lsn) * record_bytes(1000)
    with open(path, "r+b") as file:
        file.seek(at)
        record = bytearray(file.read(48 + 1000))
        record[48:] = b"forged " * 142 + b"......"
        record[4:8] = struct.pack("<I", crc32c(bytes(record[48:])))
        record[0:4] = struct.pack("<I", crc32c(bytes(record[4:48]), header.seed))
        file.seek(at)
        file.write(record)


def test_verify_finds_a_record_whose_checksums_were_made_to_fit(tmp_path: Path) -> None:
    with build(tmp_path / "log") as log:
        before = log.read(5).payload
        segment = writer_of(log).segments()[1]
        forge(segment.path, 5)
        assert log.read(5).payload != before  # one by one they are good
        with FileWALManager(tmp_path / "log", read_only=True) as reader:
            for report in (log.verify(), reader.verify()):
                assert report.status == "corrupt"
                (problem,) = report.problems
                assert (problem.path, problem.offset, problem.lsn) == (segment.path, RECORDS_AT, 4)
                assert "sealed" in problem.reason
                assert report.entries == 12
        log.truncate_after(5)  # the seal speaks of more than is left
        assert log.verify().status == "clean"


@pytest.mark.parametrize("number", [0, 1])
def test_verify_names_damage_before_the_first_entry(tmp_path: Path, number: int) -> None:
    """Else the entries behind it in that segment would be passed over."""
    with build(tmp_path / "log") as log:
        log.truncate_before(6)
        segment = writer_of(log).segments()[0]
        at = damage(segment.path, number)
        with FileWALManager(tmp_path / "log", read_only=True) as reader:
            for report in (log.verify(), reader.verify()):
                assert report.status == "corrupt"
                (problem,) = report.problems
                place = (segment.path, at, 4 + number)
                assert (problem.path, problem.offset, problem.lsn) == place
                assert report.entries == 6


def test_verify_does_not_count_what_was_truncated(tmp_path: Path) -> None:
    """Entries before first_lsn that share a segment with it are still in the file."""
    with build(tmp_path / "log") as log:
        log.truncate_before(5)
        assert log.verify().entries == 8
        log.truncate_after(7)
        report = log.verify()
        assert (report.status, report.entries) == ("clean", 3)
        assert (report.first_lsn, report.last_lsn) == (5, 7)
        log.truncate_after(4)
        assert log.verify().entries == 0


def test_verify_of_a_torn_tail(tmp_path: Path) -> None:
    """Told as such to a reader, and cut by a writer."""
    with FileWALManager(tmp_path / "log", sync="os", segment_bytes=1 << 16) as log:
        for i in range(5):
            log.append(b"%02d" % i * 500)
        copy = crash_copy(tmp_path / "log", tmp_path / "copy")
    (segment,) = segment_files(copy)
    at = damage(segment, 4)
    with FileWALManager(copy, read_only=True) as reader:
        report = reader.verify()
    assert report.status == "torn"
    assert (report.entries, report.last_lsn) == (4, 4)
    (problem,) = report.problems
    assert (problem.path, problem.offset, problem.lsn) == (str(segment), at, 5)
    with FileWALManager(copy) as log:
        assert log.verify().status == "clean"
        assert log.verify().entries == 4


def test_verify_of_an_empty_log(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log:
        assert log.verify() == VerifyReport("clean", 0, 0, 1, 0, ())


def test_verify_of_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with build(tmp_path / "log") as log:
        monkeypatch.setattr(reading, "verify_range", fail)
        with pytest.raises(LogAccessError, match=r"cannot read .*-00000001\.wal"):
            log.verify()


def test_verify_passes_over_what_is_truncated_meanwhile(tmp_path: Path) -> None:
    with build(tmp_path / "log") as log:
        done: list[int] = []

        def progress(at: int, _total: int) -> None:
            done.append(at)
            if len(done) == 1:
                log.truncate_before(10)

        assert log.verify(progress).problems == ()
        assert len(done) == 4


def test_stats_of_a_writer(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log:
        before = log.stats()
        assert (before.writes, before.syncs, before.last_lsn) == (0, 0, 0)
        for _ in range(7):
            log.append(b"x" * 100)
        stats = log.stats()
        assert (stats.first_lsn, stats.last_lsn, stats.durable_lsn) == (1, 7, 7)
        assert (stats.writes, stats.syncs) == (7, 7)
        assert stats.write_bytes >= 7 * record_bytes(100)
        assert sum(stats.sync_histogram) == 7
        assert stats.sync_seconds > 0
        # A histogram that is off by one power of two does not fit the sum of the times.
        low_ns = sum(count << i for i, count in enumerate(stats.sync_histogram))
        assert low_ns <= stats.sync_seconds * 1e9 <= 2 * low_ns
        assert stats.watermark_failures == 0
        log.begin_term()
        assert log.stats().term == stats.term + 1


def test_stats_tell_accepted_from_durable(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log", sync="os") as log:
        log.append(b"x")
        assert (log.stats().last_lsn, log.stats().durable_lsn, log.stats().syncs) == (1, 0, 0)
        log.sync()
        assert (log.stats().durable_lsn, log.stats().syncs) == (1, 1)


def test_stats_count_segments_and_all_files(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with build(path) as log:
        (path / "stray").write_bytes(bytes(12_345))
        stats = log.stats()
        sizes = [os.path.getsize(path / name) for name in os.listdir(path)]
        assert stats.disk_bytes == sum(sizes)
        assert stats.segments == 4
        log.truncate_before(10)
        assert log.stats().segments == 1


def test_stats_of_a_reader_have_no_counters(tmp_path: Path) -> None:
    with build(tmp_path / "log") as log:
        with FileWALManager(tmp_path / "log", read_only=True) as reader:
            stats, writers = reader.stats(), log.stats()
    assert (stats.first_lsn, stats.last_lsn, stats.durable_lsn) == (1, 12, 12)
    assert (stats.segments, stats.term) == (writers.segments, writers.term)
    assert (stats.writes, stats.syncs, stats.sync_histogram) == (0, 0, ())


@pytest.mark.parametrize("kind", [Problem, VerifyReport, LogStats])
def test_reports_are_frozen(kind: type[object]) -> None:
    params = kind.__dataclass_params__  # type: ignore[attr-defined]
    assert params.frozen
