"""Scanning a file window by window gives what a scan of the whole in memory gives."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.native import twin
from tests.native.twin import Record
from tests.wal.raw import encode_all
from walstore.wal import scan
from walstore.wal.record import Scanner, entries_of
from walstore.wal.scan import scan_rows, verify_range

SEED = 77
WINDOW = 4096
BOTH = pytest.mark.parametrize("mapped", [False, True], ids=["read", "mapped"])


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "MAP_WINDOW_BYTES", WINDOW)
    monkeypatch.setattr(scan, "READ_WINDOW_BYTES", WINDOW)


@contextmanager
def holding(data: bytes) -> Iterator[int]:
    """A descriptor of a file with these bytes."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file.fileno()


def run_of(*sizes: int) -> list[Record]:
    return [Record(lsn, payload=bytes([lsn % 251]) * size) for lsn, size in enumerate(sizes, 1)]


class Found:
    """What `scan_rows` gave, once `verify_range` agrees."""

    def __init__(self, data: bytes, at: int, end_at: int, mapped: bool, **options: int) -> None:
        next_lsn = options.get("next_lsn", 1)
        stop_lsn = options.get("stop_lsn")
        scanner = Scanner(SEED, next_lsn, 0, stop_lsn, index_first_lsn=1, index_max=100)
        verifier = Scanner(SEED, next_lsn, 0, stop_lsn, index_first_lsn=1, index_max=100)
        self.entries, self.batches = [], 0
        with holding(data) as fd:
            for buffer, start, rows in scan_rows(fd, scanner, at, end_at, mapped=mapped):
                self.entries += entries_of(buffer, start, rows)
                self.batches += 1
            self.end = verify_range(fd, verifier, at, end_at, mapped=mapped)
        state = scanner.state
        self.stop: int = state.stop
        assert state.base_at + state.consumed == self.end
        for name in ("stop", "next_lsn", "entries", "payload_total", "index_count"):
            assert getattr(state, name) == getattr(verifier.state, name), name
        assert scanner.index_pairs() == verifier.index_pairs()
        assert state.entries == len(self.entries)

    def is_run(self, records: list[Record]) -> bool:
        return [(e.lsn, e.payload) for e in self.entries] == [(r.lsn, r.payload) for r in records]


@BOTH
@given(
    sizes=st.lists(st.sampled_from([0, 1, 40, 500, 4000, 4048, 4096, 9000]), max_size=12),
    before=st.integers(0, 600),
    behind=st.sampled_from([0, 8, 40, 47, 48, 49, 5000]),
)
def test_a_file_is_read_whole(mapped: bool, sizes: list[int], before: int, behind: int) -> None:
    records = run_of(*sizes)
    data = encode_all(records, SEED)
    start = 8 * before
    found = Found(bytes(start) + data + bytes(behind), start, 1 << 30, mapped)
    assert found.is_run(records)
    assert found.stop == twin.END
    assert found.end == start + len(data)


@BOTH
def test_records_of_every_length_meet_the_edge_of_a_window(mapped: bool) -> None:
    for size in range(WINDOW - 48 - 64, WINDOW - 48 + 64):
        records = run_of(size, 100, 3)
        found = Found(encode_all(records, SEED) + bytes(100), 0, 1 << 20, mapped)
        assert found.is_run(records), size
        assert found.stop == twin.END


@BOTH
def test_a_record_larger_than_many_windows(mapped: bool) -> None:
    records = run_of(5, 20 * WINDOW + 1, 6)
    found = Found(encode_all(records, SEED) + bytes(48), 0, 1 << 20, mapped)
    assert found.is_run(records)


@BOTH
def test_a_record_larger_than_the_real_window(
    mapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    window = scan.MAP_WINDOW_BYTES if mapped else scan.READ_WINDOW_BYTES
    assert window >= 1 << 20
    monkeypatch.setattr(scan, "MAP_WINDOW_BYTES", 1 << 20)
    records = run_of(30, (1 << 20) + 5, 9)
    found = Found(encode_all(records, SEED) + bytes(48), 0, 1 << 22, mapped)
    assert found.is_run(records)


@BOTH
def test_more_records_than_one_call_decodes(mapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "MAP_WINDOW_BYTES", 1 << 20)
    monkeypatch.setattr(scan, "READ_WINDOW_BYTES", 1 << 20)
    records = run_of(*[0] * 9000)
    found = Found(encode_all(records, SEED), 0, 1 << 20, mapped)
    assert found.is_run(records)
    assert found.batches == -(-9000 // 256)


@BOTH
@pytest.mark.parametrize("stop_lsn", [0, 1, 3, 5])
def test_the_limit_ends_a_scan(mapped: bool, stop_lsn: int) -> None:
    records = run_of(3000, 3000, 10, 9000, 3000)
    found = Found(encode_all(records, SEED), 0, 1 << 20, mapped, stop_lsn=stop_lsn)
    assert found.is_run(records[:stop_lsn])
    assert found.stop == twin.LIMIT
    assert found.end == len(encode_all(records[:stop_lsn], SEED))


@BOTH
def test_a_scan_may_start_at_any_record(mapped: bool) -> None:
    records = run_of(3000, 3000, 10, 9000, 3000)
    data = encode_all(records, SEED)
    for skipped in range(len(records) + 1):
        at = len(encode_all(records[:skipped], SEED))
        found = Found(data, at, 1 << 20, mapped, next_lsn=skipped + 1)
        assert found.is_run(records[skipped:])


@BOTH
@pytest.mark.parametrize("where", ["end of file", "end_at"])
@pytest.mark.parametrize(
    ("left", "stop"),
    [(0, twin.END), (40, twin.END), (47, twin.END), (48, twin.SHORT), (9000, twin.SHORT)],
)
def test_a_file_that_ends_inside_a_record(mapped: bool, where: str, left: int, stop: int) -> None:
    records = run_of(3000, 3000, 9000)
    whole = len(encode_all(records[:2], SEED))
    data, end_at = encode_all(records, SEED), 1 << 20
    if where == "end of file":
        data = data[: whole + left]
        stop = twin.SHORT if left else twin.END  # a piece of a header that was there once
    else:
        end_at = whole + left
    found = Found(data, 0, end_at, mapped)
    assert found.is_run(records[:2])
    assert (found.stop, found.end) == (stop, whole)


@BOTH
@pytest.mark.parametrize("at", [0, 8192, 1 << 30])
def test_nothing_to_read(mapped: bool, at: int) -> None:
    found = Found(bytes(8192 if at else 0), at, at, mapped)
    assert (found.entries, found.stop, found.end) == ([], twin.END, at)


@BOTH
@pytest.mark.parametrize(
    ("place", "stop"), [(8, twin.BAD_HEADER), (48, twin.BAD_PAYLOAD), (9000, twin.BAD_PAYLOAD)]
)
def test_damage_in_a_later_window_ends_the_scan_there(mapped: bool, place: int, stop: int) -> None:
    records = run_of(3000, 3000, 9000, 10)
    start = len(encode_all(records[:2], SEED))
    data = bytearray(encode_all(records, SEED))
    data[start + place] ^= 1
    found = Found(bytes(data), 0, 1 << 20, mapped)
    assert found.is_run(records[:2])
    assert (found.stop, found.end) == (stop, start)


@BOTH
def test_the_index_counts_places_in_the_file(mapped: bool) -> None:
    records = run_of(*[5000] * 20)
    scanner = Scanner(SEED, 1, 0, index_first_lsn=1, index_max=100)
    with holding(bytes(8192) + encode_all(records, SEED)) as fd:
        verify_range(fd, scanner, 8192, 1 << 20, mapped=mapped)
    whole = twin.Scan(SEED, 1, 0, base_at=8192, index_first_lsn=1)
    whole.run(encode_all(records, SEED))
    pairs = memoryview(scanner.index_pairs()).cast("I").tolist()
    assert list(zip(pairs[::2], pairs[1::2], strict=True)) == whole.index
    assert len(whole.index) > 5
