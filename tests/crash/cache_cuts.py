"""Power cuts and failed syncs on a filesystem whose page cache is lost (lost_cache.py).

kind "power": a writer uses the log in every way until the power is cut at a random moment; the next
writer goes on with what is left.

kind "eio": the k-th sync of a workload fails, for every k, until there is no k-th. Nothing may be
acked after it until the log is reopened. Then the power is cut: at once, or after the log was
reopened on the page cache, which still shows what was lost, and used on.

python -m <package>.cache_cuts '{"kind": "power", "rounds": 20, "seed": 1}'     by hand, as root
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial

from walstore.testing.explore import remove_tree
from walstore.testing.workers import now

from .cuts import Outcome, Spec, judge, work, writer_of
from .forked import Forked
from .ledger import Ledger, Mark
from .lost_cache import Daemon, mounted_cache
from .session import Session, StopWorkload
from .workloads import target_named, workload_named

WRITERS_PER_LOG = 10
OPENINGS = 0.25  # share of the cuts that come just after an opening began
ACKS_MAX = 40
DELAY_MAX_S = 0.005  # from there to the cut
K_MAX = 2000
# The copy of a losing tail could not be kept; the log it is of is as it was, and goes on.
OF_OTHER_FILES = {("cut_diverged", "LogAccessError")}


class Folders:
    """Where a log lives: the folder of what is durable, and where the filesystem is mounted."""

    def __init__(self, scratch: str) -> None:
        self.store, self.place = os.path.join(scratch, "store"), os.path.join(scratch, "mounted")
        self._scratch = scratch
        os.makedirs(os.path.join(self.store, "tree"))
        os.makedirs(self.place, exist_ok=True)

    def judge(self, ledger: Ledger, spec: Spec, note: str, outcome: Outcome) -> None:
        """Judges a copy, so that the log itself stays as the power cut left it."""
        copy = os.path.join(self._scratch, "copy")
        shutil.copytree(os.path.join(self.store, "tree"), copy)
        judge(copy, ledger, spec, note, outcome)
        remove_tree(copy)

    def remove(self) -> None:
        remove_tree(self.store)


def cut_power(spec: Spec, outcome: Outcome) -> None:
    number = spec.worker
    while outcome.rounds < spec.rounds and not outcome.bad:
        folders, ledger = Folders(spec.scratch), Ledger()
        rng = random.Random(f"lost cache {spec.seed} {number}")
        for writer in range(WRITERS_PER_LOG):
            if outcome.rounds < spec.rounds and not outcome.bad:
                note = f"log {number}, writer {writer}"
                now(spec.scratch, f"{note}, seed {spec.seed}")
                with mounted_cache(folders.store, folders.place) as daemon:
                    seed = f"writer {spec.seed} {note}"
                    child = Forked(writer_of(spec.target), spec.target, folders.place, seed)
                    marks = cut_writer(child, daemon, rng)
                apply(ledger, marks, outcome)
                folders.judge(ledger, spec, note, outcome)
        folders.remove()
        number += spec.workers


def cut_writer(child: Forked, daemon: Daemon, rng: random.Random) -> list[bytes]:
    """Cuts the power at a random moment; returns the writer's marks.

    Acks that come after the cut are held against the log too: there can be none without a sync.
    """
    marks = list[bytes]()
    awaited, count = b'"acked"', rng.randrange(1, ACKS_MAX)
    if rng.random() < OPENINGS:
        awaited, count = b'"open"', 1
    try:
        while sum(awaited in mark for mark in marks) < count:
            more = child.read()
            if not more:
                raise AssertionError(f"the writer ended: {marks[-1:]}")
            marks += more
        time.sleep(rng.random() * DELAY_MAX_S)
    finally:
        daemon.lose_power()
        child.kill()
        marks += child.end()
    return marks


def apply(ledger: Ledger, marks: Iterable[bytes], outcome: Outcome) -> None:
    for mark in marks:
        ledger.apply_bytes(mark)
        outcome.acks += b'"acked"' in mark
    ledger.apply({"t": "crash"})


def fail_syncs(spec: Spec, outcome: Outcome) -> None:
    """Every workload of this worker's share, for every k, cut at once and after going on; again
    with other payloads, until its share of failures is done."""
    pairs = [(name, go_on) for name in spec.workloads for go_on in (False, True)]
    mine, number = pairs[spec.worker :: spec.workers], 0
    while mine and (number == 0 or outcome.failed_syncs < spec.rounds) and not outcome.bad:
        for name, go_on in mine:
            k, seed = 1, f"{name} {spec.seed} {number}"
            while not outcome.bad and fail_sync(spec, name, go_on, k, seed, outcome):
                k += 1
                assert k < K_MAX, f"{name} is still failing at k={k}"
        number += 1


def fail_sync(spec: Spec, name: str, go_on: bool, k: int, seed: str, outcome: Outcome) -> bool:
    """One run; returns whether it came to a k-th sync."""
    note = f"{name}, sync {k} fails{', reopened' if go_on else ''}"
    now(spec.scratch, f"{note}, seed {spec.seed}")
    folders, ledger = Folders(spec.scratch), Ledger()
    with mounted_cache(folders.store, folders.place, k) as daemon:
        story = partial(use, name, go_on)
        child = Forked(story, spec.target, folders.place, seed, tolerant=True)
        marks = child.end()
        daemon.lose_power()
    apply(ledger, marks, outcome)
    ledger.faults += acked_after_failure(ledger.marks)
    failed = [mark for mark in ledger.marks if mark["t"] == "failed"]
    wrong = {error.__name__ for error in target_named(spec.target).never}
    ledger.faults += [
        f"a failed sync was taken for something else: {mark}"
        for mark in failed
        if mark["error"] in wrong
    ]
    if failed and not daemon.failed:
        ledger.faults.append(f"failed without a fault: {failed[0]}")
    if child.status:
        ledger.faults.append(f"the workload raised: {ledger.marks[-2]}")
    folders.judge(ledger, spec, note, outcome)
    folders.remove()
    outcome.failed_syncs += daemon.failed
    return daemon.failed


def use(name: str, go_on: bool, session: Session) -> None:
    try:
        workload_named(name).run(session)
        if go_on:
            log = session.open()
            for _ in range(3):
                log.append(session.payload())
    except StopWorkload:
        pass


def acked_after_failure(marks: Sequence[Mark]) -> list[str]:
    """What a log did after a call had failed, before it was opened again."""
    found, failed = [], ""
    for mark in marks:
        if mark["t"] == "open":
            failed = ""
        elif mark["t"] == "failed" and (mark["call"], mark["error"]) not in OF_OTHER_FILES:
            failed = f"{mark['call']} ({mark['error']})"
        elif failed and mark["t"] in ("acked", "termed", "cut_before_done", "cut_after_done"):
            found.append(f"{json.dumps(mark)} after the failed {failed}")
    return found


def run(spec: Spec, outcome: Outcome) -> None:
    {"power": cut_power, "eio": fail_syncs}[spec.kind](spec, outcome)


if __name__ == "__main__":
    work(sys.argv[1], run)
