"""Snapshots on the disk: written so that a crash leaves the old or the new one, found again, and
never removed before two newer ones are there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from walstore import FileWALManager
from walstore.docstore import snapshot
from walstore.docstore.errors import SnapshotError
from walstore.docstore.snapshot import Position, SnapshotDamagedError
from walstore.docstore.state import State

__all__ = ["SNAPSHOTS_KEPT", "Opened", "SnapshotFiles"]

SNAPSHOTS_KEPT = 2

_NAME = re.compile(r"snapshot-(\d{20})")
_NEW = "snapshot.new"
_WRITE_BYTES = 1 << 20

_logger = logging.getLogger("walstore.docstore")


class Opened(NamedTuple):
    """What a store begins with: a state, and where in the log it stands."""

    position: Position
    state: State


class SnapshotFiles:
    """The snapshots of one store.

    Args:
        path: their directory; made when it is not there.
        read_only: nothing is changed there.

    Attributes:
        lsns: of those that are known to be whole, the oldest first.
    """

    def __init__(self, path: str, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        self.lsns: list[int] = []

    def path_of(self, lsn: int) -> str:
        """The file of a snapshot."""
        return os.path.join(self.path, f"snapshot-{lsn:020}")

    # ---- opening ----

    def open(self, log: FileWALManager) -> Opened:
        """Loads the newest snapshot that is whole and belongs to the log.

        Raises:
            UnsupportedFormatError: the newest one was written by a newer walstore.
            SnapshotError: there is none, and the log does not begin with its first entry.
            OSError: the system refused.
        """
        self._prepare()
        refused: list[tuple[int, str]] = []
        for lsn in sorted(self._found(), reverse=True):
            try:
                opened = self._load(lsn)
                _check_place(opened.position, log)
            except SnapshotDamagedError as error:
                refused.append((lsn, str(error)))
                continue
            self.lsns = sorted({lsn, *self._older(lsn)})
            self._set_aside(refused, f"snapshot {lsn}")
            return opened
        if log.first_lsn > 1:
            reason = "; ".join(f"snapshot {lsn}: {why}" for lsn, why in refused)
            raise SnapshotError(
                self.path,
                f"no snapshot can be used ({reason or 'there is none'}), "
                f"and the log begins at entry {log.first_lsn}",
            )
        self._set_aside(refused, "the log alone")
        return Opened(Position(log.log_id, 0, 0, 0), State())

    def _prepare(self) -> None:
        if self._read_only:
            return
        if not os.path.isdir(self.path):
            os.mkdir(self.path, 0o755)
            _sync_directory(os.path.dirname(self.path) or ".")
        with contextlib.suppress(FileNotFoundError):  # what a crash left of a checkpoint
            os.unlink(os.path.join(self.path, _NEW))

    def _found(self) -> list[int]:
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:  # a reader makes no directory
            names = []
        matches = map(_NAME.fullmatch, names)
        return [int(match[1]) for match in matches if match]

    def _older(self, lsn: int) -> list[int]:
        return [other for other in self._found() if other < lsn]

    def _load(self, lsn: int) -> Opened:
        path = self.path_of(lsn)
        with open(path, "rb") as file:
            data = file.read()
        opened = Opened(*snapshot.read(path, memoryview(data)))
        if opened.position.lsn != lsn:
            raise SnapshotDamagedError(f"it is of entry {opened.position.lsn}")
        return opened

    def _set_aside(self, refused: list[tuple[int, str]], instead: str) -> None:
        """Keeps what could not be used for a person to look at, out of the way."""
        if self._read_only:
            return  # the writer's next opening says it
        for lsn, reason in refused:
            path = self.path_of(lsn)
            os.rename(path, path.replace("snapshot-", "refused-snapshot-"))
            _logger.warning(
                "%s cannot be used: %s; opened from %s and the entries after it; the file is kept "
                "as refused-snapshot-%020d",
                path,
                reason,
                instead,
                lsn,
            )
        if refused:
            _sync_directory(self.path)

    # ---- writing ----

    def write(self, position: Position, pieces: Iterable[bytes]) -> None:
        """Writes a snapshot; durable at return.

        Raises:
            OSError: it could not be written. What was there is as it was.
        """
        new = os.path.join(self.path, _NEW)
        try:
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                _write_all(fd, pieces)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(new, self.path_of(position.lsn))
        except OSError:
            with contextlib.suppress(OSError):  # it takes space, and is nobody's data
                os.unlink(new)
            raise
        _sync_directory(self.path)
        self.lsns = sorted({*self.lsns, position.lsn})

    def prune(self) -> int:
        """Removes all but the newest ones. Returns the lsn from which the log is still needed, 0
        while there is only one snapshot."""
        for lsn in self.lsns[:-SNAPSHOTS_KEPT]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path_of(lsn))
        self.lsns = self.lsns[-SNAPSHOTS_KEPT:]
        return self.lsns[0] if len(self.lsns) == SNAPSHOTS_KEPT else 0


def _check_place(position: Position, log: FileWALManager) -> None:
    """Raises when the log does not go on where the snapshot ends.

    Raises:
        SnapshotDamagedError
    """
    if position.log_id != log.log_id:
        raise SnapshotDamagedError(f"it is of another log, {position.log_id}")
    if position.lsn > log.last_lsn:
        raise SnapshotDamagedError(f"the log ends at entry {log.last_lsn}")
    if position.lsn + 1 < log.first_lsn:
        raise SnapshotDamagedError(f"the log begins at entry {log.first_lsn}")
    if position.lsn >= log.first_lsn and log.read(position.lsn).term != position.term:
        raise SnapshotDamagedError("the log has another entry in the place of its last one")


def _write_all(fd: int, pieces: Iterable[bytes]) -> None:
    waiting: list[bytes] = []
    size_bytes = 0
    for piece in pieces:
        waiting.append(piece)
        size_bytes += len(piece)
        if size_bytes >= _WRITE_BYTES:
            _write(fd, b"".join(waiting))
            waiting, size_bytes = [], 0
    _write(fd, b"".join(waiting))


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
