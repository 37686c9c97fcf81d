"""Damage: every byte flipped, every length cut, every file lost or swapped; each outcome judged.

An entry that was acked is never silently missing or wrong. What is refused names the file, the
offset and the lsn, and nothing in the directory was changed by opening it.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers import (
    Entropy,
    Ticks,
    restore,
    seeded,
    segment_files,
    snapshot,
)
from tests.native import twin
from tests.wal.rot import (
    SEGMENT_BYTES,
    Sample,
    build,
    judge,
    judge_cut,
    judge_flip,
    places_of,
    write_open,
)
from walstore import (
    CorruptLogError,
    FileWALManager,
    NotALogError,
    UnsupportedFormatError,
)
from walstore.limits import BLOCK_BYTES
from walstore.wal.meta import COPY_BYTES, META_NAME
from walstore.wal.opening import open_meta, read_log


def test_every_byte_flipped(sample: Sample, path: Path) -> None:
    random = seeded("flips")
    restore(path, sample.files)
    counts: Counter[str] = Counter()
    problems: list[str] = []
    for name, data in sample.files.items():
        fd = os.open(path / name, os.O_WRONLY)
        for at in places_of(sample, name):
            byte = data[at]
            os.pwrite(fd, bytes([byte ^ 1 << random.randrange(8)]), at)
            outcome = judge(path, sample.entries)
            counts[outcome.kind] += 1
            problem = judge_flip(sample, path, name, at, outcome)
            if problem:
                problems.append(f"{name}@{at}: {problem}")
            os.pwrite(fd, bytes([byte]), at)
        os.close(fd)
    print(f"flips={sum(counts.values())} {dict(counts)} problems={len(problems)}")
    assert not problems, problems[:20]
    assert snapshot(path) == sample.files
    assert sum(counts.values()) > 40_000
    assert counts["refused at open"] > 12_000
    assert counts["refused at read"] > 6000


def test_every_length_cut(sample: Sample, path: Path) -> None:
    restore(path, sample.files)
    counts: Counter[str] = Counter()
    problems: list[str] = []
    for name, data in sample.files.items():
        fd = os.open(path / name, os.O_RDWR)
        for size in sorted(places_of(sample, name), reverse=True):
            os.ftruncate(fd, size)
            outcome = judge(path, sample.entries)
            counts[outcome.kind] += 1
            problem = judge_cut(sample, path, name, size, outcome)
            if problem:
                problems.append(f"{name} cut to {size}: {problem}")
        os.pwrite(fd, data, 0)
        os.close(fd)
    print(f"cuts={sum(counts.values())} {dict(counts)} problems={len(problems)}")
    assert not problems, problems[:20]
    assert sum(counts.values()) > 40_000
    assert counts["refused at open"] > 30_000


def test_opening_to_write_never_changes_what_it_refuses(sample: Sample, path: Path) -> None:
    """One byte in each kind of place of each file, and a cut there."""
    counts: Counter[str] = Counter()
    for name, data in sample.files.items():
        places = {0, 9, 13, 17, 21, 30, 50, 70, 90, 4000, 4097, 4110, 5000, 8191, 8192, 8200}
        if name in sample.segments:
            for _, start, end in sample.records(name):
                places |= {
                    start,
                    start + 5,
                    start + 9,
                    start + 33,
                    start + 41,
                    end - 1,
                    end,
                    end + 60,
                }
        for at in sorted(place for place in places if place < len(data)):
            for damaged in (data[:at], data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]):
                restore(path, {**sample.files, name: damaged})
                counts[write_open(path, sample.entries)] += 1
    print(f"opened={sum(counts.values())} {dict(counts)}")
    assert sum(counts.values()) > 250
    assert counts["refused"] > 60
    assert counts["accepted"] > 30
    assert counts["refused at read"] > 20


def test_unsealed_segment_that_is_damaged_is_refused_unchanged(path: Path, tmp_path: Path) -> None:
    """A crash kept a full segment from being sealed, and one of its records is damaged too."""
    sample = build(tmp_path, clean=False)
    name = sample.segments[0]
    lsn, start, _ = sample.records(name)[3]
    data = bytearray(sample.files[name])
    data[BLOCK_BYTES : 2 * BLOCK_BYTES] = bytes(BLOCK_BYTES)
    data[start + 50] ^= 1
    restore(path, {**sample.files, name: bytes(data)})
    before = snapshot(path)
    with pytest.raises(CorruptLogError) as caught:
        FileWALManager(path)
    assert (caught.value.path, caught.value.lsn) == (str(path / name), lsn)
    assert caught.value.offset == start
    assert snapshot(path) == before


def expect_refusal(path: Path, lsn: int, *, at_file: str | None = None) -> CorruptLogError:
    """Both ways to open refuse, name the lsn, and change nothing."""
    before = snapshot(path)
    for read_only in (True, False):
        with pytest.raises(CorruptLogError) as caught:
            FileWALManager(path, read_only=read_only)
        assert caught.value.lsn == lsn, caught.value
        assert caught.value.hint
        if at_file:
            assert caught.value.path == str(path / at_file)
        assert snapshot(path) == before
    return caught.value


@pytest.mark.parametrize("which", [0, 1, 2], ids=["first", "middle", "last"])
def test_segment_missing(sample: Sample, path: Path, which: int) -> None:
    name = sample.segments[which]
    restore(path, {key: data for key, data in sample.files.items() if key != name})
    error = expect_refusal(path, int(name[:20]))
    assert "missing" in error.reason
    assert name[21:29] in error.reason


@pytest.mark.parametrize("which", [0, 1, 2], ids=["first", "middle", "last"])
def test_segment_of_no_length(sample: Sample, path: Path, which: int) -> None:
    name = sample.segments[which]
    restore(path, {**sample.files, name: b""})
    expect_refusal(path, int(name[:20]), at_file=name)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["first", "middle", "last"])
def test_segment_of_zeros(sample: Sample, path: Path, which: int) -> None:
    name = sample.segments[which]
    restore(path, {**sample.files, name: bytes(len(sample.files[name]))})
    expect_refusal(path, int(name[:20]), at_file=name)


def test_segments_swapped(sample: Sample, path: Path) -> None:
    a, b = sample.segments[:2]
    restore(path, {**sample.files, a: sample.files[b], b: sample.files[a]})
    error = expect_refusal(path, int(b[:20]), at_file=b)
    assert a in error.reason


def test_segment_from_another_log(sample: Sample, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with FileWALManager(other, segment_bytes=SEGMENT_BYTES) as log:
        for _ in range(40):
            log.append(bytes(300))
    name = sample.segments[1]
    foreign = segment_files(other)[1].read_bytes()
    restore(path, {**sample.files, name: foreign})
    error = expect_refusal(path, int(name[:20]), at_file=name)
    assert "another log" in error.reason


def test_whole_log_replaced_but_for_meta(sample: Sample, path: Path, tmp_path: Path) -> None:
    twin_log = build(tmp_path, sample.clean)
    with FileWALManager(tmp_path / "fresh", segment_bytes=SEGMENT_BYTES):
        pass
    meta = (tmp_path / "fresh" / META_NAME).read_bytes()
    restore(path, {**twin_log.files, META_NAME: meta})
    expect_refusal(path, 1)


def test_segment_copied_under_another_name(sample: Sample, path: Path) -> None:
    """A copy that lies beside the log is not part of it."""
    name = sample.segments[0]
    for copy in (name + ".bak", "copy-of-" + name, name.replace(".wal", ".tmp")):
        restore(path, {**sample.files, copy: sample.files[name]})
        assert judge(path, sample.entries).kind == "fine"
        assert write_open(path, sample.entries) == "accepted"
        assert (path / copy).read_bytes() == sample.files[name]


def test_segment_copied_under_a_segment_name_is_never_read(sample: Sample, path: Path) -> None:
    name = sample.segments[0]
    for copy in (name[:20] + "-00000077.wal", "0" * 19 + "9-00000077.wal"):
        restore(path, {**sample.files, copy: sample.files[name]})
        assert judge(path, sample.entries).kind == "fine"
        assert write_open(path, sample.entries) == "accepted"


def test_segment_of_another_log_beside_this_one_is_kept(
    sample: Sample, path: Path, tmp_path: Path
) -> None:
    """It is no leftover of ours: it may be the only copy somebody has."""
    other = tmp_path / "other"
    with FileWALManager(other) as log:
        log.append(b"precious")
    foreign = segment_files(other)[0].read_bytes()
    name = "00000000000000000001-00000055.wal"
    restore(path, {**sample.files, name: foreign})
    assert write_open(path, sample.entries) == "accepted"
    assert (path / name).read_bytes() == foreign


def test_older_meta_does_not_drop_later_segments(
    sample: Sample, path: Path, tmp_path: Path
) -> None:
    """A meta that was restored from a backup names an older segment as the last. The later ones
    hold records, so they had been part of the log: nothing of them may be thrown away."""
    first = tmp_path / "first"
    log = FileWALManager(first, segment_bytes=SEGMENT_BYTES, clock=Ticks(), entropy=Entropy())
    log.append(b"0|")
    old = (first / META_NAME).read_bytes()[: 2 * BLOCK_BYTES]
    log.close()
    restore(path, {**sample.files, META_NAME: old})
    before = snapshot(path)
    with pytest.raises(CorruptLogError):
        FileWALManager(path)
    assert snapshot(path) == before


def test_meta_gone_empty_or_foreign(sample: Sample, path: Path) -> None:
    files = {key: data for key, data in sample.files.items() if key != META_NAME}
    for meta in (None, b"", bytes(100), bytes(3 * BLOCK_BYTES)):
        restore(path, files if meta is None else {**files, META_NAME: meta})
        before = snapshot(path)
        with pytest.raises((CorruptLogError, NotALogError)):
            FileWALManager(path)
        assert snapshot(path).keys() - before.keys() <= {META_NAME}
        assert {key: data for key, data in snapshot(path).items() if key != META_NAME} == files
    restore(path, {**files, META_NAME: b"#!/bin/sh\n" * 2000})
    with pytest.raises(NotALogError, match="mark"):
        FileWALManager(path)


def test_meta_empty_with_only_the_first_segment(path: Path, tmp_path: Path) -> None:
    """The one segment holds entries: this is no new log."""
    with FileWALManager(tmp_path / "one") as log:
        log.append(b"precious")
    files = snapshot(tmp_path / "one")
    restore(path, {**files, META_NAME: b""})
    before = snapshot(path)
    with pytest.raises(CorruptLogError):
        FileWALManager(path)
    assert snapshot(path) == before


def with_version(block: bytes, at: int, value: int) -> bytes:
    """A header block with another field, and its checksum made right."""
    changed = bytearray(block)
    changed[at] = value
    crc = twin.crc32c(bytes(changed[12:]), twin.crc32c(bytes(changed[:8])))
    changed[8:12] = crc.to_bytes(4, "little")
    return bytes(changed)


@pytest.mark.parametrize("at", [12, 15, 16, 20], ids=["version", "high", "flag", "clean"])
def test_newer_meta_is_refused(sample: Sample, path: Path, at: int) -> None:
    meta = sample.files[META_NAME]
    block = with_version(meta[:COPY_BYTES], at, 9) + meta[COPY_BYTES:BLOCK_BYTES]
    for both in (True, False):
        changed = block + (block if both else meta[BLOCK_BYTES : 2 * BLOCK_BYTES])
        restore(path, {**sample.files, META_NAME: changed + meta[2 * BLOCK_BYTES :]})
        before = snapshot(path)
        for read_only in (True, False):
            with pytest.raises(UnsupportedFormatError) as caught:
                FileWALManager(path, read_only=read_only)
            assert caught.value.path == str(path / META_NAME)
            assert caught.value.hint
        assert snapshot(path) == before


@pytest.mark.parametrize("at", [12, 16, 20], ids=["version", "flag", "reserved"])
@pytest.mark.parametrize("which", [0, 1, 2], ids=["first", "middle", "last"])
def test_newer_segment_is_refused(sample: Sample, path: Path, which: int, at: int) -> None:
    name = sample.segments[which]
    data = sample.files[name]
    changed = with_version(data[:BLOCK_BYTES], at, 9) + data[BLOCK_BYTES:]
    restore(path, {**sample.files, name: changed})
    before = snapshot(path)
    for read_only in (True, False):
        with pytest.raises(UnsupportedFormatError) as caught:
            FileWALManager(path, read_only=read_only)
        assert caught.value.path == str(path / name)
    assert snapshot(path) == before


def test_stray_files_are_ignored_and_listed(sample: Sample, path: Path) -> None:
    strays = {
        "README": b"hello",
        "meta.bak": sample.files[META_NAME],
        "1-1.wal": b"x",
        "00000000000000000001-00000001.WAL": b"x",
        "core": bytes(10),
        ".hidden": b"",
    }
    restore(path, {**sample.files, **strays})
    (path / "folder").mkdir()
    assert judge(path, sample.entries).kind == "fine"
    fd = open_meta(str(path), write=False)
    opened = read_log(str(path), fd)
    os.close(fd)
    assert opened is not None
    assert set(opened.layout.strays) == {*strays, "folder"}
    assert write_open(path, sample.entries) == "accepted"
    assert strays.items() <= snapshot(path).items()
    shutil.rmtree(path)
