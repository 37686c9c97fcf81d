"""What walstore must reach, each as a rule over the medians of one run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.peers.plan import PEERS
from bench.peers.run import Outcome


@dataclass(frozen=True)
class Verdict:
    """One line of the final table."""

    target: str
    measured: str
    peer: str
    ratio: str
    ok: str  # PASS, FAIL, or "not measured" and why


class Results:
    """The medians of a run."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes = {outcome.row.name: outcome for outcome in outcomes}

    def median(self, row: str, contender: str, metric: str) -> float | None:
        outcome = self.outcomes.get(row)
        values = outcome.values(contender, metric) if outcome else []
        return statistics.median(values) if values else None

    def best(
        self, row: str, contenders: Sequence[str], metric: str, *, lowest: bool = False
    ) -> tuple[str, float] | None:
        """Return the best contender that was measured, with its median."""
        found = [
            (value, name)
            for name in contenders
            if (value := self.median(row, name, metric)) is not None
        ]
        if not found:
            return None
        value, name = min(found) if lowest else max(found)
        return name, value

    def disturbed(self, row: str) -> bool:
        outcome = self.outcomes.get(row)
        return outcome is not None and outcome.disturbed()


@dataclass(frozen=True)
class AtLeast:
    """walstore's rate is at least ``factor`` times that of the best of some contenders."""

    title: str
    row: str
    peers: tuple[str, ...]
    factor: float
    ours: str = "walstore"

    def judge(self, results: Results) -> Verdict:
        ours = results.median(self.row, self.ours, "ops_per_s")
        peer = results.best(self.row, self.peers, "ops_per_s")
        title = f"{self.title}: >= {self.factor:g}x {_names(self.peers)}"
        if ours is None or peer is None:
            return _missing(title)
        ratio = ours / peer[1]
        return Verdict(
            title,
            f"{ours:,.0f}/s",
            f"{peer[0]} {peer[1]:,.0f}/s",
            f"{ratio:.2f}",
            _ok(ratio >= self.factor, results.disturbed(self.row)),
        )


@dataclass(frozen=True)
class LowerLatency:
    """walstore's latency is below ``factor`` times the lowest of some contenders."""

    title: str
    row: str
    metric: str
    peers: tuple[str, ...]
    factor: float

    def judge(self, results: Results) -> Verdict:
        ours = results.median(self.row, "walstore", self.metric)
        peer = results.best(self.row, self.peers, self.metric, lowest=True)
        title = f"{self.title}: < {self.factor:g}x {_names(self.peers)}"
        if ours is None or peer is None:
            return _missing(title)
        ratio = ours / peer[1]
        return Verdict(
            title,
            f"{ours:,.0f} us",
            f"{peer[0]} {peer[1]:,.0f} us",
            f"{ratio:.3f}",
            _ok(ratio < self.factor, results.disturbed(self.row)),
        )


@dataclass(frozen=True)
class Limit:
    """A figure of walstore's own keeps to a limit."""

    title: str
    row: str
    metric: str
    limit: float
    unit: str
    at_least: bool
    scale: float = 1.0

    def judge(self, results: Results) -> Verdict:
        value = results.median(self.row, "walstore", self.metric)
        sign = ">=" if self.at_least else "<"
        title = f"{self.title}: {sign} {self.limit:g} {self.unit}"
        if value is None:
            return _missing(title)
        value *= self.scale
        holds = value >= self.limit if self.at_least else value < self.limit
        return Verdict(
            title,
            f"{value:.2f} {self.unit}",
            "-",
            f"{value / self.limit:.2f}",
            _ok(holds, results.disturbed(self.row)),
        )


@dataclass(frozen=True)
class Constant:
    """A figure of walstore's own hardly grows from one row to another."""

    title: str
    row: str
    big_row: str
    metric: str
    factor: float

    def judge(self, results: Results) -> Verdict:
        small = results.median(self.row, "walstore", self.metric)
        big = results.median(self.big_row, "walstore", self.metric)
        title = f"{self.title}: <= {self.factor:g}x"
        if small is None or big is None:
            return _missing(title)
        ratio = big / small
        disturbed = results.disturbed(self.row) or results.disturbed(self.big_row)
        return Verdict(
            title,
            f"{big:.2f} ms",
            f"the small log {small:.2f} ms",
            f"{ratio:.2f}",
            _ok(ratio <= self.factor, disturbed),
        )


Target = AtLeast | LowerLatency | Limit | Constant

RAW = ("raw-preallocated",)
RAW_UNSYNCED = ("raw-growing-os", "raw-preallocated-os")

TARGETS: tuple[Target, ...] = (
    AtLeast("durable append 128 B", "append-128", RAW, 0.92),
    AtLeast("durable append 128 B", "append-128", PEERS, 1.25),
    AtLeast("durable append 1 KiB", "append-1k", RAW, 0.92),
    AtLeast("durable append 1 KiB", "append-1k", PEERS, 1.3),
    AtLeast("durable append 16 KiB", "append-16k", RAW, 0.92),
    AtLeast("durable append 16 KiB", "append-16k", PEERS, 1.6),
    AtLeast("16 threads 128 B", "threads-128", PEERS, 6.0),
    LowerLatency("16 threads 128 B, p99", "threads-128", "p99_us", PEERS, 0.1),
    AtLeast("append_many of 100, 128 B", "batch-128", PEERS, 2.5),
    AtLeast("pipelined submit 128 B", "pipelined-128", PEERS, 2.5),
    AtLeast("asyncio, 256 in flight, 128 B", "asyncio-128", RAW, 11.0),
    AtLeast('sync="os" append 128 B', "os-128", ("rocksdict-os",), 1.8, "walstore-os"),
    AtLeast('sync="os" append 128 B', "os-128", RAW_UNSYNCED, 0.8, "walstore-os"),
    Limit("verify 1 KiB records", "verify-1k", "gb_per_s", 6.0, "GB/s", at_least=True),
    Limit("replay 1 KiB", "replay-1k", "ops_per_s", 1.2, "M/s", at_least=True, scale=1e-6),
    AtLeast("replay 1 KiB", "replay-1k", ("sqlite-full",), 1.0),
    AtLeast("replay 1 KiB", "replay-1k", ("lmdb",), 0.7),
    Constant("reopen after kill -9, big log", "reopen-small", "reopen-big", "open_ms", 1.3),
    Limit("reopen after kill -9, big log", "reopen-big", "open_ms", 100, "ms", at_least=False),
    Limit("memory while writing", "memory", "write_rss_growth_mib", 64, "MiB", at_least=False),
    Limit("memory while replaying", "memory", "replay_rss_growth_mib", 64, "MiB", at_least=False),
)


def judge(outcomes: Sequence[Outcome]) -> list[Verdict]:
    """Return the final table: every target whose row was run, even if walstore has no result."""
    results = Results(outcomes)
    return [target.judge(results) for target in TARGETS if target.row in results.outcomes]


def _names(contenders: tuple[str, ...]) -> str:
    return contenders[0] if len(contenders) == 1 else "best of " + ", ".join(contenders)


def _missing(title: str) -> Verdict:
    return Verdict(title, "-", "-", "-", "not measured")


def _ok(holds: bool, disturbed: bool) -> str:
    return ("PASS" if holds else "FAIL") + (" (noisy)" if disturbed else "")
