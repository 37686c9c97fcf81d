"""Threads: one that is waited for until it has ended, however often that is interrupted; and work
that is done in one of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

__all__ = ["LastingThread", "in_thread"]

Result = TypeVar("Result")


class LastingThread(threading.Thread):
    """A daemon thread whose `join` may be interrupted, by Ctrl-C, and called again. Thread's own
    then takes the thread for ended while it runs, in Python 3.11 and 3.12.

    Args:
        work: what it does.
        name: of the thread.
    """

    def __init__(self, work: Callable[[], None], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._over = threading.Event()
        self._starter = 0  # the process that has started it

    def start(self) -> None:
        """Begins. Who is interrupted has to `join` it: it may run.

        Raises:
            RuntimeError: there can be no thread more.
        """
        self._starter = os.getpid()
        try:
            super().start()
        except RuntimeError:
            self._starter = 0
            raise

    def run(self) -> None:
        """In the thread."""
        try:
            self._work()
        finally:
            self._over.set()

    def join(self, timeout: float | None = None) -> None:
        """Returns when the thread has ended, or after `timeout` seconds; at once where it was not
        started, or in the parent of a process that was made by fork.

        Raises:
            RuntimeError: called in the thread itself.
        """
        if self is threading.current_thread():
            raise RuntimeError("cannot join current thread")
        if self._starter == os.getpid() and self._over.wait(timeout):
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
