"""A machine's snapshot for a log that has the same entries under another id."""

from __future__ import annotations

from walstore import FileWALManager
from walstore.cluster.machine_files import files_of, parts_of, pieces_of
from walstore.cluster.recovery import Write

__all__ = ["carry_machine"]


def carry_machine(log: FileWALManager) -> Write | None:
    """Finds the newest snapshot of a log's machine, with its clients' sessions, and returns what
    writes it; None: none is whole.

    Raises:
        UnsupportedFormatError: it was written by a newer walstore.
        OSError: the system refused.
    """
    found = files_of(log.path).open_before(log)
    if found is None:
        return None
    place, (sessions, machine) = found.place, parts_of(found.content)

    def write(path: str, log_id: str) -> None:
        pieces = pieces_of(place._replace(log_id=log_id), sessions, [machine])
        files_of(path).write(place.lsn, pieces)

    return write
