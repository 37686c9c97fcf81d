"""Records in plain Python: the executable specification of record.c, and slow on purpose.

The byte diagram is at the top of record.c. Nothing here may be shared with the product.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

HEADER = struct.Struct("<IIQQQQIHH")
HEADER_BYTES = 48
PAYLOAD_BYTES_MAX = 64 << 20
STRIDE_BYTES = 16384
FOREVER = (1 << 64) - 2

END, SHORT, OUT_FULL, LIMIT, BAD_HEADER, BAD_FIELD, BAD_LSN, BAD_TERM, BAD_PAYLOAD = range(9)
MORE = 1

assert HEADER.size == HEADER_BYTES


def _table() -> list[int]:
    table = []
    for value in range(256):
        crc = value
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _table()


def crc32c(data: bytes, seed: int = 0) -> int:
    """CRC32C, bit-reflected polynomial 0x1EDC6F41, continued from `seed`."""
    crc = ~seed & 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return ~crc & 0xFFFFFFFF


@dataclass(frozen=True)
class Record:
    """The fields of one record."""

    lsn: int
    term: int = 1
    timestamp_ns: int = 0
    durable_lsn: int = 0
    kind: int = 1
    flags: int = 0
    payload: bytes = b""


def padded(size: int) -> int:
    """Rounded up to eight bytes."""
    return -(-size // 8) * 8


def encode(record: Record, seed: int) -> bytes:
    """The bytes of a record in a segment with this seed."""
    fields = HEADER.pack(
        0,
        crc32c(record.payload),
        record.lsn,
        record.term,
        record.timestamp_ns,
        record.durable_lsn,
        len(record.payload),
        record.kind,
        record.flags,
    )
    header = struct.pack("<I", crc32c(fields[4:], seed)) + fields[4:]
    return (header + record.payload).ljust(padded(HEADER_BYTES + len(record.payload)), b"\0")


@dataclass
class Scan:
    """What a scan needs and finds; the names are those of walcore_scan_state."""

    seed: int
    next_lsn: int
    term: int
    stop_lsn: int = FOREVER
    base_at: int = 0
    stop: int = END
    consumed: int = 0
    need: int = 0
    entries: int = 0
    payload_total: int = 0
    timestamp_min: int = (1 << 64) - 1
    timestamp_max: int = 0
    batch_lsn: int = 0
    batch_at: int = 0
    batch_term: int = 0
    durable_lsn: int = 0
    index: list[tuple[int, int]] = field(default_factory=list)
    index_first_lsn: int = 0

    def run(self, data: bytes, rows_max: int | None = None) -> list[Record]:
        """Decodes records from the start of `data` on, as walcore_scan does."""
        found: list[Record] = []
        at = 0
        while True:
            self.consumed = at
            if self.next_lsn > self.stop_lsn:
                self.stop = LIMIT
                return found
            if rows_max is not None and len(found) == rows_max:
                self.stop = OUT_FULL
                return found
            if len(data) - at < HEADER_BYTES:
                self.stop, self.need = SHORT, HEADER_BYTES
                return found
            verdict = self._judge(data[at : at + HEADER_BYTES])
            if verdict is not None:
                self.stop = verdict
                return found
            size = HEADER.unpack_from(data, at)[6]
            total = padded(HEADER_BYTES + size)
            if len(data) - at < total:
                self.stop, self.need = SHORT, total
                return found
            record = self._payload(data[at : at + total], size)
            if record is None:
                self.stop = BAD_PAYLOAD
                return found
            self._account(record, self.base_at + at)
            found.append(record)
            at += total

    def _judge(self, header: bytes) -> int | None:
        hcrc, _, lsn, term, _, durable_lsn, size, kind, flags = HEADER.unpack(header)
        if hcrc != crc32c(header[4:], self.seed):
            return BAD_HEADER if any(header) else END
        if not lsn or not kind or flags & ~MORE or durable_lsn >= lsn or size > PAYLOAD_BYTES_MAX:
            return BAD_FIELD
        if lsn != self.next_lsn:
            return BAD_LSN
        if term < self.term:
            return BAD_TERM
        return None

    def _payload(self, data: bytes, size: int) -> Record | None:
        _, pcrc, lsn, term, timestamp_ns, durable_lsn, _, kind, flags = HEADER.unpack_from(data)
        payload = data[HEADER_BYTES : HEADER_BYTES + size]
        if crc32c(payload) != pcrc or any(data[HEADER_BYTES + size :]):
            return None
        return Record(lsn, term, timestamp_ns, durable_lsn, kind, flags, payload)

    def _account(self, record: Record, at: int) -> None:
        if record.flags & MORE:
            if not self.batch_lsn:
                self.batch_lsn, self.batch_at, self.batch_term = record.lsn, at, self.term
        else:
            self.batch_lsn = self.batch_at = 0
        self.timestamp_min = min(self.timestamp_min, record.timestamp_ns)
        self.timestamp_max = max(self.timestamp_max, record.timestamp_ns)
        self.durable_lsn = max(self.durable_lsn, record.durable_lsn)
        stride = at // STRIDE_BYTES
        if not self.index or stride != self.index[-1][1] * 8 // STRIDE_BYTES:
            self.index.append((record.lsn - self.index_first_lsn, at // 8))
        self.entries += 1
        self.payload_total += len(record.payload)
        self.next_lsn = record.lsn + 1
        self.term = record.term
