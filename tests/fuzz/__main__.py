"""Fuzzes every decoder: `python -m tests.fuzz 1000000` inputs each, or `60s` each."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from tests.fuzz.one import TARGETS
from tests.fuzz.run import fuzz
from tests.helpers import seed_of


def main(limit: str) -> None:
    """Prints how many inputs each decoder was shown; the first that breaks one ends it."""
    seed = seed_of("fuzz")
    runs, seconds = (0, int(limit[:-1])) if limit.endswith("s") else (int(limit), 0)
    where = Path(tempfile.mkdtemp(prefix="walstore-fuzz-"))
    for name in TARGETS:
        executions = fuzz(name, where, seed, runs=runs, seconds=seconds)
        print(f"{name}: executions={executions}", flush=True)
        assert executions >= max(runs, 1), name
    shutil.rmtree(where)  # it stays, with the input, when one is broken


if __name__ == "__main__":
    main(sys.argv[1])
