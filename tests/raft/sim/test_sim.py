"""Clusters that elect, under every fault: nothing acked is lost, and afterwards they go on."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from tests.helpers import ROOT, seed_of
from tests.sim.run import PARTS, SCALE, BadScheduleError, run_all, run_part

from .world import RaftWorld

# What a thousand schedules have at least.
EXPECTED = {
    "accepted": 30_000,
    "acks": 40_000,
    "appends": 60_000,
    "breaks": 6_670,
    "changes": 2_670,
    "configurations": 1_170,
    "crashes": 3_330,
    "damages": 330,
    "divergences": 330,
    "elections": 2_330,
    "failed syncs": 500,
    "full disks": 1_500,
    "handed over": 67,
    "holds": 1_330,
    "joint": 270,
    "late": 1_330,
    "left by the leader": 27,
    "linearizable reads": 16_670,
    "lost": 10_000,
    "mended": 200,
    "mended by the same leader": 12,
    "newcomers": 200,
    "newcomers taken back": 60,
    "one-way partitions": 1_000,
    "partitions": 1_000,
    "pauses": 2_000,
    "reads refused": 13_330,
    "resigned": 400,
    "snapshots": 100,
    "stalls": 1_670,
    "transferred": 270,
    "truncations": 1_170,
    "votes failed": 170,
}


@pytest.mark.timeout(3_000 * max(SCALE, 0.1))
@pytest.mark.parametrize("part", range(PARTS))
def test_no_schedule_breaks_a_promise(part: int) -> None:
    run_part(part, "raft simulation", RaftWorld, EXPECTED)


def test_a_seed_is_one_course_of_things() -> None:
    """Also where strings hash to something else."""
    seed = random.Random(seed_of("simulated twice")).getrandbits(40)
    world = RaftWorld(seed)
    world.run()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.raft.sim", str(seed)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert f"seed {seed}: trace {world.trace_hash}\n" in done.stdout


def test_a_bad_schedule_says_how_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.raft.sim.world.ELECTED_MS", -1)
    monkeypatch.setattr("tests.raft.sim.world.CONVERGE_MS", -1)
    with pytest.raises(BadScheduleError, match=r"python -m tests\.raft\.sim 7"):
        run_all([7], RaftWorld)
