"""A state, and the log that it comes from: entries are applied in order, under a lock.

Who writes, and who may apply when, is the journal's to say.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Protocol
from weakref import WeakSet

from walstore import FileWALManager, LSNOutOfRangeError
from walstore.docstore.checkpoint import Opened
from walstore.docstore.collector import collector_paused
from walstore.docstore.errors import ClosedStoreError, SnapshotError, StoreLostError
from walstore.docstore.history import Applied, History
from walstore.docstore.index import Index
from walstore.docstore.replay import Steps
from walstore.docstore.transaction import Transaction

__all__ = ["AppliedLog"]

HISTORY_BYTES_MAX = 16 << 20
"""How much of what was applied last is kept for those who watch."""


CHANGES_MANY = 1000
"""From so many changes on, the collector is paused while they are applied."""

_nothing = nullcontext()


class Watcher(Protocol):
    """Who is told what was applied."""

    @property
    def closed(self) -> bool:
        """Whether it needs nothing any more. Not told by a call: the garbage collector may close it
        in a thread that holds the lock."""

    def stop(self) -> None:
        """There is nothing more to come: the store is closed, or lost. Must not block."""


class AppliedLog:
    """What the log's entries amount to.

    Args:
        log: open, and nobody else's to truncate.
        opened: what its first entries amount to.
        reopen: gives the same anew, from a newer snapshot, when the log has begun anew behind one.

    Attributes:
        applied_lsn, state_lsn: the entry up to which all is applied, and the last one that counted.
        lock: held while the state is changed or looked at, never during I/O.
        payload_bytes: of the entries applied since it was last set to 0.
        on_applied: called after each application, outside of the lock.
    """

    def __init__(self, log: FileWALManager, opened: Opened, reopen: Callable[[], Opened]) -> None:
        self.log = log
        self.state = opened.state
        self.applied_lsn = opened.position.lsn
        self.state_lsn = opened.position.state_lsn
        self.lock = threading.Lock()
        self.payload_bytes = 0
        self.on_applied: Callable[[], None] = lambda: None
        self.closed = False
        self.lost: StoreLostError | None = None
        self._unfinished: tuple[Steps, int] | None = None  # what begins behind applied_lsn, its end
        self._seen_lsn = 0  # the same end, also while what is unfinished is gone on from
        self._reopen = reopen
        self._transactions: set[Transaction] = set()  # one may go at any time, see `end`
        self._news = threading.Condition(self.lock)  # something was applied
        self._waiting = 0
        self._watchers: WeakSet[Watcher] = WeakSet()  # replaced when one comes
        self._history: History | None = None  # while there are watchers

    def check_open(self) -> None:
        """Raises when the store can no longer be used.

        Raises:
            ClosedStoreError, StoreLostError
        """
        if self.closed:
            raise ClosedStoreError(f"the document store on {self.log.path} is closed")
        if self.lost is not None:
            raise self.lost

    @property
    def seen_lsn(self) -> int:
        """The last entry that was looked at: behind `applied_lsn` where the log ends with part of a
        transaction, to which the rest may still come."""
        return max(self.applied_lsn, self._seen_lsn)

    # ---- applying, by one thread at a time ----

    def _catch_up_to(self, lsn: int) -> set[int]:
        """Applies the entries up to `lsn`. Returns the first lsn of each that counted."""
        if self.applied_lsn + 1 < self.log.first_lsn:
            self._restore()
        counted: set[int] = set()
        if lsn <= self.seen_lsn:
            return counted
        # Where it is interrupted, what is unfinished is looked at from its beginning.
        unfinished, self._unfinished = self._unfinished, None
        steps, seen_lsn = unfinished or (Steps(self.log.path, self.state_lsn), self.applied_lsn)
        for entry in self.log.replay(seen_lsn + 1, lsn):
            step = steps.take(entry)
            if step is None:
                continue
            if step.operations is not None:
                counted.add(step.first_lsn)
            changes = self.state.changes_of(step.operations or ())
            applied = Applied(step.last_lsn, changes, step.payload_bytes)
            self._apply([applied], {}, step.state_lsn)
        if self.applied_lsn < lsn:
            with self.lock:
                self._unfinished = steps, lsn
                self._seen_lsn = lsn
                self._tell()
        return counted

    def _apply(self, group: Sequence[Applied], built: Mapping[str, Index], state_lsn: int) -> None:
        """Changes the state as transactions in the log say, all of them or nothing for readers.

        Args:
            built: the indexes that were built for them before, by name.
            state_lsn: the last entry that counted, from now on.
        """
        many = max(len(applied.changes) for applied in group) >= CHANGES_MANY
        with self.lock, collector_paused() if many else _nothing:
            try:
                for applied in group:
                    self.state.apply_all(applied.changes, built)
                    for transaction in list(self._transactions):
                        transaction.notice(applied.changes)
                    self.payload_bytes += applied.payload_bytes
                self._note(group)
                self.applied_lsn, self.state_lsn = group[-1].lsn, state_lsn
            except BaseException:  # an interrupt in the middle leaves half of it
                self._lose(f"applying entry {group[-1].lsn} was interrupted")
                raise
            self._tell()
        self.on_applied()

    def _restore(self) -> None:
        """The log has begun anew behind a snapshot, since this node was too far behind its leader:
        goes on from there.

        Raises:
            StoreLostError: there is no such snapshot.
        """
        after_lsn = self.applied_lsn
        try:
            opened = self._reopen()
        except (SnapshotError, FileNotFoundError, LSNOutOfRangeError) as error:
            # a writer's next checkpoint came
            with self.lock:
                raise self._lose(
                    f"the entries after {after_lsn} are not there any more, and {error}"
                ) from error
        with self.lock:  # where it is interrupted, it is done again
            for transaction in list(self._transactions):
                transaction.doom("this node's store began anew from a snapshot of its leader")
            if self._history is not None:
                self._history = History(opened.position.lsn, HISTORY_BYTES_MAX)
            self.state, self._unfinished, self._seen_lsn = opened.state, None, 0
            self.applied_lsn, self.state_lsn = opened.position.lsn, opened.position.state_lsn
            self._tell()

    def _lose(self, reason: str) -> StoreLostError:
        """With the lock."""
        self.lost = StoreLostError(
            f"the store on {self.log.path} is not its log any more: {reason}"
        )
        self._stop_watchers()
        return self.lost

    # ---- for who watches ----

    def watch(self, watcher: Watcher) -> int:
        """Keeps what is applied from now on, while the watcher is there. Returns the last entry
        that was applied before.

        Raises:
            ClosedStoreError, StoreLostError
        """
        with self.lock:
            self.check_open()
            others = [other for other in self._watchers if not other.closed]
            self._watchers = WeakSet([*others, watcher])
            if self._history is None:
                self._history = History(self.applied_lsn, HISTORY_BYTES_MAX)
            return self.applied_lsn

    def _stop_watchers(self) -> None:
        """Nothing is applied any more, and no other can come, see `watch`. With the lock."""
        for watcher in self._watchers:
            watcher.stop()

    def keep_from(self, lsn: int) -> int:
        """The entry from which the log is needed: this one, or an earlier one that those who watch
        may still ask for."""
        with self.lock:
            return lsn if self._history is None else min(lsn, self._history.begin_lsn + 1)

    def remembers(self, lsn: int) -> bool:
        """Whether what is applied after this entry is kept."""
        with self.lock:
            return self._history is not None and self._history.begin_lsn <= lsn

    def remembered(self, lsn: int) -> tuple[bool, Applied | None]:
        """Whether what ended with this entry, which was applied, is kept; and what it was."""
        with self.lock:
            if self._history is None or lsn <= self._history.begin_lsn:
                return False, None
            return True, self._history.ended_at(lsn)

    def _note(self, group: Sequence[Applied]) -> None:
        """With the lock, and before `applied_lsn` says that it was applied."""
        if self._history is None:
            return
        if all(watcher.closed for watcher in self._watchers):
            self._history = None
            return
        for applied in group:
            self._history.note(applied)

    def _tell(self) -> None:
        """With the lock."""
        if self._waiting:
            self._news.notify_all()

    def _wait_for_news(self, timeout_s: float) -> None:
        """With the lock."""
        self._waiting += 1
        try:
            self._news.wait(timeout_s)
        finally:
            self._waiting -= 1

    # ---- transactions ----

    def begin(self) -> Transaction:
        """A transaction; it must be ended."""
        with self.lock:
            transaction = Transaction(self.state, self.lock)
            self._transactions.add(transaction)
            return transaction

    def end(self, transaction: Transaction) -> None:
        """The transaction was committed, or is not to be. Without the lock: the garbage collector
        closes a generator that waits in a block, in any thread and at any time, also while that
        thread has the lock and would wait for itself."""
        # Of a transaction that is not to be, what another thread is amid goes on, under the lock
        # and so over one state, in a draft that nobody will look at. Nothing else begins in it.
        transaction.end()
        # One step for other threads, and so is `list(self._transactions)`: unlike `tuple`, it makes
        # nothing that could start the collector after it has begun to go through the set.
        self._transactions.discard(transaction)
