"""Making and sealing segment files. Each step is safe to be cut short by a crash.

A new segment takes a spare (zero-filled beforehand, or recycled from a truncated segment), gets
its header and a first page of zeros, is synced, and only then its name. It is part of the log
once `meta` says so, and holds no record before.
"""

from __future__ import annotations

import os

import xxhash

from walstore._native import lib
from walstore.errors import CorruptLogError
from walstore.limits import BLOCK_BYTES
from walstore.wal import files
from walstore.wal.layout import Segment
from walstore.wal.record import STOP_REASONS, Scanner, crc32c, reseal
from walstore.wal.scan import MAP_WINDOW_BYTES, verify_range
from walstore.wal.segment import (
    RECORDS_AT,
    SEAL_AT,
    Seal,
    SegmentHeader,
    encode_header,
    encode_seal,
    segment_name,
)

__all__ = ["activate", "make_reserved", "make_zeroed", "seal_segment"]


def make_zeroed(path: str, size: int) -> None:
    """Makes a file of zeros, synced. Leaves nothing behind when there is no space for it."""
    _make(path, size, reserved=False)


def make_reserved(path: str, size: int) -> None:
    """Makes a file that reads as zeros, synced, and takes its space at once where the filesystem
    can. Quicker to make than `make_zeroed`, and slower to write to."""
    _make(path, size, reserved=True)


def _make(path: str, size: int, *, reserved: bool) -> None:
    with files.opened(path, write=True, create=True) as fd:
        try:
            files.reserve(fd, size, path)
            files.zero_fill(fd, files.size_of(fd) if reserved else 0, size, path)
            files.sync_data(fd, path)
        except OSError:
            files.remove(path)
            raise


def activate(
    directory: str, spare_path: str, header: SegmentHeader, records: bytes = b""
) -> tuple[Segment, int]:
    """Turns a spare into a segment with its name and header durable, and empty unless it gets
    valid records. Returns it with a descriptor open for writing."""
    path = os.path.join(directory, segment_name(header.first_lsn, header.segment_id))
    fd = files.open_file(spare_path, write=True)
    try:
        # The seal of an earlier life and a page behind the records go with the header, so that
        # the end of the segment is plain to see.
        block = encode_header(header) + bytes(RECORDS_AT - BLOCK_BYTES)
        block += reseal(records, header.seed) + bytes(BLOCK_BYTES)
        files.write_at(fd, block, 0, spare_path)
        files.sync_data(fd, spare_path)
        files.rename(spare_path, path)
        try:
            files.sync_directory(directory)
        except BaseException:
            files.rename(path, spare_path)
            raise
    except BaseException:
        files.close(fd)
        raise
    return Segment(path, header, None, None), fd


def _hash_records(fd: int, end_at: int) -> int:
    digest = xxhash.xxh3_64()
    for at in range(RECORDS_AT, end_at, MAP_WINDOW_BYTES):
        digest.update(files.read_at(fd, min(MAP_WINDOW_BYTES, end_at - at), at))
    return digest.intdigest()


def seal_segment(segment: Segment, index: bytes) -> Segment:
    """Writes index and seal of a segment that another one follows; durable at return.

    Args:
        segment: with `last_lsn` set; all its records are durable.
        index: pairs for its records up to `last_lsn`.

    Raises:
        CorruptLogError: its records are not what was written.
    """
    header, last_lsn = segment.header, segment.last_lsn
    assert last_lsn is not None
    with files.opened(segment.path, write=True) as fd:
        scanner = Scanner(header.seed, header.first_lsn, header.prev_term, last_lsn)
        end_at = verify_range(fd, scanner, RECORDS_AT, header.limit_at, mapped=True)
        state = scanner.state
        if state.stop != lib.WALCORE_SCAN_LIMIT:
            raise CorruptLogError(segment.path, end_at, state.next_lsn, STOP_REASONS[state.stop])
        seal = Seal(
            segment_id=header.segment_id,
            salt=header.salt,
            last_lsn=last_lsn,
            last_term=state.term,
            end_at=end_at,
            index_count=len(index) // lib.WALCORE_INDEX_ENTRY_BYTES,
            index_crc=crc32c(index),
            records_xxh3=_hash_records(fd, end_at),
            timestamp_min=state.timestamp_min,
            timestamp_max=state.timestamp_max,
            entries=state.entries,
            payload_bytes=state.payload_total,
        )
        if index:
            files.write_at(fd, index, end_at, segment.path)
        files.write_at(fd, encode_seal(seal), SEAL_AT, segment.path)
        files.sync_data(fd, segment.path)
    return Segment(segment.path, header, seal, last_lsn)
