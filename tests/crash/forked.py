"""A workload in a child process, whose marks come through a pipe that outlives it."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import traceback
from collections.abc import Callable

from .session import Session
from .workloads import target_named

HANG_S = 30
PIPE_BYTES = 1 << 16  # what a pipe holds: one read takes all of it


class Forked:
    """Runs `run` in a child until it ends, or is ended. Forks: make it without other threads.

    Args:
        seed: for the workload's random numbers.
        tolerant: the workload goes on after errors that a fault explains.
        hang_s: the child ends itself after so long.
    """

    def __init__(
        self,
        run: Callable[[Session], None],
        target: str,
        root: str,
        seed: str,
        *,
        tolerant: bool = False,
        hang_s: int = HANG_S,
    ) -> None:
        self._fd, writing = os.pipe()
        self._partial = b""
        self.status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            signal.alarm(hang_s)
            os.close(self._fd)
            _child(run, target, root, random.Random(seed), writing, tolerant)
        os.close(writing)

    def read(self) -> list[bytes]:
        """Waits for marks. None come any more when the child has ended."""
        while chunk := os.read(self._fd, PIPE_BYTES):
            *marks, self._partial = (self._partial + chunk).split(b"\n")
            if marks:
                return marks
        return []

    def drain(self) -> list[bytes]:
        """The marks that are there now, without waiting: all that were made before this call."""
        os.set_blocking(self._fd, False)
        try:
            data = self._partial + os.read(self._fd, PIPE_BYTES)
        except BlockingIOError:
            return []
        finally:
            os.set_blocking(self._fd, True)
        *marks, self._partial = data.split(b"\n")
        return marks

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> list[bytes]:
        """Waits for the child's end; returns the marks that were left."""
        marks = []
        while more := self.read():
            marks += more
        os.close(self._fd)
        _, self.status = os.waitpid(self.pid, 0)
        return marks

    @property
    def trouble(self) -> str:
        """What is wrong with how an ended child that was killed had ended."""
        status = self.status
        if status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            return ""
        return f"the writer ended by itself, with status {status}"


def _child(
    run: Callable[[Session], None],
    target: str,
    root: str,
    rng: random.Random,
    pipe: int,
    tolerant: bool,
) -> None:
    """Never returns."""
    lock = threading.Lock()

    def emit(mark: bytes) -> None:
        with lock:
            data = mark + b"\n"
            while data:
                data = data[os.write(pipe, data) :]

    status = 1
    try:
        run(Session(target_named(target), root, rng, emit, tolerant=tolerant))
        status = 0
    except BaseException:
        emit(json.dumps({"t": "note", "error": traceback.format_exc()[-1500:]}).encode())
    finally:
        os._exit(status)
