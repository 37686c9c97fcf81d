"""Reading entries out of segments, sealed or being written: by lsn, in order, or just to verify."""

from __future__ import annotations

import bisect
import os
import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from operator import lt
from typing import Protocol

import xxhash

from walstore._native import lib
from walstore.errors import (
    ClosedLogError,
    CorruptLogError,
    LogAccessError,
    LSNOutOfRangeError,
    WALStoreError,
)
from walstore.wal import files
from walstore.wal.layout import Segment
from walstore.wal.record import STOP_REASONS, Scanner, WALEntry, crc32c, entries_of
from walstore.wal.recovery import check_whole
from walstore.wal.scan import READ_WINDOW_BYTES, scan_rows, verify_range
from walstore.wal.segment import RECORDS_AT, encode_header

__all__ = [
    "Handle",
    "Place",
    "SegmentCache",
    "SegmentIndex",
    "Snapshot",
    "View",
    "damage",
    "explain_in",
    "find_segment",
    "read_entry",
    "replay",
    "start_of",
    "unreadable",
    "verify_segment",
]

_OPEN_SEGMENTS_MAX = 32


@dataclass(frozen=True, slots=True)
class Place:
    """A record that is at or before a wanted one: its lsn, where it is, where the next indexed
    one is."""

    lsn: int
    at: int
    to_at: int


class SegmentIndex:
    """The sparse index of a segment: which record starts each 16 KiB or so."""

    def __init__(self, first_lsn: int, pairs: bytes, end_at: int) -> None:
        raw = array("I", pairs)
        self._lsns = raw[0::2]
        self._places = raw[1::2]
        self._first_lsn = first_lsn
        self._end_at = end_at

    def is_plausible(self, last_lsn: int) -> bool:
        """Whether it can be that of a segment with these records: both columns rise, and lead
        nowhere else."""
        lsns, places = self._lsns, self._places
        return (
            all(map(lt, lsns, lsns[1:]))
            and all(map(lt, places, places[1:]))
            and (
                not lsns
                or (
                    self._first_lsn + lsns[-1] <= last_lsn
                    and places[0] * lib.WALCORE_RECORD_ALIGN_BYTES >= RECORDS_AT
                    and places[-1] * lib.WALCORE_RECORD_ALIGN_BYTES < self._end_at
                )
            )
        )

    def extended(self, pairs: bytes, end_at: int) -> SegmentIndex:
        """A longer one, with the pairs of the records that follow. This one stays as it is."""
        more = array("I", pairs)
        stride = lib.WALCORE_INDEX_STRIDE_BYTES // lib.WALCORE_RECORD_ALIGN_BYTES
        if more and self._places and more[1] // stride == self._places[-1] // stride:
            del more[:2]  # each scan notes its first record; this one's stride has its pair
        longer = SegmentIndex(self._first_lsn, b"", end_at)
        longer._lsns = self._lsns + more[0::2] if more else self._lsns
        longer._places = self._places + more[1::2] if more else self._places
        return longer

    def find(self, lsn: int) -> Place:
        """Where to start looking for an lsn."""
        i = bisect.bisect_right(self._lsns, lsn - self._first_lsn) - 1
        if i < 0:
            return Place(self._first_lsn, RECORDS_AT, self._end_at)
        align = lib.WALCORE_RECORD_ALIGN_BYTES
        more = i + 1 < len(self._places)
        to_at = self._places[i + 1] * align if more else self._end_at
        return Place(self._first_lsn + self._lsns[i], self._places[i] * align, to_at)


class Handle:
    """An open segment: descriptor, index, and how many are using it."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.seed = segment.header.seed
        self._head = encode_header(segment.header)
        self.fd = files.open_file(segment.path)
        self.users = 0
        self.retired = False
        self._index: SegmentIndex | None = None
        self._is_built = False

    def is_recycled(self) -> bool:
        """Whether the file has become another segment's meanwhile. Its header is written before
        anything else, so what was copied out before this says no is good."""
        return files.read_at(self.fd, len(self._head), 0) != self._head

    def index(self) -> SegmentIndex:
        """From the seal, or from the records where that is missing or damaged."""
        index = self._index
        if index is None:
            index = self._load_index() or self._build_index()
            if not self._is_built:  # by another thread, which found the seal's to be wrong
                self._index = index
        return index

    def rebuild_index(self) -> bool:
        """After a failed look where the seal's index led: builds it from the records, unless
        another thread has. False where records are damaged: it was not the index's fault."""
        if self.segment.last_lsn is None:
            return False
        if not self._is_built:
            try:
                self._build_index()
            except CorruptLogError:
                return False
        return True

    def _load_index(self) -> SegmentIndex | None:
        seal = self.segment.seal
        if seal is None:
            return None
        pairs = files.read_at(self.fd, seal.index_bytes, seal.end_at)
        if len(pairs) != seal.index_bytes or crc32c(pairs) != seal.index_crc:
            return None
        index = SegmentIndex(self.segment.first_lsn, pairs, seal.end_at)
        return index if index.is_plausible(seal.last_lsn) else None

    def _build_index(self) -> SegmentIndex:
        segment, last_lsn = self.segment, self.segment.last_lsn
        assert last_lsn is not None
        tail = check_whole(self.fd, segment.path, segment.header, last_lsn)
        index = SegmentIndex(segment.first_lsn, tail.index, tail.end_at)
        self._index, self._is_built = index, True
        return index


class SegmentCache:
    """Keeps recently read segments open, a bounded number of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handles: OrderedDict[int, Handle] = OrderedDict()
        self._closed = False

    @contextmanager
    def open(self, segment: Segment) -> Iterator[Handle]:
        """An open handle, kept from being closed meanwhile.

        Raises:
            FileNotFoundError: the segment was truncated away.
            ClosedLogError
        """
        handle = self.acquire(segment)
        try:
            yield handle
        finally:
            self.release(handle)

    def acquire(self, segment: Segment) -> Handle:
        """As `open`; the caller releases it."""
        with self._lock:
            if self._closed:
                raise ClosedLogError(f"{os.path.dirname(segment.path)} is closed")
            handle = self._handles.get(segment.header.segment_id)
            if handle is None or handle.segment is not segment:
                if handle is not None:  # out first: the file may be gone by now
                    del self._handles[segment.header.segment_id]
                    self._retire(handle)
                handle = self._handles[segment.header.segment_id] = Handle(segment)
                self._evict()
            self._handles.move_to_end(segment.header.segment_id)
            handle.users += 1
            return handle

    def release(self, handle: Handle) -> None:
        """Lets a handle be closed."""
        with self._lock:
            handle.users -= 1
            if handle.retired and handle.users == 0:
                files.close(handle.fd)

    def _retire(self, handle: Handle) -> None:
        handle.retired = True
        if handle.users == 0:
            files.close(handle.fd)

    def _evict(self) -> None:
        while len(self._handles) > _OPEN_SEGMENTS_MAX:
            _, oldest = self._handles.popitem(last=False)
            self._retire(oldest)

    def forget(self, segment: Segment) -> bool:
        """Drops a segment that left the log. False when somebody is still reading it."""
        with self._lock:
            handle = self._handles.pop(segment.header.segment_id, None)
            if handle is None:
                return True
            in_use = handle.users > 0
            self._retire(handle)
            return not in_use

    def close(self) -> None:
        """Closes all that nobody is reading; the rest closes when its reader is done."""
        with self._lock:
            self._closed = True
            for handle in self._handles.values():
                self._retire(handle)
            self._handles.clear()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a log held at one moment: entries first_lsn to last_lsn, all durable, in these
    segments. Taken as one, since between a look at the bounds and one at the segments a
    truncation may take entries out and appends may begin to give their lsns out again."""

    first_lsn: int
    last_lsn: int
    segments: tuple[Segment, ...]


class View(Protocol):
    """What reading needs of a log."""

    @property
    def cache(self) -> SegmentCache: ...

    def bounds(self) -> tuple[int, int]:
        """(first_lsn, last_lsn) of what may be read now."""

    def locate_in_tail(self, segment: Segment, lsn: int) -> Place:
        """Where to look in the segment that is being written."""

    def explain(self, error: CorruptLogError) -> Exception:
        """The error as it is, or, where the log moved on under the reader, what happened."""


def find_segment(segments: tuple[Segment, ...], lsn: int) -> int:
    """Index of the segment that holds an lsn."""
    return bisect.bisect_right(segments, lsn, key=lambda segment: segment.first_lsn) - 1


def explain_in(
    segments: tuple[Segment, ...], bounds: tuple[int, int], error: CorruptLogError
) -> Exception:
    """What damage means for a log that has these segments now: itself, or, where it is in none of
    them or behind what counts there, that the log moved on. Records before the first entry held
    stay as they were while their segment does."""
    first_lsn, last_lsn = bounds
    for segment in segments:
        last_here = last_lsn if segment.last_lsn is None else segment.last_lsn
        if segment.path == error.path and error.lsn <= last_here:
            return error
    return LSNOutOfRangeError(error.lsn, first_lsn, last_lsn)


def _place(view: View, handle: Handle, lsn: int) -> Place:
    if handle.segment.last_lsn is None:
        return view.locate_in_tail(handle.segment, lsn)
    try:
        return handle.index().find(lsn)
    except CorruptLogError as error:
        raise view.explain(error) from error


def start_of(view: View, handle: Handle, lsn: int) -> Place:
    """As `_place`, and a record is there, if the index is to blame where none is."""
    place = _place(view, handle, lsn)
    # Only a full segment's index comes from the disk. A live tail asks at every step.
    if place.at == RECORDS_AT or handle.segment.last_lsn is None:
        return place
    try:
        _read_from(view, handle, place, place.lsn)
    except CorruptLogError:
        if handle.rebuild_index():
            return _place(view, handle, lsn)
    return place


def damage(view: View, segment: Segment, scanner: Scanner) -> Exception:
    """Why a scan of a segment stopped, as an error."""
    state = scanner.state
    at = state.base_at + state.consumed
    return view.explain(CorruptLogError(segment.path, at, state.next_lsn, STOP_REASONS[state.stop]))


def _gone(view: View, lsn: int) -> LSNOutOfRangeError:
    first_lsn, last_lsn = view.bounds()
    return LSNOutOfRangeError(lsn, first_lsn, last_lsn)


def unreadable(view: View, segment: Segment, lsn: int, error: OSError) -> Exception:
    """What an error of the system's means for a reader."""
    if isinstance(error, WALStoreError):
        return error
    if isinstance(error, FileNotFoundError):
        return _gone(view, lsn)
    return LogAccessError(error.errno or 0, segment.path, "cannot read")


def read_entry(view: View, segments: tuple[Segment, ...], lsn: int) -> WALEntry:
    """One entry, its checksum verified. The caller has checked that these segments hold it."""
    i = find_segment(segments, lsn)
    if i < 0:
        raise _gone(view, lsn)
    segment = segments[i]
    try:
        handle = view.cache.acquire(segment)
        try:
            return _read_from(view, handle, _place(view, handle, lsn), lsn)
        except CorruptLogError:
            if not handle.rebuild_index():
                raise
            return _read_from(view, handle, _place(view, handle, lsn), lsn)
        finally:
            view.cache.release(handle)
    except OSError as error:
        raise unreadable(view, segment, lsn, error) from error


def _read_from(view: View, handle: Handle, place: Place, lsn: int) -> WALEntry:
    scanner = Scanner(handle.seed, place.lsn, handle.segment.header.prev_term)
    need, at = lib.WALCORE_RECORD_HEADER_BYTES, place.at
    while True:
        # A record that starts before the next indexed one and ends behind it is read by itself.
        size = max(min(place.to_at - at, READ_WINDOW_BYTES), need)
        data = files.read_at(handle.fd, size, at)
        entry = scanner.find(data, lsn)
        if entry is not None:
            return entry
        state = scanner.state
        at += state.consumed
        if state.stop != lib.WALCORE_SCAN_SHORT or (state.consumed == 0 and size >= state.need):
            state.base_at, state.consumed = at, 0
            raise damage(view, handle.segment, scanner)
        need = state.need


def replay(
    view: View, segments: tuple[Segment, ...], from_lsn: int, to_lsn: int
) -> Iterator[list[WALEntry]]:
    """Entries from_lsn to to_lsn in order, in runs: chain them. The caller has checked that
    these segments hold them."""
    i = find_segment(segments, from_lsn)
    lsn = from_lsn
    while lsn <= to_lsn:
        if i < 0:
            raise _gone(view, lsn)
        segment = segments[i]
        i += 1
        last_lsn = to_lsn if segment.last_lsn is None else min(to_lsn, segment.last_lsn)
        try:
            with view.cache.open(segment) as handle:
                yield from _replay_segment(view, handle, lsn, last_lsn)
        except OSError as error:
            raise unreadable(view, segment, lsn, error) from error
        lsn = last_lsn + 1


def _replay_segment(
    view: View, handle: Handle, from_lsn: int, last_lsn: int
) -> Iterator[list[WALEntry]]:
    segment, header = handle.segment, handle.segment.header
    place = start_of(view, handle, from_lsn)
    mapped = segment.last_lsn is not None
    end_at = segment.scan_end
    scanner = Scanner(handle.seed, place.lsn, header.prev_term, from_lsn - 1)
    at = place.at
    if place.lsn < from_lsn:
        at = verify_range(handle.fd, scanner, at, end_at, mapped=False)
        if scanner.state.stop != lib.WALCORE_SCAN_LIMIT:
            raise damage(view, segment, scanner)
    scanner.state.stop_lsn = last_lsn
    with closing(scan_rows(handle.fd, scanner, at, end_at, mapped=mapped)) as runs:
        for data, start, rows in runs:
            entries = entries_of(data, start, rows)
            # A map shows the file as it is, also when it is reused under the reader's hands.
            if mapped and handle.is_recycled():
                raise _gone(view, entries[0].lsn)
            yield entries
    if scanner.state.stop != lib.WALCORE_SCAN_LIMIT:
        raise damage(view, segment, scanner)


def verify_segment(view: View, segment: Segment, last_lsn: int) -> tuple[Scanner, int, bool]:
    """Checks every record of a segment up to `last_lsn`. Returns the scanner, where it stopped,
    and whether the records are those that were sealed, as far as a seal says so;
    `scanner.state.stop` is SCAN_LIMIT when all are good."""
    header, seal = segment.header, segment.seal
    mapped = segment.last_lsn is not None
    digest = xxhash.xxh3_64() if seal and seal.last_lsn == last_lsn else None
    scanner = Scanner(header.seed, header.first_lsn, header.prev_term, last_lsn)
    with view.cache.open(segment) as handle:
        at = verify_range(
            handle.fd, scanner, RECORDS_AT, segment.scan_end, mapped=mapped, digest=digest
        )
    if seal is None or digest is None:
        return scanner, at, True
    return scanner, at, at == seal.end_at and digest.intdigest() == seal.records_xxh3
