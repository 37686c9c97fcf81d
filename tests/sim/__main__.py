"""python -m tests.sim SEED [-v]: replays one schedule; with -v all its messages are printed."""

from __future__ import annotations

import sys

from .world import World


def main(arguments: list[str]) -> None:
    """Runs it, and says what happened."""
    world = World(int(arguments[0]))
    world.log = []
    try:
        world.run()
    finally:
        if "-v" in arguments:
            print("\n".join(world.log))
        print(
            f"seed {world.seed}: {'strict' if world.strict else 'weak'}, trace {world.trace_hash}"
        )
        print(", ".join(f"{name} {count}" for name, count in sorted(world.counts.items())))


main(sys.argv[1:])
