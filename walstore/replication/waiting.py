"""Waiting for acknowledgments that the log's own group commit does not know of."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

__all__ = ["Deadlines", "Waiters"]


@dataclass(frozen=True, slots=True)
class _Waiter:
    lsn: int
    reached: Callable[[], int]
    future: Future[None]


class Waiters:
    """Who waits for which lsn. `add` may be called in any thread, the rest in one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: list[_Waiter] = []
        self._error: Exception | None = None

    def __bool__(self) -> bool:
        return bool(self._waiters)

    def add(self, lsn: int, reached: Callable[[], int]) -> Future[None]:
        """A future that the first `look` settles for which `reached()` is at least `lsn`; failed
        at once after `fail`."""
        future: Future[None] = Future()
        with self._lock:
            if self._error is None:
                self._waiters.append(_Waiter(lsn, reached, future))
            else:
                future.set_exception(self._error)
        return future

    def look(self) -> None:
        """Something was acknowledged."""
        with self._lock:
            waiters, self._waiters = self._waiters, []
        kept = []
        for waiter in waiters:
            if waiter.future.done():  # nobody waits any more
                continue
            if waiter.reached() >= waiter.lsn:
                if waiter.future.set_running_or_notify_cancel():
                    waiter.future.set_result(None)
            else:
                kept.append(waiter)
        with self._lock:
            self._waiters += kept

    def fail(self, error: Exception) -> None:
        """Nothing more will be acknowledged here."""
        with self._lock:
            self._error = error
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.future.set_running_or_notify_cancel():
                waiter.future.set_exception(error)


class Deadlines:
    """Fails futures of one event loop that are not done in time. One timer serves them all, since
    they are added in the order in which they are due.

    Args:
        loop: theirs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[float, asyncio.Future[None], Callable[[], Exception]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(
        self, future: asyncio.Future[None], timeout_s: float, error: Callable[[], Exception]
    ) -> None:
        """Fails the future with `error()` unless it is done within the time."""
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()
        waiting.append((self._loop.time() + timeout_s, future, error))
        if self._timer is None:
            self._timer = self._loop.call_at(waiting[0][0], self._on_timer)

    def _on_timer(self) -> None:
        waiting, now_s = self._waiting, self._loop.time()
        while waiting and (waiting[0][1].done() or waiting[0][0] <= now_s):
            _, future, error = waiting.popleft()
            if not future.done():
                future.set_exception(error())
        self._timer = self._loop.call_at(waiting[0][0], self._on_timer) if waiting else None
