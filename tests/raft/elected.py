"""Clusters that elect, in this process, and what their clients have seen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.helpers import contents
from tests.replication.nodes import WAIT_S, Cluster, until
from walstore import ClosedLogError, EntryTruncatedError, WALEntry
from walstore.replication import (
    NotLeaderError,
    ReplicationTimeoutError,
    ReplicationWALManager,
    TooFewNodesError,
)
from walstore.testing.partitions import Partitions
from walstore.wal.record import CONFIGURATION, DATA, TERM


class Elected(Cluster):
    """Nodes that elect.

    Args:
        partitions: between any two nodes there is a link of these.
    """

    def __init__(
        self,
        base: Path,
        names: str = "abc",
        *,
        partitions: Partitions | None = None,
        **options: Any,
    ) -> None:
        fields: dict[str, Any] = {"election": "raft"} | options
        super().__init__(base, names, **fields)
        self._links: dict[tuple[str, str], str] = {}
        if partitions is not None:
            self._links = {
                (dialer, name): partitions.link(dialer, name, self.ports[name]).url
                for dialer in names
                for name in names
                if dialer != name
            }

    def url(self, name: str, dialer: str = "") -> str:
        """Where a node is reached, by another one."""
        return self._links.get((dialer, name)) or super().url(name, dialer)

    def begin(self, names: str = "") -> ReplicationWALManager:
        """Starts nodes at the same time; returns the one that leads then."""
        names = names or self.names
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(self.start, names))
        until(lambda: not self.leader(names).status().changing, "all voters are there")
        return self.leader(names)

    def leader(self, names: Iterable[str] = "") -> ReplicationWALManager:
        """Waits until one of these nodes leads, and can tell that it does."""
        found: list[ReplicationWALManager] = []

        def leads() -> bool:
            for name in names or list(self.nodes):
                try:
                    self[name].linearizable_lsn(timeout_s=1.0)
                except (NotLeaderError, ReplicationTimeoutError):
                    continue
                found.append(self[name])
            return bool(found)

        until(leads, "a node leads")
        return found[0]

    def level(self, *names: str) -> int:
        """Waits until these nodes show all that their leader has; returns the last lsn."""
        lsn = self.leader(names).last_lsn
        for name in names or tuple(self.nodes):
            self[name].wait_committed(lsn, timeout_s=WAIT_S)
        return lsn

    def assert_equal(self, *names: str) -> list[WALEntry]:
        """As Cluster.assert_equal; while nodes are stopped others may still begin to lead, so that
        behind the last lsn there may be entries of that kind."""
        names = names or tuple(self.nodes)
        lsn = self.level(*names)
        self.close()
        first, *others = (_parted(contents(self.path(name)), lsn) for name in names)
        for name, other in zip(names[1:], others, strict=True):
            common = max(first[0].lsn, other[0].lsn)
            held = [entry for entry in other if entry.lsn >= common]
            assert held == [entry for entry in first if entry.lsn >= common], (names[0], name)
        return first

    def others(self, leader: ReplicationWALManager) -> list[ReplicationWALManager]:
        """The nodes that run besides."""
        return [node for node in self.nodes.values() if node is not leader]


def _parted(entries: list[WALEntry], lsn: int) -> list[WALEntry]:
    """Those up to an lsn; only leaderships begin behind it."""
    assert entries[-1].lsn >= lsn
    assert all(entry.kind == TERM for entry in entries if entry.lsn > lsn)
    return [entry for entry in entries if entry.lsn <= lsn]


@dataclass
class Client:
    """Appends a value after another, each once, to whoever leads.

    Attributes:
        acked: (lsn, value) of each append that returned.
        refused: values that are in no log.
        unknown: values that may be.
    """

    nodes: Callable[[], Iterable[ReplicationWALManager]]
    name: str
    timeout_s: float = 1.0
    acked: list[tuple[int, bytes]] = field(default_factory=list)
    refused: set[bytes] = field(default_factory=set)
    unknown: set[bytes] = field(default_factory=set)

    def run(self, ended: threading.Event) -> None:
        """Until told to end."""
        number = 0
        while not ended.is_set():
            for node in list(self.nodes()):
                number += 1
                if not self.append(node, f"{self.name}-{number}".encode()):
                    ended.wait(0.005)

    def append(self, node: ReplicationWALManager, value: bytes) -> bool:
        """Whether the append returned."""
        try:
            self.acked.append((node.append(value, timeout_s=self.timeout_s), value))
        except (NotLeaderError, EntryTruncatedError, TooFewNodesError):
            self.refused.add(value)
        except (ReplicationTimeoutError, ClosedLogError):
            self.unknown.add(value)
        else:
            return True
        return False


class Clients:
    """Some of them, each in a thread of its own, while the block lasts."""

    def __init__(self, cluster: Elected, count: int = 2, names: str = "") -> None:
        def nodes() -> list[ReplicationWALManager]:
            return [
                node for name, node in list(cluster.nodes.items()) if name in names or not names
            ]

        self.all = [Client(nodes, f"client{number}") for number in range(count)]
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=client.run, args=(self._ended,)) for client in self.all
        ]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def acked(self) -> int:
        """How many appends returned so far."""
        return sum(len(client.acked) for client in self.all)

    def go_on(self, entries: int) -> None:
        """Waits until so many more returned."""
        wanted = self.acked + entries
        until(lambda: self.acked >= wanted, f"{entries} more entries are acked")

    def assert_kept(self, entries: list[WALEntry]) -> None:
        """Nothing acked is lost, nothing is there twice, what was refused is not there, and each
        client's entries are in its order."""
        at = {entry.payload: entry.lsn for entry in entries if entry.kind == DATA}
        assert len(at) == sum(entry.kind == DATA for entry in entries), "an entry is there twice"
        for client in self.all:
            lost = [(lsn, value) for lsn, value in client.acked if at.get(value) != lsn]
            assert not lost, (client.name, lost[:5])
            assert not client.refused & at.keys(), client.name
            lsns = [lsn for lsn, _ in client.acked]
            assert lsns == sorted(lsns), client.name
            of_it = [entry.payload for entry in entries if entry.payload.startswith(b"client")]
            own = [value for value in of_it if value.startswith(client.name.encode() + b"-")]
            numbers = [int(value.rpartition(b"-")[2]) for value in own]
            assert numbers == sorted(numbers), client.name
        print(
            f"acked={self.acked} refused={sum(len(client.refused) for client in self.all)} "
            f"unknown={sum(len(client.unknown) for client in self.all)}"
        )


def configurations(entries: Iterable[WALEntry]) -> list[int]:
    """Where the members were changed."""
    return [entry.lsn for entry in entries if entry.kind == CONFIGURATION]
