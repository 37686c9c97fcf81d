"""repair_tail: only the torn tail, only when told so, and nothing is thrown away."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.cli.logs import GARBAGE, crashed, damage, end_of, healthy, torn
from tests.helpers import contents, payloads, snapshot
from walstore import (
    CorruptLogError,
    FileWALManager,
    LogAccessError,
    LogLockedError,
    NotALogError,
)
from walstore.wal import files, opening
from walstore.wal.repair import repair_tail


def test_repair_healthy(tmp_path: Path) -> None:
    path = healthy(tmp_path / "log")
    before = snapshot(path)
    assert repair_tail(path) is None
    assert repair_tail(path, apply=True) is None
    assert snapshot(path) == before


def test_repair_not_closed_but_whole(tmp_path: Path) -> None:
    assert repair_tail(crashed(tmp_path / "log")) is None


def test_repair_dry_run_changes_nothing(tmp_path: Path) -> None:
    path = torn(tmp_path / "log")
    segment, at = end_of(path)
    before = snapshot(path)
    found = repair_tail(path)
    assert found is not None
    assert (found.path, found.offset, found.lsn, found.last_lsn) == (str(segment), at, 11, 10)
    assert found.bytes >= len(GARBAGE)
    assert not found.applied
    assert found.kept is None
    assert snapshot(path) == before


def test_repair_apply_keeps_what_it_cuts(tmp_path: Path) -> None:
    path = torn(tmp_path / "log")
    segment, at = end_of(path)
    dry = repair_tail(path)
    found = repair_tail(path, apply=True)
    assert dry is not None
    assert found is not None
    assert found.applied
    assert found.kept is not None
    assert Path(found.kept).read_bytes().startswith(GARBAGE)
    assert len(Path(found.kept).read_bytes()) == found.bytes == dry.bytes
    assert not any(segment.read_bytes()[at:])
    assert repair_tail(path) is None
    assert payloads(contents(path)) == [b"entry-%d" % n for n in range(1, 11)]
    with FileWALManager(path) as log:
        assert log.append(b"next") == 11


def test_repair_apply_after_a_repair_that_was_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = torn(tmp_path / "log")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(files, "zero_fill", fail)
        with pytest.raises(LogAccessError, match="cannot repair"):
            repair_tail(path, apply=True)
    found = repair_tail(path, apply=True)
    assert found is not None
    assert [name for name in os.listdir(path) if name.startswith("cut-")] == [
        os.path.basename(found.kept or "")
    ]


def test_repair_the_same_place_twice(tmp_path: Path) -> None:
    path = torn(tmp_path / "log")
    segment, at = end_of(path)
    first = repair_tail(path, apply=True)
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(b"\x5a" * 64)
    second = repair_tail(path, apply=True)
    assert first is not None
    assert second is not None
    assert first.kept != second.kept
    assert Path(second.kept or "").read_bytes().startswith(b"\x5a" * 64)
    assert Path(first.kept or "").read_bytes().startswith(GARBAGE)


def test_repair_refuses_corruption(tmp_path: Path) -> None:
    path = crashed(tmp_path / "log")
    segment, at = damage(path, b"entry-4")
    before = snapshot(path)
    for apply in (False, True):
        with pytest.raises(CorruptLogError) as caught:
            repair_tail(path, apply=apply)
        assert (caught.value.path, caught.value.lsn) == (str(segment), 4)
        assert caught.value.offset <= at
    assert snapshot(path) == before


def test_repair_beside_a_writer_only_looks(tmp_path: Path) -> None:
    """What would be torn without the writer is on its way with it."""
    path = torn(tmp_path / "log")
    before = snapshot(path)
    fd = opening.open_meta(str(path), write=True)
    try:
        assert repair_tail(path) is None
        with pytest.raises(LogLockedError):
            repair_tail(path, apply=True)
    finally:
        files.close(fd)
    assert snapshot(path) == before
    assert repair_tail(path) is not None


def test_repair_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "missing", tmp_path / "empty"):
        for apply in (False, True):
            with pytest.raises(NotALogError):
                repair_tail(path, apply=apply)
    assert os.listdir(tmp_path) == ["empty"]
    assert os.listdir(tmp_path / "empty") == []


def test_repair_log_whose_making_was_cut_short(tmp_path: Path) -> None:
    (tmp_path / "meta").write_bytes(bytes(8192))
    with pytest.raises(NotALogError, match="cut short"):
        repair_tail(tmp_path, apply=True)


def test_repair_leaks_no_descriptor(tmp_path: Path) -> None:
    path = torn(tmp_path / "log")
    before = len(os.listdir("/proc/self/fd"))
    repair_tail(path)
    repair_tail(path, apply=True)
    repair_tail(path, apply=True)
    assert len(os.listdir("/proc/self/fd")) == before
