"""Raw records: whole batches as they lie in a segment, to be sent and appended as they are."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from walstore._native import ffi, lib
from walstore.errors import CorruptLogError, LSNOutOfRangeError, RefusedRecordsError
from walstore.wal import files
from walstore.wal.layout import Segment
from walstore.wal.reading import Handle, damage, find_segment, start_of, unreadable
from walstore.wal.record import CONFIGURATION, STOP_REASONS, Scanner, entries_of
from walstore.wal.scan import verify_range
from walstore.wal.segment import RECORDS_AT

if TYPE_CHECKING:
    from walstore.wal.writing import LogWriter

__all__ = [
    "RecordReader",
    "Records",
    "check_records",
    "configurations_in",
    "normalized",
    "parse_records",
    "skip_records",
    "term_runs",
]

_TERM, _TERM_AT = struct.Struct("<Q"), 16  # docs/format.md, "Records"


class Records(NamedTuple):
    """The bytes of whole batches.

    Attributes:
        seed: of the segment they lie in; each header's checksum starts from it.
        first_lsn, last_lsn: the entries.
        prev_term: the term of the entry before the first.
        last_term: the term of the last.
        data: the records, end to end.
        configurations: how many of them are of kind CONFIGURATION, where they were counted.
    """

    seed: int
    first_lsn: int
    last_lsn: int
    prev_term: int
    last_term: int
    data: bytes | memoryview
    configurations: int = 0


def _check(records: Records, *, headers_only: bool, split_lsn: int = 0, runs_max: int = 0) -> Any:
    """Looks at every record. Returns the walcore_records, and the runs."""
    found: Any = ffi.new("walcore_records *")
    found.seed = records.seed
    found.first_lsn = records.first_lsn
    found.prev_term = records.prev_term
    found.split_lsn = split_lsn
    runs: Any = ffi.new("uint64_t[]", 2 * runs_max) if runs_max else ffi.NULL
    with ffi.from_buffer("uint8_t[]", records.data) as view:
        good = lib.walcore_check_records(view, len(view), headers_only, found, runs, runs_max)
    if not good:
        raise RefusedRecordsError(found.bad_lsn, STOP_REASONS[found.stop])
    if records.last_lsn and (found.last_lsn, found.last_term) != records[2:5:2]:
        raise RefusedRecordsError(found.last_lsn, f"they should end with {records.last_lsn}")
    return found, runs


def check_records(records: Records) -> None:
    """Checks every checksum, that lsns are dense, terms do not go back and batches are whole.

    Raises:
        RefusedRecordsError: they are not what they should be.
    """
    _check(records, headers_only=False)


def parse_records(data: bytes | memoryview, *, seed: int, prev_lsn: int, prev_term: int) -> Records:
    """The records that are to follow an entry, their headers checked.

    Raises:
        RefusedRecordsError: `data` is not whole batches of records that follow it.
    """
    found, _ = _check(Records(seed, prev_lsn + 1, 0, prev_term, 0, data), headers_only=True)
    return Records(
        seed, prev_lsn + 1, found.last_lsn, prev_term, found.last_term, data, found.configurations
    )


def term_runs(records: Records) -> tuple[tuple[int, int], ...]:
    """(first lsn, term) of each run of entries of one term.

    Raises:
        RefusedRecordsError: a header is not good.
    """
    (first_term,) = _TERM.unpack_from(records.data, _TERM_AT)
    if first_term == records.last_term:  # terms do not go back, so that all are of this one
        return ((records.first_lsn, first_term),)
    runs_max = 8
    while True:
        found, runs = _check(records, headers_only=True, runs_max=runs_max)
        if found.runs <= runs_max:
            return tuple((runs[2 * i], runs[2 * i + 1]) for i in range(found.runs))
        runs_max = found.runs


def configurations_in(records: Records) -> tuple[tuple[int, bytes], ...]:
    """Lsn and payload of each record of kind CONFIGURATION, of records that were parsed.

    Raises:
        RefusedRecordsError: a record is not good.
    """
    if not records.configurations:
        return ()
    scanner = Scanner(records.seed, records.first_lsn, records.prev_term)
    data, at, found = bytes(records.data), 0, list[tuple[int, bytes]]()
    while at < len(data):
        entries = entries_of(data, at, scanner.decode(data, at, 0))
        if not entries:
            raise RefusedRecordsError(scanner.state.next_lsn, STOP_REASONS[scanner.state.stop])
        found += ((entry.lsn, entry.payload) for entry in entries if entry.kind == CONFIGURATION)
        at += scanner.state.consumed
    return tuple(found)


def normalized(records: Records) -> bytearray:
    """The bytes of records that were checked, less what is different on other nodes that hold the
    same entries."""
    copy = bytearray(records.data)
    with ffi.from_buffer("uint8_t[]", copy) as view:
        lib.walcore_normalize(view, len(view))
    return copy


def skip_records(records: Records, from_lsn: int) -> Records:
    """The same without the entries before `from_lsn`, which is one of them.

    Raises:
        RefusedRecordsError: a header is not good.
    """
    assert records.first_lsn <= from_lsn <= records.last_lsn
    if from_lsn == records.first_lsn:
        return records
    found, _ = _check(records, headers_only=True, split_lsn=from_lsn)
    return records._replace(
        first_lsn=from_lsn,
        prev_term=found.split_term,
        data=memoryview(records.data)[found.split_at :],
    )


class RecordReader:
    """Reads raw records in order and remembers where it was: one for each follower.

    It reads what is written, durable or not, while appends, rolls and truncations go on. Not for
    several threads at once.
    """

    def __init__(self, log: LogWriter) -> None:
        self._log = log
        self._generation = -1
        self._segment_id = 0
        self._lsn = 0
        self._at = 0
        self._term = 0

    def read(self, from_lsn: int, bytes_max: int, to_lsn: int) -> Records:
        """The batches from the one that begins with `from_lsn` on, about `bytes_max` bytes but at
        least one, up to `to_lsn` at the most, and of one segment. All checksums are verified.

        Raises:
            LSNOutOfRangeError: the log does not hold the range, or `to_lsn` is in the middle of
                the first batch.
            CorruptLogError, LogAccessError, ClosedLogError
        """
        log = self._log
        while True:
            generation = log.generation()
            segments = log.segments_in(generation)
            first_lsn, written_lsn = log.meta.first_lsn, lib.walcore_written_lsn(log.group.raw)
            try:
                if not first_lsn <= from_lsn <= to_lsn <= written_lsn:
                    wrong = to_lsn if from_lsn >= first_lsn else from_lsn
                    raise LSNOutOfRangeError(wrong, first_lsn, written_lsn)
                if segments is not None:
                    records = self._read(generation, segments, from_lsn, bytes_max, to_lsn)
                    if log.generation() == generation:
                        return records
            except (LSNOutOfRangeError, CorruptLogError):
                if log.segments_in(generation) is not None:
                    raise

    def chunks(self, from_lsn: int, bytes_max: int, to_lsn: int) -> Iterator[Records]:
        """All batches from the one that begins with `from_lsn` on, up to `to_lsn`, one `read` after
        the other; none where that is before `from_lsn`.

        Raises:
            As `read`, when it comes to what the log does not hold.
        """
        while from_lsn <= to_lsn:
            records = self.read(from_lsn, bytes_max, to_lsn)
            yield records
            from_lsn = records.last_lsn + 1

    def _read(
        self,
        generation: int,
        segments: tuple[Segment, ...],
        from_lsn: int,
        bytes_max: int,
        to_lsn: int,
    ) -> Records:
        log, segment = self._log, segments[find_segment(segments, from_lsn)]
        here = (generation, segment.header.segment_id, from_lsn)
        try:
            with log.cache.open(segment) as handle:
                if here != (self._generation, self._segment_id, self._lsn):
                    self._at, self._term = _find(log, handle, from_lsn)
                    self._generation, self._segment_id, self._lsn = here
                records = self._read_batches(handle, bytes_max, to_lsn)
        except OSError as error:
            raise unreadable(log, segment, from_lsn, error) from error
        self._lsn = records.last_lsn + 1
        self._at += len(records.data)
        self._term = records.last_term
        return records

    def _read_batches(self, handle: Handle, bytes_max: int, to_lsn: int) -> Records:
        segment, at = handle.segment, self._at
        last_lsn, end_at = segment.last_lsn, segment.scan_end
        if last_lsn is None or to_lsn < last_lsn:
            last_lsn = to_lsn
        if segment.last_lsn is None:  # zeros behind what is written need not be looked at
            end_at = min(end_at, max(self._log.group.shared.written_at, at))
        size = max(bytes_max, lib.WALCORE_RECORD_HEADER_BYTES)
        while True:
            data = files.read_at(handle.fd, min(size, end_at - at), at)
            scanner = Scanner(handle.seed, self._lsn, self._term, last_lsn)
            scanner.verify(data, 0, at)
            state = scanner.state
            ended = state.stop == lib.WALCORE_SCAN_LIMIT
            if not state.batch_lsn:
                good, end_lsn, term = state.consumed, state.next_lsn - 1, state.term
            elif ended and last_lsn == segment.last_lsn:  # a truncation took the rest of the batch
                good, end_lsn, term = state.consumed, last_lsn, state.term
                data = _end_batch(data[:good], handle.seed)
            else:
                good, end_lsn, term = state.batch_at - at, state.batch_lsn - 1, state.batch_term
            if good:
                whole = data if len(data) == good else data[:good]
                return Records(handle.seed, self._lsn, end_lsn, self._term, term, whole)
            if ended:
                raise LSNOutOfRangeError(last_lsn, *self._log.bounds())
            if end_at < segment.scan_end:  # the writer has gone on to another segment
                end_at = segment.scan_end
                continue
            if state.stop != lib.WALCORE_SCAN_SHORT or at + len(data) >= segment.scan_end:
                raise damage(self._log, segment, scanner)
            size = max(2 * size, state.consumed + state.need)


def _find(log: LogWriter, handle: Handle, lsn: int) -> tuple[int, int]:
    """Where a record is, and the term of the one before it."""
    segment = handle.segment
    if lsn == segment.first_lsn:
        return RECORDS_AT, segment.header.prev_term
    place = start_of(log, handle, lsn - 1)  # from a record before it: the term is read there
    scanner = Scanner(handle.seed, place.lsn, segment.header.prev_term, lsn - 1)
    at = verify_range(handle.fd, scanner, place.at, segment.scan_end, mapped=False)
    if scanner.state.stop != lib.WALCORE_SCAN_LIMIT:
        raise damage(log, segment, scanner)
    return at, scanner.state.term


def _end_batch(data: bytes, seed: int) -> bytes:
    copy = bytearray(data)
    with ffi.from_buffer("uint8_t[]", copy) as view:
        lib.walcore_end_batch(view, len(view), seed)
    return bytes(copy)
