"""The floor: three processes, one round trip, and syncs of leader and followers at the same time.

The leader sends a record to both followers, writes and syncs its own file, and waits for the first
follower that has written and synced: that is a commit by a majority. Nothing is framed or checked.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from pathlib import Path

from bench.replication.cluster import Cluster, Metrics, figures

FILE_BYTES = 16 << 20
BLOCK_BYTES = 64 << 10
SYNC_EVERY_BYTES = 16 << 20


def zeroed(path: Path) -> int:
    """A file of zeros that are on the disk: writing into it changes no metadata."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    for at in range(0, FILE_BYTES, BLOCK_BYTES):
        os.pwrite(fd, bytes(BLOCK_BYTES), at)
    os.fsync(fd)
    return fd


def receive(connection: socket.socket, size: int) -> bytes:
    """Exactly so many bytes; none when the other end is gone."""
    got = b""
    while len(got) < size:
        more = connection.recv(size - len(got))
        if not more:
            return b""
        got += more
    return got


class Floor(Cluster):
    """Blocking sockets and ``pwrite`` + ``fdatasync`` into files of zeros."""

    promise = "on the disks of two nodes; nothing is framed, checked or recovered"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.followers = list[socket.socket]()

    def start(self) -> None:
        self.fd = zeroed(self.path / "leader")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = str(listener.getsockname()[1])
            for name in ("f1", "f2"):
                self.processes.start(
                    name,
                    [sys.executable, "-m", "bench.replication.floor", port, self.path / name],
                )
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                receive(connection, 1)  # its file is made
                self.followers.append(connection)

    def stop(self) -> None:
        for connection in self.followers:
            connection.close()
        super().stop()

    def one(self, payload: bytes, seconds: float) -> Metrics:
        size = len(payload)
        for connection in self.followers:
            connection.sendall(size.to_bytes(4, "little"))
        acked = {connection: 0 for connection in self.followers}
        latencies, number = [], 0
        started = now = time.perf_counter_ns()
        while now < started + seconds * 1e9:
            number += 1
            for connection in self.followers:
                connection.sendall(payload)
            os.pwrite(self.fd, payload, (number - 1) * size % (FILE_BYTES - size))
            os.fdatasync(self.fd)
            while max(acked.values()) < number:
                for connection in select.select(self.followers, [], [])[0]:
                    acked[connection] += len(connection.recv(4096))
            before, now = now, time.perf_counter_ns()
            latencies.append(now - before)
        return figures(latencies, number, now - started)

    def catch_up(self, mib: int) -> Metrics:
        """Writing the same bytes, with a sync each 16 MiB."""
        block = os.urandom(1 << 20)
        started = time.perf_counter()
        with open(self.path / "bytes", "wb", buffering=0) as file:
            for number in range(mib):
                file.write(block)
                if (number + 1) % (SYNC_EVERY_BYTES >> 20) == 0:
                    os.fdatasync(file.fileno())
            os.fsync(file.fileno())
        return {"mib_per_s": mib / (time.perf_counter() - started)}


def follow(port: int, path: Path) -> None:
    """A follower: writes and syncs each record, then says so with one byte."""
    fd = zeroed(path)
    with socket.create_connection(("127.0.0.1", port)) as leader:
        leader.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        leader.sendall(b"r")
        size, at = int.from_bytes(receive(leader, 4), "little"), 0
        while record := receive(leader, size) if size else b"":
            os.pwrite(fd, record, at % (FILE_BYTES - size))
            at += size
            os.fdatasync(fd)
            leader.sendall(b"a")


if __name__ == "__main__":
    follow(int(sys.argv[1]), Path(sys.argv[2]))
