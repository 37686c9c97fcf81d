"""Runs schedules, adds up what happened in them, and prints it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from .world import World

__all__ = ["BadScheduleError", "run_all"]


class BadScheduleError(AssertionError):
    """A schedule in which something did not hold, and how to see it again."""


def run_all(seeds: Sequence[int], kind: type[World] = World) -> Counter[str]:
    """Many schedules of a kind of world; the sums of their counts.

    Raises:
        BadScheduleError: a promise was broken.
    """
    package = kind.__module__.rpartition(".")[0]
    total: Counter[str] = Counter()
    began_s = time.process_time()
    for seed in seeds:
        try:
            total += kind(seed).run()
        except AssertionError as error:
            raise BadScheduleError(f"{error}: replay with python -m {package} {seed}") from error
        total["schedules"] += 1
    rate = len(seeds) / (time.process_time() - began_s)
    print(f"{len(seeds)} schedules from seed {seeds[0]}, {rate:.0f}/s of CPU")
    print(", ".join(f"{name} {count}" for name, count in sorted(total.items())))
    return total
