"""etcd: three members; every Put is on the disks of two before it is answered.

Debian's package: etcd-server. Asked over gRPC with messages made here: a PutRequest is two fields.
"""

from __future__ import annotations

import asyncio
import importlib
import shutil
import signal
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from itertools import cycle
from pathlib import Path
from typing import Any

from bench.replication.cluster import Cluster, Metrics, figures
from bench.replication.elected import failovers
from bench.replication.processes import free_port, missing_package, until

METHOD = "/etcdserverpb.KV/Put"
TRY_S = 0.05
NAMES = ("a", "b", "c")


def field(number: int, data: bytes) -> bytes:
    """A field of bytes, shorter than 128 KiB, as protobuf encodes it."""
    size = len(data)
    length = [size] if size < 128 else [size & 127 | 128, size >> 7]
    return bytes([number << 3 | 2, *length]) + data


class Etcd(Cluster):
    """Three members, asked at the leader or not: a follower passes a Put on."""

    promise = "on the disks of two nodes"

    @classmethod
    def missing(cls) -> str:
        if not shutil.which("etcd"):
            return "etcd is not installed"
        return missing_package("grpc")

    def start(self) -> None:
        clients = self.clients = {name: f"http://127.0.0.1:{free_port()}" for name in NAMES}
        self.commands: dict[str, list[str | Path]] = {}
        peers = {name: f"http://127.0.0.1:{free_port()}" for name in NAMES}
        members = ",".join(f"{name}={url}" for name, url in peers.items())
        for name in NAMES:
            self.commands[name] = [
                "etcd", "--name", name, "--data-dir", self.path / name,
                "--listen-client-urls", clients[name],
                "--advertise-client-urls", clients[name],
                "--listen-peer-urls", peers[name],
                "--initial-advertise-peer-urls", peers[name],
                "--initial-cluster", members, "--log-level", "error",
                "--heartbeat-interval", "100", "--election-timeout", "1000",
            ]  # fmt: skip
            self.processes.start(name, self.commands[name])
        self._find_leader()

    def _find_leader(self) -> None:
        until("etcd", lambda: all(healthy(url) for url in self.clients.values()))
        until("etcd's leader", lambda: any(self._leads(name) for name in NAMES))

    def _leads(self, name: str) -> bool:
        url = self.clients[name]
        with urllib.request.urlopen(f"{url}/metrics", timeout=2) as answer:
            if b"\netcd_server_is_leader 1" not in answer.read():
                return False
        self.leader, self.target = name, url.removeprefix("http://")
        return True

    def one(self, payload: bytes, seconds: float) -> Metrics:
        grpc: Any = importlib.import_module("grpc")
        latencies: list[int] = []
        with grpc.insecure_channel(self.target) as channel:
            put = channel.unary_unary(METHOD)
            put(field(1, b"warm") + field(2, payload), timeout=10)
            started = now = time.perf_counter_ns()
            while now < started + seconds * 1e9:
                put(field(1, b"%d" % len(latencies)) + field(2, payload), timeout=10)
                before, now = now, time.perf_counter_ns()
                latencies.append(now - before)
        return figures(latencies, len(latencies), now - started)

    def many(self, payload: bytes, seconds: float, in_flight: int) -> Metrics:
        aio: Any = importlib.import_module("grpc.aio")

        async def client(put: Any, number: int, end_ns: float, latencies: list[int]) -> None:
            before = time.perf_counter_ns()
            while before < end_ns:
                key = b"%d-%d" % (number, len(latencies))
                await put(field(1, key) + field(2, payload), timeout=10)
                now = time.perf_counter_ns()
                latencies.append(now - before)
                before = now

        async def work() -> Metrics:
            latencies: list[int] = []
            async with aio.insecure_channel(self.target) as channel:
                put = channel.unary_unary(METHOD)
                await put(field(1, b"warm") + field(2, payload), timeout=10)
                started = time.perf_counter_ns()
                end_ns = started + seconds * 1e9
                clients = (client(put, i, end_ns, latencies) for i in range(in_flight))
                await asyncio.gather(*clients)
                return figures(latencies, len(latencies), time.perf_counter_ns() - started)

        return asyncio.run(work())

    def failover(self, payload: bytes, kills: int) -> Metrics:
        times_ms = []
        for number in range(kills):
            dead = self.leader
            others = [url for name, url in self.clients.items() if name != dead]
            killed = time.monotonic()
            self.processes.stop(dead, signal.SIGKILL)
            put_somewhere(others, field(1, b"%d" % number) + field(2, payload))
            times_ms.append((time.monotonic() - killed) * 1000)
            self.processes.start(dead, self.commands[dead])
            self._find_leader()
        return failovers(times_ms)

    def idle(self, seconds: float) -> Metrics:
        return self.processes.idle(NAMES, seconds)


def put_somewhere(urls: Sequence[str], request: bytes) -> None:
    """Returns when a member has taken it: asks one after the other, none for long."""
    grpc: Any = importlib.import_module("grpc")
    with ExitStack() as channels:
        puts = [
            channels.enter_context(grpc.insecure_channel(url.removeprefix("http://"))).unary_unary(
                METHOD
            )
            for url in urls
        ]
        for put in cycle(puts):
            with suppress(grpc.RpcError):
                put(request, timeout=TRY_S)
                return


def healthy(url: str) -> bool:
    """Whether a member answers and knows a leader."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return b'"true"' in answer.read()
    except OSError:
        return False
