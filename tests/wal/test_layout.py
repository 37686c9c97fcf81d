"""Which files of a directory are the log: the chain, what is missing, and what lies beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.native.twin import Record
from tests.wal import raw
from tests.wal.raw import (
    BLOCK,
    LOG_ID,
    RECORDS_AT,
    encode_all,
    header_of,
    meta_of,
    seal_of,
    write_segment,
)
from walstore.errors import CorruptLogError, UnsupportedFormatError
from walstore.wal.layout import is_cut, is_spare, load_layout
from walstore.wal.segment import SegmentHeader

# Segments 2, 5 and 9 with entries 1 to 10, 11 to 20, and from 21 on.
FIRST = header_of(1, 2, 0)
MIDDLE = header_of(11, 5, 2)
TAIL = header_of(21, 9, 5)
META = meta_of(tail_segment_id=9)
NAMES = [
    "00000000000000000001-00000002.wal",
    "00000000000000000011-00000005.wal",
    "00000000000000000021-00000009.wal",
]
RECORD_BYTES = 48 + 104


def records_of(header: SegmentHeader, count: int = 10) -> bytes:
    lsns = range(header.first_lsn, header.first_lsn + count)
    return encode_all((Record(lsn, payload=bytes(104)) for lsn in lsns), raw.seed_of(header))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of three segments, none with a seal."""
    (tmp_path / "meta").write_bytes(b"not read here")
    for header in (FIRST, MIDDLE, TAIL):
        write_segment(tmp_path, header, records_of(header))
    return tmp_path


def refused(log: Path, path: Path, offset: int, lsn: int, words: str) -> None:
    with pytest.raises(CorruptLogError, match=words) as caught:
        load_layout(str(log), META)
    assert caught.value.path == str(path)
    assert (caught.value.offset, caught.value.lsn) == (offset, lsn)


def test_the_chain_is_walked_back_from_the_tail(log: Path) -> None:
    layout = load_layout(str(log), META)
    assert [segment.path for segment in layout.segments] == [str(log / name) for name in NAMES]
    assert [segment.header for segment in layout.segments] == [FIRST, MIDDLE, TAIL]
    assert [segment.last_lsn for segment in layout.segments] == [10, 20, None]
    assert [segment.first_lsn for segment in layout.segments] == [1, 11, 21]
    assert layout.segment_id_max == 9
    assert (layout.leftovers, layout.spares, layout.cuts, layout.strays) == ((), (), (), ())


@pytest.mark.parametrize(
    ("first_lsn", "count"), [(1, 3), (10, 3), (11, 2), (20, 2), (21, 1), (30, 1)]
)
def test_the_chain_goes_back_to_the_segment_with_the_first_entry(
    log: Path, first_lsn: int, count: int
) -> None:
    layout = load_layout(str(log), meta_of(tail_segment_id=9, first_lsn=first_lsn))
    assert [Path(segment.path).name for segment in layout.segments] == NAMES[3 - count :]
    assert layout.leftovers == tuple(NAMES[: 3 - count])


def test_segments_behind_the_tail_are_leftovers(log: Path) -> None:
    layout = load_layout(str(log), meta_of(tail_segment_id=5))
    assert [segment.last_lsn for segment in layout.segments] == [10, None]
    assert layout.leftovers == (NAMES[2],)
    assert layout.segment_id_max == 9, "an id is never given twice"


def test_a_seal_tells_where_records_end(log: Path) -> None:
    write_segment(log, MIDDLE, records_of(MIDDLE), seal_of(MIDDLE, 20, RECORDS_AT + 1520))
    first, middle, tail = load_layout(str(log), META).segments
    assert middle.seal is not None
    assert (first.seal, middle.seal.last_lsn, tail.seal) == (None, 20, None)
    assert middle.scan_end == RECORDS_AT + 1520
    assert first.scan_end == FIRST.limit_at


def test_the_seal_of_the_segment_that_is_written_to_does_not_count(log: Path) -> None:
    """A truncation made a sealed segment the last one again."""
    write_segment(log, TAIL, records_of(TAIL), seal_of(TAIL, 30, RECORDS_AT + 1520))
    assert load_layout(str(log), META).segments[-1].seal is None


@pytest.mark.parametrize(("last_lsn", "good"), [(19, False), (20, True), (25, True)])
def test_a_seal_that_ends_too_early_means_lost_entries(
    log: Path, last_lsn: int, good: bool
) -> None:
    """Too late is well: the rest was truncated."""
    file = write_segment(log, MIDDLE, b"", seal_of(MIDDLE, last_lsn, RECORDS_AT + 800))
    if good:
        assert load_layout(str(log), META).segments[1].last_lsn == 20
    else:
        refused(log, file, RECORDS_AT + 800, 20, "entries up to 20 are missing")


def test_the_first_segment_is_missing(log: Path) -> None:
    (log / NAMES[0]).unlink()
    refused(log, log, 0, 1, "id 00000002, before the one that starts with 11 is missing")


def test_the_first_segment_is_missing_after_a_truncation(log: Path) -> None:
    (log / NAMES[0]).unlink()
    with pytest.raises(CorruptLogError) as caught:
        load_layout(str(log), meta_of(tail_segment_id=9, first_lsn=7))
    assert caught.value.lsn == 7


@pytest.mark.parametrize("sealed", [True, False])
def test_a_middle_segment_is_missing(log: Path, sealed: bool) -> None:
    """The seal before it tells where it began; without one, it is behind that one's first."""
    if sealed:
        write_segment(log, FIRST, b"", seal_of(FIRST, 10, RECORDS_AT + 1520))
    (log / NAMES[1]).unlink()
    refused(log, log, 0, 11 if sealed else 1, "id 00000005, before the one that starts with 21")


@pytest.mark.parametrize("sealed", [True, False])
def test_the_last_segment_is_missing(log: Path, sealed: bool) -> None:
    if sealed:
        write_segment(log, MIDDLE, b"", seal_of(MIDDLE, 20, RECORDS_AT + 1520))
    (log / NAMES[2]).unlink()
    refused(log, log, 0, 21 if sealed else 11, "id 00000009 is missing")


def test_every_segment_is_missing(log: Path) -> None:
    for name in NAMES:
        (log / name).unlink()
    refused(log, log, 0, 1, "id 00000009 is missing")


def test_a_chain_that_ends_before_the_first_entry(log: Path) -> None:
    write_segment(log, replace(MIDDLE, prev_segment_id=0))
    refused(log, log, 0, 1, "id 00000000, before the one that starts with 11 is missing")


@pytest.mark.parametrize("header", [FIRST, MIDDLE, TAIL], ids=["first", "middle", "last"])
def test_a_segment_of_another_log_in_the_chain(log: Path, header: SegmentHeader) -> None:
    file = write_segment(log, replace(header, log_id=bytes(16)), records_of(header))
    refused(log, file, 0, header.first_lsn, "belongs to another log")


@pytest.mark.parametrize("header", [FIRST, MIDDLE, TAIL], ids=["first", "middle", "last"])
@pytest.mark.parametrize("field", ["first_lsn", "segment_id"])
def test_a_header_that_contradicts_its_name(log: Path, header: SegmentHeader, field: str) -> None:
    changes: dict[str, Any] = {
        "first_lsn": header.first_lsn + 1,
        "segment_id": header.segment_id + 1,
    }
    file = write_segment(log, header)
    file.write_bytes(raw.segment_bytes(replace(header, **{field: changes[field]})))
    refused(log, file, 0, header.first_lsn, "its header says it is")


@pytest.mark.parametrize("first_lsn", [21, 22, 500])
def test_a_segment_that_starts_behind_its_follower(log: Path, first_lsn: int) -> None:
    (log / NAMES[1]).unlink()
    file = write_segment(log, replace(MIDDLE, first_lsn=first_lsn))
    refused(log, file, 0, first_lsn, "starts behind")


@pytest.mark.parametrize("size", [0, 104, BLOCK - 1])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_file_that_ends_inside_its_header(log: Path, size: int, which: int) -> None:
    file = log / NAMES[which]
    file.write_bytes(file.read_bytes()[:size])
    refused(log, file, size, int(file.name[:20]), "ends inside its header")


def test_a_damaged_header_in_the_chain(log: Path) -> None:
    file = log / NAMES[1]
    file.write_bytes(b"\xff" + file.read_bytes()[1:])
    refused(log, file, 0, 11, "header is damaged")


def test_a_full_segment_may_have_lost_what_is_behind_its_records(log: Path) -> None:
    file = log / NAMES[1]
    file.write_bytes(file.read_bytes()[: RECORDS_AT + 10 * RECORD_BYTES])
    assert len(load_layout(str(log), META).segments) == 3


@pytest.mark.parametrize("kept", [0, 1, 9])
@pytest.mark.parametrize("bytes_more", [0, 60])
def test_a_full_segment_that_lost_records(log: Path, kept: int, bytes_more: int) -> None:
    file = log / NAMES[1]
    end = RECORDS_AT + kept * RECORD_BYTES
    file.write_bytes(file.read_bytes()[: end + bytes_more])
    words = "ends inside a record" if bytes_more else "no record was written"
    refused(log, file, end, 11 + kept, words)


def test_the_last_segment_s_size_is_left_to_recovery(log: Path) -> None:
    file = log / NAMES[2]
    file.write_bytes(file.read_bytes()[: RECORDS_AT + 70])
    assert len(load_layout(str(log), META).segments) == 3


def with_version_2(header: SegmentHeader) -> bytes:
    return raw.patched(raw.header_block(header), 12, "I", 2) + bytes(BLOCK)


def test_a_newer_segment_in_the_chain_is_refused(log: Path) -> None:
    (log / NAMES[1]).write_bytes(with_version_2(MIDDLE))
    with pytest.raises(UnsupportedFormatError) as caught:
        load_layout(str(log), META)
    assert caught.value.path == str(log / NAMES[1])


OFF_CHAIN = header_of(31, 12, 9)


def test_our_own_segment_off_the_chain_is_a_leftover(log: Path) -> None:
    name = write_segment(log, OFF_CHAIN).name
    layout = load_layout(str(log), META)
    assert (layout.leftovers, layout.strays) == ((name,), ())
    assert layout.segment_id_max == 12


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(100),
        bytes(3 * BLOCK),
        b"mine" * BLOCK,
        with_version_2(OFF_CHAIN),
        raw.segment_bytes(replace(OFF_CHAIN, log_id=LOG_ID[::-1])),
        raw.segment_bytes(replace(OFF_CHAIN, first_lsn=32)),
        raw.segment_bytes(replace(OFF_CHAIN, segment_id=13)),
    ],
    ids=["empty", "short", "zeros", "text", "newer", "foreign", "other lsn", "other id"],
)
def test_what_is_not_surely_ours_is_a_stray_and_never_a_leftover(log: Path, data: bytes) -> None:
    name = "00000000000000000031-0000000c.wal"
    (log / name).write_bytes(data)
    layout = load_layout(str(log), META)
    assert (layout.leftovers, layout.strays) == ((), (name,))
    assert len(layout.segments) == 3


@pytest.mark.parametrize(("name_id", "id_max"), [("0000000d", 13), ("f" * 16, 9)])
def test_a_foreign_name_cannot_use_up_the_ids(log: Path, name_id: str, id_max: int) -> None:
    (log / f"00000000000000000031-{name_id}.wal").write_bytes(b"not ours")
    assert load_layout(str(log), META).segment_id_max == id_max


def test_other_files_are_told_apart(log: Path) -> None:
    names = ["spare-0000000a.wal", "cut-00000009-000000008192-0.bin", "notes.txt", NAMES[0] + "~"]
    for name in names:
        (log / name).write_bytes(b"")
    layout = load_layout(str(log), META)
    assert layout.spares == (names[0],)
    assert layout.cuts == (names[1],)
    assert layout.strays == (names[3], names[2])


@pytest.mark.parametrize(
    ("name", "spare", "cut"),
    [
        ("spare-00000001.wal", True, False),
        ("spare-00000001.bin", False, False),
        ("my-spare-1.wal", False, False),
        ("cut-00000003-000000020480-0.bin", False, True),
        ("cut-00000003.wal", False, False),
        ("uncut-1.bin", False, False),
    ],
)
def test_names_of_spares_and_cuts(name: str, spare: bool, cut: bool) -> None:
    assert (is_spare(name), is_cut(name)) == (spare, cut)
