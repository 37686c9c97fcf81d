"""`python -m tests.mutation [module ...]`: every change of these modules is seen, or explained."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .run import MUTANTS_MIN, TESTS, explained, mutate


def check(module: str, where: Path) -> bool:
    """Mutates a module; whether every change that survived is one that may."""
    tried, survivors = mutate(module, where / module)
    known = explained(module)
    for change in sorted(survivors - known):
        print(f"SURVIVED {module}.{change.function}\n{change.diff}\n")
    for change in sorted(known - survivors):
        print(f"EXPLAINED IN VAIN {module}.{change.function}\n{change.diff}\n")
    print(
        f"{module}: {tried} changes, {len(survivors)} not seen, "
        f"{len(survivors & known)} of them explained",
        flush=True,
    )
    return survivors == known and tried >= MUTANTS_MIN[module]


def main(modules: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="walstore-mutation-") as where:
        good = [check(module, Path(where)) for module in modules or TESTS]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
