"""Records: what one is, and decoding buffers of them (the bytes are drawn in record.c).

Sans-IO: buffers in, entries out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

from walstore._native import ffi, lib

__all__ = [
    "CONFIGURATION",
    "DATA",
    "STOP_REASONS",
    "TERM",
    "Buffer",
    "Scanner",
    "WALEntry",
    "crc32c",
    "entries_of",
    "record_bytes",
    "reseal",
]

DATA = 1
"""The kind of an entry that carries the application's bytes."""

CONFIGURATION: int = lib.WALCORE_KIND_CONFIGURATION
"""The kind of an entry that changes who the nodes of a log are; users cannot append it."""

TERM: int = lib.WALCORE_KIND_TERM
"""The kind of the entry that a leadership begins with; users cannot append it."""

Buffer = Any
"""bytes or a mmap: what can be sliced into bytes and handed to C."""

_ROW = struct.Struct("<QQQQQIHH")  # walcore_entry
_ROWS_MAX = 256  # so that rows and copies of payloads stay in the processor's cache
_FOREVER = (1 << 64) - 1

assert _ROW.size == ffi.sizeof("walcore_entry")

STOP_REASONS = {
    lib.WALCORE_SCAN_END: "no record was written here",
    lib.WALCORE_SCAN_SHORT: "the file ends inside a record",
    lib.WALCORE_SCAN_BAD_HEADER: "the record's header does not match its checksum",
    lib.WALCORE_SCAN_BAD_FIELD: "the record's header has a field no writer produces",
    lib.WALCORE_SCAN_BAD_LSN: "the record is not the next one",
    lib.WALCORE_SCAN_BAD_TERM: "the record's term is older than its predecessor's",
    lib.WALCORE_SCAN_BAD_PAYLOAD: "the record's payload does not match its checksum",
}


class WALEntry(NamedTuple):
    """One entry of the log.

    Attributes:
        lsn: its place in the log: dense, from 1.
        term: whose leadership wrote it; never goes back.
        timestamp_ns: the writer's wall clock, in ns since 1970; may go back.
        kind: 1 for the application's data; other values are the application's to define.
        payload: its bytes.
    """

    lsn: int
    term: int
    timestamp_ns: int
    kind: int
    payload: bytes


def crc32c(data: bytes | memoryview, seed: int = 0) -> int:
    """CRC32C of `data`, continued from `seed`."""
    view = ffi.from_buffer("uint8_t[]", data)
    return lib.walcore_crc32c(seed, view, len(view))


def record_bytes(payload_bytes: int) -> int:
    """Size on disk of a record with this payload, in bytes."""
    size: int = lib.walcore_record_bytes(payload_bytes)
    return size


class Scanner:
    """Verifies and decodes consecutive records, buffer by buffer.

    Args:
        seed: the segment's checksum seed.
        next_lsn: the lsn the first record must have.
        term: the least term it may have.
        stop_lsn: the last lsn wanted.
        index_first_lsn, index_max: collect a sparse index of at most this many pairs.
    """

    def __init__(
        self,
        seed: int,
        next_lsn: int,
        term: int,
        stop_lsn: int | None = None,
        index_first_lsn: int = 0,
        index_max: int = 0,
    ) -> None:
        state: Any = ffi.new("walcore_scan_state *")
        state.seed = seed
        state.next_lsn = next_lsn
        state.term = term
        state.stop_lsn = _FOREVER - 1 if stop_lsn is None else stop_lsn
        state.timestamp_min = _FOREVER
        self._pairs = ffi.new("uint32_t[]", 2 * index_max) if index_max else ffi.NULL
        state.index = self._pairs
        state.index_max = index_max
        state.index_first_lsn = index_first_lsn
        self.state: Any = state
        self._rows: Any = None
        self._rows_buffer: Any = None

    def verify(self, data: Buffer, start: int, base_at: int) -> int:
        """Checks records from `data[start:]` on and decodes none. Returns how many were good."""
        self.state.base_at = base_at
        with ffi.from_buffer("uint8_t[]", data) as view:
            count = lib.walcore_scan(view + start, len(view) - start, self.state, ffi.NULL, 0)
        return count

    def decode(self, data: Buffer, start: int, base_at: int) -> memoryview:
        """Checks records from `data[start:]` on and returns one row for each good one, at most
        256; the rows are overwritten by the next call. `payload_at` counts from `start`."""
        if self._rows is None:
            self._rows = ffi.new("walcore_entry[]", _ROWS_MAX)
            self._rows_buffer = memoryview(ffi.buffer(self._rows))
        self.state.base_at = base_at
        with ffi.from_buffer("uint8_t[]", data) as view:
            count = lib.walcore_scan(
                view + start, len(view) - start, self.state, self._rows, _ROWS_MAX
            )
        rows: memoryview = self._rows_buffer[: count * _ROW.size]
        return rows

    def find(self, data: bytes, lsn: int) -> WALEntry | None:
        """The entry `lsn`, verified, when it is in `data`; the headers before it are verified
        too. Otherwise None, and `state.stop` says why."""
        row: Any = ffi.new("walcore_entry *")
        view = ffi.from_buffer("uint8_t[]", data)
        if not lib.walcore_find(view, len(view), self.state, lsn, row):
            return None
        start = row.payload_at
        payload = data[start : start + row.payload_bytes]
        return WALEntry(row.lsn, row.term, row.timestamp_ns, row.kind, payload)

    def index_pairs(self) -> bytes:
        """The sparse index collected so far: pairs of uint32, (lsn - first lsn, place / 8)."""
        size = self.state.index_count * lib.WALCORE_INDEX_ENTRY_BYTES
        return bytes(ffi.buffer(self._pairs, size))


def reseal(records: bytes, seed: int) -> bytes:
    """A copy of whole, valid records, bound to the segment with this seed."""
    copy = bytearray(records)
    view = ffi.from_buffer("uint8_t[]", copy)
    lib.walcore_reseal(view, len(copy), seed)
    ffi.release(view)
    return bytes(copy)


def entries_of(data: Buffer, start: int, rows: memoryview) -> list[WALEntry]:
    """The entries that `Scanner.decode(data, start, ...)` found, with copies of their payloads."""
    make = tuple.__new__
    unpacked: Iterable[tuple[Any, ...]] = _ROW.iter_unpack(rows)
    return [
        make(WALEntry, (lsn, term, timestamp_ns, kind, data[start + at : start + at + size]))
        for lsn, term, timestamp_ns, _durable, at, size, kind, _flags in unpacked
    ]
