"""The file `meta`: what is true of the whole log, its lock, and the published watermark.

    0        copy A   one sector of 512 bytes
    4096     copy B   one sector, the same but for its generation
    8192     watermark, 24 bytes, written by the C writer after each sync, never synced itself
    8704     commit mark, 24 bytes, in replicated logs: written when more is committed, never synced
    8728     "NODELOG" and a line end, in replicated logs: there, and durable, before a node first
             takes part, and never written again: no power loss amid a write of the mark takes it

    0         8      12       16      20      24        40           48
    +---------+------+--------+-------+-------+---------+------------+--------+
    | "WALMETA" | crc | version | flags | clean | log_id  | generation | epoch  |
    +---------+------+--------+-------+-------+---------+------------+--------+
    56     64          72            80                88            96
    +------+-----------+-------------+-----------------+-------------+
    | term | first_lsn | prev_term   | tail_segment_id | clean_lsn   |
    +------+-----------+-------------+-----------------+-------------+

The crc covers the whole sector but itself. A change writes copy A, syncs, writes copy B, syncs:
at every moment one copy is whole, and when both are, the higher generation holds. Each copy written
has a generation of its own, so that the one written last is known by it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Any

from walstore._native import lib
from walstore.errors import CorruptLogError, NotALogError, UnsupportedFormatError
from walstore.limits import BLOCK_BYTES, LSN_MAX
from walstore.wal import files
from walstore.wal.record import crc32c

__all__ = [
    "COMMIT_MARK_AT",
    "COPY_BYTES",
    "FORMAT_VERSION",
    "META_NAME",
    "WATERMARK_AT",
    "Meta",
    "Watermark",
    "block_crc",
    "clear_replicated",
    "decode_watermark",
    "finish_block",
    "forget_committed",
    "is_replicated",
    "mark_replicated",
    "read_commit_mark",
    "read_meta",
    "read_watermark",
    "watermark_seed",
    "weaker_copy",
    "write_copy",
    "write_meta",
]

META_NAME = "meta"
COPY_BYTES = 512
WATERMARK_AT = 2 * BLOCK_BYTES
COMMIT_MARK_AT = WATERMARK_AT + COPY_BYTES

FORMAT_VERSION = 1
_MAGIC = b"WALMETA\n"
_COPY = struct.Struct("<8sIIII16sQQQQQQQ")
_WATERMARK = struct.Struct("<IIQQ")
_CRC_AT = 8
_LEVEL_COMMITTED: int = lib.WALCORE_LEVEL_COMMITTED
_NODE_TAG = b"NODELOG\n"
_NODE_TAG_AT = COMMIT_MARK_AT + _WATERMARK.size
_MARK_READS = 8  # one that is being written just now is whole at the next look
assert _COPY.size == 96
assert _WATERMARK.size == 24


@dataclass(frozen=True, slots=True)
class Meta:
    """What is true of the whole log.

    Attributes:
        log_id: names this log's history; 16 random bytes.
        generation: counts the copies written of this record; no two have the same.
        epoch: counts the truncations of the suffix; binds the watermark to a history.
        term: the current term, durable before anything is written under it.
        first_lsn: entries before this one are gone.
        prev_term: the term of the entry before `first_lsn`, or 0.
        tail_segment_id: the segment that is written to; later ones are leftovers.
        clean: the log was closed, and `clean_lsn` was its last entry.
        clean_lsn: see `clean`.
    """

    log_id: bytes
    generation: int
    epoch: int
    term: int
    first_lsn: int
    prev_term: int
    tail_segment_id: int
    clean: bool
    clean_lsn: int

    def next(self, **changes: Any) -> Meta:
        """The same with changes, and the next generation."""
        return replace(self, generation=self.generation + 1, **changes)


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far the running or last writer had synced, and under which policy."""

    level: int
    epoch: int
    durable_lsn: int


def block_crc(block: bytes) -> int:
    """Checksum of a block whose own checksum stands at bytes 8 to 12."""
    return crc32c(block[_CRC_AT + 4 :], crc32c(block[:_CRC_AT]))


def finish_block(fields: bytes, size: int = BLOCK_BYTES) -> bytes:
    """Pads a packed struct to a block and puts its checksum in."""
    block = bytearray(fields.ljust(size, b"\0"))
    block[_CRC_AT : _CRC_AT + 4] = struct.pack("<I", block_crc(bytes(block)))
    return bytes(block)


def encode_copy(meta: Meta) -> bytes:
    """One copy, a sector: what a torn write leaves of it cannot be completed by the next one."""
    return finish_block(
        _COPY.pack(
            _MAGIC,
            0,
            FORMAT_VERSION,
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
        ),
        COPY_BYTES,
    )


def decode_copy(block: bytes, path: str) -> Meta | None:
    """The copy in a block, or None when it is not whole.

    Raises:
        UnsupportedFormatError: it is whole, and of a version or with a flag not known here.
        CorruptLogError: it is whole, and no writer counts so far.
    """
    if len(block) != COPY_BYTES:
        return None
    magic, crc, version, flags, clean, log_id, *rest = _COPY.unpack_from(block)
    if magic != _MAGIC or crc != block_crc(block):
        return None
    if version != FORMAT_VERSION:
        raise UnsupportedFormatError(path, f"format version {version}")
    if flags != 0 or clean > 1:
        raise UnsupportedFormatError(path, f"flag {flags:#x}/{clean:#x}")
    generation, epoch, term, first_lsn, prev_term, tail_segment_id, clean_lsn = rest
    if max(rest) > LSN_MAX or first_lsn == 0:
        raise CorruptLogError(path, 0, 0, "the log's metadata makes no sense")
    return Meta(
        log_id=log_id,
        generation=generation,
        epoch=epoch,
        term=term,
        first_lsn=first_lsn,
        prev_term=prev_term,
        tail_segment_id=tail_segment_id,
        clean=bool(clean),
        clean_lsn=clean_lsn,
    )


def watermark_seed(log_id: bytes) -> int:
    """Binds the watermark to its log."""
    return crc32c(log_id)


def decode_watermark(data: bytes, log_id: bytes) -> Watermark | None:
    """The watermark, or None when there is none or it is being written just now."""
    if len(data) != _WATERMARK.size:
        return None
    crc, level, epoch, durable_lsn = _WATERMARK.unpack(data)
    if crc != crc32c(data[4:], watermark_seed(log_id)):
        return None
    return Watermark(level, epoch, durable_lsn)


def _read_copies(fd: int) -> list[bytes]:
    return [files.read_at(fd, COPY_BYTES, at) for at in (0, BLOCK_BYTES)]


def read_meta(fd: int, path: str) -> Meta | None:
    """The newest whole copy; None when none was ever written whole: the log's making was cut
    short, since from then on neither copy is zero again.

    Raises:
        NotALogError: it is some other file.
        CorruptLogError: both copies are damaged, or one is whole and makes no sense.
        UnsupportedFormatError: written by a newer walstore.
    """
    copies = _read_copies(fd)
    whole = [meta for meta in (decode_copy(block, path) for block in copies) if meta]
    if whole:
        return max(whole, key=lambda meta: meta.generation)
    if not copies[1].strip(b"\0"):
        return None
    if not any(block.startswith(_MAGIC) for block in copies):
        raise NotALogError(path, "it does not start with walstore's mark")
    raise CorruptLogError(path, 0, 0, "both copies of the log's metadata are damaged")


def weaker_copy(fd: int, path: str) -> int:
    """Which copy, 0 or 1, to write first after an opening.

    Never the only whole one. Of two whole ones the newer, which was written last: its sync may
    have failed, and then only the older one is known to be on the disk.
    """
    first, second = (decode_copy(block, path) for block in _read_copies(fd))
    if first is None or second is None:
        return 0 if first is None else 1
    return 0 if first.generation > second.generation else 1


def read_watermark(fd: int, log_id: bytes) -> Watermark | None:
    """The published watermark, if there is a whole one."""
    return decode_watermark(files.read_at(fd, _WATERMARK.size, WATERMARK_AT), log_id)


def read_commit_mark(fd: int, log_id: bytes) -> int | None:
    """How far a replicated log is committed: 0 when the mark is damaged, None for a log that is not
    replicated. What is committed is never cut, so a mark of an epoch that is over
    still holds."""
    for _ in range(_MARK_READS):
        data = _read_mark_and_tag(fd)
        if not data.strip(b"\0"):
            return None
        mark = decode_watermark(data[: _WATERMARK.size], log_id)
        if mark:
            return mark.durable_lsn
    return 0


def _read_mark_and_tag(fd: int) -> bytes:
    return files.read_at(fd, _WATERMARK.size + len(_NODE_TAG), COMMIT_MARK_AT)


def is_replicated(fd: int) -> bool:
    """Whether the log is that of a node of a cluster: the tag says so, or any mark, a damaged one,
    too, where a walstore that wrote no tags was the last to have it."""
    return bool(_read_mark_and_tag(fd).strip(b"\0"))


def mark_replicated(fd: int, path: str) -> None:
    """Makes the log one of a node of a cluster, for good; durable with the next sync."""
    if files.read_at(fd, len(_NODE_TAG), _NODE_TAG_AT) != _NODE_TAG:
        files.write_at(fd, _NODE_TAG, _NODE_TAG_AT, path)


def clear_replicated(fd: int, path: str) -> None:
    """Takes away what the making of a node's log has left, when that was cut short; durable with
    the next sync."""
    if is_replicated(fd):
        files.write_at(fd, bytes(_WATERMARK.size + len(_NODE_TAG)), COMMIT_MARK_AT, path)


def forget_committed(fd: int, log_id: bytes, epoch: int, path: str) -> None:
    """Has the mark of a replicated log say that nothing is known to be committed; durable with the
    next sync."""
    if is_replicated(fd):
        fields = _WATERMARK.pack(0, _LEVEL_COMMITTED, epoch, 0)[4:]
        mark = struct.pack("<I", crc32c(fields, watermark_seed(log_id))) + fields
        files.write_at(fd, mark, COMMIT_MARK_AT, path)


def write_copy(fd: int, meta: Meta, path: str, which: int) -> None:
    """Writes copy 0 or 1; not durable until it is synced."""
    files.write_at(fd, encode_copy(meta), which * BLOCK_BYTES, path)


def write_meta(fd: int, meta: Meta, path: str, first: int = 0) -> Meta:
    """Makes `meta` durable, copy by copy, before it returns; `first` as `weaker_copy` says.

    Returns it as the second copy has it, with a generation of its own: should the sync of that one
    fail, it is the newer, and the next opening begins with it.
    """
    for which in (first, 1 - first):
        write_copy(fd, meta, path, which)
        files.sync_data(fd, path)
        if which == first:
            meta = meta.next()
    return meta
