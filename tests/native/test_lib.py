"""The typed face of the extension is the extension's own."""

from __future__ import annotations

import ast

from tests.helpers import ROOT
from walstore._native import lib

STUB = ROOT / "walstore" / "_native" / "_walcore.pyi"


def stub_names() -> set[str]:
    names = set()
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == "_Lib":
            for item in node.body:
                if isinstance(item, ast.FunctionDef):
                    names.add(item.name)
                elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    names.add(item.target.id)
    return names


def test_stub_names_everything_the_library_has() -> None:
    assert stub_names() == set(dir(lib))


def test_results_that_share_a_type_with_an_lsn_are_negative() -> None:
    for name in ("ROLL", "STALE", "FULL", "POISONED", "TIMEOUT", "STOPPED", "NO_MEMORY"):
        assert getattr(lib, f"WALCORE_{name}") < 0
