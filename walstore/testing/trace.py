"""The recorder's trace as events."""

from __future__ import annotations

import enum
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = struct.Struct("=IIiiQQIIII")  # kept in step with shim.c: struct event


class Kind(enum.IntEnum):
    """What an event is (kept in step with shim.c: enum kind)."""

    MARK = 0
    OPEN = 1
    WRITE = 2
    FSYNC = 3
    FDATASYNC = 4
    TRUNCATE = 5
    ALLOCATE = 6
    RENAME = 7
    UNLINK = 8
    MKDIR = 9
    RMDIR = 10
    CLOSE = 11
    READ = 12
    MMAP = 13
    DUP = 14
    UNSUPPORTED = 15


SYNCS = frozenset({Kind.FSYNC, Kind.FDATASYNC})


@dataclass(frozen=True, slots=True)
class Event:
    """One storage call or mark. A sync is two events: its end names the index of its begin."""

    index: int
    kind: Kind
    thread: int
    fd: int
    result: int  # >= 0, or -errno
    offset: int
    length: int
    flags: int
    path: str
    path2: str
    data: bytes

    @property
    def failed(self) -> bool:
        return self.result < 0

    @property
    def is_sync_begin(self) -> bool:
        return self.kind in SYNCS and self.flags == 0

    @property
    def is_sync_end(self) -> bool:
        return self.kind in SYNCS and self.flags == 1

    def __str__(self) -> str:
        """One line of a history."""
        name = self.kind.name.lower()
        if self.kind is Kind.MARK:
            return f"{self.index:5} . {self.data.decode()}"
        where = " -> ".join(os.path.basename(p) for p in (self.path, self.path2) if p)
        if self.kind in (Kind.WRITE, Kind.TRUNCATE, Kind.ALLOCATE):
            where = f"fd {self.fd} [{self.offset}, +{self.length})"
        elif self.kind in SYNCS:
            where = f"fd {self.fd} {'end' if self.flags else 'begin'}"
        elif not where:
            where = f"fd {self.fd}"
        failed = f" FAILED ({os.strerror(-self.result)})" if self.failed else ""
        return f"{self.index:5} {name} {where}{failed}"


def parse(trace: bytes) -> Iterator[Event]:
    """The events of a trace, in the order in which they happened."""
    at = index = 0
    while at < len(trace):
        kind, thread, fd, result, offset, length, flags, *sizes = _HEADER.unpack_from(trace, at)
        at += _HEADER.size
        parts = []
        for size in sizes:
            parts.append(trace[at : at + size])
            at += size
        path, path2, data = parts
        yield Event(
            index, Kind(kind), thread, fd, result, offset, length, flags,
            os.fsdecode(path) if path else "", os.fsdecode(path2) if path2 else "", data,
        )  # fmt: skip
        index += 1
