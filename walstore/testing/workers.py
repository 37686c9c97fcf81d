"""Worker processes: modules that run under the shim."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from walstore.testing.shim import environment

# Files in a worker's scratch folder.
CURRENT, OUTPUT, ERRORS = "current", "stdout", "stderr"


def scratch_folder() -> str:
    """A place for states: in memory, where possible, as they are recovered by the thousand."""
    memory = "/dev/shm"
    return tempfile.mkdtemp(
        prefix="walstore-lab-", dir=memory if os.access(memory, os.W_OK) else None
    )


def disk_folder() -> str:
    """A place for what is recorded: on a real filesystem, whose calls take their time and fail."""
    return tempfile.mkdtemp(prefix="walstore-recorded-")


def start(
    module: str,
    argument: str,
    scratch: str,
    *,
    preload: bool = True,
    mounts: bool = False,
) -> subprocess.Popen[str]:
    """A module in a process of its own, under the shim. Files take its output: a pipe that nobody
    reads yet would stop it. Its `mounts` are its own, and end with it."""
    apart = ["unshare", "--mount", "--propagation", "private"] if mounts else []
    command = [*apart, sys.executable, "-X", "faulthandler", "-m", module, argument]
    with open(Path(scratch, OUTPUT), "w") as output, open(Path(scratch, ERRORS), "w") as errors:
        return subprocess.Popen(
            command, env=environment(preload=preload), stdout=output, stderr=errors, text=True
        )


def finish(process: subprocess.Popen[str], timeout_s: float, scratch: str) -> dict[str, Any]:
    """Waits for a worker; its last line is its result. A worker that hangs or dies is an error."""
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler shows where it hangs
        process.wait()
        raise AssertionError(f"a worker hangs ({doing(scratch)}") from None
    if process.returncode:
        raise AssertionError(f"a worker ended with {process.returncode} ({doing(scratch)}")
    result: dict[str, Any] = json.loads(Path(scratch, OUTPUT).read_text().splitlines()[-1])
    return result


def finish_all(
    running: Sequence[tuple[str, subprocess.Popen[str]]], timeout_s: float
) -> list[dict[str, Any]]:
    """The results of workers, each with its scratch folder. Leaves none of them running."""
    try:
        return [finish(process, timeout_s, scratch) for scratch, process in running]
    finally:
        for _, process in running:
            if process.poll() is None:
                process.kill()
                process.wait()


def doing(scratch: str) -> str:
    """What the worker of this scratch folder was at."""
    current = Path(scratch, CURRENT)
    errors = Path(scratch, ERRORS).read_text(errors="replace")
    at = current.read_text() if current.exists() else "its start"
    return f"at {at}; see {scratch}):\n{errors[-4000:]}"


def hush() -> None:
    """Thousands of torn tails are cut in a worker: each would be told on stderr."""
    logging.getLogger("walstore").addHandler(logging.NullHandler())


def now(scratch: str, what: str) -> None:
    """Notes what this worker is at, for the case that it hangs or dies."""
    Path(scratch, CURRENT).write_text(what)
