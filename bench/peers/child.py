"""One measurement in a process of its own: ``python -m bench.peers.child ACTION JOB``, JOB in JSON.

The last line of the output is the result, as JSON.  After ``crash`` the process kills itself,
so that its log is left as a killed writer leaves it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.peers import memory, reopening, works
from bench.peers.job import Job, Metrics
from bench.peers.plan import CONTENDERS, ROWS, Settings

WORKS: dict[str, Callable[[Job], Metrics]] = {
    **dict.fromkeys(("append", "threads", "batch", "pipelined", "asyncio"), works.write),
    **dict.fromkeys(("verify", "replay", "random_read"), works.read),
    "reopen": reopening.reopen,
    "memory": memory.memory,
}


def job_from(text: str) -> Job:
    """Decode what ``run.ask`` encodes."""
    fields: dict[str, Any] = json.loads(text)
    return Job(
        row=next(row for row in ROWS if row.name == fields["row"]),
        contender=CONTENDERS[fields["contender"]],
        path=Path(fields["path"]),
        settings=Settings(**fields["settings"]),
        expected=fields["expected"],
    )


def main() -> None:
    """Do what the command line asks for."""
    action, text = sys.argv[1:3]
    job = job_from(text)
    importlib.import_module(job.contender.package)  # before anything is timed
    if action == "memory-worker":
        memory.memory_worker(job)
        return
    work = job.row.work if action == "measure" else action
    metrics = {"build": reopening.build, "crash": reopening.crash, **WORKS}[work](job)
    print(json.dumps(metrics), flush=True)
    if work == "crash":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
