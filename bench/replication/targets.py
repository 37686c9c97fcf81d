"""What walstore's replication must reach, each as a rule over the medians of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.peers.targets import Verdict
from bench.replication.rows import PEERS, POSTGRES
from bench.replication.run import Outcome

WINDOW_MIB = 4  # in flight to a follower
ELECTION_MS = 1000
RATES = {"catch-up": "mib_per_s", "failover": "failover_ms"}  # of most rows: ops_per_s


def verdict(good: bool, outcome: Outcome) -> str:
    """As the table shows it."""
    return ("PASS" if good else "FAIL") + (" (noisy)" if outcome.disturbed() else "")


def unknown(title: str, outcome: Outcome, contenders: Sequence[str]) -> Verdict:
    """Something was not measured; the row's table says why."""
    failed = ", ".join(name for name in contenders if name in outcome.failures)
    return Verdict(title, "-", "-", "-", f"not measured: {failed or 'not asked for'}")


@dataclass(frozen=True)
class Against:
    """walstore's median against that of the best of some contenders, the one with the best rate.

    ``factor`` is the most that the ratio may be, or the least, for rates.
    """

    title: str
    row: str
    metric: str
    contenders: tuple[str, ...]
    factor: float
    ours: str = "walstore"

    def judge(self, outcome: Outcome) -> Verdict:
        rising = self.metric.endswith("_per_s")
        sign = ">=" if rising else "<="
        title = f"{self.title}: {sign} {self.factor:g}x {' or '.join(self.contenders)}"
        rate = RATES.get(self.row, "ops_per_s")
        rates = {
            label: value
            for label in outcome.labels_of(self.contenders)
            if (value := outcome.median(label, rate)) is not None
        }
        ours = outcome.median(self.ours, self.metric)
        if ours is None or not rates:
            return unknown(title, outcome, (self.ours, *self.contenders))
        best = max(rates, key=lambda label: rates[label])
        theirs = outcome.median(best, self.metric)
        assert theirs is not None
        ratio = ours / theirs
        good = ratio >= self.factor if rising else ratio <= self.factor
        return Verdict(
            title, f"{ours:,.0f}", f"{best} {theirs:,.0f}", f"{ratio:.2f}",
            verdict(good, outcome),
        )  # fmt: skip


@dataclass(frozen=True)
class Limit:
    """A figure of walstore's own keeps to a limit."""

    title: str
    row: str
    metric: str
    limit: float
    at_least: bool = False
    ours: str = "walstore"

    def judge(self, outcome: Outcome) -> Verdict:
        title = f"{self.title}: {'>=' if self.at_least else '<='} {self.limit:g}"
        value = outcome.median(self.ours, self.metric)
        if value is None:
            return unknown(title, outcome, (self.ours,))
        good = value >= self.limit if self.at_least else value <= self.limit
        shown = f"{value / self.limit:.2f}"
        return Verdict(title, f"{value:,.2f}", "-", shown, verdict(good, outcome))


TARGETS: tuple[Against | Limit, ...] = (
    Against("one at a time, p50 us", "one", "p50_us", POSTGRES, 0.9),
    Against("one at a time, p50 us", "one", "p50_us", ("redis",), 0.6),
    Against("one at a time, p50 us", "one", "p50_us", ("etcd",), 0.5),
    Against("one at a time, p50 us", "one", "p50_us", ("floor",), 1.6),
    Against("256 in flight, 1/s", "many", "ops_per_s", PEERS, 5.0),
    Against("256 in flight, p99 us", "many", "p99_us", PEERS, 1.0),
    Against("batches of 100, records/s", "batch", "ops_per_s", POSTGRES, 2.0),
    Against("async append, p50 us", "async", "p50_us", ("plain",), 1.15),
    Against("catch-up, MiB/s", "catch-up", "mib_per_s", ("postgres-insert",), 1.8),
    Against("catch-up, MiB/s", "catch-up", "mib_per_s", ("floor",), 0.25),
    Limit("leader's memory, one follower stopped, MiB", "stopped", "growth_mib", WINDOW_MIB + 32),
    Limit("throughput, one follower stopped", "stopped", "ratio", 0.9, at_least=True),
    Limit("p99 beside a slow follower", "disturbed", "slow_ratio", 2.0),
    Limit("p99 beside a catch-up", "disturbed", "catch_up_ratio", 2.0),
    Against("elected, one at a time, p50 us", "elected-one", "p50_us", ("etcd",), 0.5, "elected"),
    Against("elected, one at a time, p99 us", "elected-one", "p99_us", ("etcd",), 0.5, "elected"),
    Against("elected, 256 in flight, 1/s", "elected-many", "ops_per_s", ("etcd",), 5.0, "elected"),
    Against("five nodes, p50 us", "five", "p50_us", ("elected",), 1.4, "elected-5"),
    Limit("failover, ms", "failover", "failover_ms", 1.5 * ELECTION_MS, ours="elected"),
    Against("failover, ms", "failover", "failover_ms", ("etcd",), 1.0, "elected"),
    Limit("CPU of an idle node, %", "idle", "cpu_percent", 2.0, ours="elected"),
)


def judge(outcomes: Sequence[Outcome]) -> list[Verdict]:
    """The final table: each target whose row was run."""
    by_row = {outcome.row.name: outcome for outcome in outcomes}
    return [target.judge(by_row[target.row]) for target in TARGETS if target.row in by_row]
