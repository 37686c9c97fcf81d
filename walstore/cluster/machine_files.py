"""Snapshots of a machine on the disk (docs/machines.md, "Snapshots"): whole or not there, checked
when they are read, and never removed before two newer ones are there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import xxhash

from walstore import FileWALManager, UnsupportedFormatError, durable
from walstore.cluster.machine_errors import MachineStateError
from walstore.replication import ReplicationWALManager, TermOf

__all__ = ["DIRECTORY_NAME", "MachineFiles", "MachineSnapshots", "Saved", "newest_usable"]

DIRECTORY_NAME = "machine"
"""Inside of the log's."""

KEPT = 2

_MAGIC = b"WALMACH1"
_VERSION = 1
_HEADER = struct.Struct("<8sII16sQQQ")
_DIGEST_BYTES = 16
_NAME = re.compile(r"snapshot-(\d{20})")
_NEW = "snapshot.new"

_logger = logging.getLogger("walstore.cluster")


class Saved(NamedTuple):
    """What a snapshot holds.

    Attributes:
        log_id: of the log.
        lsn, term: the last entry that it covers.
        sessions: their bytes.
        machine: the machine's.
    """

    log_id: str
    lsn: int
    term: int
    sessions: bytes
    machine: bytes


class _UnusableError(ValueError):
    """A file that is no snapshot from which to go on; its text says why."""


def _pieces(
    log_id: str, lsn: int, term: int, sessions: bytes, machine: Iterable[bytes]
) -> Iterator[bytes]:
    digest = xxhash.xxh3_128()
    fields = (_VERSION, 0, bytes.fromhex(log_id), lsn, term, len(sessions))
    for piece in (_HEADER.pack(_MAGIC, *fields), sessions):
        digest.update(piece)
        yield piece
    for piece in machine:
        digest.update(piece)
        yield piece
    yield digest.digest()


def _read(path: str) -> Saved:
    """A snapshot.

    Raises:
        _UnusableError: it is not whole.
        UnsupportedFormatError: it is, and of a newer version.
        OSError: the system refused.
    """
    with open(path, "rb") as file:
        data = memoryview(file.read())
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if len(body) < _HEADER.size or body[:8] != _MAGIC:
        raise _UnusableError("it does not begin as a snapshot does")
    if xxhash.xxh3_128_digest(body) != digest:
        raise _UnusableError("its checksum is wrong")
    _, version, _, log_id, lsn, term, sessions_size = _HEADER.unpack_from(body)
    if version != _VERSION:
        raise UnsupportedFormatError(path, f"snapshot version {version}")
    rest = body[_HEADER.size :]
    sessions, machine = bytes(rest[:sessions_size]), bytes(rest[sessions_size:])
    return Saved(log_id.hex(), lsn, term, sessions, machine)


class MachineFiles:
    """The snapshots of one machine.

    Args:
        path: their directory.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def path_of(self, lsn: int) -> str:
        """The file of a snapshot."""
        return os.path.join(self.path, f"snapshot-{lsn:020}")

    def lsns(self) -> list[int]:
        """Of those that are there, the oldest first."""
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return []
        return sorted(int(found[1]) for found in map(_NAME.fullmatch, names) if found)

    def open(self, log: FileWALManager) -> Saved | None:
        """The newest one that is whole and that the log goes on from; None: the log begins with
        its first entry.

        Raises:
            UnsupportedFormatError: the newest one was written by a newer walstore.
            MachineStateError: there is none, and the log begins later.
            OSError: the system refused.
        """
        durable.make_directory(self.path)
        # Before: the log may begin anew behind a snapshot that comes meanwhile.
        first_lsn = log.first_lsn
        refused: list[str] = []
        for lsn in reversed(self.lsns()):
            if lsn > _end_lsn(log) and isinstance(log, ReplicationWALManager):
                continue  # a leader's, and a crash came before the log was begun behind it
            try:
                saved = _read(self.path_of(lsn))
                _check_place(saved, lsn, log, first_lsn)
            except _UnusableError as error:
                refused.append(f"snapshot {lsn}: {error}")
                self._set_aside(lsn, str(error))
                continue
            return saved
        if first_lsn > 1:
            reason = "; ".join(refused) or "there is none"
            raise MachineStateError(
                self.path,
                f"no snapshot can be used ({reason}), and the log begins at entry {first_lsn}",
            )
        return None

    def _set_aside(self, lsn: int, reason: str) -> None:
        """Keeps what could not be used for a person to look at, out of the way."""
        kept = os.path.join(self.path, f"refused-snapshot-{lsn:020}")
        durable.take_over(self.path_of(lsn), kept)
        _logger.warning("snapshot %d cannot be used: %s; it is kept as %s", lsn, reason, kept)

    def write(
        self, log_id: str, lsn: int, term: int, sessions: bytes, machine: Iterable[bytes]
    ) -> None:
        """Writes a snapshot; durable at return.

        Raises:
            OSError: it could not be written. What was there is as it was, see
                durable.write_whole.
        """
        durable.make_directory(self.path)
        pieces = _pieces(log_id, lsn, term, sessions, machine)
        durable.write_whole(self.path_of(lsn), pieces, new=os.path.join(self.path, _NEW))

    def prune(self) -> int:
        """Removes all but the newest ones. Returns the lsn of the oldest that is kept, 0 while
        there are fewer: the log is needed from behind it."""
        lsns = self.lsns()
        for lsn in lsns[:-KEPT]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path_of(lsn))
        return lsns[-KEPT] if len(lsns) >= KEPT else 0


def _check_place(saved: Saved, lsn: int, log: FileWALManager, first_lsn: int) -> None:
    """Raises unless the log, which begins with this entry, goes on where the snapshot ends.

    Raises:
        _UnusableError
    """
    if saved.lsn != lsn:
        raise _UnusableError(f"it is of entry {saved.lsn}")
    if saved.log_id != log.log_id:
        raise _UnusableError(f"it is of another log, {saved.log_id}")
    if lsn > (end_lsn := _end_lsn(log)):
        raise _UnusableError(f"the log ends at entry {end_lsn}")
    if lsn + 1 < first_lsn:
        raise _UnusableError(f"the log begins at entry {first_lsn}")
    # What a snapshot covers was committed; a node may hear anew how far that is.
    shown_lsn = log.committed_lsn
    meta = log._view().meta  # of one moment, while the log may begin anew
    term = saved.term
    if lsn + 1 == meta.first_lsn:
        term = meta.prev_term
    elif meta.first_lsn <= lsn <= shown_lsn:
        term = log.read(lsn).term
    if term != saved.term:
        raise _UnusableError("the log has another entry in the place of its last one")


def _end_lsn(log: FileWALManager) -> int:
    """The last entry; of a log that begins anew just now, the one before its first."""
    return max(log.last_lsn, log.first_lsn - 1)


class MachineSnapshots:
    """For `snapshots` of a ReplicationWALManager that a MachineHost is on. Every node should be
    given one: which of them leads, and which is behind, is not known before.

    Args:
        path: the log's directory, the same as the log's own.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._files = MachineFiles(os.path.join(os.fspath(path), DIRECTORY_NAME))

    def newest(self, term_of: TermOf) -> tuple[int, str] | None:
        """On the leader: lsn and path of its newest snapshot that is whole and of the log whose
        terms these are, or None.

        Raises:
            UnsupportedFormatError: it was written by a newer walstore.
            OSError: the system refused.
        """
        for lsn in reversed(self._files.lsns()):
            path = self._files.path_of(lsn)
            try:
                if _read(path).term != term_of(lsn):
                    raise _UnusableError("the log went another way since")
            except _UnusableError as error:
                _logger.warning("%s is not sent to other nodes: %s", path, error)
                continue
            return lsn, path
        return None

    def install(self, lsn: int, path: str) -> None:
        """On a follower: takes a snapshot over; durable at return. The host goes on from it once
        the log begins behind it.

        Raises:
            MachineStateError: it is not whole, or not of this entry. Nothing was changed.
            UnsupportedFormatError: it was written by a newer walstore.
            OSError: the system refused.
        """
        durable.make_directory(self._files.path)
        try:
            found = _read(path).lsn
        except _UnusableError as error:
            raise MachineStateError(path, f"the leader's snapshot is not whole: {error}") from error
        if found != lsn:
            raise MachineStateError(path, f"the leader's snapshot of entry {lsn} is of {found}")
        durable.take_over(path, self._files.path_of(lsn))


def newest_usable(path: str, log: FileWALManager) -> Saved | None:
    """The newest snapshot in a directory that is whole, and that a log goes on from; None where
    there is none. Changes nothing.

    Raises:
        UnsupportedFormatError: it was written by a newer walstore.
        OSError: the system refused.
    """
    files = MachineFiles(path)
    for lsn in reversed(files.lsns()):
        if lsn <= max(log.last_lsn, log.first_lsn - 1):
            with contextlib.suppress(_UnusableError):
                saved = _read(files.path_of(lsn))
                _check_place(saved, lsn, log, log.first_lsn)
                return saved
    return None
