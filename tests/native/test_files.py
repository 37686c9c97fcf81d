"""files.c by itself: what fails says so with its errno, and the lock is the open file's."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from walstore._native import ffi, lib

NOT_OPEN = -1


@pytest.mark.parametrize("name", ["sync_data", "sync_full", "lock", "unlock", "lock_held"])
def test_a_call_that_fails_says_why(name: str) -> None:
    assert getattr(lib, f"walcore_{name}")(NOT_OPEN) == -errno.EBADF


def test_a_write_that_fails_says_why_and_how_far_it_came(tmp_path: Path) -> None:
    done = ffi.new("size_t *", 99)
    assert lib.walcore_pwrite_count(NOT_OPEN, b"abc", 3, 0, done) == -errno.EBADF
    assert done[0] == 0
    assert lib.walcore_zero_fill(NOT_OPEN, 0, 10) == -errno.EBADF
    assert lib.walcore_reserve(NOT_OPEN, 10) == -errno.EBADF


def test_zeros_fill_exactly_the_range(tmp_path: Path) -> None:
    path = tmp_path / "file"
    size = 3 * (64 << 10) + 17
    for begin, end in ((0, 0), (5, 5), (1, size - 1), (7, 8), (64 << 10, 128 << 10)):
        path.write_bytes(b"\xff" * size)
        fd = os.open(path, os.O_RDWR)
        assert lib.walcore_zero_fill(fd, begin, end) == 0
        os.close(fd)
        filled = b"\xff" * begin + bytes(end - begin) + b"\xff" * (size - end)
        assert path.read_bytes() == filled


def test_the_lock_belongs_to_the_open_file(tmp_path: Path) -> None:
    first = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    second = os.open(tmp_path / "file", os.O_RDWR)
    assert lib.walcore_lock_held(second) == 0
    assert lib.walcore_lock(first) == 0
    assert lib.walcore_lock(second) in (-errno.EAGAIN, -errno.EACCES)
    assert lib.walcore_lock_held(second) == 1
    assert lib.walcore_unlock(first) == 0
    assert lib.walcore_lock_held(second) == 0
    assert lib.walcore_sync_data(first) == lib.walcore_sync_full(first) == 0
    os.close(first)
    os.close(second)
