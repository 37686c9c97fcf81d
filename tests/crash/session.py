"""How a workload runs: a log whose calls leave marks, for the ledger."""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from .ledger import Entry, Recovered, digest

Emit = Callable[[bytes], None]


class EntryLike(Protocol):
    """What replay() yields."""

    @property
    def lsn(self) -> int: ...
    @property
    def term(self) -> int: ...
    @property
    def kind(self) -> int: ...
    @property
    def payload(self) -> bytes: ...


class CommitLike(Protocol):
    """What submit() returns."""

    @property
    def lsn(self) -> int: ...
    def wait(self, timeout_s: float | None = None) -> int: ...


class Log(Protocol):
    """The log under test: FileWALManager, or the toy."""

    @property
    def first_lsn(self) -> int: ...
    @property
    def last_lsn(self) -> int: ...
    @property
    def durable_lsn(self) -> int: ...
    @property
    def term(self) -> int: ...
    def append(self, payload: bytes, *, kind: int = 1) -> int: ...
    def append_many(self, payloads: Sequence[bytes], *, kind: int = 1) -> range: ...
    def submit(self, payload: bytes, *, kind: int = 1) -> CommitLike: ...
    def sync(self) -> int: ...
    def replay(self) -> Iterable[EntryLike]: ...
    def truncate_before(self, lsn: int) -> None: ...
    def truncate_after(self, lsn: int) -> None: ...
    def begin_term(self) -> int: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Target:
    """A kind of log: how to open one, and which of its errors promise what."""

    name: str
    open: Callable[..., Log]  # (path, **options)
    errors: tuple[type[BaseException], ...] = (OSError,)  # what its calls may raise
    full: tuple[type[BaseException], ...] = ()  # the call changed nothing; later calls work
    poisoned: tuple[type[BaseException], ...] = ()  # nothing is acked until the log is reopened
    never: tuple[type[BaseException], ...] = ()  # a wrong answer to a fault (corruption found)
    options: dict[str, Any] = field(default_factory=dict)
    repair: Callable[[str], object] | None = None  # mends the tail of a log that nobody has open


class StopWorkload(Exception):
    """The log could not be opened under an injected fault: there is nothing more to do."""


def look(log: Log) -> Recovered:
    """What a log shows."""
    entries = tuple(Entry(e.lsn, e.term, digest(e.payload, e.kind)) for e in log.replay())
    return Recovered(log.first_lsn, log.last_lsn, log.durable_lsn, log.term, entries)


@dataclass
class Failure:
    """A call of a workload that raised."""

    call: str
    error: BaseException
    life: int  # how many times the log had been opened by then

    def __str__(self) -> str:
        return f"{self.call}: {type(self.error).__name__}: {self.error}"


class Session:
    """One run of a workload in one directory."""

    def __init__(
        self,
        target: Target,
        root: str,
        rng: random.Random,
        emit: Emit,
        *,
        tolerant: bool = False,
    ) -> None:
        self.target, self.root, self.rng = target, root, rng
        self.tolerant = tolerant  # go on after errors that a fault explains
        self.failures: list[Failure] = []
        self._opened: Log | None = None
        self._lives = 0
        self._emit = emit
        self._ops = itertools.count(1)
        self._payloads = itertools.count(1)
        self._salt = rng.randbytes(4)

    @property
    def path(self) -> str:
        return os.path.join(self.root, "log")

    def mark(self, t: str, **values: Any) -> None:
        self._emit(json.dumps({"t": t, **values}).encode())

    def next_op(self) -> int:
        return next(self._ops)

    def payload(self, size: int | None = None) -> bytes:
        """A payload that occurs once; sometimes mostly zeros, so that torn parts hide."""
        if size is None:
            size = self.rng.choice((8, 24, 100, 100, 300, 512, 700, 1500))
        head = next(self._payloads).to_bytes(4, "big") + self._salt
        if size < len(head):
            return b""
        body = size - len(head)
        style = self.rng.randrange(4)
        if style == 0:
            return head + bytes(body)
        if style == 1:
            return bytes(body) + head
        return head + self.rng.randbytes(body)

    def payloads(self, count: int, size: int | None = None) -> list[bytes]:
        return [self.payload(size) for _ in range(count)]

    def open(self, **options: Any) -> MarkedLog:
        """Opens the log (read-write) and shows what is in it."""
        policy = options.get("sync", "always")
        self.mark("open", policy=policy)
        log: Log | None = None
        with self.attempt("open") as ok:
            log = self._opened = self.target.open(self.path, **{**self.target.options, **options})
            self._lives += 1
            shown = look(log)
        if not ok or log is None:
            if log is not None:
                with self.attempt("close"):
                    log.close()
            raise StopWorkload
        self._emit(json.dumps(shown.to_mark()).encode())
        return MarkedLog(self, log, policy)

    def repair(self) -> None:
        """Mends the torn tail without opening the log; that promises and takes back nothing."""
        assert self.target.repair is not None
        self.mark("note", text="repair")
        with self.attempt("repair"):
            self.target.repair(self.path)

    def abandon(self) -> None:
        """Closes what a workload that raised has left open, with its threads."""
        if self._opened is not None:
            with self.attempt("abandon"):
                self._opened.close()

    @contextmanager
    def attempt(self, call: str, **values: Any) -> Iterator[list[bool]]:
        """Runs a call; its error leaves a mark, and goes on unless the session tolerates it.

        Yields a list that is empty after a failure.
        """
        ok = [True]
        try:
            yield ok
        except self.target.errors as error:
            ok.clear()
            absent = isinstance(error, self.target.full)
            self.mark("failed", call=call, error=type(error).__name__, absent=absent, **values)
            self.failures.append(Failure(call, error, self._lives))
            if not self.tolerant:
                raise


class MarkedLog:
    """A log whose calls leave marks: what began, what was acked, what it returned."""

    def __init__(self, session: Session, log: Log, policy: str) -> None:
        self.log, self._session = log, session
        self._durable_when_acked = policy == "always"
        self._durable_is_promised = policy != "os"

    def append(self, payload: bytes, kind: int = 1) -> int | None:
        return self._append([payload], kind, lambda: self.log.append(payload, kind=kind))

    def append_many(self, payloads: Sequence[bytes], kind: int = 1) -> int | None:
        """Returns the first lsn."""

        def call() -> int:
            lsns = self.log.append_many(payloads, kind=kind)
            assert len(lsns) == len(payloads), f"{lsns} for {len(payloads)} payloads"
            return lsns.start

        return self._append(payloads, kind, call)

    def _append(self, payloads: Sequence[bytes], kind: int, call: Callable[[], int]) -> int | None:
        session, op = self._session, self._session.next_op()
        session.mark("append", op=op, digests=[digest(p, kind) for p in payloads])
        with session.attempt("append", op=op):
            lsn = call()
            session.mark("acked", op=op, lsn=lsn, durable=self._durable_when_acked)
            self._mark_durable()
            return lsn
        return None

    def submit_all(self, payloads: Sequence[bytes]) -> None:
        """Submits them all, then waits for each."""
        session, waiting = self._session, []
        for payload in payloads:
            op = session.next_op()
            session.mark("append", op=op, digests=[digest(payload)])
            with session.attempt("submit", op=op):
                waiting.append((op, self.log.submit(payload)))
        for op, commit in waiting:
            with session.attempt("wait", op=op):
                lsn = commit.wait(30)
                session.mark("acked", op=op, lsn=lsn, durable=self._durable_when_acked)
        self._mark_durable()

    def sync(self) -> int | None:
        with self._session.attempt("sync"):
            lsn = self.log.sync()
            self._session.mark("durable", lsn=lsn)
            return lsn
        return None

    def truncate_before(self, lsn: int) -> None:
        self._session.mark("cut_before", lsn=lsn)
        with self._session.attempt("truncate_before"):
            self.log.truncate_before(lsn)
            self._session.mark("cut_before_done", first=self.log.first_lsn)

    def truncate_after(self, lsn: int) -> None:
        self._session.mark("cut_after", lsn=lsn)
        with self._session.attempt("truncate_after"):
            self.log.truncate_after(lsn)
            self._session.mark("cut_after_done", lsn=lsn, term=self.log.term)

    def begin_term(self) -> None:
        with self._session.attempt("begin_term"):
            self._session.mark("termed", term=self.log.begin_term())

    def close(self) -> None:
        with self._session.attempt("close"):
            self.log.close()
            self._session.mark("closed")

    def abandon(self) -> None:
        """Closes after a fault: nothing is promised by it."""
        with self._session.attempt("abandon"):
            self.log.close()

    @property
    def first(self) -> int:
        return self.log.first_lsn

    @property
    def last(self) -> int:
        return self.log.last_lsn

    def _mark_durable(self) -> None:
        if self._durable_is_promised:
            self._session.mark("durable", lsn=self.log.durable_lsn)


def recover(target: Target, path: str, *, probe: bytes | None) -> Recovered:
    """Opens a log that a crash left, as its next user would.

    Opens it twice, because recovery must be idempotent; with a probe, appends it in between: the
    log must be usable, and number on from its last entry.
    """
    log: Log | None = None
    try:
        log = target.open(path, **target.options)
        first = look(log)
        if probe is not None:
            lsn = log.append(probe)
            if lsn != first.last + 1:
                return Recovered(trouble=f"after {first.last} the next append got lsn {lsn}")
        log.close()
        log = target.open(path, **target.options)
        again = look(log)
        log.close()
    except Exception as error:
        return Recovered(trouble=f"recovery raised {type(error).__name__}: {error}")
    finally:
        if log is not None:
            with suppress(Exception):
                log.close()
    entries = again.entries
    if probe is not None:
        if not entries or entries[-1].digest != digest(probe):
            return Recovered(trouble="the entry appended after recovery is gone after a reopen")
        entries = entries[:-1]
    if entries != first.entries or again.first != first.first:
        return Recovered(trouble="a second recovery shows other entries than the first")
    return first
