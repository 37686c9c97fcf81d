"""Records as Python sees them: sizes, rows into entries, one entry found among others.

What counts as a good record is compared with the specification in tests/native/test_record.py.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.native import twin
from tests.native.twin import Record
from tests.wal.raw import encode_all
from walstore._native import ffi, lib
from walstore.wal.record import (
    STOP_REASONS,
    Scanner,
    WALEntry,
    crc32c,
    entries_of,
    record_bytes,
    reseal,
)

SEED = 0xC0FFEE
U64 = st.integers(0, (1 << 64) - 1)
RUN = [Record(lsn, term=lsn, kind=lsn, payload=bytes([lsn]) * 10 * lsn) for lsn in range(1, 6)]


@st.composite
def runs(draw: st.DrawFn) -> list[Record]:
    """A few consecutive records with whatever fields a writer may give them."""
    first, term, records = draw(st.integers(1, 1 << 62)), draw(st.integers(0, 1 << 62)), []
    for lsn in range(first, first + draw(st.integers(0, 8))):
        term += draw(st.integers(0, 2))
        records.append(
            Record(
                lsn,
                term,
                timestamp_ns=draw(U64),
                durable_lsn=draw(st.integers(0, lsn - 1)),
                kind=draw(st.integers(1, 0xFFFF)),
                flags=draw(st.integers(0, 1)),
                payload=draw(st.binary(max_size=100)),
            )
        )
    return records


def entry_of(record: Record) -> WALEntry:
    return WALEntry(record.lsn, record.term, record.timestamp_ns, record.kind, record.payload)


@given(runs(), st.binary(max_size=20))
def test_entries_come_back_in_every_field(records: list[Record], before: bytes) -> None:
    data = before + encode_all(records, SEED) + bytes(64)
    scanner = Scanner(SEED, records[0].lsn if records else 1, 0)
    rows = scanner.decode(data, len(before), 8192)
    entries = entries_of(data, len(before), rows)
    assert entries == [entry_of(record) for record in records]
    assert all(type(entry) is WALEntry for entry in entries)
    assert scanner.state.stop == lib.WALCORE_SCAN_END


@given(runs(), st.integers(0, (1 << 32) - 1))
def test_resealed_records_are_those_of_another_segment(records: list[Record], seed: int) -> None:
    data = encode_all(records, SEED)
    assert reseal(data, seed) == encode_all(records, seed)
    assert data == encode_all(records, SEED), "the original is left as it was"


@given(st.integers(0, 64 << 20))
def test_a_record_is_its_header_and_payload_in_steps_of_eight(size: int) -> None:
    assert record_bytes(size) % 8 == 0
    assert 0 <= record_bytes(size) - 48 - size < 8


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_crc_goes_on_from_a_seed(first: bytes, second: bytes) -> None:
    assert crc32c(second, crc32c(first)) == twin.crc32c(first + second)
    assert crc32c(memoryview(first)) == crc32c(first)


def test_crc_of_the_standard_check_input() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_find_returns_each_entry() -> None:
    data = encode_all(RUN, SEED)
    for record in RUN:
        assert Scanner(SEED, 1, 0).find(data, record.lsn) == entry_of(record)


def test_find_behind_the_last_entry() -> None:
    data = encode_all(RUN, SEED)
    scanner = Scanner(SEED, 1, 0)
    assert scanner.find(data, 6) is None
    assert scanner.state.stop == lib.WALCORE_SCAN_SHORT
    assert scanner.find(data + bytes(48), 6) is None


def test_find_passes_over_a_payload_it_was_not_asked_for() -> None:
    data = bytearray(encode_all(RUN, SEED))
    data[48] ^= 1
    assert Scanner(SEED, 1, 0).find(bytes(data), 2) == entry_of(RUN[1])
    scanner = Scanner(SEED, 1, 0)
    assert scanner.find(bytes(data), 1) is None
    assert scanner.state.stop == lib.WALCORE_SCAN_BAD_PAYLOAD


def test_find_verifies_every_header_on_the_way() -> None:
    data = bytearray(encode_all(RUN, SEED))
    data[20] ^= 1
    scanner = Scanner(SEED, 1, 0)
    assert scanner.find(bytes(data), 3) is None
    assert scanner.state.stop == lib.WALCORE_SCAN_BAD_HEADER


@pytest.mark.parametrize("missing", [1, 7, 8, 50])
def test_find_in_a_buffer_that_is_cut_says_how_much_it_wants(missing: int) -> None:
    data = twin.encode(RUN[4], SEED)
    scanner = Scanner(SEED, 5, 0)
    assert scanner.find(data[:-missing], 5) is None
    assert scanner.state.stop == lib.WALCORE_SCAN_SHORT
    assert scanner.state.need == (len(data) if len(data) - missing >= 48 else 48)


def test_stop_lsn_is_the_last_one_decoded() -> None:
    data = encode_all(RUN, SEED)
    scanner = Scanner(SEED, 1, 0, stop_lsn=3)
    assert entries_of(data, 0, scanner.decode(data, 0, 0)) == [entry_of(r) for r in RUN[:3]]
    assert scanner.state.stop == lib.WALCORE_SCAN_LIMIT


def test_verify_and_decode_agree() -> None:
    data = encode_all(RUN, SEED) + bytes(48)
    scanner = Scanner(SEED, 1, 0)
    assert scanner.verify(data, 0, 8192) == len(RUN)
    assert (scanner.state.next_lsn, scanner.state.term) == (6, 5)
    assert scanner.state.consumed == len(data) - 48


def test_the_index_has_no_more_pairs_than_it_was_given_room_for() -> None:
    data = encode_all((Record(lsn, payload=bytes(5000)) for lsn in range(1, 20)), SEED)
    for room, wanted in ((0, 0), (2, 2), (100, 7)):
        scanner = Scanner(SEED, 1, 0, index_first_lsn=1, index_max=room)
        scanner.verify(data, 0, 8192)
        pairs = list(struct.iter_unpack("<II", scanner.index_pairs())) if room else []
        assert len(pairs) == wanted
        assert pairs[:1] in ([], [(0, 1024)])


@pytest.mark.parametrize(
    ("at", "layout", "value", "stop"),
    [
        (8, "Q", 0, twin.BAD_FIELD),
        (8, "Q", 6, twin.BAD_LSN),
        (16, "Q", 3, twin.BAD_TERM),
        (32, "Q", 5, twin.BAD_FIELD),
        (40, "I", (64 << 20) + 1, twin.BAD_FIELD),
        (40, "I", 64 << 20, twin.SHORT),
        (44, "H", 0, twin.BAD_FIELD),
        (46, "H", 2, twin.BAD_FIELD),
        (46, "H", 0x8000, twin.BAD_FIELD),
        (4, "I", 0, twin.BAD_PAYLOAD),
    ],
)
def test_hostile_field_under_a_valid_checksum(at: int, layout: str, value: int, stop: int) -> None:
    data = bytearray(twin.encode(RUN[4], SEED))
    struct.pack_into("<" + layout, data, at, value)
    struct.pack_into("<I", data, 0, twin.crc32c(bytes(data[4:48]), SEED))
    scanner = Scanner(SEED, 5, 4)
    assert scanner.verify(bytes(data), 0, 0) == 0
    assert scanner.state.stop == stop


def test_padding_that_is_not_zero_is_refused() -> None:
    data = bytearray(twin.encode(Record(1, payload=b"x"), SEED))
    data[-1] = 1
    scanner = Scanner(SEED, 1, 0)
    assert scanner.verify(bytes(data), 0, 0) == 0
    assert scanner.state.stop == twin.BAD_PAYLOAD


def test_every_way_to_end_badly_has_words() -> None:
    quiet = {twin.OUT_FULL, twin.LIMIT}
    assert set(STOP_REASONS) == set(range(twin.BAD_PAYLOAD + 1)) - quiet
    assert len(set(STOP_REASONS.values())) == len(STOP_REASONS)


def test_nothing_behind_the_end_of_a_buffer_is_looked_at() -> None:
    whole = memoryview(encode_all(RUN, SEED))
    first, second = (len(twin.encode(record, SEED)) for record in RUN[:2])
    cut = whole[: first + second + 20]
    scanner = Scanner(SEED, 2, 0)
    assert scanner.verify(cut, first, 0) == 1
    assert (scanner.state.stop, scanner.state.need) == (lib.WALCORE_SCAN_SHORT, 48)
    scanner = Scanner(SEED, 2, 0)
    assert len(scanner.decode(cut, first, 0)) == ffi.sizeof("walcore_entry")
    assert (scanner.state.stop, scanner.state.need) == (lib.WALCORE_SCAN_SHORT, 48)


def test_a_scanner_keeps_no_index_unless_asked_and_counts_it_from_zero() -> None:
    data = encode_all(RUN, SEED)
    scanner = Scanner(SEED, 1, 0)
    assert scanner.state.index == ffi.NULL
    assert scanner.verify(data, 0, 0) == len(RUN)
    assert scanner.state.index_count == 0
    scanner = Scanner(SEED, 1, 0, index_max=4)
    scanner.verify(data, 0, 8192)
    assert scanner.index_pairs() == struct.pack("<II", 1, 1024)


def test_the_highest_lsn_there_can_be_is_scanned() -> None:
    lsn = (1 << 64) - 2
    data = encode_all([Record(lsn)], SEED)
    assert Scanner(SEED, lsn, 0).verify(data, 0, 0) == 1


def test_reseal_leaves_what_is_no_whole_header() -> None:
    data = encode_all(RUN, SEED)
    assert reseal(data + b"\1" * 40, 7) == encode_all(RUN, 7) + b"\1" * 40


def test_find_in_a_buffer_that_ends_inside_the_record_before() -> None:
    data = twin.encode(RUN[4], SEED)
    scanner = Scanner(SEED, 5, 0)
    assert scanner.find(data[:-8], 6) is None
    assert (scanner.state.stop, scanner.state.need) == (lib.WALCORE_SCAN_SHORT, 48)
    assert scanner.state.consumed == len(data)
