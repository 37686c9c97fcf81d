"""The file `meta`: two copies and the watermark, whole, damaged, torn or of another version."""

from __future__ import annotations

import os
import struct
from contextlib import suppress

from tests.fuzz.fix import fix_block, take
from walstore.errors import CorruptLogError, NotALogError, UnsupportedFormatError
from walstore.limits import BLOCK_BYTES
from walstore.wal.meta import (
    COPY_BYTES,
    Meta,
    decode_copy,
    decode_watermark,
    encode_copy,
    read_meta,
    read_watermark,
    watermark_seed,
    weaker_copy,
)
from walstore.wal.record import crc32c

__all__ = ["one_input"]

COPY_FIELDS_BYTES = 96
MARK_BYTES = 24
MAGIC = b"WALMETA\n"

_fd = os.memfd_create("meta")


def one_input(data: bytes) -> None:
    """Reads the input as a `meta` file."""
    if not data:
        return
    choice = data[0]
    (first, second, mark), rest = take(data[1:], COPY_FIELDS_BYTES, COPY_FIELDS_BYTES, MARK_BYTES)
    copies = [_copy(first, rest, choice), _copy(second, rest, choice >> 3)]
    image = copies[0].ljust(BLOCK_BYTES, b"\0") + copies[1].ljust(BLOCK_BYTES, b"\0") + mark
    os.ftruncate(_fd, 0)
    os.pwrite(_fd, image[: len(data) * 64] if choice & 64 else image, 0)
    _check_copies([os.pread(_fd, COPY_BYTES, at) for at in (0, BLOCK_BYTES)])
    _check_watermark(mark, first[24:40], bool(choice & 128))


def _copy(fields: bytes, rest: bytes, choice: int) -> bytes:
    """A copy as it is, with a checksum that fits, or with a version and flags that fit too."""
    block = (fields + (rest if choice & 4 else b"")).ljust(COPY_BYTES, b"\0")[:COPY_BYTES]
    if choice & 1:
        block = block[:16] + bytes(4) + bytes([block[20] & 1, 0, 0, 0]) + block[24:]
    return fix_block(block, MAGIC) if choice & 3 else block


def _decoded(block: bytes) -> Meta | None:
    meta = decode_copy(block, "path")
    if meta is None:
        return None
    again = encode_copy(meta)
    assert decode_copy(again, "path") == meta
    if not any(block[COPY_FIELDS_BYTES:]):
        assert again == block
    return meta


def _check_copies(blocks: list[bytes]) -> None:
    copies: list[Meta | None] = []  # stays so when one of them is refused
    with suppress(UnsupportedFormatError, CorruptLogError):
        copies = [_decoded(block) for block in blocks]
    try:
        meta = read_meta(_fd, "path")
        weaker = weaker_copy(_fd, "path")
    except UnsupportedFormatError:
        assert not copies
        return
    except (CorruptLogError, NotALogError):
        assert copies in ([], [None, None])
        return
    assert copies
    whole = [copy for copy in copies if copy]
    assert meta is None or meta.generation == max(copy.generation for copy in whole)
    assert (meta is None) == (not whole)
    if len(whole) == 1:
        assert copies[weaker] is None


def _check_watermark(mark: bytes, log_id: bytes, fits: bool) -> None:
    if fits:
        mark = struct.pack("<I", crc32c(mark[4:], watermark_seed(log_id))) + mark[4:]
        os.pwrite(_fd, mark, 2 * BLOCK_BYTES)
    for found in (decode_watermark(mark, log_id), read_watermark(_fd, log_id)):
        if found is not None:
            fields = struct.pack("<IQQ", found.level, found.epoch, found.durable_lsn)
            assert fields == mark[4:]
    assert decode_watermark(mark[:-1], log_id) is None
    assert not fits or decode_watermark(mark, log_id) is not None
