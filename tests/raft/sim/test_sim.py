"""Clusters that elect, under every fault: nothing acked is lost, and afterwards they go on."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from tests.helpers import ROOT, seed_of
from tests.sim.run import BadScheduleError, run_all

from .world import RaftWorld

SCALE = float(os.environ.get("WALSTORE_SIM_SCALE", "1"))
PARTS = 2
SCHEDULES = 300

# Counts that so many schedules reach at least: a fault that never happens proves nothing.
EXPECTED = {
    "acks": 12_000,
    "appends": 18_000,
    "breaks": 2_000,
    "changes": 800,
    "configurations": 350,
    "crashes": 1_000,
    "damages": 100,
    "divergences": 100,
    "elections": 700,
    "failed syncs": 150,
    "full disks": 450,
    "handed over": 20,
    "holds": 400,
    "joint": 80,
    "late": 400,
    "left by the leader": 8,
    "linearizable reads": 5_000,
    "mended": 60,
    "lost": 3_000,
    "newcomers": 60,
    "one-way partitions": 300,
    "partitions": 300,
    "pauses": 600,
    "reads refused": 4_000,
    "resigned": 120,
    "snapshots": 30,
    "stalls": 500,
    "transferred": 80,
    "truncations": 350,
    "votes failed": 50,
}


@pytest.mark.timeout(3_000 * max(SCALE, 0.1))
@pytest.mark.parametrize("part", range(PARTS))
def test_no_schedule_breaks_a_promise(part: int) -> None:
    schedules = max(1, round(SCHEDULES * SCALE / PARTS))
    first = (seed_of("raft simulation") << 20) + part * schedules  # no two parts share one
    counts = run_all(range(first, first + schedules), RaftWorld)
    if schedules >= SCHEDULES / PARTS:
        share = schedules / SCHEDULES / 2  # half, so that chance does not fail it
        few = {n: counts[n] for n, least in EXPECTED.items() if counts[n] < least * share}
        assert not few


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
