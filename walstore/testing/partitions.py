"""Networks that break on demand: between two nodes of yours stands a link that can be cut."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

__all__ = ["Link", "Partitions"]

HOST = "127.0.0.1"
CHUNK_BYTES = 1 << 16


class Link:
    """What one node dials in order to reach another: a port that passes bytes on to its port.

    A cut link closes nothing and loses nothing. Like a cable that was pulled it holds back what is
    sent, which arrives after `heal`, if the two nodes still wait for it.

    Attributes:
        dialer, listener: the names of the two nodes.
        port: where the dialer finds the listener, on 127.0.0.1.
        connections: how many were made through it.
    """

    def __init__(self, partitions: Partitions, dialer: str, listener: str, target: int) -> None:
        self.dialer = dialer
        self.listener = listener
        self.port = 0
        self.connections = 0
        self._partitions = partitions
        self._target = target
        self._to_listener = asyncio.Event()
        self._to_dialer = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where a walstore node dials: a value of `peers`."""
        return f"ws://{HOST}:{self.port}"

    def cut(self, *, to_listener: bool = True, to_dialer: bool = True) -> None:
        """Nothing passes any more in these directions; nobody is told."""
        deaf = " or ".join([self.listener] * to_listener + [self.dialer] * to_dialer)
        self._partitions._note(f"{self.dialer}-{self.listener}: nothing reaches {deaf}")
        self._partitions._call(lambda: self._close_gates(to_listener, to_dialer))

    def heal(self) -> None:
        """Everything passes again, and what was held back first."""
        self._partitions._note(f"{self.dialer}-{self.listener}: healed")
        self._partitions._call(self._open_gates)

    def reset(self) -> None:
        """Ends every connection that is open; new ones are made."""
        self._partitions._note(f"{self.dialer}-{self.listener}: reset")
        self._partitions._call(self._reset)

    # ---- in the thread of the links ----

    def _open_gates(self) -> None:
        self._to_listener.set()
        self._to_dialer.set()

    def _close_gates(self, to_listener: bool, to_dialer: bool) -> None:
        if to_listener:
            self._to_listener.clear()
        if to_dialer:
            self._to_dialer.clear()

    def _reset(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _listen(self) -> asyncio.Server:
        self._open_gates()
        server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with self._partitions._task(), self._end_of(writer):
            await self._to_listener.wait()  # a cut link makes no connection either
            try:
                there, back = await asyncio.open_connection(HOST, self._target)
            except OSError:
                return
            with self._end_of(back):
                try:
                    async with asyncio.TaskGroup() as both:
                        both.create_task(_pass_on(reader, back, self._to_listener))
                        both.create_task(_pass_on(there, writer, self._to_dialer))
                except* OSError:
                    pass  # one of the two has gone

    @contextmanager
    def _end_of(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._writers.add(writer)
        try:
            yield
        finally:
            writer.transport.abort()
            self._writers.discard(writer)


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event
) -> None:
    """One direction, to its end, which the other side is told."""
    while data := await reader.read(CHUNK_BYTES):
        await gate.wait()
        writer.write(data)
        await writer.drain()
    await gate.wait()
    if writer.can_write_eof() and not writer.transport.is_closing():
        writer.write_eof()


class Partitions:
    """Links between nodes on this machine, in a thread of their own.

    Each change is printed with its time, so that a test that fails shows the history.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="partitions")
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._began_s = time.monotonic()
        self.links: list[Link] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def link(self, dialer: str, listener: str, port: int) -> Link:
        """A new link; the dialer uses its port, or url, instead of the listener's own.

        Args:
            dialer, listener: names of yours for the two nodes.
            port: the listener's own, on 127.0.0.1. Nothing has to listen there yet.
        """
        link = Link(self, dialer, listener, port)
        server = asyncio.run_coroutine_threadsafe(link._listen(), self._loop).result()
        self._servers.append(server)
        self.links.append(link)
        return link

    def isolate(self, *names: str) -> None:
        """Nothing passes between these nodes and all others, in either direction."""
        for link in self.links:
            if (link.dialer in names) != (link.listener in names):
                link.cut()

    def heal(self) -> None:
        """Every link passes everything again."""
        for link in self.links:
            link.heal()

    def _note(self, what: str) -> None:
        print(f"partitions: {time.monotonic() - self._began_s:.3f} s: {what}")

    def _call(self, function: Callable[[], Any]) -> None:
        """Calls it in the thread, and waits until it is done."""

        async def call() -> None:
            function()

        asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    @contextmanager
    def _task(self) -> Iterator[None]:
        """What the end waits for."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    async def _end(self) -> None:
        """Every task comes to its end by itself: its connections are closed, its gates open."""
        for server in self._servers:
            server.close()
        while True:
            for link in self.links:
                link._open_gates()
                link._reset()
            await asyncio.sleep(0)  # a connection that was just accepted gets its task
            if not self._tasks:
                return
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
