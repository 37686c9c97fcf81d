"""The rounds: which contender is measured when, in which directory, and what each result was."""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.peers.job import Metrics
from bench.peers.plan import CONTENDERS, Row, Settings

REPOSITORY = Path(__file__).resolve().parents[2]
NOISY_CPUS = 0.5  # CPUs that others may take before a round counts as disturbed
TIMEOUT_S = 1800  # of one measurement; building 4 GiB in the slowest peer takes a minute

Say = Callable[[str], None]


@dataclass(frozen=True)
class Measurement:
    """What one contender reached in one round of a row."""

    row: str
    contender: str
    round: int
    metrics: Metrics


@dataclass
class Outcome:
    """All rounds of one row."""

    row: Row
    rounds_wanted: int
    measurements: list[Measurement] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)  # contender: why it has no result

    def noisy_rounds(self) -> set[int]:
        """Return the rounds in which other processes were busy while some contender ran."""
        return {
            each.round
            for each in self.measurements
            if each.metrics.get("foreign_cpus", 0.0) > NOISY_CPUS
        }

    def used_rounds(self) -> set[int]:
        """Return the rounds that medians are taken of: the quiet ones, if they are enough."""
        everything = {each.round for each in self.measurements}
        quiet = everything - self.noisy_rounds()
        return quiet if 2 * len(quiet) >= self.rounds_wanted and quiet else everything

    def disturbed(self) -> bool:
        """Whether noisy rounds had to be used: then the figures are not to be quoted."""
        return bool(self.used_rounds() & self.noisy_rounds())

    def values(self, contender: str, metric: str) -> list[float]:
        """Return a metric of the used rounds, in the order of the rounds."""
        used = self.used_rounds()
        return [
            each.metrics[metric]
            for each in self.measurements
            if each.contender == contender and each.round in used and metric in each.metrics
        ]


class MeasurementFailed(Exception):
    """A child process ended without a result; the message is its last line of complaint."""


def ask(
    action: str, row: Row, contender: str, path: Path, settings: Settings, expected: int = 0
) -> Metrics:
    """Have one child process do one thing and return its metrics."""
    path.mkdir(parents=True, exist_ok=True)
    job = {
        "row": row.name,
        "contender": contender,
        "path": str(path),
        "settings": asdict(settings),
        "expected": expected,
    }
    command = [sys.executable, "-m", "bench.peers.child", action, json.dumps(job)]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if done.returncode != (-signal.SIGKILL if action == "crash" else 0):
        complaint = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise MeasurementFailed(complaint[0])
    metrics: Metrics = json.loads(done.stdout.splitlines()[-1])
    return metrics


def contenders_of(row: Row, stores: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return who takes part, and why others do not.  Raw files always do."""
    present, absent = [], {}
    for name in row.contenders:
        contender = CONTENDERS[name]
        if stores and contender.family != "raw" and contender.family not in stores:
            continue
        if importlib.util.find_spec(contender.package) is None:
            absent[name] = f"{contender.package} is not installed"
        else:
            present.append(name)
    return present, absent


class Runner:
    """Runs rows one after the other below one directory, which it leaves empty."""

    def __init__(self, base: Path, settings: Settings, stores: Sequence[str], say: Say) -> None:
        self.base = base
        self.settings = settings
        self.stores = stores
        self.say = say
        self.records: dict[Path, int] = {}  # prepared data: how many records it must hold

    def run(self, rows: Sequence[Row]) -> list[Outcome]:
        """Run every row; drop prepared data as soon as no later row needs it."""
        outcomes = []
        for index, row in enumerate(rows):
            outcomes.append(self.run_row(row))
            if row.log and row.log not in {later.log for later in rows[index + 1 :]}:
                shutil.rmtree(self.base / row.log, ignore_errors=True)
        return outcomes

    def run_row(self, row: Row) -> Outcome:
        """Measure a row in rounds, and repeat noisy rounds up to as many times again."""
        wanted = min(self.settings.rounds, row.rounds_max)
        outcome = Outcome(row, wanted)
        present, outcome.failures = contenders_of(row, self.stores)
        self.say(f"{row.name}: {row.title}")
        if row.log:
            self._prepare(row, present, outcome)
        for index in range(2 * wanted):
            self._round(row, present, index, outcome)
            quiet = index + 1 - len(outcome.noisy_rounds())
            if quiet >= wanted:
                break
        return outcome

    def _round(self, row: Row, present: list[str], index: int, outcome: Outcome) -> None:
        """Measure every contender once, beginning with another one than in the round before."""
        start = index % max(len(present), 1)
        for name in present[start:] + present[:start]:
            if name in outcome.failures:
                continue
            path = self._data_path(row, name) if row.log else self.base / f"{row.name}-{name}"
            try:
                metrics = self._measure(row, name, path)
            except (MeasurementFailed, subprocess.TimeoutExpired) as error:
                self._note_failure(outcome, name, error)
                continue
            finally:
                if not row.log:
                    shutil.rmtree(path, ignore_errors=True)
            outcome.measurements.append(Measurement(row.name, name, index, metrics))
            self.say(f"  round {index + 1} {name:22} {_headline(metrics)}")

    def _measure(self, row: Row, contender: str, path: Path) -> Metrics:
        """Measure one contender; for a reopen, after its writer was killed once more."""
        if row.work == "reopen":
            left = ask("crash", row, contender, path, self.settings)
            self.records[path] = int(left["records"])
        expected = self.records.get(path, 0)
        return ask("measure", row, contender, path, self.settings, expected)

    def _prepare(self, row: Row, present: list[str], outcome: Outcome) -> None:
        """Write the data a row reads, unless an earlier row did."""
        for name in present:
            path = self._data_path(row, name)
            if path in self.records:
                continue
            self.say(f"  writing {self.settings.log_mib(row.log)} MiB for {name}")
            try:
                metrics = ask("build", row, name, path, self.settings)
            except (MeasurementFailed, subprocess.TimeoutExpired) as error:
                self._note_failure(outcome, name, error)
                continue
            self.records[path] = int(metrics["records"])

    def _data_path(self, row: Row, contender: str) -> Path:
        return self.base / row.log / contender

    def _note_failure(self, outcome: Outcome, name: str, error: Exception) -> None:
        outcome.failures[name] = f"failed: {error}"
        self.say(f"  {name} failed: {error}")


def _headline(metrics: Metrics) -> str:
    noise = metrics.get("foreign_cpus", 0.0)
    flag = f"  (others used {noise:.1f} CPUs)" if noise > NOISY_CPUS else ""
    if "ops_per_s" in metrics:
        p50 = f"  p50 {metrics['p50_us']:.1f} us" if "p50_us" in metrics else ""
        return f"{metrics['ops_per_s']:>12,.0f}/s{p50}{flag}"
    if "open_ms" in metrics:
        return f"{metrics['open_ms']:>10.2f} ms{flag}"
    return f"+{metrics['write_rss_growth_mib']:.0f} / +{metrics['replay_rss_growth_mib']:.0f} MiB"
