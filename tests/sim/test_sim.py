"""Clusters under every fault, from fresh seeds: what was acked is there, and logs become one."""

from __future__ import annotations

import random

import pytest

from tests.helpers import seed_of

from .run import PARTS, SCALE, BadScheduleError, run_all, run_part
from .world import World

# What a thousand schedules have at least.
EXPECTED = {
    "acks": 50_000,
    "appends": 80_000,
    "breaks": 3_000,
    "crashes": 3_000,
    "divergences": 300,
    "failed syncs": 500,
    "forced": 200,
    "full disks": 1_000,
    "late": 500,
    "lost": 5_000,
    "one-way partitions": 500,
    "partitions": 500,
    "promotions": 2_000,
    "reads": 50_000,
    "refused appends": 500,
    "snapshots": 100,
    "step downs": 50,
    "stopped": 10,
    "truncations": 2_000,
    "votes failed": 500,
}


@pytest.mark.timeout(3_000 * max(SCALE, 0.1))
@pytest.mark.parametrize("part", range(PARTS))
def test_no_schedule_breaks_a_promise(part: int) -> None:
    run_part(part, "simulation", World, EXPECTED)


def test_a_seed_is_one_course_of_things() -> None:
    seed = random.Random(seed_of("simulated twice")).getrandbits(40)
    hashes = set()
    for _ in range(2):
        world = World(seed)
        world.run()
        hashes.add((world.trace_hash, tuple(sorted(world.counts.items()))))
    assert len(hashes) == 1


def test_a_bad_schedule_says_how_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.sim.world.CONVERGE_MS", -1)
    with pytest.raises(BadScheduleError, match=r"python -m tests\.sim 7"):
        run_all([7])
