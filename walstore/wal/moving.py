"""Moving records that nothing proves to be durable into a segment of their own, at recovery.

After a failed sync the kernel may hold pages that it believes clean and the disk never got
(fsyncgate; Rebello et al., ATC 2020), so such records must be written once more before they count.
Not in place: they may be all there is of entries that were acked, and a power loss in the middle
of the write would take them. So they are copied to a new segment, which `meta` then names; until
it does, the old one holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from walstore.wal import files
from walstore.wal.layout import SPARE_PREFIX, Segment
from walstore.wal.meta import META_NAME, Meta, weaker_copy, write_meta
from walstore.wal.reading import SegmentIndex
from walstore.wal.record import Scanner
from walstore.wal.recovery import Tail, check_whole, cut_index
from walstore.wal.scan import verify_range
from walstore.wal.segment import file_bytes
from walstore.wal.space import SegmentSpec, activate, make_reserved

__all__ = ["Moved", "move_unproven", "moved_name"]


class Moved:
    """What became of the log's end: the segments in the place of its last one, the new tail, a
    descriptor of it open for writing, and the index of the old one where some of it is kept."""

    def __init__(
        self, meta: Meta, segments: tuple[Segment, ...], tail: Tail, fd: int, index: bytes | None
    ) -> None:
        self.meta = meta
        self.segments = segments
        self.tail = tail
        self.fd = fd
        self.index = index


def moved_name(segment_id: int) -> str:
    """The name of the new segment's file until it is one. A try that was cut short leaves it, and
    the next one uses it."""
    return f"{SPARE_PREFIX}{segment_id:08x}-moved.wal"


def _locate(fd: int, segment: Segment, tail: Tail, lsn: int) -> tuple[int, int]:
    """Where a record is, and the term of the one before it."""
    header = segment.header
    place = SegmentIndex(segment.first_lsn, tail.index, tail.end_at).find(lsn)
    scanner = Scanner(header.seed, place.lsn, header.prev_term, lsn - 1)
    at = verify_range(fd, scanner, place.at, tail.end_at, mapped=False)
    return at, scanner.state.term


def move_unproven(
    path: str,
    meta_fd: int,
    meta: Meta,
    segment: Segment,
    tail: Tail,
    from_lsn: int,
    segment_id: int,
    now_ns: int,
    entropy: Callable[[int], bytes],
) -> Moved:
    """Moves the records from `from_lsn` on, at the end of the log's last segment, into a new one.
    Durable at return."""
    header = segment.header
    source_fd = files.open_file(segment.path)
    try:
        at, prev_term = _locate(source_fd, segment, tail, from_lsn)
        records = files.read_at(source_fd, tail.end_at - at, at)
    finally:
        files.close(source_fd)
    keeps_some = from_lsn > segment.first_lsn
    spec = SegmentSpec(
        log_id=meta.log_id,
        segment_id=segment_id,
        prev_segment_id=header.segment_id if keeps_some else header.prev_segment_id,
        first_lsn=from_lsn,
        term=header.term,
        prev_term=prev_term if keeps_some else header.prev_term,
        limit_at=header.limit_at,
        moved=True,
    )
    spare = os.path.join(path, moved_name(segment_id))
    make_reserved(spare, file_bytes(header.limit_at))
    made, fd = activate(path, spare, spec, now_ns, entropy, records)
    try:
        found = check_whole(fd, made.path, made.header, tail.next_lsn - 1)
        meta = replace(meta, generation=meta.generation + 1, tail_segment_id=segment_id)
        meta_path = os.path.join(path, META_NAME)
        meta = write_meta(meta_fd, meta, meta_path, weaker_copy(meta_fd, meta_path))
    except BaseException:
        files.close(fd)
        raise
    kept = (replace(segment, last_lsn=from_lsn - 1),) if keeps_some else ()
    index = cut_index(tail.index, from_lsn - segment.first_lsn) if keeps_some else None
    return Moved(meta, (*kept, made), found, fd, index)
