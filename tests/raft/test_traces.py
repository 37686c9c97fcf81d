"""Scenarios with what comes of them (script.py says how to read them).

WALSTORE_REWRITE=1 writes what comes of them now: look at the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .script import play

TRACES = sorted((Path(__file__).parent / "traces").glob("*.txt"))
REWRITE = bool(os.environ.get("WALSTORE_REWRITE"))


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_trace(path: Path) -> None:
    before = path.read_text(encoding="utf-8")
    after = play(before)
    if REWRITE:
        path.write_text(after, encoding="utf-8")
    assert after == before or REWRITE


def test_there_are_scenarios() -> None:
    assert len(TRACES) >= 20
    assert all("> " in path.read_text(encoding="utf-8") for path in TRACES)
