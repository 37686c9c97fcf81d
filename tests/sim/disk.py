"""A node's disk: a log whose written entries become durable later, and what it must never lose."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from typing import cast

from walstore.replication.entries import Batch, Run

TERM_PAYLOAD = 0
RECORD_BYTES = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry; payloads are numbers that no two appends share, but for a term's first entry."""

    term: int
    payload: int

    @property
    def nbytes(self) -> int:
        """Bytes on the wire: some entries are larger than others."""
        return RECORD_BYTES + self.payload % 5


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What an application has made of all entries up to lsn."""

    lsn: int
    term: int
    data: bytes


class DiskFullError(Exception):
    """Nothing was appended."""


class Disk:
    """A log. What is durable survives a crash, of the rest any prefix."""

    def __init__(self) -> None:
        self.first_lsn = 1
        self.prev_term = 0
        self.digest = 0  # of all entries before the first one
        self.entries: list[Entry] = []
        self.durable_lsn = 0
        self.term = 0
        self.mark = 0  # committed_lsn as it is in the file
        self.generation = 0
        self.full = False
        self.diverged: list[dict[int, Entry]] = []
        self.snapshot: Snapshot | None = None

    @property
    def last_lsn(self) -> int:
        return self.first_lsn + len(self.entries) - 1

    def entry(self, lsn: int) -> Entry:
        assert self.first_lsn <= lsn <= self.last_lsn, lsn
        return self.entries[lsn - self.first_lsn]

    def holds(self, lsn: int) -> bool:
        return self.first_lsn <= lsn <= self.last_lsn

    def term_of(self, lsn: int) -> int:
        if lsn == self.first_lsn - 1:
            return self.prev_term
        return self.entry(lsn).term

    def append(self, entry: Entry) -> int:
        if self.full:
            raise DiskFullError
        assert self.term_of(self.last_lsn) <= entry.term <= self.term
        self.entries.append(entry)
        return self.last_lsn

    def read(self, from_lsn: int, bytes_max: int) -> list[Entry]:
        """About so many bytes, but at least one entry."""
        found: list[Entry] = []
        nbytes = 0
        for entry in self.entries[from_lsn - self.first_lsn :]:
            if found and nbytes + entry.nbytes > bytes_max:
                break
            found.append(entry)
            nbytes += entry.nbytes
        return found

    def cut(self, after_lsn: int, mark: int) -> None:
        assert after_lsn >= mark, "committed entries are cut"
        assert self.first_lsn - 1 <= after_lsn < self.last_lsn
        lost = self.entries[after_lsn + 1 - self.first_lsn :]
        self.diverged.append({after_lsn + 1 + i: entry for i, entry in enumerate(lost)})
        del self.entries[after_lsn + 1 - self.first_lsn :]
        self.durable_lsn = min(self.durable_lsn, after_lsn)
        self.generation += 1

    def truncate_before(self, lsn: int) -> None:
        while self.first_lsn < lsn:
            entry = self.entries.pop(0)
            self.digest = folded(self.digest, entry)
            self.prev_term = entry.term
            self.first_lsn += 1

    def digest_at(self, lsn: int) -> int:
        """Of all entries up to lsn."""
        digest = self.digest
        for entry in self.entries[: lsn + 1 - self.first_lsn]:
            digest = folded(digest, entry)
        return digest

    def take_snapshot(self, lsn: int, size: int) -> None:
        data = self.digest_at(lsn).to_bytes(4, "little")
        self.snapshot = Snapshot(lsn, self.term_of(lsn), data.ljust(size, b"."))

    def reset(self, first_lsn: int, prev_term: int) -> None:
        assert self.snapshot is not None
        assert self.snapshot.lsn == first_lsn - 1
        self.first_lsn, self.prev_term = first_lsn, prev_term
        self.digest = int.from_bytes(self.snapshot.data[:4], "little")
        self.entries = []
        self.durable_lsn = self.mark = first_lsn - 1
        self.generation += 1

    def crash(self, rng: random.Random) -> None:
        """What a power cut leaves, after recovery: all of it is durable then."""
        kept = rng.randint(self.durable_lsn, self.last_lsn)
        del self.entries[kept + 1 - self.first_lsn :]
        self.durable_lsn = kept
        self.mark = min(self.mark, kept)
        self.generation += 1


def entries_of(batch: Batch) -> tuple[Entry, ...]:
    """The entries that a batch carries."""
    return cast(tuple[Entry, ...], batch.data) if batch.runs else ()


def folded(digest: int, entry: Entry) -> int:
    return zlib.crc32(b"%d %d %d" % (digest, entry.term, entry.payload))


def batch_of(
    prev: tuple[int, int], committed_lsn: int, entries: list[Entry], receipt: bool
) -> Batch:
    """The batch that a WAL_ENTRY with these entries stands for."""
    runs: list[Run] = []
    for lsn, entry in enumerate(entries, prev[0] + 1):
        if not runs or runs[-1].term != entry.term:
            runs.append(Run(lsn, entry.term))
    last_lsn = prev[0] + len(entries)
    return Batch(*prev, committed_lsn, tuple(runs), last_lsn, tuple(entries), receipt)
