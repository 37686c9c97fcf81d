"""DocumentStore: collections of documents on a log."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self, TypeVar

from walstore import FileWALManager
from walstore.docstore import snapshot
from walstore.docstore.checkpoint import Opened, files_of, opened_from
from walstore.docstore.collection import Collection
from walstore.docstore.collector import made_to_stay
from walstore.docstore.concern import Concern, barrier_lsn, checked_concern, is_shared
from walstore.docstore.draft import Draft
from walstore.docstore.errors import (
    ClosedStoreError,
    QueryError,
    SnapshotError,
    StoreLostError,
    TransactionError,
    WaitTimeoutError,
)
from walstore.docstore.ids import IdMaker
from walstore.docstore.journal import Journal
from walstore.docstore.past import Past
from walstore.docstore.snapshot import Position
from walstore.docstore.transaction import Transaction
from walstore.docstore.view import StoreView
from walstore.docstore.watch import ChangeStream, begin_of
from walstore.errors import LSNOutOfRangeError, OptionError, ReadOnlyLogError, WALStoreError
from walstore.limits import COLLECTION_NAME_BYTES_MAX
from walstore.thread import LastingThread

__all__ = ["DocumentStore", "check_collection_name"]

OPEN_ATTEMPTS_MAX = 10
"""How often a reader begins anew because the writer's checkpoints came between."""

RETRIES = 8
"""How often a checkpoint that cannot be written is tried again, in what makes one due."""

Result = TypeVar("Result")

_logger = logging.getLogger("walstore.docstore")

# The blocks that were open where this context comes from, of any store. A context is inherited by
# tasks and threads that are no part of these transactions, and outlives them: see `_Block.owner`.
_blocks: ContextVar[tuple[_Block, ...]] = ContextVar("walstore_blocks", default=())


class DocumentStore:
    """Collections of documents, kept in memory, durable in a log.

    Args:
        log: an open log, of one node or of several. It stays the caller's to close, after the
            store; entries of other kinds are passed over, and cut away with the store's own.
            Opened with read_only=True: the store can be read while another process writes it, and
            each read takes in what came since; writes raise ReadOnlyLogError.
        checkpoint_bytes: a checkpoint is made by itself after so many bytes of entries; None:
            only `checkpoint()` makes them.
        clock: wall clock for the _ids that are made, in ns since 1970.
        entropy: random bytes for them.

    Attributes:
        log: as given.

    Raises:
        OptionError: an option makes no sense.
        SnapshotError: the store cannot be opened without guessing. Nothing was changed.
        UnsupportedFormatError: the log or a snapshot was written by a newer walstore.
        OSError: the system refused access to the snapshots.
        Errors of the log, as FileWALManager.replay.

    All methods are safe from several threads. What is read is of one moment: all of an operation
    or transaction, or nothing.
    """

    def __init__(
        self,
        log: FileWALManager,
        *,
        checkpoint_bytes: int | None = 64 << 20,
        clock: Callable[[], int] = time.time_ns,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if not isinstance(log, FileWALManager):
            raise OptionError(f"log is an open FileWALManager, not {log!r}")
        if checkpoint_bytes is not None and (
            type(checkpoint_bytes) is not int or checkpoint_bytes < 1
        ):
            raise OptionError(f"checkpoint_bytes is a positive number, not {checkpoint_bytes!r}")
        self.log = log
        self._make_id = IdMaker(clock, entropy)
        self._checkpoint_bytes = checkpoint_bytes
        self._files = files_of(log.path)
        self._checkpointing = threading.RLock()
        self._past = Past(log, self._files, self._checkpointing)
        with made_to_stay():
            self._journal = self._opened()
        self._due = threading.Event()
        self._thread: LastingThread | None = None
        if checkpoint_bytes is not None and not log.read_only:
            self._journal.on_applied = self._look_at_size
            self._thread = LastingThread(self._keep_checkpoints, "walstore-checkpoints")
            self._thread.start()
            self._look_at_size()

    def _opened(self) -> Journal:
        """The state, from a snapshot and the log. Somebody else's checkpoint may take both away
        from a reader, who then finds newer ones."""
        for attempt in range(OPEN_ATTEMPTS_MAX):
            try:
                journal = Journal(self.log, self._open_files(), self._open_files)
                journal.load()
                return journal
            except (FileNotFoundError, LSNOutOfRangeError, SnapshotError, StoreLostError):
                if not self.log.read_only or attempt == OPEN_ATTEMPTS_MAX - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    # ---- collections ----

    def __getitem__(self, name: str) -> Collection:
        """A collection by name.

        Raises:
            QueryError: it cannot be a name.
        """
        check_collection_name(name)
        return Collection(self, name)

    def list_collection_names(self) -> list[str]:
        """The collections that have a document or an index, sorted. In a
        transaction, too, they are those that the store has now, and that is not noted."""
        self._journal.refresh()
        with self._journal.lock:
            return self._journal.state.names()

    # ---- transactions ----

    def transaction(self, *, concern: Concern = "durable") -> _Block:
        """For `with`: what this thread or task does with the store's collections in the block
        becomes one entry in the log when the block ends, all or nothing. What other threads and
        tasks do is outside of it, also when the block started them. See docs/docstore.md.

        Raises, when the block begins or ends:
            TransactionError: there is one already.
            ConflictError: somebody else changed what it had looked at. Nothing was written.
            What a write raises.
        """
        return _Block(self, checked_concern(self.log, concern))

    def _current_transaction(self) -> Transaction | None:
        """The one that this thread or task is in."""
        for block in _blocks.get():
            if block.store is self and block.transaction is not None and block.owner == _here():
                return block.transaction
        return None

    def _write(
        self, compute: Callable[[Draft], Result], concern: Concern, *, alone: bool = False
    ) -> Result:
        """Does a write of a collection: in the transaction, or as one of its own."""
        concern = checked_concern(self.log, concern)
        self._check_writable()
        transaction = self._current_transaction()
        if transaction is None:
            return self._journal.write(compute, concern, alone=alone)
        self._journal.check_open()
        return transaction.write(compute)

    # ---- the past, and what comes ----

    def watch(
        self, *, from_lsn: int | None = None, resume_after: str | None = None
    ) -> ChangeStream:
        """Follows the changes of all collections, each with the document before and after; see
        docs/docstore.md, "Change streams". By default those that come after this call.

        Args:
            from_lsn: begin with the first change whose entry is this one or a later one.
            resume_after: go on right after the change that has this token.

        Raises:
            QueryError: an argument makes no sense.
            HistoryError: log and snapshots do not reach there, or the token's entry is not in the
                log, not yet or not any more.
            ClosedStoreError, StoreLostError; and as FileWALManager.read.
        """
        return self._watch(None, from_lsn, resume_after)

    def _watch(self, collection: str | None, from_lsn: Any, resume_after: Any) -> ChangeStream:
        self._journal.refresh()
        begin = begin_of(self._journal, self._past, from_lsn, resume_after)
        return ChangeStream(self._journal, self._past, collection, begin)

    def at(self, lsn: int) -> StoreView:
        """The store as it was right after an entry, to read. It is made from a snapshot and the
        log, as opening the store is.

        Raises:
            QueryError: it is no lsn.
            HistoryError: log and snapshots do not reach there, or the entry is not here yet.
            OSError; ClosedStoreError, StoreLostError; and as FileWALManager.replay.
        """
        _check_lsn("at", lsn)
        self._journal.check_open()
        return StoreView(lsn, self._past.replayed(lsn).state)

    def wait_for(self, lsn: int, timeout_s: float) -> None:
        """Waits until this store has applied an entry: on another node, to read what was written
        on the leader. See `applied_lsn`.

        Raises:
            QueryError: an argument makes no sense.
            WaitTimeoutError: it has not, in time.
            ClosedStoreError, StoreLostError, ClosedLogError
        """
        _check_lsn("wait_for", lsn)
        if type(timeout_s) not in (int, float) or not timeout_s >= 0:
            raise QueryError("wait_for", f"timeout_s is a number from 0 on, not {timeout_s!r}")
        deadline_s = time.monotonic() + timeout_s
        log: Any = self.log
        try:
            if is_shared(log) and timeout_s > 0:
                log.wait_committed(lsn, timeout_s=timeout_s)
            there = self._journal.reach(lsn, max(0.0, deadline_s - time.monotonic()))
        except TimeoutError:  # of the log: it is not committed
            there = False
        if not there:
            raise WaitTimeoutError(lsn, self.applied_lsn, timeout_s)

    def read_barrier(self, timeout_s: float) -> int:
        """Waits until what is read here has all that was acknowledged before this call, by any
        node: a read after it is linearizable. On the leader of nodes that elect, or on a log of
        one node; elsewhere see `wait_for`. Returns the entry that it has waited for.

        Raises:
            QueryError: an argument makes no sense.
            WaitTimeoutError, ReplicationTimeoutError: it cannot tell, in time.
            NotLeaderError: this node does not lead.
            OptionError: the nodes do not elect, and none can know.
            ClosedStoreError, StoreLostError, ClosedLogError
        """
        if type(timeout_s) not in (int, float) or not timeout_s > 0:
            raise QueryError("read_barrier", f"timeout_s is a positive number, not {timeout_s!r}")
        self._journal.check_open()
        deadline_s = time.monotonic() + timeout_s
        lsn = barrier_lsn(self.log, timeout_s)
        self.wait_for(lsn, max(0.0, deadline_s - time.monotonic()))
        return lsn

    def _check_writable(self) -> None:
        self._journal.check_open()
        if self.log.read_only:
            raise ReadOnlyLogError(self.log.path)

    # ---- checkpoints ----

    def _open_files(self) -> Opened:
        with self._checkpointing:
            return opened_from(self._files.open(self.log), self.log)

    @property
    def applied_lsn(self) -> int:
        """The entry of the log up to which this store has applied all."""
        return self._journal.applied_lsn

    def checkpoint(self) -> int:
        """Writes a snapshot, then cuts what is not needed off the log's beginning; both durable
        at return. Readers and writers go on. Returns the lsn that the snapshot covers.

        Raises:
            OSError: it could not be written. What was there is as it was.
            ClosedStoreError, StoreLostError; and as FileWALManager.read and truncate_before.
        """
        self._check_writable()
        self._journal.refresh()  # before: who leads may need what is held while checkpointing
        with self._checkpointing:
            try:
                lsn, is_new = self._write_snapshot()
            except BaseException:
                self._try_again_soon()
                raise
            if is_new:
                keep_lsn = self._journal.keep_from(self._files.prune())
                if keep_lsn > self.log.first_lsn:
                    self.log.truncate_before(keep_lsn)
            return lsn

    def _write_snapshot(self) -> tuple[int, bool]:
        """Writes the state of now, with nobody else checkpointing. Returns the lsn that it covers,
        and whether it was not there before."""
        journal, log = self._journal, self.log
        with journal.lock:
            lsn, state_lsn = journal.applied_lsn, journal.state_lsn
            copy = snapshot.copy_of_state(journal.state)
            journal.payload_bytes = 0
        if lsn == 0 or lsn in self._files.lsns:
            return lsn, False
        # What is read is durable: a snapshot holds nothing that the log could still lose.
        term = log.read(lsn).term
        position = Position(log.log_id, lsn, term, state_lsn)
        self._files.write(lsn, snapshot.write(position, copy))
        return lsn, True

    def _try_again_soon(self) -> None:
        """After a checkpoint that was not written: not only when as much has come as makes one due,
        and not at every write either."""
        due_bytes = self._checkpoint_bytes or 0
        with self._journal.lock:  # set, also where it is full: it failed before it was emptied
            self._journal.payload_bytes = due_bytes - due_bytes // RETRIES

    def _look_at_size(self) -> None:
        if self._journal.payload_bytes >= (self._checkpoint_bytes or 0):
            self._due.set()

    def _keep_checkpoints(self) -> None:
        while True:
            self._due.wait()
            self._due.clear()
            if self._journal.closed:
                return
            try:
                self.checkpoint()
            except ClosedStoreError:
                return
            except (OSError, WALStoreError, MemoryError) as error:
                _logger.warning("no checkpoint of %s: %s", self.log.path, str(error) or "no memory")

    # ---- life ----

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._journal.closed

    def close(self) -> None:
        """Lets go of the log, once the writes that have begun and a checkpoint are done. What was
        acknowledged is in the log already. Closing twice does nothing, unless the first call was
        interrupted: then the second ends it."""
        self._journal.close()
        self._due.set()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<DocumentStore on {self.log.path!r}{' closed' if self.closed else ''}>"


def check_collection_name(name: object) -> None:
    """Raises unless this can be a collection's name.

    Raises:
        QueryError
    """
    size = len(name.encode("utf-8", "surrogatepass")) if type(name) is str else 0
    if not 0 < size <= COLLECTION_NAME_BYTES_MAX or not str(name).isprintable():
        raise QueryError(
            "collection",
            f"{name!r} cannot be a name",
            f"printable text of 1 to {COLLECTION_NAME_BYTES_MAX} bytes can",
        )


def _check_lsn(what: str, lsn: Any) -> None:
    if type(lsn) is not int or lsn < 0:
        raise QueryError(what, f"takes the lsn of an entry, not {lsn!r}")


def _here() -> tuple[threading.Thread, asyncio.Task[Any] | None]:
    """This thread, and the task that it runs."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # there is no event loop
        task = None
    return threading.current_thread(), task


class _Block:
    """The `with` block of a transaction.

    Attributes:
        store: whose transaction it is; None once the block has ended: a context that it was opened
            in may keep it for long.
        owner: the thread and task that opened it. For all others there is no transaction.
        transaction: while the block is open.
    """

    def __init__(self, store: DocumentStore, concern: Concern) -> None:
        self.store: DocumentStore | None = store
        self.owner: tuple[threading.Thread, asyncio.Task[Any] | None] | None = None
        self.transaction: Transaction | None = None
        self._concern: Concern = concern

    def __enter__(self) -> None:
        store = self.store
        if store is None or self.owner is not None or store._current_transaction() is not None:
            raise TransactionError("a transaction is in a block of its own, and used once")
        self.transaction = store._journal.begin()
        self.owner = _here()
        _blocks.set((*_open_blocks(), self))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        transaction, store = self.transaction, self.store
        assert transaction is not None
        assert store is not None
        self.transaction = self.store = self.owner = None
        try:
            # Not `reset`: a generator may be closed in another context than that of its owner.
            _blocks.set(_open_blocks())
            if kind is None:
                # Another thread may be amid an operation: all of it is written, or nothing.
                with store._journal.lock:
                    transaction.end()
                if self._concern == "local" and not transaction.draft.changes:
                    store._journal.check_open()
                    transaction.check()  # it has read what is here, and nobody is asked
                else:
                    store._journal.write(transaction.compute, self._concern)
        finally:
            store._journal.end(transaction)


def _open_blocks() -> tuple[_Block, ...]:
    return tuple(block for block in _blocks.get() if block.transaction is not None)
