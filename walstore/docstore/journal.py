"""The store's side of the log: one state, changed in the log's order, and writers in groups.

One thread at a time leads. It computes what the waiting operations do on a draft, appends the
entries of all of them in one batch, and applies them once they are in the log.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, Literal, TypeVar

from walstore import FileWALManager
from walstore.docstore.draft import Draft
from walstore.docstore.errors import (
    ClosedStoreError,
    ConflictError,
    OutcomeUnknownError,
    StoreLostError,
)
from walstore.docstore.record import CHAINED, KIND, encode_records
from walstore.docstore.replay import Step, steps
from walstore.docstore.snapshot import Position
from walstore.docstore.state import Change, State
from walstore.docstore.transaction import Transaction
from walstore.errors import OptionError

__all__ = ["CONCERNS", "Concern", "Journal", "checked_concern"]

Concern = Literal["local", "durable", "quorum"]
CONCERNS = ("local", "durable", "quorum")

ATTEMPTS_MAX = 10
"""How often an operation is computed anew because another leader's entry came before it."""

GROUP_REQUESTS_MAX = 1000
GROUP_BYTES_MAX = 16 << 20
"""A group takes no further operation beyond these."""

Result = TypeVar("Result")


class _Request(Generic[Result]):
    """An operation that a thread waits for."""

    __slots__ = ("alone", "compute", "concern", "done", "error", "leads", "ready", "result")

    def __init__(self, compute: Callable[[Draft], Result], concern: Concern, alone: bool) -> None:
        self.compute = compute
        self.concern = concern
        self.alone = alone
        self.result: Result | None = None
        self.error: Exception | None = None
        self.done = False
        self.leads = False
        self.ready = threading.Lock()
        self.ready.acquire()

    def settle(self, error: Exception | None = None) -> None:
        """It is known what became of it."""
        if error is not None:
            self.error = error
        self.done = True


def checked_concern(log: FileWALManager, concern: object) -> Concern:
    """A write concern that this log can keep.

    Raises:
        OptionError: it is none, or asks for other nodes, and the log has no others.
    """
    if concern not in CONCERNS:
        raise OptionError(f"concern is 'local', 'durable' or 'quorum', not {concern!r}")
    if concern == "quorum" and not is_shared(log):
        raise OptionError(f"concern 'quorum' needs a replicated log, and {log.path} is not one")
    return concern  # type: ignore[return-value]


def is_shared(log: FileWALManager) -> bool:
    """Whether several nodes hold the log, of which this one need not be the only writer."""
    return hasattr(log, "acks")


class Journal:
    """The state and its log.

    Args:
        log: open, and nobody else's to truncate.
        state: what all its entries up to `position` amount to.

    Attributes:
        applied_lsn, state_lsn: the last entry that was looked at, and the last one that counted.
        lock: held while the state is changed or looked at, never during I/O.
        payload_bytes: of the entries applied since it was last set to 0.
        on_applied: called after each application, outside of the lock.
    """

    def __init__(self, log: FileWALManager, state: State, position: Position) -> None:
        self.log = log
        self.state = state
        self.applied_lsn = position.lsn
        self.state_lsn = position.state_lsn
        self.lock = threading.Lock()
        self.payload_bytes = 0
        self.on_applied: Callable[[], None] = lambda: None
        self.closed = False
        self.lost: StoreLostError | None = None
        self._shared = is_shared(log) or log.read_only  # others write, too
        self._transactions: set[Transaction] = set()
        self._mutex = threading.Lock()  # of the queue and of who leads
        self._idle = threading.Condition(self._mutex)  # nobody leads
        self._queue: deque[_Request[Any]] = deque()
        self._leading = False

    def load(self) -> None:
        """Applies what the log has, before the first use.

        Raises:
            UnsupportedFormatError: an entry of a newer version; and as FileWALManager.replay.
        """
        last_lsn = self._shared_lsn() if self._shared else self.log.last_lsn
        if last_lsn > self.applied_lsn:
            self._catch_up_to(last_lsn)

    def close(self) -> None:
        """Waits for what has begun, and lets nothing begin any more."""
        with self._idle:
            self.closed = True
            while self._leading:
                self._idle.wait()

    # ---- for writers ----

    def write(
        self, compute: Callable[[Draft], Result], concern: Concern, *, alone: bool = False
    ) -> Result:
        """Computes an operation, appends what it changed and applies it, all or nothing. Returns
        its result when it is in the log as the concern asks.

        Args:
            compute: the operation; called again when something came between, so that it must have
                no effect but on the draft.
            alone: not in one group with others.

        Raises:
            What `compute` raises: nothing was appended.
            ConflictError: others were faster, again and again.
            ClosedStoreError, StoreLostError, OutcomeUnknownError; and as FileWALManager.append.
        """
        request = _Request(compute, concern, alone)
        try:
            with self._mutex:
                self.check_open()
                self._queue.append(request)
                request.leads = not self._leading
                self._leading = True
            if not request.leads:
                request.ready.acquire()
            if not request.done:
                self._lead()
        except BaseException:
            self._withdraw(request)
            raise
        if request.error is not None:
            raise request.error
        return request.result  # type: ignore[return-value]

    def check_open(self) -> None:
        """Raises when the store can no longer be used.

        Raises:
            ClosedStoreError, StoreLostError
        """
        if self.closed:
            raise ClosedStoreError(f"the document store on {self.log.path} is closed")
        if self.lost is not None:
            raise self.lost

    def _withdraw(self, request: _Request[Any]) -> None:
        """Its thread was interrupted: if it has not begun, it never will."""
        with self._mutex:
            if request in self._queue:
                self._queue.remove(request)
                if request.leads:
                    self._name_leader()

    def _name_leader(self) -> None:
        """Lets the thread of the next request lead, if there is one; with the mutex."""
        if self._queue:
            self._queue[0].leads = True
            self._queue[0].ready.release()
        else:
            self._leading = False
            self._idle.notify_all()

    def _lead(self) -> None:
        """Commits a group, of which the thread's own request is the first."""
        with self._mutex:
            group = self._take()
        try:
            self._commit(group)
        finally:
            for request in group:
                if not request.done:
                    request.settle(OutcomeUnknownError("the writing thread was interrupted"))
            with self._mutex:
                self._name_leader()
            for request in group:
                request.ready.release()

    def _take(self) -> list[_Request[Any]]:
        """The next group; with the mutex."""
        group: list[_Request[Any]] = []
        while self._queue and len(group) < GROUP_REQUESTS_MAX:
            request = self._queue[0]
            if group and (request.alone or group[0].alone or request.concern != group[0].concern):
                break
            group.append(self._queue.popleft())
        return group

    def _commit(self, group: list[_Request[Any]]) -> None:
        """Settles every request of the group, or puts it back into the queue."""
        try:
            for _attempt in range(ATTEMPTS_MAX):
                if self.lost is not None:
                    raise self.lost
                self.catch_up()
                draft, payloads = self._computed(group)
                if not payloads or self._appended(draft, payloads, group[0].concern):
                    error: Exception | None = None
                    break
            else:
                error = ConflictError(f"others wrote first, {ATTEMPTS_MAX} times in a row")
        except Exception as caught:  # raised again in the thread of each
            error = caught
        for request in group:
            request.settle(error)

    def _computed(self, group: list[_Request[Any]]) -> tuple[Draft, list[bytes]]:
        """Computes the requests of a group one after the other; what does not fit is put back."""
        draft = Draft(self.state)
        payloads: list[bytes] = []
        size_bytes = 0
        for at, request in enumerate(group):
            count = len(draft.changes)
            request.error = None
            try:
                request.result = request.compute(draft)
            except Exception as error:  # raised again in its own thread
                draft.undo_to(count)
                request.error = error
                continue
            previous = CHAINED if payloads else self.state_lsn
            parts = encode_records(previous, draft.operations[count:])
            part_bytes = sum(map(len, parts))
            if payloads and size_bytes + part_bytes > GROUP_BYTES_MAX:
                draft.undo_to(count)
                with self._mutex:
                    self._queue.extendleft(reversed(group[at:]))
                del group[at:]
                break
            size_bytes += part_bytes
            payloads += parts
        return draft, payloads

    # ---- the log ----

    def _appended(self, draft: Draft, payloads: list[bytes], concern: Concern) -> bool:
        """Appends and applies. False: something came between, and the entries are void; the state
        is up to date now."""
        lsns = self._append(payloads, concern)
        first_lsn, last_lsn = lsns[0], lsns[-1]
        if first_lsn <= self.applied_lsn:
            raise self._lose(f"entry {first_lsn} is a new one")
        if first_lsn != self.applied_lsn + 1:
            return first_lsn in self._catch_up_to(last_lsn)
        step = Step(first_lsn, last_lsn, last_lsn, None, sum(map(len, payloads)))
        self._apply(draft.changes, draft, step)
        return True

    def _append(self, payloads: list[bytes], concern: Concern) -> range:
        log: Any = self.log
        if concern == "quorum":
            lsns: range = log.append_many(payloads, kind=KIND, acks="quorum")
        elif len(payloads) == 1:
            lsn = log.append(payloads[0], kind=KIND)
            lsns = range(lsn, lsn + 1)
        else:
            lsns = log.append_many(payloads, kind=KIND)
        if concern == "durable" and log.sync_policy != "always":
            log.sync()
        return lsns

    def refresh(self) -> None:
        """Before a read: takes in what other nodes wrote, unless a writer is about to.

        Raises:
            StoreLostError, ClosedStoreError; and as FileWALManager.replay.
        """
        self.check_open()
        if not self._shared or self.log.closed or self._shared_lsn() <= self.applied_lsn:
            return
        with self._mutex:
            if self._leading:
                return
            self._leading = True
        try:
            self.catch_up()
        finally:
            with self._mutex:
                self._name_leader()

    def catch_up(self) -> None:
        """Applies what other nodes wrote; by the thread that leads."""
        if self._shared and (committed_lsn := self._shared_lsn()) > self.applied_lsn:
            self._catch_up_to(committed_lsn)

    def _shared_lsn(self) -> int:
        """The last entry that readers of the log are shown, whoever wrote it."""
        if self.log.read_only:
            self.log.replay()  # looks anew at what the writer has done
        return self.log.committed_lsn

    def _catch_up_to(self, lsn: int) -> set[int]:
        """Applies the entries up to `lsn`. Returns the first lsn of each that counted."""
        if self.applied_lsn + 1 < self.log.first_lsn:
            raise self._lose(f"the entries after {self.applied_lsn} are not there any more")
        counted = set()
        entries = self.log.replay(self.applied_lsn + 1, lsn)
        for step in steps(self.log.path, entries, self.state_lsn):
            operations: Iterable[Any] = ()
            if step.operations is not None:
                operations = step.operations
                counted.add(step.first_lsn)
            changes = [self.state.change_of(operation) for operation in operations]
            self._apply(changes, None, step)
        return counted

    def _lose(self, reason: str) -> StoreLostError:
        self.lost = StoreLostError(
            f"the store on {self.log.path} is not its log any more: {reason}"
        )
        return self.lost

    def _apply(self, changes: list[Change], draft: Draft | None, step: Step) -> None:
        """Changes the state as an entry says."""
        with self.lock:
            try:
                for change in changes:
                    self.state.apply(change, draft.built if draft else None)
                self.applied_lsn, self.state_lsn = step.last_lsn, step.state_lsn
                for transaction in self._transactions:
                    transaction.notice(changes)
            except BaseException:  # an interrupt in the middle leaves half of it
                self._lose(f"applying entry {step.last_lsn} was interrupted")
                raise
            self.payload_bytes += step.payload_bytes
        self.on_applied()

    # ---- transactions ----

    def begin(self) -> Transaction:
        """A transaction; it must be ended."""
        self.refresh()
        transaction = Transaction(self.state, self.lock)
        with self.lock:
            self._transactions.add(transaction)
        return transaction

    def end(self, transaction: Transaction) -> None:
        """The transaction was committed, or is not to be."""
        with self.lock:
            self._transactions.discard(transaction)
