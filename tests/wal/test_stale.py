"""A `meta` older than the log: said, whoever opens it, and nothing is removed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.logs import GARBAGE, damage
from tests.helpers import crash_copy, restore, segment_files, snapshot
from tests.wal.inside import settle
from tests.wal.test_moving import lose_watermark, without_watermark
from walstore import CorruptLogError, FileWALManager
from walstore.wal.meta import META_NAME
from walstore.wal.repair import repair_tail
from walstore.wal.segment import RECORDS_AT

SEGMENT_BYTES = 8192


def write(path: Path) -> None:
    FileWALManager(path, segment_bytes=SEGMENT_BYTES).close()


def read(path: Path) -> None:
    FileWALManager(path, read_only=True).close()


def look(path: Path) -> None:
    repair_tail(path)


def repair(path: Path) -> None:
    repair_tail(path, apply=True)


WAYS = [write, read, look, repair]


def refuse(way: Callable[[Path], None], path: Path) -> None:
    before = snapshot(path)
    with pytest.raises(CorruptLogError, match="older than") as caught:
        way(path)
    assert caught.value.path == str(path / META_NAME)
    assert snapshot(path) == before


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sealed", [True, False])
def test_older_than_later_segments(
    tmp_path: Path, way: Callable[[Path], None], sealed: bool
) -> None:
    path = tmp_path / "log"
    with FileWALManager(path, segment_bytes=SEGMENT_BYTES) as log:
        for _ in range(20):
            log.append(b"a" * 100)
        meta = (path / META_NAME).read_bytes()
        unsealed = segment_files(path)[0].read_bytes()
        while len(segment_files(path)) < 4:
            log.append(b"a" * 100)
        settle(log)
    (path / META_NAME).write_bytes(meta)
    if not sealed:
        segment_files(path)[0].write_bytes(unsealed)
    refuse(way, path)


def moved(tmp_path: Path, appended: int) -> tuple[Path, dict[str, bytes]]:
    """A log whose last segment a recovery made, with acked entries; and what it was before."""
    path = without_watermark(tmp_path, 5)
    before = snapshot(path)
    with FileWALManager(path, segment_bytes=SEGMENT_BYTES) as log:
        for _ in range(appended):
            log.append(b"acked")
        settle(log)
    return path, before


@pytest.mark.parametrize("way", WAYS)
def test_older_than_a_moved_segment_that_was_appended_to(
    tmp_path: Path, way: Callable[[Path], None]
) -> None:
    path, before = moved(tmp_path, 3)
    newer = segment_files(path)[-1]
    restore(path, {**before, newer.name: newer.read_bytes()})
    refuse(way, path)


@pytest.mark.parametrize("way", WAYS)
def test_older_than_the_seal_of_the_segment_that_was_moved_out_of(
    tmp_path: Path, way: Callable[[Path], None]
) -> None:
    path, before = moved(tmp_path, 0)
    (path / META_NAME).write_bytes(before[META_NAME])
    refuse(way, path)


def test_copy_of_a_recovery_that_was_cut_short_may_have_more_than_the_log(tmp_path: Path) -> None:
    """The power went a second time, and took records that had been in the page cache only."""
    path = without_watermark(tmp_path, 5)
    shutil.copytree(path, tmp_path / "recovered")
    write(tmp_path / "recovered")
    copy = segment_files(tmp_path / "recovered")[-1]
    shutil.copyfile(copy, path / copy.name)
    segment = segment_files(path)[0]
    data = segment.read_bytes()
    last_at = data.rindex(b"4" * 50) - 48
    segment.write_bytes(data[:last_at] + bytes(len(data) - last_at))
    with FileWALManager(path, segment_bytes=SEGMENT_BYTES) as log:
        assert log.last_lsn == 4


def test_repair_checks_what_was_not_sealed_before_it_changes_anything(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "running", segment_bytes=SEGMENT_BYTES) as log:
        while len(segment_files(tmp_path / "running")) < 2:
            log.append(b"%04d" % (log.last_lsn + 1) * 25)
        settle(log)
        path = lose_watermark(crash_copy(tmp_path / "running", tmp_path / "log"))
    full, last = segment_files(path)
    data = full.read_bytes()
    full.write_bytes(data[:4096] + bytes(4096) + data[RECORDS_AT:])
    damage(path, b"0007" * 25)
    with last.open("r+b") as file:
        file.seek(RECORDS_AT + 152)  # behind its one record
        file.write(GARBAGE)
    assert repair_tail(path) is not None, "the tail is torn"
    before = snapshot(path)
    with pytest.raises(CorruptLogError) as caught:
        repair_tail(path, apply=True)
    assert (caught.value.path, caught.value.lsn) == (str(full), 7)
    assert snapshot(path) == before
