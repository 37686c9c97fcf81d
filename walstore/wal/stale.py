"""Signs that `meta` is older than the log: a backup was restored that had been copied while the
log was written to. What `meta` does not name would then be taken for a leftover, and removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from walstore._native import lib
from walstore.errors import CorruptLogError
from walstore.wal import files
from walstore.wal.layout import Layout, read_blocks
from walstore.wal.meta import META_NAME, Meta
from walstore.wal.record import Scanner
from walstore.wal.scan import verify_range
from walstore.wal.segment import RECORDS_AT, SegmentHeader, parse_name

__all__ = ["refuse_later", "refuse_stale"]


def refuse_stale(path: str, meta: Meta, layout: Layout) -> None:
    """Looks at the last segment and at later ones. Only for a log that no other writer is changing.

    Raises:
        CorruptLogError: `meta` is older than one of them.
    """
    tail = layout.segments[-1]
    _, seal, _ = read_blocks(tail.path, tail.first_lsn)
    # A segment is sealed only once `meta` names the one that follows.
    if seal:
        raise _older(path, seal.last_lsn + 1, f"the seal of {os.path.basename(tail.path)}")
    refuse_later(path, meta, layout.leftovers)


def refuse_later(path: str, meta: Meta, names: Iterable[str]) -> None:
    """Looks at segments off the chain.

    Raises:
        CorruptLogError: `meta` is older than one of them.
    """
    for name in names:
        named = parse_name(name)
        assert named is not None
        first_lsn, segment_id = named
        if segment_id < meta.tail_segment_id:
            continue
        other = os.path.join(path, name)
        header, _, _ = read_blocks(other, first_lsn)
        if _was_the_last(other, header):
            raise _older(path, first_lsn, f"segment {name}")


def _older(path: str, lsn: int, what: str) -> CorruptLogError:
    return CorruptLogError(os.path.join(path, META_NAME), 0, lsn, f"it is older than {what}")


def _was_the_last(path: str, header: SegmentHeader) -> bool:
    """Whether a segment was appended to, which happens only once `meta` names it."""
    with files.opened(path) as fd:
        if not header.moved:
            return any(files.read_at(fd, lib.WALCORE_RECORD_HEADER_BYTES, RECORDS_AT))
        # A recovery that was cut short left copies of entries that nothing proved to have been
        # durable. One that knows of its segment's first entry as durable was appended later.
        scanner = Scanner(header.seed, header.first_lsn, header.prev_term)
        verify_range(fd, scanner, RECORDS_AT, header.limit_at, mapped=False)
        return bool(scanner.state.durable_lsn >= header.first_lsn)
