"""PySyncObj: three processes with the times of elections that walstore has by default.

Its journal is a file that it writes to through memory, and never syncs.
"""

from __future__ import annotations

import sys
from typing import Any

from bench.replication.elected import Elected
from bench.replication.processes import missing_package


class PySyncObj(Elected):
    """Told what to do as walstore's nodes are: pysyncobj_node.py."""

    promise = "in the memory of two nodes"

    @classmethod
    def missing(cls) -> str:
        return missing_package("pysyncobj")

    def options(self, name: str) -> dict[str, Any]:
        addresses = {each: f"127.0.0.1:{port}" for each, port in self.ports.items()}
        return {"own": addresses.pop(name), "others": list(addresses.values())}

    def command(self, options: str) -> list[str]:
        return [sys.executable, "-m", "bench.replication.pysyncobj_node", options]
