"""The pytest plugin: the fixtures `crash_lab` and `partitions`, and the option that repeats a run
of the first."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from walstore.testing.errors import CrashLabError
from walstore.testing.lab import CrashLab
from walstore.testing.partitions import Partitions
from walstore.testing.shim import build

OPTION = "--walstore-seed"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("walstore", "crash lab")
    group.addoption(OPTION, type=int, metavar="N", help="repeat a run of the crash lab")


@pytest.fixture
def crash_lab(request: pytest.FixtureRequest, tmp_path: Path) -> CrashLab:
    """Breaks a store: power cuts, failing storage calls, a full disk. See docs/crash-lab.md."""
    try:
        build()
    except CrashLabError as error:
        pytest.fail(str(error), pytrace=False)
    wanted = request.config.getoption(OPTION)
    seed = int.from_bytes(os.urandom(3), "big") if wanted is None else int(wanted)
    again = f"pytest {shlex.quote(request.node.nodeid)} {OPTION}={seed}"
    return CrashLab(tmp_path / "crash-lab", seed, again)


@pytest.fixture
def partitions() -> Iterator[Partitions]:
    """Links between nodes, to be cut and healed. See docs/crash-lab.md."""
    with Partitions() as partitions:
        yield partitions
