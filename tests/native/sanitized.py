"""The tests that reach into C, run on a helper compiled with the address and undefined-behaviour
sanitizers: `python -m tests.native.sanitized` runs all of tests/native and tests/wal."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.native.extension import build_copy, environment

__all__ = ["FAST", "build", "run_python", "run_tests"]

FLAGS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
ALL = ["tests/native", "tests/wal"]
# Those that compile something of their own.
NOT_IN_A_COPY = ["sanitizers", "sanitized", "aarch64", "writer_races", "allocations"]
FAST = [
    "tests/native/test_crc32c.py",
    "tests/native/test_record.py",
    "tests/native/test_writer.py",
    "tests/wal/test_commit.py",
    "tests/wal/test_record.py",
    "tests/wal/test_recovery.py",
    "tests/wal/test_moving.py",
    "tests/wal/test_roll_large.py",
    "tests/wal/test_writing.py",
]
ALL_TIMEOUT_S = 3000


def build(tree: Path) -> None:
    """A copy of the tree whose helper watches itself."""
    build_copy(tree, FLAGS)


def _runtime(name: str) -> str:
    command = ["gcc", f"-print-file-name=lib{name}.so"]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(path).is_absolute():
        raise FileNotFoundError(f"gcc has no lib{name}.so")
    return path


def run_python(
    tree: Path, arguments: Sequence[str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Runs Python in the copy. Python's own blocks come from malloc, so that a byte read behind a
    `bytes` is seen too."""
    settings = {
        "LD_PRELOAD": f"{_runtime('asan')} {_runtime('ubsan')}",
        "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=32",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env=environment(tree, **settings),
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def run_tests(tree: Path, tests: Sequence[str], timeout_s: float) -> int:
    """Runs tests in the copy, none of which may fail, and returns how many there were.

    Raises:
        AssertionError: one failed, or a sanitizer ended it.
    """
    arguments = ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--timeout=600"]
    arguments += ["--capture=sys", "--durations=12"]  # a sanitizer writes to the descriptor itself
    arguments += [f"--basetemp={tree / 'tmp'}", *tests]
    for name in NOT_IN_A_COPY:
        arguments.append(f"--ignore=tests/native/test_{name}.py")
    done = run_python(tree, arguments, timeout_s)
    counted = re.search(r"(\d+) passed", done.stdout)
    if done.returncode or not counted:
        raise AssertionError(done.stdout[-4000:] + done.stderr[:8000])
    return int(counted[1])


def main() -> None:
    """Runs everything and prints how many tests there were."""
    with tempfile.TemporaryDirectory(prefix="walstore-sanitized-") as where:
        tree = Path(where) / "tree"
        build(tree)
        print(f"passed={run_tests(tree, ALL, ALL_TIMEOUT_S)}")


if __name__ == "__main__":
    main()
