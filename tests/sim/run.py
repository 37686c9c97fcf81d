"""Runs schedules and adds up what happened in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .world import World

__all__ = ["BadScheduleError", "run", "run_all"]


class BadScheduleError(AssertionError):
    """A schedule in which something did not hold, and how to see it again."""


def run(seed: int) -> Counter[str]:
    """One schedule.

    Raises:
        BadScheduleError: a promise was broken.
    """
    world = World(seed)
    try:
        return world.run()
    except AssertionError as error:
        raise BadScheduleError(f"{error}: replay with python -m tests.sim {seed}") from error


def run_all(seeds: Iterable[int]) -> Counter[str]:
    """Many schedules; the sums of their counts."""
    total: Counter[str] = Counter()
    for seed in seeds:
        total += run(seed)
        total["schedules"] += 1
    return total
