"""A node of PySyncObj in a process of its own: ``python -m bench.replication.pysyncobj_node
OPTIONS``. It does what it is told, line by line, in JSON, as node.py does."""

from __future__ import annotations

import importlib
import json
import sys
import threading
import time
from functools import partial
from typing import Any

from bench.replication.cluster import Metrics, figures
from bench.replication.node import POLL_S, TIMEOUT_S, repeated, serve

ELECTION_S = 1.0  # as walstore's and etcd's default
HEARTBEAT_S = 0.1
RECONNECT_S = 0.1


def make_log(options: dict[str, Any]) -> Any:
    """An object whose only method counts what is appended."""
    module: Any = importlib.import_module("pysyncobj")

    class Log(module.SyncObj):  # type: ignore[misc]
        """Replicated."""

        entries = 0

        @module.replicated  # type: ignore[untyped-decorator]
        def append(self, payload: bytes) -> int:
            self.entries += 1
            return self.entries

    configuration = module.SyncObjConf(
        raftMinTimeout=ELECTION_S,
        raftMaxTimeout=2 * ELECTION_S,
        appendEntriesPeriod=HEARTBEAT_S,
        connectionRetryTime=RECONNECT_S,
        journalFile=f"{options['path']}.journal",
    )
    return Log(options["own"], options["others"], configuration)


class Node:
    """The work that may be asked for."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.log = make_log(options)

    def leads(self) -> Metrics:
        """Whether this node leads."""
        return {"leads": self.log.isReady() and self.log._isLeader()}

    def connected(self) -> Metrics:
        """How many nodes are connected."""
        status = self.log.getStatus()
        prefix = "partner_node_status_server_"
        return {"nodes": sum(status[key] == 2 for key in status if key.startswith(prefix))}

    def one(self, size: int, seconds: float) -> Metrics:
        """One append after the other."""
        call = partial(self.log.append, b"x" * size, sync=True, timeout=TIMEOUT_S)
        latencies, elapsed_ns = repeated(call, seconds)
        return figures(latencies, len(latencies), elapsed_ns)

    def many(self, size: int, seconds: float, in_flight: int) -> Metrics:
        """Appends with so many in flight."""
        payload, clock, latencies = b"x" * size, time.perf_counter_ns, list[int]()
        room = threading.Semaphore(in_flight)

        def done(since: int, _: object, error: int) -> None:
            if error == 0:
                latencies.append(clock() - since)
            room.release()

        started = now = clock()
        while now < started + seconds * 1e9:
            room.acquire()
            now = clock()
            self.log.append(payload, callback=partial(done, now))
        return figures(latencies, len(latencies), now - started)

    def first_append(self, size: int, dead: str, seconds: float) -> Metrics:
        """When this node, now leading, has appended; 0: another one leads."""
        end_s = time.monotonic() + seconds
        gone = self.log._getLeader()
        while time.monotonic() < end_s:
            leader = self.log._getLeader()
            if leader == self.log.selfNode:
                self.log.append(b"x" * size, sync=True, timeout=TIMEOUT_S)
                return {"at_ns": time.monotonic_ns()}
            if leader is not None and leader != gone:
                return {"at_ns": 0}
            time.sleep(POLL_S)
        raise TimeoutError("nobody leads")

    def last(self) -> Metrics:
        """How many entries there are."""
        return {"lsn": self.log.entries}

    def wait(self, lsn: int) -> Metrics:
        """Waits until so many entries are here."""
        while self.log.entries < lsn:
            time.sleep(POLL_S)
        return {"lsn": self.log.entries}


def main() -> None:
    """Answers each line with one; ends at the end of the input."""
    node = Node(json.loads(sys.argv[1]))
    serve(node)
    node.log.destroy()


if __name__ == "__main__":
    main()
