"""A proxy between two nodes that understands WebSocket frames (RFC 6455, 5.2).

    with Proxy(port) as proxy:
        ... connect to proxy.port ...
        proxy.to_listener.drop = True       # a partition of one way
        proxy.cut()                         # both connections of every pair are reset

It runs in a thread of its own; rules may be changed from anywhere at any time, and hold from the
next frame on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

__all__ = ["Frame", "Proxy", "Rules", "frame_bytes"]

_HOST = "127.0.0.1"
_BINARY = 0x82


class Frame(NamedTuple):
    """One frame, unmasked."""

    first_byte: int
    mask: bytes
    payload: bytes

    @property
    def is_data(self) -> bool:
        """Whether it is a whole binary message."""
        return self.first_byte == _BINARY


def _masked(payload: bytes, mask: bytes) -> bytes:
    if not mask or not payload:
        return payload
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    number = int.from_bytes(payload, "little") ^ int.from_bytes(repeated, "little")
    return number.to_bytes(len(payload), "little")


def frame_bytes(frame: Frame) -> bytes:
    """A frame as it goes over the wire."""
    size = len(frame.payload)
    flag = 0x80 if frame.mask else 0
    if size < 126:
        head = bytes([frame.first_byte, flag | size])
    elif size < 1 << 16:
        head = bytes([frame.first_byte, flag | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([frame.first_byte, flag | 127]) + size.to_bytes(8, "big")
    return head + frame.mask + _masked(frame.payload, frame.mask)


@dataclass
class Rules:
    """What happens to the frames of one direction.

    Attributes:
        drop: they vanish.
        delay_s: each one waits, in order.
        change: makes another frame of each, or None to drop it.
        frames: what came, before any rule.
    """

    drop: bool = False
    delay_s: float = 0.0
    change: Callable[[Frame], Frame | None] | None = None
    frames: list[Frame] = field(default_factory=list)


class Proxy:
    """Listens on a port of its own and connects each dialer with a listener's port.

    Attributes:
        port: where to dial.
        to_listener, to_dialer: rules of the two directions.
        refuse: new connections are closed at once.
        connections: how many were made.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy")
        self._started = threading.Event()
        self._stopping = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._pairs: set[asyncio.Task[None]] = set()
        self.port = 0
        self.to_listener = Rules()
        self.to_dialer = Rules()
        self.refuse = False
        self.connections = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    @property
    def url(self) -> str:
        """Where to dial."""
        return f"ws://{_HOST}:{self.port}"

    def cut(self) -> None:
        """Resets every connection."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        server = await asyncio.start_server(self._accept, _HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stopping.wait()
        server.close()
        self._cut()
        await asyncio.gather(*self._pairs, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.refuse:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._pairs.add(task)
        self._writers.add(writer)
        try:
            there, back = await asyncio.open_connection(_HOST, self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(back)
        try:
            await asyncio.gather(
                self._pump(reader, back, self.to_listener),
                self._pump(there, writer, self.to_dialer),
            )
        finally:
            for end in (writer, back):
                end.transport.abort()
                self._writers.discard(end)
            self._pairs.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rules: Rules
    ) -> None:
        """Passes one direction on until it ends, which it tells the other side."""
        try:
            writer.write(await reader.readuntil(b"\r\n\r\n"))
            while True:
                frame = await _read_frame(reader)
                rules.frames.append(frame)
                if rules.delay_s:
                    await asyncio.sleep(rules.delay_s)
                passed = frame if rules.change is None else rules.change(frame)
                if passed is not None and not rules.drop:
                    writer.write(frame_bytes(passed))
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            if writer.can_write_eof() and not writer.transport.is_closing():
                with suppress(OSError):  # the other side has gone, too
                    writer.write_eof()


async def _read_frame(reader: asyncio.StreamReader) -> Frame:
    first_byte, second = await reader.readexactly(2)
    size = second & 0x7F
    if size >= 126:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
    mask = await reader.readexactly(4) if second & 0x80 else b""
    return Frame(first_byte, mask, _masked(await reader.readexactly(size), mask))
