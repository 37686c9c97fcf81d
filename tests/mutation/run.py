"""Runs mutmut on one module in a copy of the tree, and compares what survives with what may."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.helpers import ROOT
from tests.seeded.run import copy_tree

SURVIVORS = ROOT / "tests" / "mutation" / "survivors.md"
TIMEOUT_S = 3600
# The fast tests of each module; mutmut takes of these the ones that reach the changed function.
TESTS = {
    "record": ("tests/wal/test_record.py",),
    "commit": ("tests/wal/test_waking.py",),
    "recovery": ("tests/wal/test_recovery.py",),
    "segment": ("tests/wal/test_segment.py",),
}
# Of changes: fewer, and mutmut has not understood the module.
MUTANTS_MIN = {"record": 100, "commit": 200, "recovery": 150, "segment": 150}
# A process that a signal ended is "segfault" or, by abort(), "suspicious".
KILLED = {"killed", "timeout", "segfault", "suspicious"}

CONFIG = """
[tool.mutmut]
source_paths = ["walstore/wal/{module}.py"]
pytest_add_cli_args = ["-p", "no:cacheprovider"]
pytest_add_cli_args_test_selection = {tests}
also_copy = ["walstore", "tests", "bench", "docs"]
timeout_constant = 10.0
timeout_multiplier = 5.0
"""


@dataclass(frozen=True, order=True)
class Change:
    """One change that no test sees; `diff` has its lines with - and +."""

    function: str
    diff: str


def explained(module: str) -> set[Change]:
    """The changes that survivors.md explains."""
    text = SURVIVORS.read_text(encoding="utf-8")
    pattern = r"^### `(\w+)\.([\w.]+)`\n\n```diff\n(.*?)\n```\n\n\S"
    found = re.findall(pattern, text, re.MULTILINE | re.DOTALL)
    assert len(found) == text.count("\n### "), f"{SURVIVORS.name}: an entry is not whole"
    return {Change(function, diff) for name, function, diff in found if name == module}


def _mutmut(tree: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *arguments],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    if done.returncode:
        raise RuntimeError(f"mutmut {arguments[0]}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def _change(tree: Path, name: str) -> Change:
    shown = _mutmut(tree, "show", name).splitlines()
    lines = [line for line in shown if re.match(r"[-+](?!--|\+\+)", line)]
    function = re.sub(r"__mutmut_\d+$", "", name.split(".")[-1])
    function = function.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
    return Change(function, "\n".join(line[0] + " " + line[1:].strip() for line in lines))


def mutate(module: str, tree: Path) -> tuple[int, set[Change]]:
    """How many changes were tried, and those that no test saw."""
    copy_tree(tree)
    with (tree / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write(CONFIG.format(module=module, tests=list(TESTS[module])))
    _mutmut(tree, "run", "--max-children", "2")
    results = re.findall(
        r"^ +(\S+__mutmut_\d+): (.+)$",
        _mutmut(tree, "results", "--all", "true"),
        re.MULTILINE,
    )
    survivors = {_change(tree, name) for name, status in results if status not in KILLED}
    return len(results), survivors
