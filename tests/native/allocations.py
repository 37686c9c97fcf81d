"""Every allocation of the C helper fails once, and for ever, while a log is used.

Runs in a copy of the tree whose helper has fail_alloc.c: DIRECTORY. Prints what happened, as JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.helpers import contents, open_descriptors
from walstore import (
    Commit,
    EntryTruncatedError,
    FileWALManager,
    LogFullError,
    LogPoisonedError,
)
from walstore._native import _walcore

SEGMENT_BYTES = 1 << 20
LARGE_BYTES = 5 << 20  # more than a staging buffer holds
MANY = 1100  # more than the index has room for at first
PAIRS_BYTES = 16 << 10  # of file for each pair of the index
K_MAX = 200
ONCE, FOREVER = "once", "forever"

fail_alloc = ctypes.CDLL(_walcore.__file__)
for _name in ("fail_alloc_seen", "fail_alloc_failed"):
    getattr(fail_alloc, _name).restype = ctypes.c_uint64


def fail_between(first: int, last: int) -> None:
    """Makes these allocations fail, counted from 1 from here on; (0, 0): none."""
    fail_alloc.fail_alloc_between(ctypes.c_uint64(first), ctypes.c_uint64(last))


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may be written to behind its first page."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Run:
    """One pass over the workload. `acked` is what the log must hold in the end, by lsn; `maybe`
    what it may hold, since the call that appended it was told that nothing is known."""

    def __init__(self, path: Path, outcomes: Counter[str]) -> None:
        self.path = path
        self.outcomes = outcomes
        self.acked: dict[int, bytes] = {}
        self.maybe: list[bytes] = []
        self.log: FileWALManager | None = None

    def attempt(self, name: str, call: Callable[[], None], *payloads: bytes) -> bool:
        """Makes a call, which may fail for want of memory, or find the log shut by that."""
        try:
            call()
        except MemoryError:
            self.outcomes[f"{name}: MemoryError"] += 1
            return False
        except LogPoisonedError:
            self.outcomes[f"{name}: LogPoisonedError"] += 1
            self.maybe.extend(payloads)
            return False
        return True

    def open(self) -> None:
        """Opens the log; where memory runs out, once more, as a caller would."""

        def call() -> None:
            self.log = FileWALManager(self.path, segment_bytes=SEGMENT_BYTES)

        for name in ("open", "open again"):
            before = open_descriptors()
            if self.attempt(name, call):
                return
            assert open_descriptors() == before, "a failed open lets go of everything"

    def append(self, name: str, *payloads: bytes) -> None:
        """Appends one payload, or a batch."""
        if self.log is None:
            return
        log, before = self.log, self.log.last_lsn

        def call() -> None:
            if len(payloads) == 1:
                self.acked[log.append(payloads[0])] = payloads[0]
            else:
                self.acked.update(zip(log.append_many(payloads), payloads, strict=True))

        if not self.attempt(name, call, *payloads) and not self.maybe:
            assert log.last_lsn == before, "a call that fails for want of memory fails whole"

    def truncate(self) -> None:
        """Drops the last two entries, and gives their lsns to others: who waits for one that is
        gone must not be told that it is there."""
        if self.log is None:
            return
        log, last_lsn = self.log, self.log.last_lsn - 1
        dropped: list[Commit] = []

        def submit() -> None:
            dropped.append(log.submit(b"dropped"))
            dropped[0].wait()

        if not self.attempt("submit", submit, b"dropped"):
            return
        if self.attempt("truncate", lambda: log.truncate_after(last_lsn)):
            self.acked = {lsn: data for lsn, data in self.acked.items() if lsn <= last_lsn}
        for number in range(3):
            self.append("append", b"after %d" % number)
        try:
            dropped[0].wait()
        except EntryTruncatedError:
            self.outcomes["dropped: EntryTruncatedError"] += 1
        else:
            raise AssertionError("an entry that was truncated is said to be there")

    def begin_anew(self) -> None:
        """Empties the log, which goes on elsewhere. Should that fail, all is there, or nothing."""
        if self.log is None:
            return
        log = self.log
        if not self.attempt("anew", lambda: log._reset(50, 1, log.term)):
            self.maybe.extend(self.acked.values())
        self.acked = {}

    def refused(self) -> None:
        """An append to a full disk."""
        if self.log is None:
            return
        log = self.log

        def call() -> None:
            try:
                log.append(b"refused")
            except LogFullError:
                self.outcomes["full: LogFullError"] += 1
            else:
                raise AssertionError("the disk is not full")

        with full_disk():
            self.attempt("full", call, b"refused")

    def close(self) -> None:
        """Closes the log."""
        if self.log is not None:
            self.log.close()
        self.log = None

    def check(self) -> None:
        """The log opens whole, and holds what was acked and no more than was tried."""
        held = {entry.lsn: entry.payload for entry in contents(self.path)}
        assert {lsn: held.get(lsn) for lsn in self.acked} == self.acked, "acked and gone"
        for lsn in held.keys() - self.acked.keys():
            assert held[lsn] in self.maybe, "nobody was told that it may be there"
        with FileWALManager(self.path, segment_bytes=SEGMENT_BYTES) as log:
            assert log.verify().status == "clean"
            assert log.read(log.append(b"later")).payload == b"later"


def workload(run: Run) -> None:
    """Everything that makes the helper allocate."""
    run.open()
    run.append("append", b"small")
    run.append("large", b"L" * LARGE_BYTES)
    run.append("append", b"behind")
    run.append("batch", *(b"%d" % i for i in range(MANY)))
    run.truncate()
    run.refused()
    run.append("append", b"space again")
    run.close()
    run.open()
    run.append("append", b"reopened")
    run.close()


def anew(run: Run) -> None:
    """A log that is emptied."""
    run.open()
    run.append("append", b"before")
    run.begin_anew()
    run.append("append", b"after")
    run.close()


def large_index(path: Path) -> None:
    """A log whose last segment has more pairs than the index has room for at first."""
    with FileWALManager(path, segment_bytes=32 << 20) as log:
        log.append_many([b"p" * PAIRS_BYTES] * MANY)


def reopen(path: Path, outcomes: Counter[str]) -> None:
    """Opens the log with the large index, and appends."""
    try:
        with FileWALManager(path, segment_bytes=32 << 20) as log:
            log.append(b"one more")
    except MemoryError:
        outcomes["large index: MemoryError"] += 1


def every_k(mode: str, work: Callable[[], Callable[[], None]], outcomes: Counter[str]) -> None:
    """Lets allocation k fail, for every k, until there are no more of them; `work` makes a call
    that is made while they fail and returns one that checks what is left."""
    for k in range(1, K_MAX):
        fail_between(k, k if mode == ONCE else (1 << 64) - 1)
        try:
            check = work()
            failed = fail_alloc.fail_alloc_failed()
        finally:
            fail_between(0, 0)
        check()
        outcomes["failed"] += failed
        outcomes[f"loops {mode}"] += 1
        if not failed:
            return
    raise AssertionError(f"more than {K_MAX} allocations")


def main(where: Path) -> None:
    """Prints what happened, by kind and count."""
    outcomes: Counter[str] = Counter()
    path, large = where / "log", where / "large"
    large_index(large)

    def use(work: Callable[[Run], None]) -> Callable[[], None]:
        shutil.rmtree(path, ignore_errors=True)
        run = Run(path, outcomes)
        work(run)
        return run.check

    def use_large() -> Callable[[], None]:
        before = open_descriptors()
        reopen(large, outcomes)
        assert open_descriptors() == before
        return lambda: None

    for mode in (ONCE, FOREVER):
        every_k(mode, partial(use, workload), outcomes)
        every_k(mode, partial(use, anew), outcomes)
        every_k(mode, use_large, outcomes)
    assert [entry.payload for entry in contents(large)][:MANY] == [b"p" * PAIRS_BYTES] * MANY
    print(json.dumps({**outcomes, "tree": os.getcwd()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
