"""What is kept of files that are damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.wal.rot import refuse_to_read
from walstore.limits import BLOCK_BYTES
from walstore.wal.keeping import copy_aside, free_name, kept_before, read_what_can_be


def test_what_can_be_read_around_a_bad_block_is_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.mkdir()
    data = b"a" * BLOCK_BYTES + b"b" * BLOCK_BYTES + b"c" * 100
    (path / "file").write_bytes(data)
    refuse_to_read(monkeypatch, "file", BLOCK_BYTES + 7)
    fd = os.open(path / "file", os.O_RDONLY)
    left = data.replace(b"b", b"\0")
    assert [read_what_can_be(fd, at) for at in (0, len(data))] == [left, b""]
    os.close(fd)


def test_a_copy_is_made_once(tmp_path: Path) -> None:
    where, path = str(tmp_path), tmp_path / "file"
    for number, data in enumerate((b"one", b"one more", b"other"), 1):
        path.write_bytes(data)
        assert kept_before(where, str(path)) is None
        copy = copy_aside(where, str(path))
        assert Path(copy).name == f"damaged-file-{number}".removesuffix("-1")
        assert Path(copy).read_bytes() == data
        assert kept_before(where, str(path)) == copy
    (tmp_path / "damaged-file.new").write_bytes(b"unfinished")
    path.write_bytes(b"unfinished")
    assert kept_before(where, str(path)) is None
    assert free_name(where, "file") == str(tmp_path / "damaged-file-4")
