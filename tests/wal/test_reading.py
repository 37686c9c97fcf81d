"""Reading: places, open segments, and readers whose log changes under their hands."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import (
    contents,
    crash_copy,
    open_descriptors,
    payloads,
    seeded,
    segment_files,
)
from tests.wal.inside import (
    append_numbered,
    drop_spare,
    numbered,
    roll_once,
    segment_of,
    settle,
    writer_of,
)
from walstore import (
    ClosedLogError,
    CorruptLogError,
    FileWALManager,
    LogPoisonedError,
    LSNOutOfRangeError,
    WALEntry,
)
from walstore._native import ffi, lib
from walstore.wal import files
from walstore.wal.layout import Segment
from walstore.wal.reading import Place, SegmentCache, SegmentIndex, find_segment
from walstore.wal.record import crc32c, record_bytes
from walstore.wal.segment import RECORDS_AT, SEAL_AT, encode_seal

ROWS_MORE_THAN_ONE_RUN = 6000


def test_index_finds_the_record_at_or_before() -> None:
    pairs = array("I", [0, 1024, 5, 3072, 9, 5000]).tobytes()
    index = SegmentIndex(100, pairs, 50_000)
    first, second = Place(100, 8192, 24_576), Place(105, 24_576, 40_000)
    third = Place(109, 40_000, 50_000)
    wanted = [(100, first), (104, first), (105, second), (108, second), (109, third), (200, third)]
    for lsn, place in wanted:
        assert index.find(lsn) == place
    assert SegmentIndex(100, b"", 50_000).find(150) == Place(100, RECORDS_AT, 50_000)
    late = SegmentIndex(100, array("I", [5, 3072]).tobytes(), 50_000)
    assert late.find(104) == Place(100, RECORDS_AT, 50_000)


def test_find_segment(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log", segment_bytes=4096) as log:
        for _ in range(10):
            log.append(b"x" * 1500)
        segments = writer_of(log).segments()
        assert len(segments) >= 4
        for i, segment in enumerate(segments):
            assert find_segment(segments, segment.first_lsn) == i
            assert find_segment(segments, segment.first_lsn - 1) == i - 1
        assert find_segment(segments, 1000) == len(segments) - 1


def test_entries_of_every_size_are_read_across_the_index(tmp_path: Path) -> None:
    random = seeded("sizes")
    wanted = [random.randbytes(random.choice([0, 7, 300, 9000, 40_000])) for _ in range(120)]
    with FileWALManager(tmp_path / "log", segment_bytes=1 << 18) as log:
        for payload in wanted:
            log.append(payload)
        settle(log)
        assert writer_of(log).segments()[0].seal is not None
        for lsn in random.sample(range(1, 121), 120):
            assert log.read(lsn).payload == wanted[lsn - 1]
            assert next(log.replay(lsn)).payload == wanted[lsn - 1]


def test_damaged_index_of_a_sealed_segment_is_built_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with FileWALManager(path, segment_bytes=1 << 18) as log:
        roll_once(log, b"x", 500)
        settle(log)
        segment = writer_of(log).segments()[0]
    seal = segment.seal
    assert seal is not None
    assert seal.index_count > 3
    with open(segment.path, "r+b") as file:
        file.seek(seal.end_at)
        file.write(os.urandom(seal.index_bytes))
    with FileWALManager(path) as log:
        for lsn in (1, 2, seal.last_lsn // 2, seal.last_lsn):
            assert log.read(lsn).payload == numbered(b"x", lsn)


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        (1, (3, 0xFFFFFFFF)),
        (1, (0xFFFFFFFF, 2048)),
        (0, (0, 0)),
        (1, (0, 1024)),
        (2, (5, 1024)),
        (1, (3, 1030)),
        (2, None),
        (3, None),
    ],
    ids=["behind", "no such lsn", "before", "twice", "falls", "between", "lsn off", "place off"],
)
def test_wrong_index_under_valid_checksums_is_built_again(
    tmp_path: Path, pair: int, value: tuple[int, int] | None
) -> None:
    path = tmp_path / "log"
    with FileWALManager(path, segment_bytes=1 << 18) as log:
        roll_once(log, b"x" * 100, 100)
        settle(log)
        segment = writer_of(log).segments()[0]
    seal = segment.seal
    assert seal is not None
    with open(segment.path, "r+b") as file:
        file.seek(seal.end_at)
        index = array("I", file.read(seal.index_bytes))
        if value is None:  # plausible, and wrong: found out by looking
            index[2 * pair - pair % 2] += 8
        else:
            index[2 * pair], index[2 * pair + 1] = value
        file.seek(seal.end_at)
        file.write(index.tobytes())
        file.seek(SEAL_AT)
        file.write(encode_seal(replace(seal, index_crc=crc32c(index.tobytes()))))
    lsns = range(1, seal.last_lsn + 1, 50)
    with FileWALManager(path) as log:
        for lsn in lsns:
            assert log.read(lsn).payload == numbered(b"x" * 100, lsn)
    for lsn in lsns:
        with FileWALManager(path) as log:
            assert next(log.replay(lsn)).payload == numbered(b"x" * 100, lsn)


def test_index_that_leads_far_away_is_not_believed() -> None:
    """Nor may it say how much memory is taken."""
    good = array("I", [0, 1024, 5, 3072, 9, 5000])
    assert SegmentIndex(100, good.tobytes(), 50_000).is_plausible(109)
    assert SegmentIndex(100, b"", 50_000).is_plausible(99)
    for change in ({1: 1023}, {5: 6250}, {5: 0xFFFFFFFF}, {2: 9}, {3: 1024}, {4: 10}):
        bad = array("I", good)
        for at, value in change.items():
            bad[at] = value
        assert not SegmentIndex(100, bad.tobytes(), 50_000).is_plausible(109), change


def test_damage_is_reached_behind_all_good_entries(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log", segment_bytes=1 << 16) as log:
        for i in range(40):
            log.append(bytes([i]) * 1000)
        settle(log)
        at = RECORDS_AT + 6 * record_bytes(1000)
        segment = writer_of(log).segments()[0]
        with open(segment.path, "r+b") as file:
            file.seek(at + 100)
            file.write(b"\xff")
        got: list[int] = []
        with pytest.raises(CorruptLogError) as caught:
            got.extend(entry.lsn for entry in log.replay())
        with pytest.raises(CorruptLogError) as again:
            log.read(7)
        assert again.value.lsn == 7
        with pytest.raises(CorruptLogError):
            next(log.replay(7))
        assert (caught.value.path, caught.value.offset, caught.value.lsn) == (segment.path, at, 7)
        assert log.read(8).payload == bytes([7]) * 1000


# ---- open segments ----


@pytest.fixture
def many(tmp_path: Path) -> Iterator[FileWALManager]:
    with FileWALManager(tmp_path / "log", segment_bytes=4096) as log:
        for i in range(45):
            log.append(b"%02d" % i * 1800)
        settle(log)
        yield log


def test_cache_keeps_few_segments_open(many: FileWALManager) -> None:
    segments = writer_of(many).segments()
    assert len(segments) > 40
    cache = SegmentCache()
    before = open_descriptors()
    for segment in segments:
        cache.release(cache.acquire(segment))
    assert open_descriptors() - before == 32
    cache.close()
    assert open_descriptors() == before


def test_cache_never_closes_what_is_read(many: FileWALManager) -> None:
    segments = writer_of(many).segments()
    cache = SegmentCache()
    before = open_descriptors()
    handle = cache.acquire(segments[0])
    for segment in segments[1:]:
        cache.release(cache.acquire(segment))
    assert files.read_at(handle.fd, 8, 0) == b"WALSEGM\n"
    cache.close()
    assert files.read_at(handle.fd, 8, 0) == b"WALSEGM\n"
    cache.release(handle)
    assert open_descriptors() == before


def test_cache_says_whether_a_dropped_segment_is_read(many: FileWALManager) -> None:
    first, second = writer_of(many).segments()[:2]
    cache = SegmentCache()
    before = open_descriptors()
    assert cache.forget(first)
    handle = cache.acquire(first)
    assert not cache.forget(first)
    cache.release(handle)
    cache.release(cache.acquire(second))
    assert cache.forget(second)
    assert open_descriptors() == before


def test_cache_opens_another_segment_of_the_same_id_anew(many: FileWALManager) -> None:
    """A segment that was sealed since is another object: its handle knows where to stop."""
    first = writer_of(many).segments()[0]
    unsealed = segment_of(Path(first.path), first.last_lsn)
    cache = SegmentCache()
    with cache.open(unsealed) as old, cache.open(first) as new:
        assert old.segment is unsealed
        assert new.segment is first
    gone = segment_of(Path(first.path), first.last_lsn)
    os.rename(first.path, first.path + ".away")
    before = open_descriptors()
    with pytest.raises(FileNotFoundError):
        cache.acquire(gone)
    assert open_descriptors() == before - 1  # what it had of this id is let go of
    os.rename(first.path + ".away", first.path)
    with cache.open(first) as again:
        assert again.segment is first
    cache.close()


# ---- the log changes under a reader ----


@pytest.mark.parametrize("read_only", [False, True])
def test_replay_made_before_truncation_and_begun_after(tmp_path: Path, read_only: bool) -> None:
    """It must not begin with an entry that was not asked for."""
    path = tmp_path / "log"
    with FileWALManager(path, segment_bytes=4096) as log:
        for i in range(300):
            log.append(b"%03d" % i * 20)
        with FileWALManager(path, read_only=True) as follower:
            entries = (follower if read_only else log).replay(1, 300)
            log.truncate_before(250)
            with pytest.raises(LSNOutOfRangeError) as caught:
                next(entries)
            assert caught.value.lsn == 1
            if not read_only:
                assert caught.value.first_lsn == 250
            assert next(log.replay()).lsn == 250


def begun(log: FileWALManager) -> tuple[Iterator[WALEntry], list[WALEntry]]:
    """A replay that has shown ten entries."""
    entries = log.replay()
    return entries, [next(entries) for _ in range(10)]


def fill_and_pause(
    log: FileWALManager, reader: FileWALManager, between: Callable[[], None]
) -> tuple[Iterator[WALEntry], list[WALEntry], int]:
    """Pauses a replay in the first segment, which is then recycled and filled anew."""
    first = writer_of(log).segments()[0]
    inode = os.stat(first.path).st_ino
    assert first.last_lsn is not None
    assert first.last_lsn > ROWS_MORE_THAN_ONE_RUN
    entries, got = begun(reader)
    between()
    drop_spare(log)
    log.truncate_before(first.last_lsn + 1)
    settle(log)
    rolls = 0
    while os.stat(writer_of(log).segments()[-1].path).st_ino != inode:
        roll_once(log, b"NEW", 2000)
        rolls += 1
        assert rolls < 5, "the segment was not recycled, so nothing is tested"
    roll_once(log, b"NEW", 2000)
    return entries, got, first.last_lsn


def expect_old(entries: Iterator[WALEntry], got: list[WALEntry]) -> None:
    """Takes all that is left; every entry is the one its lsn had at first."""
    try:
        for entry in entries:
            got.append(entry)
    finally:
        for lsn, entry in enumerate(got, 1):
            assert (entry.lsn, entry.payload) == (lsn, numbered(b"old", lsn))


def test_recycling_under_a_replay_of_another_process(tmp_path: Path) -> None:
    """A reader that the writer does not know of: it is told, and shown nothing wrong."""
    path = tmp_path / "log"
    with FileWALManager(path, segment_bytes=1 << 19) as log:
        roll_once(log, b"old", 1000)
        settle(log)
        with FileWALManager(path, read_only=True) as reader:
            entries, got, last_lsn = fill_and_pause(log, reader, lambda: None)
            with pytest.raises(LSNOutOfRangeError):
                expect_old(entries, got)
            assert len(got) < last_lsn


def test_recycling_under_a_replay_whose_handle_was_evicted(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log", segment_bytes=1 << 19) as log:
        roll_once(log, b"old", 1000)
        for _ in range(35):
            log.append(b"x" * 400_000)
        settle(log)

        def evict() -> None:
            for segment in writer_of(log).segments()[1:]:
                assert log.read(segment.first_lsn).lsn == segment.first_lsn

        entries, got, last_lsn = fill_and_pause(log, log, evict)
        with pytest.raises(LSNOutOfRangeError):
            expect_old(entries, got)
        assert len(got) < last_lsn


def test_a_segment_that_is_read_in_this_process_is_not_recycled(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log", segment_bytes=1 << 19) as log:
        roll_once(log, b"old", 1000)
        settle(log)
        last_lsn = log.last_lsn
        entries, got = begun(log)
        drop_spare(log)
        log.truncate_before(writer_of(log).segments()[1].first_lsn)
        for _ in range(3):
            roll_once(log, b"NEW", 2000)
        expect_old(entries, got)
        assert len(got) == last_lsn


def test_follower_goes_on_after_a_refused_group(tmp_path: Path) -> None:
    """It saw a group in flight that the writer took back, for lack of space, and wrote over."""
    path = tmp_path / "log"
    with FileWALManager(path, segment_bytes=1 << 16) as log:
        log.append(b"first")
        with FileWALManager(path, read_only=True) as reader:
            segment, at = writer_of(log).segments()[-1], writer_of(log).group.status().tail_at
            row: Any = ffi.new("walcore_entry *")
            row.lsn, row.term, row.timestamp_ns, row.durable_lsn = 2, log.term, 1, 1
            row.payload_bytes, row.kind = 500, 1
            out = ffi.new("uint8_t[]", record_bytes(500))
            lib.walcore_encode(out, segment.header.seed, row, b"q" * 500)
            fd = files.open_file(segment.path, write=True)
            files.write_at(fd, bytes(ffi.buffer(out)), at, segment.path)
            assert payloads(reader.replay()) == [b"first"]  # it is not durable: not shown
            files.zero_fill(fd, at, at + record_bytes(500), segment.path)
            files.close(fd)
            for i in range(50):
                log.append(b"%d" % i)
            assert payloads(reader.replay()) == [b"first", *[b"%d" % i for i in range(50)]]
            append_numbered(log, b"more", 3)
            assert reader.tail(52).__next__().payload == numbered(b"more", 52)


def test_an_unclosed_log_is_read_to_its_last_entry(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log", sync="os", segment_bytes=4096) as log:
        for i in range(30):
            log.append(b"%02d" % i * 200)
        crash_copy(tmp_path / "log", tmp_path / "copy")
    assert len(segment_files(tmp_path / "copy")) > 2
    assert payloads(contents(tmp_path / "copy")) == [b"%02d" % i * 200 for i in range(30)]


@pytest.mark.parametrize("look", ["bounds", "segments_in"])
@pytest.mark.parametrize("call", ["read", "replay", "verify"])
def test_truncation_between_a_look_at_the_bounds_and_one_at_the_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, look: str
) -> None:
    """The lsns are being given out again when the reader gets to them: no damage."""
    with FileWALManager(tmp_path / "log") as log:
        append_numbered(log, b"old", 10)
        writer, looks = writer_of(log), []
        bounds, segments_in, explain = writer.bounds, writer.segments_in, writer.explain

        def truncate_at(this: str) -> None:
            if this == look:
                looks.append(this)
                if len(looks) == 1:
                    log.truncate_after(5)
                    append_numbered(log, b"new", 1)

        def bounds_then_truncate() -> tuple[int, int]:
            found = bounds()
            truncate_at("bounds")
            return found

        def truncate_then_segments(generation: int) -> tuple[Segment, ...] | None:
            truncate_at("segments_in")
            return segments_in(generation)

        def append_then_explain(error: CorruptLogError) -> Exception:
            append_numbered(log, b"new", 9)
            return explain(error)

        monkeypatch.setattr(writer, "bounds", bounds_then_truncate)
        monkeypatch.setattr(writer, "segments_in", truncate_then_segments)
        monkeypatch.setattr(writer, "explain", append_then_explain)
        if call == "read":
            with pytest.raises(LSNOutOfRangeError, match="8"):
                log.read(8)
        elif call == "verify":
            report = log.verify()
            assert (report.status, report.entries, report.last_lsn) == ("clean", 6, 6)
        else:
            payloads = [entry.payload for entry in log.replay()]
            assert payloads == [numbered(b"old", i) for i in range(1, 6)] + [numbered(b"new", 6)]
        assert looks


@pytest.mark.parametrize("sync", ["interval", "os"])
def test_poisoned_log_is_read_to_its_durable_end(tmp_path: Path, sync: Any) -> None:
    log = FileWALManager(tmp_path / "log", sync=sync, sync_interval_ms=60_000)
    log.append_many([b"1", b"2"])
    log.sync()
    log.append(b"lost")
    writer_of(log).group.poison(errno.EIO)
    assert (log.last_lsn, log.durable_lsn) == (3, 2)
    assert payloads(log.replay()) == [b"1", b"2"]
    assert payloads(log.replay(2)) == [b"2"]
    assert payloads(log.replay(3)) == []
    report = log.verify()
    assert (report.status, report.entries, report.last_lsn) == ("clean", 2, 2)
    for asked in (lambda: log.read(3), lambda: log.replay(1, 3), lambda: log.replay(4)):
        with pytest.raises(LogPoisonedError):
            asked()
    with pytest.raises(LogPoisonedError):
        log.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_replay_begun_before_close_ends_with_it(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "log"
    with FileWALManager(path, segment_bytes=4096) as log:
        append_numbered(log, b"x" * 1000, 3)
        for _ in range(5):
            roll_once(log, b"x" * 1000, 3)
    before = open_descriptors()
    log = FileWALManager(path, read_only=read_only)
    begun, fresh = log.replay(), log.replay()
    assert next(begun).lsn == 1
    log.close()
    with pytest.raises(ClosedLogError):
        next(fresh)
    with pytest.raises(ClosedLogError):
        list(begun)  # behind the segment that it has open, at the latest
    assert open_descriptors() == before
