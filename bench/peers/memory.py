"""How much memory a process takes while it writes and replays a log far bigger than that."""

from __future__ import annotations

import select
import subprocess
import sys
import time

from bench.peers import machine
from bench.peers.job import Job, Metrics, append_mib, require

SAMPLE_EVERY_S = 0.005


def memory(job: Job) -> Metrics:
    """Sample the memory of a process of its own that writes a big log and then replays it."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "bench.peers.child", "memory-worker", sys.argv[2]],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    peaks: dict[str, dict[str, float]] = {}
    phase = "start"
    try:
        while True:
            if select.select([worker.stdout], [], [], SAMPLE_EVERY_S)[0]:
                phase = worker.stdout.readline().strip()
                if phase in ("done", ""):
                    break
            peak = peaks.setdefault(phase, {})
            for key, mib in machine.memory_mib(worker.pid).items():
                peak[key] = max(mib, peak.get(key, 0.0))
    finally:
        worker.stdout.close()
        code = worker.wait()
    require(code == 0, f"the process that writes ended with {code}")
    base, wrote, replayed = peaks["baseline"], peaks["write"], peaks["replay"]
    return {
        "baseline_rss_mib": base["VmRSS"],
        "write_rss_growth_mib": wrote["VmRSS"] - base["VmRSS"],
        "replay_rss_growth_mib": replayed["VmRSS"] - base["VmRSS"],
        "write_anon_growth_mib": wrote["RssAnon"] - base["RssAnon"],
        "replay_anon_growth_mib": replayed["RssAnon"] - base["RssAnon"],
    }


def memory_worker(job: Job) -> None:
    """Write and replay a big log, and tell the parent before each phase."""
    store = job.open()
    written = append_mib(store, job.row.payload_bytes, 1)  # caches and buffers exist from here on
    sum(1 for _ in store.replay())
    print("baseline", flush=True)
    time.sleep(0.1)
    print("write", flush=True)
    written += append_mib(store, job.row.payload_bytes, job.settings.big_mib)
    print("replay", flush=True)
    replayed = sum(1 for _ in store.replay())
    require(replayed == written, f"replayed {replayed} records of {written}")
    print("done", flush=True)
    store.close()
