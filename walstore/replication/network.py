"""The leader's and the follower's end of the wire: asyncio, over `websockets`.

What is slow never piles up in memory: the leader reads what it sends from its log, one batch at
a time, and writes no more than the connection takes; the follower reads no further batch than it
has appended, but for the few the library's queue holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from walstore.errors import LogFullError, LSNOutOfRangeError, WALStoreError
from walstore.replication.errors import (
    CloseCode,
    MessageError,
    RefusedError,
    UnreachableError,
)
from walstore.replication.message import (
    BATCH_BYTES,
    CONTROL_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    NO_LOG,
    Ack,
    Entries,
    Hello,
    ReplicationMessage,
    entry_bytes,
)
from walstore.replication.protocol import (
    Position,
    Session,
    check_entries,
    check_follower,
    check_leader,
)
from walstore.wal.record import WALEntry
from walstore.wal.tail import Tail

__all__ = ["FOLLOWERS_MAX", "FollowerLink", "LeaderServer", "ReplicatedLog", "ask_log_id"]

logger = logging.getLogger("walstore.replication")

FOLLOWERS_MAX = 64
"""Followers a leader serves, and keeps an eye on."""

_HANDSHAKE_TIMEOUT_S = 5.0
_CLOSE_TIMEOUT_S = 2.0
_PING_INTERVAL_S = 5.0
_PING_TIMEOUT_S = 20.0
_QUEUE_FRAMES_MAX = 4
_WRITE_BUFFER_BYTES = BATCH_BYTES
_REASON_BYTES_MAX = 123  # RFC 6455, 5.5: a control frame carries 125 bytes, two are the code
_BACKOFF_FIRST_S = 0.05
_BACKOFF_MAX_S = 5.0
_INTERNAL_ERROR = 1011


class ReplicatedLog(Protocol):
    """What the network needs of a log."""

    node_id: str

    @property
    def durable_lsn(self) -> int:
        """The last entry known to be on the disk."""

    def position(self) -> Position:
        """Where the log stands."""

    def term_of(self, lsn: int) -> int:
        """The term of an entry, or of the one before the first."""

    def now_ns(self) -> int:
        """The wall clock."""

    def sync(self) -> int:
        """Makes all of it durable."""

    def tail(self, from_lsn: int | None = None) -> Tail:
        """Follows the log."""

    async def apply(self, batch: Entries) -> int:
        """Appends a batch that was checked and returns the durable lsn."""


async def _close(ws: Connection, code: int, reason: str) -> None:
    """Closes with a reason; one that is too long for a close frame is cut."""
    text = reason.encode()[:_REASON_BYTES_MAX].decode(errors="ignore")
    await ws.close(code, text)


async def _batches(log: ReplicatedLog, tail: Tail) -> AsyncIterator[Entries]:
    """What a tail gives, in batches: what is there at once, or else the next entry."""
    async for first in tail:
        entries: list[WALEntry] = [first]
        size = entry_bytes(first)
        while size < BATCH_BYTES and tail.next_lsn <= log.durable_lsn:
            entry = await anext(tail)
            entries.append(entry)
            size += entry_bytes(entry)
        yield Entries(tuple(entries))


class LeaderServer:
    """Listens, and streams the log to every follower that connects.

    Args:
        log: what to stream.
        host, port: where to listen; port 0 picks a free one.
        on_progress: called with (node id, durable lsn) when a follower says where it stands.
    """

    def __init__(
        self, log: ReplicatedLog, host: str, port: int, on_progress: Callable[[str, int], None]
    ) -> None:
        self._log = log
        self._host = host
        self._on_progress = on_progress
        self._server: Server | None = None
        self._connections: dict[str, ServerConnection] = {}
        self.port = port

    @property
    def connected(self) -> tuple[str, ...]:
        """The followers that are connected now."""
        return tuple(self._connections)

    async def start(self) -> None:
        """Begins to listen.

        Raises:
            OSError: the address is taken, or not this machine's.
        """
        self._server = await serve(
            self._serve,
            self._host,
            self.port,
            origins=[None],  # no browser
            compression=None,
            open_timeout=_HANDSHAKE_TIMEOUT_S,
            close_timeout=_CLOSE_TIMEOUT_S,
            ping_interval=_PING_INTERVAL_S,
            ping_timeout=_PING_TIMEOUT_S,
            max_size=CONTROL_BYTES_MAX,
            max_queue=_QUEUE_FRAMES_MAX,
            write_limit=_WRITE_BUFFER_BYTES,
            server_header=None,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Closes every connection and stops to listen."""
        if self._server is not None:
            self._server.close()  # with code 1001, going away
            await self._server.wait_closed()

    async def _serve(self, ws: ServerConnection) -> None:
        """One connection, from its first message to its end."""
        session = Session(self._log.node_id, bytes_max=CONTROL_BYTES_MAX)
        try:
            async with asyncio.timeout(_HANDSHAKE_TIMEOUT_S):
                hello = session.unpack(await ws.recv())
                if hello.log_id == NO_LOG:
                    await self._answer(ws, session)
                    return
                await self._welcome(ws, session, hello)
            await self._replicate(ws, session, hello)
        except ConnectionClosed as closed:
            logger.info("%s: disconnected: %s", session.peer_id or "a stranger", closed)
        except TimeoutError:
            await self._refuse(ws, session, CloseCode.NO_ANSWER, "no hello in time")
        except (MessageError, RefusedError) as error:
            await self._refuse(ws, session, error.code, error.reason)
        except LSNOutOfRangeError as error:
            await self._refuse(ws, session, CloseCode.BEHIND, str(error))
        except WALStoreError as error:
            logger.error("%s: cannot be served: %s", session.peer_id, error)
            await _close(ws, _INTERNAL_ERROR, str(error))
        finally:
            if self._connections.get(session.peer_id) is ws:
                del self._connections[session.peer_id]

    async def _refuse(
        self, ws: ServerConnection, session: Session, code: CloseCode, reason: str
    ) -> None:
        logger.warning("%s: refused: %s", session.peer_id or "a stranger", reason)
        await _close(ws, code, reason)

    async def _answer(self, ws: ServerConnection, session: Session) -> None:
        log = self._log
        position = log.position()
        hello = Hello(position.last_lsn, log.term_of(position.last_lsn))
        await ws.send(session.pack(hello, position, log.now_ns()))

    async def _welcome(
        self, ws: ServerConnection, session: Session, hello: ReplicationMessage
    ) -> None:
        """Answers the hello of a follower that is one, and keeps it in mind."""
        assert isinstance(hello.body, Hello)
        check_follower(hello, self._log.position(), self._log.term_of)
        before = self._connections.get(session.peer_id)
        if before is None and len(self._connections) >= FOLLOWERS_MAX:
            reason = f"{FOLLOWERS_MAX} followers are connected"
            raise RefusedError(CloseCode.TRY_LATER, reason)
        self._connections[session.peer_id] = ws
        if before is not None:
            await _close(before, CloseCode.REPLACED, f"{session.peer_id} has connected anew")
        await self._answer(ws, session)
        self._on_progress(session.peer_id, hello.body.last_lsn)
        logger.info("%s: follows from lsn %d", session.peer_id, hello.body.last_lsn + 1)

    async def _replicate(
        self, ws: ServerConnection, session: Session, hello: ReplicationMessage
    ) -> None:
        """Streams and hears acks until either ends."""
        assert isinstance(hello.body, Hello)
        tasks = [
            asyncio.create_task(self._stream(ws, session, hello.body.last_lsn + 1)),
            asyncio.create_task(self._hear_acks(ws, session)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _stream(self, ws: ServerConnection, session: Session, next_lsn: int) -> None:
        """Catching up and following live are one loop: it reads the log."""
        log = self._log
        tail = log.tail(next_lsn)
        async for batch in _batches(log, tail):
            await ws.send(session.pack(batch, log.position(), log.now_ns()))
            await asyncio.sleep(0)  # a send that fits the buffer does not let others in

    async def _hear_acks(self, ws: ServerConnection, session: Session) -> None:
        while True:
            message = session.unpack(await ws.recv())
            if not isinstance(message.body, Ack):
                raise MessageError(f"a message of type {message.type.name} from a follower")
            if message.body.durable_lsn > self._log.durable_lsn:
                raise MessageError(
                    f"an ack of lsn {message.body.durable_lsn}, which the leader does not hold"
                )
            self._on_progress(session.peer_id, message.body.durable_lsn)


def _dial(url: str) -> connect:
    return connect(
        url,
        proxy=None,
        compression=None,
        open_timeout=_HANDSHAKE_TIMEOUT_S,
        close_timeout=_CLOSE_TIMEOUT_S,
        ping_interval=_PING_INTERVAL_S,
        ping_timeout=_PING_TIMEOUT_S,
        max_size=MESSAGE_BYTES_MAX,
        max_queue=_QUEUE_FRAMES_MAX,
        user_agent_header=None,
    )


async def ask_log_id(node_id: str, leader_id: str, url: str, timeout_s: float) -> bytes:
    """Asks the leader which log it has, again and again until it answers.

    Raises:
        UnreachableError: it did not, in time.
        MessageError, RefusedError: what answers is not this leader.
    """
    nothing = Position(NO_LOG, 0, 1, 0)
    reason = "no answer"
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    async with _dial(url) as ws:
                        session = Session(node_id, leader_id)
                        await ws.send(session.pack(Hello(0, 0), nothing, 0))
                        return session.unpack(await ws.recv()).log_id
                except ConnectionClosed as closed:
                    refusal = _as_refusal(closed)
                    if isinstance(refusal, RefusedError) and refusal.code.final:
                        raise refusal from closed
                    reason = str(refusal)
                except (InvalidHandshake, OSError) as error:
                    reason = str(error)
                await asyncio.sleep(_BACKOFF_FIRST_S)
    except TimeoutError:
        raise UnreachableError(leader_id, url, timeout_s, reason) from None


class FollowerLink:
    """Connects to the leader, again and again, and appends what it sends.

    Args:
        log: where to append.
        leader_id, url: the leader.
        rng: for the jitter of reconnects.
    """

    def __init__(self, log: ReplicatedLog, leader_id: str, url: str, rng: random.Random) -> None:
        self._log = log
        self._leader_id = leader_id
        self._url = url
        self._rng = rng
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self.connected = False
        self.error: Exception | None = None
        """What ended the replication for good, until a person has acted."""

    async def start(self) -> None:
        """Begins to connect."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Disconnects."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except (ConnectionClosed, InvalidHandshake, OSError, WALStoreError) as error:
                if isinstance(error, WALStoreError) and not _may_pass(error):
                    self._give_up(error, error.hint)
                    return
                logger.info("%s: not connected: %s", self._leader_id, error)
            except Exception as error:
                self._give_up(error, "this is a defect of walstore")
                raise
            await asyncio.sleep(self._backoff_s())

    def _give_up(self, error: Exception, hint: str) -> None:
        self.error = error
        logger.error("%s: replication ends: %s; %s", self._leader_id, error, hint)

    def _backoff_s(self) -> float:
        """Doubles from failure to failure; jitter keeps followers of one leader apart."""
        ceiling_s = min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * float(2 ** min(self._failures, 16)))
        self._failures += 1
        return ceiling_s * self._rng.uniform(0.5, 1.0)

    async def _follow(self) -> None:
        """One connection, from the handshake to its end, which is always an error."""
        async with _dial(self._url) as ws:
            try:
                await self._append_all(ws)
            except ConnectionClosed as closed:
                raise _as_refusal(closed) from closed
            except (MessageError, RefusedError) as error:
                await _close(ws, error.code, error.reason)
                raise
            except asyncio.CancelledError:
                await _close(ws, CloseCode.GOING_AWAY, "the follower is closed")
                raise
            finally:
                self.connected = False

    async def _append_all(self, ws: ClientConnection) -> None:
        log = self._log
        session = Session(log.node_id, self._leader_id)
        async with asyncio.timeout(_HANDSHAKE_TIMEOUT_S):
            await self._greet(ws, session)
        self.connected = True
        self._failures = 0
        while True:
            message = session.unpack(await ws.recv())
            batch = check_entries(message, log.position())
            durable_lsn = await log.apply(batch)
            await ws.send(session.pack(Ack(durable_lsn), log.position(), log.now_ns()))

    async def _greet(self, ws: ClientConnection, session: Session) -> None:
        log = self._log
        await asyncio.to_thread(log.sync)
        position = log.position()
        hello = Hello(position.last_lsn, log.term_of(position.last_lsn))
        await ws.send(session.pack(hello, position, log.now_ns()))
        check_leader(session.unpack(await ws.recv()), position)


def _as_refusal(closed: ConnectionClosed) -> Exception:
    """The leader's reason to close, as the error it stands for."""
    frame = closed.rcvd
    if frame is not None and frame.code >= 4000:
        with contextlib.suppress(ValueError):
            return RefusedError(CloseCode(frame.code), frame.reason)
    return closed


def _may_pass(error: WALStoreError) -> bool:
    """Whether connecting again may help."""
    if isinstance(error, RefusedError):
        return not error.code.final
    return isinstance(error, (MessageError, LogFullError))
