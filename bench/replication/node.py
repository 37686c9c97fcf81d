"""A node of walstore in a process of its own, which does what it is told, line by line, in JSON.

``python -m bench.replication.node OPTIONS``, options of ReplicationWALManager, or of FileWALManager
where there is no ``node_id``. The leader measures itself: that is how an embedded log is used.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from bench.peers.machine import memory_mib
from bench.replication.cluster import Metrics, figures
from walstore import FileWALManager
from walstore.replication import NotLeaderError, ReplicationWALManager

TIMEOUT_S = 600.0
BULK_RECORDS = 64  # of a batch that fills
POLL_S = 0.001


def repeated(call: Callable[[], object], seconds: float) -> tuple[list[int], int]:
    """Calls for so long; returns how long each call took, and all of them."""
    clock, latencies = time.perf_counter_ns, []
    started = now = clock()
    end_ns = started + seconds * 1e9
    while now < end_ns:
        call()
        before, now = now, clock()
        latencies.append(now - before)
    return latencies, now - started


class Node:
    """The log, and the work that may be asked for."""

    def __init__(self, options: dict[str, Any]) -> None:
        # Both take other options, and both are used by what they have in common.
        kind: Any = ReplicationWALManager if "node_id" in options else FileWALManager
        self.log: Any = kind(options.pop("path"), **options)

    def one(self, size: int, seconds: float, acks: str | None = None) -> Metrics:
        """One append after the other."""
        more = {"acks": acks} if acks else {}
        call = partial(self.log.append, b"x" * size, **more)
        latencies, elapsed_ns = repeated(call, seconds)
        return figures(latencies, len(latencies), elapsed_ns)

    def many(self, size: int, seconds: float, in_flight: int) -> Metrics:
        """Appends with so many in flight; each is waited for."""
        submit, payload, clock = self.log.submit, b"x" * size, time.perf_counter_ns
        pending, latencies = deque[tuple[int, Any]](), []
        started = now = clock()
        end_ns = started + seconds * 1e9
        while now < end_ns:
            while len(pending) < in_flight:
                pending.append((clock(), submit(payload)))
            since, commit = pending.popleft()
            commit.wait(TIMEOUT_S)
            now = clock()
            latencies.append(now - since)
        elapsed_ns = now - started
        for _, commit in pending:
            commit.wait(TIMEOUT_S)
        return figures(latencies, len(latencies), elapsed_ns)

    def batches(self, size: int, seconds: float, in_flight: int, batch: int) -> Metrics:
        """Batches by so many threads."""
        call = partial(self.log.append_many, [b"x" * size] * batch)
        with ThreadPoolExecutor(in_flight) as pool:
            runs = [pool.submit(repeated, call, seconds) for _ in range(in_flight)]
            results = [run.result() for run in runs]
        latencies = [each for result in results for each in result[0]]
        return figures(latencies, len(latencies) * batch, max(result[1] for result in results))

    def fill(self, size: int, mib: int) -> Metrics:
        """Appends so many MiB in batches, each confirmed; the memory at its highest meanwhile."""
        payloads = [os.urandom(size)] * BULK_RECORDS
        memory = self.rss()
        started = time.perf_counter()
        for _ in range((mib << 20) // (size * BULK_RECORDS)):
            self.log.append_many(payloads)
            memory = max(memory, self.rss())
        seconds = time.perf_counter() - started
        return {"mib_per_s": mib / seconds, "rss_mib": memory}

    def memory(self) -> Metrics:
        """What the process holds now."""
        return {"rss_mib": self.rss()}

    def rss(self) -> float:
        """What the process holds, in MiB."""
        return memory_mib(os.getpid())["VmRSS"]

    def wait(self, lsn: int) -> Metrics:
        """Waits until the entry is on this node's disk."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.log.durable_lsn < lsn:
            if time.monotonic() > deadline:
                raise TimeoutError(f"durable to {self.log.durable_lsn} of {lsn}")
            time.sleep(0.002)
        return {"lsn": self.log.durable_lsn}

    def last(self) -> Metrics:
        """How far the log goes."""
        return {"lsn": self.log.last_lsn}

    def connected(self) -> Metrics:
        """How many nodes are connected."""
        return {"nodes": len(self.log.connected)}

    def leads(self) -> Metrics:
        """Whether this node has been elected, and all nodes have been added."""
        return {"leads": self.log.role == "leader" and not self.log.status().changing}

    def first_append(self, size: int, dead: str, seconds: float) -> Metrics:
        """When this node, now leading, has appended; 0: another one leads."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            leader = self.log.leader_id
            if leader == self.log.node_id:
                with suppress(NotLeaderError):  # not before its disk says so
                    self.log.append(b"x" * size)
                    return {"at_ns": time.monotonic_ns()}
            elif leader not in (None, dead):
                return {"at_ns": 0}
            time.sleep(POLL_S)
        raise TimeoutError("nobody leads")


def serve(node: object) -> None:
    """Answers each line of the input with one, to its end."""
    print(json.dumps({"ready": 1}), flush=True)
    for line in sys.stdin:
        work, arguments = json.loads(line)
        print(json.dumps(getattr(node, work)(**arguments)), flush=True)


def main() -> None:
    """A node, until its input ends."""
    node = Node(json.loads(sys.argv[1]))
    serve(node)
    node.log.close()


if __name__ == "__main__":
    main()
