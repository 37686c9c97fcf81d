"""Cutting a damaged log back to what is sound, for a node that gets the rest from others.

Only where there are others: see docs/repair.md, "Cut, claim, follow". Nothing is deleted, and each
step may be cut short: doing it again gives the same log.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from walstore._native import ffi, lib
from walstore.errors import CorruptLogError
from walstore.limits import LSN_MAX
from walstore.wal import files
from walstore.wal.keeping import UnreadableError, copy_aside, free_name, kept_before, reading
from walstore.wal.layout import SPARE_PREFIX, Layout, Segment, read_blocks
from walstore.wal.meta import (
    META_NAME,
    Meta,
    Watermark,
    forget_committed,
    read_meta,
    read_watermark,
    weaker_copy,
    write_meta,
)
from walstore.wal.record import Scanner
from walstore.wal.recovery import examine_tail
from walstore.wal.scan import verify_range
from walstore.wal.segment import (
    RECORDS_AT,
    SegmentHeader,
    file_bytes,
    limit_for,
    new_salt,
    parse_name,
)
from walstore.wal.space import activate, make_zeroed
from walstore.wal.stale import refuse_later, refuse_stale

__all__ = ["Claim", "Mended", "cut_damage"]


class Claim(NamedTuple):
    """How far a log had been: it held entry `lsn`, of this term or an earlier one."""

    term: int
    lsn: int


@dataclass(frozen=True, slots=True)
class Mended:
    """What became of a damaged log.

    Attributes:
        last_lsn: the last entry that is left.
        claim: how far it had been.
        kept: the files that hold what was damaged, and all behind it.
    """

    last_lsn: int
    claim: Claim
    kept: tuple[str, ...]


class _End(NamedTuple):
    """Where sound entries end: the last one, its term, the segment it is in, if any, and whether
    that is sound to its end."""

    lsn: int
    term: int
    segment: Segment | None
    whole: bool


def cut_damage(
    path: str,
    meta_fd: int,
    segment_bytes: int,
    now_ns: int,
    entropy: Callable[[int], bytes],
    before: Callable[[Claim], None],
) -> Mended | None:
    """Reads all of a log and, where it is damaged, ends it before the first damaged entry; durable
    at return. None: it is sound, or torn as a crash leaves it.

    Args:
        path, meta_fd: the log, locked.
        segment_bytes: of the segment that is written to from then on.
        before: called with the claim before anything is changed; must make it durable.

    Raises:
        CorruptLogError: `meta` is damaged or older than the log: what it said is not to be had from
            others. Nothing is changed.
        UnsupportedFormatError: a segment was written by a newer walstore.
        OSError: the system refused; doing it again goes on.
    """
    meta = read_meta(meta_fd, os.path.join(path, META_NAME))
    if meta is None:
        return None
    names = [name for name in files.list_directory(path) if parse_name(name)]
    sound = _sound_segments(path, names, meta)
    _refuse_older_meta(path, meta, sound)
    chain = _front(meta, sound)
    tail = sound.get(meta.tail_segment_id)
    watermark = read_watermark(meta_fd, meta.log_id)
    claim = _claim(meta, tail, watermark)
    end, came_through = _sound_end(meta, chain)
    if came_through and claim is None:
        return None
    if claim is None:
        assert tail is not None
        claim = _end_of_tail(meta, tail, watermark)
    before(claim)
    kept = _keep_aside(path, names, chain, end)
    _begin_after(path, meta_fd, meta, end, segment_bytes, now_ns, entropy)
    return Mended(end.lsn, claim, kept)


# ---- which segments there are ----


def _sound_segments(path: str, names: list[str], meta: Meta) -> dict[int, Segment]:
    """Those of this log whose header is whole, by id."""
    found = {}
    for name in names:
        named = parse_name(name)
        assert named is not None
        whole = os.path.join(path, name)
        try:
            with reading():
                header, seal, _ = read_blocks(whole, named[0])
        except (CorruptLogError, UnreadableError):
            continue
        if header.log_id == meta.log_id and (header.first_lsn, header.segment_id) == named:
            found[header.segment_id] = Segment(whole, header, seal, None)
    return found


def _refuse_older_meta(path: str, meta: Meta, sound: dict[int, Segment]) -> None:
    tail = sound.get(meta.tail_segment_id)
    later = [segment for i, segment in sound.items() if i > meta.tail_segment_id]
    names = tuple(os.path.basename(segment.path) for segment in later)
    if tail is None:
        refuse_later(path, meta, names)
    else:
        refuse_stale(path, meta, Layout((tail,), names, (), (), (), meta.tail_segment_id))


def _front(meta: Meta, sound: dict[int, Segment]) -> list[Segment]:
    """The segments from the log's first entry on, up to the first one that is not sound. Where a
    link is lost, the newest segment before it is taken for the one it led to."""
    chain: list[Segment] = []
    wanted, before_lsn = meta.tail_segment_id, LSN_MAX + 1
    while True:
        segment = sound.get(wanted)
        if segment is None or segment.first_lsn >= before_lsn:
            chain.clear()
            older = [i for i, it in sound.items() if i < wanted and it.first_lsn < before_lsn]
            if not older:
                return []
            wanted = max(older)
            continue
        chain.append(segment)
        if segment.first_lsn <= meta.first_lsn:
            return chain[::-1]
        before_lsn, wanted = segment.first_lsn, segment.header.prev_segment_id


# ---- where sound entries end ----


def _scan(segment: Segment, last_lsn: int | None) -> Any:
    """The state of a scan of a segment, up to an entry or as far as its records are good."""
    header = segment.header
    scanner = Scanner(header.seed, header.first_lsn, header.prev_term, last_lsn)
    try:
        with files.opened(segment.path) as fd, reading():
            verify_range(fd, scanner, RECORDS_AT, header.limit_at, mapped=False)
    except UnreadableError:
        scanner.state.stop = lib.WALCORE_SCAN_SHORT
    return scanner.state


def _sound_end(meta: Meta, chain: list[Segment]) -> tuple[_End, bool]:
    """Reads segment after segment until a record is not good; whether it came to the last one."""
    end = _End(meta.first_lsn - 1, meta.prev_term, None, False)
    for i, segment in enumerate(chain):
        last_lsn = chain[i + 1].first_lsn - 1 if i + 1 < len(chain) else _known_last(segment)
        before = (segment.first_lsn - 1, segment.header.prev_term)
        if segment.first_lsn > meta.first_lsn and before != end[:2]:
            return end, False
        state = _scan(segment, last_lsn)
        reached = state.stop == lib.WALCORE_SCAN_LIMIT
        lsn, term = state.next_lsn - 1, state.term
        if state.batch_lsn and not reached:  # a batch is whole or absent
            lsn, term = state.batch_lsn - 1, state.batch_term
        if lsn >= max(segment.first_lsn, meta.first_lsn):
            end = _End(lsn, term, segment, reached)
        if not reached and segment.header.segment_id != meta.tail_segment_id:
            return end, False
    return end, bool(chain) and chain[-1].header.segment_id == meta.tail_segment_id


def _known_last(segment: Segment) -> int | None:
    """The last entry of a segment that had been followed by another: records behind it are dead."""
    return segment.seal.last_lsn if segment.seal else None


# ---- how far the log had been ----


def _end_of_tail(meta: Meta, tail: Segment, watermark: Watermark | None) -> Claim:
    with files.opened(tail.path) as fd:
        found = examine_tail(fd, tail.path, tail.header, meta, watermark)
    return Claim(found.last_term, found.next_lsn - 1)


def _claim(meta: Meta, tail: Segment | None, watermark: Watermark | None) -> Claim | None:
    """What a log claims whose last segment is damaged; None: it is sound."""
    if tail is not None:
        try:
            with reading():
                _end_of_tail(meta, tail, watermark)
        except (CorruptLogError, UnreadableError):
            pass
        else:
            return None
    if meta.clean:
        return Claim(meta.term, meta.clean_lsn)
    last_lsn = _last_proven(tail) if tail is not None else None
    if watermark and watermark.epoch == meta.epoch and watermark.durable_lsn > (last_lsn or 0):
        last_lsn = None  # records are gone from the end, and more of them than it says, perhaps
    # The watermark is never synced, so that it says nothing of where the end was. Where nothing
    # does, only what a later term has begun with is beyond it.
    return Claim(meta.term, LSN_MAX if last_lsn is None else last_lsn)


def _last_proven(tail: Segment) -> int | None:
    """The highest entry that a segment has, or had, as what is left of its records shows; None: the
    end of the file is gone, or cannot be read."""
    header, at = tail.header, 0
    try:
        with files.opened(tail.path) as fd, reading():
            data = memoryview(files.read_at(fd, files.size_of(fd), RECORDS_AT))
    except UnreadableError:
        return None
    if RECORDS_AT + len(data) < header.limit_at:
        return None
    scanner = Scanner(header.seed, header.first_lsn, header.prev_term)
    while True:
        scanner.verify(data, at, RECORDS_AT + at)
        at += scanner.state.consumed
        lsn = int(scanner.state.next_lsn)
        found = _look_ahead(data[at:], header, lsn)
        if not found.proof_lsn:
            return lsn - 1
        at += found.proof_at
        scanner = Scanner(header.seed, found.proof_lsn, 0)


def _look_ahead(data: memoryview, header: SegmentHeader, bad_lsn: int) -> Any:
    """Searches what is behind a bad record for a later one that shows it to have been durable."""
    found: Any = ffi.new("walcore_ahead *")
    found.bad_lsn = bad_lsn
    found.lsn_max = bad_lsn + len(data) // lib.WALCORE_RECORD_HEADER_BYTES
    if data:
        with ffi.from_buffer("uint8_t[]", data) as view:
            lib.walcore_look_ahead(view, len(data), 0, header.seed, found)
    return found


# ---- the change ----


def _keep_aside(path: str, names: list[str], chain: list[Segment], end: _End) -> tuple[str, ...]:
    """Renames what is damaged, and all behind it, and copies what stays in use in part."""
    at = chain.index(end.segment) if end.segment else -1
    stays = {os.path.basename(segment.path) for segment in chain[: at + 1]}
    kept = []
    if end.segment is not None and not end.whole:
        kept.append(kept_before(path, end.segment.path) or copy_aside(path, end.segment.path))
    for name in names:
        if name not in stays:
            target = free_name(path, name)
            files.rename(os.path.join(path, name), target)
            kept.append(target)
    files.sync_directory(path)
    return tuple(kept)


def _begin_after(
    path: str,
    meta_fd: int,
    meta: Meta,
    end: _End,
    segment_bytes: int,
    now_ns: int,
    entropy: Callable[[int], bytes],
) -> None:
    """Makes an empty segment behind the sound entries, and `meta` name it."""
    present = [named[1] for name in files.list_directory(path) if (named := parse_name(name))]
    segment_id = max([meta.tail_segment_id, *(i for i in present if i <= LSN_MAX)]) + 1
    header = SegmentHeader(
        log_id=meta.log_id,
        segment_id=segment_id,
        prev_segment_id=end.segment.header.segment_id if end.segment else 0,
        first_lsn=end.lsn + 1,
        term=meta.term,
        prev_term=end.term,
        created_ns=now_ns,
        limit_at=limit_for(segment_bytes),
        salt=new_salt(entropy),
    )
    spare = os.path.join(path, f"{SPARE_PREFIX}{segment_id:08x}-mended.wal")
    make_zeroed(spare, file_bytes(header.limit_at))
    _, fd = activate(path, spare, header)
    files.close(fd)
    meta_path = os.path.join(path, META_NAME)
    forget_committed(meta_fd, meta.log_id, meta.epoch + 1, meta_path)
    meta = meta.next(tail_segment_id=segment_id, epoch=meta.epoch + 1, clean=False, clean_lsn=0)
    write_meta(meta_fd, meta, meta_path, weaker_copy(meta_fd, meta_path))
