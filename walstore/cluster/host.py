"""MachineHost: a state machine on a log (docs/machines.md)."""

from __future__ import annotations

import logging
import random
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from walstore import (
    ClosedLogError,
    FileWALManager,
    LSNOutOfRangeError,
    OptionError,
    WALEntry,
    WALStoreError,
)
from walstore.cluster.checkpoints import Checkpoints, Moment
from walstore.cluster.commands import KIND, Command, decode_command, encode_command
from walstore.cluster.machine import StateMachine
from walstore.cluster.machine_errors import (
    AppliedTimeoutError,
    CommandRefusedError,
    CommandUnknownError,
    MachineFailedError,
    MachineStateError,
)
from walstore.cluster.machine_files import files_of, parts_of
from walstore.cluster.serving import RequestServer
from walstore.cluster.sessions import (
    RESULT_BYTES_MAX,
    Outcome,
    Sessions,
    encode_reason,
    result_of,
)
from walstore.limits import LSN_MAX
from walstore.replication import ReplicationWALManager
from walstore.replication.requests import COMMAND_BYTES_MAX, Ask, Status
from walstore.snapshot_files import UnusableSnapshotError
from walstore.thread import LastingThread

__all__ = ["MachineHost"]

logger = logging.getLogger("walstore.cluster")

_MARK_EVERY = 256
_LOCAL = (Ask.COMMAND, 0)  # what this node's own application has called

Listener = Callable[[Outcome], None]


class MachineHost:
    """Applies the commands in a log to a machine, in order, on whatever node this is; and, on a
    node that listens, takes those of clients.

    Args:
        log: an open log, of one node or of several. It stays the caller's to close, after the
            host; entries of other kinds are passed over, and cut away with the host's own. One
            of several nodes should be given MachineSnapshots.
        machine: with the state that it begins with, before any command.
        checkpoint_bytes: a snapshot is made by itself after so many bytes of commands.

    Attributes:
        log, machine: as given.
        applied_lsn: the last entry that is applied.
        error: why nothing more is applied, or None. In the node's status(), too.

    Raises:
        OptionError: an option makes no sense.
        MachineStateError: the state cannot be had without guessing.
        UnsupportedFormatError: a snapshot was written by a newer walstore.
        OSError: the system refused access to the snapshots.

    All methods are safe from several threads. The log must not be truncated at its end.
    """

    def __init__(
        self,
        log: FileWALManager,
        machine: StateMachine,
        *,
        checkpoint_bytes: int = 64 << 20,
    ) -> None:
        if not isinstance(log, FileWALManager) or log.read_only:
            raise OptionError(f"log is a FileWALManager that is open to write, not {log!r}")
        if type(checkpoint_bytes) is not int or checkpoint_bytes < 1:
            raise OptionError(f"checkpoint_bytes is a positive number, not {checkpoint_bytes!r}")
        self.log = log
        self.machine = machine
        self.applied_lsn = 0
        self.error: WALStoreError | None = None
        self._checkpoint_bytes = checkpoint_bytes
        self._sessions = Sessions()
        self._term = 0
        self._bytes = 0  # of commands since the last checkpoint
        self._restored_lsn = 0  # the last entry that came within a snapshot
        self._marked_lsn = 0  # up to where the other nodes are told that all is applied
        self._lock = threading.Lock()  # held while the machine works, or is looked at
        self._news = threading.Condition(self._lock)
        self._waiting = 0
        self._listeners: dict[tuple[int, int, int], Listener] = {}
        self._listening = threading.Lock()
        self._closing = self._closed = False
        self._server: RequestServer | None = None
        self._files = files_of(log.path)
        self._restore()
        self._checkpoints = Checkpoints(log, self._files, self._look)
        self._thread = LastingThread(self._run, "walstore-machine")
        self._thread.start()
        if isinstance(log, ReplicationWALManager):
            log.report_application(None)  # of a host before this one
            self._server = RequestServer(self, log)

    # ---- applying ----

    def _restore(self) -> None:
        """Takes the state of the newest snapshot that the log goes on from, if there is one."""
        found = self._files.open(self.log)
        if found is None:
            return
        sessions, machine = parts_of(found.content)
        with self._lock:
            try:
                self._sessions.load(sessions)
            except UnusableSnapshotError as error:
                path = self._files.path_of(found.place.lsn)
                raise MachineStateError(path, str(error)) from error
            try:
                self.machine.restore(machine)
            except BaseException as error:  # foreign code, which may raise anything
                self._stop(self._mistake(error))
                raise
            self.applied_lsn, self._term = found.place.lsn, found.place.term
            self._restored_lsn = found.place.lsn
            self._news.notify_all()

    def _run(self) -> None:
        try:
            while self.error is None and not self._closing:
                try:
                    self._catch_up()
                except LSNOutOfRangeError:
                    if self.error is not None or self.applied_lsn + 1 >= self.log.first_lsn:
                        raise
                    self._restore()  # the log began anew behind a snapshot of the leader's
        except BaseException as error:  # the machine's, too, be it sys.exit(): none goes unsaid
            if isinstance(error, ClosedLogError) and self.error is None:
                return  # the log's
            self._fail(error)

    def _catch_up(self) -> None:
        if self._marked_lsn < self._restored_lsn:
            # A node that began hears anew how far its log is committed, and may mark no more.
            if not self.log._await_entry(self._restored_lsn):
                return
            self._mark(self._restored_lsn)
        next_lsn = self.applied_lsn + 1
        if next_lsn < self.log.first_lsn:
            raise LSNOutOfRangeError(next_lsn, self.log.first_lsn, self.log.last_lsn)
        if not self.log._await_entry(next_lsn):
            return
        shown_lsn = self.log.committed_lsn
        if shown_lsn < next_lsn:
            return
        for entry in self.log.replay(next_lsn, shown_lsn):
            if self.error is not None or self._closing:
                return
            self._take(entry)
            if entry.lsn == shown_lsn or entry.lsn % _MARK_EVERY == 0:
                self._mark(entry.lsn)
        if self._bytes >= self._checkpoint_bytes:
            self._checkpoints.ask()

    def _take(self, entry: WALEntry) -> None:
        command = outcome = None
        if entry.kind == KIND:
            command = decode_command(self.log.path, entry.lsn, entry.payload)
        with self._lock:
            if command is not None:
                work = command
                try:
                    outcome = self._sessions.take(
                        entry.lsn, command, lambda: self._apply(entry.lsn, work.data)
                    )
                except BaseException as error:  # the machine is foreign code: it may raise anything
                    self._stop(self._mistake(error))
                    raise
                self._bytes += len(entry.payload)
            self.applied_lsn, self._term = entry.lsn, entry.term
            if self._waiting:
                self._news.notify_all()
        if command is not None and outcome is not None:
            listener = self.forget(command)
            if listener is not None:
                listener(outcome)

    def _apply(self, lsn: int, data: bytes) -> Outcome:
        try:
            result = self.machine.apply(lsn, data)
        except CommandRefusedError as error:
            return Outcome(Status.REFUSED, lsn, encode_reason(error.reason))
        if not isinstance(result, bytes):
            raise TypeError(f"the machine returned {result!r} where bytes were due")
        if len(result) > RESULT_BYTES_MAX:
            reason = f"the result has {len(result)} bytes; at most {RESULT_BYTES_MAX} are kept"
            return Outcome(Status.TOO_LARGE, lsn, encode_reason(reason))
        return Outcome(Status.DONE, lsn, result)

    def _mark(self, lsn: int) -> None:
        if isinstance(self.log, ReplicationWALManager):
            self.log.mark_applied(lsn)
        self._marked_lsn = lsn
        if self._server is not None:
            self._server.applied()

    def _mistake(self, error: BaseException) -> MachineFailedError:
        told = "".join(traceback.format_exception_only(error)).strip()  # whatever its repr does
        failed = MachineFailedError(self.applied_lsn + 1, told)
        failed.__cause__ = error
        return failed

    def _stop(self, error: WALStoreError) -> None:
        """Nothing more is applied. With the lock, and before it is let go of: what may be half of a
        command is shown to nobody, and gets into no snapshot."""
        self.error = error
        self._news.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self.error is None:
                self._stop(error if isinstance(error, WALStoreError) else self._mistake(error))
            stopped = self.error
        if isinstance(self.log, ReplicationWALManager):
            self.log.report_application(stopped)
        logger.error("%s: the machine stops here: %s", self.log.path, stopped, exc_info=stopped)
        for listener in self.forget_all():
            listener(Outcome(Status.UNSETTLED, 0))

    def check(self) -> None:
        """Raises when the machine can no longer be used.

        Raises:
            ClosedLogError; and what has stopped it.
        """
        if self._closing:
            raise ClosedLogError(f"the machine on {self.log.path} is closed")
        if self.error is not None:
            raise self.error

    # ---- for who waits for a command (RequestServer) ----

    def expect(self, command: Command, listener: Listener) -> Listener | None:
        """Has the listener called, in the host's thread, with what becomes of a command. Returns
        the one who expected it before, and does not any more: it need not be appended again."""
        with self._listening:
            before = self._listeners.get(command.key)
            self._listeners[command.key] = listener
            return before

    def forget(self, command: Command) -> Listener | None:
        """Who expected a command; not any more."""
        with self._listening:
            return self._listeners.pop(command.key, None)

    def forget_all(self) -> list[Listener]:
        """All who expect something of clients; not any more."""
        with self._listening:
            keys = [key for key in self._listeners if key[:2] != _LOCAL]
            return [self._listeners.pop(key) for key in keys]

    # ---- for the application on this node ----

    def call(self, command: bytes, *, timeout_s: float = 10.0) -> bytes:
        """Has a command applied and returns its result, when it is committed and applied here. On a
        node that leads. It is appended once, and not retried.

        Raises:
            CommandRefusedError, ResultTooLargeError: as the machine says.
            AppliedTimeoutError: committed, and not applied in time.
            CommandUnknownError: committed, and this node has got the state behind it from the
                leader: what the command came to is not known here.
            OptionError: it is too large.
            MachineFailedError; NotLeaderError and others, as ReplicationWALManager.append.
        """
        _check_size(command)
        self.check()
        deadline_s = time.monotonic() + timeout_s
        number = random.SystemRandom().randint(1, LSN_MAX)
        made = Command(Ask.COMMAND, 0, number, 0, command)
        future: Future[Outcome] = Future()
        self.expect(made, future.set_result)
        try:
            more: dict[str, Any] = {}
            if isinstance(self.log, ReplicationWALManager):
                more = {"timeout_s": timeout_s}
            lsn = self.log.append(encode_command(made), kind=KIND, **more)
            self.wait_applied(lsn, timeout_s=max(0.0, deadline_s - time.monotonic()))
            if lsn <= self._restored_lsn and not future.done():
                here = self.log.node_id if isinstance(self.log, ReplicationWALManager) else "here"
                why = {here: "it came within a snapshot"}
                raise CommandUnknownError(0, number, timeout_s, why, lsn)
            outcome = future.result(timeout_s)  # told right after
        finally:
            self.forget(made)
        return result_of(outcome.status, outcome.data)

    def wait_applied(self, lsn: int, *, timeout_s: float = 10.0) -> None:
        """Waits until an entry is applied here.

        Raises:
            AppliedTimeoutError: it is not, in time.
            MachineFailedError, ClosedLogError
        """
        deadline_s = time.monotonic() + timeout_s
        with self._lock:
            self._waiting += 1
            try:
                while self.applied_lsn < lsn:
                    self.check()
                    left_s = deadline_s - time.monotonic()
                    if left_s <= 0:
                        raise AppliedTimeoutError(lsn, self.applied_lsn, timeout_s)
                    self._news.wait(left_s)
            finally:
                self._waiting -= 1

    def read(self, query: bytes, *, timeout_s: float = 10.0) -> bytes:
        """The machine's answer, of a state that has all that was answered before this call. On the
        leader of nodes that elect, or a log of one node.

        Raises:
            CommandRefusedError, and what else the machine raises.
            TypeError: the machine answered with what is not bytes.
            NotLeaderError, ReplicationTimeoutError, OptionError: as
                ReplicationWALManager.linearizable_lsn.
            AppliedTimeoutError, MachineFailedError, ClosedLogError
        """
        log = self.log
        if isinstance(log, ReplicationWALManager):
            lsn = log.linearizable_lsn(timeout_s=timeout_s)
        else:
            lsn = log.committed_lsn
        return self.read_after(query, lsn, timeout_s=timeout_s)

    def read_after(self, query: bytes, lsn: int, *, timeout_s: float = 10.0) -> bytes:
        """The machine's answer when it has applied an entry, on any node: `lsn` of what one wrote
        reads one's own writes.

        Raises:
            As `read`, for what is this node's.
        """
        self.wait_applied(lsn, timeout_s=timeout_s)
        return self.read_stale(query)

    def read_stale(self, query: bytes) -> bytes:
        """The machine's answer as it is now on this node, which may be behind.

        Raises:
            CommandRefusedError, TypeError: as `read`.
            MachineFailedError, ClosedLogError
        """
        return self.answer(query)[1]

    def answer(self, query: bytes) -> tuple[int, bytes]:
        """The same, with the last entry that was applied."""
        with self._lock:
            self.check()
            lsn, data = self.applied_lsn, self.machine.query(query)
        if not isinstance(data, bytes):
            raise TypeError(f"the machine returned {data!r} where bytes were due")
        return lsn, data

    # ---- snapshots, and the end ----

    def _look(self) -> Moment:
        with self._lock:
            self.check()
            self._bytes = 0
            sessions = self._sessions.encode()
            return Moment(self.applied_lsn, self._term, sessions, self.machine.snapshot())

    @property
    def checkpoint_error(self) -> BaseException | None:
        """Why the last checkpoint was not made, or None. It is tried again, as `checkpoint_bytes`
        says; until then the log grows, and nothing is lost."""
        return self._checkpoints.error

    def checkpoint(self) -> int:
        """Writes a snapshot, then cuts what is not needed off the log's beginning; both durable
        at return. Commands go on. Returns the lsn that the snapshot covers.

        Raises:
            OSError: it could not be written. What was there is as it was.
            What the machine raises, likewise.
            MachineFailedError, ClosedLogError; and as FileWALManager.truncate_before.
        """
        return self._checkpoints.make()

    def close(self) -> None:
        """Lets go of the log. Clients are told to ask elsewhere, for what is under way, too.
        Closing twice does nothing, unless the first call was interrupted: then the second ends
        it."""
        if self._closed:
            return
        if self._server is not None:
            self._server.close()
        self._closing = True
        with self._lock:
            self._news.notify_all()
        self._thread.join()
        self._checkpoints.close()
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _check_size(command: bytes) -> None:
    if not isinstance(command, bytes) or len(command) > COMMAND_BYTES_MAX:
        raise OptionError(f"a command is at most {COMMAND_BYTES_MAX} bytes")
