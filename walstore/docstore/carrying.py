"""The store's snapshots on their way to a follower that is too far behind for the log alone."""

from __future__ import annotations

import os
from collections.abc import Callable

from walstore.docstore.checkpoint import files_of

__all__ = ["DocumentSnapshots"]


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
