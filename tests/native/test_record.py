"""record.c against its specification in plain Python (twin.py)."""

from __future__ import annotations

import struct
from dataclasses import replace
from random import Random

import pytest

from tests.helpers import seeded
from tests.native import twin
from tests.native.twin import Record, Scan
from walstore._native import ffi, lib
from walstore.wal.record import Scanner, entries_of, record_bytes

STATE_FIELDS = [
    "stop",
    "consumed",
    "next_lsn",
    "term",
    "entries",
    "payload_total",
    "timestamp_min",
    "timestamp_max",
    "batch_lsn",
    "batch_at",
    "durable_lsn",
]


def encode_in_c(record: Record, seed: int) -> bytes:
    entry = ffi.new(
        "walcore_entry *",
        {
            "lsn": record.lsn,
            "term": record.term,
            "timestamp_ns": record.timestamp_ns,
            "durable_lsn": record.durable_lsn,
            "payload_bytes": len(record.payload),
            "kind": record.kind,
            "flags": record.flags,
        },
    )
    out = ffi.new("uint8_t[]", b"\xaa" * lib.walcore_record_bytes(len(record.payload)))
    lib.walcore_encode(out, seed, entry, record.payload)
    return bytes(ffi.buffer(out))[: lib.walcore_record_bytes(len(record.payload))]


def random_record(random: Random, lsn: int, term: int) -> Record:
    size = random.choice([0, 1, 7, 8, 9, 47, 48, random.randrange(300)])
    return Record(
        lsn=lsn,
        term=term,
        timestamp_ns=random.getrandbits(63),
        durable_lsn=random.randrange(lsn),
        kind=random.choice([1, 2, 0xFFFF]),
        flags=int(random.random() < 0.3),
        payload=random.randbytes(size),
    )


def random_run(random: Random, seed: int, count: int) -> tuple[list[Record], bytes]:
    term, records = 1, []
    for lsn in range(1, count + 1):
        term += random.random() < 0.2
        records.append(random_record(random, lsn, term))
    return records, b"".join(twin.encode(record, seed) for record in records)


def compare(data: bytes, seed: int, next_lsn: int = 1, term: int = 0, **options: int) -> Scan:
    """Scans the same bytes with both and returns the twin, once they agree on everything."""
    stop_lsn = options.get("stop_lsn", twin.FOREVER)
    base_at = options.get("base_at", 8192)
    expected = Scan(seed, next_lsn, term, stop_lsn, base_at, index_first_lsn=next_lsn)
    records = expected.run(data)
    scanner = Scanner(seed, next_lsn, term, stop_lsn, index_first_lsn=next_lsn, index_max=100)
    rows = scanner.decode(data, 0, base_at)
    entries = list(entries_of(data, 0, rows))
    assert [(e.lsn, e.term, e.timestamp_ns, e.kind, e.payload) for e in entries] == [
        (r.lsn, r.term, r.timestamp_ns, r.kind, r.payload) for r in records
    ]
    for name in STATE_FIELDS:
        assert getattr(scanner.state, name) == getattr(expected, name), name
    if expected.stop == twin.SHORT:
        assert scanner.state.need == expected.need
    if expected.batch_lsn:
        assert scanner.state.batch_term == expected.batch_term
    pairs = struct.iter_unpack("<II", scanner.index_pairs())
    assert list(pairs) == expected.index
    verifier = Scanner(seed, next_lsn, term, stop_lsn)
    assert verifier.verify(data, 0, base_at) == len(records)
    assert verifier.state.stop == expected.stop
    return expected


def test_a_batch_ends_with_its_last_record_or_with_the_bytes() -> None:
    more = [Record(lsn, flags=lib.WALCORE_FLAG_MORE, payload=b"x" * lsn) for lsn in (1, 2)]
    one, two, three, four = (twin.encode(r, 9) for r in (*more, Record(3), Record(4)))

    def batch(data: bytes) -> tuple[int, int]:
        count = ffi.new("size_t *")
        return lib.walcore_batch_bytes(data, len(data), count), count[0]

    whole = one + two + three
    assert batch(whole) == batch(whole + four) == (len(whole), 3)
    assert batch(four + whole) == (len(four), 1)
    assert batch(one + two) == (len(one + two), 2)


def test_encode_equals_the_twin() -> None:
    random = seeded("encode")
    for size in [*range(100), 1000, 5000]:
        record = replace(random_record(random, 5, 3), payload=random.randbytes(size))
        seed = random.getrandbits(32)
        assert encode_in_c(record, seed) == twin.encode(record, seed)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 64 << 20])
def test_record_bytes_is_header_and_payload_rounded_up(size: int) -> None:
    assert record_bytes(size) == lib.walcore_record_bytes(size) == twin.padded(48 + size)


def test_scan_of_good_runs_equals_the_twin() -> None:
    random = seeded("scan good")
    for _ in range(60):
        seed, count = random.getrandbits(32), random.randrange(12)
        _, data = random_run(random, seed, count)
        tail = random.choice([b"", bytes(3), bytes(48), bytes(500)])
        scan = compare(data + tail, seed, stop_lsn=random.choice([twin.FOREVER, 3, count]))
        assert scan.entries <= count


def test_scan_of_every_flipped_byte_equals_the_twin() -> None:
    random = seeded("scan flipped")
    seed = random.getrandbits(32)
    records, data = random_run(random, seed, 5)
    data += bytes(96)
    scans = 0
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << random.randrange(8)
        scan = compare(bytes(flipped), seed)
        # What comes before the flip is untouched, and the flipped record never passes.
        ends = [0]
        for record in records:
            ends.append(ends[-1] + twin.padded(48 + len(record.payload)))
        assert scan.entries == max(i for i, end in enumerate(ends) if end <= at)
        scans += 1
    print(f"scans={scans}")
    assert scans == len(data) >= 5 * 48 + 96


def test_scan_of_every_cut_equals_the_twin() -> None:
    random = seeded("scan cut")
    seed = random.getrandbits(32)
    _, data = random_run(random, seed, 4)
    for size in range(len(data) + 1):
        compare(data[:size], seed)


def test_scan_of_fixed_up_nonsense_equals_the_twin() -> None:
    """Headers whose checksum fits and whose fields no writer produces."""
    random = seeded("scan nonsense")
    stops = set()
    for _ in range(3000):
        record = Record(
            lsn=random.choice([0, 1, 2, 3, (1 << 64) - 1]),
            term=random.choice([0, 1, 2, 1 << 63]),
            timestamp_ns=random.getrandbits(64),
            durable_lsn=random.choice([0, 0, 1, 2, 1 << 60]),
            kind=random.choice([0, 1, 1, 0xFFFF]),
            flags=random.choice([0, 0, 1, 2, 0x8000]),
            payload=random.randbytes(random.randrange(20)),
        )
        data = bytearray(twin.encode(record, 7))
        if random.random() < 0.4:
            size = random.choice([0, 1, 19, 21, 1 << 20, (64 << 20) + 1, 0xFFFFFFFF])
            struct.pack_into("<I", data, 40, size)
            struct.pack_into("<I", data, 0, twin.crc32c(bytes(data[4:48]), 7))
        scan = compare(bytes(data) + bytes(random.randrange(60)), 7, term=random.randrange(2))
        stops.add(scan.stop)
    wanted = {twin.END, twin.SHORT, twin.BAD_FIELD, twin.BAD_LSN, twin.BAD_TERM, twin.BAD_PAYLOAD}
    assert stops >= wanted - {twin.END}


def test_scan_window_by_window_is_the_scan_of_the_whole() -> None:
    random = seeded("scan windows")
    seed = random.getrandbits(32)
    records, data = random_run(random, seed, 60)
    scanner = Scanner(seed, 1, 0)
    got, at, size = [], 0, 64
    while at < len(data):
        window = data[at : at + size]
        rows = scanner.decode(window, 0, at)
        got += [entry.payload for entry in entries_of(window, 0, rows)]
        at += scanner.state.consumed
        size = max(64, scanner.state.need if scanner.state.consumed == 0 else 64)
    assert got == [record.payload for record in records]


def test_a_record_of_another_segment_is_no_record() -> None:
    data = twin.encode(Record(1, payload=b"x"), seed=1)
    assert compare(data, seed=2).stop == twin.BAD_HEADER


def test_index_has_the_first_record_of_each_stride() -> None:
    data = b"".join(twin.encode(Record(lsn, payload=bytes(3000)), 9) for lsn in range(1, 40))
    scan = compare(data, 9)
    assert len(scan.index) == len({place * 8 // twin.STRIDE_BYTES for _, place in scan.index}) > 5
