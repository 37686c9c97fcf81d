"""Faults of real clusters, some at a time, at random (members.py)."""

from __future__ import annotations

import contextlib
import errno
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.helpers import segment_files
from tests.raft.members import ELECTION_MS, MemberError, Members
from walstore import FileWALManager
from walstore.wal.record import DATA

DAY_S = 86_400
AT_ONCE = 2
PAUSE_S, HOLD_S = (0.3, 1.0), (0.5, 2.0)
FILLER = "filler"
CHANGE_S = 1.5

Undo = Callable[[], None]


@dataclass
class _Open:
    """A fault that lasts.

    Attributes:
        harmed: the node that is not fit for another fault meanwhile.
    """

    kind: str
    harmed: str
    ends_s: float
    undo: Undo


class Faults:
    """Breaks a cluster for a while, then mends it. What was done is counted in `cluster.counts`."""

    def __init__(self, cluster: Members, rng: random.Random) -> None:
        self._cluster = cluster
        self._rng = rng
        self._open: list[_Open] = []
        self._kinds: list[tuple[str, Callable[[str], Undo | None]]] = [
            ("kill", self._kill),
            ("stop", self._stop),
            ("cut one way", self._cut_one_way),
            ("cut", self._cut),
            ("full disk", self._fill),
            ("flipped bit", self._flip),
            ("clock jump", self._jump),
            ("change", self._change),
            ("change", self._change),
        ]

    def run(self, seconds: float, ended: threading.Event) -> None:
        """Breaks and mends for so long; `ended` ends it early. All is mended at return."""
        end_s = time.monotonic() + seconds
        # Each kind in its turn, in an order of chance: a short run has all of them, too.
        turns: list[tuple[str, Callable[[str], Undo | None]]] = []
        while (now_s := time.monotonic()) < end_s and not ended.is_set():
            for fault in [fault for fault in self._open if fault.ends_s <= now_s]:
                self._end(fault)
            if len(self._open) < AT_ONCE:
                turns = turns or self._rng.sample(self._kinds, len(self._kinds))
                self._begin(*turns.pop())
            ended.wait(self._rng.uniform(*PAUSE_S))
        for fault in list(self._open):
            self._end(fault)

    def _begin(self, kind: str, fault: Callable[[str], Undo | None]) -> None:
        if kind in {one.kind for one in self._open}:
            return
        name = self._victim(self._cluster.disks if kind == "full disk" else self._cluster.names)
        if not name:
            return
        undo = fault(name)
        if undo is not None:
            ends_s = time.monotonic() + self._rng.uniform(*HOLD_S)
            self._open.append(_Open(kind, name, ends_s, undo))

    def _end(self, fault: _Open) -> None:
        self._open.remove(fault)
        fault.undo()

    def _victim(self, among: Iterable[str]) -> str:
        """Half of the time the leader, as far as it is known; none where all are harmed."""
        harmed = {fault.harmed for fault in self._open}
        fit = [name for name in among if name not in harmed]
        leader = self._cluster.history.last_acked_by
        if leader in fit and self._rng.random() < 0.5:
            return leader
        return self._rng.choice(fit) if fit else ""

    # ---- what happens, and how it ends ----

    def _count(self, what: str) -> None:
        self._cluster.counts[what] += 1

    def _kill(self, name: str) -> Undo:
        self._cluster.kill(name)
        self._count("kill")
        return lambda: self._cluster.start(name)

    def _stop(self, name: str) -> Undo:
        member = self._cluster.running[name]
        member.send(signal.SIGSTOP)
        began_s = time.monotonic()

        def resume() -> None:
            longer = time.monotonic() - began_s > 2 * ELECTION_MS / 1000
            self._count("stop beyond an election" if longer else "short stop")
            member.send(signal.SIGCONT)

        return resume

    def _cut_one_way(self, name: str) -> Undo:
        others = self._cluster.names.replace(name, "")
        pair = (name, others) if self._rng.random() < 0.5 else (others, name)
        self._cluster.spaces.cut(*pair)
        self._count("cut one way")
        return self._cluster.spaces.heal

    def _cut(self, name: str) -> Undo:
        """Any group with this one in it from all others."""
        names = self._cluster.names
        others = names.replace(name, "")
        group = {name, *self._rng.sample(others, self._rng.randrange(len(others)))}
        rest = [each for each in names if each not in group]
        self._cluster.spaces.cut(group, rest)
        self._cluster.spaces.cut(rest, group)
        self._count("cut")
        return self._cluster.spaces.heal

    def _fill(self, name: str) -> Undo:
        self._cluster.serve(name)  # a log is not opened without space
        filler = self._cluster.disks[name] / FILLER
        _take_all_space(filler)
        self._count("full disk")
        return filler.unlink

    def _flip(self, name: str) -> Undo:
        """A bit of a full segment, while the node is down."""
        self._cluster.serve(name)
        assert self._cluster.stop(name) == 0, self._cluster.errors()
        places = _committed_places(self._cluster.path(name))
        if not places:
            return lambda: self._cluster.start(name)
        file, payload = self._rng.choice(places)
        at, was = _flip_bit(file, payload, self._rng)
        self._count("flipped bit")
        self._cluster.start(name)
        return lambda: self._mend(name, file, at, was)

    def _mend(self, name: str, file: Path, at: int, was: int) -> None:
        """It has refused to serve, or has got the entry again from others."""
        member = self._cluster.begun(name)
        if member.serves:
            assert file.read_bytes()[at] == was, f"{name} serves what is damaged: {file.name}"
            self._count("repaired")
            return
        assert member.damage, (name, self._cluster.errors())
        self._cluster.stop(name)
        with file.open("r+b") as data:
            data.seek(at)
            data.write(bytes([was]))
        self._cluster.start(name)

    def _jump(self, name: str) -> None:
        self._cluster.clocks.move(name, self._rng.choice((-1, 1)) * self._rng.randrange(DAY_S))
        self._count("clock jump")

    def _change(self, name: str) -> Undo | None:
        """Demotes or removes a node; it votes again in the end."""
        how = self._rng.choice(("add_learner", "remove_node"))
        if not self._ask_leader(how, name):
            return None
        self._count("change")

        def back() -> None:
            self._ask_leader("add_voter", name)

        return back

    def _ask_leader(self, how: str, name: str) -> bool:
        """Whether it was done; the leader may be the one that hangs."""
        leader = self._cluster.running.get(self._cluster.history.last_acked_by)
        with contextlib.suppress(MemberError, TimeoutError):
            if leader is not None:
                leader.ask("change", how, name, CHANGE_S, timeout_s=2 * CHANGE_S)
                return True
        return False


def _committed_places(path: Path) -> list[tuple[Path, bytes]]:
    """Payloads of users in full segments whose entries all are committed: no leader cuts them."""
    files = segment_files(path)
    firsts = [int(file.stem.partition("-")[0]) for file in files]
    found = []
    with FileWALManager(path, read_only=True) as log:
        for file, first_lsn, next_lsn in zip(files, firsts, firsts[1:], strict=False):
            if next_lsn <= log.last_lsn:
                entries = log.replay(first_lsn, next_lsn - 1)
                found += [(file, entry.payload) for entry in entries if entry.kind == DATA]
    return found


def _take_all_space(filler: Path) -> None:
    """While others write there, too."""
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def _flip_bit(file: Path, payload: bytes, rng: random.Random) -> tuple[int, int]:
    """In this payload; returns where, and the byte that was there."""
    data = file.read_bytes()
    at = data.index(payload) + rng.randrange(len(payload))
    with file.open("r+b") as changed:
        changed.seek(at)
        changed.write(bytes([data[at] ^ 1 << rng.randrange(8)]))
    return at, data[at]
