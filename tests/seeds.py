"""The seed of a random run: one for each commit, so that testing a commit again tests the same.

An environment variable names another one, to replay a failure; the word "fresh" draws one.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

FRESH = "fresh"
SEED_BYTES = 3
HERE = Path(__file__).parent


def seed_from(variable: str) -> int:
    """The seed that the variable names; without it that of the commit, or a fresh one where there
    is no git checkout."""
    wanted = os.environ.get(variable, "")
    if wanted == FRESH:
        return fresh()
    return int(wanted) if wanted else of_commit(HERE)


def fresh() -> int:
    """A seed that nobody had before."""
    return int.from_bytes(os.urandom(SEED_BYTES), "big")


def of_commit(folder: Path) -> int:
    """The first digits of the hash of the commit that is checked out."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git
        return fresh()
    return int(done.stdout[: 2 * SEED_BYTES], 16) if done.returncode == 0 else fresh()
