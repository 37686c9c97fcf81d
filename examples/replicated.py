"""Three nodes in one program: ``python examples/replicated.py DIRECTORY [PORT PORT PORT]``.

In earnest each node is a process on a machine of its own. One of them leads; the others have copies
of its log. Over each there is a document store. Run it again: the nodes go on where they were.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

from walstore.docstore import DocumentStore
from walstore.replication import ReplicationWALManager


def start(directory: Path, ports: dict[str, int], name: str) -> ReplicationWALManager:
    """One node. The first one makes the cluster, the others become copies of it."""
    peers = {other: f"ws://127.0.0.1:{port}" for other, port in ports.items() if other != name}
    return ReplicationWALManager(
        directory / name,
        node_id=name,
        listen=f"127.0.0.1:{ports[name]}",
        peers=peers,
        role="leader" if name == "a" else "follower",
    )


def main(directory: Path, ports: dict[str, int]) -> None:
    directory.mkdir(exist_ok=True)
    with ExitStack() as stack:
        a, b, c = (stack.enter_context(start(directory, ports, name)) for name in "abc")
        if a.role != "leader":  # b led when the program ended
            a.promote()
        store_a, store_b = (stack.enter_context(DocumentStore(node)) for node in (a, b))

        # Returns when a majority of the nodes has it on their disks.
        store_a["visits"].insert_one({"by": "a"}, concern="quorum")
        stages = a.receipt(a.last_lsn).stages
        print("receipt:", {node: stage.name for node, stage in stages.items()})

        b.wait_committed(a.last_lsn, timeout_s=30)
        print("b reads", store_b["visits"].count_documents({"by": "a"}), "of a")

        b.promote()  # with the others' votes; a is fenced, and follows
        store_b["visits"].insert_one({"by": "b"}, concern="quorum")
        a.wait_committed(b.last_lsn, timeout_s=30)
        print("a reads", store_a["visits"].count_documents({"by": "b"}), "of b")
        c.wait_committed(b.last_lsn, timeout_s=30)
        print("c has the same entries:", c.read(c.last_lsn) == b.read(c.last_lsn))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 5):
        sys.exit(__doc__)
    given = [int(port) for port in sys.argv[2:]] or [7001, 7002, 7003]
    main(Path(sys.argv[1]), dict(zip("abc", given, strict=True)))
