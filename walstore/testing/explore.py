"""Every legal state of the disk after a power cut, recovered and judged.

`Explorer` walks through a recording. After each storage call it plans what may be on the disk if
the power went now (see disk.py for the rules): everything, nothing un-synced, each prefix, one
change lost, one change alone, torn and garbage sectors, changes of names and sizes lost or kept,
random subsets of sectors. What a state is worth is the business of others: a function recovers it
as its next user would, and a ledger of the promises that were made by then judges the outcome.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Generic, Protocol, TypeVar

import xxhash

from walstore.testing.disk import Choice, Disk, Garbage, Image, Inode, Plan
from walstore.testing.trace import Event, Kind, parse

R = TypeVar("R")  # what a recovery found
Judged = TypeVar("Judged", contravariant=True)

HISTORY_LINES = 24
CREATION_WEIGHT = 0.25  # of a point before the store is open first: all traces begin alike


@dataclass(frozen=True)
class Recording:
    """What a workload did: where it started from, and every storage call and mark since then."""

    prefix: str
    trace: bytes
    workload: str
    seed: int
    initial: Image = field(default_factory=dict)
    marks: tuple[Any, ...] = ()  # the promises that were made before the recording

    @cached_property
    def events(self) -> Sequence[Event]:
        return tuple(parse(self.trace))


@dataclass(frozen=True)
class BadState:
    """A legal state of the disk that the store does not survive."""

    recording: Recording
    at: int  # the last event before the power cut
    image: Image
    live: Image  # what the process saw then
    marks: tuple[Any, ...]
    note: str
    problems: tuple[str, ...]
    history: tuple[str, ...]


@dataclass
class Report:
    """What an exploration covered."""

    states: int = 0  # that no trace had led to before
    again: int = 0  # the others
    points: int = 0
    second_order: int = 0
    bad: list[BadState] = field(default_factory=list)


class Planner:
    """Plans what reached the disk, for one point in time."""

    def __init__(self, disk: Disk, rng: random.Random) -> None:
        self.disk, self.rng = disk, rng
        self.files = {n: inode for n, inode in disk.files.items() if inode.pending}
        writes = [
            (change.seq, number, index)
            for number, inode in self.files.items()
            for index, change in enumerate(inode.pending)
        ]
        self.writes = sorted(writes)
        self.names = [change.seq for change in disk.name_changes]
        self.seqs = sorted({*self.names, *(seq for seq, _, _ in writes)})

    def plans(self) -> Iterator[Plan]:
        """First the plain cases, mixed, then random subsets without end."""
        yield self.disk.everything()
        if not self.seqs:
            return
        yield self.prefix(0)
        plain: list[Callable[[], Plan]] = []
        plain += [partial(self.prefix, seq) for seq in self.seqs]
        plain += [partial(self.without, *write) for write in self.writes]
        plain += [partial(self.only, *write) for write in self.writes]
        plain += [partial(self.name_lost, seq) for seq in self.names]
        plain += [partial(self.torn, *write) for write in self.writes[-4:] for _ in range(3)]
        self.rng.shuffle(plain)
        for plan in plain:
            yield plan()
        while True:
            kind = self.rng.randrange(4)
            if kind == 0 and self.writes:
                yield self.torn(*self.rng.choice(self.writes))
            else:
                yield self.subset()

    def prefix(self, cut: int) -> Plan:
        """Everything up to event `cut` and nothing after it."""
        files = {}
        for number, inode in self.files.items():
            count = sum(1 for change in inode.pending if change.seq <= cut)
            files[number] = Choice(count, count)
        names = frozenset(seq for seq in self.names if seq <= cut)
        note = f"kept only what came up to event {cut}" if cut else "lost all that was not synced"
        return Plan(names, files, note)

    def without(self, seq: int, number: int, index: int) -> Plan:
        """One change of one file is lost."""
        inode = self.files[number]
        count = len(inode.pending)
        later = {s for change in inode.pending[index + 1 :] for s in change.sectors()}
        mine = [s for s in inode.pending[index].sectors() if s not in later]
        size_limit = self.rng.choice((index, count))
        choice = Choice(count, size_limit, tuple((s, index) for s in mine))
        return Plan(frozenset(self.names), {number: choice}, f"lost event {seq}")

    def only(self, seq: int, number: int, index: int) -> Plan:
        """Only one change of one file reached the disk, with or without its size and the names."""
        files = {n: inode.nothing() for n, inode in self.files.items()}
        sectors = self.files[number].pending[index].sectors()
        size_limit = self.rng.choice((0, index + 1))
        files[number] = Choice(0, size_limit, tuple((s, index + 1) for s in sectors))
        names = self.some_names(self.rng.choice((0.0, 0.5, 1.0)))
        return Plan(names, files, f"kept only event {seq}, names {sorted(names)}")

    def name_lost(self, seq: int) -> Plan:
        """One change of names is lost (and what depends on it), or it alone is kept."""
        lost = {s for s in self.names if seq in self.disk.with_dependencies([s])}
        names = frozenset(self.names) - lost
        if self.rng.random() < 0.5:
            names = self.disk.with_dependencies([seq])
        files = {}
        if self.rng.random() < 0.5:
            files = {n: inode.nothing() for n, inode in self.files.items()}
        bytes_note = "no un-synced bytes" if files else "all bytes"
        return Plan(names, files, f"kept names {sorted(names)} of {self.names}, {bytes_note}")

    def torn(self, seq: int, number: int, index: int) -> Plan:
        """One write is torn: some of its sectors are there, some old, some garbage."""
        rng, inode = self.rng, self.files[number]
        count = len(inode.pending)
        sectors = list(inode.pending[index].sectors())
        pattern = rng.choice(("prefix", "suffix", "hole", "random", "garbage"))
        kept = torn_sectors(sectors, pattern, rng)
        lost = [s for s in sectors if s not in kept]
        before_only = rng.random() < 0.6  # and nothing that came after it
        limits = {s: index for s in lost}
        spoilt = []
        if lost and (pattern == "garbage" or rng.random() < 0.5):
            spoilt = lost if rng.random() < 0.3 else [rng.choice(lost)]
        garbage = tuple(
            Garbage(index, s, rng.choice(Garbage.KINDS), rng.getrandbits(32)) for s in spoilt
        )
        end = index + 1 if before_only else count
        size_limit = rng.choice((end, end, index))
        choice = Choice(end, size_limit, tuple(limits.items()), garbage)
        if not before_only:
            return Plan(frozenset(self.names), {number: choice}, f"event {seq} torn ({pattern})")
        plan = self.prefix(seq)
        files = {**plan.files, number: choice}
        return Plan(plan.names, files, f"event {seq} torn ({pattern}), nothing after it")

    def subset(self) -> Plan:
        """Any sectors of any writes, any sizes, any names."""
        rng = self.rng
        likely, garbage = rng.choice((0.15, 0.5, 0.85)), rng.choice((0.0, 0.0, 0.15))
        files = {n: self.scattered(inode, likely, garbage) for n, inode in self.files.items()}
        names = self.some_names(rng.choice((0.2, 0.5, 0.8, 1.0)))
        return Plan(names, files, f"random sectors (p={likely}), names {sorted(names)}")

    def scattered(self, inode: Inode, likely: float, garbage: float) -> Choice:
        """For each sector one of the contents it had since the last sync."""
        rng, count = self.rng, len(inode.pending)
        versions: dict[int, list[int]] = {}
        for index, change in enumerate(inode.pending):
            for sector in change.sectors():
                versions.setdefault(sector, []).append(index)
        limits, spoilt = {}, []
        for sector, indexes in versions.items():
            if rng.random() < garbage:
                index = limits[sector] = rng.choice(indexes)
                kind = rng.choice(Garbage.KINDS)
                spoilt.append(Garbage(index, sector, kind, rng.getrandbits(32)))
            elif rng.random() < likely:
                limits[sector] = count
            else:
                limits[sector] = rng.choice([0, *indexes])
        size_limit = count if rng.random() < likely else rng.randrange(count + 1)
        return Choice(0, size_limit, tuple(limits.items()), tuple(spoilt))

    def some_names(self, likely: float) -> frozenset[int]:
        kept = [seq for seq in self.names if self.rng.random() < likely]
        return self.disk.with_dependencies(kept)


def torn_sectors(sectors: list[int], pattern: str, rng: random.Random) -> set[int]:
    """Which sectors of a torn write are there."""
    if not sectors:
        return set()
    cut = rng.randrange(len(sectors))
    match pattern:
        case "prefix":
            return set(sectors[:cut])
        case "suffix":
            return set(sectors[cut + 1 :])
        case "hole":
            stop = rng.randrange(cut, len(sectors)) + 1
            return set(sectors[:cut] + sectors[stop:])
        case _:
            return {s for s in sectors if rng.random() < 0.5}


class Promises(Protocol[Judged]):
    """The promises made so far; they grow with the marks of a recording."""

    marks: list[Any]
    faults: list[str]  # promises broken while the recording was made

    def apply_bytes(self, data: bytes) -> bool:
        """Takes a mark; returns whether it changes what a recovery must find."""

    def problems(self, recovered: Judged) -> list[str]:
        """What is wrong with a recovery."""


@dataclass
class State(Generic[R]):
    """One state of the disk, recovered."""

    image: Image
    note: str
    recovered: R


class Explorer(Generic[R]):
    """Walks through one recording; a state is recovered once, and judged at every point it fits."""

    def __init__(
        self,
        recording: Recording,
        ledger: Promises[R],
        recover: Callable[[Image], R],
        rng: random.Random,
        *,
        states_per_point: int,
        states_max: int,
        follow: Callable[[State[R]], None] | None = None,
        opens: Callable[[bytes], bool] = lambda mark: False,
        seen: set[int] | None = None,
    ) -> None:
        self.recording, self.ledger, self.recover, self.rng = recording, ledger, recover, rng
        self.seen = set[int]() if seen is None else seen  # states of all traces: counted once
        self.states_per_point, self.states_max = states_per_point, states_max
        self.follow = follow  # called for good states: second-order crashes start from here
        self.opens = opens  # whether a mark says that the store is open
        self.report = Report()
        self._known: dict[int, State[R]] = {}
        self._judged_bad = set[int]()
        self._at = 0

    def run(self) -> Report:
        self._share = self._shares()
        disk = Disk(self.recording.prefix, self.recording.initial)
        current = self._states(disk)
        self._judge(current, disk)
        for event in self.recording.events:
            self._at = event.index
            if event.kind is Kind.MARK:
                if self.ledger.apply_bytes(event.data):
                    self._judge(current, disk)
            elif disk.apply(event):
                current = self._states(disk)
                self._judge(current, disk)
        for fault in self.ledger.faults:
            self._bad(disk.live_image(), disk, "none: the running log broke a promise", [fault])
        return self.report

    def _shares(self) -> list[float]:
        """How many states may have been recovered after each point, so that all get their share."""
        weights, weight = [], 1.0 if self.recording.initial else CREATION_WEIGHT
        disk = Disk(self.recording.prefix, self.recording.initial)
        weights.append(weight)
        for event in self.recording.events:
            if event.kind is Kind.MARK and self.opens(event.data):
                weight = 1.0
            elif disk.apply(event):
                weights.append(weight)
        total = sum(weights)
        return [self.states_max * part / total for part in itertools.accumulate(weights)]

    def _states(self, disk: Disk) -> dict[int, State[R]]:
        """The possible states now; recovers those that are new."""
        share = self._share[self.report.points]
        self.report.points += 1
        states: dict[int, State[R]] = {}
        for plan in itertools.islice(Planner(disk, self.rng).plans(), 3 * self.states_per_point):
            if len(states) == self.states_per_point:
                break
            image = disk.image(plan)
            key = image_key(image)
            state = self._known.get(key)
            if state is None:
                if len(self._known) >= share:
                    break
                state = self._known[key] = State(image, plan.note, self.recover(image))
                self._count(image)
                if self.follow and not self.ledger.problems(state.recovered):
                    self.follow(state)
            states[key] = State(image, plan.note, state.recovered)
        return states

    def _count(self, image: Image) -> None:
        """A state that another trace led to, too, was recovered again, but counts once."""
        one = fingerprint(image)
        if one in self.seen:
            self.report.again += 1
        else:
            self.seen.add(one)
            self.report.states += 1

    def _judge(self, states: dict[int, State[R]], disk: Disk) -> None:
        for key, state in states.items():
            if key in self._judged_bad:
                continue
            problems = self.ledger.problems(state.recovered)
            if problems:
                self._judged_bad.add(key)
                self._bad(state.image, disk, state.note, problems)

    def _bad(self, image: Image, disk: Disk, note: str, problems: list[str]) -> None:
        past = self.recording.events[max(0, self._at + 1 - HISTORY_LINES) : self._at + 1]
        history = tuple(map(str, past))
        marks = tuple(self.ledger.marks)
        bad = BadState(
            self.recording,
            self._at,
            image,
            disk.live_image(),
            marks,
            note,
            tuple(problems),
            history,
        )
        self.report.bad.append(bad)


def image_key(image: Image) -> int:
    """Tells the states of one trace apart, in this process only."""
    return hash(tuple(sorted((path, hash(content)) for path, content in image.items())))


def fingerprint(image: Image) -> int:
    """A hash of every name and byte of a state, the same in every process."""
    hasher = xxhash.xxh3_64()
    for path in sorted(image):
        content = image[path]
        size = -1 if content is None else len(content)
        hasher.update(f"{path}\0{size}\0".encode())
        hasher.update(content or b"")
    return hasher.intdigest()


def remove_tree(path: str) -> None:
    """Like shutil.rmtree, which is slower than the rest of a state."""
    folders = [path]
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    os.unlink(entry.path)
    for folder in reversed(folders):
        os.rmdir(folder)
