"""python -m tests.raft.sim SEED [-v]: replays one schedule; -v prints all its messages."""

from __future__ import annotations

import sys

from .world import RaftWorld


def main(arguments: list[str]) -> None:
    """Runs it, and says what happened."""
    world = RaftWorld(int(arguments[0]))
    world.log = []
    try:
        world.run()
    finally:
        if "-v" in arguments:
            print("\n".join(world.log))
        print(f"seed {world.seed}: trace {world.trace_hash}")
        print(", ".join(f"{name} {count}" for name, count in sorted(world.counts.items())))


main(sys.argv[1:])
