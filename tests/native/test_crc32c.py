"""CRC32C: known vectors, the plain Python twin, and the instruction against the table."""

from __future__ import annotations

import pytest

from tests.helpers import seeded
from tests.native import twin
from walstore._native import ffi, lib
from walstore.wal.record import crc32c

# RFC 3720 appendix B.4, and the check value of the CRC catalogue.
VECTORS = [
    (b"", 0x00000000),
    (b"123456789", 0xE3069283),
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (
        bytes.fromhex(
            "01c00000000000000000000000000000140000000000040000000014000000182800000000000000"
            "0200000000000000"
        ),
        0xD9963A56,
    ),
]


def table(data: bytes, seed: int = 0) -> int:
    return lib.walcore_crc32c_table(seed, data, len(data))


@pytest.mark.parametrize(("data", "expected"), VECTORS)
def test_known_vectors(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected
    assert table(data) == expected
    assert twin.crc32c(data) == expected


def test_twin_agrees_on_random_data_and_seeds() -> None:
    random = seeded("crc32c twin")
    for size in [*range(200), 1007, 1008, 1009, 4095, 12287, 12288, 12289, 20000]:
        data, seed = random.randbytes(size), random.getrandbits(32)
        expected = twin.crc32c(data, seed)
        assert crc32c(data, seed) == expected, size
        assert table(data, seed) == expected, size


def test_instruction_equals_table_at_every_length_and_alignment() -> None:
    random = seeded("crc32c alignments")
    raw = random.randbytes(40_000)
    view = ffi.from_buffer("uint8_t[]", raw)
    compared = 0
    for offset in range(16):
        for size in [*range(2100), *range(12_280, 12_300), *range(13_290, 13_310), 37_000]:
            seed = random.getrandbits(32)
            expected = lib.walcore_crc32c_table(seed, view + offset, size)
            assert lib.walcore_crc32c(seed, view + offset, size) == expected, (offset, size)
            compared += 1
    print(f"compared={compared}")
    assert compared > 30_000


def test_continues_from_a_seed_at_every_split() -> None:
    data = seeded("crc32c splits").randbytes(1500)
    whole = crc32c(data)
    for split in range(len(data) + 1):
        assert crc32c(data[split:], crc32c(data[:split])) == whole, split


def test_names_what_it_runs_on() -> None:
    assert ffi.string(lib.walcore_crc32c_backend()) in (b"sse4.2", b"armv8-crc", b"table")
