"""Builds an instrumented copy of walstore, runs tests in it, and reads the counters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers import ROOT
from tests.native.extension import COUNTERS_VARIABLE
from tests.seeded.run import build, copy_tree

RC = ROOT / "tests" / "coverage" / "coveragerc"
TIMEOUT_S = 1800
SIM_SCALE = "0.05"  # enough schedules to come everywhere in the core
OPTIMISED = '"-O2"'
# Threads share the counters, and a process that is forked or killed must not tear them.
COUNTED = '"-O0", "--coverage", "-fprofile-update=atomic"'
SUITE = (
    "tests/native",
    "tests/wal",
    "tests/cli",
    "tests/replication",
    "tests/sim",
    "tests/raft",
    "tests/cluster",
    "tests/docstore",
    "tests/tinydb",
    "tests/test_demo.py",
    "tests/test_errors.py",
    "tests/test_exports.py",
    "tests/test_in_thread.py",
    "tests/test_limits.py",
    "tests/test_thread.py",
    # Compiled by themselves, so they count nothing here.
    "--ignore=tests/native/test_sanitizers.py",
    "--ignore=tests/native/test_aarch64.py",
    # Many rounds of what others do once: far longer here, and no line more.
    "--ignore=tests/wal/test_damage.py",
    "--ignore=tests/wal/test_model.py",
    "--ignore=tests/raft/test_cluster_faults.py",
    "-k=not (a_mutated_message or every_length_and_alignment or again_and_again or under_readers"
    " or truncation_at_once)",
    # Run as a user who cannot write the counters.
    "--deselect=tests/cli/test_app.py::test_no_permission_as_another_user",
    "--deselect=tests/cli/test_app.py::test_reading_needs_no_write_permission",
    "--deselect=tests/cli/test_app.py::test_logs_that_may_not_be_read_are_not_compared",
)
GCOVR = (
    "--filter=walstore/_native/.*\\.c$",
    # A line that is run more than 2^32 times is no mistake of gcov's here: so often the tests look
    # for a record behind damage.
    "--gcov-suspicious-hits-threshold=0",
    # A branch out of an assertion is a defect that no test may reach; a processor without the
    # instruction is not here, and test_aarch64.py and the table's own tests stand for it.
    "--exclude-branches-by-pattern=^\\s*(assert\\(|if \\(hardware_present\\(\\)\\)).*",
)


@dataclass(frozen=True)
class File:
    """What was reached of one file."""

    name: str
    total: int  # lines and branches
    missed: int
    where: str

    @property
    def percent(self) -> float:
        return 100.0 * (self.total - self.missed) / self.total if self.total else 100.0


def instrument(tree: Path) -> None:
    """Makes the copy of the tree and builds its helper with counters."""
    copy_tree(tree)
    recipe = tree / "walstore" / "_native" / "build.py"
    text = recipe.read_text(encoding="utf-8")
    assert text.count(OPTIMISED) == text.count('["-pthread"]') == 1, "build.py has changed"
    text = text.replace(OPTIMISED, COUNTED).replace('["-pthread"]', '["-pthread", "--coverage"]')
    recipe.write_text(text, encoding="utf-8")
    build(tree)


def run_tests(tree: Path, tests: Sequence[str]) -> bool:
    """Runs tests in the copy; whether they were good."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree),
        "WALSTORE_COVERAGE_DATA": str(tree / "data" / "coverage"),
        "WALSTORE_SIM_SCALE": SIM_SCALE,
        COUNTERS_VARIABLE: str(tree / "counters"),
    }
    for name in ("data", "counters"):
        (tree / name).mkdir()
    command = [sys.executable, "-m", "coverage", "run", f"--rcfile={RC}", "-m", "pytest", "-q"]
    command += ["-n", "2", "--dist", "loadscope", "-p", "no:cacheprovider"]
    command += [f"--basetemp={tree / 'tmp'}", *tests]
    return subprocess.run(command, cwd=tree, env=environment, timeout=TIMEOUT_S).returncode == 0


def _output(tree: Path, *arguments: str) -> Any:
    """Runs a module in the copy that writes JSON to `out.json`."""
    environment = {**os.environ, "WALSTORE_COVERAGE_DATA": str(tree / "data" / "coverage")}
    subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=tree,
        env=environment,
        check=True,
        stderr=subprocess.DEVNULL,
        timeout=TIMEOUT_S,
    )
    return json.loads((tree / "out.json").read_text(encoding="utf-8"))


def python_files(tree: Path) -> list[File]:
    """What was reached of the Python half."""
    combine = [sys.executable, "-m", "coverage", "combine", "--quiet", f"--rcfile={RC}"]
    environment = {**os.environ, "WALSTORE_COVERAGE_DATA": str(tree / "data" / "coverage")}
    subprocess.run(combine, cwd=tree, env=environment, check=True, timeout=TIMEOUT_S)
    report = _output(tree, "coverage", "json", "--quiet", f"--rcfile={RC}", "-o", "out.json")
    files = []
    for name, found in sorted(report["files"].items()):
        summary = found["summary"]
        missed = [str(line) for line in found["missing_lines"]]
        missed += [f"{line}->{to}" for line, to in found["missing_branches"] if line > 0]
        files.append(
            File(
                name,
                summary["num_statements"] + summary["num_branches"],
                summary["missing_lines"] + summary["missing_branches"],
                " ".join(missed),
            )
        )
    return files


def native_files(tree: Path) -> list[File]:
    """What was reached of the C half."""
    # What cffi wrote into a copy of the copy is gone with it, and not ours to judge.
    for path in (tree / "counters").glob("_walcore.*"):
        path.unlink()
    report = _output(tree, "gcovr", f"--root={tree}", *GCOVR, "--json", "out.json")
    files = []
    for found in report["files"]:
        total, missed = 0, []
        for line in found["lines"]:
            if line.get("gcovr/noncode") or line.get("gcovr/excluded"):
                continue
            total += 1
            if not line["count"]:
                missed.append(str(line["line_number"]))
            for number, branch in enumerate(line["branches"]):
                if branch.get("gcovr/excluded"):
                    continue
                total += 1
                if not branch["count"]:
                    missed.append(f"{line['line_number']}:{number}")
        files.append(File(found["file"], total, len(missed), " ".join(missed)))
    return files
