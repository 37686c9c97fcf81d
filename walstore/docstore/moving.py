"""A store's snapshot for a log that has the same entries under another id."""

from __future__ import annotations

import os
from collections.abc import Callable

from walstore import FileWALManager, durable
from walstore.docstore import snapshot
from walstore.docstore.checkpoint import SNAPSHOTS_NAME, SnapshotFiles

__all__ = ["carry_documents"]


def carry_documents(log: FileWALManager) -> Callable[[str, str], None] | None:
    """Finds the newest snapshot of a log's store; None: none is whole. What is returned writes it
    beside the same log under another id, given that one's directory and id; durable at return.

    Raises:
        UnsupportedFormatError: it was written by a newer walstore.
        OSError: the system refused.
    """
    found = SnapshotFiles(os.path.join(log.path, SNAPSHOTS_NAME), read_only=True)
    newest = found.open_before(max(log.last_lsn, log.first_lsn - 1), log)
    if newest is None:
        return None

    def write(path: str, log_id: str) -> None:
        target = SnapshotFiles(os.path.join(path, SNAPSHOTS_NAME))
        durable.make_directory(target.path)
        position = newest.position._replace(log_id=log_id)
        target.write(position, snapshot.write(position, snapshot.copy_of_state(newest.state)))

    return write
