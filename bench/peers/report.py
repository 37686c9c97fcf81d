"""The output of a run: JSON with every measurement, Markdown with medians and the final table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.peers.plan import CONTENDERS, Settings
from bench.peers.run import NOISY_CPUS, Outcome
from bench.peers.targets import Verdict


@dataclass(frozen=True)
class Run:
    """Everything that is known after a run."""

    started: str  # ISO 8601, with the zone
    environment: Mapping[str, str]
    settings: Settings
    quick: bool
    outcomes: Sequence[Outcome]
    verdicts: Sequence[Verdict]


@dataclass(frozen=True)
class Column:
    """One metric of a table."""

    metric: str
    title: str
    form: str = ",.0f"
    spread: bool = False  # show the lowest and the highest round, too
    highest: bool = False  # show the highest round in place of the median

    def cell(self, values: Sequence[float]) -> str:
        """Return the text for the values of the used rounds."""
        if not values:
            return "-"
        text = format(max(values) if self.highest else statistics.median(values), self.form)
        if self.spread and len(values) > 1:
            text += f" ({min(values):{self.form}} .. {max(values):{self.form}})"
        return text


COLUMNS = (
    Column("ops_per_s", "records/s (lowest .. highest round)", spread=True),
    Column("gb_per_s", "GB/s", ".2f"),
    Column("p50_us", "p50 us", ",.1f"),
    Column("p99_us", "p99 us", ",.1f"),
    Column("p999_us", "p99.9 us", ",.1f"),
    Column("max_us", "max us (all rounds)", ",.0f", highest=True),
    Column("flushes_per_op", "disk flushes per record", ".3f"),
    Column("open_ms", "open ms (lowest .. highest round)", ".2f", spread=True),
    Column("baseline_rss_mib", "RSS before MiB", ".0f"),
    Column("write_rss_growth_mib", "RSS growth writing", "+.1f"),
    Column("replay_rss_growth_mib", "RSS growth replaying", "+.1f"),
    Column("write_anon_growth_mib", "anonymous growth writing", "+.1f"),
    Column("replay_anon_growth_mib", "anonymous growth replaying", "+.1f"),
)


def to_json(run: Run) -> str:
    """Return every single measurement, and what was concluded."""
    return json.dumps(
        {
            "started": run.started,
            "quick": run.quick,
            "environment": dict(run.environment),
            "settings": asdict(run.settings),
            "rows": [_row_json(outcome) for outcome in run.outcomes],
            "targets": [asdict(verdict) for verdict in run.verdicts],
        },
        indent=1,
    )


def _row_json(outcome: Outcome) -> dict[str, object]:
    return {
        "row": asdict(outcome.row),
        "noisy_rounds": sorted(outcome.noisy_rounds()),
        "used_rounds": sorted(outcome.used_rounds()),
        "failures": outcome.failures,
        "measurements": [
            {"contender": each.contender, "round": each.round, **each.metrics}
            for each in outcome.measurements
        ],
    }


def to_markdown(run: Run, plot: str = "") -> str:
    """Return the page a reader sees; ``plot`` is the file name of the picture, if there is one."""
    lines = ["# walstore and its peers", "", _preamble(run), ""]
    if run.quick:
        lines += ["**A quick run: it shows that the harness works. Do not quote it.**", ""]
    if plot:
        lines += [f"![rates and latencies]({plot})", ""]
    for outcome in run.outcomes:
        lines += _row_markdown(outcome)
    lines += [
        "## Contenders",
        "",
        "| contender | when a call has returned, the record |",
        "|---|---|",
    ]
    named = {name for outcome in run.outcomes for name in outcome.row.contenders}
    lines += [f"| {name} | {each.promise} |" for name, each in CONTENDERS.items() if name in named]
    lines += ["", "## Targets", "", *targets_table(run.verdicts), ""]
    return "\n".join(lines)


def targets_table(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the final table: target, measured, peer, ratio, ok."""
    lines = ["| target | measured | peer | ratio | ok |", "|---|---|---|---|---|"]
    lines += [
        f"| {each.target} | {each.measured} | {each.peer} | {each.ratio} | {each.ok} |"
        for each in verdicts
    ]
    return lines


def _preamble(run: Run) -> str:
    machine = ", ".join(f"{key} {value}" for key, value in run.environment.items())
    settings = run.settings
    return (
        f"{run.started}. {machine}.\n\n"
        f"Medians of {settings.rounds} rounds of {settings.seconds:g} s (after"
        f" {settings.warmup_s:g} s of warm-up); contenders alternate within a round, each in a"
        " fresh process on fresh files. Latency is from the call in Python to its return. A round"
        f" in which other processes took more than {NOISY_CPUS:g} CPUs is repeated and left out;"
        " a row where that did not help is marked *noisy*. Compare within a table only. Sizes:"
        f" pipelined window {settings.window}, asyncio tasks {settings.in_flight},"
        f" threads {settings.threads}, data read {settings.read_mib} MiB, reopened"
        f" {settings.small_mib} MiB and {settings.big_mib} MiB"
        f" (and {settings.tail_mib} MiB more before each kill -9)."
    )


def _row_markdown(outcome: Outcome) -> list[str]:
    names = {each.contender for each in outcome.measurements}
    measured = [name for name in outcome.row.contenders if name in names]
    columns = [c for c in COLUMNS if any(outcome.values(name, c.metric) for name in measured)]
    noisy = " (noisy)" if outcome.disturbed() else ""
    lines = [f"## {outcome.row.title}{noisy}", "", f"Row `{outcome.row.name}`.", ""]
    if measured:
        lines.append("| contender | " + " | ".join(column.title for column in columns) + " |")
        lines.append("|---|" + "---:|" * len(columns))
    for name in measured:
        cells = [column.cell(outcome.values(name, column.metric)) for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [f"\n{name}: {reason}" for name, reason in outcome.failures.items()]
    return [*lines, ""]


def write(run: Run, directory: Path, stem: str, plot: str = "") -> list[Path]:
    """Write ``stem``.json and ``stem``.md; return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix, text in ((".json", to_json(run)), (".md", to_markdown(run, plot))):
        path = directory / (stem + suffix)
        path.write_text(text + "\n", encoding="utf-8")
        written.append(path)
    return written
