"""A deadlock ends a test, not the run; and no node outlives its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.raft.conftest import elected

if TYPE_CHECKING:
    from tests.cluster.machines import Machines

__all__ = ["elected", "machines"]


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Callable[..., Machines]]:
    """Makes clusters; every node is stopped in the end, and nothing of it is left."""
    from tests.cluster.machines import Machines
    from tests.replication.nodes import own_threads, until

    made: list[Machines] = []

    def make(names: str = "abc", **options: Any) -> Machines:
        made.append(Machines(tmp_path, names, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
    until(lambda: not own_threads(), f"threads are left: {own_threads()}")
