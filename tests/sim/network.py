"""Connections: in order while they live, broken at any moment, partitioned in either direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from walstore.replication.core import CoreBody
from walstore.replication.entries import Batch
from walstore.replication.message import SnapshotPart

from .disk import entries_of

if TYPE_CHECKING:
    from .world import World

SILENCE_MS = 300


@dataclass(slots=True)
class Parcel:
    """A message on its way."""

    source: str
    target: str
    term: int
    body: CoreBody
    nbytes: int


@dataclass(eq=False, slots=True)
class Connection:
    """One between two nodes. Each end notices its begin and its end by itself."""

    ends: tuple[str, str]
    alive: bool = True
    ready_ms: dict[str, float] = field(default_factory=dict)
    queues: dict[str, list[Parcel]] = field(default_factory=dict)

    def undelivered(self, target: str) -> int:
        """Bytes of records on their way to one end."""
        return sum(parcel.nbytes for parcel in self.queues[target])


class Network:
    """All connections, and which directions are blocked."""

    def __init__(self, world: World, deliver: Callable[[Parcel], None]) -> None:
        self._world = world
        self._deliver = deliver
        self.blocked: set[tuple[str, str]] = set()
        self.connections: dict[frozenset[str], Connection] = {}

    def connect(self, a: str, b: str) -> None:
        """Dials, if both are up and reach each other."""
        world = self._world
        pair = frozenset((a, b))
        up = world.nodes[a].core and world.nodes[b].core
        if pair in self.connections or not up or self.blocked & {(a, b), (b, a)}:
            return
        connection = Connection((a, b))
        self.connections[pair] = connection
        for end, peer in ((a, b), (b, a)):
            connection.queues[end] = []
            connection.ready_ms[end] = 0
            world.after(world.rng.uniform(0, 3), partial(self._up, connection, end, peer))

    def _up(self, connection: Connection, end: str, peer: str) -> None:
        if connection.alive:
            self._world.nodes[end].connected(peer, connection)

    def send(self, connection: Connection, parcel: Parcel, slow_ms: float) -> None:
        """Puts a message behind the earlier ones; into a dead connection, for nothing."""
        if not connection.alive:
            return
        world, target = self._world, parcel.target
        connection.queues[target].append(parcel)
        at_ms = max(connection.ready_ms[target], world.now_ms + world.rng.uniform(0.2, 3) + slow_ms)
        connection.ready_ms[target] = at_ms
        world.after(at_ms - world.now_ms, lambda: self._arrive(connection, target))

    def _arrive(self, connection: Connection, target: str) -> None:
        """One message is due: the oldest, unless the way is blocked; then all wait."""
        queue = connection.queues[target]
        if not connection.alive or not queue:
            return
        if (queue[0].source, target) in self.blocked:
            self._world.after(10, lambda: self._arrive(connection, target))
            return
        self._deliver(queue.pop(0))

    def block(self, source: str, target: str) -> None:
        """Nothing passes in this direction; a connection does not live long like that."""
        self.blocked.add((source, target))
        connection = self.connections.get(frozenset((source, target)))
        if connection:
            self._world.after(SILENCE_MS, lambda: self._silent(connection, source, target))

    def _silent(self, connection: Connection, source: str, target: str) -> None:
        if (source, target) in self.blocked:
            self.close(connection)

    def close(self, connection: Connection) -> None:
        """What is in flight is lost, or, seldom, comes late, behind what a newer one carries. Of a
        node whose disk was damaged meanwhile it does not: a real network drops what a connection
        carried that another one has replaced."""
        if not connection.alive:
            return
        world, rng = self._world, self._world.rng
        connection.alive = False
        del self.connections[frozenset(connection.ends)]
        for queue in connection.queues.values():
            for parcel in queue:
                if isinstance(parcel.body, SnapshotPart) or rng.random() < 0.9:
                    world.counts["lost"] += 1
                    continue
                for _ in range(rng.choice((1, 1, 2))):
                    world.counts["late"] += 1
                    world.after(rng.uniform(1, 200), partial(self._late, parcel, world.now_ms))
        for end in connection.ends:
            peer = connection.ends[end == connection.ends[0]]
            world.after(rng.uniform(0, 30), partial(world.nodes[end].lost, peer, connection))

    def _late(self, parcel: Parcel, ended_ms: float) -> None:
        if self._world.nodes[parcel.source].damaged_ms < ended_ms:
            self._deliver(parcel)

    def close_all(self, node: str) -> None:
        """A node has gone down."""
        for pair, connection in list(self.connections.items()):
            if node in pair:
                self.close(connection)


def record_bytes(body: CoreBody) -> int:
    """Bytes of records in a message."""
    return sum(entry.nbytes for entry in entries_of(body)) if isinstance(body, Batch) else 0
