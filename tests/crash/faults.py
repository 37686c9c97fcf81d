"""k-loops: the k-th storage call of a workload fails, for k = 1, 2, ... until none is left to fail.

After each run the log is reopened without faults, and the ledger judges what it shows. Every run is
recorded; those whose sync failed with EIO, and a sample of the others, are also explored for power
cuts, which shows an ack that rested on a failed sync.

    python -m <package>.faults '{"workloads": ["roll"], "faults": ["eio-once"], "k": 12}'
"""

from __future__ import annotations

import errno
import faulthandler
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from walstore.testing.disk import Disk, Image, write_image
from walstore.testing.explore import remove_tree
from walstore.testing.faults import FAULTS, Fault
from walstore.testing.shim import Shim
from walstore.testing.trace import SYNCS, Event, Kind, parse
from walstore.testing.workers import disk_folder, finish_all, hush, now, scratch_folder, start

from .lab import SAVED, Lab
from .ledger import Ledger, Mark
from .session import Session, StopWorkload, Target
from .states import LogRecording, describe, explorer, save, signature
from .workloads import Workload, target_named, workload_named

HANG_S = 30
CLEAN_RUNS = (
    2  # background threads may make a call more or less: so many runs without a hit end a loop
)
K_MAX = 2000
REPORTS_PER_PROBLEM = 2
ON_DISK = 0.1  # share of the runs that are made on a real filesystem, where syncs take their time
THREADS_MAX = 8  # in a worker, after all logs are closed


@dataclass
class Spec:
    """What a worker shall do: these pairs of workload and fault, each for every k (or one k)."""

    pairs: list[tuple[str, str]]
    seed: int
    k: int = 0  # 0: every k
    explore: float = (
        0.05  # share of the runs that are explored for power cuts, besides failed syncs
    )
    scratch: str = ""  # in memory, where possible
    disk: str = ""  # on a real filesystem


@dataclass
class Outcome:
    """What workers covered."""

    runs: int = 0
    hits: int = 0
    on_disk: int = 0
    errors: int = 0  # calls that raised
    states: int = 0
    bad: int = 0
    seconds: float = 0.0
    by_fault: dict[str, int] = field(default_factory=dict)  # runs that were hit
    by_workload: dict[str, int] = field(default_factory=dict)
    error_types: dict[str, int] = field(default_factory=dict)
    by_problem: dict[str, int] = field(default_factory=dict)
    reports: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        for name in ("runs", "hits", "on_disk", "errors", "states", "bad"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.seconds = max(self.seconds, other.seconds)
        for mine, theirs in (
            (self.by_fault, other.by_fault),
            (self.by_workload, other.by_workload),
            (self.error_types, other.error_types),
            (self.by_problem, other.by_problem),
        ):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count
        self.reports += other.reports

    def __str__(self) -> str:
        def table(counts: dict[str, int]) -> str:
            return " ".join(f"{name}={count}" for name, count in sorted(counts.items()))

        return (
            f"fault runs={self.runs} hit={self.hits} on disk={self.on_disk} bad={self.bad} "
            f"crash states={self.states} seconds={self.seconds:.1f}\n"
            f"  {table(self.by_fault)}\n  {table(self.by_workload)}\n"
            f"  calls that raised={self.errors}: {table(self.error_types)}"
            + "".join(f"\n  {count} x {what}" for what, count in sorted(self.by_problem.items()))
        )


@dataclass
class Run:
    """One run of a workload with one fault."""

    session: Session
    trace: bytes = b""
    hits: int = 0
    hit_kind: Kind = Kind.MARK
    hit_event: int = 0
    problems: list[str] = field(default_factory=list)

    def describe(self, about: str) -> str:
        """The problems, the calls that raised, and what the process did when the fault hit."""
        lines = [about, *self.problems[:4], *(f"(raised) {f}" for f in self.session.failures[:4])]
        if self.hits:
            near = range(self.hit_event - 8, self.hit_event + 6)
            lines += [str(event)[:120] for event in parse(self.trace) if event.index in near]
        return "\n    ".join(lines)


class FaultLoop:
    """Runs k-loops in a process under the shim."""

    def __init__(self, spec: Spec) -> None:
        self.spec, self.shim, self.outcome = spec, Shim(), Outcome()
        self.root = ""
        self.rng = random.Random(f"faults {spec.seed}")
        self._starts: dict[str, tuple[Image, tuple[Mark, ...]]] = {}

    def loop(self, workload: Workload, fault: Fault) -> None:
        """Every k, until the fault finds no call any more."""
        clean = 0
        ks = [self.spec.k] if self.spec.k else range(1, K_MAX)
        for k in ks:
            about = f"{workload.name} {fault.name} k={k} seed={self.spec.seed}"
            now(self.spec.scratch, about)
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            hit = self.run(workload, fault, k, about)
            clean = 0 if hit else clean + 1
            if clean == CLEAN_RUNS:
                return
        if not self.spec.k:
            raise AssertionError(f"{workload.name} {fault.name}: still failing at k={K_MAX}")

    def run(self, workload: Workload, fault: Fault, k: int, about: str) -> bool:
        """One run; returns whether the fault hit a call."""
        target = target_named(workload.target)
        before = open_files()
        initial, marks = self._start_of(workload)
        on_disk = self.rng.random() < ON_DISK
        self.outcome.on_disk += on_disk
        place = self.spec.disk if on_disk else self.spec.scratch
        self.root = os.path.join(place, "log-under-fault")
        write_image(initial, self.root)
        rng = random.Random(f"{workload.name} {self.spec.seed}")
        run = Run(Session(target, self.root, rng, self.shim.mark, tolerant=True))
        self.shim.sync_delay(workload.sync_delay_us)
        self.shim.start(self.root)
        try:
            self._with_fault(workload, fault, k, run.session)
        except Exception:
            run.problems.append(f"the workload raised {traceback.format_exc()[-800:]}")
            run.session.abandon()
        run.hits, run.hit_kind, run.hit_event = shim_hit(self.shim)
        self.shim.disarm()
        try:
            self._reopen(target, k)
        except Exception as error:
            run.problems.append(f"reopening raised {type(error).__name__}: {error}")
        run.trace = self.shim.stop()
        seed = self.spec.seed
        recording = LogRecording(
            self.root, run.trace, workload.name, seed, initial, marks, target=target
        )
        self._judge(workload, recording, fault, run)
        leaked = {name: fd for name, fd in open_files().items() if name not in before}
        if leaked:
            run.problems.append(f"left open: {', '.join(sorted(leaked))}")
            for fd in leaked.values():
                os.close(fd)
        self._count(workload, fault, run, about)
        remove_tree(self.root)
        return run.hits > 0

    def _start_of(self, workload: Workload) -> tuple[Image, tuple[Mark, ...]]:
        if workload.name not in self._starts:
            lab = Lab(self.spec.scratch, self.spec.disk)
            self._starts[workload.name] = lab.start_of(workload, self.spec.seed)
        return self._starts[workload.name]

    def _with_fault(self, workload: Workload, fault: Fault, k: int, session: Session) -> None:
        """Runs the workload, in a child if it shall be killed."""
        if not fault.kills:
            self._armed(workload, session, fault, k)
        elif self._child(workload, session, fault, k) != 0:
            session.mark("kill")

    def _reopen(self, target: Target, k: int) -> None:
        """The log's next user, without faults."""
        session = Session(target, self.root, random.Random(f"reopen {k}"), self.shim.mark)
        log = session.open()
        log.append(session.payload(50))
        log.close()

    def _armed(self, workload: Workload, session: Session, fault: Fault, k: int) -> None:
        self.shim.arm(k, fault.kinds, fault.action, fault.error, forever=fault.forever)
        try:
            workload.run(session)
        except StopWorkload:
            pass

    def _child(self, workload: Workload, session: Session, fault: Fault, k: int) -> int:
        """Runs the workload in a forked child; returns its wait status (0: it came to its end)."""
        child = os.fork()
        if child == 0:
            signal.alarm(HANG_S // 2)  # it does not inherit the watchdog
            status = 1
            try:
                self._armed(workload, session, fault, k)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        if status and not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            raise RuntimeError(f"the child that was to be killed ended with status {status}")
        return status

    def _judge(self, workload: Workload, recording: LogRecording, fault: Fault, run: Run) -> None:
        ledger = Ledger.of(recording.marks)
        disk = Disk(self.root, recording.initial)
        syncs = FailedSyncs(disk)
        for event in recording.events:
            disk.apply(event)
            syncs.look(event)
            if event.kind is Kind.MARK:
                ledger.apply_bytes(event.data)
        disk.compare(self.root)
        run.problems += ledger.faults
        run.problems += syncs.problems
        run.problems += error_problems(workload, recording.target, fault, run)
        failed_sync = run.hit_kind in SYNCS and fault.error == errno.EIO
        if failed_sync or self.rng.random() < self.spec.explore:
            report = explorer(
                recording, self.spec.scratch, self.rng, states_per_point=2, states_max=8
            ).run()
            self.outcome.states += report.states
            for bad in report.bad[:1]:
                run.problems.append(describe(bad, save(bad, SAVED)))

    def _count(self, workload: Workload, fault: Fault, run: Run, about: str) -> None:
        outcome = self.outcome
        outcome.runs += 1
        if run.hits:
            outcome.hits += 1
            outcome.by_fault[fault.name] = outcome.by_fault.get(fault.name, 0) + 1
            outcome.by_workload[workload.name] = outcome.by_workload.get(workload.name, 0) + 1
        for failure in run.session.failures:
            name = type(failure.error).__name__
            outcome.errors += 1
            outcome.error_types[name] = outcome.error_types.get(name, 0) + 1
        if run.problems:
            outcome.bad += 1
            for name in {signature(problem) for problem in run.problems}:
                count = outcome.by_problem[name] = outcome.by_problem.get(name, 0) + 1
                if count <= REPORTS_PER_PROBLEM:
                    hit = f" (a {run.hit_kind.name.lower()} failed)" if run.hits else ""
                    outcome.reports.append(run.describe(about + hit))
                    break


def open_files() -> dict[str, int]:
    """The files that this process has open."""
    found = {}
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            found[f"{os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))} ({fd})"] = fd
        except OSError:
            continue  # the one that listed the directory
    return found


def shim_hit(shim: Shim) -> tuple[int, Kind, int]:
    return shim.hits, shim.hit_kind, shim.hit_event


class FailedSyncs:
    """A file whose sync failed is never synced again before it was opened again. Files are told
    apart by inode: a segment keeps the name of a spare that it was opened under, and the next spare
    may get that name."""

    def __init__(self, disk: Disk) -> None:
        self.problems: list[str] = []
        self._disk = disk
        self._failed: set[int] = set()
        self._begun: dict[int, int] = {}

    def look(self, event: Event) -> None:
        """Takes in an event that was applied to the disk."""
        if event.kind is Kind.OPEN and not event.failed:
            self._failed.discard(self._disk.inode_of(event.fd))
        elif event.is_sync_begin:
            inode = self._begun[event.index] = self._disk.inode_of(event.fd)
            if inode in self._failed:
                self.problems.append(
                    f"fd {event.fd} was synced again (event {event.index}) after a failed sync"
                )
        elif event.is_sync_end and event.result not in (0, -errno.EINTR):
            self._failed.add(self._begun[event.offset])


def error_problems(workload: Workload, target: Target, fault: Fault, run: Run) -> list[str]:
    """Whether the calls of the workload failed as they should."""
    found = []
    failures = run.session.failures
    for failure in failures:
        if isinstance(failure.error, target.never):
            found.append(f"an injected fault was taken for something else: {failure}")
    if not run.hits and failures:
        found.append(f"failed without a fault: {failures[0]}")
    full = fault.name in ("enospc-once", "edquot-once", "short-full-once")
    in_order = failures  # what other threads began before the log was latched may fail behind it
    # What was submitted together is refused together.
    alone = [failure for failure in failures if failure.call not in ("submit", "wait")]
    if workload.concurrent:
        alone, in_order = [], []
    if full and target.full and run.hit_kind not in SYNCS and len(alone) > 1:
        found.append(f"one call met a full disk, but {len(alone)} failed")
    latched, life = False, 0
    for failure in in_order:
        if failure.life != life:
            latched, life = False, failure.life
        if failure.call in ("open", "close", "abandon"):
            latched = latched and failure.call != "open"
        elif isinstance(failure.error, target.poisoned):
            latched = True
        elif failure.call == "wait" and target.full and isinstance(failure.error, target.full):
            continue  # refused before the log was latched
        elif latched and isinstance(failure.error, OSError):
            found.append(f"after the log was poisoned: {failure}")
    return found


def work(spec: Spec) -> Outcome:
    started = time.monotonic()
    loop = FaultLoop(spec)
    for workload, fault in spec.pairs:
        loop.loop(workload_named(workload), FAULTS[fault])
    faulthandler.cancel_dump_traceback_later()
    threads = len(os.listdir("/proc/self/task"))
    assert threads < THREADS_MAX, f"{threads} threads are left after {loop.outcome.runs} runs"
    loop.outcome.seconds = time.monotonic() - started
    return loop.outcome


def run_workers(
    pairs: Sequence[tuple[str, str]],
    seed: int,
    *,
    k: int = 0,
    workers: int | None = None,
    timeout_s: float = 3600,
) -> Outcome:
    """Splits the loops over worker processes; returns what they covered together."""
    count = workers or min(os.cpu_count() or 1, 8)
    total, running = Outcome(), []
    for index in range(count):
        spec = Spec([*pairs[index::count]], seed, k, scratch=scratch_folder(), disk=disk_folder())
        running.append(
            (spec, start(f"{__package__}.faults", json.dumps(asdict(spec)), spec.scratch))
        )
    for result in finish_all([(spec.scratch, process) for spec, process in running], timeout_s):
        total.add(Outcome(**result))
    for spec, _ in running:
        remove_tree(spec.scratch)
        remove_tree(spec.disk)
    return total


def main(argument: str) -> None:
    options = json.loads(argument)
    if Shim.loaded():
        hush()
        print(json.dumps(asdict(work(Spec(**options)))))
        return
    names = options.get("faults", list(FAULTS))
    pairs = [(workload, fault) for workload in options["workloads"] for fault in names]
    seed, k = options.get("seed", 1), options.get("k", 0)
    outcome = run_workers(pairs, seed, k=k, workers=1 if k else None)
    print(*outcome.reports, outcome, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1])
