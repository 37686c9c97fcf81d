"""Wall clocks that jump: of one process, and of no other (wall_clock.c)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from walstore.testing.shim import compiler

SOURCE = Path(__file__).with_name("wall_clock.c")
FLAGS = ("-std=gnu11", "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror")


class WallClocks:
    """A clock for each name, in a folder."""

    def __init__(self, folder: Path, names: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._library = folder / "wall_clock.so"
        command = [compiler(), *FLAGS, "-o", str(self._library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True)
        for name in names:
            self._file(name).write_bytes(bytes(8))

    def _file(self, name: str) -> Path:
        return self._folder / f"moved-{name}"

    def environment(self, name: str) -> dict[str, str]:
        """What a process needs to go by this clock."""
        libraries = [str(self._library), os.environ.get("LD_PRELOAD", "")]
        return {
            "LD_PRELOAD": ":".join(filter(None, libraries)),
            "WALSTORE_TEST_CLOCK": str(self._file(name)),
        }

    def move(self, name: str, seconds: int) -> None:
        """From now on the clock differs from the machine's by so much."""
        with self._file(name).open("r+b", buffering=0) as file:
            file.write(seconds.to_bytes(8, "little", signed=True))
