"""How much the crash tests do, and with which seed.

WALSTORE_CRASH_SCALE=40 makes a soak of them; WALSTORE_CRASH_SEED=n repeats a run.
"""

from __future__ import annotations

import os


def scaled(count: int) -> int:
    """A count of the usual run, times the scale."""
    return max(1, round(count * float(os.environ.get("WALSTORE_CRASH_SCALE", "1"))))


def seed() -> int:
    """A fresh seed for each run (it is printed), or the one that is asked for."""
    wanted = os.environ.get("WALSTORE_CRASH_SEED")
    return int(wanted) if wanted else int.from_bytes(os.urandom(3), "big")
