"""Redis: a leader and two replicas, every command synced to its append-only file, then WAIT 1.

Debian's package: redis-server. An append is RPUSH and WAIT in one packet, so one round trip; a
client library would only add to it. Redis 7.0 can wait for a replica's memory, not for its disk.
"""

from __future__ import annotations

import selectors
import shutil
import socket
import time

from bench.replication.cluster import Cluster, Metrics, figures
from bench.replication.processes import free_port, until

OPTIONS = (
    "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", "always",
    "--auto-aof-rewrite-percentage", "0", "--repl-diskless-sync-delay", "0",
    "--repl-disable-tcp-nodelay", "no", "--min-replicas-to-write", "0",
)  # fmt: skip
WAIT = b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n"
INFO = b"*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n"


def rpush(payload: bytes) -> bytes:
    """The command as it goes over the wire."""
    return b"*3\r\n$5\r\nRPUSH\r\n$3\r\nlog\r\n$%d\r\n%s\r\n" % (len(payload), payload)


class Redis(Cluster):
    """Three servers."""

    promise = "on the leader's disk, received by one replica"

    @classmethod
    def missing(cls) -> str:
        return "" if shutil.which("redis-server") else "redis-server is not installed"

    def start(self) -> None:
        ports = [free_port() for _ in range(3)]
        for name, port in zip("abc", ports, strict=True):
            (self.path / name).mkdir()
            command = [
                "redis-server",
                "--port",
                str(port),
                "--dir",
                str(self.path / name),
                *OPTIONS,
            ]
            command += ["--unixsocket", self._socket(name)]
            if name != "a":
                command += ["--replicaof", f"127.0.0.1 {ports[0]}"]
            self.processes.start(name, command)
            until(f"redis {name}", lambda name=name: self._answers(name))  # type: ignore[misc]
        until("replicas", lambda: self._ask("a", INFO).count(b"state=online") == 2)
        # Replicas that have just joined rewrite their files first.
        until("files", lambda: all(self._settled(name) for name in "abc"))

    def _socket(self, name: str) -> str:
        return str(self.path / name / "socket")

    def _connect(self, name: str = "a") -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._socket(name))
        return connection

    def _ask(self, name: str, command: bytes) -> bytes:
        with self._connect(name) as connection:
            connection.sendall(command)
            return connection.recv(1 << 16)

    def _answers(self, name: str) -> bool:
        try:
            return self._ask(name, b"*1\r\n$4\r\nPING\r\n") == b"+PONG\r\n"
        except (FileNotFoundError, ConnectionRefusedError):
            return False

    def _settled(self, name: str) -> bool:
        found = self._ask(name, INFO.replace(b"$11\r\nreplication", b"$11\r\npersistence"))
        return b"aof_rewrite_in_progress:0" in found and b"aof_rewrite_scheduled:0" in found

    def one(self, payload: bytes, seconds: float) -> Metrics:
        return self.many(payload, seconds, 1)

    def many(self, payload: bytes, seconds: float, in_flight: int) -> Metrics:
        command, clock = rpush(payload) + WAIT, time.perf_counter_ns
        selector = selectors.EpollSelector()
        sent, got = dict[socket.socket, int](), dict[socket.socket, bytes]()
        latencies = []
        started = now = clock()
        for _ in range(in_flight):
            connection = self._connect()
            selector.register(connection, selectors.EVENT_READ)
            sent[connection], got[connection] = clock(), b""
            connection.sendall(command)
        while now < started + seconds * 1e9:
            for key, _ in selector.select(1.0):
                connection = key.fileobj  # type: ignore[assignment]
                got[connection] += connection.recv(4096)
                if got[connection].count(b"\r\n") < 2:
                    continue
                if got[connection].endswith(b":0\r\n"):
                    raise RuntimeError("no replica has it")
                now = clock()
                latencies.append(now - sent[connection])
                sent[connection], got[connection] = now, b""
                connection.sendall(command)
        for connection in sent:
            connection.close()
        selector.close()
        return figures(latencies, len(latencies), now - started)
