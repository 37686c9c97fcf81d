"""A store's snapshot for a log that has the same entries under another id."""

from __future__ import annotations

from collections.abc import Callable

from walstore import FileWALManager
from walstore.docstore import snapshot
from walstore.docstore.checkpoint import files_of, opened_from

__all__ = ["carry_documents"]


def carry_documents(log: FileWALManager) -> Callable[[str, str], None] | None:
    """Finds the newest snapshot of a log's store; None: none is whole. What is returned writes it
    beside the same log under another id, given that one's directory and id; durable at return.

    Raises:
        SnapshotError: its checksum is right, and it holds something else.
        UnsupportedFormatError: it was written by a newer walstore.
        OSError: the system refused.
    """
    found = files_of(log.path).open_before(log)
    if found is None:
        return None
    position, state = opened_from(found, log)

    def write(path: str, log_id: str) -> None:
        moved = position._replace(log_id=log_id)
        pieces = snapshot.write(moved, snapshot.copy_of_state(state))
        files_of(path).write(moved.lsn, pieces)

    return write
