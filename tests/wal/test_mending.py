"""Damage cut away, for nodes that get it back from others: whatever is damaged, what is left is a
prefix, the claim reaches what had been acked, and nothing is deleted."""

from __future__ import annotations

import errno
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers import Entropy, contents, restore, seeded, snapshot
from tests.wal.rot import SEGMENT_BYTES, Sample, places_of, refuse_to_read
from walstore import CorruptLogError, FileWALManager, WALEntry
from walstore.limits import LSN_MAX
from walstore.wal import files
from walstore.wal.keeping import DAMAGED_PREFIX
from walstore.wal.mending import Claim, Mended, cut_damage
from walstore.wal.meta import META_NAME, WATERMARK_AT
from walstore.wal.opening import open_meta
from walstore.wal.segment import RECORDS_AT


def mend(path: Path, claims: list[Claim] | None = None) -> Mended | None:
    found: list[Claim] = [] if claims is None else claims
    fd = open_meta(str(path), write=True)
    try:
        return cut_damage(str(path), fd, SEGMENT_BYTES, 7, Entropy(3), found.append)
    finally:
        files.close(fd)


def is_prefix(entries: list[WALEntry], of: list[WALEntry]) -> bool:
    return entries == of[: len(entries)]


def judge_mended(path: Path, sample: Sample, mended: Mended | None) -> str:
    """What a log is after it was mended; raises where a promise is broken."""
    held = contents(path)
    assert is_prefix(held, sample.entries), "another entry"
    if mended is None:
        assert held == sample.entries, "entries are gone, and nothing says so"
        return "sound"
    last = sample.entries[-1]
    assert mended.last_lsn == len(held)
    assert mended.claim >= (last.term, last.lsn), (mended.claim, last.lsn)
    assert mended.claim.lsn in ((last.lsn,) if sample.clean else (last.lsn, LSN_MAX))
    # Equal where a byte behind the last entry is damaged.
    assert (last.term, mended.last_lsn) <= mended.claim
    with FileWALManager(path, segment_bytes=SEGMENT_BYTES) as log:
        assert log.last_lsn == len(held)
        log.append(b"goes on")
    assert is_prefix(contents(path)[:-1], sample.entries)
    return "cut"


def kept_bytes(path: Path) -> list[bytes]:
    return [data for name, data in snapshot(path).items() if name.startswith(DAMAGED_PREFIX)]


def test_every_kind_of_place_flipped(sample: Sample, path: Path) -> None:
    random, counts = seeded("mending"), Counter[str]()
    for name, data in sample.files.items():
        if name == META_NAME:
            continue
        places = sorted(places_of(sample, name))
        for at in random.sample(places, min(len(places), 150)):
            damaged = data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
            restore(path, {**sample.files, name: damaged})
            mended = mend(path)
            counts[judge_mended(path, sample, mended)] += 1
            if mended:
                assert damaged in kept_bytes(path), (name, at)
    print(counts)
    assert counts["cut"] > 150
    assert counts["sound"] > 50


def test_every_segment_cut_short_or_missing(sample: Sample, path: Path) -> None:
    random, counts = seeded("mending short"), Counter[str]()
    for name in sample.segments:
        data = sample.files[name]
        for size in [None, 0, 100, 4096, 8192, *random.sample(range(len(data)), 30)]:
            left = {**sample.files, name: data[:size]}
            if size is None:
                del left[name]
            restore(path, left)
            counts[judge_mended(path, sample, mend(path))] += 1
    print(counts)
    assert counts["cut"] > 30


def test_the_claim_is_made_before_anything_is_changed(sample: Sample, path: Path) -> None:
    name = sample.segments[0]
    restore(path, {n: data for n, data in sample.files.items() if n != name})
    before = snapshot(path)

    class NoSpaceError(Exception):
        pass

    def refuse(claim: Claim) -> None:
        raise NoSpaceError

    fd = open_meta(str(path), write=True)
    with pytest.raises(NoSpaceError):
        cut_damage(str(path), fd, SEGMENT_BYTES, 7, Entropy(3), refuse)
    files.close(fd)
    assert snapshot(path) == before


def test_a_damaged_batch_goes_whole(sample: Sample, path: Path) -> None:
    name = sample.segments[-1]
    _, start, _ = sample.records(name)[-2]  # the last of the batch
    data = bytearray(sample.files[name])
    data[start + 50] ^= 1
    restore(path, {**sample.files, name: bytes(data)})
    mended = mend(path)
    assert mended is not None
    assert mended.last_lsn == 19


def test_meta_that_is_damaged_or_older_is_refused(sample: Sample, path: Path) -> None:
    """Terms are votes: they are not to be had from others."""
    cases = [{**sample.files, META_NAME: bytes(16384)}]
    cases += [
        {**sample.files, META_NAME: old[META_NAME]}
        for old in sample.history[:8]
        if old[META_NAME][:64] != sample.files[META_NAME][:64]
    ]
    refused = 0
    for case in cases:
        restore(path, case)
        before = snapshot(path)
        try:
            assert mend(path) is None
        except CorruptLogError as error:
            refused += error.path == str(path / META_NAME)
        assert snapshot(path) == before
    print(f"cases={len(cases)} refused={refused}")
    assert refused >= 1


def test_meta_that_is_older_is_refused_where_its_segment_is_gone_too(
    sample: Sample, path: Path
) -> None:
    """What it did not know of may have been another term's."""
    first, second, _ = sample.segments
    for old in sample.history:
        if second not in old:
            older = old[META_NAME]
    restore(path, {n: data for n, data in {**sample.files, META_NAME: older}.items() if n != first})
    before = snapshot(path)
    with pytest.raises(CorruptLogError, match="older"):
        mend(path)
    assert snapshot(path) == before


def test_where_nothing_is_known_all_is_claimed(sample: Sample, path: Path) -> None:
    """The last segment is gone, and so is the watermark: only a later term is beyond the claim."""
    name, data = sample.segments[-1], sample.files[META_NAME]
    left = {n: data for n, data in sample.files.items() if n != name}
    left[META_NAME] = data[:WATERMARK_AT] + bytes(len(data) - WATERMARK_AT)
    restore(path, left)
    mended = mend(path)
    assert mended is not None
    last = sample.entries[-1]
    if sample.clean:
        assert mended.claim == (last.term, last.lsn)
    else:
        assert (last.term, 1 << 62) < mended.claim < (last.term + 1, 0)


def test_a_watermark_is_not_where_the_log_ended(sample: Sample, path: Path) -> None:
    """It is never synced: after a power loss it may be of long ago. Whatever takes the end of the
    last segment away, what is claimed is not less than what was acknowledged."""
    if sample.clean:
        pytest.skip("a log that was closed says where it ended")
    name, last = sample.segments[-1], sample.entries[-1]
    data, meta = sample.files[name], sample.files[META_NAME]
    records = sample.records(name)
    stale = [
        old[META_NAME][WATERMARK_AT : WATERMARK_AT + 24]
        for old in sample.history
        if name in old and old[META_NAME][:64] == meta[:64]
    ]
    assert len(set(stale)) > 1
    flipped = [
        data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in (20, records[1][1] + 50)
    ]
    short = [data[: records[-1][1] + 10], data[: records[0][1]].ljust(len(data), b"\0")]
    for watermark in stale:
        for left in (None, *flipped, *short):
            whole = meta[:WATERMARK_AT] + watermark + meta[WATERMARK_AT + 24 :]
            files_left = {**sample.files, META_NAME: whole, name: left}
            restore(path, {n: it for n, it in files_left.items() if it is not None})
            mended = mend(path)
            if mended is None:  # nothing shows that there was more: as a crash may leave it
                assert left in short
                assert watermark != stale[-1]
            else:
                assert mended.claim >= (last.term, last.lsn)


def test_blocks_that_cannot_be_read_are_damage(sample: Sample, path: Path) -> None:
    last = sample.entries[-1]
    for name in sample.segments:
        for block_at in (0, RECORDS_AT):
            restore(path, sample.files)
            with pytest.MonkeyPatch.context() as monkeypatch:
                refuse_to_read(monkeypatch, name, block_at)
                mended = mend(path)
            assert mended is not None
            assert mended.claim >= (last.term, last.lsn)
            assert mended.last_lsn < int(name[:20])
            assert sample.files[name] in kept_bytes(path)
            assert is_prefix(contents(path), sample.entries)
            assert len(contents(path)) == mended.last_lsn


def test_other_errors_are_not_damage(
    sample: Sample, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore(path, sample.files)

    def refuse(path: str, expect_lsn: int) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    fd = open_meta(str(path), write=True)
    try:
        monkeypatch.setattr("walstore.wal.mending.read_blocks", refuse)
        with pytest.raises(OSError, match="no memory"):
            cut_damage(str(path), fd, SEGMENT_BYTES, 7, Entropy(3), lambda claim: None)
    finally:
        files.close(fd)
    assert snapshot(path) == sample.files


def test_a_full_disk_gets_one_copy(sample: Sample, path: Path) -> None:
    """However often it is tried."""
    name = sample.segments[0]
    data = bytearray(sample.files[name])
    data[sample.records(name)[3][1] + 10] ^= 1
    restore(path, {**sample.files, name: bytes(data)})

    def refuse(path: str, size: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    for _ in range(3):
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr("walstore.wal.mending.make_zeroed", refuse)
            with pytest.raises(OSError, match="no space"):
                mend(path)
    assert mend(path) is not None
    assert kept_bytes(path).count(bytes(data)) == 1
    restore(
        path, {**sample.files, **{n: d for n, d in snapshot(path).items() if DAMAGED_PREFIX in n}}
    )
    data = bytearray(sample.files[name])
    data[sample.records(name)[3][1] + 11] ^= 1
    (path / name).write_bytes(data)
    assert mend(path) is not None
    assert kept_bytes(path).count(bytes(data)) == 1  # it is another one


def test_mending_twice_is_mending_once(sample: Sample, path: Path) -> None:
    name = sample.segments[1]
    restore(path, {n: data for n, data in sample.files.items() if n != name})
    assert mend(path) is not None
    before = snapshot(path)
    assert mend(path) is None
    assert snapshot(path) == before
