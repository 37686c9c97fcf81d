"""Options and fixtures of the benchmarks: ``pytest bench``; ``--big`` adds logs of 1 and 4 GiB.

Every benchmark prints p50, p99, p99.9 and the maximum at the end.  Nothing here asserts a time:
how fast a machine must be is no property of the code.  To compare with peers: ``bench.peers``.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.peers.loops import percentile
from bench.peers.machine import require_disk
from bench.peers.run import REPOSITORY

LINES = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("walstore benchmarks")
    group.addoption("--big", action="store_true", help="also reopen logs of 1 GiB and 4 GiB")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "big: writes a log of 1 GiB or more; runs with --big")
    config.stash[LINES] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--big"):
        return
    for item in items:
        if item.get_closest_marker("big"):
            item.add_marker(pytest.mark.skip(reason="a big log: add --big"))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    lines = config.stash[LINES]
    if lines:
        terminalreporter.section("latency of a call in us, and records/s")
        titles = ("p50", "p99", "p99.9", "max")
        terminalreporter.write_line(" " * 44 + "".join(f"{title:>12}" for title in titles))
        for line in lines:
            terminalreporter.write_line(line)


def _work_directory(config: pytest.Config) -> Path:
    """Return ``--basetemp`` or build/ of the repository: /tmp may be memory, and syncs free."""
    chosen = config.getoption("basetemp")
    return Path(chosen) if chosen else REPOSITORY / "build" / "bench"


@pytest.fixture(scope="module")
def module_disk(pytestconfig: pytest.Config) -> Iterator[Path]:
    """A directory on a real disk for one module; removed afterwards."""
    base = _work_directory(pytestconfig)
    base.mkdir(parents=True, exist_ok=True)
    require_disk(base)
    directory = Path(tempfile.mkdtemp(prefix="pytest-", dir=base))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def disk(module_disk: Path) -> Iterator[Path]:
    """A fresh directory on a real disk for one benchmark; removed afterwards."""
    directory = Path(tempfile.mkdtemp(dir=module_disk))
    yield directory
    shutil.rmtree(directory)


class Measure(Protocol):
    """Times ``call`` in ``rounds`` rounds of one call each; ``records`` is what one call stores."""

    def __call__(
        self,
        call: Callable[..., Any],
        *arguments: object,
        rounds: int,
        warmup_rounds: int = 0,
        setup: Callable[[], object] | None = None,
        records: int = 1,
    ) -> Any: ...


@pytest.fixture
def measure(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> Measure:
    """Return pytest-benchmark's pedantic mode, extended by percentiles of the rounds.

    One call a round, never the mean of several: a mean hides the slow calls that p99 is about.
    """
    fixture: Any = benchmark
    fixture.group = request.node.name.partition("[")[0]  # a table for each test

    def measured(
        call: Callable[..., Any],
        *arguments: object,
        rounds: int,
        warmup_rounds: int = 0,
        setup: Callable[[], object] | None = None,
        records: int = 1,
    ) -> Any:
        options = {"setup": setup} if setup else {"args": arguments, "warmup_rounds": warmup_rounds}
        result = fixture.pedantic(call, rounds=rounds, **options)
        if fixture.stats:  # not with --benchmark-disable: the work is then done once, untimed
            found = _percentiles_us(fixture.stats.stats.data)
            fixture.extra_info.update(found, records_per_call=records)
            rate = records / fixture.stats.stats.mean
            request.config.stash[LINES].append(_line(request.node.name, found, rate))
        return result

    return measured


def _percentiles_us(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(each * 1e6 for each in seconds)
    return {
        "p50_us": percentile(ordered, 0.50),
        "p99_us": percentile(ordered, 0.99),
        "p999_us": percentile(ordered, 0.999),
        "max_us": ordered[-1],
    }


def _line(name: str, found: dict[str, float], rate: float) -> str:
    shown = "".join(f"{value:>12,.1f}" for value in found.values())
    return f"{name:44}{shown}{rate:>14,.0f}"
