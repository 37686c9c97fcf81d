"""A thread for work that must not hold up an append: sealing full segments, preparing spares."""

from __future__ import annotations

import errno
import logging
import queue
import threading
from collections.abc import Callable

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
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def add(self, job: Callable[[], None]) -> None:
        """Adds a job. Where no thread can be had for it, it is done here and now."""
        with self._lock:
            started = self._thread is not None or self._start()
        if started:
            self._jobs.put(job)
        else:
            self._perform(job)

    def _start(self) -> bool:
        thread = threading.Thread(target=self._run, name="walstore-housekeeper", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the limit of threads, or of memory for a stack; the next job tries
            return False
        self._thread = thread
        return True

    def wait_idle(self) -> None:
        """Returns when all jobs added so far are done."""
        if self._thread is not None:
            # No count of jobs: a signal between counting one and adding it would spoil it.
            done = threading.Event()
            self._jobs.put(done.set)
            done.wait()

    def stop(self) -> None:
        """Ends the thread once its jobs are done."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

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
