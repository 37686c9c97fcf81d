"""walstore verify: each kind of damage gives its exit code, its place and what to do."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.logs import crashed, damage, end_of, healthy, torn
from tests.helpers import segment_files, snapshot
from walstore import FileWALManager
from walstore.limits import BLOCK_BYTES
from walstore.wal import files
from walstore.wal.meta import COPY_BYTES, block_crc


def as_version_2(path: Path, at: int = 0, size: int = BLOCK_BYTES) -> None:
    """Gives a block of a file a format version of the future."""
    with path.open("r+b") as file:
        file.seek(at)
        block = bytearray(file.read(size))
        block[12:16] = struct.pack("<I", 2)
        block[8:12] = struct.pack("<I", block_crc(bytes(block)))
        file.seek(at)
        file.write(block)


def test_verify_clean(tmp_path: Path, run: Run) -> None:
    path = healthy(tmp_path / "log", entries=300, segment_bytes=4096)
    before = snapshot(path)
    found = run("verify", path)
    assert found.code == 0
    assert found.out.startswith("clean: 300 entries, lsn 1 to 300;")
    answer = run("verify", path, "--json").json
    assert answer["status"] == "clean"
    assert (answer["entries"], answer["first_lsn"], answer["last_lsn"]) == (300, 1, 300)
    assert answer["problems"] == []
    assert snapshot(path) == before


def test_verify_empty(tmp_path: Path, run: Run) -> None:
    found = run("verify", healthy(tmp_path / "log", entries=0))
    assert found.code == 0
    assert "no entries" in found.out


def test_verify_torn(tmp_path: Path, run: Run) -> None:
    path = torn(tmp_path / "log")
    segment, at = end_of(path)
    found = run("verify", path)
    assert found.code == 1
    assert found.out.startswith("torn tail: every entry is good")
    assert f"walstore repair {path}" in found.out
    answer = run("verify", path, "--json")
    assert answer.code == 1
    (problem,) = answer.json["problems"]
    assert list(problem) == ["path", "offset", "lsn", "reason", "next"]
    assert (problem["path"], problem["offset"], problem["lsn"]) == (str(segment), at, 11)
    assert "repair" in problem["next"]


def test_verify_corrupt_sealed_segments(tmp_path: Path, run: Run) -> None:
    path = healthy(tmp_path / "log", entries=300, segment_bytes=4096)
    places = [damage(path, b"entry-5"), damage(path, b"entry-150")]
    found = run("verify", path, "--json")
    assert found.code == 2
    assert found.json["status"] == "corrupt"
    assert [problem["lsn"] for problem in found.json["problems"]] == [5, 150]
    assert [problem["path"] for problem in found.json["problems"]] == [str(p) for p, _ in places]
    for problem, (_, at) in zip(found.json["problems"], places, strict=True):
        assert problem["offset"] <= at < problem["offset"] + 200
    text = run("verify", path)
    assert text.code == 2
    assert text.out.startswith("corrupt: ")
    assert "replica or a backup" in text.out


def test_verify_corrupt_tail_and_segments(tmp_path: Path, run: Run) -> None:
    """It cannot be opened, and is looked through all the same."""
    path = healthy(tmp_path / "log", entries=300, segment_bytes=4096)
    damage(path, b"entry-5")
    damage(path, b"entry-299")
    found = run("verify", path, "--json")
    assert found.code == 2
    assert [problem["lsn"] for problem in found.json["problems"]] == [5, 299]
    assert "cannot be opened; 2 places found" in run("verify", path).out


def test_verify_missing_segment(tmp_path: Path, run: Run) -> None:
    path = healthy(tmp_path / "log", entries=300, segment_bytes=4096)
    segment_files(path)[1].unlink()
    found = run("verify", path)
    assert found.code == 2
    assert "is missing" in found.out


@pytest.mark.parametrize("size", [0, 100, 8192])
def test_verify_segment_cut_short(tmp_path: Path, run: Run, size: int) -> None:
    path = healthy(tmp_path / "log", entries=300, segment_bytes=4096)
    os.truncate(segment_files(path)[1], size)
    found = run("verify", path, "--json")
    assert found.code == 2
    assert found.json["problems"][0]["path"] == str(segment_files(path)[1])


def test_verify_damaged_meta(tmp_path: Path, run: Run) -> None:
    path = healthy(tmp_path / "log")
    meta = bytearray((path / "meta").read_bytes())
    meta[50] ^= 1
    meta[4096 + 50] ^= 1
    (path / "meta").write_bytes(meta)
    found = run("verify", path)
    assert found.code == 2
    assert str(path / "meta") in found.out
    assert "none was checked" in found.out


@pytest.mark.parametrize("as_json", [False, True])
def test_verify_newer_version(tmp_path: Path, run: Run, as_json: bool) -> None:
    path = healthy(tmp_path / "log")
    as_version_2(path / "meta", 0, COPY_BYTES)
    as_version_2(path / "meta", BLOCK_BYTES, COPY_BYTES)
    found = run("verify", path, *(["--json"] if as_json else []))
    assert found.code == 3
    if as_json:
        assert found.json["status"] == "unsupported"
        assert "version 2" in found.json["problems"][0]["reason"]
    else:
        assert "version 2" in found.err
        assert "newer one" in found.err


def test_verify_segment_of_newer_version(tmp_path: Path, run: Run) -> None:
    path = healthy(tmp_path / "log", entries=300, segment_bytes=4096)
    as_version_2(segment_files(path)[1])
    assert run("verify", path).code == 3


def test_verify_not_a_log(tmp_path: Path, run: Run) -> None:
    (tmp_path / "file").write_text("x")
    for name in ("missing", "file", ""):
        found = run("verify", tmp_path / name)
        assert found.code == 3
        assert found.out == ""
        assert "is not a log" in found.err
        answer = run("verify", tmp_path / name, "--json")
        assert answer.code == 3
        assert answer.json["status"] == "not-a-log"


def test_verify_while_a_writer_runs(tmp_path: Path, run: Run) -> None:
    with FileWALManager(tmp_path / "log", segment_bytes=1 << 16) as log:
        log.append(b"x")
        answer = run("verify", log.path, "--json")
        assert answer.code == 0
        assert answer.json["writer_running"] is True


def test_verify_leaves_out_what_a_writer_is_writing(tmp_path: Path, run: Run) -> None:
    """The same bytes are on their way while the lock is held, and torn once it is not."""
    path = torn(tmp_path / "log")
    fd = files.open_file(str(path / "meta"), write=True)
    try:
        assert files.lock(fd)
        answer = run("verify", path, "--json")
        assert (answer.code, answer.json["status"]) == (0, "clean")
        assert answer.json["writer_running"] is True
        assert run("verify", path).out.startswith("clean: 10 entries")
    finally:
        files.close(fd)
    answer = run("verify", path, "--json")
    assert (answer.code, answer.json["writer_running"]) == (1, False)


def test_verify_notes(tmp_path: Path, run: Run) -> None:
    path = healthy(tmp_path / "log", entries=300, segment_bytes=4096)
    with segment_files(path)[0].open("r+b") as file:
        file.seek(BLOCK_BYTES)
        file.write(bytes(BLOCK_BYTES))
    (path / "stray").touch()
    (path / "addresses").touch()  # a node's
    found = run("verify", path)
    assert found.code == 0
    assert "segments without a valid seal: 1 " in found.out
    assert "not the log's: stray\n" in found.out


def test_verify_every_byte_of_a_damaged_tail_gives_a_verdict(tmp_path: Path, run: Run) -> None:
    path = crashed(tmp_path / "log", entries=3)
    segment, end_at = end_of(path)
    original = segment.read_bytes()
    for at in range(2 * BLOCK_BYTES, end_at + 64, 7):
        changed = bytearray(original)
        changed[at] ^= 0x40
        segment.write_bytes(changed)
        found = run("verify", path)
        assert found.code in (0, 1, 2), at
        # Every entry had been synced: a damaged one is never taken for a torn tail.
        assert (found.code == 2) == (at < end_at) or found.code == 0, at
