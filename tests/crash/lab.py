"""Runs workloads and explores their crashes, in worker processes under the shim.

python -m <package>.lab '{"workloads": ["roll"], "seed": 7, "states": 2000}'     by hand
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from array import array
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from walstore.testing.disk import Disk, Image, write_image
from walstore.testing.explore import Planner, Report, State, remove_tree
from walstore.testing.shim import CHANGES, READS, Action, Shim
from walstore.testing.trace import SYNCS, Kind
from walstore.testing.workers import disk_folder, finish_all, hush, now, scratch_folder, start

from .ledger import Ledger, Mark, Recovered
from .session import Session, StopWorkload, Target
from .states import LogRecording, describe, explorer, save, signature
from .workloads import Workload, target_named, workload_named

SAVED = Path(tempfile.gettempdir()) / "walstore-crash-states"
BAD_ENOUGH = 200
SEEN = "seen"  # a worker's file of the hashes of its states
STATES_PER_TRACE_MIN = 60  # the first few of a trace are those of every trace: no new ones
SAVED_MAX = 30  # bad states that a worker saves and describes


class WorkloadError(AssertionError):
    """A workload did what it must not even without a crash."""


@dataclass
class Spec:
    """What a worker shall do: rounds over these workloads until so many states are done."""

    workloads: list[str]
    seed: int
    states: int = 1000
    states_each: int = 0  # every workload gets at least so many, however short its traces come out
    seconds: float = 600.0
    states_per_point: int = 12
    states_per_trace: int = 400
    second_order: float = 0.03  # share of states whose recovery is crashed again
    worker: int = 0
    workers: int = 1
    scratch: str = ""  # in memory, where possible: for states
    disk: str = ""  # on a real filesystem: what is recorded runs here


@dataclass
class Outcome:
    """What workers covered."""

    seed: int = 0
    states: int = 0  # unique, of all traces and workers
    again: int = 0  # recovered again, in another trace or by another worker
    points: int = 0
    second_order: int = 0  # unique, too
    bad: int = 0
    rounds: int = 0
    seconds: float = 0.0
    by_workload: dict[str, int] = field(default_factory=dict)
    by_problem: dict[str, int] = field(default_factory=dict)
    reports: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        for name in ("states", "again", "points", "second_order", "bad", "rounds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.seconds = max(self.seconds, other.seconds)
        for name, count in other.by_workload.items():
            self.by_workload[name] = self.by_workload.get(name, 0) + count
        for name, count in other.by_problem.items():
            self.by_problem[name] = self.by_problem.get(name, 0) + count
        self.reports += other.reports

    def __str__(self) -> str:
        each = " ".join(f"{name}={states}" for name, states in sorted(self.by_workload.items()))
        speed = self.states / self.seconds if self.seconds else 0
        return (
            f"unique states={self.states} bad={self.bad} seed={self.seed} "
            f"second-order={self.second_order} again={self.again} points={self.points} "
            f"traces={self.rounds} seconds={self.seconds:.1f} ({speed:.0f} states/s)\n  {each}"
            + "".join(f"\n  {count} x {name}" for name, count in sorted(self.by_problem.items()))
        )


class Lab:
    """Records and explores, in a process that runs under the shim."""

    def __init__(self, scratch: str, disk: str) -> None:
        self.scratch, self.disk, self.shim = scratch, disk, Shim()
        self.seen = set[int]()

    def record(
        self,
        workload: Workload,
        seed: int,
        *,
        initial: Image | None = None,
        marks: Sequence[Mark] = (),
    ) -> LogRecording:
        """Runs a workload on a fresh directory (or a copy of `initial`), recorded."""
        rng = random.Random(f"{workload.name} {seed}")
        if workload.starts_from:
            initial, marks = self.start_of(workload, seed)
        if not workload.failing:
            return self._record(workload, seed, rng, initial or {}, marks)
        kinds, action, error = SYNCS, Action.ERRNO, errno.EIO
        if workload.failing == "space":
            kinds = frozenset({Kind.WRITE})
            action, error = rng.choice((Action.ERRNO, Action.SHORT_FULL)), errno.ENOSPC
        self._record(workload, seed, random.Random(0), initial or {}, marks)
        k = rng.randrange(sum(self.shim.calls(kind) for kind in kinds)) + 1
        return self._record(
            workload, seed, rng, initial or {}, marks,
            arm=lambda: self.shim.arm(k, kinds, action, error),
        )  # fmt: skip

    def _record(
        self,
        workload: Workload,
        seed: int,
        rng: random.Random,
        initial: Image,
        marks: Sequence[Mark],
        arm: Callable[[], None] | None = None,
    ) -> LogRecording:
        target = target_named(workload.target)
        root = os.path.join(self.disk, "recording")
        write_image(initial, root)
        session = Session(target, root, rng, self.shim.mark, tolerant=arm is not None)
        self.shim.sync_delay(workload.sync_delay_us)
        self.shim.start(root)
        if arm is not None:
            arm()
        try:
            workload.run(session)
        except StopWorkload:
            pass
        finally:
            trace = self.shim.stop()
            self.shim.sync_delay(0)
        recording = LogRecording(
            root, trace, workload.name, seed, initial, tuple(marks), target=target
        )
        disk = Disk(root, initial)
        for event in recording.events:
            disk.apply(event)
        disk.compare(root)
        remove_tree(root)
        check_errors(session, target)
        return recording

    def start_of(self, workload: Workload, seed: int) -> tuple[Image, tuple[Mark, ...]]:
        """What a workload finds: the disk, and what was promised.

        Nothing, or what a crash of another workload left, in the middle of a write.
        """
        if not workload.starts_from:
            return {}, ()
        rng = random.Random(f"start of {workload.name} {seed}")
        recording = self.record(workload_named(workload.starts_from), seed)
        disk, ledger = Disk(recording.prefix, {}), Ledger()
        found: list[tuple[Image, tuple[Mark, ...]]] = []
        for event in recording.events:
            if event.kind == 0:
                ledger.apply_bytes(event.data)
            elif disk.apply(event) and ledger.durable:
                planner = Planner(disk, rng)
                if planner.writes:
                    plan = planner.torn(*planner.writes[-1])
                    found.append((disk.image(plan), (*ledger.marks, {"t": "crash"})))
        return rng.choice(found)

    def explore(self, workload: Workload, seed: int, spec: Spec, states_max: int) -> Report:
        """Records a workload and recovers from its crashes, and from crashes of recoveries."""
        recording = self.record(workload, seed)
        rng = random.Random(f"explore {workload.name} {seed}")
        second = Report()

        def follow(state: State[Recovered], ledger: Ledger) -> None:
            if rng.random() < spec.second_order:
                report = self._second_order(recording, state, ledger, rng)
                second.states += report.states
                second.again += report.again
                second.bad += report.bad

        report = explorer(
            recording, self.scratch, rng,
            states_per_point=spec.states_per_point, states_max=states_max, follow=follow,
            seen=self.seen,
        ).run()  # fmt: skip
        report.second_order = second.states
        report.again += second.again
        report.bad += second.bad
        return report

    def _second_order(
        self, first: LogRecording, state: State[Recovered], ledger: Ledger, rng: random.Random
    ) -> Report:
        """Crashes the recovery of a crash; half of the time a call of it fails, too."""
        marks = (*ledger.marks, {"t": "crash"})
        arm = None
        if rng.random() < 0.5:
            k, error = rng.randrange(1, 16), rng.choice((errno.EIO, errno.EIO, errno.ENOSPC))
            kinds = rng.choice((CHANGES, SYNCS, READS))

            def arm() -> None:
                self.shim.arm(k, kinds, Action.ERRNO, error)

        workload = Workload(f"{first.workload}-recovery", reopen, target=first.target.name)
        recording = self._record(workload, first.seed, rng, state.image, marks, arm)
        return explorer(
            recording, self.scratch, rng, states_per_point=4, states_max=24, seen=self.seen
        ).run()


def reopen(session: Session) -> None:
    """What the next user of a crashed log does; tries again when a fault stops it."""
    try:
        log = session.open()
    except StopWorkload:
        log = session.open()
    log.append(session.payload(60))
    log.close()


def check_errors(session: Session, target: Target) -> None:
    """An I/O error is not corruption."""
    for failure in session.failures:
        if isinstance(failure.error, target.never):
            raise WorkloadError(f"an injected fault was taken for something else: {failure}")


def work(spec: Spec) -> Outcome:
    """One worker: rounds over the workloads until its share of states is done, of each and of all.

    How many states a trace has depends on which calls met in a group commit, so on the machine.
    """
    lab = Lab(spec.scratch, spec.disk)
    outcome, started = Outcome(seed=spec.seed), time.monotonic()
    outcome.by_workload = dict.fromkeys(spec.workloads, 0)
    seed = spec.seed * 1000 + spec.worker
    while time.monotonic() - started < spec.seconds:
        short = [n for n in spec.workloads if outcome.by_workload[n] < max(1, spec.states_each)]
        if not short and outcome.states >= spec.states:
            break
        if short and outcome.bad >= BAD_ENOUGH:
            break  # workloads that fail without a crash have no states
        for name in short or spec.workloads:
            left = spec.states_per_trace if short else spec.states - outcome.states
            if left <= 0:
                break
            report = explore_one(lab, workload_named(name), seed, spec, left, outcome)
            outcome.states += report.states
            outcome.again += report.again
            outcome.points += report.points
            outcome.second_order += report.second_order
            outcome.bad += len(report.bad)
            outcome.rounds += 1
            outcome.by_workload[name] += report.states
            for bad in report.bad:
                order = "second order: " if bad.recording.initial else ""
                name = order + signature(bad.problems[0])
                count = outcome.by_problem[name] = outcome.by_problem.get(name, 0) + 1
                if count == 1 and len(outcome.reports) < SAVED_MAX:
                    outcome.reports.append(describe(bad, save(bad, SAVED)))
        seed += spec.workers
    outcome.seconds = time.monotonic() - started
    Path(spec.scratch, SEEN).write_bytes(array("Q", lab.seen).tobytes())
    return outcome


def explore_one(
    lab: Lab, workload: Workload, seed: int, spec: Spec, left: int, outcome: Outcome
) -> Report:
    """One trace; a workload that fails without a crash counts as bad."""
    now(lab.scratch, f"{workload.name} seed={seed}")
    try:
        return lab.explore(
            workload, seed, spec, min(max(left, STATES_PER_TRACE_MIN), spec.states_per_trace)
        )
    except Exception:
        lab.shim.stop()
        lab.shim.sync_delay(0)
        outcome.bad += 1
        outcome.reports.append(
            f"workload {workload.name} (seed {seed}) raised:\n{traceback.format_exc()[-2000:]}"
        )
        shutil.rmtree(os.path.join(lab.disk, "recording"), ignore_errors=True)
        shutil.rmtree(os.path.join(lab.scratch, "state"), ignore_errors=True)
        return Report()


def run_workers(spec: Spec, *, workers: int | None = None, timeout_s: float = 600) -> Outcome:
    """Splits the states over worker processes; returns what they covered together."""
    count = workers or min(os.cpu_count() or 1, 8)
    total, running = Outcome(seed=spec.seed), []
    for index in range(count):
        scratch, disk = scratch_folder(), disk_folder()
        part = {**asdict(spec), "worker": index, "workers": count}
        part |= {"scratch": scratch, "disk": disk}
        # A little more than its share, since what two workers count is counted once.
        part["states"] = -(-spec.states // count) + spec.states // 100 + STATES_PER_TRACE_MIN
        part["states_each"] = -(-spec.states_each // count)
        running.append((scratch, disk, start(f"{__package__}.lab", json.dumps(part), scratch)))
    results = finish_all([(scratch, process) for scratch, _, process in running], timeout_s)
    for result in results:
        total.add(Outcome(**result))
    shared = count_shared([scratch for scratch, _, _ in running])
    total.states, total.again = total.states - shared, total.again + shared
    for scratch, disk, _ in running:
        remove_tree(scratch)
        remove_tree(disk)
    return total


def count_shared(folders: Sequence[str]) -> int:
    """How many states more than one worker counted."""
    together, counted = set[int](), 0
    for folder in folders:
        mine = array("Q")
        mine.frombytes(Path(folder, SEEN).read_bytes())
        together.update(mine)
        counted += len(mine)
    return counted - len(together)


def main(argument: str) -> None:
    spec = Spec(**json.loads(argument))
    if not Shim.loaded():
        outcome = run_workers(spec, workers=1)
        print(*outcome.reports, outcome, sep="\n")
        return
    hush()
    print(json.dumps(asdict(work(spec))))


if __name__ == "__main__":
    main(sys.argv[1])
