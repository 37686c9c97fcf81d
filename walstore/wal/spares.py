"""Files that wait to become segments: filled with zeros beforehand, or truncated and reused."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass

from walstore.wal import files
from walstore.wal.layout import SPARE_PREFIX, Layout, Segment
from walstore.wal.segment import file_bytes
from walstore.wal.space import make_zeroed

__all__ = ["Spare", "Spares"]

_NUMBER = re.compile(rf"{SPARE_PREFIX}([0-9a-f]+)\.wal")


@dataclass(frozen=True, slots=True)
class Spare:
    """A file for a new segment. `zeroed`: this process filled it with zeros and synced it."""

    path: str
    zeroed: bool


class Spares:
    """Keeps at most one file ready.

    Args:
        directory: the log's.
        limit_at: of the segments it is kept for.
        layout: the files found at open; what is not needed is removed.
    """

    def __init__(self, directory: str, limit_at: int, layout: Layout) -> None:
        self._directory = directory
        self._limit_at = limit_at
        self._lock = threading.Lock()
        self._ready: Spare | None = None
        numbers = [_NUMBER.fullmatch(name) for name in layout.spares]
        self._next_number = 1 + max((int(found[1], 16) for found in numbers if found), default=0)
        for name in (*layout.leftovers, *layout.spares):
            path = os.path.join(directory, name)
            # What an earlier process left may never have reached the disk as zeros.
            if name not in layout.spares or not self.keep(Spare(path, zeroed=False)):
                files.remove(path)

    @property
    def ready(self) -> bool:
        """Whether there is one."""
        return self._ready is not None

    def _new_path(self) -> str:
        with self._lock:
            self._next_number += 1
            name = f"{SPARE_PREFIX}{self._next_number - 1:08x}.wal"
        return os.path.join(self._directory, name)

    def make(self, limit_at: int) -> Spare:
        """Makes a zero-filled file, synced. Leaves nothing behind when there is no space."""
        path = self._new_path()
        make_zeroed(path, file_bytes(limit_at))
        return Spare(path, zeroed=True)

    def prepare(self) -> None:
        """Housekeeping: has a file ready for the next segment."""
        if not self.ready:
            spare = self.make(self._limit_at)
            if not self.keep(spare):
                files.remove(spare.path)

    def take(self, limit_at: int) -> Spare:
        """A file for a new segment: the one that is ready, or one made now."""
        with self._lock:
            spare = self._ready
            if spare is not None and _size(spare.path) >= file_bytes(limit_at):
                self._ready = None
                return spare
        return self.make(limit_at)

    def keep(self, spare: Spare) -> bool:
        """Keeps a file for later; False when there is one already or it is too small."""
        with self._lock:
            if self._ready is not None or _size(spare.path) < file_bytes(self._limit_at):
                return False
            self._ready = spare
            return True

    def give_back(self, spare: Spare) -> None:
        """Keeps or removes a file that did not become a segment after all."""
        if os.path.exists(spare.path) and not self.keep(spare):
            files.remove(spare.path)

    def recycle(self, segment: Segment) -> None:
        """Takes in or removes the file of a segment that left the log and that nobody reads. The
        caller syncs the directory."""
        path = self._new_path()
        files.rename(segment.path, path)
        if not self.keep(Spare(path, zeroed=False)):
            files.remove(path)


def _size(path: str) -> int:
    return os.stat(path).st_size
