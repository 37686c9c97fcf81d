"""`python -m tests.seeded [name ...]`: every seeded bug, or some of them."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from .run import NotCaughtError, named, run


def main(names: list[str]) -> int:
    bugs = named(names)
    missed = 0
    with tempfile.TemporaryDirectory(prefix="walstore-seeded-") as where:
        for bug in bugs:
            try:
                run([bug], Path(where))
            except NotCaughtError as error:
                print(f"NOT CAUGHT: {error}", flush=True)
                missed += 1
    print(f"{len(bugs) - missed} of {len(bugs)} seeded bugs caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
