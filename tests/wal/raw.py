"""Files of a log made by hand, byte by byte, from docs/format.md: nothing here asks the product."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from tests.native import twin
from tests.native.twin import Record
from walstore.wal.meta import Meta
from walstore.wal.segment import Seal, SegmentHeader

BLOCK = 4096
SECTOR = 512
RECORDS_AT = 8192
ROOM = 8192
LOG_ID = bytes(range(16))
SALT = 0x1122334455667788
CRC_AT = 8


def with_crc(block: bytes) -> bytes:
    """A block whose checksum, at byte 8, is made right."""
    crc = twin.crc32c(block[CRC_AT + 4 :], twin.crc32c(block[:CRC_AT]))
    return block[:CRC_AT] + struct.pack("<I", crc) + block[CRC_AT + 4 :]


def patched(block: bytes, at: int, layout: str, value: int) -> bytes:
    """A hostile block: another value in one field, and a checksum that fits."""
    field = struct.pack("<" + layout, value)
    return with_crc(block[:at] + field + block[at + len(field) :])


def meta_of(generation: int = 1, **fields: int) -> Meta:
    """The metadata of a log with entries from 1 on and one segment, not closed."""
    values = {
        "epoch": 0,
        "term": 1,
        "first_lsn": 1,
        "prev_term": 0,
        "tail_segment_id": 1,
        "clean_lsn": 0,
        **fields,
    }
    clean = bool(values.pop("clean", 0))
    return Meta(log_id=LOG_ID, generation=generation, clean=clean, **values)


def meta_block(meta: Meta) -> bytes:
    """One copy of the metadata, a sector."""
    fields = struct.pack(
        "<8sIIII16sQQQQQQQ",
        b"WALMETA\n",
        0,
        1,
        0,
        int(meta.clean),
        meta.log_id,
        meta.generation,
        meta.epoch,
        meta.term,
        meta.first_lsn,
        meta.prev_term,
        meta.tail_segment_id,
        meta.clean_lsn,
    )
    return with_crc(fields.ljust(SECTOR, b"\0"))


def watermark_bytes(
    durable_lsn: int, *, epoch: int = 0, level: int = 1, log_id: bytes = LOG_ID
) -> bytes:
    """The published watermark."""
    fields = struct.pack("<IQQ", level, epoch, durable_lsn)
    return struct.pack("<I", twin.crc32c(fields, twin.crc32c(log_id))) + fields


def header_of(
    first_lsn: int = 1,
    segment_id: int = 1,
    prev_segment_id: int = 0,
    *,
    prev_term: int = 0,
    limit_at: int = RECORDS_AT + ROOM,
    log_id: bytes = LOG_ID,
) -> SegmentHeader:
    """The header of a small segment."""
    return SegmentHeader(
        log_id, segment_id, prev_segment_id, first_lsn, 1, prev_term, 1000, limit_at, SALT
    )


def header_block(header: SegmentHeader) -> bytes:
    """The header block."""
    fields = struct.pack(
        "<8sIIII16sQQQQQQQQ",
        b"WALSEGM\n",
        0,
        1,
        int(header.moved),
        0,
        header.log_id,
        header.segment_id,
        header.prev_segment_id,
        header.first_lsn,
        header.term,
        header.prev_term,
        header.created_ns,
        header.limit_at,
        header.salt,
    )
    return with_crc(fields.ljust(BLOCK, b"\0"))


def seed_of(header: SegmentHeader) -> int:
    """Where the checksum of each record's header starts: salt, log id, segment id, first lsn."""
    return twin.crc32c(
        struct.pack("<Q16sQQ", header.salt, header.log_id, header.segment_id, header.first_lsn)
    )


def seal_of(header: SegmentHeader, last_lsn: int, end_at: int) -> Seal:
    """A seal that says so much, and little else."""
    return Seal(
        segment_id=header.segment_id,
        salt=header.salt,
        last_lsn=last_lsn,
        last_term=1,
        end_at=end_at,
        index_count=1,
        index_crc=2,
        records_xxh3=3,
        timestamp_min=4,
        timestamp_max=5,
        entries=last_lsn - header.first_lsn + 1,
        payload_bytes=6,
    )


def seal_block(seal: Seal) -> bytes:
    """The seal block."""
    fields = struct.pack(
        "<8sIIIIQQQQQIIQQQQQ",
        b"WALSEAL\n",
        0,
        1,
        0,
        0,
        seal.segment_id,
        seal.salt,
        seal.last_lsn,
        seal.last_term,
        seal.end_at,
        seal.index_count,
        seal.index_crc,
        seal.records_xxh3,
        seal.timestamp_min,
        seal.timestamp_max,
        seal.entries,
        seal.payload_bytes,
    )
    return with_crc(fields.ljust(BLOCK, b"\0"))


def encode_all(records: Iterable[Record], seed: int) -> bytes:
    """Records, each at once behind the one before."""
    return b"".join(twin.encode(record, seed) for record in records)


def segment_bytes(header: SegmentHeader, records: bytes = b"", seal: Seal | None = None) -> bytes:
    """A whole segment file; behind the records are zeros to a block behind `limit_at`."""
    head = header_block(header) + (seal_block(seal) if seal else bytes(BLOCK))
    return (head + records).ljust(header.limit_at + BLOCK, b"\0")


def write_segment(
    path: Path, header: SegmentHeader, records: bytes = b"", seal: Seal | None = None
) -> Path:
    """Puts a segment file into a log's directory, under its own name."""
    file = path / f"{header.first_lsn:020d}-{header.segment_id:08x}.wal"
    file.write_bytes(segment_bytes(header, records, seal))
    return file
