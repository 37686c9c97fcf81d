"""A copy of the tree, with the C helper compiled in it in another way than a user's is."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from tests.helpers import ROOT
from tests.seeded.run import copy_tree

__all__ = ["COUNTERS_VARIABLE", "build_copy", "counters", "environment", "library"]

# Where tests.coverage gathers the counters of such copies; not set in a usual run.
COUNTERS_VARIABLE = "WALSTORE_COVERAGE_COUNTERS"

TIMEOUT_S = 100
EMIT = (
    "import runpy, sys;"
    "build = runpy.run_path('walstore/_native/build.py');"
    "build['ffibuilder'].emit_c_code(sys.argv[1])"
)


def library(tree: Path) -> Path:
    """The helper in such a copy."""
    return tree / "walstore" / "_native" / "_walcore.abi3.so"


def build_copy(tree: Path, flags: Sequence[str], sources: Sequence[Path] = ()) -> Path:
    """Copies the tree to `tree` and compiles the helper there with these flags, and with more
    sources. Needs no setuptools. Returns the helper."""
    tree.mkdir()
    copy_tree(tree)
    native = tree / "walstore" / "_native"
    library(tree).unlink(missing_ok=True)
    emitted = native / "_walcore.c"
    # The C files of the tree itself, so that what is counted is counted for them.
    files = [path for path in (ROOT / "walstore" / "_native").glob("*.c") if path.name[0] != "_"]
    command = [sys.executable, "-c", EMIT, str(emitted)]
    subprocess.run(command, cwd=tree, check=True, timeout=TIMEOUT_S)
    include = sysconfig.get_path("include")
    command = ["gcc", "-shared", "-fPIC", "-g", "-O1", "-std=gnu11", "-UNDEBUG", "-pthread"]
    command += ["-DPy_LIMITED_API=0x030b0000", f"-I{include}", f"-I{native}", *flags]
    command += [str(path) for path in (emitted, *sorted(files), *sources)]
    subprocess.run([*command, "-o", str(library(tree))], check=True, timeout=TIMEOUT_S)
    return library(tree)


def counters() -> list[str]:
    """The flags that make a copy count what is reached of it, when coverage is measured."""
    where = os.environ.get(COUNTERS_VARIABLE)
    return (
        ["-O0", "--coverage", "-fprofile-update=atomic", "-dumpdir", f"{where}/"] if where else []
    )


def environment(tree: Path, **more: str) -> dict[str, str]:
    """For a process that is to use the copy, and is no part of this run of pytest."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return {**kept, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", **more}
