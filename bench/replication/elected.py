"""walstore whose nodes elect their leader: three of them, or five."""

from __future__ import annotations

import signal
import statistics
import time
from typing import Any

from bench.replication.cluster import Metrics
from bench.replication.nodes import NAMES, Walstore
from bench.replication.processes import free_port, until

FIVE = (*NAMES, "n4", "n5")
FAILOVER_S = 30.0


class Elected(Walstore):
    """Three nodes."""

    promise = "on the disks of two nodes, whose leader is elected"
    names: tuple[str, ...] = NAMES

    def start(self) -> None:
        self.ports = {name: free_port() for name in self.names}
        for name in self.names:
            self.launch(name)
        for name in self.names:
            self.answer(name)
        self.find_leader()

    def options(self, name: str) -> dict[str, Any]:
        without_role = super().options(name)
        del without_role["role"]
        return without_role | {"election": "raft"}

    def find_leader(self) -> None:
        """Waits until one leads, and has all others."""

        def leads() -> bool:
            for name in self.names:
                if self.ask(name, "leads")["leads"]:
                    self.leader = name
                    return self.ask(name, "connected")["nodes"] == len(self.names) - 1
            return False

        until("a leader", leads)

    def one(self, payload: bytes, seconds: float) -> Metrics:
        return self.ask(self.leader, "one", size=len(payload), seconds=seconds)

    def many(self, payload: bytes, seconds: float, in_flight: int) -> Metrics:
        arguments = {"size": len(payload), "seconds": seconds, "in_flight": in_flight}
        return self.ask(self.leader, "many", **arguments)

    def failover(self, payload: bytes, kills: int) -> Metrics:
        times_ms = []
        for _ in range(kills):
            dead = self.leader
            others = [name for name in self.names if name != dead]
            killed_ns = time.monotonic_ns()
            self.processes.stop(f"node-{dead}", signal.SIGKILL)
            for name in others:
                self.tell(name, "first_append", size=len(payload), dead=dead, seconds=FAILOVER_S)
            at_ns = max(self.answer(name)["at_ns"] for name in others)
            times_ms.append((at_ns - killed_ns) / 1e6)
            self.launch(dead)
            self.answer(dead)
            self.find_leader()
            self.ask(dead, "wait", lsn=self.ask(self.leader, "last")["lsn"])
        return failovers(times_ms)

    def idle(self, seconds: float) -> Metrics:
        return self.processes.idle([f"node-{name}" for name in self.names], seconds)


class ElectedFive(Elected):
    """Five nodes."""

    promise = "on the disks of three nodes of five, whose leader is elected"
    names = FIVE


def failovers(times_ms: list[float]) -> Metrics:
    """How long nothing was committed, from the kill on."""
    return {"failover_ms": statistics.median(times_ms), "failover_max_ms": max(times_ms)}
