"""The C helper when libc fails it or holds it up: the cases are in interposed.py."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.helpers import ROOT, run_child
from walstore.testing.shim import compiler

SOURCE = ROOT / "tests" / "native" / "interpose.c"
CASES_MIN = 21


@pytest.mark.timeout(90)
def test_every_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "interpose.so"
    command = [compiler(), "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", library, SOURCE, "-ldl", "-pthread"], check=True)
    work = tmp_path / "work"
    work.mkdir()
    libraries = [str(library), *filter(None, [os.environ.get("LD_PRELOAD")])]
    monkeypatch.setenv("LD_PRELOAD", ":".join(libraries))
    source = "import sys; from tests.native import interposed; interposed.run_all(sys.argv[1])"
    good = run_child(source, work, timeout_s=80).split()
    print(f"cases={len(good)}")
    assert len(good) >= CASES_MIN
