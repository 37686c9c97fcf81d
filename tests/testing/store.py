"""The small store of docs/crash-lab.md: a dictionary on a log, with snapshots.

`put` appends to the log. `snapshot` writes the whole dictionary to a file and cuts the log, so that
opening does not replay all that ever happened. It can have bugs that many a store has had.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from walstore import FileWALManager

BUGS = (
    "snapshot-unsynced",  # the snapshot gets its name before its bytes are on the disk
    "directory-unsynced",  # the log is cut before the snapshot's name is on the disk
    "log-cut-first",  # the log is cut before there is a snapshot
)


class Store:
    """A dictionary that survives. `bug` is one of BUGS, or nothing."""

    def __init__(self, path: Path, bug: str = "") -> None:
        self._path, self._bug = path, bug
        self._values: dict[str, int] = {}
        self._snapshot_lsn = 0
        if (path / "snapshot").exists():
            self._snapshot_lsn, self._values = json.loads((path / "snapshot").read_bytes())
        self._wal = FileWALManager(path / "log", segment_bytes=4096)
        for entry in self._wal.replay():
            if entry.lsn > self._snapshot_lsn:
                self._values.update(json.loads(entry.payload))

    def put(self, key: str, value: int) -> None:
        self._wal.append(json.dumps({key: value}).encode())
        self._values[key] = value

    def get(self, key: str) -> int | None:
        return self._values.get(key)

    def snapshot(self) -> None:
        lsn = self._wal.last_lsn
        if self._bug == "log-cut-first":
            self._wal.truncate_before(lsn)
        temporary = self._path / "snapshot.new"
        with open(temporary, "wb") as file:
            file.write(json.dumps([lsn, self._values]).encode())
            file.flush()
            if self._bug != "snapshot-unsynced":
                os.fsync(file.fileno())
        os.replace(temporary, self._path / "snapshot")
        if self._bug != "directory-unsynced":
            sync_directory(self._path)
        self._wal.truncate_before(lsn)

    def close(self) -> None:
        self._wal.close()


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
