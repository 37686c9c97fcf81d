"""A node with Registers in a process of its own:
`python -m tests.cluster.machine_process NAME PATH PORTS CHECKPOINT_BYTES`.

It says "ready", leads when it is told "promote", and ends with its input.
"""

from __future__ import annotations

import json
import sys

from tests.cluster.registers import Registers
from tests.replication.nodes import NETWORK, OPTIONS
from walstore.cluster import MachineHost, MachineSnapshots
from walstore.replication import PromotionError, ReplicationWALManager


def main(name: str, path: str, ports: str, checkpoint_bytes: str) -> None:
    """Runs a node."""
    urls = {node: f"ws://127.0.0.1:{port}" for node, port in json.loads(ports).items()}
    listen = urls.pop(name).removeprefix("ws://")
    log = ReplicationWALManager(
        path,
        node_id=name,
        listen=listen,
        peers=urls,
        election="raft",
        segment_bytes=64 << 10,
        network=NETWORK,
        options=OPTIONS,
        snapshots=MachineSnapshots(path),
    )
    with log, MachineHost(log, Registers(), checkpoint_bytes=int(checkpoint_bytes)):
        print("ready", flush=True)
        for line in sys.stdin:
            if line.strip() == "promote":
                try:
                    log.promote(timeout_s=30.0)
                    print("leads", flush=True)
                except PromotionError as error:
                    print(f"does not lead: {error}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
