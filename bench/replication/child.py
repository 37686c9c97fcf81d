"""One measurement in a process of its own.

``python -m bench.replication.child ROW CONTENDER PATH SETTINGS``, SETTINGS in JSON. The output is
what was measured, and how many CPUs other programs took meanwhile, as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.peers.machine import interference, snapshot
from bench.replication.rows import CONTENDERS, ROWS, Settings


def main(row_name: str, name: str, path: str, settings: str) -> None:
    """Starts the cluster, has it do the row's work, stops it."""
    row = next(row for row in ROWS if row.name == row_name)
    cluster = CONTENDERS[name](Path(path))
    before = snapshot(Path(path))
    try:
        cluster.start()
        found = row.work(name, cluster, Settings(**json.loads(settings)))
    finally:
        cluster.stop()
    # Once the cluster is stopped and waited for, its CPU counts as this process's own.
    around = interference(before, snapshot(Path(path)))
    print(json.dumps({"found": found, "foreign_cpus": around.foreign_cpus}))


if __name__ == "__main__":
    main(*sys.argv[1:])
