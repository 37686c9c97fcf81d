"""A small log to damage, and what its next reader or writer may be told about it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers import Entropy, Ticks, contents, crash_copy, snapshot
from tests.native import twin
from walstore import CorruptLogError, FileWALManager, LogOpenError, WALEntry
from walstore.limits import BLOCK_BYTES
from walstore.wal import files
from walstore.wal.layout import is_cut, is_spare
from walstore.wal.meta import COPY_BYTES, META_NAME
from walstore.wal.segment import RECORDS_AT

SEGMENT_BYTES = 4096
BATCH = range(20, 23)
TORN_LSN = 5  # a writer lost power when it wrote this one first
ACKED = "fine", "refused at open", "refused at read"


@dataclass(frozen=True)
class Sample:
    """A small log: its files, and where each record is."""

    files: dict[str, bytes]
    entries: list[WALEntry]
    clean: bool
    history: tuple[dict[str, bytes], ...]  # its files at earlier times, oldest first

    @property
    def segments(self) -> list[str]:
        return [name for name in sorted(self.files) if name[:1].isdigit()]

    def records(self, name: str) -> list[tuple[int, int, int]]:
        """(lsn, start, end) of each record in a segment."""
        following = [int(other[:20]) for other in self.segments if other > name]
        first_lsn, end_lsn = int(name[:20]), min(following, default=len(self.entries) + 1)
        places, at = [], RECORDS_AT
        for lsn in range(first_lsn, end_lsn):
            total = twin.padded(48 + len(self.entries[lsn - 1].payload))
            places.append((lsn, at, at + total))
            at += total
        return places


def build(path: Path, clean: bool) -> Sample:
    """A log of two full segments and a begun one, with a batch, terms and a cut file; closed, or
    killed."""
    work = path / ("clean" if clean else "killed")
    build_torn(path / "torn", work)
    log = FileWALManager(work, segment_bytes=SEGMENT_BYTES, clock=Ticks(), entropy=Entropy(2))
    history = [settled(log)]
    for i in range(TORN_LSN - 1, 19):
        log.append(b"%d|" % i + bytes([i]) * (40 * i))
        history.append(settled(log))
    log.begin_term()
    history.append(settled(log))
    assert log.append_many([b"batch-a" * 9, b"", b"batch-c" * 20]) == BATCH
    history.append(settled(log))
    log.append(b"last of all")
    history.append(settled(log))
    entries = list(log.replay())
    log.close()
    files = without_spares(snapshot(work)) if clean else history[-1]
    return Sample(files, entries, clean, tuple(history))


def settled(log: FileWALManager) -> dict[str, bytes]:
    """The files of a running log, as a kill would leave them."""
    assert log._writer is not None
    log._writer._housekeeper.wait_idle()
    return without_spares(snapshot(Path(log.path)))


def without_spares(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if not is_spare(name)}


def build_torn(path: Path, copy: Path) -> None:
    """The first entries, and a torn one behind them, for the next writer to cut."""
    log = FileWALManager(path, segment_bytes=SEGMENT_BYTES, clock=Ticks(), entropy=Entropy())
    for i in range(TORN_LSN - 1):
        log.append(b"%d|" % i + bytes([i]) * (40 * i))
    settled(log)
    crash_copy(path, copy)
    end_at = RECORDS_AT + sum(twin.padded(48 + len(e.payload)) for e in log.replay())
    log.close()
    (segment,) = (copy / name for name in snapshot(copy) if name[:1].isdigit())
    with open(segment, "r+b") as file:
        file.seek(end_at)
        file.write(b"torn away " * 30)


def places_of(sample: Sample, name: str) -> Iterator[int]:
    """Every byte of a file that is ever written, and one in eight of the room behind."""
    size = len(sample.files[name])
    used = size if name not in sample.segments else sample.records(name)[-1][2] + 200
    yield from range(min(used, size))
    yield from range(used, size, 8)


@dataclass(frozen=True)
class Outcome:
    """What a reader of a damaged log is told."""

    kind: str
    error: CorruptLogError | LogOpenError | None = None

    def says(self, path: Path, lsn: int, offset: int) -> bool:
        error = self.error
        return isinstance(error, CorruptLogError) and (error.path, error.lsn, error.offset) == (
            str(path),
            lsn,
            offset,
        )


def judge(path: Path, expected: list[WALEntry]) -> Outcome:
    """Reads a log that may be damaged, changing nothing."""
    try:
        log = FileWALManager(path, read_only=True)
    except (CorruptLogError, LogOpenError) as error:
        return Outcome("refused at open", error)
    got: list[WALEntry] = []
    with log:
        try:
            for entry in log.replay():
                got.append(entry)
        except CorruptLogError as error:
            assert got == expected[: len(got)], "wrong entries before the damage"
            return Outcome("refused at read", error)
    if got == expected:
        return Outcome("fine")
    return Outcome(f"wrong: {len(got)} of {len(expected)} entries")


def judge_flip(sample: Sample, path: Path, name: str, at: int, outcome: Outcome) -> str | None:
    """Says what is wrong with an outcome of a flipped byte, or None."""
    if outcome.kind not in ACKED:
        return outcome.kind
    if name not in sample.segments:
        return None if outcome.kind == "fine" else f"it must do no harm: {outcome.error}"
    if at < BLOCK_BYTES:
        ok = outcome.says(path / name, int(name[:20]), 0)
        return None if ok else f"header: {outcome.error}"
    record = next((row for row in sample.records(name) if row[1] <= at < row[2]), None)
    if record is None:
        # Seal, index and the room behind are derived or never read; in a log that was closed,
        # nonsense where the next record would stand is told as well.
        end = sample.records(name)[-1][2]
        told = sample.clean and end <= at < end + twin.HEADER_BYTES
        return None if outcome.kind == "fine" or told else f"derived bytes: {outcome.error}"
    lsn, start, _ = record
    return None if outcome.says(path / name, lsn, start) else f"record {lsn}: {outcome.error}"


def judge_cut(sample: Sample, path: Path, name: str, size: int, outcome: Outcome) -> str | None:
    """Says what is wrong with an outcome of a shortened file, or None."""
    if outcome.kind not in ACKED:
        return outcome.kind
    if is_cut(name):
        return None if outcome.kind == "fine" else f"it must do no harm: {outcome.error}"
    if name == META_NAME:
        whole = size >= COPY_BYTES
        expected = "fine" if whole else "refused at open"
        return None if outcome.kind == expected else f"{outcome.kind}: {outcome.error}"
    if size < BLOCK_BYTES:
        ok = outcome.says(path / name, int(name[:20]), size)
        return None if ok else f"header: {outcome.error}"
    records = sample.records(name)
    lost = next(((lsn, at) for lsn, at, end in records if size < end), None)
    if lost and lost[0] in BATCH and name == sample.segments[-1]:
        lost = next((lsn, at) for lsn, at, _ in records if lsn == BATCH[0])
    if lost is None:
        return None if outcome.kind == "fine" else f"only derived bytes are gone: {outcome.error}"
    return None if outcome.says(path / name, *lost) else f"record {lost}: {outcome.error}"


def write_open(path: Path, expected: list[WALEntry]) -> str:
    """Opens a damaged log to write. Refused: nothing was changed. Accepted: all is there, and
    it goes on."""
    before = snapshot(path)
    try:
        log = FileWALManager(path, segment_bytes=SEGMENT_BYTES)
    except (CorruptLogError, LogOpenError):
        assert snapshot(path) == before, "a log that was refused was changed"
        return "refused"
    with log:
        got: list[WALEntry] = []
        try:
            got.extend(log.replay())
        except CorruptLogError:
            return "refused at read"
        assert got == expected
        lsn = log.append(b"goes on")
        assert lsn == len(expected) + 1
    assert contents(path)[:-1] == expected
    return "accepted"


def refuse_to_read(monkeypatch: pytest.MonkeyPatch, name: str, bad_at: int) -> None:
    """A block of a file gives EIO from now on."""
    read_at = files.read_at

    def refuse(fd: int, size: int, at: int) -> bytes:
        if at <= bad_at < at + size and os.readlink(f"/proc/self/fd/{fd}").endswith(name):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read_at(fd, size, at)

    monkeypatch.setattr(files, "read_at", refuse)
