"""What all power cuts have in common: who writes, who judges, what is counted."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from walstore.testing.disk import read_image
from walstore.testing.explore import remove_tree
from walstore.testing.workers import finish_all, scratch_folder, start

from . import kill9
from .lab import SAVED
from .ledger import Ledger
from .mounts import UnavailableError, need
from .session import Session, recover
from .settings import scaled
from .states import save_case
from .workloads import target_named

TIMEOUT_S = 240  # of the usual run


@dataclass
class Spec:
    """What a worker shall do."""

    kind: str  # of filesystem, or of fault
    rounds: int  # power cuts, or failed syncs, at least
    seed: int
    scratch: str = ""
    target: str = "walstore"
    workloads: list[str] = field(default_factory=list)  # for the faults
    worker: int = 0
    workers: int = 1


@dataclass
class Outcome:
    """What workers covered."""

    seed: int = 0
    rounds: int = 0  # power cuts, each recovered from
    acks: int = 0  # that came before a cut
    failed_syncs: int = 0
    recoveries: int = 0  # power cuts in the middle of an opening
    torn: int = 0  # power cuts that left a torn tail
    unacked: int = 0  # entries that were there without having been acked
    bad: int = 0
    seconds: float = 0.0
    unavailable: str = ""
    reports: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        for name in ("rounds", "acks", "failed_syncs", "recoveries", "torn", "unacked", "bad"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.seconds = max(self.seconds, other.seconds)
        self.unavailable = self.unavailable or other.unavailable
        self.reports += other.reports

    def __str__(self) -> str:
        return (
            f"cuts={self.rounds} bad={self.bad} seed={self.seed} acks={self.acks} "
            f"failed syncs={self.failed_syncs} in openings={self.recoveries} torn={self.torn} "
            f"un-acked={self.unacked} "
            f"seconds={self.seconds:.1f}"
        )


def writer_of(target: str) -> Callable[[Session], None]:
    return writer if target == "walstore" else appender


def writer(session: Session) -> None:
    """Uses the log in every way; often with batches of several pages, which can be torn."""
    rng = session.rng
    while True:
        policy = rng.choice(("always", "always", "always", "interval", "os"))
        log = session.open(sync=policy, segment_bytes=rng.choice((4096, 1 << 20)))
        for _ in range(rng.randrange(5, 40)):
            if rng.random() < 0.4:
                log.append_many(session.payloads(rng.randrange(2, 12), rng.randrange(800, 40000)))
            else:
                kill9.one_call(session, log, rng.random())
        if rng.random() < 0.2:
            kill9.several_threads(session, log)
        log.close()


def appender(session: Session) -> None:
    """All that the toy can do."""
    while True:
        log = session.open()
        for _ in range(session.rng.randrange(20)):
            log.append(session.payload())
        log.close()


def judge(root: str, ledger: Ledger, spec: Spec, note: str, outcome: Outcome) -> None:
    """Opens the log that a power cut left, and compares it with what had been promised."""
    image = read_image(root)
    path = os.path.join(root, "log")
    recovered = recover(target_named(spec.target), path, probe=b"probe")
    problems = ledger.faults + ledger.problems(recovered)
    outcome.rounds += 1
    outcome.recoveries += ledger.marks[-2:-1] == [{"t": "open", "policy": ledger.policy}]
    outcome.torn += len(cut_files(path)) > sum("/cut-" in name for name in image)
    outcome.unacked += max(0, recovered.last - ledger.last)
    if problems:
        outcome.bad += 1
        about = {
            "target": spec.target, "workload": f"{spec.kind}-cut", "seed": spec.seed,
            "note": note, "problems": problems, "marks": ledger.marks,
        }  # fmt: skip
        place = save_case(SAVED, image, about)
        outcome.reports.append(
            "\n  ".join([
                f"{note}, seed {spec.seed}:", *problems[:5],
                f"replay: {sys.executable} -m {__package__}.states {place}",
            ])
        )  # fmt: skip


def cut_files(path: str) -> list[str]:
    return [name for name in os.listdir(path) if name.startswith("cut-")]


def work(argument: str, run: Callable[[Spec, Outcome], None]) -> None:
    """A worker's main."""
    spec, outcome, started = Spec(**json.loads(argument)), Outcome(), time.monotonic()
    try:
        run(spec, outcome)
    except UnavailableError as error:
        outcome.unavailable = str(error)
    outcome.seconds = time.monotonic() - started
    print(json.dumps(asdict(outcome)))


def run_workers(module: str, spec: Spec, *, workers: int | None = None) -> Outcome:
    """Splits the rounds over worker processes, whose mounts end with them."""
    need("unshare", "mount")
    count = workers or min(os.cpu_count() or 1, 8)
    total, running = Outcome(spec.seed), []
    for index in range(count):
        part = Spec(**asdict(spec))
        part.rounds, part.scratch = -(-spec.rounds // count), scratch_folder()
        part.worker, part.workers = index, count
        argument = json.dumps(asdict(part))
        worker = start(
            f"{__package__}.{module}", argument, part.scratch, preload=False, mounts=True
        )
        running.append((part.scratch, worker))
    for result in finish_all(running, max(TIMEOUT_S, scaled(TIMEOUT_S))):
        total.add(Outcome(**result))
    for scratch, _ in running:
        remove_tree(scratch)
    if total.unavailable:
        raise UnavailableError(total.unavailable)
    return total
