"""Files that wait to become segments: at most one is kept, none is lost track of."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.helpers import contents, payloads
from tests.wal.inside import settle, writer_of
from walstore import FileWALManager
from walstore.wal import files
from walstore.wal.layout import Layout
from walstore.wal.segment import RECORDS_AT, file_bytes, limit_for
from walstore.wal.spares import Spare, Spares

LIMIT_AT = RECORDS_AT + 4096


def found(*spares: str, leftovers: tuple[str, ...] = ()) -> Layout:
    return Layout((), leftovers, spares, (), (), 1)


def open_spares(path: Path, *names: str, leftovers: tuple[str, ...] = ()) -> Spares:
    return Spares(str(path), LIMIT_AT, found(*names, leftovers=leftovers))


def put(path: Path, name: str, size: int = file_bytes(LIMIT_AT)) -> Path:
    (path / name).write_bytes(b"\xff" * size)
    return path / name


def names_in(path: Path) -> list[str]:
    return sorted(os.listdir(path))


def test_one_that_was_found_is_kept_and_known_to_be_no_zeros(tmp_path: Path) -> None:
    for name in ("spare-00000003.wal", "spare-00000009.wal", "left.wal"):
        put(tmp_path, name)
    spares = open_spares(
        tmp_path, "spare-00000003.wal", "spare-00000009.wal", leftovers=("left.wal",)
    )
    assert names_in(tmp_path) == ["spare-00000003.wal"]
    assert spares.ready
    taken = spares.take(LIMIT_AT)
    assert taken == Spare(str(tmp_path / "spare-00000003.wal"), zeroed=False)
    assert not spares.ready
    # Numbers go on behind all that were found, so that no file is written over.
    assert os.path.basename(spares.make(LIMIT_AT).path) == "spare-0000000a.wal"


def test_one_that_is_too_small_is_removed(tmp_path: Path) -> None:
    put(tmp_path, "spare-00000001.wal", file_bytes(LIMIT_AT) - 1)
    spares = open_spares(tmp_path, "spare-00000001.wal")
    assert not spares.ready
    assert names_in(tmp_path) == []


def test_taken_without_one_is_made(tmp_path: Path) -> None:
    spares = open_spares(tmp_path)
    taken = spares.take(LIMIT_AT)
    assert taken.zeroed
    assert Path(taken.path).read_bytes() == bytes(file_bytes(LIMIT_AT))
    assert not spares.ready


def test_prepared_once_and_taken_once(tmp_path: Path) -> None:
    spares = open_spares(tmp_path)
    spares.prepare()
    spares.prepare()
    assert spares.ready
    (name,) = names_in(tmp_path)
    assert spares.take(LIMIT_AT) == Spare(str(tmp_path / name), zeroed=True)
    assert spares.take(LIMIT_AT).path != str(tmp_path / name)


def test_a_larger_one_is_made_and_the_ready_one_stays(tmp_path: Path) -> None:
    spares = open_spares(tmp_path)
    spares.prepare()
    larger = spares.take(LIMIT_AT + 100_000)
    assert os.path.getsize(larger.path) == file_bytes(LIMIT_AT + 100_000)
    assert spares.ready
    assert len(names_in(tmp_path)) == 2


def test_prepared_while_another_became_ready_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spares = open_spares(tmp_path)
    other = Spare(str(put(tmp_path, "spare-000000aa.wal")), zeroed=False)
    real = Spares.make

    def make(self: Spares, limit_at: int) -> Spare:
        assert self.keep(other)
        return real(self, limit_at)

    monkeypatch.setattr(Spares, "make", make)
    spares.prepare()
    assert names_in(tmp_path) == ["spare-000000aa.wal"]
    assert spares.take(LIMIT_AT) == other


def test_given_back_is_kept_or_removed(tmp_path: Path) -> None:
    spares = open_spares(tmp_path)
    first, second = spares.make(LIMIT_AT), spares.make(LIMIT_AT)
    gone = spares.make(LIMIT_AT)
    os.unlink(gone.path)
    spares.give_back(gone)  # it was renamed already
    assert not spares.ready
    spares.give_back(first)
    spares.give_back(second)
    assert names_in(tmp_path) == [os.path.basename(first.path)]
    assert spares.take(LIMIT_AT) is first


@pytest.mark.parametrize("step", ["reserve", "zero_fill", "sync_data"])
def test_no_space_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    spares = open_spares(tmp_path)
    monkeypatch.setattr(files, step, full)
    for call in (spares.prepare, lambda: spares.take(LIMIT_AT)):
        with pytest.raises(OSError, match="no space"):
            call()
    assert names_in(tmp_path) == []
    assert not spares.ready


def test_truncated_segments_are_recycled_one_and_removed_more(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with FileWALManager(path, segment_bytes=4096) as log:
        for i in range(12):
            log.append(b"%d" % i * 1000)
        settle(log)
        segments = writer_of(log).segments()
        inodes = {os.stat(segment.path).st_ino for segment in segments[:-1]}
        spares = writer_of(log)._spares
        assert spares._ready is not None
        os.unlink(spares._ready.path)
        spares._ready = None
        log.truncate_before(segments[-1].first_lsn)
        left = [name for name in names_in(path) if name.startswith("spare-")]
        assert len(left) == 1
        assert os.stat(path / left[0]).st_ino in inodes
        assert len(names_in(path)) == 3  # meta, the last segment, the recycled one
        assert not spares._ready.zeroed  # type: ignore[attr-defined]


@pytest.mark.parametrize("sync", ["always", "os"])
def test_garbage_spare_left_by_a_crash(tmp_path: Path, sync: str) -> None:
    """A spare is made of zeros, but a crash may leave anything in it. As the tail of a log it
    must not be read, and what is behind the last entry must not look like a torn one."""
    path = tmp_path / "log"
    with FileWALManager(path, segment_bytes=1 << 16) as log:
        log.append(b"first")
    for spare in path.glob("spare-*"):
        spare.unlink()
    garbage = path / "spare-00000009.wal"
    garbage.write_bytes(os.urandom(file_bytes(limit_for(1 << 16))))
    inode = garbage.stat().st_ino
    wanted = [b"first"]
    with FileWALManager(path, sync=sync, segment_bytes=1 << 16) as log:  # type: ignore[arg-type]
        while len(writer_of(log).segments()) < 2:
            wanted.append(b"%d" % len(wanted) * 300)
            log.append(wanted[-1])
        tail = writer_of(log).segments()[-1].path
        assert os.stat(tail).st_ino == inode, "the garbage was not used, so nothing is tested"
        for size in (1000, 3996, 4096, 4100, 10_000, 1, 7):
            wanted.append(b"x" * size)
            log.append(wanted[-1])
            with FileWALManager(path, read_only=True) as reader:
                assert payloads(reader.replay()) == wanted
    assert payloads(contents(path)) == wanted
    with FileWALManager(path) as log:
        assert log.verify().status == "clean"
        assert log.append(b"on") == len(wanted) + 1
    assert not list(path.glob("cut-*"))
