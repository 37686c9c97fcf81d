"""The tail of a log: a whole segment file of hostile bytes is judged, mended and judged again."""

from __future__ import annotations

import os
from dataclasses import replace

from tests.fuzz.fix import fix_records, take
from walstore.errors import CorruptLogError
from walstore.wal.meta import Meta, Watermark
from walstore.wal.recovery import Tail, check_whole, examine_tail
from walstore.wal.segment import (
    RECORDS_AT,
    SegmentHeader,
    decode_header,
    encode_header,
    file_bytes,
)

__all__ = ["one_input"]

FIRST_LSN = 5
LOG_ID = bytes(range(16))
ROOM_BYTES = 1024
HEADER = SegmentHeader(LOG_ID, 2, 1, FIRST_LSN, 1, 1, 1000, RECORDS_AT + ROOM_BYTES, 0x55AA)
META = Meta(LOG_ID, 1, 3, 1, 1, 0, 2, False, 0)
HEAD = encode_header(HEADER)
assert decode_header(HEAD, "path", FIRST_LSN) == HEADER
SEED = HEADER.seed

_fd = os.memfd_create("segment")


def one_input(data: bytes) -> None:
    """Judges the input as the records of a log's last segment."""
    (choices,), records = take(data, 4)
    choice = choices[0]
    if choice & 1:
        records = fix_records(records, SEED, FIRST_LSN)
    header = replace(HEADER, limit_at=RECORDS_AT + 8 * (1 + choices[3] % (ROOM_BYTES // 8)))
    meta = replace(META, clean=bool(choice & 2), clean_lsn=FIRST_LSN - 1 + choices[1] % 8)
    mark = Watermark(1, 3 + (choice >> 2 & 1), FIRST_LSN - 1 + choices[2] % 8)
    _fill(records, header, short=bool(choice & 8))
    judge(header, meta, mark if choice & 16 else None)


def _fill(records: bytes, header: SegmentHeader, *, short: bool) -> None:
    """The file; cut off behind the input, when it is to be short."""
    os.ftruncate(_fd, 0)
    os.pwrite(_fd, HEAD, 0)
    os.pwrite(_fd, records[: header.limit_at - RECORDS_AT], RECORDS_AT)
    if not short:
        os.ftruncate(_fd, file_bytes(header.limit_at))


def judge(header: SegmentHeader, meta: Meta, mark: Watermark | None) -> None:
    """Judges the file, and holds the verdict against what it is when the tail was mended."""
    live = examine_live(header, meta, mark)
    try:
        tail = examine_tail(_fd, "path", header, meta, mark)
    except CorruptLogError as error:
        check_refusal(error, header)
        return
    assert live is not None, "what a writer at work leaves room for, recovery must too"
    assert live == replace(tail, cut=None)
    check(tail, header)
    assert not meta.clean or (tail.cut is None and tail.next_lsn == meta.clean_lsn + 1)
    if mark and mark.epoch == meta.epoch:
        assert tail.next_lsn > mark.durable_lsn
    if tail.cut:
        os.pwrite(_fd, bytes(tail.cut.end_at - tail.cut.at), tail.cut.at)
        mended = examine_tail(_fd, "path", header, meta, mark)
        assert mended.cut is None, "what was mended is whole"
        assert (mended.next_lsn, mended.end_at) == (tail.next_lsn, tail.end_at)
        assert (mended.index, mended.last_term) == (tail.index, tail.last_term)
    assert check_whole(_fd, "path", header, tail.next_lsn - 1).end_at == tail.end_at


def examine_live(header: SegmentHeader, meta: Meta, mark: Watermark | None) -> Tail | None:
    """The verdict of a reader beside a writer at work."""
    try:
        return examine_tail(_fd, "path", header, meta, mark, live=True)
    except CorruptLogError:
        return None


def check_refusal(error: CorruptLogError, header: SegmentHeader) -> None:
    """What is said of damage lies in the segment."""
    assert RECORDS_AT <= error.offset <= header.limit_at
    assert error.lsn >= header.first_lsn


def check(tail: Tail, header: SegmentHeader) -> None:
    """What is said of a tail fits together."""
    assert RECORDS_AT <= tail.end_at <= header.limit_at
    assert tail.end_at - RECORDS_AT >= (tail.next_lsn - header.first_lsn) * 48
    assert tail.last_term >= header.prev_term
    assert len(tail.index) % 8 == 0
    if tail.cut:
        assert (tail.cut.at, tail.cut.lsn) == (tail.end_at, tail.next_lsn)
        assert tail.cut.at < tail.cut.end_at <= header.limit_at
