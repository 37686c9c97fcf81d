"""One measurement in a process of its own.

``python -m bench.replication.child ROW CONTENDER PATH SETTINGS``, SETTINGS in JSON. The output is
what was measured, as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.replication.rows import CONTENDERS, ROWS, Settings


def main(row_name: str, name: str, path: str, settings: str) -> None:
    """Starts the cluster, has it do the row's work, stops it."""
    row = next(row for row in ROWS if row.name == row_name)
    cluster = CONTENDERS[name](Path(path))
    try:
        cluster.start()
        found = row.work(name, cluster, Settings(**json.loads(settings)))
    finally:
        cluster.stop()
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
