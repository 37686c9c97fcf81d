"""A thread with an event loop of its own, for the network of a log that is used from threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, wait
from typing import Any, Protocol, TypeVar

from walstore.errors import ClosedLogError, OptionError, WALStoreError
from walstore.replication.threads import Loop, Threads
from walstore.thread import LastingThread

__all__ = ["Background", "LoopCalls", "Service"]

T = TypeVar("T")

_LOOK_S = 0.2


class Service(Protocol):
    """What runs in the loop."""

    async def start(self) -> None:
        """Begins; returns when it has begun."""

    async def stop(self) -> None:
        """Ends, also what has begun only in part; returns when it has ended."""


class Background:
    """Runs a service until it is stopped.

    Args:
        service: what to run.
        name: of the thread.
    """

    def __init__(self, service: Service, name: str) -> None:
        self._service = service
        self._thread = LastingThread(self._run, name)
        self._started = threading.Event()
        self._stopping = asyncio.Event()
        self._threads = Threads(f"{name}-work")
        self._runner = asyncio.Runner(loop_factory=lambda: Loop(self._threads))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._error: BaseException | None = None

    def start(self) -> None:
        """Returns when the service has begun, or raises what kept it from doing so. Who is
        interrupted has to `stop` it."""
        # Before the thread: `stop` needs it amid all of this. In an empty context: the service is
        # not part of what the caller is at, whose variables would be the service's for good.
        self._loop = contextvars.Context().run(self._runner.get_loop)
        try:
            self._threads.begin()
            self._thread.start()
        except RuntimeError:  # there can be no thread more
            self._drop(self._loop)
            raise
        self._started.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def stop(self) -> None:
        """Returns when the service has ended and the thread is gone, also where it has not begun
        yet. Who is interrupted calls it again.

        Raises:
            OptionError: called in one of the service's own threads, for which it would wait.
        """
        if threading.current_thread() is self._thread or self._threads.has_this():
            raise _waits_for_itself()
        if self._loop is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        if not self._thread.begins():  # who started it was interrupted before there was a thread
            self._drop(self._loop)

    def _drop(self, loop: asyncio.AbstractEventLoop) -> None:
        """A loop that never runs; its runner would run it to close it, which it cannot amid another
        one."""
        self._threads.dismiss()
        loop.close()

    def _run(self) -> None:
        with self._runner:
            self._runner.run(self._main())

    async def _main(self) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        starting = asyncio.create_task(self._service.start())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        starting.cancel()  # where it is to stop before it has begun
        try:
            await starting
        except (Exception, asyncio.CancelledError) as error:
            self._error = error  # first: that it began in part must not be hidden by its stop
            await self._service.stop()
            return
        finally:
            self._started.set()
        await stopping
        await self._service.stop()


class LoopCalls:
    """Has things done in the loop of a service, from any thread.

    Args:
        path: of the log, for errors.
        check_owner: raises ClosedLogError in a forked child, which has no such loop.

    Attributes:
        loop: the service's; to be set when it begins.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(self, path: str, check_owner: Callable[[], None]) -> None:
        self._path = path
        self._check_owner = check_owner

    def post(self, work: Callable[[], object]) -> None:
        """Has something done in the loop.

        Raises:
            ClosedLogError
        """
        self._check_owner()
        try:
            self.loop.call_soon_threadsafe(work)
        except RuntimeError:
            raise self.closed() from None

    def call(self, work: Callable[[], T]) -> T:
        """What `work` returns, or raises, in the loop."""
        if self.is_here():
            return work()

        async def run() -> T:
            return work()

        return self.wait_for(run())

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns, or raises, in the loop.

        Raises:
            OptionError: called in the loop's own thread, which would wait for itself.
            ClosedLogError
        """
        try:
            self.check_elsewhere()
            self._check_owner()
            future = asyncio.run_coroutine_threadsafe(work, self.loop)
        except RuntimeError:
            work.close()
            raise self.closed() from None
        except WALStoreError:
            work.close()
            raise
        # Not result(_LOOK_S): its TimeoutError could not be told from the coroutine's own.
        while not wait([future], _LOOK_S).done:
            if self.loop.is_closed() and not future.done():  # before it had its turn
                work.close()
                raise self.closed()
        try:
            return future.result()
        except CancelledError:
            raise self.closed() from None

    def is_here(self) -> bool:
        """Whether this is the loop's own thread, which must not wait for what only it can do."""
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    def check_elsewhere(self) -> None:
        """Raises OptionError in the loop's own thread."""
        if self.is_here():
            raise _waits_for_itself()

    def closed(self) -> ClosedLogError:
        """What to raise when the node is closed."""
        return ClosedLogError(f"{self._path} is closed")


def _waits_for_itself() -> OptionError:
    return OptionError("a callback of the node's cannot wait for the node: use a thread")
