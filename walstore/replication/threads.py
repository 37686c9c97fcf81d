"""The threads of a node's event loop, for what would hold it up: its disk, its application's code,
and looking up names.

Not those that asyncio brings: these refuse all work as soon as the main thread of the program has
returned, while a node that another thread uses has to go on, and where no thread more can be made.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar, TypeVarTuple

__all__ = ["Loop", "Threads"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_THREADS_MAX = 32


class Threads(Executor):
    """Threads that are made when they are needed, and stay; what finds none waits in line.

    Args:
        name: of each.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._line: SimpleQueue[tuple[Future[Any], Callable[[], Any] | None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._unfinished = 0
        self._threads: list[threading.Thread] = []

    def begin(self) -> None:
        """Makes the first thread: from now on all work is done, sooner or later.

        Raises:
            RuntimeError: there can be no thread more.
        """
        with self._lock:
            self._add()

    def submit(self, work: Callable[..., T], /, *arguments: Any, **named: Any) -> Future[T]:
        """Has something done; the future is its outcome.

        Raises:
            RuntimeError: there is no thread, and can be none.
        """
        with self._lock:
            if self._unfinished >= len(self._threads) and len(self._threads) < _THREADS_MAX:
                try:
                    self._add()
                except RuntimeError:  # it waits for those that there are
                    if not self._threads:
                        raise
            self._unfinished += 1
        future: Future[T] = Future()
        self._line.put((future, partial(work, *arguments, **named)))
        return future

    def has_this(self) -> bool:
        """Whether it is one of them that asks."""
        return threading.current_thread() in self._threads

    async def end(self) -> None:
        """Returns when all work is done and no thread is left. Nothing may be submitted any more;
        the loop goes on meanwhile, since the work may wait for it."""
        for end in self._send_away():
            await asyncio.wrap_future(end)
        for thread in self._threads:
            thread.join()

    def dismiss(self) -> None:
        """As `end`, of a loop that has never run: there is no work."""
        self._send_away()
        for thread in self._threads:
            thread.join()

    def _send_away(self) -> list[Future[None]]:
        ends: list[Future[None]] = [Future() for _ in self._threads]
        for end in ends:
            self._line.put((end, None))
        return ends

    def _add(self) -> None:
        # A daemon, as the loop's own thread is: a node that nobody closes must not keep the
        # interpreter from its end, which is no worse for a log than a kill.
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _run(self) -> None:
        while True:
            future, work = self._line.get()
            if work is None:
                future.set_result(None)
                return
            self._do(future, work)
            del future, work  # not kept until there is more

    def _do(self, future: Future[Any], work: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            self._finished()
            return
        try:
            result = work()
        except BaseException as error:  # for those who wait for it
            self._finished()
            future.set_exception(error)
            del future  # which the error's traceback would hold on to
        else:
            self._finished()
            future.set_result(result)

    def _finished(self) -> None:
        """Before it is told: who then has more to do finds this thread free."""
        with self._lock:
            self._unfinished -= 1


class Loop(asyncio.SelectorEventLoop):
    """An event loop with threads of its own, for `asyncio.to_thread` and what is like it.

    Args:
        threads: these.
    """

    def __init__(self, threads: Threads) -> None:
        super().__init__()
        self._threads = threads

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """As in asyncio."""
        return super().run_in_executor(self._threads if executor is None else executor, func, *args)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """As in asyncio, but that all work is waited for, however long it takes: it may be at the
        log that is closed next."""
        await self._threads.end()
