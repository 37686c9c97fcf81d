"""The peer comparison runs, on a small scale.  No time is asserted, only that figures appear."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.peers.loops import Sample, figures, percentile
from bench.peers.machine import Snapshot, filesystem_of, interference, require_disk
from bench.peers.plan import CONTENDERS, ROWS
from bench.peers.run import Measurement, Outcome
from bench.peers.targets import judge

REPOSITORY = Path(__file__).resolve().parents[2]


def outcome_of(row_name: str, rates: dict[str, list[float]], foreign: list[float]) -> Outcome:
    """Return an outcome in which each contender reached the given rates, one a round."""
    row = next(row for row in ROWS if row.name == row_name)
    measurements = [
        Measurement(row_name, name, index, {"ops_per_s": rate, "foreign_cpus": foreign[index]})
        for name, values in rates.items()
        for index, rate in enumerate(values)
    ]
    return Outcome(row, rounds_wanted=len(foreign), measurements=measurements)


def test_percentile_is_nearest_rank() -> None:
    values = list(range(1, 101))
    assert [percentile(values, f) for f in (0.0, 0.5, 0.99, 0.999, 1.0)] == [1, 50, 99, 100, 100]


def test_figures_count_records_not_calls() -> None:
    sample = Sample(1000, elapsed_ns=10**9, latencies_ns=[5_000] * 9 + [70_000], acknowledged=1200)
    found = figures(sample)
    assert (found["ops_per_s"], found["p50_us"], found["max_us"]) == (1000, 5, 70)


def test_foreign_cpu_is_what_neither_we_nor_the_kernel_used() -> None:
    before = Snapshot(when_s=0, busy_s=10, steal_s=0, own_s=1, kernel_s=2, flushes=5)
    after = Snapshot(when_s=2, busy_s=13, steal_s=0.2, own_s=2, kernel_s=2.5, flushes=25)
    around = interference(before, after)
    assert (around.foreign_cpus, around.own_cpus, around.flushes) == (0.85, 0.5, 20)


def test_noisy_rounds_are_left_out_of_medians() -> None:
    outcome = outcome_of("append-128", {"walstore": [100, 5, 102]}, foreign=[0.0, 1.4, 0.1])
    assert outcome.noisy_rounds() == {1}
    assert outcome.values("walstore", "ops_per_s") == [100, 102]
    assert not outcome.disturbed()


def test_mostly_noisy_rows_are_used_whole_and_marked() -> None:
    outcome = outcome_of("append-128", {"walstore": [100, 5, 7]}, foreign=[0.0, 1.4, 0.9])
    assert outcome.values("walstore", "ops_per_s") == [100, 5, 7]
    assert outcome.disturbed()


def test_targets_compare_with_the_best_peer() -> None:
    rates = {"walstore": [130.0], "sqlite-full": [90.0], "lmdb": [50.0], "rocksdict": [100.0]}
    verdicts = judge([outcome_of("append-128", rates, foreign=[0.0])])
    without_raw, against_peers = verdicts  # only the targets of the row that was run
    assert against_peers.peer.startswith("rocksdict")
    assert (against_peers.ratio, against_peers.ok) == ("1.30", "PASS")
    assert without_raw.ok == "not measured"


def test_plan_is_consistent() -> None:
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names))
    for row in ROWS:
        assert set(row.contenders) <= set(CONTENDERS)
        assert any(CONTENDERS[name].family == "raw" for name in row.contenders)
        if row.log:
            assert all(CONTENDERS[name].builder in CONTENDERS for name in row.contenders)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no /dev/shm")
def test_memory_file_systems_are_refused() -> None:
    if filesystem_of(Path("/dev/shm")) != "tmpfs":
        pytest.skip("/dev/shm is not tmpfs here")
    with pytest.raises(SystemExit, match="memory"):
        require_disk(Path("/dev/shm"))


def test_peers_runs_and_reports(tmp_path: Path) -> None:
    rows = ["append-128", "threads", "pipelined", "asyncio", "verify", "replay", "reopen-small"]
    command = [sys.executable, "-m", "bench.peers", "--quick", "--seconds", "0.02"]
    command += ["--stores", "walstore", "--stores", "sqlite"]
    command += ["--dir", str(REPOSITORY / "build" / "bench"), "--results", str(tmp_path)]
    command += [word for row in rows for word in ("--only", row)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = tmp_path.glob("*.json")
    result = json.loads(found.read_text(encoding="utf-8"))
    measured = {
        (row["row"]["name"], each["contender"])
        for row in result["rows"]
        for each in row["measurements"]
    }
    assert {name for name, contender in measured if contender == "walstore"} == {
        row.name for row in ROWS if row.name.startswith(tuple(rows))
    }
    page = found.with_suffix(".md").read_text(encoding="utf-8")
    assert "| target | measured | peer | ratio | ok |" in page
