"""Reading a segment's records in order, window by window.

Sealed segments are read through a read-only map of a few MiB at a time; the segment that is
being written, and everything during recovery, through pread. Nothing is ever written through a
map: no errno could report it.
"""

from __future__ import annotations

import mmap
from collections.abc import Generator

import xxhash

from walstore._native import lib
from walstore.wal import files
from walstore.wal.record import Buffer, Scanner

__all__ = ["MAP_WINDOW_BYTES", "READ_WINDOW_BYTES", "scan_rows", "verify_range"]

MAP_WINDOW_BYTES = 4 << 20
READ_WINDOW_BYTES = 1 << 20


def _load(fd: int, at: int, size: int, mapped: bool) -> tuple[Buffer, int]:
    """A buffer that holds the file's bytes from `at` on, and where in it they start."""
    if not mapped:
        return files.read_at(fd, size, at), 0
    map_at = at // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
    window = mmap.mmap(fd, at + size - map_at, flags=flags, prot=mmap.PROT_READ, offset=map_at)
    return window, at - map_at


def _unload(data: Buffer) -> None:
    """Lets go of a map at once: an error on its way up would keep it, and a descriptor with it."""
    if isinstance(data, mmap.mmap):
        data.close()


class _Position:
    """Where a scan stands and how much of the file the next window takes."""

    def __init__(self, fd: int, at: int, end_at: int, mapped: bool) -> None:
        # A map must not reach behind the file's end: touching it there ends the process.
        size = files.size_of(fd)
        self.end_at = min(end_at, size)
        self.cut_short = size < end_at
        self.fd = fd
        self.at = at
        self.mapped = mapped
        self.window_bytes = MAP_WINDOW_BYTES if mapped else READ_WINDOW_BYTES
        self.size = self.window_bytes

    def load(self) -> tuple[Buffer, int]:
        size = min(self.size, self.end_at - self.at)
        self.loaded_to = self.at + max(size, 0)
        if size <= 0:
            return b"", 0
        return _load(self.fd, self.at, size, self.mapped)

    def goes_on(self, scanner: Scanner) -> bool:
        """Whether another window is due after one that ended inside a record."""
        state = scanner.state
        if state.stop != lib.WALCORE_SCAN_SHORT:
            return False
        if self.loaded_to < self.end_at:
            self.size = max(self.window_bytes, state.need)
            return True
        if self.end_at - self.at < lib.WALCORE_RECORD_HEADER_BYTES and not self._torn_off():
            state.stop = lib.WALCORE_SCAN_END
        return False

    def _torn_off(self) -> bool:
        """Whether a file that was cut short ends in a piece of a header, which is to be kept."""
        return self.cut_short and any(
            files.read_at(self.fd, max(0, self.end_at - self.at), self.at)
        )


def scan_rows(
    fd: int, scanner: Scanner, at: int, end_at: int, *, mapped: bool
) -> Generator[tuple[Buffer, int, memoryview], None, None]:
    """Yields (buffer, start, rows) for `record.entries_of`, each good until the next is asked for,
    until a record is not good, `end_at` or the scanner's stop_lsn. Then `scanner.state.stop` says
    why and `scanner.state.base_at + consumed` where."""
    position = _Position(fd, at, end_at, mapped)
    while True:
        data, start = position.load()
        try:
            while True:
                rows = scanner.decode(data, start, position.at)
                if rows.nbytes:
                    yield data, start, rows
                start += scanner.state.consumed
                position.at += scanner.state.consumed
                if scanner.state.stop != lib.WALCORE_SCAN_OUT_FULL:
                    break
        finally:
            _unload(data)
        if not position.goes_on(scanner):
            return


def verify_range(
    fd: int,
    scanner: Scanner,
    at: int,
    end_at: int,
    *,
    mapped: bool,
    digest: xxhash.xxh3_64 | None = None,
) -> int:
    """Checks records without decoding them; `digest` is fed the bytes of the good ones. Returns
    the place where it stopped, see `scan_rows`."""
    position = _Position(fd, at, end_at, mapped)
    while True:
        data, start = position.load()
        try:
            scanner.verify(data, start, position.at)
            if digest is not None:
                with memoryview(data) as view, view[start:][: scanner.state.consumed] as good:
                    digest.update(good)
        finally:
            _unload(data)
        position.at += scanner.state.consumed
        if not position.goes_on(scanner):
            return position.at
