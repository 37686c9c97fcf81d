"""Logs of every released format stay readable, and newer ones are refused (S19)."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.golden.generate import VERSION_DIRECTORY, describe, generate, restore_zeros
from tests.helpers import contents, snapshot
from walstore import FileWALManager

GOLDEN = sorted(path for path in VERSION_DIRECTORY.iterdir() if path.is_dir())


def test_there_are_all_five() -> None:
    names = ["batches", "clean", "killed", "torn", "truncated"]
    assert [path.name for path in GOLDEN] == names
    assert sum(len(data) for path in GOLDEN for data in snapshot(path).values()) < 400_000


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.name)
def test_golden_log_is_read_as_it_was_written(golden: Path, tmp_path: Path) -> None:
    expected = restore_zeros(golden, tmp_path / "log")
    before = snapshot(tmp_path / "log")
    with FileWALManager(tmp_path / "log", read_only=True) as log:
        found = describe(log)
        found["entries"] = [list(entry) for entry in found["entries"]]  # type: ignore[attr-defined]
        assert found == expected
        report = log.verify()
        assert report.status == ("torn" if golden.name == "torn" else "clean")
        for entry in log.replay():
            assert log.read(entry.lsn) == entry
    assert snapshot(tmp_path / "log") == before


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.name)
def test_golden_log_goes_on(golden: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = restore_zeros(golden, tmp_path / "log")
    with caplog.at_level(logging.WARNING, logger="walstore"):
        log = FileWALManager(tmp_path / "log")
    warned = any("torn tail" in record.getMessage() for record in caplog.records)
    assert warned == (golden.name == "torn")
    with log:
        assert describe(log)["entries"] == expected["entries"]
        assert log.append(b"new") == log.last_lsn
        assert log.verify().status == "clean"
    assert contents(tmp_path / "log")[-1].payload == b"new"


def test_this_version_still_writes_version_1(tmp_path: Path) -> None:
    """The same calls give logs of the same content; names and salts are the writer's to choose."""
    generate(tmp_path / "fresh")
    for golden in GOLDEN:
        found = restore_zeros(tmp_path / "fresh" / golden.name, tmp_path / golden.name)
        expected = restore_zeros(golden, tmp_path / f"old-{golden.name}")
        assert found == expected
        for path in (tmp_path / golden.name, tmp_path / f"old-{golden.name}"):
            for name, data in snapshot(path).items():
                assert data[12:20] == bytes([1, 0, 0, 0, 0, 0, 0, 0]), name
