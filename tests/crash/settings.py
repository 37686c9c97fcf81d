"""How much the crash tests do, and with which seed.

WALSTORE_CRASH_SCALE=40 makes a soak of them. WALSTORE_CRASH_SEED=n repeats a run; =fresh draws a
seed that no run had before.
"""

from __future__ import annotations

import os

from tests.seeds import seed_from


def scaled(count: int) -> int:
    """A count of the usual run, times the scale."""
    return max(1, round(count * float(os.environ.get("WALSTORE_CRASH_SCALE", "1"))))


def seed() -> int:
    """The commit's seed (it is printed), or the one that is asked for."""
    return seed_from("WALSTORE_CRASH_SEED")
