"""The comparison of replication runs, on a small scale.  No time is asserted, only figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.replication.cluster import Cluster, Metrics, figures
from bench.replication.elected import failovers
from bench.replication.etcd import field
from bench.replication.report import row_table
from bench.replication.rows import CONTENDERS, PEERS, ROWS
from bench.replication.run import Outcome, explanation
from bench.replication.targets import TARGETS, judge

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = ("floor", "plain", "redis")  # start within a second


def outcome_of(row_name: str, results: dict[str, list[Metrics]]) -> Outcome:
    return Outcome(next(row for row in ROWS if row.name == row_name), results)


def test_figures_are_of_records_and_microseconds() -> None:
    found = figures([5_000] * 98 + [70_000] * 2, 10_000, 10**9)
    assert found == {"ops_per_s": 10_000, "p50_us": 5, "p99_us": 70}


def test_a_latency_is_compared_with_that_of_the_peer_with_the_best_rate() -> None:
    results = {
        "walstore": [{"ops_per_s": rate, "p99_us": 5.0} for rate in (400.0, 500.0, 900.0)],
        "redis/16": [{"ops_per_s": 10.0, "p99_us": 1.0}],
        "redis/256": [{"ops_per_s": 101.0, "p99_us": 6.0}],
        "etcd/16": [{"ops_per_s": 99.0, "p99_us": 0.1}],
    }
    rate, latency = judge([outcome_of("many", results)])
    assert (rate.measured, rate.peer, rate.ratio, rate.ok) == (
        "500", "redis/256 101", "4.95", "FAIL",
    )  # fmt: skip
    assert (latency.peer, latency.ok) == ("redis/256 6", "PASS")


def test_what_other_programs_disturbed_is_marked() -> None:
    outcome = outcome_of("disturbed", {"walstore": [{"slow_ratio": 1.0, "catch_up_ratio": 3.0}]})
    outcome.foreign_cpus = [0.1, 0.9, 0.8]
    assert [each.ok for each in judge([outcome])] == ["PASS (noisy)", "FAIL (noisy)"]


@pytest.mark.parametrize(("growth", "ok"), [(36.0, "PASS"), (36.1, "FAIL")])
def test_a_limit_is_kept_or_not(growth: float, ok: str) -> None:
    outcome = outcome_of("stopped", {"walstore": [{"growth_mib": growth}]})
    memory, throughput = judge([outcome])
    assert (memory.ok, throughput.ok) == (ok, "not measured: not asked for")


def test_what_gave_no_figure_is_named_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "p.log").write_text("starting\nFATAL: no | space\n", encoding="utf-8")
    (tmp_path / "s1.log").write_text("", encoding="utf-8")
    outcome = outcome_of("one", {"walstore": [{"ops_per_s": 1.0, "p50_us": 9.0}]})
    outcome.failures = {
        "etcd": "not measured: etcd is not installed",
        "redis": f"failed: {explanation(tmp_path, 1, 'Traceback' + chr(10) + 'OSError: it died')}",
    }
    _, redis, etcd, floor = judge([outcome])
    assert [redis.ok, etcd.ok] == ["not measured: redis", "not measured: etcd"]
    assert floor.ok == "not measured: not asked for"
    table = row_table(outcome)
    assert "| etcd | not measured: etcd is not installed | |" in table
    assert "| redis | failed: OSError: it died; p.log: FATAL: no / space | |" in table
    assert explanation(tmp_path / "none", -9, "") == "it ended with -9 and said nothing"


def test_plan_is_consistent() -> None:
    names = {row.name for row in ROWS}
    assert len(names) == len(ROWS)
    assert {target.row for target in TARGETS} == names
    for row in ROWS:
        assert set(row.contenders) <= set(CONTENDERS)
        assert row.contenders[0] in ("walstore", "elected", "elected-5")
    assert set(PEERS) < set(CONTENDERS)
    assert all(issubclass(kind, Cluster) and kind.promise for kind in CONTENDERS.values())


def test_nodes_that_elect_have_targets_of_their_own() -> None:
    failover = outcome_of("failover", {"elected": [failovers([1400.0, 1100.0, 3000.0])]})
    failover.results["etcd"] = [{"failover_ms": 1350.0}]
    idle = outcome_of("idle", {"elected": [{"cpu_percent": 2.1}]})
    five = outcome_of("five", {"elected": [{"ops_per_s": 9.0, "p50_us": 100.0}]})
    five.results["elected-5"] = [{"ops_per_s": 8.0, "p50_us": 139.0}]
    found = {each.target.partition(":")[0]: each.ok for each in judge([failover, five])}
    assert found == {"five nodes, p50 us": "PASS", "failover, ms": "FAIL"}
    assert [each.ok for each in judge([failover, idle])] == ["PASS", "FAIL", "FAIL"]


def test_fields_are_those_of_protobuf() -> None:
    assert field(1, b"key") == b"\x0a\x03key"
    assert field(2, bytes(300)) == b"\x12\xac\x02" + bytes(300)


def test_replication_runs_and_reports(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.replication", "--rounds", "1", "--seconds", "0.05"]
    command += ["--mib", "1", "--dir", str(REPOSITORY / "build" / "bench")]
    command += ["--results", str(tmp_path)]
    command += [word for name in SMALL for word in ("--contenders", name)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = tmp_path.glob("*.json")
    rows = json.loads(found.read_text(encoding="utf-8"))["rows"]
    measured = {(row["row"], label.partition("/")[0]) for row in rows for label in row["results"]}
    missing = {name for name in SMALL if CONTENDERS[name].missing()}
    assert measured == {
        (row.name, name) for row in ROWS for name in set(row.contenders) & set(SMALL) - missing
    }
    page = found.with_suffix(".md").read_text(encoding="utf-8")
    assert "| target | measured | peer | ratio | ok |" in page
    assert "## quorum append, 128 B, one at a time" in page


def test_a_leader_is_killed_and_another_one_takes_over(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.replication", "--rounds", "1", "--kills", "1"]
    command += ["--only", "failover", "--contenders", "elected", "--results", str(tmp_path)]
    command += ["--dir", str(REPOSITORY / "build" / "bench")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = tmp_path.glob("*.json")
    (row,) = json.loads(found.read_text(encoding="utf-8"))["rows"]
    (figures_of_it,) = row["results"]["elected"]
    assert 0 < figures_of_it["failover_ms"] == figures_of_it["failover_max_ms"]
