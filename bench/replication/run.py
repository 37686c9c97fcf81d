"""The rounds of a run: each contender of a row in turn, started for it and stopped after it."""

from __future__ import annotations

import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.peers.run import NOISY_CPUS
from bench.replication.cluster import Metrics
from bench.replication.rows import CONTENDERS, Row, Settings

TIMEOUT_S = 900
REASON_MAX = 300  # characters of one line


@dataclass
class Outcome:
    """What was measured of a row: by label, one result a round."""

    row: Row
    results: dict[str, list[Metrics]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  # by contender
    foreign_cpus: list[float] = field(default_factory=list)  # that others took, each time

    def median(self, label: str, metric: str) -> float | None:
        """The median over rounds, if there is one."""
        values = [each[metric] for each in self.results.get(label, []) if metric in each]
        return statistics.median(values) if values else None

    def disturbed(self) -> bool:
        """Whether other programs took too much of the machine to quote this row."""
        return bool(self.foreign_cpus) and statistics.median(self.foreign_cpus) > NOISY_CPUS

    def labels_of(self, contenders: Sequence[str]) -> list[str]:
        """The labels of these contenders: a peer has one for each number of clients."""
        return [label for label in self.results if label.partition("/")[0] in contenders]


def explanation(path: Path, returncode: int, error: str) -> str:
    """Why a measurement failed: its own last word, and that of each process of the cluster."""
    found = [_last_line(error) or f"it ended with {returncode} and said nothing"]
    for log in sorted(path.glob("*.log")):
        line = _last_line(log.read_text(encoding="utf-8", errors="replace"))
        if line not in found[0]:
            found.append(f"{log.name}: {line}")
    return "; ".join(found).replace("|", "/")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip()[:REASON_MAX] if lines else ""


class Runner:
    """Measures rows with data under ``base``."""

    def __init__(
        self, base: Path, settings: Settings, only: Sequence[str], say: Callable[[str], None]
    ) -> None:
        self._base, self._settings, self._only, self._say = base, settings, only, say

    def run(self, rows: Sequence[Row]) -> list[Outcome]:
        outcomes = [Outcome(row) for row in rows]
        for outcome in outcomes:
            names = list(outcome.row.contenders)
            if self._only:
                names = [name for name in names if name in self._only]
            for number in range(self._settings.rounds):
                first = number % max(1, len(names))
                for name in names[first:] + names[:first]:
                    if name not in outcome.failures:
                        self._measure(outcome, name)
        return outcomes

    def _measure(self, outcome: Outcome, name: str) -> None:
        """One contender, one round, in a process of its own: what fails there ends no run."""
        kind = CONTENDERS[name]
        if missing := kind.missing():
            self._give_up(outcome, name, f"not measured: {missing}")
            return
        path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._base))
        path.chmod(0o755)  # PostgreSQL runs as a user of its own
        command = [sys.executable, "-m", "bench.replication.child", outcome.row.name, name]
        command += [str(path), json.dumps(asdict(self._settings))]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            out, error = child.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGINT)  # so that it stops its cluster
            out, error = child.communicate(timeout=TIMEOUT_S)
        finally:
            why = explanation(path, child.returncode, error) if child.returncode else ""
            shutil.rmtree(path, ignore_errors=True)
        if why:
            self._give_up(outcome, name, f"failed: {why}")
            return
        self._take(outcome, json.loads(out))

    def _give_up(self, outcome: Outcome, name: str, why: str) -> None:
        outcome.failures[name] = why
        self._say(f"{outcome.row.name} {name}: {why}")

    def _take(self, outcome: Outcome, answer: dict[str, Any]) -> None:
        outcome.foreign_cpus.append(answer["foreign_cpus"])
        found: dict[str, Metrics] = answer["found"]
        for label, metrics in found.items():
            outcome.results.setdefault(label, []).append(metrics)
            shown = ", ".join(f"{key} {value:,.1f}" for key, value in metrics.items())
            self._say(f"{outcome.row.name} {label}: {shown}")
