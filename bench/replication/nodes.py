"""walstore: a leader and two followers, each a process; and a log that is not replicated."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from bench.replication.cluster import BATCH, BATCHES_IN_FLIGHT, Cluster, Metrics
from bench.replication.node import TIMEOUT_S
from bench.replication.processes import free_port, until

NAMES = ("n1", "n2", "n3")
LEADER, SECOND, THIRD = NAMES
ENTRY_BYTES = 1 << 10
SLOW_S = 0.05  # a slow follower stands still for so long, and works for as long


class Walstore(Cluster):
    """Three nodes, acks="quorum"."""

    promise = "on the disks of two nodes"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        self.ports = {name: free_port() for name in NAMES}
        for name in NAMES:
            self.launch(name)
            self.answer(name)  # it is ready
        self.until_connected()

    def stop(self) -> None:
        self.processes.stop_all(signal.SIGKILL)

    def options(self, name: str) -> dict[str, Any]:
        """What a node is made with."""
        urls = {each: f"ws://127.0.0.1:{port}" for each, port in self.ports.items()}
        return {
            "node_id": name,
            "listen": f"127.0.0.1:{self.ports[name]}",
            "peers": {each: url for each, url in urls.items() if each != name},
            "role": "leader" if name == LEADER else "follower",
        }

    def launch(self, name: str) -> None:
        """Starts a node; its first line of output says that it is ready."""
        options = json.dumps({"path": str(self.path / name), **self.options(name)})
        self.running[name] = self.processes.start(f"node-{name}", self.command(options))

    def command(self, options: str) -> list[str]:
        """What runs a node."""
        return [sys.executable, "-m", "bench.replication.node", options]

    def until_connected(self) -> None:
        until("followers", lambda: self.ask(LEADER, "connected")["nodes"] == len(NAMES) - 1)

    def tell(self, name: str, work: str, **arguments: Any) -> None:
        """Has a node begin some work."""
        pipe = self.running[name].stdin
        assert pipe is not None
        pipe.write(json.dumps([work, arguments]).encode() + b"\n")
        pipe.flush()

    def answer(self, name: str) -> Metrics:
        """Waits until it is done."""
        pipe = self.running[name].stdout
        assert pipe is not None
        line = pipe.readline() if select.select([pipe], [], [], TIMEOUT_S)[0] else b""
        if not line:
            log = (self.path / f"node-{name}.log").read_text(errors="replace").strip()
            raise RuntimeError(f"{name}: {log[-300:] or 'silent'}")
        found: Metrics = json.loads(line)
        return found

    def ask(self, name: str, work: str, **arguments: Any) -> Metrics:
        self.tell(name, work, **arguments)
        return self.answer(name)

    def one(self, payload: bytes, seconds: float) -> Metrics:
        return self.ask(LEADER, "one", size=len(payload), seconds=seconds)

    def asynchronous(self, payload: bytes, seconds: float) -> Metrics:
        return self.ask(LEADER, "one", size=len(payload), seconds=seconds, acks="async")

    def many(self, payload: bytes, seconds: float, in_flight: int) -> Metrics:
        arguments = {"size": len(payload), "seconds": seconds, "in_flight": in_flight}
        return self.ask(LEADER, "many", **arguments)

    def batches(self, payload: bytes, seconds: float) -> Metrics:
        arguments = {"size": len(payload), "seconds": seconds, "in_flight": BATCHES_IN_FLIGHT}
        return self.ask(LEADER, "batches", batch=BATCH, **arguments)

    def catch_up(self, mib: int) -> Metrics:
        self.processes.stop(f"node-{THIRD}", signal.SIGKILL)
        self.ask(LEADER, "fill", size=ENTRY_BYTES, mib=mib)
        end = self.ask(LEADER, "last")["lsn"]
        started = time.perf_counter()
        self.launch(THIRD)
        self.answer(THIRD)
        self.ask(THIRD, "wait", lsn=end)
        return {"mib_per_s": mib / (time.perf_counter() - started)}

    def stopped(self, mib: int) -> Metrics:
        before = self.ask(LEADER, "memory")["rss_mib"]
        together = self.ask(LEADER, "fill", size=ENTRY_BYTES, mib=mib)
        self.processes.send(f"node-{THIRD}", signal.SIGSTOP)
        without = self.ask(LEADER, "fill", size=ENTRY_BYTES, mib=mib)
        return {
            "mib_per_s": without["mib_per_s"],
            "growth_mib": without["rss_mib"] - before,
            "ratio": without["mib_per_s"] / together["mib_per_s"],
        }

    def disturbed(self, payload: bytes, seconds: float, mib: int) -> Metrics:
        alone = self.one(payload, seconds)
        with self.slow(THIRD):
            slow = self.one(payload, seconds)
        self.processes.stop(f"node-{THIRD}", signal.SIGKILL)
        self.ask(LEADER, "fill", size=ENTRY_BYTES, mib=mib)
        self.launch(THIRD)
        self.answer(THIRD)
        beside = self.one(payload, seconds)
        return {
            "p99_us": alone["p99_us"],
            "slow_ratio": slow["p99_us"] / alone["p99_us"],
            "catch_up_ratio": beside["p99_us"] / alone["p99_us"],
        }

    @contextmanager
    def slow(self, name: str) -> Iterator[None]:
        """Stops a node for half of the time."""
        done = Event()

        def disturb() -> None:
            while not done.is_set():
                for what in (signal.SIGSTOP, signal.SIGCONT):
                    self.processes.send(f"node-{name}", what)
                    done.wait(SLOW_S)
            self.processes.send(f"node-{name}", signal.SIGCONT)

        thread = Thread(target=disturb)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


class Plain(Walstore):
    """One FileWALManager."""

    promise = "on the disk of its one node"

    def start(self) -> None:
        self.launch(LEADER)
        self.answer(LEADER)

    def options(self, name: str) -> dict[str, Any]:
        return {}

    def asynchronous(self, payload: bytes, seconds: float) -> Metrics:
        return self.ask(LEADER, "one", size=len(payload), seconds=seconds)
