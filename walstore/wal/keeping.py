"""Keeping the files of a damaged log aside, also where the disk cannot read all of them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from walstore.limits import BLOCK_BYTES
from walstore.wal import files

__all__ = [
    "DAMAGED_PREFIX",
    "UnreadableError",
    "copy_aside",
    "free_name",
    "kept_before",
    "read_what_can_be",
    "reading",
]

DAMAGED_PREFIX = "damaged-"
_UNFINISHED = ".new"
_COPY_BYTES = 4 << 20


class UnreadableError(Exception):
    """The disk cannot read what it was to."""


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """What the disk cannot read is damaged. Other errors say nothing of the log."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise UnreadableError from error


def free_name(path: str, name: str) -> str:
    """Where a file may be kept."""
    target, number = os.path.join(path, DAMAGED_PREFIX + name), 1
    while os.path.lexists(target):
        number += 1
        target = os.path.join(path, f"{DAMAGED_PREFIX}{name}-{number}")
    return target


def kept_before(path: str, segment_path: str) -> str | None:
    """A copy of a file that an earlier try has made: a disk that is full has no room for many."""
    start = DAMAGED_PREFIX + os.path.basename(segment_path)
    for name in files.list_directory(path):
        target = os.path.join(path, name)
        if name.startswith(start) and not name.endswith(_UNFINISHED):
            if all(one == other for one, other in _both(segment_path, target)):
                return target
    return None


def _both(path: str, other: str) -> Iterator[tuple[bytes, bytes]]:
    """What stands at the same places of two files, up to the end of the longer one."""
    with open(path, "rb") as file, open(other, "rb") as second:
        at = 0
        while True:
            read = [read_what_can_be(it.fileno(), at) for it in (file, second)]
            if not any(read):
                return
            yield read[0], read[1]
            at += _COPY_BYTES


def read_what_can_be(fd: int, at: int) -> bytes:
    """The next bytes of a file, zeros for blocks of it that the disk cannot read."""
    try:
        with reading():
            return files.read_at(fd, _COPY_BYTES, at)
    except UnreadableError:
        pass
    blocks, end_at = [], min(at + _COPY_BYTES, files.size_of(fd))
    for block_at in range(at, end_at, BLOCK_BYTES):
        size = min(BLOCK_BYTES, end_at - block_at)
        try:
            with reading():
                blocks.append(files.read_at(fd, size, block_at))
        except UnreadableError:
            blocks.append(bytes(size))
    return b"".join(blocks)


def copy_aside(path: str, segment_path: str) -> str:
    """Copies a file, whole or, where it is cut short, under a name that the next try takes over."""
    name = os.path.basename(segment_path)
    unfinished = os.path.join(path, DAMAGED_PREFIX + name + _UNFINISHED)
    with (
        files.opened(segment_path) as source,
        files.opened(unfinished, write=True, create=True) as fd,
    ):
        at = 0
        while data := read_what_can_be(source, at):
            files.write_at(fd, data, at, unfinished)
            at += len(data)
        files.sync_data(fd, unfinished)
    target = free_name(path, name)
    files.rename(unfinished, target)
    return target
