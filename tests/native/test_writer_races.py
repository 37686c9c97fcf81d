"""Threads on one C writer, without Python, under the thread sanitizer and under the others."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.helpers import ROOT, seed_of

NATIVE = ROOT / "walstore" / "_native"
SOURCES = [ROOT / "tests" / "native" / "drive_writer.c"]
SOURCES += [NATIVE / name for name in ("writer.c", "record.c", "crc32c.c", "files.c")]
FLAGS = ["-g", "-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-UNDEBUG", "-pthread"]
ROUNDS = 12
TIMEOUT_S = 150
COUNTS_MIN = {
    "appends": 1500 * ROUNDS,
    "batches": 500,
    "submits": 3000,
    "copies": 200,
    "commits": 500,
    "rolls": 50,
    "truncations": 50,
    "full": 10,
    "watches": 200,
    "looks": 200,
    "wakeups": 200,
    "syncs": 1000,
    "checked": 1200 * ROUNDS,
    "done": 4,
    "poisoned": 4,
    "stopped": 4,
}


def build(driver: Path, sanitizers: str) -> None:
    command = ["gcc", *FLAGS, f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    command += [f"-I{NATIVE}", *map(str, SOURCES), "-o", str(driver)]
    subprocess.run(command, check=True, timeout=TIMEOUT_S)


@pytest.mark.parametrize("sanitizers", ["thread", "address,undefined"])
def test_threads_on_one_writer(tmp_path: Path, sanitizers: str) -> None:
    driver, where = tmp_path / "drive_writer", tmp_path / "segments"
    where.mkdir()
    build(driver, sanitizers)
    done = subprocess.run(
        [str(driver), str(where), str(ROUNDS), str(seed_of("threads"))],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-8000:]
    print(done.stdout)
    counts = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", done.stdout)}
    assert {name: counts[name] for name in COUNTS_MIN if counts[name] < COUNTS_MIN[name]} == {}
