"""Threads: one that is waited for until it has ended, however often that is interrupted; and work
that is done in one of its own."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

__all__ = ["LastingThread", "in_thread"]

Result = TypeVar("Result")


class LastingThread(threading.Thread):
    """A daemon thread whose `start` and `join` may be interrupted, by Ctrl-C, and `join` called
    again. Thread's own then takes the thread for ended while it runs, in Python 3.11 and 3.12.

    Args:
        work: what it does.
        name: of the thread.
    """

    def __init__(self, work: Callable[[], None], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._over = False
        self._gate = threading.Lock()  # an interrupt cannot leave it half-way, as it can an Event
        self._gate.acquire()
        self._decided: dict[str, int] = {}

    def _process(self, process: int) -> int:
        """The process that it works in, or 0: it never will. The first to say so has decided it,
        in one step that no thread and no signal comes into."""
        return self._decided.setdefault("process", process)

    def start(self) -> None:
        """Begins. Who is interrupted has to `join` it: it may run.

        Raises:
            RuntimeError: there can be no thread more, or it was waited for before it had begun.
        """
        super().start()
        if not self._process(os.getpid()):
            raise RuntimeError("cannot start a thread that was waited for before")

    def run(self) -> None:
        """In the thread."""
        try:
            if self._process(os.getpid()):
                self._work()
        finally:
            self._over = True
            self._gate.release()

    def begins(self) -> bool:
        """Whether it has begun, or is certain to. If not, as where `start` was interrupted before
        there was a thread, it never does any work from now on."""
        return self._process(0) != 0

    def join(self, timeout: float | None = None) -> None:
        """Returns when the thread has ended, or after `timeout` seconds. At once where it does not
        begin, see `begins`; in the child of a fork, which has no such thread; and at the end of the
        interpreter, which has stopped its daemon threads wherever they were.

        Raises:
            RuntimeError: called in the thread itself.
        """
        if self is threading.current_thread():
            raise RuntimeError("cannot join current thread")
        if sys.is_finalizing() or self._process(0) != os.getpid():
            return
        if timeout is None:
            with self._gate:
                pass
        elif self._gate.acquire(timeout=timeout):
            self._gate.release()
        if self._over:
            super().join(timeout)


def in_thread(work: Callable[[], Result], name: str) -> Future[Result]:
    """Does it in a thread, also when the main thread has ended, after which pools take nothing. It
    cannot be cancelled. Where the stack has no room to start it, it is never begun.

    Raises:
        RuntimeError: there can be no thread more.
    """
    done: Future[Result] = Future()
    done.set_running_or_notify_cancel()
    wanted, go = False, threading.Lock()

    def run() -> None:
        with go:
            if not wanted:
                return
        try:
            result = work()
        except BaseException as error:  # raised again by who asks for the result
            done.set_exception(error)
        else:
            done.set_result(result)

    with go:
        threading.Thread(target=run, name=name).start()
        wanted = True
    return done
