"""A deadlock ends a test, not the run; and no node outlives its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.raft.elected import Elected


@pytest.fixture
def elected(tmp_path: Path) -> Iterator[Callable[..., Elected]]:
    """Makes clusters; every node is stopped in the end, and nothing of it is left."""
    from tests.raft.elected import Elected
    from tests.replication.nodes import own_threads, until

    made: list[Elected] = []

    def make(names: str = "abc", **options: Any) -> Elected:
        made.append(Elected(tmp_path, names, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
    until(lambda: not own_threads(), f"threads are left: {own_threads()}")
