"""A thread that is waited for until it has ended, however often that is interrupted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

__all__ = ["LastingThread"]


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
