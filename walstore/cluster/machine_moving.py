"""A machine's snapshot for a log that has the same entries under another id."""

from __future__ import annotations

import os

from walstore import FileWALManager
from walstore.cluster.machine_files import DIRECTORY_NAME, MachineFiles, newest_usable
from walstore.cluster.recovery import Write

__all__ = ["carry_machine"]


def carry_machine(log: FileWALManager) -> Write | None:
    """Finds the newest snapshot of a log's machine, with its clients' sessions, and returns what
    writes it; None: none is whole.

    Raises:
        UnsupportedFormatError: it was written by a newer walstore.
        OSError: the system refused.
    """
    found = newest_usable(os.path.join(log.path, DIRECTORY_NAME), log)
    if found is None:
        return None

    def write(path: str, log_id: str) -> None:
        target = MachineFiles(os.path.join(path, DIRECTORY_NAME))
        target.write(log_id, found.lsn, found.term, found.sessions, [found.machine])

    return write
