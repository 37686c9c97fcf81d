"""walstore info."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.logs import GARBAGE, crashed, damage, end_of, healthy, torn
from tests.helpers import Ticks, segment_files
from walstore import FileWALManager
from walstore.wal.repair import repair_tail


def test_info_healthy(tmp_path: Path, run: Run) -> None:
    path = healthy(tmp_path / "log")
    found = run("info", path)
    assert found.code == 0
    assert found.err == ""
    assert found.lines[0] == str(path)
    assert "closed cleanly" in found.out
    assert "10, lsn 1 to 10, all durable" in found.out
    assert "2023-11-14T22:13:20.000Z" in found.out
    assert "\x1b" not in found.out
    assert not any(line.endswith(" ") for line in found.lines)


def test_info_json(tmp_path: Path, run: Run) -> None:
    path = healthy(tmp_path / "log", entries=300, segment_bytes=4096)
    (path / "notes.txt").write_text("mine")
    with FileWALManager(path, read_only=True) as log:
        log_id = log.log_id
    found = run("info", path, "--json").json
    assert found["log_id"] == log_id
    assert found["format_version"] == 1
    assert found["term"] == 1
    assert (found["first_lsn"], found["last_lsn"], found["durable_lsn"]) == (1, 300, 300)
    assert found["entries"] == 300
    assert found["closed_cleanly"] is True
    assert found["writer_running"] is False
    assert found["torn_tail"] is None
    assert found["stray_files"] == [{"name": "notes.txt", "bytes": 4}]
    assert [row["file"] for row in found["segments"]] == [p.name for p in segment_files(path)]
    assert sum(row["entries"] for row in found["segments"]) == 300
    assert [row["tail"] for row in found["segments"][-2:]] == [False, True]
    assert all(row["sealed"] for row in found["segments"][:-1])
    for before, after in zip(found["segments"], found["segments"][1:], strict=False):
        assert before["last_lsn"] + 1 == after["first_lsn"]
        assert before["time_max_ns"] < after["time_min_ns"]
    assert found["disk_bytes"] == sum(os.stat(path / name).st_size for name in os.listdir(path))


def test_info_new_and_empty(tmp_path: Path, run: Run) -> None:
    path = healthy(tmp_path / "log", entries=0)
    assert "none; the next one gets lsn 1" in run("info", path).out
    found = run("info", path, "--json").json
    assert (found["entries"], found["last_lsn"]) == (0, 0)
    assert found["segments"][0]["time_min_ns"] is None


def test_info_truncated(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "log"
    with FileWALManager(path, segment_bytes=4096, clock=Ticks()) as log:
        log.append_many([b"x" * 100] * 20)
        log.append_many([b"x" * 100] * 20)
        log.append_many([b"x" * 100] * 20)
        log.truncate_before(5)
        log.truncate_after(30)
    found = run("info", path, "--json").json
    assert (found["first_lsn"], found["last_lsn"], found["entries"]) == (5, 30, 26)
    assert found["term"] == 2
    assert sum(row["entries"] for row in found["segments"]) == 26


def test_info_torn_tail_says_where_and_what_next(tmp_path: Path, run: Run) -> None:
    path = torn(tmp_path / "log")
    segment, at = end_of(path)
    found = run("info", path)
    assert found.code == 0
    assert "torn tail" in found.out
    assert f"walstore repair {path}" in found.out
    cut = run("info", path, "--json").json["torn_tail"]
    assert (cut["path"], cut["offset"], cut["lsn"]) == (str(segment), at, 11)
    assert cut["bytes"] >= len(GARBAGE)
    assert cut["next"] == f"walstore repair {path}"
    repair_tail(path, apply=True)
    found = run("info", path, "--json").json
    assert found["torn_tail"] is None
    assert [file["bytes"] for file in found["cut_files"]] == [cut["bytes"]]


def test_info_not_closed(tmp_path: Path, run: Run) -> None:
    path = crashed(tmp_path / "log")
    assert "ended without close()" in run("info", path).out
    assert run("info", path, "--json").json["closed_cleanly"] is False


def test_info_while_a_writer_runs(tmp_path: Path, run: Run) -> None:
    with FileWALManager(tmp_path / "log", segment_bytes=1 << 16) as log:
        log.append(b"x")
        assert "open in a writer" in run("info", log.path).out
        assert run("info", log.path, "--json").json["writer_running"] is True


def test_info_lists_diverged_branches(tmp_path: Path, run: Run) -> None:
    path = healthy(tmp_path / "log")
    healthy(path / "diverged-8-1", entries=3)
    (path / "diverged-9-1").mkdir()
    found = run("info", path, "--json").json
    branch, empty = found["diverged"]
    assert (branch["name"], branch["first_lsn"], branch["last_lsn"]) == ("diverged-8-1", 1, 3)
    assert branch["bytes"] > 1 << 16
    assert (empty["first_lsn"], empty["last_lsn"]) == (None, None)
    assert "holds no log" in empty["error"]
    assert found["stray_files"] == []
    text = run("info", path).out
    assert "lost against another leader" in text
    assert "diverged-8-1" in text
    assert "other files" not in text.split("diverged-8-1")[1]


def test_info_knows_the_files_of_a_node(tmp_path: Path, run: Run) -> None:
    path = healthy(tmp_path / "log")
    for name in ("addresses", "claim", "configurations", "configurations.copy", "damaged-1.wal"):
        (path / name).touch()
    found = run("info", path, "--json").json
    assert [file["name"] for file in found["node_files"]] == sorted(
        ["addresses", "claim", "configurations", "configurations.copy", "damaged-1.wal"]
    )
    assert found["stray_files"] == []
    text = run("info", path).out
    assert "where the other nodes are reached" in text
    assert "kept from a damaged log" in text
    assert "not the log's" not in text


def test_info_corrupt(tmp_path: Path, run: Run) -> None:
    path = crashed(tmp_path / "log")
    damage(path, b"entry-4")
    found = run("info", path)
    assert found.code == 2
    assert found.out == ""
    assert "(lsn 4)" in found.err
    assert "hint:" in found.err


@pytest.mark.parametrize("name", ["a\x1b[31mb", "new\nline", "bad-\udcff"])
def test_info_hostile_file_name(tmp_path: Path, run: Run, name: str) -> None:
    path = healthy(tmp_path / "log")
    (path / name).touch()
    found = run("info", path)
    assert found.code == 0
    assert "\x1b" not in found.out
    assert "not the log's" in found.out
    assert run("info", path, "--json").json["stray_files"][0]["name"] == name
