"""Records that nothing proves to be durable are moved to a new segment, never rewritten."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.helpers import contents, crash_copy, payloads, run_child, segment_files
from tests.wal.inside import header_of
from walstore import FileWALManager
from walstore.wal.layout import load_layout
from walstore.wal.meta import META_NAME, WATERMARK_AT, read_meta
from walstore.wal.opening import open_meta


def lose_watermark(path: Path) -> Path:
    """What a power loss does to it: it was never synced."""
    with open(path / META_NAME, "r+b") as meta:
        meta.seek(WATERMARK_AT)
        meta.write(bytes(24))
    return path


def without_watermark(tmp_path: Path, entries: int) -> Path:
    """A log as a power loss leaves it: never closed, and the watermark did not reach the disk."""
    with FileWALManager(tmp_path / "running", segment_bytes=8192) as wal:
        for number in range(entries):
            wal.append(b"%d" % number * 50)
        shutil.copytree(tmp_path / "running", tmp_path / "log")
    return lose_watermark(tmp_path / "log")


def chain(path: Path) -> list[tuple[int, int | None, bool]]:
    """(first lsn, last lsn, moved) of each segment."""
    fd = open_meta(str(path), write=False)
    try:
        meta = read_meta(fd, str(path))
        assert meta is not None
        layout = load_layout(str(path), meta)
    finally:
        os.close(fd)
    return [(s.first_lsn, s.last_lsn, s.header.moved) for s in layout.segments]


def test_unproven_record_is_moved_and_the_proven_are_left_alone(tmp_path: Path) -> None:
    path = without_watermark(tmp_path, 20)
    (before,) = [name for name in os.listdir(path) if name.startswith("0000")]
    held = (path / before).read_bytes()
    with FileWALManager(path, segment_bytes=8192) as wal:
        assert [entry.payload for entry in wal.replay()] == [b"%d" % n * 50 for n in range(20)]
        assert wal.append(b"next") == 21
    # Each record proves those before it, so only the last one is moved.
    assert chain(path) == [(1, 19, False), (20, None, True)]
    kept = 8192 + sum(48 + 8 * -(-len(b"%d" % n * 50) // 8) for n in range(19))
    assert (path / before).read_bytes()[8192:kept] == held[8192:kept]


def test_log_of_one_unproven_record_moves_whole(tmp_path: Path) -> None:
    path = without_watermark(tmp_path, 1)
    with FileWALManager(path, segment_bytes=8192) as wal:
        assert wal.read(1).payload == b"0" * 50
    assert chain(path) == [(1, None, True)]
    assert len([name for name in os.listdir(path) if name.startswith("0000")]) == 1


def test_move_is_done_once(tmp_path: Path) -> None:
    path = without_watermark(tmp_path, 5)
    for _ in range(3):
        FileWALManager(path, segment_bytes=8192).close()
    assert chain(path) == [(1, 4, False), (5, None, True)]


def test_batch_moves_whole(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "running", segment_bytes=8192) as wal:
        wal.append(b"a")
        wal.append_many([b"b", b"c", b"d"])
        shutil.copytree(tmp_path / "running", tmp_path / "log")
    with open(tmp_path / "log" / META_NAME, "r+b") as meta:
        meta.seek(WATERMARK_AT)
        meta.write(bytes(24))
    with FileWALManager(tmp_path / "log", segment_bytes=8192) as wal:
        assert [entry.payload for entry in wal.replay()] == [b"a", b"b", b"c", b"d"]
    assert chain(tmp_path / "log") == [(1, 1, False), (2, None, True)]


def test_what_the_watermark_proves_stays_in_place(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "running", segment_bytes=8192) as wal:
        for _ in range(5):
            wal.append(b"x")
        shutil.copytree(tmp_path / "running", tmp_path / "log")
    with FileWALManager(tmp_path / "log", segment_bytes=8192) as wal:
        assert wal.last_lsn == 5
    assert chain(tmp_path / "log") == [(1, None, False)]


def test_copy_that_a_crash_left_off_the_chain_is_removed(tmp_path: Path) -> None:
    path = without_watermark(tmp_path, 5)
    other = tmp_path / "other"
    shutil.copytree(path, other)
    FileWALManager(other, segment_bytes=8192).close()
    moved = [name for name in os.listdir(other) if "-00000002" in name]
    assert len(moved) == 1
    # As if the power went before `meta` named the copy.
    shutil.copyfile(other / moved[0], path / moved[0])
    with FileWALManager(path, segment_bytes=8192) as wal:
        assert wal.last_lsn == 5
        assert wal.append(b"x") == 6
    assert chain(path)[-1][0] == 5
    assert not (path / moved[0]).exists()


def test_moved_segment_tells_the_term_before_an_indexed_record(tmp_path: Path) -> None:
    """Records of 20 KiB: each is in the index, so the way to it leads over no other."""
    with FileWALManager(tmp_path / "running", segment_bytes=1 << 17) as wal:
        wal.append(b"a" * 20000)
        wal.begin_term()
        wal.append(b"b" * 20000)
        wal.append(b"c" * 20000)
        lose_watermark(crash_copy(tmp_path / "running", tmp_path / "log"))
    with FileWALManager(tmp_path / "log", segment_bytes=1 << 17) as wal:
        assert [entry.term for entry in wal.replay()] == [1, 2, 2]
    moved = header_of(segment_files(tmp_path / "log")[-1])
    assert (moved.first_lsn, moved.moved, moved.prev_term) == (3, True, 2)


FULL = """
    import os, resource, sys
    from walstore import FileWALManager, LogFullError
    path, spare = sys.argv[1:]
    if int(spare):
        with open(os.path.join(path, "spare-00000009.wal"), "wb") as file:
            file.write(bytes(1 << 20))
    # What is there may be written to; anything longer is refused by the kernel.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
    log = FileWALManager(path, segment_bytes=1 << 19)
    assert [entry.payload for entry in log.replay()] == [b"%d" % n for n in range(5)]
    assert log.verify().status == "clean"
    try:
        print(log.append(b"5"))
    except LogFullError:
        print("full")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    log.append(b"6")
    print(log.last_lsn)
    log.close()
"""


@pytest.mark.parametrize(
    ("spare", "says"), [(0, ["full", "6"]), (1, ["6", "7"])], ids=["no spare", "a spare"]
)
def test_full_disk_does_not_keep_a_log_shut(tmp_path: Path, spare: int, says: list[str]) -> None:
    with FileWALManager(tmp_path / "running", segment_bytes=1 << 19) as wal:
        for number in range(5):
            wal.append(b"%d" % number)
        path = lose_watermark(crash_copy(tmp_path / "running", tmp_path / "log"))
    assert run_child(FULL, path, str(spare)).split() == says
    wanted = [b"%d" % number for number in range(7) if spare or number != 5]
    assert payloads(contents(path)) == wanted
