"""The C helper compiled for 64-bit ARM: its CRC instruction and its scanner, run by an emulator."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers import ROOT, seed_of

NATIVE = ROOT / "walstore" / "_native"
TESTS = ROOT / "tests" / "native"
COMPILER = "aarch64-linux-gnu-gcc"
EMULATOR = "qemu-aarch64"
FLAGS = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-UNDEBUG", f"-I{NATIVE}"]
INPUTS_MIN = 3_000
RUNS = 100_000

pytestmark = pytest.mark.skipif(
    not (shutil.which(COMPILER) and shutil.which(EMULATOR)),
    reason=f"{COMPILER} and {EMULATOR} are not here (Debian: gcc-aarch64-linux-gnu, qemu-user)",
)


def build(target: Path, *arguments: str | Path) -> Path:
    command = [COMPILER, *FLAGS, *map(str, arguments), "-o", str(target)]
    subprocess.run(command, check=True, timeout=100)
    return target


def emulate(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [EMULATOR, *map(str, command)], check=True, capture_output=True, text=True, timeout=100
    )


def test_crc_instruction_agrees_with_the_table(tmp_path: Path) -> None:
    driver = build(tmp_path / "crc", "-static", TESTS / "drive_crc.c", NATIVE / "crc32c.c")
    backend, tried, check = emulate(driver).stdout.split()
    assert backend == "armv8-crc"
    assert check == "e3069283", "the check value of CRC-32C, RFC 3720"
    assert int(tried) >= INPUTS_MIN


def test_scanner_survives_hostile_bytes(tmp_path: Path) -> None:
    sources = [TESTS / "fuzz_scan.c", NATIVE / "record.c", NATIVE / "crc32c.c"]
    driver = build(tmp_path / "scan", "-static", "-DOWN_DRIVER", *sources)
    done = emulate(driver, str(RUNS), str(seed_of("driver")))
    match = re.search(r"Done (\d+) runs", done.stderr)
    assert match
    assert int(match[1]) >= RUNS


@pytest.mark.parametrize("name", ["writer.c", "files.c"])
def test_compiles_without_a_warning(tmp_path: Path, name: str) -> None:
    build(tmp_path / "object.o", "-c", NATIVE / name)
