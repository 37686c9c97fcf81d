"""A segment's header, seal, name and size: round trips, and every hostile field refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wal import raw
from tests.wal.raw import BLOCK, RECORDS_AT, header_block, header_of, seal_block, seal_of
from walstore.errors import CorruptLogError, UnsupportedFormatError
from walstore.limits import BATCH_BYTES_MAX, LSN_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN
from walstore.wal.segment import (
    Seal,
    SegmentHeader,
    decode_header,
    decode_seal,
    encode_header,
    encode_seal,
    file_bytes,
    index_pairs_max,
    limit_for,
    new_salt,
    parse_name,
    segment_name,
)

U64_MAX = (1 << 64) - 1
U32 = st.integers(0, (1 << 32) - 1)
U64 = st.integers(0, U64_MAX)
LIMIT_MAX = RECORDS_AT + SEGMENT_BYTES_MAX + BATCH_BYTES_MAX
HEADER = header_of(first_lsn=101, segment_id=6, prev_segment_id=5)
SEAL = seal_of(HEADER, 110, RECORDS_AT + 800)


@st.composite
def headers(draw: st.DrawFn) -> SegmentHeader:
    """Any header a writer may produce."""
    segment_id = draw(st.integers(1, U64_MAX))
    return SegmentHeader(
        log_id=draw(st.binary(min_size=16, max_size=16)),
        segment_id=segment_id,
        prev_segment_id=draw(st.integers(0, segment_id - 1)),
        first_lsn=draw(st.integers(1, LSN_MAX)),
        term=draw(U64),
        prev_term=draw(U64),
        created_ns=draw(U64),
        limit_at=draw(st.integers(RECORDS_AT + 1, LIMIT_MAX)),
        salt=draw(U64),
        moved=draw(st.booleans()),
    )


@st.composite
def sealed(draw: st.DrawFn) -> tuple[SegmentHeader, Seal]:
    """Any header and a seal that fits it."""
    header = draw(headers())
    return header, Seal(
        segment_id=header.segment_id,
        salt=header.salt,
        last_lsn=draw(st.integers(header.first_lsn - 1, U64_MAX)),
        last_term=draw(U64),
        end_at=draw(st.integers(RECORDS_AT, header.limit_at)),
        index_count=draw(st.integers(0, index_pairs_max(header.limit_at))),
        index_crc=draw(U32),
        records_xxh3=draw(U64),
        timestamp_min=draw(U64),
        timestamp_max=draw(U64),
        entries=draw(U64),
        payload_bytes=draw(U64),
    )


@given(headers())
def test_a_header_comes_back_and_is_as_documented(header: SegmentHeader) -> None:
    block = encode_header(header)
    assert block == header_block(header)
    assert decode_header(block, "segment", 1) == header
    assert header.seed == raw.seed_of(header)


@given(sealed())
def test_a_seal_comes_back_and_is_as_documented(pair: tuple[SegmentHeader, Seal]) -> None:
    header, seal = pair
    block = encode_seal(seal)
    assert block == seal_block(seal)
    assert decode_seal(block, header) == seal
    assert seal.index_bytes == 8 * seal.index_count


@pytest.mark.parametrize(
    "other",
    [
        header_of(102, 6, 5),
        header_of(101, 7, 5),
        header_of(101, 6, 5, log_id=bytes(16)),
    ],
    ids=["first lsn", "segment id", "log id"],
)
def test_the_seed_binds_a_record_to_its_place(other: SegmentHeader) -> None:
    assert other.seed != HEADER.seed


def test_a_flipped_bit_in_any_byte_of_a_header_is_refused() -> None:
    block = header_block(HEADER)
    for at in range(BLOCK):
        flipped = block[:at] + bytes([block[at] ^ 2]) + block[at + 1 :]
        with pytest.raises(CorruptLogError) as caught:
            decode_header(flipped, "p", 101)
        assert (caught.value.path, caught.value.offset, caught.value.lsn) == ("p", 0, 101), at


def test_a_flipped_bit_in_any_byte_makes_a_seal_not_whole() -> None:
    block = seal_block(SEAL)
    for at in range(BLOCK):
        flipped = block[:at] + bytes([block[at] ^ 2]) + block[at + 1 :]
        assert decode_seal(flipped, HEADER) is None, at


@pytest.mark.parametrize("size", [0, 103, 104, BLOCK - 1])
def test_a_header_cut_short_names_where_it_ends(size: int) -> None:
    with pytest.raises(CorruptLogError, match="ends inside its header") as caught:
        decode_header(header_block(HEADER)[:size], "p", 101)
    assert (caught.value.offset, caught.value.lsn) == (size, 101)


@pytest.mark.parametrize("at", [12, 16, 20], ids=["version", "flags", "reserved"])
def test_a_header_of_a_newer_version_is_refused(at: int) -> None:
    block = raw.patched(header_block(HEADER), at, "I", 2)
    with pytest.raises(UnsupportedFormatError) as caught:
        decode_header(block, "p", 101)
    assert caught.value.path == "p"


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (40, 5),
        (40, 0),
        (48, 6),
        (48, U64_MAX),
        (56, 0),
        (56, LSN_MAX + 1),
        (88, 0),
        (88, RECORDS_AT),
        (88, LIMIT_MAX + 1),
        (88, U64_MAX),
    ],
    ids=[
        "id of the one before",
        "id 0",
        "before itself",
        "before far later",
        "first lsn 0",
        "first lsn too high",
        "limit 0",
        "no room",
        "limit too high",
        "limit far too high",
    ],
)
def test_a_hostile_header_with_a_valid_checksum_is_refused(at: int, value: int) -> None:
    block = raw.patched(header_block(HEADER), at, "Q", value)
    with pytest.raises(CorruptLogError, match="makes no sense") as caught:
        decode_header(block, "p", 101)
    assert (caught.value.offset, caught.value.lsn) == (0, 101)


@pytest.mark.parametrize(
    ("at", "value"),
    [(48, 5), (48, 0), (56, 1), (56, LSN_MAX), (88, RECORDS_AT + 1), (88, LIMIT_MAX)],
)
def test_the_bounds_of_a_header_are_inclusive(at: int, value: int) -> None:
    block = raw.patched(header_block(HEADER), at, "Q", value)
    assert encode_header(decode_header(block, "p", 101)) == block


def test_another_block_with_a_valid_checksum_is_no_header() -> None:
    with pytest.raises(CorruptLogError, match="damaged"):
        decode_header(seal_block(SEAL), "p", 101)
    assert decode_seal(header_block(HEADER), HEADER) is None


def test_zeros_are_no_header_and_no_seal() -> None:
    with pytest.raises(CorruptLogError, match="damaged"):
        decode_header(bytes(BLOCK), "p", 101)
    assert decode_seal(bytes(BLOCK), HEADER) is None


@pytest.mark.parametrize(
    ("at", "layout", "value"),
    [
        (12, "I", 2),
        (16, "I", 1),
        (20, "I", 1),
        (24, "Q", 7),
        (32, "Q", 1),
        (40, "Q", 99),
        (56, "Q", RECORDS_AT - 1),
        (56, "Q", HEADER.limit_at + 1),
        (56, "Q", U64_MAX),
        (64, "I", index_pairs_max(HEADER.limit_at) + 1),
        (64, "I", (1 << 32) - 1),
    ],
    ids=[
        "version",
        "flags",
        "reserved",
        "segment id",
        "salt",
        "last lsn",
        "end before records",
        "end behind limit",
        "end far away",
        "index too long",
        "index far too long",
    ],
)
def test_a_hostile_seal_with_a_valid_checksum_does_not_count(
    at: int, layout: str, value: int
) -> None:
    assert decode_seal(raw.patched(seal_block(SEAL), at, layout, value), HEADER) is None


@pytest.mark.parametrize(
    ("at", "layout", "value"),
    [
        (40, "Q", 100),
        (56, "Q", RECORDS_AT),
        (56, "Q", HEADER.limit_at),
        (64, "I", index_pairs_max(HEADER.limit_at)),
    ],
    ids=["no entries", "no records", "full", "longest index"],
)
def test_the_bounds_of_a_seal_are_inclusive(at: int, layout: str, value: int) -> None:
    assert decode_seal(raw.patched(seal_block(SEAL), at, layout, value), HEADER) is not None


@pytest.mark.parametrize("size", [0, 112, BLOCK - 1])
def test_a_seal_cut_short_does_not_count(size: int) -> None:
    assert decode_seal(seal_block(SEAL)[:size], HEADER) is None


@given(st.integers(1, LSN_MAX), st.integers(1, U64_MAX))
def test_names_come_back(first_lsn: int, segment_id: int) -> None:
    assert parse_name(segment_name(first_lsn, segment_id)) == (first_lsn, segment_id)


@given(st.lists(st.integers(1, LSN_MAX), unique=True))
def test_names_sort_as_lsns_do(lsns: list[int]) -> None:
    names = sorted(segment_name(lsn, 0xFF) for lsn in lsns)
    assert names == [segment_name(lsn, 0xFF) for lsn in sorted(lsns)]


def test_a_name_is_as_documented() -> None:
    assert segment_name(348256, 3) == "00000000000000348256-00000003.wal"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "meta",
        "spare-00000004.wal",
        "0000000000000000001-00000001.wal",
        "000000000000000000001-00000001.wal",
        "00000000000000000001-0000001.wal",
        "00000000000000000001-0000000A.wal",
        "00000000000000000001-000000001.wal",
        "00000000000000000001-0100000000000001.wal",
        "00000000000000000001-00000001.wal.bak",
        "00000000000000000001-00000001.tmp",
        "00000000000000000001_00000001.wal",
        " 00000000000000000001-00000001.wal",
        "00000000000000000001-00000001.wal\n",
    ],
)
def test_other_names_are_no_segments(name: str) -> None:
    assert parse_name(name) is None


@given(st.integers(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX), st.integers(0, BATCH_BYTES_MAX // 8))
def test_a_segment_has_room_for_what_it_is_made_for(segment_bytes: int, eighths: int) -> None:
    limit_at = limit_for(segment_bytes, 8 * eighths)
    room = limit_at - RECORDS_AT
    assert room % 8 == 0
    assert room >= max(segment_bytes, 8 * eighths)
    assert room < max(segment_bytes + 8, 8 * eighths + 1)
    assert limit_at <= LIMIT_MAX
    size = file_bytes(limit_at)
    assert size % BLOCK == 0
    assert size >= limit_at + 8 * index_pairs_max(limit_at)
    assert index_pairs_max(limit_at) >= -(-limit_at // 16384)


def test_each_refusal_of_a_header_says_all_it_knows() -> None:
    block = header_block(HEADER)
    refusals = {
        "p is damaged at offset 103 (lsn 101): the file ends inside its header": block[:103],
        "p is damaged at offset 0 (lsn 101): the segment's header is damaged": bytes(BLOCK),
        "p is damaged at offset 0 (lsn 101): the segment's header makes no sense": raw.patched(
            block, 56, "Q", 0
        ),
        "p: format version 3 is not known to this version of walstore": raw.patched(
            block, 12, "I", 3
        ),
        "p: flag 0x2/0x0 is not known to this version of walstore": raw.patched(block, 16, "I", 2),
        "p: flag 0x0/0x12 is not known to this version of walstore": raw.patched(
            block, 20, "I", 0x12
        ),
    }
    for words, refused in refusals.items():
        with pytest.raises((CorruptLogError, UnsupportedFormatError)) as caught:
            decode_header(refused, "p", 101)
        assert str(caught.value) == words
        assert isinstance(caught.value, CorruptLogError | UnsupportedFormatError)
        assert caught.value.path == "p"


def test_a_file_is_as_small_as_it_can_be() -> None:
    assert limit_for(0) == RECORDS_AT
    for limit_at in range(RECORDS_AT, RECORDS_AT + 2 * BLOCK):
        needed = limit_at + 8 * (limit_at // 16384 + 2) + BLOCK
        assert file_bytes(limit_at) == -(-needed // BLOCK) * BLOCK


def test_a_salt_is_eight_bytes_of_the_entropy() -> None:
    assert new_salt(lambda count: bytes(range(1, count + 1))) == 0x0807060504030201
