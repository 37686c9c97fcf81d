"""walstore repair."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run
from tests.cli.logs import GARBAGE, crashed, damage, end_of, healthy, torn
from tests.helpers import snapshot
from walstore import FileWALManager


def test_repair_nothing(tmp_path: Path, run: Run) -> None:
    for arguments in ([], ["--apply"]):
        path = healthy(tmp_path / "log")
        found = run("repair", path, *arguments)
        assert found.code == 0
        assert found.out == "nothing to repair: the log has no torn tail\n"


def test_repair_shows_first(tmp_path: Path, run: Run) -> None:
    path = torn(tmp_path / "log")
    segment, at = end_of(path)
    before = snapshot(path)
    found = run("repair", path)
    assert found.code == 1
    assert found.out.startswith("would cut ")
    assert str(segment) in found.out
    assert str(at) in found.out
    assert "lsn 10 and all before" in found.out
    assert f"walstore repair --apply {path}" in found.out
    assert snapshot(path) == before


def test_repair_apply(tmp_path: Path, run: Run, spawn: Run) -> None:
    path = torn(tmp_path / "log")
    found = spawn("repair", path, "--apply")
    assert found.code == 0
    assert found.err == ""
    assert found.out.startswith("cut ")
    (kept,) = [name for name in path.iterdir() if name.name.startswith("cut-")]
    assert f"kept in     {kept}" in found.out
    assert kept.read_bytes().startswith(GARBAGE)
    assert run("verify", path).code == 0
    assert run("repair", path).code == 0
    assert len(run("dump", path).lines) == 10


def test_repair_json(tmp_path: Path, run: Run) -> None:
    path = torn(tmp_path / "log")
    dry = run("repair", path, "--json")
    assert dry.code == 1
    assert dry.json["applied"] is False
    assert dry.json["torn_tail"]["lsn"] == 11
    assert dry.json["torn_tail"]["kept"] is None
    done = run("repair", path, "--json", "--apply")
    assert done.code == 0
    assert done.json["applied"] is True
    assert Path(done.json["torn_tail"]["kept"]).exists()
    again = run("repair", path, "--json", "--apply")
    assert again.json == {"path": str(path), "applied": False, "torn_tail": None}


def test_repair_refuses_corruption(tmp_path: Path, run: Run) -> None:
    path = crashed(tmp_path / "log")
    damage(path, b"entry-4")
    before = snapshot(path)
    for arguments in ([], ["--apply"]):
        found = run("repair", path, *arguments)
        assert found.code == 2
        assert "(lsn 4)" in found.err
        assert "replica or a backup" in found.err
    assert snapshot(path) == before


def test_repair_beside_a_writer_only_looks(tmp_path: Path, run: Run) -> None:
    with FileWALManager(tmp_path / "log", segment_bytes=1 << 16) as log:
        found = run("repair", log.path)
        assert (found.code, found.err) == (0, "")
        assert found.out.startswith("nothing to repair")
        found = run("repair", "--apply", log.path)
        assert found.code == 5
        assert "is open in another writer" in found.err
        assert "stop the writer first" in found.err


def test_repair_not_a_log(tmp_path: Path, run: Run) -> None:
    found = run("repair", tmp_path / "missing", "--apply")
    assert found.code == 3
    assert list(tmp_path.iterdir()) == []
