"""Making and sealing segment files: what is on the disk, in which order, and after a failure."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xxhash

from tests.helpers import Entropy, Ticks, crash_copy, open_descriptors, segment_files, snapshot
from tests.wal.inside import header_of, segment_of
from walstore import CorruptLogError, FileWALManager
from walstore.limits import BLOCK_BYTES
from walstore.wal import files
from walstore.wal.record import record_bytes
from walstore.wal.segment import RECORDS_AT, SEAL_AT, SegmentHeader, decode_seal, segment_name
from walstore.wal.space import activate, make_zeroed, seal_segment

HEADER = SegmentHeader(
    log_id=bytes(range(16)),
    segment_id=7,
    prev_segment_id=5,
    first_lsn=100,
    term=4,
    prev_term=3,
    created_ns=123,
    limit_at=RECORDS_AT + 8192,
    salt=0x1122334455667788,
)


def failing(error: int) -> Callable[..., Any]:
    def fail(*_arguments: object) -> None:
        raise OSError(error, os.strerror(error))

    return fail


def test_zeroed_file_is_zeros_whatever_was_there(tmp_path: Path) -> None:
    path = tmp_path / "spare"
    path.write_bytes(b"\xff" * 50_000)
    before = open_descriptors()
    make_zeroed(str(path), 100_000)
    assert path.read_bytes() == bytes(100_000)
    assert open_descriptors() == before


def test_zeroed_file_is_synced_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size_at_sync: list[int] = []
    real = files.sync_data

    def sync(fd: int, path: str) -> None:
        size_at_sync.append(len(Path(path).read_bytes()))
        real(fd, path)

    monkeypatch.setattr(files, "sync_data", sync)
    make_zeroed(str(tmp_path / "spare"), 10_000)
    assert size_at_sync == [10_000]


@pytest.mark.parametrize("step", ["reserve", "zero_fill", "sync_data"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_zeroed_file_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: int
) -> None:
    monkeypatch.setattr(files, step, failing(error))
    before = open_descriptors()
    with pytest.raises(OSError, match=os.strerror(error)) as caught:
        make_zeroed(str(tmp_path / "spare"), 10_000)
    assert caught.value.errno == error
    assert os.listdir(tmp_path) == []
    assert open_descriptors() == before


def test_activated_segment_is_plainly_empty(tmp_path: Path) -> None:
    spare = tmp_path / "spare"
    spare.write_bytes(b"\xff" * 40_000)
    segment, fd = activate(str(tmp_path), str(spare), HEADER)
    try:
        name = segment_name(100, 7)
        assert os.listdir(tmp_path) == [name]
        assert segment.path == str(tmp_path / name)
        header = header_of(tmp_path / name)
        assert header == segment.header == HEADER
        data = (tmp_path / name).read_bytes()
        assert not any(data[SEAL_AT : RECORDS_AT + BLOCK_BYTES])
        assert data[RECORDS_AT + BLOCK_BYTES :] == b"\xff" * (40_000 - RECORDS_AT - BLOCK_BYTES)
        assert (segment.seal, segment.last_lsn) == (None, None)
        files.write_at(fd, b"writable", RECORDS_AT, name)
    finally:
        files.close(fd)


def test_each_life_of_a_file_has_its_own_salt(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log", segment_bytes=4096, entropy=Entropy()) as log:
        for _ in range(12):
            log.append(b"x" * 1000)
        headers = [header_of(path) for path in segment_files(tmp_path / "log")]
    assert len(headers) == 4
    assert len({header.salt for header in headers}) == 4
    assert len({header.seed for header in headers}) == 4


def test_segment_has_its_header_durable_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def watched(name: str) -> None:
        real = getattr(files, name)

        def call(*arguments: object) -> object:
            calls.append(name)
            return real(*arguments)

        monkeypatch.setattr(files, name, call)

    make_zeroed(str(tmp_path / "spare"), 20_000)
    for name in ("write_at", "sync_data", "rename", "sync_directory"):
        watched(name)
    _, fd = activate(str(tmp_path), str(tmp_path / "spare"), HEADER)
    files.close(fd)
    assert calls == ["write_at", "sync_data", "rename", "sync_directory"]


@pytest.mark.parametrize("step", ["write_at", "sync_data", "rename", "sync_directory"])
def test_activation_that_fails_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    make_zeroed(str(tmp_path / "spare"), 20_000)
    before = open_descriptors()
    monkeypatch.setattr(files, step, failing(errno.ENOSPC))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        activate(str(tmp_path), str(tmp_path / "spare"), HEADER)
    assert open_descriptors() == before


@pytest.fixture
def unsealed(tmp_path: Path) -> Path:
    """The only segment of a log with 20 entries of 1000 bytes, as a crash leaves it."""
    with FileWALManager(
        tmp_path / "log", segment_bytes=1 << 16, clock=Ticks(), entropy=Entropy()
    ) as log:
        for i in range(20):
            log.append(bytes([i]) * 1000)
        crash_copy(tmp_path / "log", tmp_path / "copy")
    return segment_files(tmp_path / "copy")[0]


@pytest.mark.parametrize("last_lsn", [20, 7, 1])
def test_seal_says_what_the_records_say(unsealed: Path, last_lsn: int) -> None:
    """With records behind last_lsn that were truncated away, too."""
    before = unsealed.read_bytes()
    index = array("I", [0, RECORDS_AT // 8]).tobytes()
    sealed = seal_segment(segment_of(unsealed, last_lsn), index)
    end_at = RECORDS_AT + last_lsn * record_bytes(1000)
    data = unsealed.read_bytes()
    seal = decode_seal(data[SEAL_AT:RECORDS_AT], header_of(unsealed))
    assert seal is not None
    assert seal == sealed.seal
    assert (seal.last_lsn, seal.entries, seal.end_at) == (last_lsn, last_lsn, end_at)
    assert seal.payload_bytes == last_lsn * 1000
    assert seal.timestamp_max - seal.timestamp_min == (last_lsn - 1) * 1000
    assert seal.records_xxh3 == xxhash.xxh3_64_intdigest(data[RECORDS_AT:end_at])
    assert data[end_at : end_at + len(index)] == index
    # Nothing but the seal and the index is written.
    assert data[:SEAL_AT] == before[:SEAL_AT]
    assert data[RECORDS_AT:end_at] == before[RECORDS_AT:end_at]
    assert data[end_at + len(index) :] == before[end_at + len(index) :]


@pytest.mark.parametrize("lsn", [1, 10, 20])
def test_seal_is_refused_to_a_damaged_segment(unsealed: Path, lsn: int) -> None:
    at = RECORDS_AT + (lsn - 1) * record_bytes(1000)
    data = bytearray(unsealed.read_bytes())
    data[at + 500] ^= 1
    unsealed.write_bytes(data)
    before, descriptors = snapshot(unsealed.parent), open_descriptors()
    with pytest.raises(CorruptLogError) as caught:
        seal_segment(segment_of(unsealed, 20), b"")
    assert (caught.value.path, caught.value.offset) == (str(unsealed), at)
    assert caught.value.lsn == lsn
    assert snapshot(unsealed.parent) == before
    assert open_descriptors() == descriptors


def test_seal_is_refused_where_entries_are_missing(unsealed: Path) -> None:
    with pytest.raises(CorruptLogError) as caught:
        seal_segment(segment_of(unsealed, 21), b"")
    assert caught.value.lsn == 21
    assert decode_seal(unsealed.read_bytes()[SEAL_AT:RECORDS_AT], header_of(unsealed)) is None
