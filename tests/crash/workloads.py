"""The registry of workloads, and those of walstore's log and of the toy.

A workload is a function that drives a log through a Session. Later parts of walstore add theirs in
files of their own, named workloads_<part>.py: all of them are imported by `load()`.
"""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .session import Log, MarkedLog, Session, StopWorkload, Target
from .toy import BUGS, toy

SEGMENT_BYTES = 4096  # the smallest that walstore allows: many rolls in a short trace


@dataclass(frozen=True)
class Workload:
    """Something done to a log."""

    name: str
    run: Callable[[Session], None]
    target: str = "walstore"
    starts_from: str = ""  # the workload whose crash, with its last write torn, it starts from
    sync_delay_us: int = 0  # for workloads of several threads: syncs that take time
    failing: str = ""  # "sync": one of its syncs fails; "space": one of its writes finds none
    concurrent: bool = False  # its threads' appends are refused together, in any order


_workloads: dict[str, Workload] = {}
_targets: dict[str, Callable[[], Target]] = {}


def register(workload: Workload) -> Workload:
    assert workload.name not in _workloads, workload.name
    _workloads[workload.name] = workload
    return workload


def register_target(name: str, make: Callable[[], Target]) -> None:
    """`make` is called when the target is used first, so that the lab loads without it."""
    _targets[name] = make


def load() -> None:
    """Imports every workloads_*.py beside this file."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.startswith("workloads_"):
            importlib.import_module(f".{module.name}", __package__)


def workloads(target: str) -> list[Workload]:
    load()
    return [workload for workload in _workloads.values() if workload.target == target]


def workload_named(name: str) -> Workload:
    load()
    return _workloads[name]


def target_named(name: str) -> Target:
    load()
    return _targets[name]()


# The toy.


def _toy_appends(session: Session) -> None:
    log = session.open()
    for _ in range(8):
        log.append(session.payload())
    log.close()
    log = session.open()
    for _ in range(4):
        log.append(session.payload())
    log.close()


def _toy_poisoned(session: Session) -> None:
    """A sync fails under way; the log is reopened, and used on."""
    for _ in range(3):
        try:
            log = session.open()
        except StopWorkload:
            continue
        for _ in range(4):
            log.append(session.payload())
        log.abandon()


def _register_toy(bug: str) -> None:
    name = f"toy-{bug}" if bug else "toy"
    register_target(name, lambda: Target(name, toy(bug)))
    register(Workload(name, _toy_appends, target=name))
    register(Workload(f"{name}-poisoned", _toy_poisoned, target=name, failing="sync"))


for _bug in ("", *BUGS):
    _register_toy(_bug)


# walstore.


def _walstore() -> Target:
    import walstore
    from walstore.wal.repair import repair_tail

    from .branches import check_branches

    def open_log(path: str, **options: Any) -> Log:
        log: Log = walstore.FileWALManager(path, **options)
        try:
            check_branches(path, log)
        except BaseException:
            log.close()
            raise
        return log

    return Target(
        "walstore",
        open_log,
        errors=(walstore.WALStoreError, OSError),
        full=(walstore.LogFullError,),
        poisoned=(walstore.LogPoisonedError,),
        never=(walstore.CorruptLogError, walstore.NotALogError, walstore.UnsupportedFormatError),
        options={"segment_bytes": SEGMENT_BYTES},
        repair=partial(repair_tail, apply=True),
    )


register_target("walstore", _walstore)


def _appends(session: Session, log: MarkedLog, count: int, size: int | None = None) -> None:
    for _ in range(count):
        log.append(session.payload(size), kind=session.rng.choice((1, 1, 2)))


def append_always(session: Session) -> None:
    log = session.open()
    _appends(session, log, 9)
    log.append(b"")
    log.close()


def append_batches(session: Session) -> None:
    log = session.open()
    for count in (2, 5, 1, 9, 3):
        log.append_many(session.payloads(count, session.rng.choice((16, 200, 600))))
    log.close()


def append_large(session: Session) -> None:
    """Entries and batches larger than a segment."""
    log = session.open()
    log.append(session.payload(100))
    log.append(session.payload(SEGMENT_BYTES + session.rng.randrange(6000)))
    log.append(session.payload(100))
    log.append_many([session.payload(2500) for _ in range(4)])
    log.append(session.payload(30))
    log.close()


def roll(session: Session) -> None:
    """Entries that fill segments to the last byte, and past it."""
    log = session.open()
    for _ in range(10):
        log.append(session.payload(session.rng.choice((900, 1300, 2000, 4000, 4056))))
    log.close()


def truncate_before(session: Session) -> None:
    log = session.open()
    _appends(session, log, 12, 700)
    log.truncate_before(session.rng.randrange(2, 7))
    _appends(session, log, 2)
    log.truncate_before(session.rng.randrange(7, 13))
    _appends(session, log, 2)
    log.truncate_before(log.last + 1)
    _appends(session, log, 2)
    log.close()


def recycle(session: Session) -> None:
    """Segments that were cut away come back as new ones: their old bytes must not."""
    log = session.open()
    for _ in range(3):
        _appends(session, log, 7, session.rng.choice((700, 700, 1200)))
        log.truncate_before(log.last - 1)
    _appends(session, log, 3, 100)
    log.close()


def truncate_after(session: Session) -> None:
    log = session.open()
    _appends(session, log, 9, 700)
    log.truncate_after(session.rng.randrange(5, 9))
    _appends(session, log, 3, session.rng.choice((100, 700)))
    log.truncate_after(session.rng.randrange(1, 5))
    _appends(session, log, 2, 700)
    log.truncate_after(log.last - 1)
    log.close()


def truncate_after_batch(session: Session) -> None:
    """A cut through the middle of a batch, and one that takes everything."""
    log = session.open()
    log.append_many(session.payloads(6, 300))
    log.truncate_after(min(3, log.last))
    log.append_many(session.payloads(4, 300))
    log.truncate_before(min(3, log.last + 1))
    log.truncate_after(log.first - 1)
    log.append(session.payload(40))
    log.close()


def begin_term(session: Session) -> None:
    log = session.open()
    for _ in range(3):
        _appends(session, log, 2)
        log.begin_term()
    log.begin_term()
    log.append_many(session.payloads(2, 50))
    log.close()


def sync_interval(session: Session) -> None:
    log = session.open(sync="interval", sync_interval_ms=1)
    for _ in range(4):
        _appends(session, log, 5)
        log.sync()
    _appends(session, log, 3)
    log.close()


def sync_os(session: Session) -> None:
    log = session.open(sync="os")
    for _ in range(3):
        _appends(session, log, 4)
        log.append_many(session.payloads(3, 300))
        log.sync()
    _appends(session, log, 3)
    log.close()


def close_reopen(session: Session) -> None:
    for _ in range(4):
        log = session.open()
        _appends(session, log, 3, session.rng.choice((30, 900)))
        log.close()
    session.open().close()


def submit_pipelined(session: Session) -> None:
    log = session.open()
    for count in (1, 7, 16):
        log.submit_all(session.payloads(count, session.rng.choice((20, 300))))
    log.close()


def threads(session: Session) -> None:
    """Several writers that meet in group commits, while one truncates."""
    log = session.open()
    log.append(session.payload(20))
    gate = threading.Barrier(3)
    mine = [session.payloads(6) for _ in range(3)]

    def write(payloads: list[bytes]) -> None:
        gate.wait()
        for payload in payloads[:3]:
            log.append(payload)
        log.append_many(payloads[3:])

    writers = [threading.Thread(target=write, args=(payloads,)) for payloads in mine]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    log.truncate_before(3)
    log.close()


def _raw_records(session: Session, size: int) -> bytes:
    """Bytes of records as they stand in the log's files, spares among them."""
    found = []
    with suppress(OSError):  # a fault, or a spare that became a segment just now
        for path in sorted(Path(session.path).glob("*.wal")):
            found.append(path.read_bytes()[8192 - 64 :][:size])
    return b"".join(found)


def payload_of_records(session: Session) -> None:
    """Payloads that are the log's own bytes: nothing in them may be taken for a record."""
    log = session.open()
    _appends(session, log, 3, 100)
    for at in (0, 3000, 6000):
        raw = _raw_records(session, 1664)
        log.append(session.payload(8) + raw[at % max(1, len(raw) - 900) :][:900])
    log.truncate_after(log.last - 2)
    log.append(session.payload(8) + _raw_records(session, 4160)[-2000:])
    log.close()


def torn_tail(session: Session) -> None:
    """Goes on in a log whose writer lost power in the middle of a write."""
    log = session.open()
    _appends(session, log, 4)
    log.close()
    log = session.open()
    _appends(session, log, 2)
    log.close()


def repair(session: Session) -> None:
    """Repairs a log whose writer lost power in the middle of a write; twice, since the first may
    fail. Then goes on in it."""
    session.repair()
    session.repair()
    log = session.open()
    _appends(session, log, 2)
    log.close()


def mixed(session: Session) -> None:
    """Everything after everything."""
    rng, log = session.rng, session.open()
    for _ in range(16):
        match rng.randrange(8):
            case 0 | 1 | 2:
                log.append(session.payload())
            case 3:
                log.append_many(session.payloads(rng.randrange(2, 6), rng.choice((40, 400))))
            case 4:
                log.truncate_before(rng.randrange(log.first, log.last + 2))
            case 5:
                log.truncate_after(rng.randrange(log.first - 1, log.last + 1))
            case 6:
                log.begin_term()
            case _:
                log.close()
                log = session.open(sync=rng.choice(("always", "always", "os")))
    log.close()


def poisoned(session: Session) -> None:
    """A sync fails under way: what was acked stays, also after going on in a reopened log."""
    for _ in range(3):
        try:
            log = session.open()
        except StopWorkload:
            continue
        for _ in range(4):
            log.append(session.payload())
        log.append_many(session.payloads(3, 400))
        log.abandon()


def disk_full(session: Session) -> None:
    """A write finds no space: that append was refused whole, now and after every crash."""
    try:
        log = session.open()
    except StopWorkload:
        return
    for _ in range(3):
        log.append(session.payload())
        log.append_many(session.payloads(3, 400))
    log.append(session.payload(5000))
    log.append(session.payload(60))
    log.abandon()


for _run in (
    append_always,
    append_batches,
    append_large,
    roll,
    truncate_before,
    recycle,
    truncate_after,
    truncate_after_batch,
    begin_term,
    sync_os,
    close_reopen,
    payload_of_records,
    mixed,
):
    register(Workload(_run.__name__, _run))
register(Workload("sync_interval", sync_interval))
register(Workload("submit_pipelined", submit_pipelined, sync_delay_us=200))
register(Workload("threads", threads, sync_delay_us=300, concurrent=True))
register(Workload("torn_tail", torn_tail, starts_from="append_batches"))
register(Workload("repair", repair, starts_from="append_batches"))
register(Workload("repair_rolled", repair, starts_from="roll"))
register(Workload("disk_full", disk_full, failing="space"))
register(Workload("poisoned", poisoned, failing="sync"))
