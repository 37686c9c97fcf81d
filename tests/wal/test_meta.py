"""The file `meta`: two copies and a watermark, whole or torn, and the order they are written in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wal import raw
from tests.wal.raw import BLOCK, LOG_ID, SECTOR, meta_block, meta_of, watermark_bytes
from walstore.errors import CorruptLogError, NotALogError, UnsupportedFormatError
from walstore.limits import LSN_MAX
from walstore.wal import files
from walstore.wal.meta import (
    WATERMARK_AT,
    Meta,
    Watermark,
    decode_copy,
    decode_watermark,
    encode_copy,
    read_meta,
    read_watermark,
    watermark_seed,
    weaker_copy,
    write_copy,
    write_meta,
)

U64 = st.integers(0, (1 << 64) - 1)
COUNT = st.integers(0, LSN_MAX)
METAS = st.builds(
    Meta,
    log_id=st.binary(min_size=16, max_size=16),
    generation=COUNT,
    epoch=COUNT,
    term=COUNT,
    first_lsn=st.integers(1, LSN_MAX),
    prev_term=COUNT,
    tail_segment_id=COUNT,
    clean=st.booleans(),
    clean_lsn=COUNT,
)
OLD = meta_of(7, term=3, tail_segment_id=4)
NEW = meta_of(8, term=0x0405060708, tail_segment_id=9, first_lsn=77, clean=1, clean_lsn=90)


class MetaFile:
    """A `meta` file that a test fills with bytes."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT)

    def hold(self, *blocks: bytes) -> None:
        os.ftruncate(self.fd, 0)
        for at, block in enumerate(blocks):
            os.pwrite(self.fd, block, at * BLOCK)

    def read(self) -> Meta | None:
        return read_meta(self.fd, self.path)

    def weaker(self) -> int:
        return weaker_copy(self.fd, self.path)

    def bytes(self) -> bytes:
        return os.pread(self.fd, 4 * BLOCK, 0)


@pytest.fixture
def meta(tmp_path: Path) -> Iterator[MetaFile]:
    file = MetaFile(tmp_path / "meta")
    yield file
    os.close(file.fd)


def torn(block: bytes) -> bytes:
    """A copy of which only the end reached the disk."""
    return bytes(64) + block[64:]


@given(METAS)
def test_a_copy_comes_back_and_is_as_documented(value: Meta) -> None:
    block = encode_copy(value)
    assert block == meta_block(value)
    assert decode_copy(block, "meta") == value


def test_every_field_is_in_the_copy() -> None:
    for field in fields(Meta):
        old = getattr(OLD, field.name)
        new: Any = bytes(16) if field.name == "log_id" else not old
        assert encode_copy(replace(OLD, **{field.name: new})) != encode_copy(OLD), field.name


def test_a_flipped_bit_in_any_byte_makes_a_copy_not_whole() -> None:
    block = meta_block(OLD)
    for at in range(SECTOR):
        flipped = block[:at] + bytes([block[at] ^ 0x40]) + block[at + 1 :]
        assert decode_copy(flipped, "meta") is None, at


@pytest.mark.parametrize("size", [0, 1, 95, 96, SECTOR - 1])
def test_a_short_block_is_not_whole(size: int) -> None:
    assert decode_copy(meta_block(OLD)[:size], "meta") is None


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (12, 0, "format version 0"),
        (12, 2, "format version 2"),
        (16, 1, "flag 0x1/0x0"),
        (20, 2, "flag 0x0/0x2"),
    ],
    ids=["version 0", "version 2", "flags", "clean"],
)
def test_what_a_newer_version_wrote_is_refused(at: int, value: int, words: str) -> None:
    block = raw.patched(meta_block(OLD), at, "I", value)
    with pytest.raises(UnsupportedFormatError, match=words) as caught:
        decode_copy(block, "some/meta")
    assert caught.value.path == "some/meta"


@pytest.mark.parametrize("at", range(40, 96, 8))
def test_a_count_that_no_writer_gets_to_is_refused(at: int) -> None:
    """The next change would count on from it."""
    for value in (1 << 63, (1 << 64) - 1):
        with pytest.raises(CorruptLogError, match="makes no sense"):
            decode_copy(raw.patched(meta_block(OLD), at, "Q", value), "meta")


def test_a_log_that_starts_with_entry_0_is_refused() -> None:
    with pytest.raises(CorruptLogError, match="makes no sense"):
        decode_copy(raw.patched(meta_block(OLD), 64, "Q", 0), "meta")


def test_another_magic_with_a_valid_checksum_is_no_copy() -> None:
    block = raw.with_crc(b"WALSEGM\n" + meta_block(OLD)[8:])
    assert decode_copy(block, "meta") is None


@pytest.mark.parametrize("order", [1, -1])
def test_the_higher_generation_holds(meta: MetaFile, order: int) -> None:
    meta.hold(*[meta_block(OLD), meta_block(NEW)][::order])
    assert meta.read() == NEW


def test_copy_a_torn_at_every_byte(meta: MetaFile) -> None:
    old, new = meta_block(OLD), meta_block(NEW)
    told = set()
    for at in range(SECTOR + 1):
        mixed = new[:at] + old[at:]
        meta.hold(mixed, old)
        expected = NEW if mixed == new else OLD
        assert meta.read() == expected, at
        assert meta.weaker() == (1 if mixed == old else 0), "torn, or newer"
        told.add((mixed == new, mixed == old))
    assert told == {(True, False), (False, True), (False, False)}


def test_copy_b_torn_at_every_byte(meta: MetaFile) -> None:
    old, new = meta_block(OLD), meta_block(NEW)
    for at in range(SECTOR + 1):
        mixed = new[:at] + old[at:]
        meta.hold(new, mixed)
        assert meta.read() == NEW, at
        assert meta.weaker() == (0 if mixed == old else 1), "torn, or last"


def test_the_making_cut_short_at_every_byte_is_no_log_yet(meta: MetaFile) -> None:
    block = meta_block(OLD)
    for size in range(100):
        for copy in (block[:size], block[:size].ljust(3 * BLOCK, b"\0")):
            meta.hold(copy)
            expected = OLD if copy[:SECTOR] == block else None
            assert meta.read() == expected, size


def test_copy_a_torn_and_copy_b_zero_is_an_unfinished_making(meta: MetaFile) -> None:
    meta.hold(torn(meta_block(OLD)), bytes(BLOCK))
    assert meta.read() is None
    assert meta.weaker() == 0


def test_copy_a_whole_and_copy_b_zero_is_a_log(meta: MetaFile) -> None:
    meta.hold(meta_block(OLD), bytes(BLOCK))
    assert meta.read() == OLD
    assert meta.weaker() == 1


def test_copy_a_zero_and_copy_b_torn_is_damage(meta: MetaFile) -> None:
    meta.hold(bytes(BLOCK), meta_block(OLD)[:200])
    with pytest.raises(CorruptLogError, match="both copies"):
        meta.read()


def test_both_copies_torn_is_damage(meta: MetaFile) -> None:
    block = meta_block(OLD)
    meta.hold(block[:100] + b"\1" + block[101:], block[:200])
    with pytest.raises(CorruptLogError) as caught:
        meta.read()
    assert (caught.value.path, caught.value.offset, caught.value.lsn) == (meta.path, 0, 0)


def test_some_other_file(meta: MetaFile) -> None:
    meta.hold(b"#!/bin/sh\n" * 1000)
    with pytest.raises(NotALogError, match="mark"):
        meta.read()


def test_a_newer_version_is_refused_even_beside_a_known_copy(meta: MetaFile) -> None:
    newer = raw.patched(meta_block(NEW), 12, "I", 2)
    for copies in ((newer, meta_block(OLD)), (meta_block(OLD), newer)):
        meta.hold(*copies)
        with pytest.raises(UnsupportedFormatError):
            meta.read()
        with pytest.raises(UnsupportedFormatError):
            meta.weaker()


@pytest.mark.parametrize(
    ("a", "b", "weaker"),
    [
        ("old", "old", 1),
        ("new", "old", 0),
        ("old", "new", 1),
        ("torn", "old", 0),
        ("old", "torn", 1),
        ("torn", "torn", 0),
    ],
)
def test_the_weaker_copy_is_the_damaged_or_else_the_one_written_last(
    meta: MetaFile, a: str, b: str, weaker: int
) -> None:
    blocks = {"old": meta_block(OLD), "new": meta_block(NEW), "torn": torn(meta_block(OLD))}
    meta.hold(blocks[a], blocks[b])
    assert meta.weaker() == weaker


class Recorder:
    """Notes the calls on the disk, with what the file held at each sync, and may fail one."""

    def __init__(self, meta: MetaFile, monkeypatch: pytest.MonkeyPatch, fail_at: int = -1) -> None:
        self.calls: list[tuple[str, int]] = []
        self.images: list[bytes] = []
        self._meta, self._fail_at = meta, fail_at
        self._write, self._sync = files.write_at, files.sync_data
        monkeypatch.setattr(files, "write_at", self.write_at)
        monkeypatch.setattr(files, "sync_data", self.sync_data)

    def _count(self, name: str, at: int) -> None:
        if len(self.calls) == self._fail_at:
            raise OSError(5, "no")
        self.calls.append((name, at))

    def write_at(self, fd: int, data: bytes, at: int, path: str) -> None:
        self._count("write", at)
        assert len(data) == SECTOR
        self._write(fd, data, at, path)

    def sync_data(self, fd: int, path: str) -> None:
        self._count("sync", 0)
        self._sync(fd, path)
        self.images.append(self._meta.bytes())


@pytest.mark.parametrize("first", [0, 1])
def test_each_copy_is_synced_before_the_other_is_written(
    meta: MetaFile, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    old, new = meta_block(OLD), meta_block(NEW)
    meta.hold(old, old, watermark_bytes(5))
    recorder = Recorder(meta, monkeypatch)
    assert write_meta(meta.fd, NEW, meta.path, first) == NEW.next()
    places = [("write", first * BLOCK), ("sync", 0), ("write", (1 - first) * BLOCK), ("sync", 0)]
    assert recorder.calls == places
    newer = meta_block(replace(NEW, generation=NEW.generation + 1))
    states = [[new, old], [new, newer]] if first == 0 else [[old, new], [newer, new]]
    copies = [[image[:SECTOR], image[BLOCK:][:SECTOR]] for image in recorder.images]
    assert copies == states
    assert meta.bytes()[2 * BLOCK :] == watermark_bytes(5)


def test_copy_a_is_first_by_default(meta: MetaFile, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(meta, monkeypatch)
    write_meta(meta.fd, NEW, meta.path)
    assert recorder.calls[0] == ("write", 0)


@pytest.mark.parametrize("which", [0, 1])
def test_one_copy_is_written_and_not_synced(
    meta: MetaFile, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    meta.hold(meta_block(OLD), meta_block(OLD))
    recorder = Recorder(meta, monkeypatch)
    write_copy(meta.fd, NEW, meta.path, which)
    assert recorder.calls == [("write", which * BLOCK)]
    assert meta.bytes()[which * BLOCK :][:SECTOR] == meta_block(NEW)
    assert meta.bytes()[(1 - which) * BLOCK :][:SECTOR] == meta_block(OLD)


@pytest.mark.parametrize("fail_at", [1, 3])
@pytest.mark.parametrize("first", [0, 1])
def test_the_copy_whose_sync_failed_is_the_weaker_one(
    meta: MetaFile, monkeypatch: pytest.MonkeyPatch, first: int, fail_at: int
) -> None:
    """The page cache shows both whole, and only the other one may be on the disk."""
    meta.hold(meta_block(OLD), meta_block(OLD))
    recorder = Recorder(meta, monkeypatch, fail_at)
    with pytest.raises(OSError, match="no"):
        write_meta(meta.fd, NEW, meta.path, first)
    unsynced_at = recorder.calls[-1][1]
    assert meta.weaker() == unsynced_at // BLOCK


@pytest.mark.parametrize("fail_at", range(4))
@pytest.mark.parametrize("state", ["a torn", "b torn", "a newer", "b newer", "both"])
def test_a_change_that_fails_anywhere_leaves_a_whole_copy(
    meta: MetaFile, monkeypatch: pytest.MonkeyPatch, fail_at: int, state: str
) -> None:
    """Whatever the file was like, and even when the write that failed was torn."""
    old, older = meta_block(OLD), meta_block(replace(OLD, generation=6))
    start = {
        "a torn": (torn(old), old),
        "b torn": (old, torn(old)),
        "a newer": (old, older),
        "b newer": (older, old),
        "both": (old, old),
    }[state]
    meta.hold(*start)
    first = meta.weaker()
    recorder = Recorder(meta, monkeypatch, fail_at)
    with pytest.raises(OSError, match="no"):
        write_meta(meta.fd, NEW, meta.path, first)
    written = [at for name, at in recorder.calls if name == "write"]
    unsynced = written[-1:] if len(recorder.calls) in (1, 3) else []
    for at in unsynced:
        # The next opening begins with it: it may be in the page cache alone, and the other is not.
        assert meta.weaker() * BLOCK == at
        os.pwrite(meta.fd, bytes(64), at)
    over_newer = state in ("a newer", "b newer") and fail_at == 1
    fallback = replace(OLD, generation=6) if over_newer else OLD
    assert meta.read() == (NEW if fail_at >= 2 else fallback)


@given(U64, U64, st.integers(0, 1), st.binary(min_size=16, max_size=16))
def test_a_watermark_comes_back(durable_lsn: int, epoch: int, level: int, log_id: bytes) -> None:
    data = watermark_bytes(durable_lsn, epoch=epoch, level=level, log_id=log_id)
    assert len(data) == 24
    assert decode_watermark(data, log_id) == Watermark(level, epoch, durable_lsn)


def test_a_watermark_torn_between_any_two_others_is_none() -> None:
    old, new = watermark_bytes(0x01010101), watermark_bytes(0x0202020202, epoch=3)
    seen = 0
    for at in range(25):
        mixed = new[:at] + old[at:]
        if mixed not in (old, new):
            assert decode_watermark(mixed, LOG_ID) is None, at
            seen += 1
    assert seen > 10


@pytest.mark.parametrize("size", [0, 4, 23])
def test_a_watermark_cut_short_is_none(size: int) -> None:
    assert decode_watermark(watermark_bytes(5)[:size], LOG_ID) is None


def test_zeros_are_no_watermark() -> None:
    assert decode_watermark(bytes(24), LOG_ID) is None


def test_the_watermark_of_another_log_is_none() -> None:
    other = bytes(reversed(LOG_ID))
    assert watermark_seed(other) != watermark_seed(LOG_ID)
    assert decode_watermark(watermark_bytes(5, log_id=other), LOG_ID) is None


def test_the_watermark_lies_behind_both_copies(meta: MetaFile) -> None:
    assert WATERMARK_AT == 2 * BLOCK
    meta.hold(meta_block(OLD), meta_block(OLD))
    assert read_watermark(meta.fd, LOG_ID) is None
    meta.hold(meta_block(OLD), meta_block(OLD), watermark_bytes(9, epoch=2), bytes(100))
    assert read_watermark(meta.fd, LOG_ID) == Watermark(1, 2, 9)
