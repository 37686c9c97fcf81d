"""A machine that knows what it was told, and clusters of it in this process."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import xxhash

from tests.raft.elected import Elected
from walstore.cluster import (
    ClusterClient,
    CommandRefusedError,
    MachineHost,
    MachineSnapshots,
)
from walstore.replication import ReplicationWALManager

__all__ = ["Machines", "Registers", "put"]


def put(name: str, key: str, value: Any, **more: Any) -> bytes:
    """A command: sets a key. No two commands have the same name."""
    return json.dumps({"name": name, "key": key, "value": value} | more).encode()


class Registers:
    """Values by key, and how often each command was applied: by its name."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.applied: dict[str, int] = {}

    def apply(self, lsn: int, command: bytes) -> bytes:
        told = json.loads(command)
        if told.get("refuse"):
            raise CommandRefusedError(f"{told['name']} is refused")
        if told.get("broken"):
            raise ZeroDivisionError("a mistake")
        name = told["name"]
        self.applied[name] = self.applied.get(name, 0) + 1
        self.values[told["key"]] = told["value"]
        return json.dumps([lsn, self.applied[name]]).encode() + bytes(told.get("pad", 0))

    def query(self, query: bytes) -> bytes:
        if query == b"applied":
            return json.dumps(self.applied).encode()
        if query == b"digest":
            return self.digest().encode()
        if query == b"large":
            return bytes(1_000_001)
        if query == b"refuse":
            raise CommandRefusedError("it is refused")
        return json.dumps(self.values.get(query.decode())).encode()

    def digest(self) -> str:
        return xxhash.xxh3_128_hexdigest(b"".join(self.snapshot()))

    def snapshot(self) -> Iterable[bytes]:
        return [json.dumps([self.values, self.applied]).encode()]

    def restore(self, data: bytes) -> None:
        self.values, self.applied = json.loads(data)


class Machines(Elected):
    """Nodes that elect, each with Registers."""

    def __init__(self, base: Path, names: str = "abc", **options: Any) -> None:
        self.hosts: dict[str, MachineHost] = {}
        super().__init__(base, names, **options)

    def start(self, name: str, **options: Any) -> ReplicationWALManager:
        """Starts a node, and its host."""
        node = super().start(name, snapshots=MachineSnapshots(self.path(name)), **options)
        self.hosts[name] = MachineHost(node, Registers())
        return node

    def stop(self, name: str) -> None:
        """Stops both."""
        if name in self.hosts:
            self.hosts.pop(name).close()
        super().stop(name)

    def close(self) -> None:
        """Stops everything."""
        with ThreadPoolExecutor(len(self.names)) as pool:
            list(pool.map(MachineHost.close, self.hosts.values()))
        super().close()

    def machine(self, name: str) -> Registers:
        """A node's."""
        machine = self.hosts[name].machine
        assert isinstance(machine, Registers)
        return machine

    @property
    def urls(self) -> dict[str, str]:
        """Of all nodes."""
        return {name: self.url(name) for name in self.names}

    def client(self, **options: Any) -> ClusterClient:
        """A client of all nodes."""
        return ClusterClient(self.urls, **({"timeout_s": 60.0} | options))

    def applied_everywhere(self) -> None:
        """Waits until all nodes have applied what the leader has; their states are the same."""
        lsn = self.level()
        for host in self.hosts.values():
            host.wait_applied(lsn, timeout_s=60.0)
        assert len({self.machine(name).digest() for name in self.hosts}) == 1
