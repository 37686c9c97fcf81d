"""The files of a log: which segments it is made of, and which files merely lie beside them.

`meta` names the segment that is written to; each segment's header names the one before it. The
log is that chain, back to the segment that holds `first_lsn`. A segment file off the chain is a
leftover of a roll or a truncation that was under way: whatever it holds was never part of the
log, or no longer is.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from walstore.errors import CorruptLogError, UnsupportedFormatError
from walstore.limits import BLOCK_BYTES, LSN_MAX
from walstore.wal import files
from walstore.wal.meta import META_NAME, Meta
from walstore.wal.recovery import check_whole
from walstore.wal.segment import (
    RECORDS_AT,
    SEAL_AT,
    Seal,
    SegmentHeader,
    decode_header,
    decode_seal,
    parse_name,
    segment_name,
)

__all__ = [
    "CUT_PREFIX",
    "SPARE_PREFIX",
    "Layout",
    "Segment",
    "is_spare",
    "load_layout",
    "read_blocks",
]

SPARE_PREFIX = "spare-"
CUT_PREFIX = "cut-"


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of the chain.

    `last_lsn` is the last entry that counts; None for the one that is written to. Records behind
    it, if any, were truncated away.
    """

    path: str
    header: SegmentHeader
    seal: Seal | None
    last_lsn: int | None

    @property
    def first_lsn(self) -> int:
        """The lsn of its first record."""
        return self.header.first_lsn

    @property
    def scan_end(self) -> int:
        """Place in the file behind which no record of this segment lies."""
        return self.seal.end_at if self.seal else self.header.limit_at


@dataclass(frozen=True, slots=True)
class Layout:
    """The segments of a log in order, and the other names in its directory."""

    segments: tuple[Segment, ...]
    leftovers: tuple[str, ...]
    spares: tuple[str, ...]
    cuts: tuple[str, ...]
    strays: tuple[str, ...]
    segment_id_max: int


def is_spare(name: str) -> bool:
    """Whether this is a prepared or recycled file that waits to become a segment."""
    return name.startswith(SPARE_PREFIX) and name.endswith(".wal")


def is_cut(name: str) -> bool:
    """Whether this holds bytes that a recovery cut away."""
    return name.startswith(CUT_PREFIX) and name.endswith(".bin")


def read_blocks(path: str, expect_lsn: int) -> tuple[SegmentHeader, Seal | None, int]:
    """A segment file's header, its seal if it has a whole one, and its size.

    Raises:
        CorruptLogError, UnsupportedFormatError: the header is not one; names `expect_lsn`.
    """
    with files.opened(path) as fd:
        data = files.read_at(fd, RECORDS_AT, 0)
        size = files.size_of(fd)
    header = decode_header(data[:BLOCK_BYTES], path, expect_lsn)
    return header, decode_seal(data[SEAL_AT:], header), size


class _Chain:
    """Walks the chain back from the tail."""

    def __init__(self, path: str, meta: Meta, ids: dict[int, str]) -> None:
        self.path = path
        self.meta = meta
        self.ids = ids

    def _missing(self, segment_id: int, before_lsn: int | None) -> CorruptLogError:
        """A segment of the chain has no file; its first lsn is told by those before it."""
        known = [parse_name(name) for name in self.ids.values()]
        firsts = [
            first
            for first, other_id in (pair for pair in known if pair)
            if other_id < segment_id and (before_lsn is None or first < before_lsn)
        ]
        lsn = self.meta.first_lsn
        if firsts:
            name = self.ids[max(i for i in self.ids if i < segment_id)]
            _, seal, _ = read_blocks(os.path.join(self.path, name), max(firsts))
            lsn = max(lsn, seal.last_lsn + 1 if seal else max(firsts))
        until = "" if before_lsn is None else f", before the one that starts with {before_lsn}"
        return CorruptLogError(
            self.path, 0, lsn, f"the segment with id {segment_id:08x}{until} is missing"
        )

    def load(self, segment_id: int, successor: Segment | None) -> Segment:
        """The segment with this id, checked against the one that follows it."""
        before_lsn = successor.first_lsn if successor else None
        name = self.ids.get(segment_id)
        if name is None:
            raise self._missing(segment_id, before_lsn)
        path = os.path.join(self.path, name)
        named = parse_name(name)
        assert named is not None
        header, seal, size = read_blocks(path, named[0])
        last_lsn = None if before_lsn is None else before_lsn - 1
        if before_lsn is not None and header.first_lsn >= before_lsn:
            raise CorruptLogError(path, 0, named[0], "it starts behind the segment that follows")
        if header.log_id != self.meta.log_id:
            raise CorruptLogError(path, 0, named[0], "the segment belongs to another log")
        if (header.first_lsn, header.segment_id) != named:
            own = segment_name(header.first_lsn, header.segment_id)
            raise CorruptLogError(path, 0, named[0], f"its header says it is {own}")
        if seal and last_lsn is not None and seal.last_lsn < last_lsn:
            raise CorruptLogError(
                path, seal.end_at, seal.last_lsn + 1, f"entries up to {last_lsn} are missing"
            )
        if size < header.limit_at and last_lsn is not None:
            _refuse_short(path, header, last_lsn)
        return Segment(path, header, seal if last_lsn is not None else None, last_lsn)


def _refuse_short(path: str, header: SegmentHeader, last_lsn: int) -> None:
    """A full segment's file is shorter than it was made: finds out whether records are gone.

    Raises:
        CorruptLogError: they are; names the first.
    """
    with files.opened(path) as fd:
        check_whole(fd, path, header, last_lsn)


def _is_ours(path: str, name: str, meta: Meta) -> bool:
    """Whether a segment off the chain was made by this log; anything else is not ours to remove."""
    named = parse_name(name)
    assert named is not None
    try:
        header, _, _ = read_blocks(os.path.join(path, name), named[0])
    except (CorruptLogError, UnsupportedFormatError, FileNotFoundError):
        return False
    return header.log_id == meta.log_id and (header.first_lsn, header.segment_id) == named


def load_layout(path: str, meta: Meta) -> Layout:
    """Reads the directory and the header of each segment of the chain.

    Raises:
        CorruptLogError: a segment is missing, damaged, cut short or from another log.
        UnsupportedFormatError: a segment was written by a newer walstore.
    """
    names = files.list_directory(path)
    ids: dict[int, str] = {}
    for name in names:
        parsed = parse_name(name)
        # A copy under another name has the id of the real one, and a header that betrays it.
        if parsed and (parsed[1] not in ids or _is_ours(path, name, meta)):
            ids[parsed[1]] = name
    chain = _Chain(path, meta, ids)
    found = [chain.load(meta.tail_segment_id, None)]
    while found[-1].first_lsn > meta.first_lsn:
        found.append(chain.load(found[-1].header.prev_segment_id, found[-1]))
    found.reverse()
    used = {os.path.basename(segment.path) for segment in found}
    spares = tuple(name for name in names if is_spare(name))
    cuts = tuple(name for name in names if is_cut(name))
    unused = [name for name in ids.values() if name not in used]
    leftovers = tuple(name for name in unused if _is_ours(path, name, meta))
    known = {META_NAME, *used, *spares, *cuts, *leftovers}
    # A file that is not ours is not written over either; but its name must not use up all ids.
    taken = [i for i, name in ids.items() if name in known or i <= LSN_MAX]
    if max(taken) > LSN_MAX:
        name = ids[max(taken)]
        raise CorruptLogError(os.path.join(path, name), 0, 0, "its id makes no sense")
    return Layout(
        segments=tuple(found),
        leftovers=leftovers,
        spares=spares,
        cuts=cuts,
        strays=tuple(name for name in names if name not in known),
        segment_id_max=max(taken),
    )
