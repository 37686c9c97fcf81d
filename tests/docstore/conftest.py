"""Stores on each kind of log; a deadlock ends a test, not the run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docstore.sites import KINDS, Site

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(90))


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A directory with a store, on a plain log and on a replicated one of one node."""
    made = Site(tmp_path / "log", request.param)
    yield made
    made.close()


@pytest.fixture
def file_site(tmp_path: Path) -> Iterator[Site]:
    """A directory with a store on a plain log."""
    made = Site(tmp_path / "log", "file")
    yield made
    made.close()
