"""`python -m tests.coverage [test file ...]`: what the tests reach, and whether it is enough."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .limits import limit_of
from .measure import SUITE, File, instrument, native_files, python_files, run_tests

FILES_MIN = 40  # fewer: the measurement itself is broken


def show(files: Sequence[File]) -> list[str]:
    """Prints the table; returns the names of the files under their limit."""
    under = []
    for file in files:
        limit = limit_of(file.name)
        bad = file.percent < limit
        if bad:
            under.append(file.name)
        mark = "UNDER" if bad else "     "
        print(f"{file.name:36} {file.percent:6.1f} % of {file.total:4} {limit:5.1f} {mark}", end="")
        print(f" {file.where}" if file.where else "")
    return under


def main(tests: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="walstore-coverage-") as where:
        tree = Path(where) / "tree"
        instrument(tree)
        passed = run_tests(tree, tests or SUITE)
        files = python_files(tree) + native_files(tree)
    under = show(files)
    print(
        f"{len(files)} files, {len(under)} under their limit; tests {'good' if passed else 'BAD'}"
    )
    if not passed or len(files) < FILES_MIN:
        return 1
    return 1 if under and not tests else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
