"""A thread for work that must not hold up an append: sealing full segments, preparing spares."""

from __future__ import annotations

import errno
import logging
import queue
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from walstore.thread import LastingThread

__all__ = ["Housekeeper"]

logger = logging.getLogger("walstore")


class Housekeeper:
    """Runs jobs one after another. The thread starts with the first job.

    Args:
        on_error: told of an exception that a job let out. One that is no OSError and not for lack
            of memory is a defect; it is told as EIO, so that nothing waits for a dead thread.
    """

    def __init__(self, on_error: Callable[[OSError], None]) -> None:
        self._on_error = on_error
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: LastingThread | None = None
        self._ending = False
        self._lock = threading.Lock()

    def add(self, job: Callable[[], None]) -> None:
        """Adds a job. Where no thread can be had for it, it is done here and now."""
        with self._lock:
            if not self._is_ending() and (self._has_thread() or self._start()):
                self._jobs.put(job)
                return
        if self._thread is not threading.current_thread():
            self._join()  # one after another
        self._perform(job)

    def _start(self) -> bool:
        # Known before it runs: who is interrupted here must not leave it behind.
        self._thread = LastingThread(self._run, "walstore-housekeeper")
        with suppress(RuntimeError):  # the limit of threads, or of memory for a stack
            self._thread.start()
        return self._has_thread()  # if not, the next job tries

    def _has_thread(self) -> bool:
        return self._thread is not None and self._thread.begins()

    def _is_ending(self) -> bool:
        """Whether the thread takes no more jobs, be it that the interpreter has stopped it."""
        return self._ending or sys.is_finalizing()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def wait_idle(self) -> None:
        """Returns when all jobs added so far are done."""
        # No count of jobs: a signal between counting one and adding it would spoil it.
        done = threading.Lock()
        done.acquire()
        with self._lock:
            has_turn = self._has_thread() and not self._is_ending()
            if has_turn:
                self._jobs.put(done.release)
        if has_turn:
            done.acquire()
        else:
            self._join()

    def stop(self) -> None:
        """Ends the thread once its jobs are done; what is added from now on is done at once. Who is
        interrupted calls it again."""
        with self._lock:
            self._ending = True
            self._jobs.put(None)
        self._join()

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            self._perform(job)

    def _perform(self, job: Callable[[], None]) -> None:
        try:
            job()
        except OSError as error:
            self._on_error(error)
        except MemoryError as error:
            self._on_error(OSError(errno.ENOMEM, str(error)))
        except Exception as error:
            logger.exception("a defect in walstore, please report it")
            self._on_error(OSError(errno.EIO, str(error)))
