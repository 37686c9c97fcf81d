"""A node in a process of its own: `python -m tests.replication.node_process NAME PATH PORTS ROLE`.

It tells on standard output what it is ("ready"), and each entry that was acked ("lsn payload").
"""

from __future__ import annotations

import json
import sys
import threading

from tests.replication.nodes import NETWORK, OPTIONS
from walstore import ClosedLogError, EntryTruncatedError
from walstore.replication import (
    NotLeaderError,
    ReplicationError,
    ReplicationTimeoutError,
    ReplicationWALManager,
    TooFewNodesError,
)


def main(name: str, path: str, ports: str, prefix: str) -> None:
    """Runs a node until its input ends; it writes whenever it leads, and obeys "promote"."""
    urls = {node: f"ws://127.0.0.1:{port}" for node, port in json.loads(ports).items()}
    listen = urls.pop(name).removeprefix("ws://")
    with ReplicationWALManager(
        path,
        node_id=name,
        listen=listen,
        peers=urls,
        role="leader" if prefix.startswith("make") else "follower",
        election="raft" if prefix.startswith("raft") else "manual",
        segment_bytes=64 << 10,
        network=NETWORK,
        options=OPTIONS,
    ) as node:
        print("ready", flush=True)
        threading.Thread(target=_write, args=(node, prefix), daemon=True).start()
        for line in sys.stdin:
            if line.strip() == "promote":
                try:
                    node.promote(timeout_s=2.0)
                except ReplicationError as error:  # it is asked again
                    print(f"{name}: {error}", file=sys.stderr, flush=True)


def _write(node: ReplicationWALManager, prefix: str) -> None:
    number = 0
    pause = threading.Event()
    while True:
        payload = f"{prefix}-{node.node_id}-{number}"
        try:
            lsn = node.append(payload.encode() + b" " * (number % 700), timeout_s=1.0)
            print(lsn, payload, flush=True)
        except (NotLeaderError, TooFewNodesError):
            pause.wait(0.01)
        except ReplicationTimeoutError:
            pass  # it may get there, or not
        except EntryTruncatedError:
            pass  # another leader's entry has its place
        except ClosedLogError:
            return
        number += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
