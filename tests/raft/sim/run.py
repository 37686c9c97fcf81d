"""Runs schedules and adds up what happened in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.sim.run import BadScheduleError

from .world import RaftWorld

__all__ = ["run_all"]


def run_all(seeds: Iterable[int]) -> Counter[str]:
    """Many schedules; the sums of their counts.

    Raises:
        BadScheduleError: something did not hold, and how to see it again.
    """
    total: Counter[str] = Counter()
    for seed in seeds:
        try:
            total += RaftWorld(seed).run()
        except AssertionError as error:
            raise BadScheduleError(f"{error}: python -m tests.raft.sim {seed}") from error
        total["schedules"] += 1
    return total
