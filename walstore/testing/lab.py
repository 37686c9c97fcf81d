"""The crash lab as its user sees it: three ways to break a store."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from walstore.testing.disk import read_image, write_image
from walstore.testing.errors import CrashLabError
from walstore.testing.explore import remove_tree
from walstore.testing.reference import send
from walstore.testing.story import IMAGE, Case
from walstore.testing.workers import finish_all, scratch_folder, start

Mark = Callable[[Any], None]
Workload = Callable[[Path, Mark], None]
Check = Callable[[Path, list[Any]], None]

TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class Report:
    """What was tried; the check has passed each time."""

    kind: str
    seed: int
    states: int  # crash states, all different
    in_recovery: int  # of power cuts during a check that followed a power cut
    points: int  # moments at which the power was cut
    calls: int  # storage calls of the workload
    marks: int
    checks: int  # how often the check was asked
    bad: int  # and said no: never, in a report that is returned
    faults: int  # runs of the workload in which a call failed
    small_disks: int  # runs on a filesystem that was too small
    small_disks_need: str  # why there were none
    errors: dict[str, int] = field(default_factory=dict)  # what the workload raised, by type

    def __str__(self) -> str:
        raised = " ".join(f"{name}={count}" for name, count in sorted(self.errors.items()))
        parts = [
            f"crash lab, {self.kind}: seed={self.seed} calls={self.calls} marks={self.marks} "
            f"states={self.states} in_recovery={self.in_recovery} points={self.points} "
            f"checks={self.checks} bad={self.bad} faults={self.faults} "
            f"small_disks={self.small_disks}",
            f"the workload raised {raised}" if raised else "",
            f"no small disks: {self.small_disks_need}" if self.small_disks_need else "",
        ]
        return "; ".join(filter(None, parts))


class CrashLab:
    """Breaks a store. Workload and check are functions at the top of a module.

    workload(path, mark): uses the store in the empty directory `path`. `mark(value)`, with any JSON
        value, says "from now on this must survive".
    check(path, marks): opens the store that a crash has left in `path` and raises when it does not
        keep what was promised: the values that were marked before the crash.

    Each method raises what the check raised, with the story of the crash as a note.
    """

    def __init__(self, folder: Path, seed: int, again: str = "") -> None:
        self._folder, self._seed, self._again = folder, seed, again

    def power_cuts(self, workload: Workload, check: Check, *, states_min: int = 500) -> Report:
        """Cuts the power at every moment of the workload: what was not synced is kept, lost, torn
        or garbage, in at least `states_min` different combinations; in some of them the power is
        cut again while the check runs."""
        __tracebackhide__ = True
        return self._run("power cuts", workload, check, states_min)

    def failing_calls(self, workload: Workload, check: Check) -> Report:
        """Lets the k-th storage call fail, for every k: EIO once and from then on, short writes,
        EINTR, failing reads, a kill in the middle of a write. The workload may raise what it likes
        but AssertionError. After a failed sync the power is cut, too."""
        __tracebackhide__ = True
        return self._run("failing calls", workload, check, 0)

    def full_disk(self, workload: Workload, check: Check) -> Report:
        """Fills the disk at the k-th call that needs space, for every k, once and from then on;
        then runs the workload on real filesystems that are too small for it."""
        __tracebackhide__ = True
        return self._run("full disk", workload, check, 0)

    def _run(self, kind: str, workload: Workload, check: Check, states_min: int) -> Report:
        __tracebackhide__ = True
        outcome = self._in_worker(kind, send(workload, check), states_min)
        place, trouble = outcome.pop("place"), outcome.pop("trouble")
        report = Report(kind=kind, seed=self._seed, **outcome)
        print(report)
        if place:
            self._fail(Path(place), check)
        if trouble:
            raise CrashLabError(trouble)
        return report

    def _in_worker(self, kind: str, functions: dict[str, Any], states_min: int) -> dict[str, Any]:
        self._folder.mkdir(parents=True, exist_ok=True)
        scratch = os.path.realpath(scratch_folder())
        try:
            with tempfile.TemporaryDirectory(dir=self._folder) as recorded:
                spec = {
                    "kind": kind,
                    "functions": functions,
                    "seed": self._seed,
                    "states_min": states_min,
                    "disk": os.path.join(os.path.realpath(recorded), "store"),
                    "scratch": scratch,
                    "save": str(self._folder),
                }
                worker = start(f"{__package__}.worker", json.dumps(spec), scratch)
                (outcome,) = finish_all([(scratch, worker)], TIMEOUT_S)
        finally:
            remove_tree(scratch)
        return outcome

    def _fail(self, place: Path, check: Check) -> NoReturn:
        """Fails like the check does, in this process: so its own words and values are shown."""
        __tracebackhide__ = True
        case = Case.load(place)
        again = [f"all again: {self._again}"] if self._again else []
        story = case.tell(place, *again)
        if case.repeatable:
            with tempfile.TemporaryDirectory(dir=self._folder) as copy:
                try:
                    ask(check, case, place, Path(copy))
                except BaseException as error:  # whatever the check raises is what the test shows
                    error.add_note(story)
                    raise
        raise AssertionError("\n".join(filter(None, (case.problem, case.details, story))))


def ask(check: Check, case: Case, place: Path, folder: Path) -> None:
    """Runs a check on a copy of a saved state."""
    __tracebackhide__ = True
    copy = folder / "state"
    write_image(read_image(str(place / IMAGE)), str(copy))
    check(copy, list(case.marks))
