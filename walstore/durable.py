"""Files beside a log that are whole or absent after a crash: for what an application keeps there,
such as its snapshots.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from walstore.wal import files

__all__ = ["make_directory", "take_over", "write_whole"]

_WRITE_BYTES = 1 << 20


def make_directory(path: str) -> None:
    """Makes a directory where there is none, in one that exists; durable at return.

    Raises:
        OSError: the system refused.
    """
    if not os.path.isdir(path):
        with contextlib.suppress(FileExistsError):  # another thread was faster
            files.make_directory(path)
    named = path.rstrip("/") or "/"  # by its last name, which stands in its parent
    files.sync_directory(os.path.dirname(named) or ".")


def write_whole(path: str, pieces: Iterable[bytes], *, new: str) -> None:
    """Writes a file, which a crash leaves whole or not at all at its path; durable at return.

    Args:
        path: what is there is replaced.
        pieces: the file's bytes.
        new: a path in the same directory where it is written first. A crash may leave it there: it
            is nobody's data then.

    Raises:
        OSError: it could not be written. What was at `path` is as it was, and `new` is gone; only
            where the directory could not be synced, at the end, the file may be there, whole, and
            a crash leaves either.
            What the pieces raise, likewise.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            files.remove(new)
        with files.opened(new, write=True, create=True) as fd:
            _write_all(fd, pieces, new)
            files.sync_data(fd, new)
        files.rename(new, path)
    except BaseException:  # what the pieces raise, too: `new` may have filled the disk
        with contextlib.suppress(OSError):
            files.remove(new)
        raise
    files.sync_directory(os.path.dirname(path) or ".")


def take_over(source: str, path: str) -> None:
    """Gives a file that is durable another path on the same filesystem; durable at return.

    Raises:
        OSError: the system refused.
    """
    files.rename(source, path)
    files.sync_directory(os.path.dirname(path) or ".")


def _write_all(fd: int, pieces: Iterable[bytes], path: str) -> None:
    waiting: list[bytes] = []
    at = size_bytes = 0
    for piece in pieces:
        waiting.append(piece)
        size_bytes += len(piece)
        if size_bytes >= _WRITE_BYTES:
            files.write_at(fd, b"".join(waiting), at, path)
            at += size_bytes
            waiting, size_bytes = [], 0
    files.write_at(fd, b"".join(waiting), at, path)
