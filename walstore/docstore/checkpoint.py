"""The store's snapshots as files (walstore.snapshot_files): the states that they hold, and
DocumentSnapshots, which gives them to other nodes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from walstore import FileWALManager
from walstore.docstore import snapshot
from walstore.docstore.errors import SnapshotError
from walstore.docstore.snapshot import Position
from walstore.docstore.state import State
from walstore.snapshot_files import Found, Kind, Place, SnapshotFiles, UnusableSnapshotError

__all__ = ["DocumentSnapshots", "Opened", "files_of", "opened_from"]

DIRECTORY_NAME = "documents"
"""Inside of the log's."""


class Opened(NamedTuple):
    """What a store begins with: a state, and where in the log it stands."""

    position: Position
    state: State


def _place_of(path: str, file: BinaryIO) -> Place:
    position = snapshot.position_of(path, file)
    return Place(position.log_id, position.lsn, position.term)


_KIND = Kind(b"WALDOCS1", _place_of, SnapshotError, logging.getLogger("walstore.docstore"))


def files_of(path: str) -> SnapshotFiles:
    """The snapshots of the store on the log in this directory."""
    return SnapshotFiles(os.path.join(path, DIRECTORY_NAME), _KIND)


class DocumentSnapshots:
    """For `snapshots` of a ReplicationWALManager that a document store is on. Every node should be
    given one: which of them leads, and which is behind, is not known before.

    Args:
        path: the log's directory, the same as the log's own.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._files = files_of(os.fspath(path))

    def newest(self, term_of: Callable[[int], int]) -> tuple[int, str] | None:
        """On the leader: lsn and path of its newest snapshot that is whole and of the log whose
        terms these are, or None.

        Raises:
            UnsupportedFormatError: it was written by a newer walstore.
            OSError: the system refused.
        """
        return self._files.newest(term_of)

    def install(self, lsn: int, path: str) -> None:
        """On a follower: takes a snapshot over; durable at return. The store goes on from it once
        the log begins behind it.

        Raises:
            SnapshotError: it is not whole, or not of this entry. Nothing was changed.
            UnsupportedFormatError: it was written by a newer walstore.
            OSError: the system refused.
        """
        self._files.install(lsn, path)


def opened_from(found: Found | None, log: FileWALManager) -> Opened:
    """What a snapshot of a log holds; None: what the log begins with.

    Raises:
        SnapshotError: its checksum is right, and it holds something else.
    """
    if found is None:
        return Opened(Position(log.log_id, 0, 0, 0), State())
    try:
        return Opened(*snapshot.read(log.path, found.content))
    except UnusableSnapshotError as error:
        raise SnapshotError(log.path, f"snapshot {found.place.lsn}: {error}") from error
