"""What tests of the core look at inside a log, and how they bring one into a given state."""

from __future__ import annotations

import os
from pathlib import Path

from walstore import FileWALManager
from walstore.wal.layout import Segment
from walstore.wal.segment import SegmentHeader, decode_header, parse_name
from walstore.wal.writing import LogWriter


def writer_of(log: FileWALManager) -> LogWriter:
    """The writing side of a log that is open to write."""
    assert log._writer is not None
    return log._writer


def numbered(tag: bytes, lsn: int) -> bytes:
    """A payload that tells its lsn."""
    return b"%s%08d" % (tag, lsn)


def append_numbered(log: FileWALManager, tag: bytes, count: int) -> None:
    """Appends a batch of payloads that tell their lsns."""
    next_lsn = log.last_lsn + 1
    log.append_many([numbered(tag, next_lsn + i) for i in range(count)])


def roll_once(log: FileWALManager, tag: bytes, batch: int) -> None:
    """Appends batches of numbered entries until one is in a new segment."""
    before = writer_of(log).segments()[-1].header.segment_id
    while writer_of(log).segments()[-1].header.segment_id == before:
        append_numbered(log, tag, batch)


def settle(log: FileWALManager) -> None:
    """Waits for the work in the background."""
    writer_of(log)._housekeeper.wait_idle()


def drop_spare(log: FileWALManager) -> None:
    """Takes the prepared file away, so that the next truncated segment is recycled."""
    settle(log)
    spares = writer_of(log)._spares
    if spares._ready is not None:
        os.unlink(spares._ready.path)
        spares._ready = None


def header_of(path: Path) -> SegmentHeader:
    """The header of a segment file."""
    named = parse_name(path.name)
    assert named is not None
    return decode_header(path.read_bytes()[:4096], str(path), named[0])


def segment_of(path: Path, last_lsn: int | None) -> Segment:
    """A segment file as one of the chain, not sealed."""
    return Segment(str(path), header_of(path), None, last_lsn)
