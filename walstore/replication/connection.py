"""One connection: WebSocket frames (RFC 6455) and messages on an asyncio transport.

The frames are those of the library's sans-IO layer. On top of its asyncio layer every message would
cost a task switch and a write of its own; here what arrives together is handled in one turn of the
loop, and what is sent in one turn leaves in one write.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol, cast

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from walstore.replication.errors import CloseCode, MessageError, RefusedError
from walstore.replication.handshake import Dialer, Listener, Session
from walstore.replication.message import (
    CONTROL_BYTES_MAX,
    MESSAGE_BYTES,
    MESSAGE_BYTES_MAX,
    Body,
    Heartbeat,
    ReplicationMessage,
    SnapshotPart,
    WalEntry,
)
from walstore.replication.metrics import PeerCounters
from walstore.replication.options import NetworkOptions
from walstore.replication.requests import ClientRequest, ClientResponse, is_client_id
from walstore.replication.security import certificate_names

__all__ = ["ABNORMAL", "Connection", "Owner"]

logger = logging.getLogger("walstore.replication")
_frames_logger = logging.getLogger("walstore.replication.frames")
_frames_logger.setLevel(logging.WARNING)  # the library's: it would log what the frames hold

ABNORMAL = 1006
"""Close code of a connection that ended without one (RFC 6455, 7.4.1)."""

_INTERNAL_ERROR = 1011
_REASON_BYTES_MAX = 123  # RFC 6455, 5.5: a control frame carries 125 bytes, two are the code
_STRANGER_BYTES_MAX = 4 * CONTROL_BYTES_MAX  # the request, HELLO and PROOF, frames included
_UNSENT_BYTES = MESSAGE_BYTES // 2
_INBOX_BYTES_MAX = MESSAGE_BYTES_MAX
_CONTROL_QUEUE_MAX = 4096
_UNREAD_BYTES_MAX = 4 * MESSAGE_BYTES_MAX
# What waits for the kernel beyond this pauses writing: 0 would do so always with TLS.
_PAUSE_BYTES = 1
_SENT = 64  # bytes that a message takes in the queue beside its bulk


class Owner(Protocol):
    """What a connection asks of the network that it belongs to."""

    def now(self) -> tuple[int, int]:
        """The node's term, and the wall clock in nanoseconds."""

    def take_flush(self, connection: Connection) -> bool:
        """Takes it over to flush the connection soon; False: it has to do that itself."""

    def check_admission(self, connection: Connection) -> None:
        """The other end has proven who it is; it is not told yet that it is let in.

        Raises:
            RefusedError: it is not let in.
        """

    def admit(self, connection: Connection) -> None:
        """Both ends know each other. Follows `check_admission` in the same turn of the loop."""

    def deliver(
        self, connection: Connection, message: ReplicationMessage
    ) -> Awaitable[None] | None:
        """A message has come. What is returned is awaited before the next one is delivered."""

    def requested(self, connection: Connection, request: ClientRequest) -> None:
        """A client asks for something."""

    def roomy(self, connection: Connection) -> None:
        """The queue has room again after it was full."""

    def lost(self, connection: Connection) -> None:
        """The connection has ended."""


def _bulk_bytes(body: Body) -> int | None:
    """What a body takes in the queue of bulk; None for those that pass it by.

    A WAL_ENTRY without records belongs in it, too: it means the entries before it.
    """
    if isinstance(body, (ClientRequest, ClientResponse)):
        return _SENT + len(body.data) if body.data else None
    if isinstance(body, WalEntry):
        return _SENT + len(body.records)
    if isinstance(body, SnapshotPart):
        return _SENT + len(body.data)
    return None


class Connection(asyncio.Protocol):
    """One end of a connection, from the first byte to the last.

    Args:
        owner: the network.
        options: of the network.
        shake: this end of the handshake.
        url: where it goes to; None for one that came in.

    Attributes:
        peer_id: the node at the other end; empty until that is known.
        counters: of the peer; the network gives it the peer's own when it admits the connection.
        close_code, close_reason: why it ended.
        connected_since_ns: wall clock at the end of the handshake.
        consumer: delivers what has come while a delivery is awaited; outlives the connection until
            that has ended.
        ready: the handshake, or the connection, has ended.
        ended: the connection has ended.
    """

    def __init__(
        self, owner: Owner, options: NetworkOptions, shake: Dialer | Listener, url: str | None
    ) -> None:
        self._owner = owner
        self._options = options
        self._shake = shake
        self._loop = asyncio.get_running_loop()
        self._ws: ClientProtocol | ServerProtocol
        if url is not None:
            uri = parse_uri(url)
            self._ws = ClientProtocol(uri, max_size=MESSAGE_BYTES_MAX, logger=_frames_logger)
        else:
            self._ws = ServerProtocol(
                origins=[None],  # no browser
                max_size=MESSAGE_BYTES_MAX,
                logger=_frames_logger,
            )
        self._transport: asyncio.Transport | None = None
        # Each with the term it was meant in: the node's may be another one when it leaves.
        self._control: deque[tuple[int, Body]] = deque()
        self._bulk: deque[tuple[int, Body]] = deque()
        self._inbox: deque[ReplicationMessage] = deque()
        self._inbox_bytes = 0
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._write_paused = False
        self._read_paused = False
        self._flush_due = False
        self._in_burst = False
        self._was_full = False
        self._closing = False
        self._end_due = False
        self._stranger_bytes = 0
        self._heard_at_s = 0.0
        self._asked_ns = 0
        self._rates_from = (0.0, 0, 0)
        self._roomy = asyncio.Event()
        self._roomy.set()
        self.session: Session | None = None
        self.peer_id = ""
        self.counters = PeerCounters()
        self.queued_bytes = 0
        self.consumer: asyncio.Task[None] | None = None
        self.close_code: int = ABNORMAL
        self.close_reason = "connection lost"
        self.connected_since_ns: int | None = None
        self.ended = asyncio.Event()
        self.ready = asyncio.Event()

    @property
    def dialed(self) -> bool:
        """Whether this node opened it."""
        return isinstance(self._shake, Dialer)

    @property
    def closing(self) -> bool:
        """Whether it is about to end."""
        return self._closing

    # ---- transport ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins the handshake."""
        transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._transport = transport
        # What the transport and the kernel hold can no longer be overtaken.
        transport.set_write_buffer_limits(high=_PAUSE_BYTES, low=0)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            accepted = transport.get_extra_info("socket")
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        self._heard_at_s = self._loop.time()
        self._after("handshake", self._options.handshake_timeout_ms, self._too_slow)
        if isinstance(self._ws, ClientProtocol):
            assert isinstance(self._shake, Dialer)
            try:
                self._check_certificate(self._shake.peer_id)
            except RefusedError as error:
                self.refuse(error.code, error.reason)
                return
            self._ws.send_request(self._ws.connect())
            self._write()

    def data_received(self, data: bytes) -> None:
        """Handles what arrived, then sends what came of it."""
        self._heard_at_s = self._loop.time()
        self.counters.bytes_received += len(data)
        if self.session is None:
            self._stranger_bytes += len(data)
            if self._stranger_bytes > _STRANGER_BYTES_MAX:
                self.refuse(CloseCode.TOO_BIG, "too many bytes before the handshake has ended")
        self._in_burst = True
        try:
            self._ws.receive_data(data)
            for event in self._ws.events_received():
                if not self._closing:
                    self._handle(event)
        finally:
            self._in_burst = False
        self._check_frames()
        self._flush()

    def eof_received(self) -> None:
        """The peer sends no more: the transport closes itself. Nothing can be said any more."""
        self._ws.receive_eof()
        self._note_end(None)
        self._after("close", self._options.close_timeout_ms, self.abort)
        self._write()

    def pause_writing(self) -> None:
        """The kernel takes no more for now."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """The kernel takes more."""
        self._write_paused = False
        if self._end_due and self._transport is not None:
            # Not now: the transport, whose write this ends, would end the stream once more, and
            # that raises where the peer has ended its own.
            self._loop.call_soon(self._write_end, self._transport)
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        """Tidies up."""
        self._note_end(error)
        for timer in self._timers.values():
            timer.cancel()
        self._control.clear()
        self._bulk.clear()
        self._inbox.clear()
        self.queued_bytes = 0
        self._roomy.set()
        self.ended.set()
        self.ready.set()
        self._owner.lost(self)

    def _note_end(self, error: Exception | None) -> None:
        closed = self._ws.close_rcvd
        if not self._closing:
            self._closing = True
            if closed is not None:
                self.close_code, self.close_reason = closed.code, closed.reason
            elif error is not None:
                self.close_reason = str(error)

    # ---- what arrives ----

    def _handle(self, event: Request | Response | Frame) -> None:
        try:
            if isinstance(event, Request):
                assert isinstance(self._ws, ServerProtocol)
                self._ws.send_response(self._ws.accept(event))
            elif isinstance(event, Response):
                if self._ws.state is State.OPEN:  # or it leaves, as it said in the same burst
                    assert isinstance(self._shake, Dialer)
                    self._ws.send_binary(self._shake.hello())
            else:
                self._handle_frame(event)
        except (MessageError, RefusedError) as error:
            self.refuse(error.code, error.reason)

    def _handle_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.BINARY and frame.fin:
            if self.session is not None:
                message = self.session.open(memoryview(frame.data))
                self._check_role(self.session, message)
                self._take(message, len(frame.data))
            else:
                self._take_handshake(frame.data)
        elif frame.opcode is Opcode.TEXT:
            raise MessageError("a text message; this protocol is binary", CloseCode.NOT_BINARY)
        elif frame.opcode in (Opcode.BINARY, Opcode.CONT):
            raise MessageError("a message in fragments")

    def _check_frames(self) -> None:
        """What the library refused, or heard the end of."""
        closed, error = self._ws.close_rcvd, self._ws.handshake_exc or self._ws.parser_exc
        if self._closing or (closed is None and error is None):
            return
        self._note_end(error)
        if closed is None:
            sent = self._ws.close_sent
            self.close_code = ABNORMAL if sent is None else sent.code
            self._count_refusal(self.close_code, self.close_reason)
        self._after("close", self._options.close_timeout_ms, self.abort)

    def _take_handshake(self, data: bytes | bytearray | memoryview) -> None:
        shake = self._shake
        view = memoryview(data)
        if isinstance(shake, Dialer):
            answer = shake.receive(view, *self._owner.now())
        else:
            answer = shake.receive(view)
        leaves = self._ws.state is not State.OPEN  # as it said in the same burst
        if answer is not None and not leaves:
            self._ws.send_binary(answer)
        if shake.session is None or (leaves and isinstance(shake, Listener)):
            return
        if isinstance(shake, Listener):
            self._check_certificate(shake.session.peer_id)
        self.peer_id = shake.session.peer_id
        self._owner.check_admission(self)
        if isinstance(shake, Listener):
            # Before anything that the network sends when it takes the connection in.
            self._ws.send_binary(shake.welcome(*self._owner.now()))
        self.session = shake.session
        self._timers.pop("handshake").cancel()
        self.connected_since_ns = self._owner.now()[1]
        self._owner.admit(self)
        if not self._closing:
            self._beat()
        self.ready.set()

    def _check_certificate(self, peer_id: str) -> None:
        assert self._transport is not None
        tls_object: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        if tls_object is not None and peer_id not in certificate_names(tls_object):
            reason = f"the certificate is not of {peer_id}"
            raise RefusedError(CloseCode.WRONG_NODE, reason)

    def _check_role(self, session: Session, message: ReplicationMessage) -> None:
        """Clients send requests and nodes answer them; neither is ever taken for the other."""
        body = message.body
        if isinstance(body, Heartbeat):
            return
        from_client = is_client_id(session.peer_id)
        to_client = is_client_id(session.node_id)
        if (
            isinstance(body, ClientRequest) != from_client
            or isinstance(body, ClientResponse) != to_client
        ):
            who = "client" if from_client else "node"
            raise MessageError(f"a {message.type.name} of a {who}")

    def _take(self, message: ReplicationMessage, size: int) -> None:
        self.counters.messages_received += 1
        if isinstance(message.body, Heartbeat):
            self._take_heartbeat(message.body)
        elif isinstance(message.body, ClientRequest):
            self._owner.requested(self, message.body)
        elif self.consumer is not None:
            self._inbox.append(message)
            self._inbox_bytes += size
            if self._inbox_bytes > _INBOX_BYTES_MAX and not self._read_paused:
                assert self._transport is not None
                self._read_paused = True
                self._transport.pause_reading()
        else:
            waiting = self._owner.deliver(self, message)
            if waiting is not None:
                self.consumer = self._loop.create_task(self._consume(waiting))

    async def _consume(self, waiting: Awaitable[None]) -> None:
        """Delivers one message after the other, until none is left."""
        try:
            await waiting
            while self._inbox:
                message = self._inbox.popleft()
                again = self._owner.deliver(self, message)
                if again is not None:
                    await again
        except (MessageError, RefusedError) as error:
            self.refuse(error.code, error.reason)
        except Exception:
            self.refuse(_INTERNAL_ERROR, "internal error")
            raise
        finally:
            self.consumer = None
            self._inbox_bytes = 0
            self._resume_reading()

    def _resume_reading(self) -> None:
        if self._read_paused and self._transport is not None:
            self._read_paused = False
            self._heard_at_s = self._loop.time()
            if not self._transport.is_closing():
                self._transport.resume_reading()

    # ---- signs of life ----

    def _take_heartbeat(self, heartbeat: Heartbeat) -> None:
        now_ns = time.monotonic_ns()
        if heartbeat.echo_ns == 0:
            self.send(Heartbeat(now_ns, heartbeat.sent_ns))
        elif heartbeat.echo_ns == self._asked_ns:
            self._asked_ns = 0
            self.counters.round_trips.add(now_ns - heartbeat.echo_ns)

    def _beat(self) -> None:
        now_s = self._loop.time()
        silent_s = now_s - self._heard_at_s
        # Who does not listen hears nothing: that is not the peer's fault.
        if not self._read_paused and silent_s * 1000 >= self._options.silence_ms:
            self.refuse(CloseCode.NO_ANSWER, f"silent for {silent_s:.1f} s")
            return
        self._measure(now_s)
        if self._asked_ns == 0 or silent_s * 1000 >= self._options.heartbeat_ms:
            self._asked_ns = time.monotonic_ns()
            self.send(Heartbeat(self._asked_ns, 0))
        self._after("heartbeat", self._options.heartbeat_ms, self._beat)

    def _measure(self, now_s: float) -> None:
        counters = self.counters
        from_s, sent, received = self._rates_from
        if from_s:
            counters.sent_bytes_per_s = (counters.bytes_sent - sent) / (now_s - from_s)
            counters.received_bytes_per_s = (counters.bytes_received - received) / (now_s - from_s)
        self._rates_from = (now_s, counters.bytes_sent, counters.bytes_received)

    def _too_slow(self) -> None:
        self.refuse(CloseCode.NO_ANSWER, "no handshake in time")

    def _after(self, name: str, delay_ms: int, what: Callable[[], None]) -> None:
        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = self._loop.call_later(delay_ms / 1000, what)

    # ---- what leaves ----

    def send(self, body: Body) -> bool:
        """Queues a body; it leaves with the others of this burst, of this hold of the network, or
        of this turn of the loop.

        Returns:
            False where the connection is not there, or the queue has no room for the bulk.
        """
        if self.session is None or self._closing:
            return False
        size = _bulk_bytes(body)
        term = self._owner.now()[0]
        if size is None:
            self._control.append((term, body))
            if len(self._control) > _CONTROL_QUEUE_MAX:
                self.refuse(CloseCode.NO_ANSWER, "it does not read what it is sent")
                return False
        elif self.queued_bytes and self.queued_bytes + size > self._options.queue_bytes:
            self._was_full = True
            self._roomy.clear()
            return False
        else:
            self._bulk.append((term, body))
            self.queued_bytes += size
        if not (self._in_burst or self._owner.take_flush(self)):
            self._flush_later()
        return True

    async def drained(self) -> None:
        """Waits until a queue that was full is half empty, or the connection has ended."""
        await (self.ended if self._closing else self._roomy).wait()

    def _flush_later(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def flush(self) -> None:
        """Sends what is queued; in a burst, its end does."""
        if not self._in_burst:
            self._flush()

    def _flush(self) -> None:
        """Control messages first, then as much bulk as one large message.

        The rest waits for the next turn of the loop, or until the kernel takes more: what is to
        overtake it still can, and other connections have their turn.
        """
        self._flush_due = False
        if self._sends():
            now_ns = self._owner.now()[1]
            while self._control:
                self._seal(*self._control.popleft(), now_ns)
            size = 0
            while self._bulk and size < MESSAGE_BYTES:
                term, body = self._bulk.popleft()
                self._seal(term, body, now_ns)
                size += _bulk_bytes(body) or 0
            self.queued_bytes -= size
        self._write()
        if self._bulk and self._sends():
            self._flush_later()
        if self._was_full and self.queued_bytes <= self._options.queue_bytes // 2:
            self._was_full = False
            self._roomy.set()
            self._owner.roomy(self)

    def _sends(self) -> bool:
        """Whether messages can leave. Between the peer's end and the loss of the connection there
        may be a turn of the loop, in which what is queued stays."""
        open_still = self._ws.state is State.OPEN and not self._closing
        return self.session is not None and open_still and not self._write_paused

    def _seal(self, term: int, body: Body, now_ns: int) -> None:
        assert self.session is not None
        self._ws.send_binary(self.session.seal(body, term, now_ns))
        self.counters.messages_sent += 1

    def _write(self) -> None:
        """One write for all frames that are ready."""
        transport = self._transport
        writes = self._ws.data_to_send()
        if not writes or transport is None:
            return
        ending = writes[-1] == b""
        data = writes[0] if len(writes) == 1 else b"".join(writes)
        if data and not transport.is_closing():
            transport.write(data)
            self.counters.bytes_sent += len(data)
        if transport.get_write_buffer_size() > _UNREAD_BYTES_MAX:
            self.abort()
        elif ending:
            self._write_end(transport)

    def _write_end(self, transport: asyncio.Transport) -> None:
        """No more bytes follow. Called again when the kernel has those before: asyncio's own way to
        wait for that raises when the peer is gone by then."""
        if not transport.can_write_eof():
            transport.close()
            return
        self._end_due = transport.get_write_buffer_size() > _PAUSE_BYTES
        if self._end_due:
            return
        try:
            transport.write_eof()
        except OSError:  # the peer has reset it since the last write
            transport.abort()

    # ---- the end ----

    def close(self, code: int, reason: str) -> None:
        """Says why, and ends; what is still queued is dropped."""
        if self._closing:
            return
        self._closing = True
        self.close_code, self.close_reason = code, reason
        if self._transport is None or self._ws.state is not State.OPEN:
            self.abort()
            return
        text = reason.encode()[:_REASON_BYTES_MAX].decode(errors="ignore")
        if code in (CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.REPLACED):
            self._ws.send_close(code, text)
        else:
            self._ws.fail(code, text)  # nothing that it sends is looked at any more
        self._after("close", self._options.close_timeout_ms, self.abort)
        self._resume_reading()
        self._write()

    def refuse(self, code: int, reason: str) -> None:
        """Closes because of something that the peer did, or did not do."""
        if not self._closing:
            self._count_refusal(code, reason)
            self.close(code, reason)

    def _count_refusal(self, code: int, reason: str) -> None:
        name = CloseCode(code).name if code in set(CloseCode) else str(code)
        self.counters.refused[name] += 1
        logger.warning(
            "%s: refused: %s",
            self.peer_id or "a stranger",
            reason,
            extra={"node": self.peer_id, "code": int(code)},
        )

    def abort(self) -> None:
        """Ends at once."""
        if self._transport is not None:
            self._transport.abort()
