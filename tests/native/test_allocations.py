"""Every allocation of the C helper fails: the call says so, and nothing that was acked is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.extension import build_copy, counters, environment

HERE = Path(__file__).parent
WRAP = [f"-Wl,--wrap={name}" for name in ("malloc", "calloc", "realloc")]
TIMEOUT_S = 240
EXPECTED = [
    "open: MemoryError",
    "open again: MemoryError",
    "large: MemoryError",
    "batch: MemoryError",
    "large index: MemoryError",
    "full: LogFullError",
    "full: LogPoisonedError",  # no memory to note what was refused
    "append: LogPoisonedError",  # ... or what was truncated
    "dropped: EntryTruncatedError",
    "anew: MemoryError",
]
FAILED_MIN = 30


@pytest.mark.timeout(TIMEOUT_S + 50)
def test_every_allocation_fails_once_and_for_ever(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    build_copy(tree, [*WRAP, *counters()], [HERE / "fail_alloc.c"])
    done = subprocess.run(
        [sys.executable, "-m", "tests.native.allocations", str(tmp_path)],
        cwd=tree,
        env=environment(tree),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    outcomes = json.loads(done.stdout)
    print(outcomes)
    assert outcomes["failed"] >= FAILED_MIN
    assert not [name for name in EXPECTED if not outcomes.get(name)]
