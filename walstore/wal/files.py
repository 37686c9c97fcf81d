"""The disk seam: the cold path's storage calls, each a thin name for one libc call. Only maps
(scan.py) and looks at directories and sizes go past it.

The hot path (append, group commit) makes the same calls from C. Both go through libc, which is
where the crash lab records them and makes them fail; there is no second implementation to mock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from walstore._native import lib

__all__ = [
    "NO_SPACE",
    "close",
    "is_locked",
    "is_plain_file",
    "list_directory",
    "lock",
    "make_directory",
    "open_file",
    "opened",
    "read_at",
    "remove",
    "remove_directory",
    "rename",
    "reserve",
    "size_of",
    "sync_data",
    "sync_directory",
    "unlock",
    "write_at",
    "zero_fill",
]

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors that say that there is no space for more, and nothing worse."""


def _check(rc: int, path: str) -> None:
    if rc < 0:
        raise OSError(-rc, os.strerror(-rc), path)


def open_file(path: str, *, write: bool = False, create: bool = False) -> int:
    """Opens a file and returns its descriptor. Never waits, should it not be a plain file."""
    flags = os.O_CLOEXEC | os.O_NONBLOCK | (os.O_RDWR if write else os.O_RDONLY)
    return os.open(path, flags | (os.O_CREAT if create else 0), 0o644)


def is_plain_file(fd: int) -> bool:
    """Whether it is a file that can be read anywhere, and not a directory, pipe or device."""
    return stat.S_ISREG(os.fstat(fd).st_mode)


def close(fd: int) -> None:
    """Closes a descriptor. Says nothing about durability: what matters was synced before, and
    the descriptor is gone also when close reports an error (Linux, close(2))."""
    with contextlib.suppress(OSError):
        os.close(fd)


@contextlib.contextmanager
def opened(path: str, *, write: bool = False, create: bool = False) -> Iterator[int]:
    """Opens a file as `open_file` does, and closes it behind the block, however that ends."""
    fd = open_file(path, write=write, create=create)
    try:
        yield fd
    finally:
        close(fd)


def read_at(fd: int, size: int, at: int) -> bytes:
    """Reads `size` bytes, fewer only where the file ends."""
    data = os.pread(fd, size, at)
    if len(data) == size or not data:
        return data
    parts = [data]
    got = len(data)
    while got < size:
        data = os.pread(fd, size - got, at + got)
        if not data:
            break
        parts.append(data)
        got += len(data)
    return b"".join(parts)


def write_at(fd: int, data: bytes, at: int, path: str) -> None:
    """Writes all of `data`; not durable until `sync_data`."""
    _check(lib.walcore_pwrite_all(fd, data, len(data), at), path)


def zero_fill(fd: int, start: int, end: int, path: str) -> None:
    """Writes zeros over [start, end); not durable until `sync_data`."""
    _check(lib.walcore_zero_fill(fd, start, end), path)


def reserve(fd: int, size: int, path: str) -> None:
    """Takes space for `size` bytes where the filesystem can, so that ENOSPC comes now."""
    _check(lib.walcore_reserve(fd, size), path)


def sync_data(fd: int, path: str) -> None:
    """Makes a file's bytes and size durable. Never call it again after it failed."""
    _check(lib.walcore_sync_data(fd), path)


def sync_directory(path: str) -> None:
    """Makes the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check(lib.walcore_sync_full(fd), path)
    finally:
        os.close(fd)


def rename(source: str, target: str) -> None:
    """Renames a file; not durable until `sync_directory`."""
    os.rename(source, target)


def remove(path: str) -> None:
    """Removes a file; not durable until `sync_directory`."""
    os.unlink(path)


def remove_directory(path: str) -> None:
    """Removes an empty directory; not durable until `sync_directory` of its parent."""
    os.rmdir(path)


def make_directory(path: str) -> None:
    """Makes a directory; not durable until `sync_directory` of its parent."""
    os.mkdir(path, 0o755)


def list_directory(path: str) -> list[str]:
    """The names in a directory, sorted."""
    return sorted(os.listdir(path))


def size_of(fd: int) -> int:
    """A file's size in bytes. A hint only: nothing on disk is trusted for its size."""
    return os.fstat(fd).st_size


def lock(fd: int) -> bool:
    """Takes the writer's lock; False when another open file has it."""
    rc = lib.walcore_lock(fd)
    if rc in (-errno.EAGAIN, -errno.EACCES):  # both mean held
        return False
    _check(rc, "lock")
    return True


def unlock(fd: int) -> None:
    """Lets go of the writer's lock before its file is closed: a child made by fork may have it
    open for a moment longer. Closing lets go of it in any case."""
    lib.walcore_unlock(fd)


def is_locked(fd: int) -> bool:
    """Whether a writer has the log open. Takes nothing."""
    rc = lib.walcore_lock_held(fd)
    _check(rc, "lock")
    return rc == 1
