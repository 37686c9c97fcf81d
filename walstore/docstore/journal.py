"""The store's side of the log: one state, changed in the log's order, and writers in groups.

One thread at a time leads. It computes what the waiting operations do on a draft, appends the
entries of all of them in one batch, and applies them once they are in the log.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from walstore import FileWALManager, LSNOutOfRangeError
from walstore.docstore.applied import AppliedLog
from walstore.docstore.checkpoint import Opened
from walstore.docstore.concern import Concern, has_other_writers, is_shared, shown_lsn
from walstore.docstore.draft import Draft
from walstore.docstore.errors import ConflictError, DuplicateKeyError, OutcomeUnknownError
from walstore.docstore.history import Applied
from walstore.docstore.record import CHAINED, KIND, encode_nothing, encode_records
from walstore.docstore.stack import is_deep, on_own_stack
from walstore.docstore.state import Change
from walstore.docstore.transaction import Transaction

__all__ = ["Journal"]

ATTEMPTS_MAX = 10
"""How often an operation is computed anew because another leader's entry came before it."""

GROUP_REQUESTS_MAX = 1000
GROUP_BYTES_MAX = 16 << 20
"""A group takes no further operation beyond these."""

WAIT_SLICE_S = 0.05
"""How long a thread that waits for an entry to be applied leaves it to the others, at the most."""

LOOK_S = 0.5
"""How long a thread waits to be told, before it looks whether anybody leads: an interrupt may have
kept from telling who did."""

Result = TypeVar("Result")


class _Request(Generic[Result]):
    """An operation that a thread waits for."""

    __slots__ = ("alone", "compute", "concern", "done", "error", "ready", "result")

    def __init__(self, compute: Callable[[Draft], Result], concern: Concern, alone: bool) -> None:
        self.compute = compute
        self.concern = concern
        self.alone = alone
        self.result: Result | None = None
        self.error: Exception | None = None
        self.done = False
        self.ready = threading.Lock()  # let go of when there is something to look at
        self.ready.acquire()

    @property
    def answers(self) -> bool:
        """Whether its caller is told what there is. A duplicate key does: of an insert that is
        repeated, since its outcome was not known, it says that it is there."""
        return self.error is None or isinstance(self.error, DuplicateKeyError)

    def settle(self, error: Exception | None = None) -> None:
        """It is known what became of it."""
        if error is not None:
            self.error = error
        self.done = True

    def wake(self) -> None:
        """Has its thread look; with the journal's mutex."""
        if self.ready.locked():
            self.ready.release()


class _Computed(NamedTuple):
    """What a group of requests is to write.

    Attributes:
        draft: with all their changes.
        payloads: the entries.
        written: of each request that changes something, or of all when none does: how many payloads
            there are up to its last one, its changes, and the bytes of its payloads.
    """

    draft: Draft
    payloads: list[bytes]
    written: list[tuple[int, list[Change], int]]


class Journal(AppliedLog):
    """The state and its log: who writes, one group after the other, and who applies.

    An interrupt may come anywhere in the thread that leads. So it leads while it is in a `with` of
    a lock of C's, which nothing keeps from being let go of; what it should have done after that,
    the next one who leads does.

    Args:
        log, opened, reopen: as of AppliedLog.
    """

    def __init__(self, log: FileWALManager, opened: Opened, reopen: Callable[[], Opened]) -> None:
        super().__init__(log, opened, reopen)
        self._shared = has_other_writers(log)
        self._leading = threading.Lock()  # by who computes, appends and applies
        self._mutex = threading.Lock()  # of the queue and of who waits; entered by `with` itself
        self._handed = threading.Condition(self._mutex)  # nobody leads, or who does appends
        self._queue: deque[_Request[Any]] = deque()
        self._group: list[_Request[Any]] = []  # what was taken from it, until all know the outcome
        self._appending_after_lsn: int | None = None  # while the leading thread appends

    def load(self) -> None:
        """Applies what the log has, before the first use.

        Raises:
            UnsupportedFormatError: an entry of a newer version; and as FileWALManager.replay.
        """
        self._catch_up_to(shown_lsn(self.log))

    def close(self) -> None:
        """Waits for what has begun, and lets nothing begin any more."""
        with self._mutex:
            self.closed = True
        if is_deep():
            on_own_stack(self._lead_to_the_end)
        else:
            self._lead_to_the_end()
        with self.lock:
            self._stop_watchers()

    def _lead_to_the_end(self) -> None:
        """Until nobody waits, and nobody leads who might put a request back."""
        while True:
            with self._leading:
                if not self._queue:
                    return
            self._lead()

    # ---- for writers ----

    def write(
        self, compute: Callable[[Draft], Result], concern: Concern, *, alone: bool = False
    ) -> Result:
        """Computes an operation, appends what it changed and applies it, all or nothing. Returns
        its result when it is in the log as the concern asks, with all that it was computed from.

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
        if is_deep():  # it might be too deep amid applying, and for others
            return on_own_stack(lambda: self._done(request))
        return self._done(request)

    def _done(self, request: _Request[Result]) -> Result:
        """Its result, once it is done."""
        try:
            with self._mutex:
                self.check_open()
                self._queue.append(request)
            while not request.done:
                if self._leading.locked():
                    request.ready.acquire(timeout=LOOK_S)
                else:
                    self._lead()
        except BaseException:
            self._withdraw(request)
            raise
        if request.error is not None:
            raise request.error
        return request.result  # type: ignore[return-value]

    def _withdraw(self, request: _Request[Any]) -> None:
        """Its thread was interrupted: if it has not begun, it never will."""
        with self._mutex:
            if request in self._queue:
                self._queue.remove(request)
        self._hand_on()  # it may have been told

    def _lead(self) -> None:
        """Commits the next group, once no other thread leads."""
        try:
            with self._leading:
                self._commit_next()
        finally:
            self._hand_on()

    def _commit_next(self) -> None:
        """By the thread that leads."""
        try:
            self._finish()  # for a thread that was interrupted
            self._commit(self._take())
        finally:
            self._finish()

    def _take(self) -> list[_Request[Any]]:
        """The next group."""
        group: list[_Request[Any]] = []
        with self._mutex:
            for request in self._queue:
                if len(group) == GROUP_REQUESTS_MAX:
                    break
                if group and (
                    request.alone or group[0].alone or request.concern != group[0].concern
                ):
                    break
                group.append(request)
            self._group = group  # first: who is interrupted amid the next lines loses none
            for _request in group:
                self._queue.popleft()
        return group

    def _finish(self) -> None:
        """Tells those of the group; by the thread that leads. Doing it again, or from the middle
        on, does no harm."""
        self._appending_after_lsn = None
        for request in self._group:
            if not request.done:
                request.settle(OutcomeUnknownError("the writing thread was interrupted"))
        with self._mutex:
            for request in self._group:
                request.wake()
            while self._queue and self._queue[0].done:  # it was taken in part
                self._queue.popleft()
        self._group = []

    def _hand_on(self) -> None:
        """Tells who waits that nobody leads."""
        with self._mutex:
            if self._queue:
                self._queue[0].wake()
            self._handed.notify_all()

    def _commit(self, group: list[_Request[Any]]) -> None:
        """Settles every request of the group, or puts it back into the queue."""
        if not group:
            return
        try:
            for _attempt in range(ATTEMPTS_MAX):
                if self.lost is not None:
                    raise self.lost
                if self._shared:
                    self._catch_up()
                computed = self._computed(group)
                if self._settled(group, computed):
                    error: Exception | None = None
                    break
            else:
                error = ConflictError(f"others wrote first, {ATTEMPTS_MAX} times in a row")
        except Exception as caught:  # raised again in the thread of each
            error = caught
        for request in group:
            request.settle(error)

    def _computed(self, group: list[_Request[Any]]) -> _Computed:
        """Computes the requests of a group one after the other; what does not fit is put back."""
        draft = Draft(self.state)
        computed = _Computed(draft, [], [])
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
            previous = CHAINED if computed.payloads else self.state_lsn
            parts = encode_records(previous, draft.operations[count:])
            part_bytes = sum(map(len, parts))
            if computed.payloads and size_bytes + part_bytes > GROUP_BYTES_MAX:
                draft.undo_to(count)
                with self._mutex:
                    self._queue.extendleft(reversed(group[at:]))
                del group[at:]
                break
            if parts:
                size_bytes += part_bytes
                computed.payloads.extend(parts)
                end = len(computed.payloads)
                computed.written.append((end, draft.changes[count:], part_bytes))
        return computed

    def _settled(self, group: list[_Request[Any]], computed: _Computed) -> bool:
        """Makes what the group changed, and what it was computed from, as sure as its concern
        asks. False: something came between; the state is up to date now."""
        concern = group[0].concern
        if not computed.payloads:
            if not any(request.answers for request in group):
                return True
            if not is_shared(self.log):
                if concern == "durable" and self.log.durable_lsn < self.state_lsn:
                    self.log.sync()
                return True
            # An answer is as good as a change: it takes a leader, and the nodes that hold one.
            payload = encode_nothing(self.state_lsn)
            computed.payloads.append(payload)
            computed.written.append((1, [], len(payload)))
        return self._appended(computed, concern)

    # ---- the log ----

    def _appended(self, computed: _Computed, concern: Concern) -> bool:
        """Appends and applies. False: something came between, and the entries are void; the state
        is up to date now."""
        lsns = self._append(computed.payloads, concern)
        first_lsn, last_lsn = lsns[0], lsns[-1]
        if first_lsn <= self.seen_lsn:
            with self.lock:
                raise self._lose(f"entry {first_lsn} is a new one")
        if first_lsn != self.applied_lsn + 1:
            return first_lsn in self._catch_up_to(last_lsn)
        group = [Applied(lsns[end - 1], changes, size) for end, changes, size in computed.written]
        self._apply(group, computed.draft.built, last_lsn)
        return True

    def _append(self, payloads: list[bytes], concern: Concern) -> range:
        if self._shared:
            with self._mutex:
                self._appending_after_lsn = self.log.last_lsn
                self._handed.notify_all()
        try:
            return self._append_alone(payloads, concern)
        finally:
            self._appending_after_lsn = None

    def _append_alone(self, payloads: list[bytes], concern: Concern) -> range:
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
        """Before a read: takes in what other nodes wrote, or waits until another thread has.

        Raises:
            StoreLostError, ClosedStoreError; and as FileWALManager.replay.
        """
        self.check_open()
        if self._shared and not self.log.closed:
            self._take_in(wait=True)

    def reach(self, lsn: int, timeout_s: float | None = None) -> bool:
        """Waits until an entry is applied that is committed, or will be, or is found to be of a
        transaction whose end is not there. Returns whether it is, in time.

        Raises:
            As `refresh`; ClosedLogError.
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while self.seen_lsn < lsn:
            self.check_open()
            self._take_in(wait=False)
            left_s = WAIT_SLICE_S
            if deadline_s is not None:
                left_s = min(left_s, deadline_s - time.monotonic())
            with self.lock:
                if self.seen_lsn < lsn:
                    if left_s <= 0:
                        return False
                    self._wait_for_news(left_s)
        return True

    def _take_in(self, *, wait: bool) -> None:
        """Applies what is committed. Where another thread leads, waits until that thread has, or
        leaves it to it."""
        lsn = shown_lsn(self.log)
        if lsn <= self.seen_lsn:
            return
        if is_deep():
            on_own_stack(lambda: self._take_in_up_to(lsn, wait))
        else:
            self._take_in_up_to(lsn, wait)

    def _take_in_up_to(self, lsn: int, wait: bool) -> None:
        with self._mutex:
            while self._leading.locked():
                if not wait or self.seen_lsn >= self._foreign_lsn(lsn):
                    return
                self._handed.wait(LOOK_S)
        try:
            with self._leading:
                if self.seen_lsn < lsn:
                    self.check_open()
                    self._catch_up()
        finally:
            self._hand_on()

    def _foreign_lsn(self, lsn: int) -> int:
        """The last entry up to this one that need not be the leading thread's own. What it appends
        itself is not acknowledged before it is applied; it may take as long as other nodes do."""
        after_lsn = self._appending_after_lsn
        return lsn if after_lsn is None else min(lsn, after_lsn)

    def _catch_up(self) -> None:
        """Applies what is committed; by the thread that leads."""
        while True:
            try:
                self._catch_up_to(shown_lsn(self.log))
                return
            except LSNOutOfRangeError:
                if self.applied_lsn + 1 >= self.log.first_lsn:
                    raise
                self._restore()  # the log began anew while it was read

    def begin(self) -> Transaction:
        """A transaction that sees what is committed now; it must be ended."""
        self.refresh()
        return super().begin()
