"""Clusters of machines, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.registers import Registers
from tests.raft.elected import Elected
from tests.replication.nodes import own_threads, until
from walstore.cluster import (
    ClusterClient,
    MachineHost,
    MachineSnapshots,
)
from walstore.replication import ReplicationWALManager

__all__ = ["Machines", "machines"]


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


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Callable[..., Machines]]:
    """Makes clusters; every node is stopped in the end, and nothing of it is left."""
    made: list[Machines] = []

    def make(names: str = "abc", **options: Any) -> Machines:
        made.append(Machines(tmp_path, names, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
    until(lambda: not own_threads(), f"threads are left: {own_threads()}")
