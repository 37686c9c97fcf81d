"""Snapshots on the disk: written so that a crash leaves the old or the new one, found again, and
never removed before two newer ones are there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from walstore import FileWALManager, durable
from walstore.docstore import snapshot
from walstore.docstore.concern import is_shared, shown_lsn
from walstore.docstore.errors import SnapshotError
from walstore.docstore.snapshot import Position, SnapshotDamagedError
from walstore.docstore.state import State

__all__ = ["SNAPSHOTS_KEPT", "SNAPSHOTS_NAME", "Opened", "SnapshotFiles"]

SNAPSHOTS_NAME = "documents"
"""Their directory, inside of the log's."""

SNAPSHOTS_KEPT = 2

_NAME = re.compile(r"snapshot-(\d{20})")
_NEW = "snapshot.new"
_READ_BYTES = 1 << 20

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
        # Before: it may begin anew behind a snapshot that comes meanwhile.
        first_lsn = log.first_lsn
        names = self._found()
        if self._read_only:  # after: the log that is looked at anew reaches as far as they do
            shown_lsn(log)
            first_lsn = log.first_lsn
        refused: list[tuple[int, str]] = []
        for lsn in sorted(names, reverse=True):
            if lsn > _end_lsn(log) and is_shared(log):
                continue  # a leader's, and a crash came before the log was begun behind it
            try:
                opened = self._load(lsn)
                _check_place(opened.position, log, first_lsn)
            except SnapshotDamagedError as error:
                refused.append((lsn, str(error)))
                continue
            self.lsns = sorted({lsn, *self._older(lsn)})
            self._set_aside(refused, f"snapshot {lsn}")
            return opened
        if first_lsn > 1:
            reason = "; ".join(f"snapshot {lsn}: {why}" for lsn, why in refused)
            raise SnapshotError(
                self.path,
                f"no snapshot can be used ({reason or 'there is none'}), "
                f"and the log begins at entry {first_lsn}",
            )
        self._set_aside(refused, "the log alone")
        return Opened(Position(log.log_id, 0, 0, 0), State())

    def open_before(self, lsn: int, log: FileWALManager) -> Opened | None:
        """Loads the newest snapshot of the log that covers no entry after `lsn`; changes nothing.
        None: there is none, or none that is whole.

        Raises:
            UnsupportedFormatError: it was written by a newer walstore.
            OSError: the system refused.
        """
        for found in sorted(self._found(), reverse=True):
            if found <= lsn:
                with contextlib.suppress(SnapshotDamagedError, FileNotFoundError):
                    opened = self._load(found)
                    _check_place(opened.position, log, log.first_lsn)
                    return opened
        return None

    def _prepare(self) -> None:
        if self._read_only:
            return
        durable.make_directory(self.path)
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
            durable.take_over(path, path.replace("snapshot-", "refused-snapshot-"))
            _logger.warning(
                "%s cannot be used: %s; opened from %s and the entries after it; the file is kept "
                "as refused-snapshot-%020d",
                path,
                reason,
                instead,
                lsn,
            )

    # ---- writing ----

    def write(self, position: Position, pieces: Iterable[bytes]) -> None:
        """Writes a snapshot; durable at return.

        Raises:
            OSError: it could not be written. What was there is as it was, see
                durable.write_whole.
        """
        new = os.path.join(self.path, _NEW)
        durable.write_whole(self.path_of(position.lsn), pieces, new=new)
        self.lsns = sorted({*self.lsns, position.lsn})

    def prune(self) -> int:
        """Removes all but the newest ones. Returns the lsn from which the log is still needed, 0
        while there is only one snapshot."""
        for lsn in self.lsns[:-SNAPSHOTS_KEPT]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path_of(lsn))
        self.lsns = self.lsns[-SNAPSHOTS_KEPT:]
        return self.lsns[0] if len(self.lsns) == SNAPSHOTS_KEPT else 0

    # ---- on their way to other nodes ----

    def newest(self, term_of: Callable[[int], int]) -> tuple[int, str] | None:
        """Lsn and path of the newest one that is whole and of this log.

        Raises:
            UnsupportedFormatError: it was written by a newer walstore.
            OSError: the system refused.
        """
        if not os.path.isdir(self.path):
            return None
        for lsn in sorted(self._found(), reverse=True):
            path = self.path_of(lsn)
            with open(path, "rb") as file:
                if not snapshot.is_whole(iter(partial(file.read, _READ_BYTES), b"")):
                    _logger.warning("%s is damaged, and is not sent to other nodes", path)
                    continue
                file.seek(0)
                position = snapshot.position_of(path, file)
            if position.term == term_of(lsn):
                return lsn, path
            # Taken over from a leader, or made here, and this log went another way since.
            _logger.warning("%s is not of this log, and is not sent to other nodes", path)
        return None

    def install(self, lsn: int, path: str) -> None:
        """Takes over a file that came from another node; durable at return.

        Raises:
            SnapshotError: it is not whole, or not of this entry. Nothing was changed.
            UnsupportedFormatError: it was written by a newer walstore.
            OSError: the system refused.
        """
        durable.make_directory(self.path)
        with open(path, "rb") as file:
            data = file.read()
        try:
            found = snapshot.read_position(path, memoryview(data)).lsn
        except SnapshotDamagedError as error:
            raise SnapshotError(path, f"the leader's snapshot is not whole: {error}") from error
        if found != lsn:
            raise SnapshotError(path, f"the leader's snapshot of entry {lsn} is of {found}")
        durable.take_over(path, self.path_of(lsn))


def _check_place(position: Position, log: FileWALManager, first_lsn: int) -> None:
    """Raises when the log, which begins with this entry, does not go on where the snapshot ends.

    Raises:
        SnapshotDamagedError
    """
    if position.log_id != log.log_id:
        raise SnapshotDamagedError(f"it is of another log, {position.log_id}")
    if position.lsn > (end_lsn := _end_lsn(log)):
        raise SnapshotDamagedError(f"the log ends at entry {end_lsn}")
    if position.lsn + 1 < first_lsn:
        raise SnapshotDamagedError(f"the log begins at entry {first_lsn}")
    # What a snapshot covers was committed; a log that was used by several nodes may hear anew how
    # far that is, and shows nobody what lies behind.
    shown_to_lsn = shown_lsn(log)
    meta = log._view().meta  # of one moment, while the log may begin anew
    term = position.term
    if position.lsn + 1 == meta.first_lsn:
        term = meta.prev_term
    elif meta.first_lsn <= position.lsn <= shown_to_lsn:
        term = log.read(position.lsn).term
    if term != position.term:
        raise SnapshotDamagedError("the log has another entry in the place of its last one")


def _end_lsn(log: FileWALManager) -> int:
    """The last entry; of a log that begins anew just now, the one before its first."""
    return max(log.last_lsn, log.first_lsn - 1)
