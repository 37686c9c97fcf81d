"""The requests of clients, on a node: two threads serve all of them.

One appends commands, one reads. A command that is on its way to the disks of a quorum occupies no
thread: its entry is expected, and who applies it answers. Where the own disk has no space for it
after all, the one that appended it finds out when it looks, now and then.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from walstore import (
    ClosedLogError,
    EntryTruncatedError,
    LogFullError,
    OptionError,
    WALStoreError,
)
from walstore.cluster.commands import KIND, Command, encode_command
from walstore.cluster.machine_errors import CommandRefusedError, MachineError
from walstore.cluster.sessions import Outcome, encode_reason
from walstore.replication import (
    NotLeaderError,
    ReplicatedCommit,
    ReplicationEvent,
    ReplicationWALManager,
    RoleChanged,
)
from walstore.replication.clients import ClientLink
from walstore.replication.requests import (
    ANSWER_BYTES_MAX,
    URL_BYTES_MAX,
    Ask,
    ClientRequest,
    ClientResponse,
    Status,
)
from walstore.thread import LastingThread

if TYPE_CHECKING:
    from walstore.cluster.host import MachineHost

__all__ = ["REQUESTS_BYTES_MAX", "REQUESTS_MAX", "RequestServer"]

logger = logging.getLogger("walstore.cluster")

REQUESTS_MAX = 1024
"""Requests of all clients that are not answered yet."""

REQUESTS_BYTES_MAX = 64 << 20
"""Their bytes."""

_CONFIRM_S = 2.0
_LOOK_S = 0.2
_READ_WAIT_S = 10.0
_REASON_BYTES_MAX = 1000


class _Read(NamedTuple):
    """A read that waits until an entry is applied, or for so long."""

    link: ClientLink
    request: ClientRequest
    lsn: int
    until_s: float


class RequestServer:
    """Takes requests while its host is open.

    Args:
        host: of the machine.
        log: its log.
    """

    def __init__(self, host: MachineHost, log: ReplicationWALManager) -> None:
        self._host = host
        self._log = log
        self._lock = threading.Lock()
        self._came = threading.Condition(self._lock)  # a command
        self._to_read = threading.Condition(self._lock)  # a read, or something was applied
        self._commands: deque[tuple[ClientLink, ClientRequest]] = deque()
        self._reads: deque[tuple[ClientLink, ClientRequest]] = deque()
        self._later: list[_Read] = []
        self._sent: deque[tuple[Command, ReplicatedCommit]] = deque()
        self._look_s = 0.0  # when to look after them
        self._open = 0
        self._open_bytes = 0
        self._moved = False
        self._ending = False
        self._threads = [
            LastingThread(self._append_all, "walstore-commands"),
            LastingThread(self._read_all, "walstore-reads"),
        ]
        for thread in self._threads:
            thread.start()
        self._unsubscribe = log.subscribe(self._on_event)
        log.serve_clients(self._take)

    def close(self) -> None:
        """Takes nothing more; what is under way is to be asked again elsewhere. Who is interrupted
        calls it again."""
        try:
            self._log.serve_clients(None)
            self._unsubscribe()
        except ClosedLogError:
            pass
        with self._lock:
            self._ending = True
            self._came.notify_all()
            self._to_read.notify_all()
        for thread in self._threads:
            thread.join()
        self._settle()

    # ---- in the node's own thread ----

    def _take(self, link: ClientLink, request: ClientRequest) -> None:
        with self._lock:
            full = self._open >= REQUESTS_MAX or self._open_bytes > REQUESTS_BYTES_MAX
            refused = full or self._ending or self._host.error is not None
            self._open += 1
            self._open_bytes += len(request.data)
            if not refused and request.ask in (Ask.READ, Ask.READ_AFTER):
                self._reads.append((link, request))
                self._to_read.notify()
            elif not refused:
                self._commands.append((link, request))
                self._came.notify()
        if refused:
            itself = full and self._host.error is None and not self._ending
            self._answer(link, request, self._busy(request, itself=itself))

    def _on_event(self, event: ReplicationEvent) -> None:
        if isinstance(event, RoleChanged) and event.role != "leader":
            self._settle()

    def _settle(self) -> None:
        """Whoever waits for a command is to ask the next leader."""
        for listener in self._host.forget_all():
            listener(Outcome(Status.UNSETTLED, 0))

    # ---- answers, from any thread ----

    def _answer(self, link: ClientLink, request: ClientRequest, response: ClientResponse) -> None:
        with self._lock:
            self._open -= 1
            self._open_bytes -= len(request.data)
        link.answer(response)

    def _answer_outcome(self, link: ClientLink, request: ClientRequest, outcome: Outcome) -> None:
        response = ClientResponse(request.number, outcome.status, outcome.lsn, data=outcome.data)
        if outcome.status in (Status.UNSETTLED, Status.BUSY):
            response = self._elsewhere(request, outcome.status, outcome.data)
        self._answer(link, request, response)

    def _elsewhere(
        self, request: ClientRequest, status: Status, data: bytes = b"", *, itself: bool = False
    ) -> ClientResponse:
        """With whom to ask; `itself`: which may be this node, a little later."""
        leader = self._log.leader_id or ""
        if leader == self._log.node_id and not itself:
            leader = ""
        url = (self._log.url_of(leader) or "") if leader != self._log.node_id else ""
        if len(url.encode()) > URL_BYTES_MAX:
            url = ""
        return ClientResponse(request.number, status, 0, leader, url, data)

    def _busy(self, request: ClientRequest, *, itself: bool = False) -> ClientResponse:
        """The answer while nothing can be done; with the reason where the machine has stopped."""
        error = self._host.error
        reason = b"" if error is None else encode_reason(error, _REASON_BYTES_MAX)
        return self._elsewhere(request, Status.BUSY, reason, itself=itself)

    def _why_not(self, request: ClientRequest, error: Exception) -> ClientResponse:
        """The answer where nothing was done."""
        if isinstance(error, NotLeaderError):
            return self._elsewhere(request, Status.NOT_LEADER)
        reason = encode_reason(error, _REASON_BYTES_MAX)
        if isinstance(error, OptionError):
            return ClientResponse(request.number, Status.UNSUPPORTED, data=reason)
        logger.warning("%s: a request is not served: %s", self._log.node_id, error)
        return self._elsewhere(request, Status.BUSY, reason)

    # ---- commands ----

    def _append_all(self) -> None:
        try:
            self._append_until_closed()
        except Exception as error:  # a mistake here, which would end the service unsaid
            self._host._fail(error)

    def _append_until_closed(self) -> None:
        while True:
            with self._lock:
                if not (self._commands or self._ending):
                    self._came.wait(_LOOK_S if self._sent else None)
                if self._ending and not self._commands:
                    return
                came = self._commands.popleft() if self._commands else None
            if self._sent and time.monotonic() >= self._look_s:
                self._look_after_sent()
            if came is not None:
                self._append(*came)

    def _look_after_sent(self) -> None:
        """The disk may have refused an entry that the log had taken: then the command is in no log,
        and whoever waits for it is told so. The end of the leadership tells all by itself."""
        self._look_s = time.monotonic() + _LOOK_S
        left: deque[tuple[Command, ReplicatedCommit]] = deque()
        for command, commit in self._sent if self._log.role == "leader" else ():
            try:
                commit.check()
            except LogFullError as error:
                listener = self._host.forget(command)
                if listener is not None:
                    listener(Outcome(Status.BUSY, 0, encode_reason(error, _REASON_BYTES_MAX)))
            except EntryTruncatedError:
                pass
            else:
                if not commit.done():
                    left.append((command, commit))
        self._sent = left

    def _append(self, link: ClientLink, request: ClientRequest) -> None:
        """Appends a command, unless it was asked for before and is on its way: who asked then asks
        again now, and is answered here alone. It is not waited for."""
        log = self._log
        if request.ask is Ask.COMMAND and request.session == 0:
            reason = b"a command of a client is in a session"
            self._answer(
                link, request, ClientResponse(request.number, Status.UNSUPPORTED, data=reason)
            )
            return
        if log.role != "leader" or self._ending:
            self._answer(link, request, self._elsewhere(request, Status.NOT_LEADER))
            return
        command = Command(
            request.ask, request.session, request.sequence, request.answered, request.data
        )
        listener = partial(self._answer_outcome, link, request)
        before = self._host.expect(command, listener)
        if before is not None:
            before(Outcome(Status.UNSETTLED, 0))
            return
        if self._host.error is not None:  # it may have stopped before the command was expected
            if self._host.forget(command) is not None:
                self._answer(link, request, self._busy(request))
            return
        try:
            self._sent.append((command, log.submit(encode_command(command), kind=KIND)))
        except WALStoreError as error:
            if self._host.forget(command) is not None:  # nor told by an end of the leadership
                self._answer(link, request, self._why_not(request, error))
        except MemoryError:  # the log may have taken it by then
            logger.exception("%s: a command may be appended or not", log.node_id)
            if self._host.forget(command) is not None:
                self._answer(link, request, self._elsewhere(request, Status.UNSETTLED))

    # ---- reads ----

    def applied(self) -> None:
        """Something was applied. By the host."""
        if self._later:
            with self._lock:
                self._moved = True
                self._to_read.notify()

    def _read_all(self) -> None:
        try:
            self._read_until_closed()
        except Exception as error:  # a mistake here, which would end the service unsaid
            self._host._fail(error)

    def _read_until_closed(self) -> None:
        while True:
            with self._lock:
                if not (self._reads or self._moved or self._ending):
                    self._to_read.wait(_LOOK_S if self._later else None)
                self._moved = False
                came, self._reads = list(self._reads), deque()
                ending = self._ending
            self._later += self._placed(came)
            if ending:
                for read in self._later:
                    self._answer(read.link, read.request, self._busy(read.request))
                return
            self._later = [read for read in self._later if not self._done(read)]

    def _placed(self, came: list[tuple[ClientLink, ClientRequest]]) -> list[_Read]:
        """Each read with the entry that it is to be of. Those of the leader share one round: all of
        them came before it began."""
        until_s = time.monotonic() + _READ_WAIT_S
        placed = [
            _Read(link, request, request.sequence, until_s)
            for link, request in came
            if request.ask is Ask.READ_AFTER
        ]
        of_leader = [(link, request) for link, request in came if request.ask is Ask.READ]
        if not of_leader:
            return placed
        try:
            lsn = self._log.linearizable_lsn(timeout_s=_CONFIRM_S)
        except (WALStoreError, MemoryError) as error:
            for link, request in of_leader:
                self._answer(link, request, self._why_not(request, error))
            return placed
        return placed + [_Read(link, request, lsn, until_s) for link, request in of_leader]

    def _done(self, read: _Read) -> bool:
        """Answers a read, if that can be done now."""
        link, request = read.link, read.request
        if self._host.applied_lsn >= read.lsn:
            self._answer(link, request, self._read(request))
        elif link.gone or time.monotonic() >= read.until_s:
            self._answer(link, request, self._busy(request))
        else:
            return False
        return True

    def _read(self, request: ClientRequest) -> ClientResponse:
        """What the machine answers. Nothing that it does may end this thread, which serves all."""
        number = request.number
        try:
            try:
                lsn, data = self._host.answer(request.data)
            except CommandRefusedError as error:
                reason = encode_reason(error.reason, ANSWER_BYTES_MAX)
                return ClientResponse(number, Status.REFUSED, data=reason)
        except (MachineError, ClosedLogError):
            return self._busy(request)
        except BaseException as error:  # the machine's mistake, and this request's alone
            logger.exception("%s: a query failed", self._log.node_id)
            told = "".join(traceback.format_exception_only(error)).strip()  # whatever its repr does
            reason = encode_reason(told, _REASON_BYTES_MAX)
            return ClientResponse(number, Status.UNSUPPORTED, data=reason)
        if len(data) > ANSWER_BYTES_MAX:
            reason = b"the answer has %d bytes; at most %d are sent" % (len(data), ANSWER_BYTES_MAX)
            return ClientResponse(number, Status.TOO_LARGE, data=reason)
        return ClientResponse(number, Status.DONE, lsn, data=data)
