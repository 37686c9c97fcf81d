"""Files that are whole or absent: what they hold, and what a failure leaves. The crash lab cuts the
power under them in tests/docstore/test_crash.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import run_child
from walstore.durable import make_directory, take_over, write_whole
from walstore.wal import files


@pytest.mark.parametrize(
    "pieces",
    [[], [b""], [b"a", b"bc"], [os.urandom(700_000)] * 5, [os.urandom(3 << 20), b"x"]],
    ids=["nothing", "empty", "small", "many", "large"],
)
@pytest.mark.parametrize("before", [None, b"a longer file that was there before" * 1000])
def test_a_file_holds_what_it_was_given(
    tmp_path: Path, pieces: list[bytes], before: bytes | None
) -> None:
    path, new = tmp_path / "file", tmp_path / "new"
    if before is not None:
        path.write_bytes(before)
        new.write_bytes(before)  # what a crash has left
    write_whole(str(path), iter(pieces), new=str(new))
    assert path.read_bytes() == b"".join(pieces)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [OSError, RuntimeError, KeyboardInterrupt])
def test_what_cannot_be_written_leaves_what_was_there(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path, new = tmp_path / "file", tmp_path / "new"
    path.write_bytes(b"before")

    def pieces() -> Iterator[bytes]:
        yield b"x" * (2 << 20)
        assert new.stat().st_size == 2 << 20, "it is written on the way"
        raise error("of its own")

    with pytest.raises(error, match="of its own"):
        write_whole(str(path), pieces(), new=str(new))
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file"]
    new.mkdir()
    with pytest.raises(OSError, match="new"):
        write_whole(str(path), [b"x"], new=str(new))
    assert path.read_bytes() == b"before"


FULL = """
import os, resource, signal, sys
from walstore.durable import write_whole

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, new = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    write_whole(path, [b"x" * (1 << 20), b"one more"], new=new)
except OSError as error:
    assert error.filename == new, error
else:
    raise AssertionError("it was written")
assert open(path, "rb").read() == b"before"
assert not os.path.exists(new)
"""


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"before")
    run_child(FULL, tmp_path / "file", tmp_path / "new")


@pytest.mark.parametrize("named", ["folder", "folder/", "folder//", "./folder/"])
def test_the_name_of_a_directory_is_durable_however_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    synced: list[str] = []
    sync = files.sync_directory

    def seen(path: str) -> None:
        synced.append(os.path.realpath(path))
        sync(path)

    monkeypatch.setattr(files, "sync_directory", seen)
    monkeypatch.chdir(tmp_path)
    for path in (named, f"{tmp_path}/other/{named}"):
        os.makedirs(os.path.dirname(path.rstrip("/")) or ".", exist_ok=True)
        make_directory(path)
        assert os.path.isdir(path)
    assert synced == [str(tmp_path), str(tmp_path / "other")]


def test_directories_and_files_from_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    make_directory(str(folder))
    make_directory(str(folder))
    came = tmp_path / "came"
    came.write_bytes(b"it")
    take_over(str(came), str(folder / "file"))
    assert (folder / "file").read_bytes() == b"it"
    assert not came.exists()
    with pytest.raises(FileNotFoundError):
        take_over(str(came), str(folder / "file"))
    with pytest.raises(FileNotFoundError):
        make_directory(str(tmp_path / "nowhere" / "folder"))
