"""Snapshots of what a log's entries amount to, as files in a directory beside it: whole or absent
after a crash, checked when they are read, and never removed before two newer ones are there.

    snapshot-<lsn of the last entry that it covers, 20 digits>
      magic (8)
      header and content, which the application reads and writes
      XXH3-128 of all before
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, NamedTuple

import xxhash

from walstore import FileWALManager, WALStoreError, durable
from walstore.limits import LSN_MAX

__all__ = ["Found", "Kind", "Place", "SnapshotFiles", "UnusableSnapshotError"]

KEPT = 2

_NAME = re.compile(r"snapshot-(\d{20})")
_NEW = "snapshot.new"
_DIGEST_BYTES = 16
_READ_BYTES = 1 << 20


class Place(NamedTuple):
    """Where in which log a snapshot stands.

    Attributes:
        log_id: of the log.
        lsn, term: the last entry that it covers.
    """

    log_id: str
    lsn: int
    term: int


class Found(NamedTuple):
    """A snapshot from which a log goes on.

    Attributes:
        place: where it stands.
        content: what was written, from its header on.
    """

    place: Place
    content: memoryview


class Kind(NamedTuple):
    """What an application's snapshots are.

    Attributes:
        magic: their first bytes.
        place_of: reads the header, given the path, and the file right behind the magic. Raises
            UnusableSnapshotError, or UnsupportedFormatError for a version that is newer.
        error: is raised where nothing can be used; made of a path and a reason.
        logger: is told what is passed over.
    """

    magic: bytes
    place_of: Callable[[str, BinaryIO], Place]
    error: Callable[[str, str], WALStoreError]
    logger: logging.Logger


class UnusableSnapshotError(ValueError):
    """A file that is no snapshot from which to go on; its text says why."""


class SnapshotFiles:
    """The snapshots of one application on one log. Safe from several threads.

    Args:
        path: their directory, in the log's; made when there is something to write.
        kind: what they are.

    Attributes:
        lsns: of those that were opened or written, and that were there before the one that was
            opened; the oldest first. Others may be a leader's, behind which the log never began.
    """

    def __init__(self, path: str, kind: Kind) -> None:
        self.path = path
        self.lsns: list[int] = []
        self._kind = kind
        self._changing = threading.Lock()  # a follower opens one while it writes another

    def path_of(self, lsn: int) -> str:
        """The file of a snapshot."""
        return os.path.join(self.path, f"snapshot-{lsn:020}")

    def _found(self) -> list[int]:
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return []
        return sorted(int(match[1]) for match in map(_NAME.fullmatch, names) if match)

    # ---- reading ----

    def open(self, log: FileWALManager) -> Found | None:
        """The newest one that is whole and from which the log goes on; None: the log begins with
        its first entry. What cannot be used is set aside, and what a crash left is removed; on a
        log that is open to read only nothing is changed.

        Raises:
            UnsupportedFormatError: the newest one was written by a newer walstore.
            The kind's error: there is none, and the log begins later. Nothing was set aside.
            OSError: the system refused; FileNotFoundError: the writer of a log that is open to
                read only has removed what was found.
        """
        with self._changing:
            if not log.read_only:
                durable.make_directory(self.path)
                with contextlib.suppress(FileNotFoundError):  # what a crash left of a checkpoint
                    os.unlink(os.path.join(self.path, _NEW))
            return self._open(log)

    def _open(self, log: FileWALManager) -> Found | None:
        # Before: the log may begin anew behind a snapshot that comes meanwhile.
        first_lsn = log.first_lsn
        lsns = self._found()
        if log.read_only:  # after: the log that is looked at anew reaches as far as they do
            log.replay()
            first_lsn = log.first_lsn
        refused: list[tuple[int, str]] = []
        for lsn in reversed(lsns):
            if lsn > _end_lsn(log) and log._replicated is not None:
                continue  # a leader's, and a crash came before the log was begun behind it
            try:
                found = self._load(lsn, log, first_lsn)
            except UnusableSnapshotError as error:
                refused.append((lsn, str(error)))
                continue
            self.lsns = [other for other in lsns if other <= lsn]
            self._set_aside(refused, f"snapshot {lsn}", log)
            return found
        if first_lsn > 1:
            reason = "; ".join(f"snapshot {lsn}: {why}" for lsn, why in refused)
            raise self._kind.error(
                self.path,
                f"no snapshot can be used ({reason or 'there is none'}), "
                f"and the log begins at entry {first_lsn}",
            )
        self._set_aside(refused, "the log alone", log)
        return None

    def open_before(self, log: FileWALManager, lsn: int = LSN_MAX) -> Found | None:
        """The newest one that is whole, from which the log goes on, and that covers no entry after
        `lsn`; None: there is none. Changes nothing.

        Raises:
            UnsupportedFormatError: it was written by a newer walstore.
            OSError: the system refused.
        """
        for found in reversed(self._found()):
            if found <= lsn:
                with contextlib.suppress(UnusableSnapshotError, FileNotFoundError):
                    return self._load(found, log, log.first_lsn)
        return None

    def _load(self, lsn: int, log: FileWALManager, first_lsn: int) -> Found:
        with open(self.path_of(lsn), "rb") as opened:
            file = io.BytesIO(opened.read())  # what is checked is what is used
        place = self._place_of(lsn, file)
        _check_place(place, log, first_lsn)
        return Found(place, file.getbuffer()[len(self._kind.magic) : -_DIGEST_BYTES])

    def _place_of(self, lsn: int, file: BinaryIO) -> Place:
        """Where the file of this name stands; otherwise as `_place_in`."""
        place = self._place_in(self.path_of(lsn), file)
        if place.lsn != lsn:
            raise UnusableSnapshotError(f"it is of entry {place.lsn}")
        return place

    def _place_in(self, path: str, file: BinaryIO) -> Place:
        """Where a snapshot stands, once all of it was read.

        Raises:
            UnusableSnapshotError, UnsupportedFormatError
        """
        magic = self._kind.magic
        if file.read(len(magic)) != magic:
            raise UnusableSnapshotError("it does not begin as a snapshot does")
        if not _is_whole(file):
            raise UnusableSnapshotError("its checksum is wrong")
        file.seek(len(magic))
        return self._kind.place_of(path, file)

    def _set_aside(self, refused: list[tuple[int, str]], instead: str, log: FileWALManager) -> None:
        """Keeps what could not be used for a person to look at, out of the way."""
        if log.read_only:
            return  # the writer's next opening says it
        for lsn, reason in refused:
            path, kept = self.path_of(lsn), f"refused-snapshot-{lsn:020}"
            durable.take_over(path, os.path.join(self.path, kept))
            self._kind.logger.warning(
                "%s cannot be used: %s; opened from %s and the entries after it; the file is kept "
                "as %s",
                path,
                reason,
                instead,
                kept,
            )

    # ---- writing ----

    def write(self, lsn: int, pieces: Iterable[bytes]) -> None:
        """Writes a snapshot; durable at return.

        Args:
            lsn: the last entry that it covers.
            pieces: its header and content.

        Raises:
            OSError: it could not be written. What was there is as it was, see
                durable.write_whole.
        """
        sealed, new = _sealed(self._kind.magic, pieces), os.path.join(self.path, _NEW)
        with self._changing:
            durable.make_directory(self.path)
            durable.write_whole(self.path_of(lsn), sealed, new=new)
            self.lsns = sorted({*self.lsns, lsn})

    def prune(self) -> int:
        """Removes all of `lsns` but the newest ones. Returns the oldest that is kept, 0 while there
        are fewer: the log is needed from there on."""
        with self._changing:
            for lsn in self.lsns[:-KEPT]:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path_of(lsn))
            self.lsns = self.lsns[-KEPT:]
            return self.lsns[0] if len(self.lsns) == KEPT else 0

    # ---- on their way to other nodes: see replication.Snapshots ----

    def newest(self, term_of: Callable[[int], int]) -> tuple[int, str] | None:
        """Lsn and path of the newest one that is whole and of the log whose terms these are, or
        None.

        Raises:
            UnsupportedFormatError: it was written by a newer walstore.
            OSError: the system refused.
        """
        for lsn in reversed(self._found()):
            path = self.path_of(lsn)
            try:
                with open(path, "rb") as file:
                    place = self._place_of(lsn, file)
            except FileNotFoundError:  # a checkpoint came between: there are newer ones
                continue
            except UnusableSnapshotError as error:
                self._kind.logger.warning("%s is not sent to other nodes: %s", path, error)
                continue
            if place.term == term_of(lsn):
                return lsn, path
            # Taken over from a leader, or made here, and this log went another way since.
            self._kind.logger.warning("%s is not sent to other nodes: not of this log", path)
        return None

    def install(self, lsn: int, path: str) -> None:
        """Takes over a file that came from another node; durable at return.

        Raises:
            The kind's error: it is not whole, or not of this entry. Nothing was changed.
            UnsupportedFormatError: it was written by a newer walstore.
            OSError: the system refused.
        """
        try:
            with open(path, "rb") as file:
                found = self._place_in(path, file).lsn
        except UnusableSnapshotError as error:
            reason = f"the leader's snapshot is not whole: {error}"
            raise self._kind.error(path, reason) from error
        if found != lsn:
            raise self._kind.error(path, f"the leader's snapshot of entry {lsn} is of {found}")
        durable.make_directory(self.path)
        durable.take_over(path, self.path_of(lsn))


def _sealed(magic: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    digest = xxhash.xxh3_128(magic)
    yield magic
    for piece in pieces:
        digest.update(piece)
        yield piece
    yield digest.digest()


def _is_whole(file: BinaryIO) -> bool:
    """Whether a file ends with the checksum of all before; it may be larger than memory."""
    digest = xxhash.xxh3_128()
    left_bytes = file.seek(0, os.SEEK_END) - _DIGEST_BYTES
    file.seek(0)
    while left_bytes > 0 and (piece := file.read(min(_READ_BYTES, left_bytes))):
        digest.update(piece)
        left_bytes -= len(piece)
    return file.read(_DIGEST_BYTES) == digest.digest()


def _check_place(place: Place, log: FileWALManager, first_lsn: int) -> None:
    """Raises when the log, which begins with this entry, does not go on where the snapshot ends.

    Raises:
        UnusableSnapshotError
    """
    if place.log_id != log.log_id:
        raise UnusableSnapshotError(f"it is of another log, {place.log_id}")
    if place.lsn > (end_lsn := _end_lsn(log)):
        raise UnusableSnapshotError(f"the log ends at entry {end_lsn}")
    if place.lsn + 1 < first_lsn:
        raise UnusableSnapshotError(f"the log begins at entry {first_lsn}")
    if log.read_only:
        log.replay()  # looks anew at what the writer has done
    # What a snapshot covers was committed; a log that was used by several nodes may hear anew how
    # far that is, and shows nobody what lies behind.
    shown_lsn = log.last_lsn if log._replicated is None else log.committed_lsn
    meta = log._view().meta  # of one moment, while the log may begin anew
    term = place.term
    if place.lsn + 1 == meta.first_lsn:
        term = meta.prev_term
    elif meta.first_lsn <= place.lsn <= shown_lsn:
        term = log._term_of(place.lsn)
    if term != place.term:
        raise UnusableSnapshotError("the log has another entry in the place of its last one")


def _end_lsn(log: FileWALManager) -> int:
    """The last entry; of a log that begins anew just now, the one before its first."""
    return max(log.last_lsn, log.first_lsn - 1)
