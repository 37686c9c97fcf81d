"""Starts a fuzzer for a decoder and counts what it tried."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.helpers import ROOT

__all__ = ["CORPUS", "BrokenError", "fuzz"]

CORPUS = Path(__file__).parent / "corpus"
INPUT_BYTES_MAX = 700
START_S = 60
EXECUTIONS_PER_S_MIN = 200


class BrokenError(AssertionError):
    """An input breaks a property; the message has the traceback and where the input is."""


def fuzz(name: str, where: Path, seed: int, *, runs: int = 0, seconds: int = 0) -> int:
    """Fuzzes a decoder for so many inputs or seconds and returns how many inputs it tried.

    Raises:
        BrokenError: a property does not hold; the input is kept in `where`.
    """
    found = where / f"corpus-{name}"
    found.mkdir()
    limits = [f"-runs={runs}"] if runs else [f"-max_total_time={seconds}"]
    command = [sys.executable, "-m", "tests.fuzz.one", name, *limits, f"-seed={seed or 1}"]
    command += [f"-max_len={INPUT_BYTES_MAX}", f"-artifact_prefix={where}/", "-timeout=120"]
    command += [str(found), str(CORPUS / name)]
    timeout_s = START_S + seconds + runs / EXECUTIONS_PER_S_MIN
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s)
    output = done.stdout + done.stderr
    counted = re.search(r"Done (\d+) runs? in", output)
    if done.returncode or not counted:
        told = "\n".join(line for line in output.splitlines() if "Instrumenting" not in line)
        raise BrokenError(f"{name}: exit status {done.returncode}\n{told[-4000:]}")
    return int(counted[1])
