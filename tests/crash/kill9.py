"""Rounds of kill -9: a writer dies at a random moment, and the next one finds all that was acked.

One process forks a writer for each round; its marks come through a pipe, which outlives it. The
rounds of one log follow each other: the open of each round is checked against all that the rounds
before it were promised. Runs on a real filesystem and without the shim.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from dataclasses import asdict, dataclass, field

from walstore.testing.workers import now

from .forked import Forked
from .ledger import Ledger
from .session import MarkedLog, Session, recover
from .workloads import target_named

ROUNDS_PER_LOG = 12
ENTRIES_KEPT = 60  # the writer truncates what is older, now and then


@dataclass
class Spec:
    """What a worker shall do."""

    rounds: int
    seed: int
    folder: str  # on a real filesystem
    scratch: str = ""
    target: str = "walstore"


@dataclass
class Outcome:
    """What workers covered."""

    rounds: int = 0
    acks: int = 0
    bad: int = 0
    seconds: float = 0.0
    reports: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        self.rounds += other.rounds
        self.acks += other.acks
        self.bad += other.bad
        self.seconds = max(self.seconds, other.seconds)
        self.reports += other.reports


def writer(session: Session) -> None:
    """Uses the log in every way until it is killed."""
    rng = session.rng
    while True:
        log = session.open(sync=rng.choice(("always", "always", "interval", "os")))
        for _ in range(rng.randrange(5, 60)):
            one_call(session, log, rng.random())
        if rng.random() < 0.7:
            log.close()
        else:
            several_threads(session, log)
            log.close()


def one_call(session: Session, log: MarkedLog, dice: float) -> None:
    rng = session.rng
    if dice < 0.55:
        log.append(session.payload())
    elif dice < 0.7:
        log.append_many(session.payloads(rng.randrange(2, 9), 200))
    elif dice < 0.85:
        log.submit_all(session.payloads(rng.randrange(1, 12), 60))
    elif dice < 0.9:
        log.sync()
    elif dice < 0.95:
        log.truncate_before(max(log.first, log.last - ENTRIES_KEPT))
    elif dice < 0.98 and log.last - log.first > 4:
        log.truncate_after(log.last - rng.randrange(4))
    else:
        log.begin_term()


def several_threads(session: Session, log: MarkedLog) -> None:
    mine = [session.payloads(8) for _ in range(3)]

    def append(payloads: list[bytes]) -> None:
        for payload in payloads:
            log.append(payload)

    threads = [threading.Thread(target=append, args=(payloads,)) for payloads in mine]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run_round(spec: Spec, path: str, number: int, rng: random.Random) -> tuple[list[bytes], str]:
    """One writer, killed after a random number of acks; returns its marks, and what went wrong."""
    child = Forked(writer, spec.target, path, f"writer {spec.seed} {number}")
    acks_wanted, marks, killed = rng.randrange(1, 60), list[bytes](), False
    while more := child.read():
        marks += more
        if not killed and sum(b'"acked"' in mark for mark in marks) >= acks_wanted:
            child.kill()
            killed = True
    child.end()
    return marks, child.trouble


def work(spec: Spec) -> Outcome:
    started, outcome = time.monotonic(), Outcome()
    rng = random.Random(f"kill9 {spec.seed}")
    target = target_named(spec.target)
    while outcome.rounds < spec.rounds:
        path = os.path.join(spec.folder, f"log-{spec.seed}-{outcome.rounds}")
        os.mkdir(path)
        ledger = Ledger()
        for _ in range(min(ROUNDS_PER_LOG, spec.rounds - outcome.rounds)):
            now(spec.scratch, f"kill -9 round {outcome.rounds}, seed {spec.seed}, {path}")
            marks, trouble = run_round(spec, path, outcome.rounds, rng)
            for mark in marks:
                ledger.apply_bytes(mark)
            ledger.apply({"t": "kill"})
            outcome.rounds += 1
            outcome.acks += sum(b'"acked"' in mark for mark in marks)
            if trouble:
                errors = [m["error"] for m in ledger.marks if m["t"] == "note"]
                ledger.faults.append("\n".join([trouble, *errors[-1:]]))
                break
        ledger.faults += ledger.problems(
            recover(target, os.path.join(path, "log"), probe=b"probe"), live=True
        )
        if ledger.faults:
            outcome.bad += 1
            outcome.reports.append("\n  ".join([f"{path}, seed {spec.seed}:", *ledger.faults[:5]]))
    outcome.seconds = time.monotonic() - started
    return outcome


if __name__ == "__main__":
    print(json.dumps(asdict(work(Spec(**json.loads(sys.argv[1]))))))
