"""Waiting for acknowledgments that the log's own group commit does not know of."""

from __future__ import annotations

import asyncio
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
    """Who waits for which lsn; all calls come from one thread, the futures may be waited for in
    any."""

    def __init__(self) -> None:
        self._waiters: list[_Waiter] = []

    def __bool__(self) -> bool:
        return bool(self._waiters)

    def add(self, lsn: int, reached: Callable[[], int], future: Future[None]) -> None:
        """Settles the future once `reached()` is at least `lsn`; at once where it is."""
        self._waiters.append(_Waiter(lsn, reached, future))
        self.look()

    def look(self) -> None:
        """Something was acknowledged."""
        kept = []
        for waiter in self._waiters:
            if waiter.future.done():  # nobody waits any more
                continue
            if waiter.reached() >= waiter.lsn:
                if waiter.future.set_running_or_notify_cancel():
                    waiter.future.set_result(None)
            else:
                kept.append(waiter)
        self._waiters = kept

    def fail(self, error: Exception) -> None:
        """Nothing more will be acknowledged here."""
        for waiter in self._waiters:
            if waiter.future.set_running_or_notify_cancel():
                waiter.future.set_exception(error)
        self._waiters.clear()


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
