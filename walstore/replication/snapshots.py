"""Snapshots of the application on their way from a leader to a follower that is too far behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from walstore.wal import files

__all__ = ["INCOMING_NAME", "Incoming", "Outgoing", "Snapshots", "TermOf"]

TermOf = Callable[[int], int]
"""The term of an entry of this node's log; 0 where the log has no such entry."""

INCOMING_NAME = "incoming.snapshot"


class Snapshots(Protocol):
    """The application's side. A log without an application to snapshot needs none: a follower
    that is behind the first entry held then begins its log there, without the entries before.

    Both are called in threads of the node's own and may take their time.
    """

    def newest(self, term_of: TermOf) -> tuple[int, str] | None:
        """On the leader: (lsn, path) of a file that holds what all entries up to lsn amount to, or
        None when there is none. The file stays as it is, also when it is replaced by a newer one
        while it is being sent (an open descriptor is enough). A follower whose connection ends
        meanwhile goes on where it was, while this node leads.

        A file may be of a time before this log went another way (a promotion by force, a copy that
        was put back): keep with each the term of its last entry, and pass over those of which
        `term_of` says another one.

        Whatever it raises, or answers that is nothing of the kind, is logged and said in the node's
        status, and it is asked again later.
        """

    def install(self, lsn: int, path: str) -> None:
        """On a follower: take this file over, whole and durable at return. The log begins anew
        after lsn then, and `first_lsn` is lsn + 1. Called again when a crash came between."""


class Outgoing:
    """A snapshot that is being read.

    Args:
        lsn, term: the last entry that it covers.
        path: the file; none: there is nothing but the place.
    """

    def __init__(self, lsn: int, term: int, path: str | None) -> None:
        self.lsn = lsn
        self.term = term
        self._fd = files.open_file(path) if path is not None else -1
        self.total_bytes = files.size_of(self._fd) if path is not None else 0

    def read(self, at: int, bytes_max: int) -> bytes:
        """The bytes at a place."""
        if self._fd < 0:
            return b""
        return files.read_at(self._fd, min(bytes_max, self.total_bytes - at), at)

    def close(self) -> None:
        """Lets go of the file."""
        if self._fd >= 0:
            files.close(self._fd)
            self._fd = -1


class Incoming:
    """A snapshot that is being written beside the log.

    Args:
        directory: of the log.
    """

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, INCOMING_NAME)
        self._fd = -1

    def write(self, at: int, data: bytes | memoryview) -> None:
        """Takes the next part; one at 0 begins anew.

        Raises:
            OSError: the disk did not take it.
        """
        if at == 0:
            self.close()
            self.remove()
            self._fd = files.open_file(self.path, write=True, create=True)
        files.write_at(self._fd, bytes(data), at, self.path)

    def finish(self) -> str:
        """All of it is there: durable at return. Returns its path."""
        files.sync_data(self._fd, self.path)
        self.close()
        files.sync_directory(os.path.dirname(self.path))
        return self.path

    def remove(self) -> None:
        """It is not wanted any more."""
        if os.path.exists(self.path):
            files.remove(self.path)

    def close(self) -> None:
        """Lets go of the file; what is there stays until the next one."""
        if self._fd >= 0:
            files.close(self._fd)
            self._fd = -1
