"""Runs somebody's workload under the recorder, and their check in every state that may come of it.

A process of its own, started under the shim. Workload and check run in forked children of it.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from walstore.testing import forked
from walstore.testing.disk import Disk, Image, UnmodelledError, read_image, write_image
from walstore.testing.errors import CrashLabError
from walstore.testing.explore import (
    BadState,
    Explorer,
    Recording,
    Report,
    State,
    image_key,
    remove_tree,
)
from walstore.testing.faults import FAILING_CALLS, FULL_DISK, Fault
from walstore.testing.forked import Asker, Ending
from walstore.testing.reference import receive
from walstore.testing.shim import Shim
from walstore.testing.small_disk import PAGE_BYTES, mount_small_disk
from walstore.testing.story import Case, differences, history
from walstore.testing.trace import SYNCS, Event, Kind
from walstore.testing.workers import hush, now

T = TypeVar("T")

HANG_S = 30.0
BAD_ENOUGH = 20  # failing checks, after which no more are tried
ATTEMPTS = 3  # explorations of one recording, each of four times as many states a point
STATES_PER_POINT_MIN = 4
SECOND_ORDER = 0.03  # share of states during whose check the power is cut again
ON_DISK = 0.1  # share of the runs with a fault made on a real filesystem, where syncs take time
SAMPLE = 0.1  # share of failing calls, besides syncs, after which power cuts are tried
CLEAN_RUNS = 2  # background threads may make a call more or less: so many runs without a hit
K_MAX = 5000
SMALL_DISKS = 24  # sizes tried, from one page to what the workload needs


@dataclass
class Spec:
    """What a worker shall do."""

    kind: str
    functions: dict[str, Any]  # workload and check: see reference.py
    seed: int
    states_min: int
    disk: str  # on a real filesystem: the workload runs here
    scratch: str  # in memory, where possible: states are checked here
    save: str


@dataclass
class Outcome:
    """What a worker has covered."""

    states: int = 0
    in_recovery: int = 0
    points: int = 0
    checks: int = 0
    calls: int = 0
    faults: int = 0
    small_disks: int = 0
    small_disks_need: str = ""  # why there were none
    marks: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    bad: int = 0
    place: str = ""  # of the first bad state
    trouble: str = ""  # why the lab gave up


class Marks:
    """What the workload has promised so far, for an explorer; a state is what the check says."""

    def __init__(self, worker: Worker, marks: Sequence[Any]) -> None:
        self.marks, self.faults = list(marks), list[str]()
        self._worker = worker

    def apply_bytes(self, data: bytes) -> bool:
        self.marks.append(json.loads(data))
        return True

    def problems(self, image: Image) -> list[str]:
        ending = self._worker.verdict(image, self.marks)
        return list(failure(ending)) if ending.problem else []


class Worker:
    """Records a workload, breaks it, and asks the check."""

    def __init__(self, spec: Spec) -> None:
        self.spec, self.shim, self.outcome = spec, Shim(), Outcome()
        self.workload, self.check = receive(spec.functions)
        self.rng = random.Random(f"{spec.kind} {spec.seed}")
        self.note = os.path.join(spec.scratch, "ending")
        self.root = spec.disk  # where what is recorded runs
        self.asker = Asker(self.run_check, HANG_S)
        self._numbers = itertools.count()
        self._verdicts: dict[tuple[int, str], Ending] = {}
        self._seen = set[int]()

    # The user's functions.

    def run_workload(self) -> None:
        self.workload(Path(self.root), self._mark)

    def run_check(self, place: str, marks: Sequence[Any]) -> None:
        self.check(Path(place), list(marks))

    def _mark(self, value: Any) -> None:
        self.shim.mark(json.dumps(value).encode())

    def verdict(self, image: Image, marks: Sequence[Any]) -> Ending:
        """What the check says of a state. A no comes from a fresh process, to which no other state
        can have left anything."""
        key = image_key(image), json.dumps(marks)
        known = self._verdicts.get(key)
        if known is not None:
            return known
        if self.outcome.bad >= BAD_ENOUGH:
            return Ending()
        self.outcome.checks += 1
        ending = Ending()
        if not self.on_copy(image, lambda place: self.asker.passes(place, list(marks))):
            ending = self.on_copy(
                image,
                lambda place: forked.run(partial(self.run_check, place, marks), self.note, HANG_S),
            )
        self._verdicts[key] = ending
        if ending.problem:
            self.outcome.bad += 1 if ending.raised else BAD_ENOUGH  # a hang takes its time
        return ending

    def on_copy(self, image: Image, use: Callable[[str], T]) -> T:
        """Each copy has a path that was never used before, so that nothing is known of it."""
        place = os.path.join(self.spec.scratch, f"state-{next(self._numbers)}")
        write_image(image, place)
        result = use(place)
        remove_tree(place)
        return result

    def record(
        self,
        call: Callable[[], None],
        initial: Image,
        marks: Sequence[Any],
        arm: Callable[[], None] | None = None,
    ) -> tuple[Recording, Disk, Ending]:
        """Runs a function in the recorded directory; returns also the disk as it is at the end."""
        root = self.root
        write_image(initial, root)
        self.shim.start(root)
        if arm is not None:
            arm()
        try:
            ending = forked.run(call, self.note, HANG_S)
        finally:
            trace = self.shim.stop()
        recording = Recording(root, trace, self.spec.kind, self.spec.seed, initial, tuple(marks))
        disk = Disk(root, initial)
        for event in recording.events:
            disk.apply(event)
        disk.compare(root)
        remove_tree(root)
        return recording, disk, ending

    def record_workload(self) -> Recording:
        """The workload, without any fault and on a real filesystem."""
        recording, disk, ending = self.record(self.run_workload, {}, ())
        self.live = disk.live_image()
        if ending.problem:
            raise CrashLabError(
                f"the workload {ending.problem}, without any fault\n{ending.details}"
            )
        self.outcome.calls = sum(e.kind is not Kind.MARK for e in recording.events)
        self.outcome.marks = len(recording.events) - self.outcome.calls
        if not self.outcome.calls:
            raise CrashLabError("the workload changed nothing in the directory it was given")
        return recording

    # Power cuts.

    def explore(
        self,
        recording: Recording,
        *,
        states_per_point: int,
        states_max: int,
        follow: Callable[[State[Image], Marks], None] | None = None,
    ) -> Report:
        marks = Marks(self, recording.marks)

        def go_on(state: State[Image]) -> None:
            if follow is not None:
                follow(state, marks)

        return Explorer(
            recording, marks, lambda image: image, self.rng,
            states_per_point=states_per_point, states_max=states_max,
            follow=go_on if follow else None, seen=self._seen,
        ).run()  # fmt: skip

    def power_cuts(self) -> None:
        recording, wanted = self.record_workload(), self.spec.states_min
        second: list[BadState] = []

        def follow(state: State[Image], marks: Marks) -> None:
            if self.rng.random() < SECOND_ORDER and not self.outcome.bad:
                second.extend(self.second_order(state, marks))

        points = changes(recording) + 1
        for attempt in range(ATTEMPTS):
            now(self.spec.scratch, f"power cuts, attempt {attempt + 1}")
            each = max(STATES_PER_POINT_MIN, -(-3 * wanted // (2 * points)) << 2 * attempt)
            report = self.explore(
                recording,
                states_per_point=each,
                states_max=max(STATES_PER_POINT_MIN * points, wanted * 5 // 4 << attempt),
                follow=follow,
            )
            self.outcome.points = report.points
            self.outcome.states += report.states
            if report.bad:
                self.save(
                    report.bad[0], f"the check fails after a power cut ({report.bad[0].note})"
                )
            elif second:
                self.save(
                    second[0],
                    f"the check fails after a power cut ({second[0].note}) while it ran after "
                    "another one",
                )
            if self.outcome.bad or self.outcome.states >= wanted:
                return
        raise CrashLabError(
            f"the workload has only {self.outcome.states} crash states: let it do more, or ask for "
            f"fewer with states_min (now {wanted})"
        )

    def second_order(self, state: State[Image], marks: Marks) -> list[BadState]:
        """Cuts the power during a check: what recovers a crashed store is interrupted itself."""
        recording, _, ending = self.record(
            partial(self.run_check, self.root, marks.marks), state.image, marks.marks
        )
        if ending.problem:
            raise CrashLabError(
                f"the check passed, and then, on the same state, {ending.problem}\n{ending.details}"
            )
        report = self.explore(recording, states_per_point=4, states_max=24)
        self.outcome.in_recovery += report.states
        return report.bad

    # Faults.

    def failing_calls(self) -> None:
        self.each_call(FAILING_CALLS)

    def full_disk(self) -> None:
        self.each_call(FULL_DISK)
        if not self.outcome.bad:
            self.small_disks()

    def each_call(self, faults: Sequence[Fault]) -> None:
        """The k-th call suffers, for every k."""
        self.record_workload()
        for fault in faults:
            clean = 0
            for k in range(1, K_MAX):
                hit = self.one_fault(fault, k)
                clean = 0 if hit else clean + 1
                if clean == CLEAN_RUNS or self.outcome.bad:
                    break
            else:
                raise CrashLabError(f"the workload makes more than {K_MAX} storage calls")

    def one_fault(self, fault: Fault, k: int) -> bool:
        """One run of the workload; returns whether a call was hit."""
        now(self.spec.scratch, f"{fault.name} at call {k}")
        memory = os.path.join(self.spec.scratch, "store")
        self.root = self.spec.disk if self.rng.random() < ON_DISK else memory
        recording, disk, ending = self.record(
            self.run_workload, {}, (),
            lambda: self.shim.arm(k, fault.kinds, fault.action, fault.error, forever=fault.forever),
        )  # fmt: skip
        hits, kind = self.shim.hits, self.shim.hit_kind
        if not hits:
            if ending.problem:
                raise CrashLabError(f"the workload {ending.problem}, without any fault")
            return False
        self.outcome.faults += 1
        self.count_error(ending)
        what = f"{fault.name} at call {k} of its kind, a {kind.name.lower()}"
        good = self.judge(recording, disk.live_image(), ending, what, killed=fault.kills)
        if good and (kind in SYNCS or self.rng.random() < SAMPLE):
            report = self.explore(recording, states_per_point=3, states_max=24)
            self.outcome.states += report.states
            for bad in report.bad[:1]:
                self.save(bad, f"the check fails after {what}, and a power cut ({bad.note})")
        return True

    def judge(
        self, recording: Recording, live: Image, ending: Ending, what: str, *, killed: bool = False
    ) -> bool:
        """Whether a run that met a fault ended as it may, and left what passes the check."""
        marks = marks_of(recording.events)
        raised = ending.raised and ending.raised != AssertionError.__name__
        if not ending.problem or raised or killed:
            ending = self.verdict(live, marks)
            what = f"the check fails after {what}"
            problems = failure(ending)
        else:
            self.outcome.bad += 1
            what = f"the workload fails with {what}"
            problems = (f"the workload {ending.problem}", ending.details, "")
        if ending.problem:
            at = len(recording.events) - 1
            self.save(BadState(recording, at, live, live, tuple(marks), "", problems, ()), what)
        return not ending.problem

    def small_disks(self) -> None:
        """Real filesystems of one page, of two, and so on up to what the workload needs."""
        self.root = self.spec.disk
        left = os.path.join(self.spec.scratch, "left")
        os.mkdir(self.root)
        ready = forked.run(partial(mount_small_disk, self.root, PAGE_BYTES), self.note, HANG_S)
        self.outcome.small_disks_need = ready.problem
        pages = sum(-(-len(data or b"") // PAGE_BYTES) for data in self.live.values())
        for size in range(1, pages + 1, max(1, pages // SMALL_DISKS)):
            if ready.problem or self.outcome.bad:
                break
            now(self.spec.scratch, f"a disk of {size} pages")
            os.mkdir(left)
            run = partial(self.run_on_small_disk, size * PAGE_BYTES, left)
            self.shim.start(self.root)
            ending = forked.run(run, self.note, HANG_S)
            trace = self.shim.stop()
            image = read_image(left)
            remove_tree(left)
            self.count_error(ending)
            recording = Recording(self.root, trace, self.spec.kind, self.spec.seed)
            self.outcome.small_disks += 1
            self.judge(recording, image, ending, f"a disk of {size * PAGE_BYTES} bytes")
        os.rmdir(self.root)

    def run_on_small_disk(self, size_bytes: int, left: str) -> None:
        mount_small_disk(self.root, size_bytes)
        try:
            self.run_workload()
        finally:
            os.rmdir(left)
            write_image(read_image(self.root), left)

    def count_error(self, ending: Ending) -> None:
        if ending.raised:
            self.outcome.errors[ending.raised] = self.outcome.errors.get(ending.raised, 0) + 1

    def save(self, bad: BadState, what: str) -> None:
        if self.outcome.place:
            return
        events, prefix = bad.recording.events, bad.recording.prefix
        problem, details, raised = bad.problems
        case = Case(
            functions=self.spec.functions,
            marks=list(bad.marks),
            what=what,
            problem=problem,
            details=details,
            repeatable=bool(raised),
            history=history(events, bad.at, prefix),
            lost=differences(bad.live, bad.image),
        )
        self.outcome.place = str(case.save(bad.image, Path(self.spec.save)))


def failure(ending: Ending) -> tuple[str, str, str]:
    """The problems of a bad state: what `Worker.save` makes a case of."""
    return f"the check {ending.problem}", ending.details, ending.raised


def changes(recording: Recording) -> int:
    """How many events change what may be on the disk."""
    disk = Disk(recording.prefix, recording.initial)
    return sum(disk.apply(event) for event in recording.events)


def marks_of(events: Sequence[Event]) -> list[Any]:
    return [json.loads(event.data) for event in events if event.kind is Kind.MARK]


def work(spec: Spec) -> Outcome:
    worker = Worker(spec)
    try:
        match spec.kind:
            case "power cuts":
                worker.power_cuts()
            case "failing calls":
                worker.failing_calls()
            case _:
                worker.full_disk()
    except (CrashLabError, UnmodelledError) as error:
        worker.outcome.trouble = str(error)
    finally:
        worker.asker.end()
    return worker.outcome


if __name__ == "__main__":
    hush()
    print(json.dumps(asdict(work(Spec(**json.loads(sys.argv[1]))))), flush=True)
    os._exit(0)  # whatever the test's modules would say or wait for at their end
