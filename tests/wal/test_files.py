"""The disk seam: what each call does, and what it says when the system refuses."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers import open_descriptors
from walstore.wal import files


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "file")


@pytest.fixture
def fd(path: str) -> Iterator[int]:
    fd = files.open_file(path, write=True, create=True)
    yield fd
    files.close(fd)


def test_read_is_short_only_at_the_end_of_the_file(fd: int, path: str) -> None:
    files.write_at(fd, b"0123456789", 0, path)
    assert files.read_at(fd, 4, 3) == b"3456"
    assert files.read_at(fd, 10, 7) == b"789"
    assert files.read_at(fd, 10, 10) == b""
    assert files.read_at(fd, 0, 0) == b""


def test_read_goes_on_after_a_short_one(
    fd: int, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_at(fd, b"0123456789", 0, path)
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: real(fd, min(size, 3), at))
    assert files.read_at(fd, 8, 1) == b"12345678"
    assert files.read_at(fd, 100, 1) == b"123456789"


def test_write_puts_all_bytes_in_their_place(fd: int, path: str) -> None:
    data = os.urandom(3 << 20)
    files.write_at(fd, data, 5, path)
    assert files.size_of(fd) == 5 + len(data)
    assert files.read_at(fd, len(data) + 5, 0) == bytes(5) + data


@pytest.mark.parametrize(("start", "end"), [(0, 1), (100, 5000), (4095, 3 << 20), (7, 7)])
def test_zero_fill_covers_its_range_and_nothing_else(
    fd: int, path: str, start: int, end: int
) -> None:
    size = (3 << 20) + 10
    files.write_at(fd, b"\xff" * size, 0, path)
    files.zero_fill(fd, start, end, path)
    expected = b"\xff" * start + bytes(end - start) + b"\xff" * (size - end)
    assert files.read_at(fd, size + 1, 0) == expected


def test_reserve_changes_no_byte(fd: int, path: str) -> None:
    files.write_at(fd, b"\xff" * 10_000, 0, path)
    files.reserve(fd, 1 << 20, path)
    data = files.read_at(fd, 2 << 20, 0)
    assert data[:10_000] == b"\xff" * 10_000
    assert not any(data[10_000:])


def test_open_says_what_is_missing_and_makes_only_when_asked(path: str) -> None:
    with pytest.raises(FileNotFoundError):
        files.open_file(path, write=True)
    assert not os.path.exists(path)


def test_opened_closes_however_its_block_ends(path: str) -> None:
    before = open_descriptors()
    with pytest.raises(FileNotFoundError), files.opened(path):
        pass
    with files.opened(path, write=True, create=True) as made:
        files.write_at(made, b"kept", 0, path)
    with pytest.raises(EOFError), files.opened(path) as fd:
        raise EOFError(files.read_at(fd, 10, 0))
    assert open_descriptors() == before


def test_open_to_read_does_not_write(fd: int, path: str) -> None:
    reading = files.open_file(path)
    try:
        with pytest.raises(OSError, match=path) as caught:
            files.write_at(reading, b"x", 0, path)
        assert caught.value.errno == errno.EBADF
        assert caught.value.filename == path
    finally:
        files.close(reading)
    assert files.size_of(fd) == 0


def test_descriptors_are_not_inherited(fd: int) -> None:
    assert not os.get_inheritable(fd)


def test_open_of_a_fifo_does_not_wait_for_its_writer(path: str) -> None:
    os.mkfifo(path)
    files.close(files.open_file(path))


@pytest.mark.parametrize(
    "call",
    [
        lambda fd: files.write_at(fd, b"x", 0, "name"),
        lambda fd: files.zero_fill(fd, 0, 10, "name"),
        lambda fd: files.sync_data(fd, "name"),
    ],
    ids=["write_at", "zero_fill", "sync_data"],
)
def test_failures_name_the_file(call: Callable[[int], None]) -> None:
    reading, writing = os.pipe()  # has no places to write to, and nothing to sync
    try:
        with pytest.raises(OSError, match="name") as caught:
            call(writing)
        assert caught.value.errno in (errno.ESPIPE, errno.EINVAL)
        assert caught.value.filename == "name"
    finally:
        os.close(reading)
        os.close(writing)


def test_sync_directory_leaves_no_descriptor(tmp_path: Path, path: str) -> None:
    before = open_descriptors()
    files.sync_directory(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        files.sync_directory(str(tmp_path / "missing"))
    Path(path).write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        files.sync_directory(path)
    assert open_descriptors() == before


def test_names(tmp_path: Path) -> None:
    directory = str(tmp_path / "new")
    files.make_directory(directory)
    with pytest.raises(FileExistsError):
        files.make_directory(directory)
    for name in ("b", "a", "c"):
        files.close(files.open_file(os.path.join(directory, name), write=True, create=True))
    assert files.list_directory(directory) == ["a", "b", "c"]
    files.rename(os.path.join(directory, "c"), os.path.join(directory, "a"))
    files.remove(os.path.join(directory, "b"))
    assert files.list_directory(directory) == ["a"]
    with pytest.raises(FileNotFoundError):
        files.remove(os.path.join(directory, "b"))


def test_lock_is_one_open_files_until_it_closes(fd: int, path: str) -> None:
    other = files.open_file(path, write=True)
    reader = files.open_file(path)
    try:
        assert not files.is_locked(reader)
        assert files.lock(fd)
        assert not files.lock(other)
        assert files.is_locked(other)
        assert files.is_locked(reader)
        # Closing another open file of the same name must not release it, as it would with fcntl.
        files.close(files.open_file(path, write=True))
        assert files.is_locked(reader)
        third = files.open_file(path, write=True)
        files.close(other)
        other = third
        assert not files.lock(other)
    finally:
        files.close(other)
        files.close(reader)


def test_lock_ends_with_its_descriptor(path: str) -> None:
    first = files.open_file(path, write=True, create=True)
    assert files.lock(first)
    second = files.open_file(path, write=True)
    try:
        assert not files.lock(second)
        files.close(first)
        assert not files.is_locked(second)
        assert files.lock(second)
    finally:
        files.close(second)


def test_asking_for_the_lock_takes_nothing(fd: int, path: str) -> None:
    other = files.open_file(path, write=True)
    try:
        assert not files.is_locked(other)
        assert files.lock(fd)
    finally:
        files.close(other)
