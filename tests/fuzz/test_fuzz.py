"""Each decoder is shown hostile bytes, a bounded number of them; `make fuzz` shows it more."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from tests.fuzz.one import TARGETS
from tests.fuzz.run import CORPUS, BrokenError, fuzz
from tests.helpers import seed_of

RUNS = {
    "record": 20_000,
    "segment": 60_000,
    "meta": 50_000,
    "recovery": 25_000,
    "message": 60_000,
    "documents": 20_000,
    "cluster": 20_000,
}
RUNS_MIN = 200_000
CORPUS_MIN = 4

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not here: it is built for CPython 3.11 to 3.13 on Linux, x86-64 only",
)


def test_there_is_enough_of_it() -> None:
    assert tuple(RUNS) == TARGETS
    assert sum(RUNS.values()) >= RUNS_MIN


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_breaks_nothing(name: str) -> None:
    one_input: Callable[[bytes], None] = import_module(f"tests.fuzz.fuzz_{name}").one_input
    inputs = sorted((CORPUS / name).iterdir())
    for path in inputs:
        one_input(path.read_bytes())
    assert len(inputs) >= CORPUS_MIN


@needs_atheris
@pytest.mark.parametrize("name", TARGETS)
def test_hostile_bytes_break_nothing(name: str, tmp_path: Path) -> None:
    executions = fuzz(name, tmp_path, seed_of(f"fuzz {name}"), runs=RUNS[name])
    print(f"executions={executions}")
    assert executions >= RUNS[name]


@needs_atheris
def test_a_property_that_does_not_hold_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scanner that takes any payload is found out, and the input is kept."""
    patch = tmp_path / "sitecustomize.py"
    patch.write_text(
        "import tests.native.twin as twin\n"
        "twin.Scan._payload = lambda self, data, size: twin.Record(1)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with pytest.raises(BrokenError, match="Uncaught Python exception"):
        fuzz("record", tmp_path, 1, runs=20_000)
    assert list(tmp_path.glob("crash-*"))
