"""Snapshots as files, of a made-up application: which are used, sent, kept and counted. What a
document store and a machine make of them is in tests/docstore and tests/cluster; the crash lab
cuts the power under them there."""

from __future__ import annotations

import logging
import os
import struct
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from walstore import FileWALManager, UnsupportedFormatError, WALStoreError
from walstore.snapshot_files import Found, Kind, Place, SnapshotFiles

HEADER = struct.Struct("<B16sQQ")


class NothingUsableError(WALStoreError):
    """Of the application."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


def place_of(path: str, file: BinaryIO) -> Place:
    version, log_id, lsn, term = HEADER.unpack(file.read(HEADER.size))
    if version != 1:
        raise UnsupportedFormatError(path, f"version {version}")
    return Place(log_id.hex(), lsn, term)


KIND = Kind(b"WALTESTS", place_of, NothingUsableError, logging.getLogger("application"))


def write(files: SnapshotFiles, log: FileWALManager, lsn: int, version: int = 1) -> None:
    header = HEADER.pack(version, bytes.fromhex(log.log_id), lsn, log._term_of(lsn))
    files.write(lsn, [header, b"state", b" %d" % lsn])


def content(found: Found | None) -> bytes:
    assert found is not None
    return bytes(found.content[HEADER.size :])


@pytest.fixture
def log(tmp_path: Path) -> Iterator[FileWALManager]:
    with FileWALManager(tmp_path / "log") as log:
        log.append_many([b"entry"] * 9)
        yield log


@pytest.fixture
def files(log: FileWALManager) -> SnapshotFiles:
    return SnapshotFiles(os.path.join(log.path, "snapshots"), KIND)


def again(files: SnapshotFiles) -> SnapshotFiles:
    """As another process has them."""
    return SnapshotFiles(files.path, KIND)


def test_the_newest_is_opened(files: SnapshotFiles, log: FileWALManager) -> None:
    assert files.open(log) is None
    for lsn in (3, 5, 7):
        write(files, log, lsn)
    found = again(files).open(log)
    assert found is not None
    assert found.place == Place(log.log_id, 7, log._term_of(7))
    assert content(found) == b"state 7"
    assert content(files.open_before(log, 6)) == b"state 5"
    assert files.open_before(log, 2) is None


def test_any_damage_is_noticed(files: SnapshotFiles, log: FileWALManager, tmp_path: Path) -> None:
    """Every byte flipped, every length cut: not opened, not sent, not taken."""
    write(files, log, 3)
    write(files, log, 7)
    path, came = Path(files.path_of(7)), tmp_path / "came"
    whole = path.read_bytes()
    spoiled = [whole[:length] for length in range(len(whole))]
    for at, byte in enumerate(whole):
        spoiled.append(whole[:at] + bytes([byte ^ 0x40]) + whole[at + 1 :])
    for data in [*spoiled, whole + b"x"]:
        path.write_bytes(data)
        came.write_bytes(data)
        assert content(files.open_before(log)) == b"state 3"
        assert files.newest(log._term_of) == (3, files.path_of(3))
        with pytest.raises(NothingUsableError, match="the leader's snapshot is not whole"):
            files.install(7, str(came))
    assert came.exists(), "nothing was changed"


def test_what_a_crash_left_is_removed(files: SnapshotFiles, log: FileWALManager) -> None:
    write(files, log, 3)
    (Path(files.path) / "snapshot.new").write_bytes(b"WALTESTS and then the power went")
    assert content(again(files).open(log)) == b"state 3"
    assert os.listdir(files.path) == [f"snapshot-{3:020}"]


def test_one_that_is_being_written_is_not_taken_for_what_a_crash_left(
    files: SnapshotFiles, log: FileWALManager
) -> None:
    """A host begins anew behind a leader's snapshot while its checkpoint is written."""
    write(files, log, 3)
    opened: list[bytes] = []
    opening = threading.Thread(target=lambda: opened.append(content(files.open(log))))

    def pieces() -> Iterator[bytes]:
        yield HEADER.pack(1, bytes.fromhex(log.log_id), 7, log._term_of(7)) + b"state 7"
        opening.start()
        opening.join(0.2)  # it would end within

    files.write(7, pieces())
    opening.join()
    assert opened == [b"state 7"]
    assert files.lsns == [3, 7]


def test_an_entry_that_is_not_durable_yet_is_compared_too(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log", sync="os") as log:
        log.append_many([b"entry"] * 9)
        header = HEADER.pack(1, bytes.fromhex(log.log_id), 9, log.term + 1)
        files = SnapshotFiles(str(tmp_path / "log" / "snapshots"), KIND)
        files.write(9, [header])
        assert log.durable_lsn < 9
        assert again(files).open(log) is None
        assert os.listdir(files.path) == [f"refused-snapshot-{9:020}"]


def test_nothing_is_set_aside_where_nothing_can_be_used(
    files: SnapshotFiles, log: FileWALManager
) -> None:
    write(files, log, 3)
    write(files, log, 7)
    log.truncate_before(8)
    for lsn in (3, 7):
        os.truncate(files.path_of(lsn), 20)
    before = sorted(os.listdir(files.path))
    with pytest.raises(NothingUsableError, match="and the log begins at entry 8"):
        files.open(log)
    assert sorted(os.listdir(files.path)) == before


def test_a_reader_changes_nothing(files: SnapshotFiles, log: FileWALManager) -> None:
    with FileWALManager(log.path, read_only=True) as reader:
        assert files.open(reader) is None
        assert not os.path.exists(files.path)
        write(files, log, 3)
        write(files, log, 7)
        os.truncate(files.path_of(7), 20)
        (Path(files.path) / "snapshot.new").write_bytes(b"being written")
        before = sorted(os.listdir(files.path))
        assert content(files.open(reader)) == b"state 3"
        assert sorted(os.listdir(files.path)) == before


def test_what_was_neither_opened_nor_written_does_not_count(
    files: SnapshotFiles, log: FileWALManager
) -> None:
    """The log is cut behind what is known to be whole, and that alone is removed."""
    write(files, log, 3)
    Path(files.path_of(4)).write_bytes(b"a leader's, and who knows")
    assert files.prune() == 0
    write(files, log, 6)
    assert files.prune() == 3
    write(files, log, 7)
    assert files.prune() == 6
    assert files.lsns == [6, 7]
    left = sorted(os.listdir(files.path))
    assert left == [f"snapshot-{lsn:020}" for lsn in (4, 6, 7)]
    opened = again(files)
    assert content(opened.open(log)) == b"state 7"
    write(opened, log, 8)
    assert opened.prune() == 7, "it counts with those before the one that was opened"
    assert sorted(os.listdir(files.path)) == [f"snapshot-{lsn:020}" for lsn in (7, 8)]


def test_what_is_sent_is_of_this_log_and_of_its_entry(
    files: SnapshotFiles, log: FileWALManager, caplog: pytest.LogCaptureFixture
) -> None:
    for lsn in (3, 5, 7):
        write(files, log, lsn)
    Path(files.path_of(8)).write_bytes(Path(files.path_of(7)).read_bytes())
    assert files.newest(lambda lsn: log._term_of(lsn) + (lsn == 7)) == (5, files.path_of(5))
    assert f"{files.path_of(8)} is not sent to other nodes: it is of entry 7" in caplog.text
    assert f"{files.path_of(7)} is not sent to other nodes" in caplog.text


def test_one_that_a_checkpoint_removes_meanwhile_is_passed_over(
    files: SnapshotFiles, log: FileWALManager
) -> None:
    for lsn in (3, 5, 7):
        write(files, log, lsn)

    def term_of(lsn: int) -> int:
        if lsn == 7:
            os.unlink(files.path_of(5))
            return 0
        return log._term_of(lsn)

    assert files.newest(term_of) == (3, files.path_of(3))


def test_what_is_sent_or_taken_is_not_held_in_memory(
    files: SnapshotFiles, log: FileWALManager, tmp_path: Path
) -> None:
    header = HEADER.pack(1, bytes.fromhex(log.log_id), 7, log._term_of(7))
    files.write(7, [header, *[bytes(1 << 20)] * 32])
    tracemalloc.start()
    try:
        assert files.newest(log._term_of) == (7, files.path_of(7))
        again(files).install(7, files.path_of(7))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 << 20


def test_a_newer_version_is_not_touched(
    files: SnapshotFiles, log: FileWALManager, tmp_path: Path
) -> None:
    write(files, log, 3)
    write(files, log, 7, version=2)
    for use in (
        lambda: files.open(log),
        lambda: files.open_before(log),
        lambda: files.newest(log._term_of),
        lambda: files.install(7, files.path_of(7)),
    ):
        with pytest.raises(UnsupportedFormatError, match="version 2"):
            use()
    assert sorted(os.listdir(files.path)) == [f"snapshot-{lsn:020}" for lsn in (3, 7)]
