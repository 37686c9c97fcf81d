"""Bit rot, and files lost, swapped or rolled back, met by the next writer. Each outcome is one of:

- harmless: all entries are there;
- a legal prefix: only what nothing had proven durable is gone, and torn bytes are kept;
- refused: an error of ours that names the place, and nothing was changed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from tests.helpers import restore, seeded, snapshot
from tests.native import twin
from tests.wal.rot import (
    ACKED,
    SEGMENT_BYTES,
    Outcome,
    Sample,
    build,
    judge,
    judge_cut,
    judge_flip,
    places_of,
    without_spares,
)
from walstore import CorruptLogError, FileWALManager, LogOpenError
from walstore.limits import BLOCK_BYTES
from walstore.wal.layout import is_cut
from walstore.wal.meta import COPY_BYTES, META_NAME, WATERMARK_AT

WATERMARK_BYTES = 24
SEGMENT_FIELDS_BYTES = 120  # of the header block and of the seal block; zeros follow
PREFIX = "legal prefix"


def without_power(sample: Sample) -> Sample:
    """The same log when the power went: its watermark had not reached the disk, so that nothing
    proves the last entry."""
    assert not sample.clean
    meta = sample.files[META_NAME][:WATERMARK_AT] + bytes(WATERMARK_BYTES)
    files = {**sample.files, META_NAME: meta}
    return Sample(files, sample.entries, False, sample.history)


def header_bits(sample: Sample, name: str) -> Iterator[int]:
    """Where the bits of the headers in a file are."""
    spans = [(0, SEGMENT_FIELDS_BYTES), (BLOCK_BYTES, BLOCK_BYTES + SEGMENT_FIELDS_BYTES)]
    if name == META_NAME:
        spans = [(0, COPY_BYTES), (BLOCK_BYTES, BLOCK_BYTES + COPY_BYTES)]
        spans.append((WATERMARK_AT, WATERMARK_AT + WATERMARK_BYTES))
    else:
        spans += [(start, start + twin.HEADER_BYTES) for _, start, _ in sample.records(name)]
    for start, stop in spans:
        yield from range(8 * start, 8 * stop)


def test_every_bit_of_every_header_flipped(sample: Sample, path: Path) -> None:
    """Of records, segments, seals, both copies of the metadata and the watermark."""
    restore(path, sample.files)
    counts: Counter[str] = Counter()
    problems: list[str] = []
    for name in (META_NAME, *sample.segments):
        data = sample.files[name]
        fd = os.open(path / name, os.O_WRONLY)
        for bit in header_bits(sample, name):
            at = bit // 8
            os.pwrite(fd, bytes([data[at] ^ 1 << bit % 8]), at)
            outcome = judge(path, sample.entries)
            counts[outcome.kind] += 1
            problem = judge_flip(sample, path, name, at, outcome)
            if problem:
                problems.append(f"{name}, bit {bit}: {problem}")
            os.pwrite(fd, data[at : at + 1], at)
        os.close(fd)
    print(f"header bits={sum(counts.values())} {dict(counts)} problems={len(problems)}")
    assert not problems, problems[:20]
    assert snapshot(path) == sample.files
    assert sum(counts.values()) > 20_000
    assert counts["fine"] > 10_000  # of one copy of the metadata, the watermark, the seals
    assert counts["refused at open"] > 4_000
    assert counts["refused at read"] > 4_000


def open_to_write(path: Path, sample: Sample, floor: int) -> Outcome:
    """What the next writer of a damaged log is told; `floor` entries had been durable for sure.

    Raises whatever is no error of a log that is refused.
    """
    before = snapshot(path)
    try:
        log = FileWALManager(path, segment_bytes=SEGMENT_BYTES)
    except (CorruptLogError, LogOpenError) as error:
        same = without_meta_made(snapshot(path), before) == before
        return Outcome("refused at open" if same else "refused, and changed", error)
    got = []
    with log:
        try:
            for entry in log.replay():
                got.append(entry)
        except CorruptLogError as error:
            good = got == sample.entries[: len(got)] and error.lsn == len(got) + 1
            return Outcome("refused at read" if good else "wrong before what was refused", error)
        if got != sample.entries[: len(got)] or len(got) < floor:
            return Outcome(f"wrong: {len(got)} of {len(sample.entries)} entries")
        if log.append(b"goes on") != len(got) + 1:
            return Outcome("wrong: the next append got another lsn")
    if len(got) == len(sample.entries):
        return Outcome("fine")
    return Outcome(
        PREFIX
        if is_kept(sample, before, snapshot(path), len(got) + 1)
        else "wrong: torn bytes are gone"
    )


def without_meta_made(after: dict[str, bytes], before: dict[str, bytes]) -> dict[str, bytes]:
    """The lock is on `meta`: opening makes an empty one where there is none."""
    if META_NAME in before or after.get(META_NAME):
        return after
    return {name: data for name, data in after.items() if name != META_NAME}


def is_kept(sample: Sample, before: dict[str, bytes], after: dict[str, bytes], lsn: int) -> bool:
    """Whether all that stood where entry `lsn` did is in a new file."""
    name = sample.segments[-1]
    start = next(start for record_lsn, start, _ in sample.records(name) if record_lsn == lsn)
    torn = before[name][start:].rstrip(b"\0")
    cuts = [after[cut] for cut in after if is_cut(cut) and cut not in before]
    return not torn if not cuts else len(cuts) == 1 and cuts[0].rstrip(b"\0") == torn


def is_told_alike(reader: Outcome, writer: Outcome) -> bool:
    """Whether both see the same entries, or refuse the same place. (A reader may learn of it only
    when it reads there.)"""
    if writer.kind == PREFIX:
        return reader.kind not in ACKED
    mine, other = reader.error, writer.error
    if isinstance(mine, CorruptLogError) and isinstance(other, CorruptLogError):
        return (mine.path, mine.offset, mine.lsn) == (other.path, other.offset, other.lsn)
    return type(mine) is type(other)


def try_all(
    path: Path, sample: Sample, changed: dict[str, dict[str, bytes]], floor: int | None = None
) -> tuple[dict[str, Outcome], Counter[str]]:
    """What the next writer is told of each of these changed logs; a reader is told the same."""
    outcomes: dict[str, Outcome] = {}
    counts: Counter[str] = Counter()
    for what, files in changed.items():
        restore(path, files)
        read = judge(path, sample.entries)
        assert snapshot(path) == files, f"{what}: reading changed it"
        outcome = outcomes[what] = open_to_write(
            path, sample, len(sample.entries) if floor is None else floor
        )
        counts[outcome.kind] += 1
        assert outcome.kind in (*ACKED, PREFIX), f"{what}: {outcome}"
        assert is_told_alike(read, outcome), f"{what}: a writer is told {outcome}, a reader {read}"
    return outcomes, counts


def test_writer_meets_flips_and_cuts(sample: Sample, path: Path) -> None:
    """A sample of the places that test_damage.py shows to a reader."""
    random = seeded("writer")
    counts: Counter[str] = Counter()
    problems: list[str] = []
    places = [(name, at) for name in sample.files for at in places_of(sample, name)]
    for name, at in random.sample(places, 700):
        data, cut = sample.files[name], random.random() < 0.4
        spoilt = data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
        restore(path, {**sample.files, name: data[:at] if cut else spoilt})
        outcome = open_to_write(path, sample, len(sample.entries))
        counts[outcome.kind] += 1
        judgement = judge_cut if cut else judge_flip
        problem = judgement(sample, path, name, at, outcome)
        if problem:
            problems.append(f"{name} {'cut to' if cut else 'flipped at'} {at}: {problem}")
    print(f"written to={sum(counts.values())} {dict(counts)} problems={len(problems)}")
    assert not problems, problems[:20]
    assert counts["fine"] > 100
    assert counts["refused at open"] > 100
    assert counts["refused at read"] > 20


def test_entry_that_nothing_proves_is_cut_and_kept(path: Path, tmp_path: Path) -> None:
    """Each bit of it flipped, and cut at each place: torn, since nothing says it was durable."""
    sample = without_power(build(tmp_path, clean=False))
    name = sample.segments[-1]
    lsn, start, end = sample.records(name)[-1]
    assert lsn == len(sample.entries)
    data = sample.files[name]
    changed = {f"cut to {at}": {**sample.files, name: data[:at]} for at in range(start, end)}
    for bit in range(8 * start, 8 * end):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        changed[f"bit {bit}"] = {**sample.files, name: bytes(spoilt)}
    outcomes, counts = try_all(path, sample, changed, lsn - 1)
    print(f"unproven={len(outcomes)} {dict(counts)}")
    assert counts[PREFIX] > 8 * 59  # the zeros that fill a record up may be cut off
    assert counts[PREFIX] + counts["fine"] == len(outcomes)


def test_segments_removed_swapped_copied(sample: Sample, path: Path) -> None:
    names = sample.segments
    lost: dict[str, dict[str, bytes]] = {}
    harmless: dict[str, dict[str, bytes]] = {}
    for count in (1, 2, 3):
        for gone in combinations(names, count):
            lost["without " + " ".join(gone)] = {
                name: data for name, data in sample.files.items() if name not in gone
            }
    for a, b in combinations(names, 2):
        for over in ({a: b}, {b: a}, {a: b, b: a}):
            lost[f"{over}"] = {**sample.files, **{to: sample.files[of] for to, of in over.items()}}
    for name in names:
        other_id, other_lsn = f"{name[:20]}-{99:08x}.wal", f"{int(name[:20]) + 1:020d}{name[20:]}"
        for copy in (other_id, other_lsn, f"spare-{98:08x}.wal", f"cut-{name[21:29]}-0-0.bin"):
            harmless[f"{name} also as {copy}"] = {**sample.files, copy: sample.files[name]}
    refused, counts = try_all(path, sample, lost)
    assert {*counts} == {"refused at open"}, counts
    for what, outcome in refused.items():
        assert isinstance(outcome.error, CorruptLogError), what
        first = min(int(name[:20]) for name in names if name in what)
        assert outcome.error.lsn >= first, f"{what}: {outcome.error}"
    _, kept = try_all(path, sample, harmless)
    print(f"removed, swapped, copied={len(lost) + len(harmless)} {dict(counts + kept)}")
    assert {*kept} == {"fine"}
    assert len(lost) >= 16
    assert len(harmless) >= 12


def test_files_of_another_log(sample: Sample, path: Path, tmp_path: Path) -> None:
    """A log of the same shape, with the same entries: only its id and its salts are others."""
    twin_path = tmp_path / "twin"
    with FileWALManager(twin_path, segment_bytes=SEGMENT_BYTES) as log:
        for entry in sample.entries:
            log.append(entry.payload)
    other = without_spares(snapshot(twin_path))
    others = [name for name in sorted(other) if name[:1].isdigit()]
    changed = {
        f"{name} is {foreign} of another log": {**sample.files, name: other[foreign]}
        for name in sample.segments
        for foreign in others
    }
    changed["meta of another log"] = {**sample.files, META_NAME: other[META_NAME]}
    outcomes, counts = try_all(path, sample, changed)
    print(f"of another log={len(outcomes)} {dict(counts)}")
    assert {*counts} == {"refused at open"}
    for what, outcome in outcomes.items():
        assert isinstance(outcome.error, CorruptLogError), what
        if not what.startswith("meta"):
            assert outcome.error.path == str(path / what.split()[0]), outcome.error
    assert len(outcomes) >= 9


def test_file_rolled_back(sample: Sample, path: Path) -> None:
    """One file is an older copy of itself: nothing that was acked is passed over in silence."""
    changed = {}
    for number, then in enumerate(sample.history):
        for name, data in then.items():
            if data != sample.files.get(name):
                changed[f"{name} of moment {number}"] = {**sample.files, name: data}
    outcomes, counts = try_all(path, sample, changed)
    print(f"rolled back={len(outcomes)} {dict(counts)}")
    for what, outcome in outcomes.items():
        error = outcome.error
        if isinstance(error, CorruptLogError) and what.startswith("0"):
            assert error.path == str(path / what.split()[0]), f"{what}: {error}"
    assert counts["refused at open"] >= 20
    assert counts["fine"] >= 2


def test_metadata_lost(sample: Sample, path: Path) -> None:
    rest = {name: data for name, data in sample.files.items() if name != META_NAME}
    meta = sample.files[META_NAME]
    changed = {"no meta": rest}
    for what, data in (
        ("empty", b""),
        ("zeros", bytes(len(meta))),
        (
            "both copies damaged",
            bytes(9) + meta[9:BLOCK_BYTES] + bytes(9) + meta[BLOCK_BYTES + 9 :],
        ),
    ):
        changed[what] = {**rest, META_NAME: data}
    _, counts = try_all(path, sample, changed)
    assert counts == {"refused at open": len(changed)}
