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
from dataclasses import dataclass, replace

from walstore.wal import files
from walstore.wal.layout import SPARE_PREFIX, Segment
from walstore.wal.meta import META_NAME, Meta, weaker_copy, write_meta
from walstore.wal.reading import SegmentIndex
from walstore.wal.record import Scanner
from walstore.wal.recovery import Tail, check_whole, cut_index
from walstore.wal.scan import verify_range
from walstore.wal.segment import RECORDS_AT, SegmentHeader, file_bytes, new_salt
from walstore.wal.space import activate, make_reserved

__all__ = ["Moved", "move_unproven"]


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of the log's end: the segments in the place of its last one, the new tail, a
    descriptor of it open for writing, the index of the old one where some of it is kept, and the
    spare that was used."""

    meta: Meta
    segments: tuple[Segment, ...]
    tail: Tail
    fd: int
    index: bytes | None
    spare: str


def _find_spare(
    path: str, spares: tuple[str, ...], segment_id: int, limit_at: int, records_bytes: int
) -> tuple[str, int]:
    """A file for the new segment and where records are to end in it: a spare that is there, or one
    of the old segment's size. A full disk must not keep a log shut: where there is no space for
    that, one that just holds the records."""
    for name in spares:
        if os.stat(os.path.join(path, name)).st_size >= file_bytes(limit_at):
            return name, limit_at
    name = f"{SPARE_PREFIX}{segment_id:08x}-moved.wal"
    spare = os.path.join(path, name)
    try:
        make_reserved(spare, file_bytes(limit_at))
    except OSError as error:
        if error.errno not in files.NO_SPACE:
            raise
        limit_at = RECORDS_AT + records_bytes
        make_reserved(spare, file_bytes(limit_at))
    return name, limit_at


def _locate(fd: int, segment: Segment, tail: Tail, lsn: int) -> tuple[int, int]:
    """Where a record is, and the term of the one before it; that of the segment's first is told by
    the header."""
    header = segment.header
    if lsn == segment.first_lsn:
        return RECORDS_AT, header.prev_term
    # From a record before it: the term is read there.
    place = SegmentIndex(segment.first_lsn, tail.index, tail.end_at).find(lsn - 1)
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
    spares: tuple[str, ...],
    now_ns: int,
    entropy: Callable[[int], bytes],
) -> Moved:
    """Moves the records from `from_lsn` on, at the end of the log's last segment, into a new one,
    for which a spare is taken if one is large enough. Durable at return."""
    header = segment.header
    with files.opened(segment.path) as source_fd:
        at, prev_term = _locate(source_fd, segment, tail, from_lsn)
        records = files.read_at(source_fd, tail.end_at - at, at)
    keeps_some = from_lsn > segment.first_lsn
    spare, limit_at = _find_spare(path, spares, segment_id, header.limit_at, len(records))
    moved_header = SegmentHeader(
        log_id=meta.log_id,
        segment_id=segment_id,
        prev_segment_id=header.segment_id if keeps_some else header.prev_segment_id,
        first_lsn=from_lsn,
        term=header.term,
        prev_term=prev_term,
        created_ns=now_ns,
        limit_at=limit_at,
        salt=new_salt(entropy),
        moved=True,
    )
    made, fd = activate(path, os.path.join(path, spare), moved_header, records)
    try:
        found = check_whole(fd, made.path, made.header, tail.next_lsn - 1)
        meta = meta.next(tail_segment_id=segment_id)
        meta_path = os.path.join(path, META_NAME)
        meta = write_meta(meta_fd, meta, meta_path, weaker_copy(meta_fd, meta_path))
    except BaseException:
        files.close(fd)
        raise
    kept = (replace(segment, last_lsn=from_lsn - 1),) if keeps_some else ()
    index = cut_index(tail.index, from_lsn - segment.first_lsn) if keeps_some else None
    return Moved(meta, (*kept, made), found, fd, index, spare)
