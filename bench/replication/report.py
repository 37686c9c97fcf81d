"""The output of a run: JSON with every result, Markdown with medians and targets, a picture."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.peers.report import targets_table
from bench.peers.targets import Verdict
from bench.replication.rows import CONTENDERS, Settings
from bench.replication.run import Outcome

COLUMNS = {
    "ops_per_s": ("records/s", ",.0f"),
    "mib_per_s": ("MiB/s", ",.1f"),
    "p50_us": ("p50 us", ",.0f"),
    "p99_us": ("p99 us", ",.0f"),
    "failover_ms": ("failover p50 ms", ",.0f"),
    "failover_max_ms": ("max ms", ",.0f"),
    "cpu_percent": ("% of a CPU", ".2f"),
    "growth_mib": ("RSS growth MiB", ",.1f"),
    "ratio": ("of the rate with all", ".2f"),
    "slow_ratio": ("p99 ratio, slow follower", ".2f"),
    "catch_up_ratio": ("p99 ratio, catch-up", ".2f"),
}
COLORS = {
    "walstore": "#1b6ca8",
    "elected": "#1b6ca8",
    "elected-5": "#1b6ca8",
    "floor": "#8a8f98",
    "plain": "#8a8f98",
}
PEER_COLOR = "#d98e04"


@dataclass(frozen=True)
class Run:
    """Everything that is known after a run."""

    started: str
    environment: Mapping[str, str]
    settings: Settings
    outcomes: Sequence[Outcome]
    verdicts: Sequence[Verdict]


def to_json(run: Run) -> str:
    """Every single result."""
    return json.dumps(
        {
            "started": run.started,
            "environment": dict(run.environment),
            "settings": asdict(run.settings),
            "rows": [
                {
                    "row": each.row.name,
                    "results": each.results,
                    "failures": each.failures,
                    "foreign_cpus": each.foreign_cpus,
                }
                for each in run.outcomes
            ],
            "targets": [asdict(verdict) for verdict in run.verdicts],
        },
        indent=1,
    )


def to_markdown(run: Run) -> str:
    """The page a reader sees."""
    machine = ", ".join(f"{key} {value}" for key, value in run.environment.items())
    settings = run.settings
    lines = [
        "# Replication: walstore and its peers", "",
        f"{run.started}. {machine}.", "",
        f"Medians of {settings.rounds} rounds of {settings.seconds:g} s, {settings.mib} MiB,"
        f" {settings.kills} kills."
        " NAME/n: n clients. Compare within a table only.", "",
    ]  # fmt: skip
    for outcome in run.outcomes:
        lines += row_table(outcome)
    lines += ["## Contenders", "", "| contender | when a call has returned |", "|---|---|"]
    lines += [f"| {name} | {kind.promise} |" for name, kind in CONTENDERS.items()]
    return "\n".join([*lines, "", "## Targets", "", *targets_table(run.verdicts), ""])


def row_table(outcome: Outcome) -> list[str]:
    """The medians of one row."""
    columns = [
        key for key in COLUMNS if any(outcome.median(label, key) for label in outcome.results)
    ] or [outcome.row.metric]
    lines = [f"## {outcome.row.title}{' (noisy)' if outcome.disturbed() else ''}", ""]
    lines.append("| contender | " + " | ".join(COLUMNS[key][0] for key in columns) + " |")
    lines.append("|---|" + "---:|" * len(columns))
    for label in outcome.results:
        values = [outcome.median(label, key) for key in columns]
        cells = [
            "-" if value is None else format(value, COLUMNS[key][1])
            for key, value in zip(columns, values, strict=True)
        ]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    for name, why in outcome.failures.items():
        lines.append(f"| {name} | {why} |" + " |" * (len(columns) - 1))
    return [*lines, ""]


def draw(outcomes: Sequence[Outcome], path: Path) -> bool:
    """A bar for each contender of each row; False without any, or without matplotlib."""
    drawn = [each for each in outcomes if each.results]
    if not drawn or importlib.util.find_spec("matplotlib") is None:
        return False
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    heights = [len(each.results) + 2 for each in drawn]
    figure, axes = pyplot.subplots(
        len(drawn), 1, figsize=(9, 0.32 * sum(heights) + 1), squeeze=False, layout="constrained",
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for outcome, (axis,) in zip(drawn, axes, strict=True):
        labels, metric = list(outcome.results)[::-1], outcome.row.metric
        values = [outcome.median(label, metric) or 0.0 for label in labels]
        colors = [COLORS.get(label, PEER_COLOR) for label in labels]
        axis.bar_label(axis.barh(labels, values, color=colors), fmt="{:,.0f}", fontsize=7)
        axis.set_title(f"{outcome.row.title}: {COLUMNS[metric][0]}", loc="left", fontsize=9)
        axis.tick_params(labelsize=7)
        axis.margins(x=0.15)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True


def write(run: Run, directory: Path, stem: str) -> list[Path]:
    """Writes STEM.json, STEM.md and, if it can, STEM.png; returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{stem}{suffix}" for suffix in (".json", ".md", ".png")]
    paths[0].write_text(to_json(run) + "\n", encoding="utf-8")
    paths[1].write_text(to_markdown(run) + "\n", encoding="utf-8")
    return paths if draw(run.outcomes, paths[2]) else paths[:2]
