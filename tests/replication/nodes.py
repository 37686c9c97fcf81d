"""What the tests of whole nodes share: clusters in this process, on real disks and sockets."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from tests.helpers import contents
from tests.replication.proxy import Proxy
from walstore import WALEntry
from walstore.replication import NetworkOptions, ReplicationOptions, ReplicationWALManager
from walstore.wal.record import DATA

WAIT_S = 30.0
PORTS = range(20_000, 32_768)  # below those of connections that go out
PORT_TRIES = 100
NETWORK = NetworkOptions(
    heartbeat_ms=100, silence_ms=2000, reconnect_min_ms=10, reconnect_max_ms=100
)
OPTIONS = ReplicationOptions(probe_ms=100, heartbeat_ms=50, leader_timeout_ms=300, election_ms=300)


def until(truth: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> None:
    """Waits for something that nobody announces."""
    deadline = time.monotonic() + timeout_s
    while not truth():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.002)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, and that the kernel gives to no connection meanwhile."""
    held: list[socket.socket] = []
    try:
        for port in random.SystemRandom().sample(PORTS, count + PORT_TRIES):
            if len(held) == count:
                break
            held.append(socket.socket())
            try:
                held[-1].bind(("127.0.0.1", port))
            except OSError:
                held.pop().close()
        assert len(held) == count, f"{PORT_TRIES} ports are taken"
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def own_threads() -> list[str]:
    """The threads of nodes and of their logs in this process."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("walstore")]


def data(entries: Iterable[WALEntry]) -> list[bytes]:
    """The payloads of the users' entries."""
    return [entry.payload for entry in entries if entry.kind == DATA]


class Cluster:
    """Nodes by name, each with its directory and its port; started, stopped, started again.

    Args:
        base: where the directories are made.
        names: one letter is one node.
        proxied: between any two nodes there is a proxy, see `split`.
        options: for each node.
    """

    def __init__(
        self, base: Path, names: str = "abc", *, proxied: bool = False, **options: Any
    ) -> None:
        self.base = base
        self.names = names
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.options: dict[str, Any] = {
            "network": NETWORK,
            "options": OPTIONS,
            "segment_bytes": 1 << 20,
            "timeout_s": WAIT_S,
        } | options
        self.nodes: dict[str, ReplicationWALManager] = {}
        self.proxies: dict[tuple[str, str], Proxy] = {}
        if proxied:
            for dialer in names:
                for listener in names:
                    if dialer != listener:
                        proxy = Proxy(self.ports[listener])
                        self.proxies[dialer, listener] = proxy.__enter__()

    def __getitem__(self, name: str) -> ReplicationWALManager:
        return self.nodes[name]

    def path(self, name: str) -> Path:
        """A node's directory."""
        return self.base / name

    def url(self, name: str, dialer: str = "") -> str:
        """Where a node is reached, by another one."""
        proxy = self.proxies.get((dialer, name))
        return proxy.url if proxy else f"ws://127.0.0.1:{self.ports[name]}"

    def start(self, name: str, **options: Any) -> ReplicationWALManager:
        """Starts a node; by default a follower."""
        peers = {peer: self.url(peer, name) for peer in self.names if peer != name}
        fields = {"listen": f"127.0.0.1:{self.ports[name]}", "peers": peers}
        node = ReplicationWALManager(
            self.path(name), node_id=name, **(fields | self.options | options)
        )
        self.nodes[name] = node
        return node

    def lead(self, **options: Any) -> ReplicationWALManager:
        """Starts all of them, the first one as the leader, and waits until all are connected."""
        leader = self.start(self.names[0], role="leader", **options)
        for name in self.names[1:]:
            self.start(name, **options)
        self.joined(*self.names)
        return leader

    def joined(self, *names: str) -> None:
        """Waits until each of these nodes is connected with all others of them."""
        for name in names:
            others = set(names) - {name}
            until(partial(self._is_with, name, others), f"{name} is with {others}")

    def _is_with(self, name: str, others: set[str]) -> bool:
        return others <= set(self[name].connected)

    def stop(self, name: str) -> None:
        """Stops a node."""
        self.nodes.pop(name).close()

    def close(self) -> None:
        """Stops everything."""
        for name in list(self.nodes):
            self.stop(name)
        for proxy in self.proxies.values():
            proxy.__exit__(None, None, None)
        self.proxies.clear()

    # ---- partitions ----

    def split(self, *names: str) -> None:
        """Nothing passes any more between these nodes and the others; nobody is told."""
        self._drop(lambda one, other: (one in names) != (other in names), True)

    def deafen(self, name: str) -> None:
        """Nothing reaches this node; what it says reaches the others."""
        for (dialer, listener), proxy in self.proxies.items():
            if name == dialer:
                proxy.to_dialer.drop = True
            if name == listener:
                proxy.to_listener.drop = True

    def join(self, one: str, other: str) -> None:
        """Everything passes again between these two, on new connections."""
        self._drop(lambda dialer, listener: {dialer, listener} == {one, other}, False)
        for pair in ((one, other), (other, one)):
            self.proxies[pair].cut()

    def heal(self) -> None:
        """Everything passes again, on new connections: frames are lost on the old ones."""
        self._drop(lambda one, other: True, False)
        for proxy in self.proxies.values():
            proxy.cut()

    def _drop(self, which: Callable[[str, str], bool], drop: bool) -> None:
        for (dialer, listener), proxy in self.proxies.items():
            if which(dialer, listener):
                proxy.to_listener.drop = proxy.to_dialer.drop = drop

    # ---- what holds in the end ----

    def level(self, *names: str) -> int:
        """Waits until these nodes show all that their leader has; returns the last lsn."""
        names = names or tuple(self.nodes)
        leader = next(self[name] for name in names if self[name].role == "leader")
        lsn = leader.last_lsn
        for name in names:
            self[name].wait_committed(lsn, timeout_s=WAIT_S)
        return lsn

    def assert_equal(self, *names: str) -> list[WALEntry]:
        """Levels and stops everything; the logs must be equal in every field of every entry, and
        sound. Returns the entries."""
        names = names or tuple(self.nodes)
        lsn = self.level(*names)
        self.close()
        first, *others = (contents(self.path(name)) for name in names)
        assert first[-1].lsn == lsn
        for name, other in zip(names[1:], others, strict=True):
            common = max(first[0].lsn, other[0].lsn)
            held = [entry for entry in other if entry.lsn >= common]
            assert held == [entry for entry in first if entry.lsn >= common], (names[0], name)
            assert other[-1].lsn == lsn
        return first
