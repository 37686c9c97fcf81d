"""One segment file: its header, its seal, its name and its size.

    0         header block          identity, written and synced before the first record
    4096      seal block            zero until the segment is full and synced
    8192      records               each a multiple of 8 bytes, the next at once behind the last
    end_at    index                 pairs of uint32 (lsn - first_lsn, place / 8), once sealed
    ...       zeros or old bytes    preallocated; never mistaken for records

    header  0        8     12        16      20         24       40
            +--------+-----+---------+-------+----------+--------+------------+
            |"WALSEGM| crc | version | flags | reserved | log_id | segment_id |
            +--------+-----+---------+-------+----------+--------+------------+
            48                56          64     72          80           88         96
            +-----------------+-----------+------+-----------+------------+----------+------+
            | prev_segment_id | first_lsn | term | prev_term | created_ns | limit_at | salt |
            +-----------------+-----------+------+-----------+------------+----------+------+

    seal    0        8     12        16      20         24           32
            +--------+-----+---------+-------+----------+------------+------+
            |"WALSEAL| crc | version | flags | reserved | segment_id | salt |
            +--------+-----+---------+-------+----------+------------+------+
            40         48          56       64            68          72
            +----------+-----------+--------+-------------+-----------+--------------+
            | last_lsn | last_term | end_at | index_count | index_crc | records_xxh3 |
            +----------+-----------+--------+-------------+-----------+--------------+
            80              88              96        104
            +---------------+---------------+---------+---------------+
            | timestamp_min | timestamp_max | entries | payload_bytes |
            +---------------+---------------+---------+---------------+

Each block's crc covers all of it. Seal and index only repeat what the records say: when they
are damaged, or a crash left them out, they are built again from the records.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from walstore._native import lib
from walstore.errors import CorruptLogError, UnsupportedFormatError
from walstore.limits import BATCH_BYTES_MAX, BLOCK_BYTES, LSN_MAX, SEGMENT_BYTES_MAX
from walstore.wal.meta import FORMAT_VERSION, block_crc, finish_block
from walstore.wal.record import crc32c, record_bytes

__all__ = [
    "RECORDS_AT",
    "SEAL_AT",
    "Seal",
    "SegmentHeader",
    "decode_header",
    "decode_seal",
    "encode_header",
    "encode_seal",
    "file_bytes",
    "index_pairs_max",
    "limit_for",
    "new_salt",
    "parse_name",
    "segment_name",
]

SEAL_AT = BLOCK_BYTES
RECORDS_AT = 2 * BLOCK_BYTES

_HEADER_MAGIC = b"WALSEGM\n"
_SEAL_MAGIC = b"WALSEAL\n"
_FLAG_MOVED = 1
_HEADER = struct.Struct("<8sIIII16sQQQQQQQQ")
_SEAL = struct.Struct("<8sIIIIQQQQQIIQQQQQ")
_BINDING = struct.Struct("<Q16sQQ")
assert _HEADER.size == 104
assert _SEAL.size == 112

# One name for each segment: a file with more zeros in its name is some other file.
_NAME = re.compile(r"([0-9]{20})-([0-9a-f]{8}|[1-9a-f][0-9a-f]{8,15})\.wal")


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """Identity of a segment.

    Attributes:
        log_id: the log it belongs to.
        segment_id: unique in the log; a later segment has a higher one.
        prev_segment_id: the segment before it, or 0.
        first_lsn: the lsn of its first record.
        term: the log's term when it was made.
        prev_term: the term of the entry before `first_lsn`, or 0.
        created_ns: wall clock, ns since 1970.
        limit_at: place in the file where records must have ended.
        salt: random; no checksum of an earlier life of the file fits.
        moved: it was made by a recovery, with records in it before `meta` names it.
    """

    log_id: bytes
    segment_id: int
    prev_segment_id: int
    first_lsn: int
    term: int
    prev_term: int
    created_ns: int
    limit_at: int
    salt: int
    moved: bool = False

    @property
    def seed(self) -> int:
        """Where the checksum of each record's header starts."""
        return crc32c(_BINDING.pack(self.salt, self.log_id, self.segment_id, self.first_lsn))


def new_salt(entropy: Callable[[int], bytes]) -> int:
    """A salt for another life of a file."""
    return int.from_bytes(entropy(8), "little")


@dataclass(frozen=True, slots=True)
class Seal:
    """What a full segment holds. `end_at` is where its records end and its index begins."""

    segment_id: int
    salt: int
    last_lsn: int
    last_term: int
    end_at: int
    index_count: int
    index_crc: int
    records_xxh3: int
    timestamp_min: int
    timestamp_max: int
    entries: int
    payload_bytes: int

    @property
    def index_bytes(self) -> int:
        """Size of the index in bytes."""
        size: int = self.index_count * lib.WALCORE_INDEX_ENTRY_BYTES
        return size


def segment_name(first_lsn: int, segment_id: int) -> str:
    """The file name of a segment: names sort as their lsns do."""
    return f"{first_lsn:020d}-{segment_id:08x}.wal"


def parse_name(name: str) -> tuple[int, int] | None:
    """(first_lsn, segment_id) of a segment's file name, or None for any other name."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2], 16)) if match else None


def limit_for(segment_bytes: int, need_bytes: int = 0) -> int:
    """Where records end at the latest in a segment made for `segment_bytes` of records, or for
    one record, or batch, of `need_bytes` that is larger than that."""
    return RECORDS_AT + max(record_bytes(segment_bytes) - record_bytes(0), need_bytes)


def index_pairs_max(limit_at: int) -> int:
    """Most pairs the index of such a segment can have."""
    return int(limit_at // lib.WALCORE_INDEX_STRIDE_BYTES) + 2


def file_bytes(limit_at: int) -> int:
    """Size of the file: records, one page of padding behind the last, and the index."""
    size = limit_at + index_pairs_max(limit_at) * lib.WALCORE_INDEX_ENTRY_BYTES + BLOCK_BYTES
    return int(size + BLOCK_BYTES - 1) // BLOCK_BYTES * BLOCK_BYTES


def encode_header(header: SegmentHeader) -> bytes:
    """The header block."""
    return finish_block(
        _HEADER.pack(
            _HEADER_MAGIC,
            0,
            FORMAT_VERSION,
            _FLAG_MOVED if header.moved else 0,
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
    )


def decode_header(block: bytes, path: str, expect_lsn: int) -> SegmentHeader:
    """The header in a block.

    Raises:
        CorruptLogError: it is cut short, damaged, or not a header; names `expect_lsn`.
        UnsupportedFormatError: whole, but of a version or with a flag not known here.
    """
    if len(block) < BLOCK_BYTES:
        raise CorruptLogError(path, len(block), expect_lsn, "the file ends inside its header")
    magic, crc, version, flags, reserved, *rest = _HEADER.unpack_from(block)
    if magic != _HEADER_MAGIC or crc != block_crc(block):
        raise CorruptLogError(path, 0, expect_lsn, "the segment's header is damaged")
    if version != FORMAT_VERSION:
        raise UnsupportedFormatError(path, f"format version {version}")
    if flags & ~_FLAG_MOVED or reserved:
        raise UnsupportedFormatError(path, f"flag {flags:#x}/{reserved:#x}")
    header = replace(SegmentHeader(*rest), moved=bool(flags & _FLAG_MOVED))
    sound = (
        RECORDS_AT < header.limit_at <= RECORDS_AT + SEGMENT_BYTES_MAX + BATCH_BYTES_MAX
        and header.prev_segment_id < header.segment_id
        and 0 < header.first_lsn <= LSN_MAX
    )
    if not sound:
        raise CorruptLogError(path, 0, expect_lsn, "the segment's header makes no sense")
    return header


def encode_seal(seal: Seal) -> bytes:
    """The seal block."""
    return finish_block(
        _SEAL.pack(
            _SEAL_MAGIC,
            0,
            FORMAT_VERSION,
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
    )


def decode_seal(block: bytes, header: SegmentHeader) -> Seal | None:
    """The seal of the segment with this header, or None when it has none that is whole."""
    if len(block) < BLOCK_BYTES:
        return None
    magic, crc, version, flags, reserved, *rest = _SEAL.unpack_from(block)
    if magic != _SEAL_MAGIC or crc != block_crc(block):
        return None
    seal = Seal(*rest)
    if (version, flags, reserved) != (FORMAT_VERSION, 0, 0):
        return None
    if (seal.segment_id, seal.salt) != (header.segment_id, header.salt):
        return None
    sound = (
        RECORDS_AT <= seal.end_at <= header.limit_at
        and seal.index_count <= index_pairs_max(header.limit_at)
        and seal.last_lsn >= header.first_lsn - 1
    )
    return seal if sound else None
