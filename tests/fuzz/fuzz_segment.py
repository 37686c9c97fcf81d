"""Segments: header and seal blocks, and file names."""

from __future__ import annotations

import struct

from tests.fuzz.fix import fix_block
from walstore.errors import CorruptLogError, UnsupportedFormatError
from walstore.limits import BLOCK_BYTES
from walstore.wal.segment import (
    RECORDS_AT,
    SegmentHeader,
    decode_header,
    decode_seal,
    encode_header,
    encode_seal,
    file_bytes,
    index_pairs_max,
    parse_name,
    segment_name,
)

__all__ = ["one_input"]

HEADER_FIELDS_BYTES = 104
SEAL_FIELDS_BYTES = 112
HEADER = SegmentHeader(bytes(range(16)), 2, 1, 5, 1, 0, 1000, RECORDS_AT + 65536, 0x55AA)
IDENTITY = struct.pack("<QQ", HEADER.segment_id, HEADER.salt)


def one_input(data: bytes) -> None:
    """Decodes the input as one of the three."""
    if not data:
        return
    choice, data = data[0], data[1:]
    if choice & 3 == 0:
        _name(data)
    elif choice & 3 == 1:
        _seal(_block(data, choice, b"WALSEAL\n"), choice)
    else:
        _header(_block(data, choice, b"WALSEGM\n"))


def _block(data: bytes, choice: int, magic: bytes) -> bytes:
    """The input as a block; its checksum fits, unless it asks for a bad or a short one."""
    if choice & 4:
        return data[:BLOCK_BYTES]
    block = data[:BLOCK_BYTES].ljust(BLOCK_BYTES, b"\0")
    if magic == b"WALSEAL\n" and not choice & 8:
        block = block[:24] + IDENTITY + block[40:]
    if choice & 16:
        block = block[:16] + bytes(8) + block[24:]  # no flags
    return fix_block(block, magic)


def _name(data: bytes) -> None:
    name = data.decode("latin-1")
    parsed = parse_name(name)
    if parsed is not None:
        assert segment_name(*parsed) == name


def _header(block: bytes) -> None:
    try:
        header = decode_header(block, "path", 9)
    except CorruptLogError as error:
        _check_refusal(error)
        return
    except UnsupportedFormatError:
        return
    again = encode_header(header)
    assert decode_header(again, "path", 9) == header
    if not any(block[HEADER_FIELDS_BYTES:]):
        assert again == block
    assert 0 <= header.seed < 1 << 32
    pairs = index_pairs_max(header.limit_at)
    assert header.limit_at + 8 * pairs < file_bytes(header.limit_at)


def _check_refusal(error: CorruptLogError) -> None:
    assert error.lsn == 9
    assert 0 <= error.offset < BLOCK_BYTES


def _seal(block: bytes, choice: int) -> None:
    seal = decode_seal(block, HEADER)
    if seal is None:
        return
    again = encode_seal(seal)
    assert decode_seal(again, HEADER) == seal
    if not any(block[SEAL_FIELDS_BYTES:]):
        assert again == block
    assert (seal.segment_id, seal.salt) == (HEADER.segment_id, HEADER.salt)
    assert seal.end_at + seal.index_bytes <= file_bytes(HEADER.limit_at)
    assert seal.last_lsn >= HEADER.first_lsn - 1
