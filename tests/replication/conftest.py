"""A deadlock ends a test, not the run; and no node outlives its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.replication.nodes import Cluster


HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(90))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Makes clusters; every node is stopped in the end, and nothing of it is left."""
    from tests.replication.nodes import Cluster, own_threads, until

    made: list[Cluster] = []

    def make(names: str = "abc", **options: Any) -> Cluster:
        made.append(Cluster(tmp_path, names, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
    until(lambda: not own_threads(), f"threads are left: {own_threads()}")
