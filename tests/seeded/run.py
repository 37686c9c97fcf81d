"""Puts seeded bugs into a copy of the tree and runs the tests that must see them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.helpers import ROOT

from .bugs import BUGS, Bug

TIMEOUT_S = 400
CRASH_SCALE = "0.05"  # enough states to see any of these


class NotCaughtError(AssertionError):
    """A bug that no test sees."""


def copy_tree(target: Path) -> None:
    """What the tests need of the tree, the built helper among it."""
    ignored = shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info")
    for name in ("walstore", "tests", "bench", "docs"):
        shutil.copytree(ROOT / name, target / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "CHANGELOG.md", "LICENSE", "Makefile"):
        shutil.copy(ROOT / name, target)


def apply(bug: Bug, tree: Path) -> None:
    """Makes the edits of a bug.

    Raises:
        ValueError: the text that an edit replaces is not there, or more than once.
    """
    for edit in bug.edits:
        path = tree / edit.file
        text = path.read_text(encoding="utf-8")
        if text.count(edit.old) != 1:
            raise ValueError(
                f"{bug.name}: in {edit.file} {text.count(edit.old)} times {edit.old!r}"
            )
        path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")


def build(tree: Path) -> None:
    """Compiles the helper anew."""
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--force"],
        cwd=tree,
        check=True,
        capture_output=True,
        timeout=TIMEOUT_S,
    )


def catch(bug: Bug, tree: Path) -> str:
    """Runs the bug's tests in a copy of the tree that has the bug, and names the one that fails.

    Raises:
        NotCaughtError: none does.
    """
    copy_tree(tree)
    apply(bug, tree)
    if any(edit.file.endswith(".c") for edit in bug.edits):
        build(tree)
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree),
        "WALSTORE_CRASH_SCALE": CRASH_SCALE,
    }
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST", "PYTEST_ADDOPTS"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no"]
    command += [f"--basetemp={tree / 'tmp'}", *bug.tests]
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    failed = re.search(r"^FAILED (\S+)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or not failed:
        raise NotCaughtError(f"{bug.name}: exit status {done.returncode}\n{done.stdout[-2000:]}")
    return failed[1]


def run(bugs: Sequence[Bug], where: Path) -> dict[str, str]:
    """Catches each bug; returns the tests that did it by the bugs' names."""
    caught = {}
    for bug in bugs:
        tree = where / bug.name
        caught[bug.name] = catch(bug, tree)
        print(f"{bug.name}: caught by {caught[bug.name]}", flush=True)
        shutil.rmtree(tree)
    return caught


def named(names: Sequence[str]) -> list[Bug]:
    """The bugs of these names; all of them when there is none."""
    known = {bug.name: bug for bug in BUGS}
    return [known[name] for name in names] or list(BUGS)
