"""Workloads of what replication asks of the log: raw records, adopted terms, a tail that loses, and
a log that begins anew."""

from __future__ import annotations

from typing import Any

from tests.native.twin import MORE, Record
from tests.wal.replicas import records_of
from walstore._native import lib

from .branches import CUT_TERM, END
from .ledger import digest
from .session import MarkedLog, Session
from .workloads import Workload, register


def submit(session: Session, log: MarkedLog, batches: list[list[bytes]], term: int) -> bool:
    """Appends raw records of another log in one call, then waits for the disk. Returns whether all
    of it is there."""
    raw: Any = log.log
    term = min(term, raw.term)  # a fault may have kept it from being adopted
    generation = lib.walcore_generation(raw._raw)
    first_lsn = lsn = log.last + 1
    records, ops = [], []
    for batch in batches:
        op = session.next_op()
        session.mark("append", op=op, digests=[digest(payload) for payload in batch])
        ops.append((op, lsn))
        for i, payload in enumerate(batch):
            flags = MORE if i + 1 < len(batch) else 0
            records.append(Record(lsn, term, timestamp_ns=lsn, payload=payload, flags=flags))
            lsn += 1
    # Where a call fails, any of its batches may be there: no `op` says that one must not.
    with session.attempt("submit_records"):
        last_lsn = raw._submit_records(records_of(*records))
        assert last_lsn == lsn - 1, f"{last_lsn} for {first_lsn}..{lsn - 1}"
        raw._group.wait(generation, last_lsn, lib.WALCORE_LEVEL_DURABLE, None)
        for op, at in ops:
            session.mark("acked", op=op, lsn=at, durable=True, term=term)
        session.mark("durable", lsn=last_lsn)
        return True
    return False


def adopt(session: Session, log: MarkedLog, term: int) -> None:
    raw: Any = log.log
    with session.attempt("adopt_term"):
        if term > raw.term:
            raw._adopt_term(term)
            session.mark("termed", term=term)


def some_batches(session: Session, count: int) -> list[list[bytes]]:
    rng = session.rng
    return [
        session.payloads(rng.choice((1, 1, 2, 5)), rng.choice((16, 200, 900))) for _ in range(count)
    ]


def cut_diverged(session: Session, log: MarkedLog, lsn: int, term: int) -> None:
    raw: Any = log.log
    session.mark("cut_after", lsn=lsn)
    with session.attempt("cut_diverged"):
        raw._cut_diverged(lsn, term)
        session.mark("cut_after_done", lsn=lsn, term=term)


def catch_up(session: Session) -> None:
    """Records of several terms, and of more than a segment in one call."""
    log = session.open()
    adopt(session, log, 9)
    for term, count in ((1, 3), (4, 12), (9, 1), (9, 20)):
        submit(session, log, some_batches(session, count), term)
    log.append(session.payload(100))
    log.close()


def adopted_terms(session: Session) -> None:
    """Terms that come from other nodes, with and without entries of their own."""
    log = session.open()
    term = log.log.term
    for _ in range(4):
        term += session.rng.randrange(1, 1 << 20)
        adopt(session, log, term)
        if session.rng.random() < 0.7:
            submit(session, log, some_batches(session, 2), term)
    log.append(session.payload(60))
    log.close()


def diverged(session: Session) -> None:
    """A tail that loses is kept and cut; then the winner's entries come."""
    log = session.open()
    submit(session, log, some_batches(session, 4), log.log.term)
    agreed = log.last
    adopt(session, log, 20)
    tail = some_batches(session, session.rng.choice((1, 3, 8)))
    if submit(session, log, [*tail, [session.payload(40) + END]], 20):
        cut_diverged(session, log, agreed, CUT_TERM)
    submit(session, log, some_batches(session, 3), log.log.term)
    log.close()
    log = session.open()
    log.append(session.payload(30))
    log.close()


def begun_anew(session: Session) -> None:
    """A log that is emptied to go on behind a snapshot."""
    log = session.open()
    raw: Any = log.log
    submit(session, log, some_batches(session, 5), raw.term)
    first_lsn, term = log.last + session.rng.choice((1, 2, 500)), raw.term + 3
    session.mark("cut_before", lsn=first_lsn)
    with session.attempt("reset"):
        raw._reset(first_lsn, term, term)
        session.mark("cut_before_done", first=first_lsn)
        session.mark("termed", term=term)
    submit(session, log, some_batches(session, 3), raw.term)
    log.append(session.payload(80))
    log.close()


for _run in (catch_up, adopted_terms, diverged, begun_anew):
    register(Workload(_run.__name__, _run))
