"""What the tail of a log is worth after whatever happened to it. Reads only; changes nothing.

A record that is not good is a *torn tail* when nothing shows that it had been durable, and
*corruption* when something does:

- a later record whose durable_lsn covers it (every record carries the highest lsn that was
  synced when it was written);
- the watermark the writer published after a sync;
- the mark of a clean close;
- a later segment: a segment is left only when all of it is durable.

docs/format.md gives the rules and what each crash leaves behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from walstore._native import ffi, lib
from walstore.errors import CorruptLogError
from walstore.wal import files
from walstore.wal.meta import Meta, Watermark
from walstore.wal.record import STOP_REASONS, Scanner
from walstore.wal.scan import verify_range
from walstore.wal.segment import RECORDS_AT, SegmentHeader, index_pairs_max

__all__ = ["Cut", "Tail", "check_whole", "cut_index", "examine_tail"]

_SECTOR_BYTES = 512
_GARBAGE_BYTES_MAX = 8 << 20
_AHEAD_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Cut:
    """Bytes of a torn tail: [at, end_at) of the segment, where entry `lsn` would stand."""

    at: int
    end_at: int
    lsn: int
    reason: str


@dataclass(frozen=True, slots=True)
class Tail:
    """The good records of a segment.

    Attributes:
        next_lsn: the lsn after the last good one.
        last_term: the term of the last good one, or of the entry before the segment.
        end_at: place in the file behind it.
        proven_lsn: known to have been durable; later ones may be in the page cache only.
        index: pairs of uint32, as in a sealed segment.
        cut: what is torn behind it, or None.
    """

    next_lsn: int
    last_term: int
    end_at: int
    proven_lsn: int
    index: bytes
    cut: Cut | None


def _scan(fd: int, header: SegmentHeader, stop_lsn: int | None) -> tuple[Scanner, int]:
    scanner = Scanner(
        header.seed,
        header.first_lsn,
        header.prev_term,
        stop_lsn,
        index_first_lsn=header.first_lsn,
        index_max=index_pairs_max(header.limit_at),
    )
    return scanner, verify_range(fd, scanner, RECORDS_AT, header.limit_at, mapped=False)


def cut_index(pairs: bytes, entries: int) -> bytes:
    """The index without pairs that lie behind the first `entries` records."""
    view = memoryview(pairs).cast("I")
    count = len(view) // 2
    while count and view[2 * (count - 1)] >= entries:
        count -= 1
    return pairs[: count * lib.WALCORE_INDEX_ENTRY_BYTES]


def _result(scanner: Scanner, header: SegmentHeader, end_at: int, cut: Cut | None) -> Tail:
    """Puts together what a scan found, less a batch that is not whole."""
    state = scanner.state
    next_lsn, last_term, index = state.next_lsn, state.term, scanner.index_pairs()
    if state.batch_lsn:
        next_lsn, last_term, end_at = state.batch_lsn, state.batch_term, state.batch_at
        index = cut_index(index, next_lsn - header.first_lsn)
    return Tail(
        next_lsn=next_lsn,
        last_term=last_term,
        end_at=end_at,
        proven_lsn=state.durable_lsn,
        index=index,
        cut=cut,
    )


def check_whole(fd: int, path: str, header: SegmentHeader, last_lsn: int) -> Tail:
    """Scans a segment that another one follows: every record up to `last_lsn` must be good.

    Raises:
        CorruptLogError: one is not.
    """
    scanner, at = _scan(fd, header, last_lsn)
    if scanner.state.stop != lib.WALCORE_SCAN_LIMIT:
        raise CorruptLogError(path, at, scanner.state.next_lsn, STOP_REASONS[scanner.state.stop])
    scanner.state.batch_lsn = 0  # a batch that ends here was cut by a truncation, on purpose
    return _result(scanner, header, at, None)


def _look_ahead(fd: int, header: SegmentHeader, at: int, bad_lsn: int) -> Any:
    """Searches everything behind a bad record for later ones."""
    found: Any = ffi.new("walcore_ahead *")
    found.bad_lsn = bad_lsn
    found.lsn_max = bad_lsn + (header.limit_at - at) // lib.WALCORE_RECORD_HEADER_BYTES
    overlap = lib.WALCORE_RECORD_HEADER_BYTES - lib.WALCORE_RECORD_ALIGN_BYTES
    while at < header.limit_at:
        data = files.read_at(fd, min(_AHEAD_BYTES, header.limit_at - at), at)
        view = ffi.from_buffer("uint8_t[]", data)
        lib.walcore_look_ahead(view, len(view), at, header.seed, found)
        if len(data) <= overlap or at + len(data) >= header.limit_at:
            break
        at += len(data) - overlap
    return found


def _torn_end(fd: int, at: int, limit_at: int, found_end: int, stop: int) -> int:
    """Where the bytes of a torn group end: behind the last record that can be told, or, for
    bytes that say nothing, at the first sector of zeros."""
    if found_end > at:
        return min(found_end, limit_at)
    if stop == lib.WALCORE_SCAN_END:
        return at
    data = files.read_at(fd, min(limit_at - at, _GARBAGE_BYTES_MAX), at)
    for start in range(0, len(data), _SECTOR_BYTES):
        if not any(data[start : start + _SECTOR_BYTES]):
            return at + start
    return at + len(data)


def examine_tail(
    fd: int,
    path: str,
    header: SegmentHeader,
    meta: Meta,
    watermark: Watermark | None,
    *,
    live: bool = False,
) -> Tail:
    """Finds the end of the log in its last segment, and tells torn from damaged.

    Args:
        watermark: read before this is called.
        live: a writer is at work: what is behind the last good record may just be being written,
            and says nothing.

    Raises:
        CorruptLogError: entries that had been durable are damaged or missing.
    """
    scanner, at = _scan(fd, header, None)
    state = scanner.state
    stop = state.stop
    bad_at, bad_lsn = at, state.next_lsn
    reason = STOP_REASONS[stop]
    found: Any = ffi.new("walcore_ahead *") if live else _look_ahead(fd, header, at, bad_lsn)
    if found.proof_lsn:
        raise CorruptLogError(
            path,
            at,
            bad_lsn,
            f"{reason}, and entry {found.proof_lsn} at offset {found.proof_at} shows that it "
            "had been durable",
        )
    if state.batch_lsn:
        at, bad_lsn = state.batch_at, state.batch_lsn
        reason = f"the batch that starts here is not whole: at offset {bad_at}, {reason}"
    last_lsn = bad_lsn - 1
    if watermark and watermark.epoch == meta.epoch and watermark.durable_lsn > last_lsn:
        raise CorruptLogError(
            path, at, bad_lsn, f"{reason}, and the log had been synced to {watermark.durable_lsn}"
        )
    if meta.clean and meta.clean_lsn != last_lsn:
        raise CorruptLogError(
            path, at, bad_lsn, f"{reason}, and the log was closed at entry {meta.clean_lsn}"
        )
    torn = state.batch_lsn or found.valid_end or stop != lib.WALCORE_SCAN_END
    if live or not torn:
        return _result(scanner, header, at, None)
    if meta.clean:
        raise CorruptLogError(path, bad_at, bad_lsn, f"{reason}, in a log that was closed")
    end_at = _torn_end(fd, bad_at, header.limit_at, found.valid_end, stop)
    return _result(scanner, header, at, Cut(at, end_at, bad_lsn, reason))
