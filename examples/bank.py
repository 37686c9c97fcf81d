"""A bank on three nodes that elect: ``python examples/bank.py DIRECTORY [PORT PORT PORT]``.

In earnest each node is a process on a machine of its own, and clients are elsewhere. What the nodes
hold is a state machine: it changes by the commands in their log, each applied once, on every node.
The leadership moves while the client calls, and no call notices. Run it again: the nodes go on
where they were.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from walstore.cluster import ClusterClient, CommandRefusedError, MachineHost, MachineSnapshots
from walstore.replication import ReplicationWALManager


class Bank:
    """Accounts. It is a StateMachine: no clock, no random numbers, nothing from elsewhere."""

    def __init__(self) -> None:
        self.money = {"ada": 100, "bob": 0}

    def apply(self, lsn: int, command: bytes) -> bytes:
        """Moves money, unless there is too little of it."""
        source, target, amount = json.loads(command)
        if self.money[source] < amount:
            raise CommandRefusedError(f"{source} has only {self.money[source]}")
        self.money[source] -= amount
        self.money[target] += amount
        return json.dumps(self.money[source]).encode()

    def query(self, query: bytes) -> bytes:
        """All accounts."""
        return json.dumps(self.money).encode()

    def snapshot(self) -> Iterable[bytes]:
        """All of it, as it is now."""
        return [json.dumps(self.money).encode()]

    def restore(self, data: bytes) -> None:
        """What a snapshot held."""
        self.money = json.loads(data)


def start(directory: Path, urls: dict[str, str], name: str) -> ReplicationWALManager:
    """One node. Those that have no log yet make a cluster together."""
    path = directory / name
    return ReplicationWALManager(
        path,
        node_id=name,
        listen=urls[name].removeprefix("ws://"),
        peers={other: url for other, url in urls.items() if other != name},
        election="raft",
        snapshots=MachineSnapshots(path),
    )


def main(directory: Path, urls: dict[str, str]) -> None:
    directory.mkdir(exist_ok=True)
    with ExitStack() as stack:
        with ThreadPoolExecutor(3) as pool:  # they wait for each other
            nodes = list(pool.map(lambda name: start(directory, urls, name), urls))
        for node in nodes:
            stack.enter_context(node)
            stack.enter_context(MachineHost(node, Bank()))
        client = stack.enter_context(ClusterClient(urls, timeout_s=60))

        print("at first:", client.read(b"").decode())
        for turn in range(9):
            if turn % 3 == 2:
                nodes[turn // 3].promote(timeout_s=60)
            client.call(json.dumps(["ada", "bob", 1]).encode())
        print("nine transfers and three leaders later:", client.read(b"").decode())
        try:
            client.call(json.dumps(["ada", "bob", 1000]).encode())
        except CommandRefusedError as error:
            print("refused:", error)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 5):
        sys.exit(__doc__)
    given = [int(port) for port in sys.argv[2:]] or [7001, 7002, 7003]
    ports = zip("abc", given, strict=True)
    main(Path(sys.argv[1]), {name: f"ws://127.0.0.1:{port}" for name, port in ports})
