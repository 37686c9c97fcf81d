"""The runbook is true: every command of docs/operations.md is typed, and does what it says there.

WALSTORE_REWRITE=1 writes what came into the page, to be read as a diff.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.runbook import Runbook
from tests.helpers import ROOT
from walstore.cli.cluster import cluster

PAGE = ROOT / "docs" / "operations.md"
REWRITE = os.environ.get("WALSTORE_REWRITE") == "1"


@pytest.mark.timeout(300)
def test_the_runbook_is_true(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    book = Runbook(PAGE.read_text(encoding="utf-8"), run, as_written=REWRITE)
    try:
        page = book.type_all()
    finally:
        book.end()
    if REWRITE:
        PAGE.write_text(page, encoding="utf-8")
        return
    assert not book.differences
    print(f"typed={len(book.typed)}")
    assert len(book.typed) >= 45
    for name in cluster.commands:
        assert any(line.startswith(f"walstore cluster {name} ") for line in book.typed), name
