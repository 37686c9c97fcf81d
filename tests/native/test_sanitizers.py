"""The C scanner under the address and undefined-behaviour sanitizers, fuzzed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers import ROOT, seed_of

NATIVE = ROOT / "walstore" / "_native"
SOURCES = [ROOT / "tests" / "native" / "fuzz_scan.c", NATIVE / "record.c", NATIVE / "crc32c.c"]
CORPUS = ROOT / "tests" / "native" / "corpus" / "fuzz_scan"
RUNS_MIN = int(os.environ.get("WALSTORE_FUZZ_RUNS", "1000000"))
TIMEOUT_S = 200 + RUNS_MIN // 50_000
FLAGS = ["-g", "-O1", "-std=gnu11", f"-I{NATIVE}", "-fno-sanitize-recover=all"]


def compile_with(compiler: str, target: Path, *flags: str) -> bool:
    """Whether the compiler is here and has its sanitizers."""
    if shutil.which(compiler) is None:
        return False
    command = [compiler, *FLAGS, *flags, *map(str, SOURCES), "-o", str(target)]
    return subprocess.run(command, capture_output=True, timeout=100).returncode == 0


def run(command: list[str], where: Path) -> int:
    """Runs a fuzzer and returns how many inputs it tried."""
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=where, env=environment
    )
    assert done.returncode == 0, done.stderr[-4000:]
    match = re.search(r"Done (\d+) runs", done.stderr)
    assert match, done.stderr[-2000:]
    return int(match[1])


@pytest.mark.timeout(TIMEOUT_S + 50)
def test_libfuzzer_finds_nothing(tmp_path: Path) -> None:
    fuzzer = tmp_path / "fuzz_scan"
    if not compile_with("clang", fuzzer, "-fsanitize=fuzzer,address,undefined"):
        pytest.skip("clang with libFuzzer is not here; the driver below does the work alone")
    found = tmp_path / "corpus"  # what it finds goes into the first directory
    found.mkdir()
    seed = seed_of("libFuzzer") or 1
    command = [str(fuzzer), f"-runs={RUNS_MIN}", f"-seed={seed}", "-max_len=400"]
    runs = run([*command, str(found), str(CORPUS)], tmp_path)
    print(f"executions={runs}")
    assert runs >= RUNS_MIN


@pytest.mark.timeout(TIMEOUT_S + 50)
def test_own_driver_finds_nothing(tmp_path: Path) -> None:
    driver = tmp_path / "drive_scan"
    built = compile_with("gcc", driver, "-fsanitize=address,undefined", "-DOWN_DRIVER")
    assert built or compile_with("clang", driver, "-fsanitize=address,undefined", "-DOWN_DRIVER")
    runs = run([str(driver), str(RUNS_MIN), str(seed_of("driver"))], tmp_path)
    print(f"executions={runs}")
    assert runs >= RUNS_MIN
