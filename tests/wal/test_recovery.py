"""The judgement of a tail: torn or corrupt, rule by rule of docs/format.md, from raw bytes."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.native import twin
from tests.native.twin import MORE, Record
from tests.wal import raw
from tests.wal.raw import RECORDS_AT, encode_all, header_of, meta_of
from walstore.errors import CorruptLogError
from walstore.wal.meta import Meta, Watermark
from walstore.wal.recovery import Cut, Tail, check_whole, cut_index, examine_tail
from walstore.wal.segment import SegmentHeader

HEADER = header_of(prev_term=3)
SEED = raw.seed_of(HEADER)
OPEN = meta_of()


def record(lsn: int, durable_lsn: int = 0, size: int = 100, flags: int = 0) -> Record:
    return Record(
        lsn,
        term=3 + lsn,
        timestamp_ns=1000 * lsn,
        durable_lsn=durable_lsn,
        flags=flags,
        payload=bytes([lsn]) * size,
    )


GOOD = encode_all([record(1), record(2, 1), record(3, 1)], SEED)
END = RECORDS_AT + len(GOOD)
TOTAL = 152  # of one record
LAST = END - TOTAL


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def in_file(
    tmp_path: Path, records: bytes, *, header: SegmentHeader = HEADER, size: int | None = None
) -> tuple[int, str]:
    path = tmp_path / "segment"
    path.write_bytes(raw.segment_bytes(header, records)[:size])
    return os.open(path, os.O_RDONLY), str(path)


def judge(
    tmp_path: Path,
    records: bytes,
    *,
    header: SegmentHeader = HEADER,
    meta: Meta = OPEN,
    mark: Watermark | None = None,
    live: bool = False,
    size: int | None = None,
) -> Tail:
    """The verdict on a segment with these bytes where its records are."""
    fd, path = in_file(tmp_path, records, header=header, size=size)
    try:
        tail = examine_tail(fd, path, header, meta, mark, live=live)
    finally:
        os.close(fd)
    return tail


def refused(
    tmp_path: Path,
    records: bytes,
    at: int,
    lsn: int,
    words: str,
    *,
    header: SegmentHeader = HEADER,
    meta: Meta = OPEN,
    mark: Watermark | None = None,
    live: bool = False,
) -> None:
    """The verdict is corruption, at this place and lsn."""
    with pytest.raises(CorruptLogError, match=words) as caught:
        judge(tmp_path, records, header=header, meta=meta, mark=mark, live=live)
    assert caught.value.path == str(tmp_path / "segment")
    assert (caught.value.offset, caught.value.lsn) == (at, lsn)


# What is whole.


def test_an_empty_segment(tmp_path: Path) -> None:
    tail = judge(tmp_path, b"", header=header_of(41, prev_term=3))
    assert (tail.next_lsn, tail.last_term, tail.end_at) == (41, 3, RECORDS_AT)
    assert (tail.proven_lsn, tail.index) == (0, b"")
    assert tail.cut is None


def test_good_records_are_summed_up(tmp_path: Path) -> None:
    tail = judge(tmp_path, GOOD)
    assert tail == Tail(
        next_lsn=4,
        last_term=6,
        end_at=END,
        proven_lsn=1,
        index=struct.pack("<II", 0, RECORDS_AT // 8),
        cut=None,
    )


def test_records_up_to_the_very_limit(tmp_path: Path) -> None:
    header = header_of(limit_at=END)
    tail = judge(
        tmp_path, encode_all([record(i) for i in (1, 2, 3)], raw.seed_of(header)), header=header
    )
    assert (tail.next_lsn, tail.end_at, tail.cut) == (4, END, None)


def test_bytes_of_an_earlier_life_of_the_file_say_nothing(tmp_path: Path) -> None:
    """A hole, and behind it records of another segment that cover everything."""
    old = encode_all([record(4, 3), record(5, 4)], SEED ^ 1)
    tail = judge(tmp_path, GOOD + bytes(48) + old)
    assert (tail.next_lsn, tail.end_at, tail.cut) == (4, END, None)


# Torn: nothing shows that it had been durable.


@pytest.mark.parametrize(
    ("at", "words"),
    [(0, "header"), (9, "header"), (41, "header"), (48, "payload"), (151, "payload")],
)
def test_a_damaged_last_record_is_torn(tmp_path: Path, at: int, words: str) -> None:
    tail = judge(tmp_path, damaged(GOOD, 2 * TOTAL + at))
    assert (tail.next_lsn, tail.last_term, tail.end_at) == (3, 5, LAST)
    assert tail.cut is not None
    assert (tail.cut.at, tail.cut.lsn) == (LAST, 3)
    assert tail.cut.end_at >= END
    assert words in tail.cut.reason


@pytest.mark.parametrize("size", [48, 56, 151])
def test_a_file_that_ends_inside_the_last_record_is_torn(tmp_path: Path, size: int) -> None:
    tail = judge(tmp_path, GOOD, size=LAST + size)
    assert tail.cut == Cut(LAST, END, 3, "the file ends inside a record")


def test_a_later_record_of_the_same_group_is_still_torn(tmp_path: Path) -> None:
    """Sectors of a group that was not synced reach the disk in any order."""
    later = encode_all([record(5, 3), record(6, 3)], SEED)
    tail = judge(tmp_path, GOOD + bytes(TOTAL) + later)
    assert tail.next_lsn == 4
    assert tail.cut is not None
    assert (tail.cut.at, tail.cut.end_at, tail.cut.lsn) == (END, END + 3 * TOTAL, 4)


def test_a_later_header_that_is_damaged_proves_nothing(tmp_path: Path) -> None:
    later = damaged(encode_all([record(5, 4)], SEED), 32)
    tail = judge(tmp_path, GOOD + b"\1" * 8 + bytes(TOTAL - 8) + later)
    assert tail.cut is not None
    assert tail.cut.lsn == 4


def test_an_earlier_record_s_copy_proves_nothing(tmp_path: Path) -> None:
    """Its lsn is lower than that of the hole, so it was never written behind it."""
    tail = judge(tmp_path, GOOD + bytes(TOTAL) + encode_all([record(2, 1)], SEED))
    assert (tail.next_lsn, tail.cut) == (4, None)


def test_a_header_with_an_lsn_that_cannot_lie_here_proves_nothing(tmp_path: Path) -> None:
    far = encode_all([Record(1 << 40, durable_lsn=(1 << 40) - 1)], SEED)
    tail = judge(tmp_path, GOOD + bytes(TOTAL) + far)
    assert (tail.next_lsn, tail.cut) == (4, None)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Record(4, term=9, kind=0), "no writer produces"),
        (Record(4, term=9, flags=2), "no writer produces"),
        (Record(4, term=9, durable_lsn=4), "no writer produces"),
        (Record(7, term=9), "not the next"),
        (Record(3, term=9), "not the next"),
        (Record(4, term=5), "term is older"),
    ],
)
def test_a_whole_record_that_cannot_be_next_is_cut(tmp_path: Path, bad: Record, words: str) -> None:
    tail = judge(tmp_path, GOOD + encode_all([bad], SEED))
    assert (tail.next_lsn, tail.last_term, tail.end_at) == (4, 6, END)
    assert tail.cut is not None
    assert (tail.cut.at, tail.cut.lsn) == (END, 4)
    assert tail.cut.end_at > END
    assert words in tail.cut.reason


@pytest.mark.parametrize(("size", "end"), [(1, 512), (512, 512), (513, 1024), (1500, 1536)])
def test_garbage_is_cut_up_to_the_first_sector_of_zeros(
    tmp_path: Path, size: int, end: int
) -> None:
    tail = judge(tmp_path, GOOD + b"\xee" * size + bytes(1024) + b"\xee")
    assert tail.cut is not None
    assert (tail.cut.at, tail.cut.end_at) == (END, END + end)


def test_garbage_up_to_the_limit_is_cut_up_to_the_limit(tmp_path: Path) -> None:
    tail = judge(tmp_path, GOOD + b"\xee" * (HEADER.limit_at - END + 100))
    assert tail.cut is not None
    assert (tail.cut.at, tail.cut.end_at) == (END, HEADER.limit_at)


# Corrupt by a later header.


@pytest.mark.parametrize("lsn", [1, 2, 3])
def test_a_later_header_that_covers_the_place_makes_it_corruption(tmp_path: Path, lsn: int) -> None:
    records = encode_all([record(1), record(2), record(3), record(4, 3)], SEED)
    at = (lsn - 1) * TOTAL
    words = f"entry 4 at offset {END} shows"
    refused(tmp_path, damaged(records, at + 60), RECORDS_AT + at, lsn, words)


@pytest.mark.parametrize("durable_lsn", [0, 2, 3, 4])
def test_only_a_durable_lsn_that_reaches_the_place_is_proof(
    tmp_path: Path, durable_lsn: int
) -> None:
    records = damaged(GOOD, 2 * TOTAL) + bytes(TOTAL) + encode_all([record(5, durable_lsn)], SEED)
    if durable_lsn >= 3:
        refused(tmp_path, records, LAST, 3, "entry 5")
    else:
        tail = judge(tmp_path, records)
        assert tail.cut is not None
        assert (tail.cut.at, tail.cut.end_at, tail.cut.lsn) == (LAST, END + 2 * TOTAL, 3)


def test_a_later_header_is_proof_without_its_payload(tmp_path: Path) -> None:
    later = encode_all([record(4, 3)], SEED)[:48]
    refused(tmp_path, damaged(GOOD, 2 * TOTAL + 70) + later, LAST, 3, "payload.*entry 4")


def test_a_hole_is_corruption_too_when_a_later_header_covers_it(tmp_path: Path) -> None:
    later = encode_all([record(5, 4)], SEED)
    refused(tmp_path, GOOD + bytes(TOTAL) + later, END, 4, "no record was written")


def test_a_damaged_length_does_not_hide_the_proof(tmp_path: Path) -> None:
    """A length whose checksum fits sends a walk over the records past the proof."""
    hostile = bytearray(GOOD)
    struct.pack_into("<I", hostile, 2 * TOTAL + 40, 3000)
    fields = bytes(hostile[2 * TOTAL + 4 : 2 * TOTAL + 48])
    struct.pack_into("<I", hostile, 2 * TOTAL, twin.crc32c(fields, SEED))
    refused(tmp_path, bytes(hostile) + encode_all([record(4, 3)], SEED), LAST, 3, "entry 4")


@pytest.mark.parametrize("shift", range(0, 64, 8))
def test_the_proof_is_searched_at_every_eight_bytes(tmp_path: Path, shift: int) -> None:
    later = encode_all([record(5, 4)], SEED)
    refused(tmp_path, GOOD + b"\xee" * 8 + bytes(shift) + later, END, 4, "entry 5")


@pytest.mark.parametrize("back", [0, 8, 40, 48, 56])
def test_the_proof_may_lie_across_two_windows_of_the_search(tmp_path: Path, back: int) -> None:
    window = 256 << 10
    header = header_of(limit_at=RECORDS_AT + 3 * window)
    later = encode_all([Record(2, durable_lsn=1)], raw.seed_of(header))
    records = bytes(window - back) + later
    refused(tmp_path, records, RECORDS_AT, 1, "entry 2", header=header)


def test_the_proof_may_be_the_last_bytes_before_the_limit(tmp_path: Path) -> None:
    later = encode_all([Record(5, durable_lsn=4)], SEED)
    room = HEADER.limit_at - END - len(later)
    refused(tmp_path, GOOD + bytes(room) + later, END, 4, "entry 5")


def test_what_lies_behind_the_limit_is_no_proof(tmp_path: Path) -> None:
    later = encode_all([Record(5, durable_lsn=4)], SEED)
    tail = judge(tmp_path, GOOD + bytes(HEADER.limit_at - END) + later)
    assert (tail.next_lsn, tail.cut) == (4, None)


# The watermark.


@pytest.mark.parametrize("records", [GOOD, damaged(GOOD, 2 * TOTAL)], ids=["zeros", "damage"])
def test_a_watermark_ahead_makes_it_corruption(tmp_path: Path, records: bytes) -> None:
    at, lsn = (END, 4) if records == GOOD else (LAST, 3)
    words = f"synced to {lsn}"
    refused(tmp_path, records, at, lsn, words, mark=Watermark(1, 0, lsn))


def test_a_watermark_at_the_last_good_entry_is_no_proof(tmp_path: Path) -> None:
    assert judge(tmp_path, GOOD, mark=Watermark(1, 0, 3)).cut is None
    tail = judge(tmp_path, damaged(GOOD, 2 * TOTAL), mark=Watermark(1, 0, 2))
    assert tail.cut is not None


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_watermark_of_another_epoch_does_not_count(tmp_path: Path, epoch: int) -> None:
    tail = judge(tmp_path, GOOD, meta=meta_of(epoch=2), mark=Watermark(1, epoch, 99))
    assert (tail.next_lsn, tail.cut) == (4, None)


# The mark of a clean close.


def test_a_log_that_was_closed_is_whole(tmp_path: Path) -> None:
    tail = judge(tmp_path, GOOD, meta=meta_of(clean=1, clean_lsn=3))
    assert (tail.next_lsn, tail.cut) == (4, None)


@pytest.mark.parametrize("clean_lsn", [2, 4])
def test_another_end_than_the_close_s_is_corruption(tmp_path: Path, clean_lsn: int) -> None:
    """Also when nothing but zeros follows."""
    meta = meta_of(clean=1, clean_lsn=clean_lsn)
    refused(tmp_path, GOOD, END, 4, f"closed at entry {clean_lsn}", meta=meta)


def test_a_damaged_record_of_a_closed_log_is_corruption(tmp_path: Path) -> None:
    meta = meta_of(clean=1, clean_lsn=3)
    refused(tmp_path, damaged(GOOD, 2 * TOTAL), LAST, 3, "closed at entry 3", meta=meta)


def test_bytes_behind_the_end_of_a_closed_log_are_corruption(tmp_path: Path) -> None:
    meta = meta_of(clean=1, clean_lsn=3)
    refused(tmp_path, GOOD + b"\xee", END, 4, "in a log that was closed", meta=meta)


def test_a_clean_lsn_without_the_mark_says_nothing(tmp_path: Path) -> None:
    assert judge(tmp_path, GOOD, meta=meta_of(clean_lsn=9)).cut is None


# Batches.

BATCH = [record(4, 3, flags=MORE), record(5, 3, flags=MORE), record(6, 3)]


def test_a_whole_batch_counts(tmp_path: Path) -> None:
    tail = judge(tmp_path, GOOD + encode_all(BATCH, SEED))
    assert (tail.next_lsn, tail.end_at, tail.cut) == (7, END + 3 * TOTAL, None)


@pytest.mark.parametrize("count", [1, 2])
def test_a_batch_that_is_not_whole_does_not_count_at_all(tmp_path: Path, count: int) -> None:
    tail = judge(tmp_path, GOOD + encode_all(BATCH[:count], SEED))
    assert (tail.next_lsn, tail.last_term, tail.end_at) == (4, 6, END)
    assert tail.index == struct.pack("<II", 0, RECORDS_AT // 8)
    assert tail.cut is not None
    assert (tail.cut.at, tail.cut.end_at, tail.cut.lsn) == (END, END + count * TOTAL, 4)
    assert "batch" in tail.cut.reason


def test_a_batch_with_a_damaged_record_is_cut_from_its_start(tmp_path: Path) -> None:
    records = damaged(GOOD + encode_all(BATCH, SEED), 5 * TOTAL + 60)
    tail = judge(tmp_path, records)
    assert tail.next_lsn == 4
    assert tail.cut is not None
    assert (tail.cut.at, tail.cut.end_at, tail.cut.lsn) == (END, END + 3 * TOTAL, 4)
    assert f"at offset {END + 2 * TOTAL}" in tail.cut.reason


def test_a_batch_with_a_damaged_record_that_was_durable_is_corruption(tmp_path: Path) -> None:
    records = damaged(GOOD + encode_all([*BATCH, record(7, 6)], SEED), 5 * TOTAL + 60)
    refused(tmp_path, records, END + 2 * TOTAL, 6, "entry 7")


def test_a_watermark_inside_a_batch_that_is_not_whole_is_corruption(tmp_path: Path) -> None:
    records = GOOD + encode_all(BATCH[:2], SEED)
    refused(tmp_path, records, END, 4, "batch.*synced to 4", mark=Watermark(1, 0, 4))


def test_a_closed_log_does_not_end_inside_a_batch(tmp_path: Path) -> None:
    records = GOOD + encode_all(BATCH[:2], SEED)
    refused(tmp_path, records, END, 4, "closed at entry 5", meta=meta_of(clean=1, clean_lsn=5))
    meta = meta_of(clean=1, clean_lsn=3)
    refused(tmp_path, records, END + 2 * TOTAL, 4, "in a log that was closed", meta=meta)


def test_the_index_has_no_record_of_a_batch_that_is_not_whole(tmp_path: Path) -> None:
    header = header_of(limit_at=RECORDS_AT + (64 << 10))
    records = [record(1, size=9000), *(record(i, size=9000, flags=MORE) for i in range(2, 7))]
    tail = judge(tmp_path, encode_all(records, raw.seed_of(header)), header=header)
    assert tail.next_lsn == 2
    assert tail.index == struct.pack("<II", 0, RECORDS_AT // 8)


# A writer at work.


@pytest.mark.parametrize(
    "behind",
    [
        b"\xee" * 100,
        encode_all([record(4, 3)], SEED)[:60],
        bytes(TOTAL) + encode_all([record(5, 4)], SEED),
        encode_all(BATCH[:2], SEED),
    ],
    ids=["garbage", "half a record", "a hole", "half a batch"],
)
def test_what_a_live_writer_is_just_writing_says_nothing(tmp_path: Path, behind: bytes) -> None:
    tail = judge(tmp_path, GOOD + behind, live=True)
    assert (tail.next_lsn, tail.end_at, tail.cut) == (4, END, None)


def test_what_a_live_writer_had_published_must_be_there(tmp_path: Path) -> None:
    refused(tmp_path, GOOD, END, 4, "synced to 4", mark=Watermark(1, 0, 4), live=True)


# A segment that another one follows.


def whole(tmp_path: Path, records: bytes, last_lsn: int, size: int | None = None) -> Tail:
    fd, path = in_file(tmp_path, records, size=size)
    try:
        return check_whole(fd, path, HEADER, last_lsn)
    finally:
        os.close(fd)


@pytest.mark.parametrize("behind", [b"", b"\xee" * 500, encode_all([record(4)], SEED)])
def test_what_follows_the_last_entry_that_counts_is_not_looked_at(
    tmp_path: Path, behind: bytes
) -> None:
    tail = whole(tmp_path, GOOD + behind, 3)
    assert (tail.next_lsn, tail.end_at, tail.cut) == (4, END, None)


@pytest.mark.parametrize("lsn", [1, 2, 3])
@pytest.mark.parametrize("place", [3, 50])
def test_any_damage_before_it_is_corruption_without_further_proof(
    tmp_path: Path, lsn: int, place: int
) -> None:
    at = (lsn - 1) * TOTAL
    with pytest.raises(CorruptLogError) as caught:
        whole(tmp_path, damaged(GOOD, at + place), 3)
    assert (caught.value.offset, caught.value.lsn) == (RECORDS_AT + at, lsn)


def test_entries_that_are_not_there_are_corruption(tmp_path: Path) -> None:
    with pytest.raises(CorruptLogError, match="no record was written") as caught:
        whole(tmp_path, GOOD, 4)
    assert (caught.value.offset, caught.value.lsn) == (END, 4)
    with pytest.raises(CorruptLogError, match="ends inside a record") as caught:
        whole(tmp_path, GOOD, 3, size=END - 8)
    assert (caught.value.offset, caught.value.lsn) == (LAST, 3)


def test_a_batch_may_end_where_a_truncation_cut_it(tmp_path: Path) -> None:
    tail = whole(tmp_path, GOOD + encode_all(BATCH, SEED), 5)
    assert (tail.next_lsn, tail.end_at, tail.cut) == (6, END + 2 * TOTAL, None)


@given(st.lists(st.integers(0, 50), unique=True).map(sorted), st.integers(0, 52))
def test_cutting_an_index_keeps_the_pairs_of_the_first_entries(
    places: list[int], entries: int
) -> None:
    pairs = [struct.pack("<II", place, 1024 + place) for place in places]
    kept = [pair for place, pair in zip(places, pairs, strict=True) if place < entries]
    assert cut_index(b"".join(pairs), entries) == b"".join(kept)


def test_a_header_with_a_length_no_payload_has_proves_nothing(tmp_path: Path) -> None:
    later = bytearray(encode_all([record(5, 4)], SEED))
    struct.pack_into("<I", later, 40, (64 << 20) + 1)
    struct.pack_into("<I", later, 0, twin.crc32c(bytes(later[4:48]), SEED))
    tail = judge(tmp_path, GOOD + bytes(TOTAL) + bytes(later))
    assert (tail.next_lsn, tail.cut) == (4, None)


@pytest.mark.parametrize("beyond", [0, 1])
def test_the_highest_lsn_that_can_lie_here_is_proof_and_the_next_is_none(
    tmp_path: Path, beyond: int
) -> None:
    lsn = 4 + (HEADER.limit_at - END) // 48 + beyond
    records = GOOD + bytes(TOTAL) + encode_all([Record(lsn, durable_lsn=lsn - 1)], SEED)
    if beyond:
        assert judge(tmp_path, records).cut is None
    else:
        refused(tmp_path, records, END, 4, f"entry {lsn} at offset {END + TOTAL}")


def test_a_damaged_segment_that_another_follows_says_all_it_knows(tmp_path: Path) -> None:
    fd, path = in_file(tmp_path, damaged(GOOD, TOTAL + 60))
    with pytest.raises(CorruptLogError) as caught:
        check_whole(fd, path, HEADER, 3)
    os.close(fd)
    assert str(caught.value) == (
        f"{path} is damaged at offset {RECORDS_AT + TOTAL} (lsn 2): "
        "the record's payload does not match its checksum"
    )


def test_each_corruption_says_all_it_knows(tmp_path: Path) -> None:
    broken = damaged(GOOD, 2 * TOTAL + 60)
    payload = "the record's payload does not match its checksum"
    closed = meta_of(clean=1, clean_lsn=3)
    batch = GOOD + encode_all(BATCH[:2], SEED)
    cases = [
        (
            broken + encode_all([record(4, 3)], SEED),
            OPEN,
            None,
            f"offset {LAST} (lsn 3): {payload}, and entry 4 at offset {END} shows that it had "
            "been durable",
        ),
        (
            broken,
            OPEN,
            Watermark(1, 0, 3),
            f"offset {LAST} (lsn 3): {payload}, and the log had been synced to 3",
        ),
        (
            broken,
            closed,
            None,
            f"offset {LAST} (lsn 3): {payload}, and the log was closed at entry 3",
        ),
        (
            batch,
            closed,
            None,
            f"offset {END + 2 * TOTAL} (lsn 4): the batch that starts here is not whole: at offset "
            f"{END + 2 * TOTAL}, no record was written here, in a log that was closed",
        ),
    ]
    for records, meta, mark, words in cases:
        with pytest.raises(CorruptLogError) as caught:
            judge(tmp_path, records, meta=meta, mark=mark)
        assert str(caught.value) == f"{tmp_path / 'segment'} is damaged at {words}"


def test_a_tail_counts_as_nobody_s_unless_it_is_said_to_be_live(tmp_path: Path) -> None:
    fd, path = in_file(tmp_path, damaged(GOOD, 2 * TOTAL))
    assert examine_tail(fd, path, HEADER, OPEN, None).cut is not None
    assert examine_tail(fd, path, HEADER, OPEN, None, live=True).cut is None
    os.close(fd)


def test_a_tail_is_read_and_not_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sector that cannot be read is an error of a read, and the end of who has mapped it."""

    class NoMap(mmap.mmap):
        def __new__(cls, *_: object, **__: object) -> NoMap:
            raise AssertionError("mapped")

    monkeypatch.setattr("walstore.wal.scan.mmap.mmap", NoMap)
    assert judge(tmp_path, GOOD).next_lsn == 4


def test_cutting_an_index_counts_without_a_sign() -> None:
    assert cut_index(struct.pack("<4I", 0, 1024, 1 << 31, 2048), 5) == struct.pack("<2I", 0, 1024)


def test_a_batch_that_ends_in_zeros_is_cut_up_to_these(tmp_path: Path) -> None:
    records = GOOD + encode_all([record(4, 3, size=0, flags=MORE)], SEED)
    tail = judge(tmp_path, records + bytes(48) + b"\xee" * 8)
    assert tail.cut is not None
    assert (tail.cut.at, tail.cut.end_at) == (END, END + 48)
