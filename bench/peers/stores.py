"""The contenders: one small interface, walstore behind it, and bare files as the physical limit.

A contender's methods hold what its user would write for one durable record, and no more: no
checks, no copies, no tuning that gives up the promise that ``plan.py`` states.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from walstore import FileWALManager

RAW_FILE_BYTES = 256 << 20  # preallocated file: written from the start again when it is full

SyncPolicy = Literal["always", "interval", "os"]


class Store(Protocol):
    """What every contender can do.  Records are numbered from 1 in the order of their appends."""

    needs_lock: bool
    """Whether threads must take turns, because the store itself does not serialise them."""

    def append(self, payload: bytes, /) -> object:
        """Store one record, as durable as the contender promises, and return."""

    def append_many(self, payloads: Sequence[bytes], /) -> object:
        """Store records in one transaction with at most one sync."""

    def read(self, lsn: int, /) -> object:
        """Return one record by its number."""

    def replay(self) -> Iterator[object]:
        """Yield every record in order, each as an object of its own in Python."""

    def count(self) -> int:
        """Return the number of the last record; after an open, as recovered from disk."""

    def close(self) -> None:
        """Close cleanly."""


class WalStore:
    """walstore itself.  Its methods are the manager's own, without a wrapper in between."""

    needs_lock = False

    def __init__(self, path: Path, sync: SyncPolicy) -> None:
        from walstore import FileWALManager

        self.wal: FileWALManager = FileWALManager(path, sync=sync)
        self.append: Callable[[bytes], object] = self.wal.append
        self.append_many: Callable[[Sequence[bytes]], object] = self.wal.append_many
        self.read: Callable[[int], object] = self.wal.read
        self.replay: Callable[[], Iterator[object]] = self.wal.replay

    def count(self) -> int:
        return self.wal.last_lsn

    def close(self) -> None:
        self.wal.close()


class RawFile:
    """Records of one size back to back in one file: what the disk allows, with no log around it.

    Nothing is framed, numbered or checked, and nothing could be recovered after a crash.
    """

    needs_lock = True

    def __init__(self, path: Path, record_bytes: int, *, sync: bool, preallocated: bool) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.record_bytes = record_bytes
        self.sync = sync
        self.fd = os.open(path / "raw", os.O_RDWR | os.O_CREAT, 0o644)
        self.written = 0 if preallocated else os.fstat(self.fd).st_size
        self.wrap_at = RAW_FILE_BYTES if preallocated else 1 << 62
        self.position = 0 if preallocated else self.written
        if preallocated:
            self._fill_with_zeros()

    def _fill_with_zeros(self) -> None:
        """Write the zeros out: blocks that fallocate only reserves cost a journal commit each.

        In blocks of 64 KiB: ext4 then keeps the file in the page cache in folios of that size.
        After blocks of 1 MiB each small write takes twice as long (2.1 in place of 1.0 us).
        """
        block = bytes(64 << 10)
        for offset in range(0, RAW_FILE_BYTES, len(block)):
            os.pwrite(self.fd, block, offset)
        os.fsync(self.fd)

    def append(self, payload: bytes, /) -> None:
        size = len(payload)
        if self.position + size > self.wrap_at:
            self.position = 0
        os.pwrite(self.fd, payload, self.position)
        self.position += size
        self.written += size
        if self.sync:
            os.fdatasync(self.fd)

    def append_many(self, payloads: Sequence[bytes], /) -> None:
        self.append(b"".join(payloads))

    def read(self, lsn: int, /) -> bytes:
        return os.pread(self.fd, self.record_bytes, (lsn - 1) * self.record_bytes)

    def replay(self) -> Iterator[bytes]:
        """Cut the file into records: the cheapest loop in Python that makes an object of each."""
        size = self.record_bytes
        with mmap.mmap(self.fd, 0, prot=mmap.PROT_READ) as view:
            for offset in range(0, len(view), size):
                yield view[offset : offset + size]

    def count(self) -> int:
        return self.written // self.record_bytes

    def close(self) -> None:
        os.close(self.fd)
