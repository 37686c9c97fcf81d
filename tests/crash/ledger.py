"""What a log has promised so far, and whether a recovered log keeps the promises.

A workload leaves marks in the trace: what it began, what was acked, what it saw. The ledger replays
them up to the moment of a crash; `problems()` then judges what recovery brought back:

- entries are gap-free, from a first lsn that a truncation allows to at least the last durable lsn;
- every entry is the one that was appended under its lsn, whole, once; a batch is there whole or not
  at all;
- nothing appears that was not appended, nor anything cut away by a truncation that had returned,
  nor an entry whose append was refused whole (disk full);
- while a truncate_after is under way the log is as before it or as after it; a truncate_before may
  have come anywhere up to its lsn;
- what a reader was shown after an open stays; terms do not go back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

Mark = Mapping[str, Any]


def digest(payload: bytes, kind: int = 1) -> str:
    """Names a payload in marks and histories."""
    return hashlib.blake2b(payload, digest_size=8, salt=kind.to_bytes(2, "big")).hexdigest()


EMPTY = frozenset(digest(b"", kind) for kind in range(1, 8))  # the payloads that may occur twice


@dataclass(frozen=True, slots=True)
class Entry:
    lsn: int
    term: int
    digest: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a log shows after it was opened. `trouble` is set when opening or reading it failed."""

    first: int = 1
    last: int = 0
    durable: int = 0
    term: int = 0
    entries: tuple[Entry, ...] = ()
    trouble: str = ""

    def to_mark(self) -> dict[str, Any]:
        entries = [[e.lsn, e.term, e.digest] for e in self.entries]
        return {
            "t": "opened",
            "first": self.first,
            "last": self.last,
            "durable": self.durable,
            "term": self.term,
            "entries": entries,
        }

    @classmethod
    def from_mark(cls, mark: Mark) -> Recovered:
        entries = tuple(Entry(*entry) for entry in mark["entries"])
        return cls(mark["first"], mark["last"], mark["durable"], mark["term"], entries)


@dataclass(slots=True)
class Ledger:
    """The promises of one log. Marks are dicts; "t" says which (see the _on_ methods)."""

    marks: list[Mark] = field(default_factory=list)
    slots: dict[int, Entry] = field(default_factory=dict)  # known by lsn, durable or not
    batches: list[tuple[str, ...]] = field(default_factory=list)  # all or nothing
    durable: int = 0
    first: int = 1
    term: int = 0
    begun: dict[int, tuple[str, ...]] = field(default_factory=dict)  # may appear or not
    forbidden: dict[str, str] = field(default_factory=dict)  # digest -> why
    cutting_before: int = 0
    cutting_after: list[int] = field(default_factory=list)  # under way, or failed
    down: str = ""  # "", or how the process ended: "crash" (power), "kill"
    policy: str = "always"
    faults: list[str] = field(default_factory=list)  # promises broken while the log was running

    @property
    def last(self) -> int:
        return max(self.slots, default=self.first - 1)

    @classmethod
    def of(cls, marks: Iterable[Mark]) -> Ledger:
        ledger = cls()
        for mark in marks:
            ledger.apply(mark)
        return ledger

    def apply(self, mark: Mark) -> bool:
        """Takes note of a mark; returns whether more is promised now than before."""
        self.marks.append(mark)
        handler = getattr(self, f"_on_{mark['t']}", None)
        if handler is None:
            raise ValueError(f"no such mark: {mark}")
        return bool(handler(mark))

    def apply_bytes(self, data: bytes) -> bool:
        return self.apply(json.loads(data))

    # Marks.

    def _on_note(self, mark: Mark) -> bool:
        return False

    def _on_open(self, mark: Mark) -> bool:
        self.policy = mark["policy"]
        return False

    def _on_opened(self, mark: Mark) -> bool:
        """A process opened the log and sees these entries: from now on they stay."""
        shown = Recovered.from_mark(mark)
        self.faults += [f"after open: {problem}" for problem in self.problems(shown, live=True)]
        there = {entry.digest for entry in shown.entries}
        for digests in [*self.begun.values(), *[(e.digest,) for e in self.slots.values()]]:
            for one in digests:
                if one not in there:
                    self._forbid(one, "was not there after an open")
        self.slots = {entry.lsn: entry for entry in shown.entries}
        self.batches = [batch for batch in self.batches if set(batch) <= there]
        self.batches += [d for d in self.begun.values() if len(d) > 1 and set(d) <= there]
        self.begun.clear()
        self.first, self.term = shown.first, max(self.term, shown.term)
        self.cutting_before, self.cutting_after, self.down = 0, [], ""
        self.durable = min(self.durable, shown.last)
        if self.policy != "os":
            self.durable = max(self.durable, shown.durable)
        return True

    def _on_append(self, mark: Mark) -> bool:
        self.begun[mark["op"]] = tuple(mark["digests"])
        return False

    def _on_acked(self, mark: Mark) -> bool:
        """The append returned: its entries are at lsn, lsn + 1, ...; durable as the policy says."""
        digests = self.begun.pop(mark["op"])
        lsn = mark["lsn"]
        self._settle_cut(lsn)
        for at, one in enumerate(digests, lsn):
            if at in self.slots:
                self.faults.append(f"lsn {at} was given out twice")
            self.slots[at] = Entry(at, mark.get("term", 0), one)
        if len(digests) > 1:
            self.batches.append(digests)
        if mark["durable"]:
            self.durable = max(self.durable, lsn + len(digests) - 1)
        return True

    def _on_failed(self, mark: Mark) -> bool:
        """The call raised. absent: this error promises that nothing of it is in the log."""
        if mark.get("absent") and mark.get("op") in self.begun:
            for one in self.begun.pop(mark["op"]):
                self._forbid(one, "had been refused whole")
        return bool(mark.get("absent"))

    def _on_durable(self, mark: Mark) -> bool:
        """The log said that everything up to this lsn is durable."""
        self.durable = max(self.durable, mark["lsn"])
        return True

    def _on_termed(self, mark: Mark) -> bool:
        if mark["term"] <= self.term:
            self.faults.append(f"term {mark['term']} follows term {self.term}")
        self.term = max(self.term, mark["term"])
        return True

    def _on_cut_before(self, mark: Mark) -> bool:
        self.cutting_before = max(self.cutting_before, mark["lsn"])
        return False

    def _on_cut_before_done(self, mark: Mark) -> bool:
        first = mark["first"]
        if not self.first <= first <= max(self.first, self.cutting_before):
            self.faults.append(f"truncate_before left first_lsn {first}")
        for lsn in [lsn for lsn in self.slots if lsn < first]:
            self._forbid(self.slots.pop(lsn).digest, "was truncated (before)")
        self.first, self.cutting_before = first, 0
        self.durable = max(self.durable, first - 1)
        return True

    def _on_cut_after(self, mark: Mark) -> bool:
        self.cutting_after.append(mark["lsn"])
        self._split_batches(mark["lsn"])
        return False

    def _on_cut_after_done(self, mark: Mark) -> bool:
        self._cut_after(mark["lsn"])
        self.term = max(self.term, mark.get("term", 0))
        return True

    def _on_closed(self, mark: Mark) -> bool:
        """close() returned: everything that was acked is durable, whatever the policy."""
        self.durable = max(self.durable, self.last)
        return True

    def _on_crash(self, mark: Mark) -> bool:
        self.down = "crash"
        return False

    def _on_kill(self, mark: Mark) -> bool:
        self.down = "kill"
        return False

    def _forbid(self, one: str, why: str) -> None:
        if one not in EMPTY:
            self.forbidden[one] = why

    def _copy(self) -> Ledger:
        return replace(
            self,
            slots=dict(self.slots),
            batches=list(self.batches),
            begun=dict(self.begun),
            forbidden=dict(self.forbidden),
        )

    def _split_batches(self, lsn: int) -> None:
        """A truncation through a batch ends its atomicity: what stays and what goes are two."""
        where = {entry.digest: entry.lsn for entry in self.slots.values()}
        for batch in list(self.batches):
            there = [one for one in batch if one in where]  # its front may have been truncated
            kept = tuple(one for one in there if where[one] <= lsn)
            gone = tuple(one for one in there if where[one] > lsn)
            if kept and gone:
                self.batches.remove(batch)
                self.batches += [kept, gone]

    def _cut_after(self, lsn: int) -> None:
        for at in [at for at in self.slots if at > lsn]:
            self._forbid(self.slots.pop(at).digest, "was truncated (after)")
        self.durable = min(self.durable, lsn)
        self.cutting_after = []

    def _settle_cut(self, lsn: int) -> None:
        """An append after a truncate_after that failed: its lsn tells what became of that."""
        if lsn - 1 in self.cutting_after and lsn in self.slots:
            self._cut_after(lsn - 1)
        elif lsn > self.last:
            self.cutting_after = []

    # Judgement.

    def problems(self, log: Recovered, *, live: bool = False) -> list[str]:
        """What is wrong with this recovered log; live: it was opened without a power cut."""
        found = self._problems(log, live=live)
        for lsn in self.cutting_after if found else ():
            done = self._copy()
            done._cut_after(lsn)
            if not done._problems(log, live=live):
                return []
        return found

    def _problems(self, log: Recovered, *, live: bool) -> list[str]:
        if log.trouble:
            return [log.trouble]
        lsns = [entry.lsn for entry in log.entries]
        if lsns != list(range(log.first, log.last + 1)):
            return [f"entries {spans(lsns)} in a log of {log.first}..{log.last}"]
        found = []
        if not self.first <= log.first <= max(self.first, self.cutting_before):
            found.append(f"first_lsn is {log.first}, and was {self.first}")
        floor = self.last if live and self.down != "crash" else self.durable
        if log.last < floor:
            found.append(f"last_lsn is {log.last}, but {floor} was acked as durable")
        if log.term < self.term:
            found.append(f"term is {log.term}, but term {self.term} had begun")
        found += self._entry_problems(log.entries)
        found += self._batch_problems(log)
        return found

    def _entry_problems(self, entries: Sequence[Entry]) -> list[str]:
        allowed = {one for digests in self.begun.values() for one in digests}
        found, seen, term = [], set[str](), 0
        for entry in entries:
            known = self.slots.get(entry.lsn)
            if entry.digest in self.forbidden:
                found.append(f"lsn {entry.lsn} is back; it {self.forbidden[entry.digest]}")
            elif known is None and entry.digest not in allowed:
                found.append(f"lsn {entry.lsn} was never appended")
            elif known is not None and entry.digest != known.digest:
                found.append(f"lsn {entry.lsn} is not the entry that was appended there")
            elif known is not None and known.term and entry.term != known.term:
                found.append(f"lsn {entry.lsn} has term {entry.term}, and had {known.term}")
            if entry.digest in seen and entry.digest not in EMPTY:
                found.append(f"lsn {entry.lsn} is there twice")
            if entry.term < term:
                found.append(f"lsn {entry.lsn} has term {entry.term} after term {term}")
            seen.add(entry.digest)
            term = entry.term
        return found

    def _batch_problems(self, log: Recovered) -> list[str]:
        order = [entry.digest for entry in log.entries]
        position = {one: at for at, one in enumerate(order)}
        found = []
        for batch in [*self.batches, *self.begun.values()]:
            there = [one for one in batch if one in position and one not in EMPTY]
            if not there:
                continue
            solid = tuple(one for one in batch if one not in EMPTY)
            whole = len(there) == len(solid)
            cut = log.first > 1 and solid[-len(there) :] == tuple(there) and position[there[0]] == 0
            if not whole and not cut:
                found.append(f"{len(there)} of a batch of {len(batch)} are there")
            elif any(a + 1 != b for a, b in pairwise(steps(position, batch))):
                found.append("the entries of a batch are not in order")
        return found


def steps(position: Mapping[str, int], batch: Sequence[str]) -> list[int]:
    """The positions of a batch's entries; [] when it holds empty payloads (not unique)."""
    if any(one in EMPTY for one in batch):
        return []
    return [position[one] for one in batch if one in position]


def spans(lsns: Sequence[int]) -> str:
    """1..4, 7..9"""
    parts: list[list[int]] = []
    for lsn in lsns:
        if parts and parts[-1][1] + 1 == lsn:
            parts[-1][1] = lsn
        else:
            parts.append([lsn, lsn])
    return ", ".join(f"{a}..{b}" if a != b else f"{a}" for a, b in parts) or "none"
