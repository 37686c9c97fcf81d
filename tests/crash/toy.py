"""A tiny write-ahead log, correct, with bugs to switch on: it proves that the lab finds bugs.

One directory, files `<first lsn>.toy` of records `length u32, crc u32, lsn u64, kind u8, payload`.
Kept as simple as it can be: a growing file, one write and one fdatasync per append, no truncation,
no batches. Recovery writes the last file anew, because after a failed sync the page cache shows
what the disk lost.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

_HEAD = struct.Struct("<IIQ")

BUGS = (
    "no-fdatasync",
    "no-directory-fsync",
    "no-crc",
    "retry-sync",  # tries a failed sync again, and believes it then
    "trust-page-cache",  # recovery keeps the last file as it is
    "rename-unsynced",  # recovery renames the new last file before its bytes are durable
)


class ToyEntry(NamedTuple):
    lsn: int
    term: int
    kind: int
    payload: bytes


class ToyCommit(NamedTuple):
    lsn: int

    def wait(self, timeout_s: float | None = None) -> int:
        return self.lsn


class ToyLog:
    """The toy. `bug` is one of BUGS, or nothing."""

    first_lsn = 1
    term = 0

    def __init__(
        self, path: str, *, bug: str = "", sync: str = "always", segment_bytes: int = 4096
    ):
        self._path, self._bug, self._segment_bytes = path, bug, segment_bytes
        if not os.path.isdir(path):
            os.mkdir(path)
        self._sync_directory(os.path.dirname(path))  # also when another's mkdir was not synced
        self._entries: list[ToyEntry] = []
        self._fd, self._size, self._latched = -1, 0, False
        try:
            self._recover()
        except BaseException:
            self.close()
            raise

    @property
    def last_lsn(self) -> int:
        return len(self._entries)

    @property
    def durable_lsn(self) -> int:
        return self.last_lsn

    def append(self, payload: bytes, *, kind: int = 1) -> int:
        if self._latched:
            raise OSError(errno.EIO, "an earlier append failed: reopen the log")
        self._latched = True
        lsn = self.last_lsn + 1
        if self._size >= self._segment_bytes:
            self._roll(lsn)
        record = frame(lsn, bytes([kind]) + payload)
        write_all(self._fd, record, self._size)
        self._sync(self._fd)
        self._size += len(record)
        self._entries.append(ToyEntry(lsn, 0, kind, payload))
        self._latched = False
        return lsn

    def append_many(self, payloads: Sequence[bytes], *, kind: int = 1) -> range:
        raise NotImplementedError

    def submit(self, payload: bytes, *, kind: int = 1) -> ToyCommit:
        return ToyCommit(self.append(payload, kind=kind))

    def sync(self) -> int:
        return self.last_lsn

    def replay(self) -> Iterator[ToyEntry]:
        return iter(self._entries)

    def truncate_before(self, lsn: int) -> None:
        raise NotImplementedError

    truncate_after = truncate_before

    def begin_term(self) -> int:
        raise NotImplementedError

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _recover(self) -> None:
        names = sorted(name for name in os.listdir(self._path) if name.endswith(".toy"))
        for name in names:
            if int(name[:-4]) != self.last_lsn + 1:
                raise ValueError(f"{name} does not follow entry {self.last_lsn}")
            self.close()
            self._fd = os.open(os.path.join(self._path, name), os.O_RDWR)
            data = os.pread(self._fd, 1 << 24, 0)
            self._size = self._scan(data)
        if not names:
            self._roll(1)
        elif self._bug == "trust-page-cache":
            os.ftruncate(self._fd, self._size)
            self._sync(self._fd)
            self._sync_directory(self._path)
        else:
            self._rewrite(os.path.join(self._path, names[-1]), data[: self._size])

    def _rewrite(self, path: str, data: bytes) -> None:
        self.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + ".new")  # a failed sync may have kept the bytes that cutting it lost
        self._fd = os.open(path + ".new", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        write_all(self._fd, data, 0)
        if self._bug != "rename-unsynced":
            self._sync(self._fd)
        os.rename(path + ".new", path)
        self._sync_directory(self._path)
        if self._bug == "rename-unsynced":
            self._sync(self._fd)

    def _scan(self, data: bytes) -> int:
        """Takes the good records of a file; returns where they end."""
        at = 0
        while at + _HEAD.size <= len(data):
            size, crc, lsn = _HEAD.unpack_from(data, at)
            body = data[at + _HEAD.size : at + _HEAD.size + size]
            good = len(body) == size > 0 and lsn == self.last_lsn + 1
            if not good or (self._bug != "no-crc" and crc != zlib.crc32(body, lsn)):
                break
            self._entries.append(ToyEntry(lsn, 0, body[0], body[1:]))
            at += _HEAD.size + size
        return at

    def _roll(self, lsn: int) -> None:
        self.close()
        path = os.path.join(self._path, f"{lsn:020d}.toy")
        self._fd, self._size = os.open(path, os.O_RDWR | os.O_CREAT, 0o644), 0
        self._sync_directory(self._path)

    def _sync(self, fd: int) -> None:
        if self._bug == "no-fdatasync":
            return
        try:
            os.fdatasync(fd)
        except OSError:
            if self._bug != "retry-sync":
                raise
            os.fdatasync(fd)

    def _sync_directory(self, path: str) -> None:
        if self._bug == "no-directory-fsync":
            return
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def write_all(fd: int, data: bytes, at: int) -> None:
    while data:
        n = os.pwrite(fd, data, at)
        data, at = data[n:], at + n


def frame(lsn: int, body: bytes) -> bytes:
    return _HEAD.pack(len(body), zlib.crc32(body, lsn), lsn) + body


def toy(bug: str = "") -> Callable[..., ToyLog]:
    """Opens toys with this bug."""

    def open_toy(path: str, **options: object) -> ToyLog:
        return ToyLog(path, bug=bug)

    return open_toy
