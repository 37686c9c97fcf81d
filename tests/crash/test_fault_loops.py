"""Every storage call of a workload fails once, or from then on; the log stays honest.

A soak takes every pair of a workload and a fault, the usual run one in eight: each workload with an
eighth of the faults, each fault with an eighth of the workloads. The seed says which.
"""

from __future__ import annotations

import random

import pytest

from walstore.testing.faults import FAULTS

from . import faults
from .settings import scaled, seed
from .workloads import workloads

ONE_IN = 8
HITS_MIN = 3_000


def pairs_of(names: list[str], kinds: list[str], rng: random.Random) -> list[tuple[str, str]]:
    """One pair in ONE_IN, like the squares of one colour on a board; which, is drawn."""
    names, kinds = rng.sample(names, len(names)), rng.sample(kinds, len(kinds))
    return [
        (name, kind)
        for row, name in enumerate(names)
        for column, kind in enumerate(kinds)
        if (row + column) % ONE_IN == 0
    ]


def test_every_storage_call_failing(capsys: pytest.CaptureFixture[str]) -> None:
    names, kinds = [w.name for w in workloads("walstore")], [*FAULTS]
    first_seed = seed()
    pairs = [(name, kind) for name in names for kind in kinds]
    if scaled(1) == 1:
        pairs = pairs_of(names, kinds, random.Random(first_seed))
    outcome = faults.run_workers(pairs, first_seed)
    with capsys.disabled():
        print(f"\npairs={len(pairs)} seed={first_seed} {outcome}")
    assert outcome.bad == 0, f"{outcome.bad} bad runs\n" + "\n".join(outcome.reports)
    assert outcome.hits >= HITS_MIN
    assert {*outcome.by_fault} == {*kinds}, "a fault never hit"
    assert {*outcome.by_workload} == {*names}, "a workload was never hit"
