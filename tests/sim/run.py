"""Runs schedules, adds up what happened in them, and prints it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from tests.helpers import seed_of

from .world import World

__all__ = ["PARTS", "SCALE", "BadScheduleError", "run_all", "run_part"]

SCALE = float(os.environ.get("WALSTORE_SIM_SCALE", "1"))
PARTS = 4
_SCHEDULES = 1_000


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


def run_part(part: int, what: str, kind: type[World], expected: Mapping[str, int]) -> None:
    """Runs one of PARTS shares of the schedules.

    Args:
        part: which; no two have a seed in common.
        what: the name of their seed.
        kind: of the worlds.
        expected: what happens at least in a thousand schedules: a fault that never happens proves
            nothing. Half of it is asked for, so that chance does not fail it.
    """
    schedules = max(1, round(_SCHEDULES * SCALE / PARTS))
    first = (seed_of(what) << 20) + part * schedules
    counts = run_all(range(first, first + schedules), kind)
    if schedules >= _SCHEDULES / PARTS:
        share = schedules / _SCHEDULES / 2
        few = {name for name, least in expected.items() if counts[name] < least * share}
        assert not few, {name: counts[name] for name in few}
