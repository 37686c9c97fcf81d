"""One picture of a run: for each row, rates on the left and latencies or times on the right."""

from __future__ import annotations

import importlib
import importlib.util
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.peers.plan import CONTENDERS, Family
from bench.peers.run import Outcome

COLORS: dict[Family, str] = {
    "walstore": "#1b6ca8",
    "raw": "#8a8f98",
    "sqlite": "#d98e04",
    "lmdb": "#3f8f5b",
    "rocksdict": "#a8452c",
}
PERCENTILES = (("p50_us", "o"), ("p99_us", "s"), ("p999_us", "D"), ("max_us", "|"))
ROW_INCHES = 0.32


def draw(outcomes: Sequence[Outcome], path: Path) -> bool:
    """Write the picture; return False if matplotlib is missing or there is nothing to draw."""
    drawn = [outcome for outcome in outcomes if _names(outcome, "ops_per_s", "open_ms")]
    if not drawn or importlib.util.find_spec("matplotlib") is None:
        return False
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    heights = [len(_names(outcome, "ops_per_s", "open_ms")) + 2.5 for outcome in drawn]
    figure, axes = pyplot.subplots(
        len(drawn),
        2,
        figsize=(13, ROW_INCHES * sum(heights)),
        gridspec_kw={"height_ratios": heights},
        squeeze=False,
        layout="constrained",
    )
    for outcome, (left, right) in zip(drawn, axes, strict=True):
        _draw_row(outcome, left, right)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True


def _names(outcome: Outcome, *metrics: str) -> list[str]:
    """Return the contenders of a row that have one of the metrics, walstore on top."""
    found = [
        name
        for name in outcome.row.contenders
        if any(outcome.values(name, metric) for metric in metrics)
    ]
    return found[::-1]  # bars are drawn from the bottom


def _draw_row(outcome: Outcome, left: Any, right: Any) -> None:
    noisy = " (noisy)" if outcome.disturbed() else ""
    left.set_title(outcome.row.title + noisy, loc="left", fontsize=9, fontweight="bold")
    if _names(outcome, "open_ms"):
        _bars(outcome, left, "open_ms", "ms until open, lower is better")
    else:
        _bars(outcome, left, "ops_per_s", "records/s, higher is better")
    _latencies(outcome, right)


def _bars(outcome: Outcome, axis: Any, metric: str, label: str) -> None:
    """Draw medians as bars, with a line from the lowest to the highest round."""
    for position, name in enumerate(_names(outcome, metric)):
        values = outcome.values(name, metric)
        median = statistics.median(values)
        spread = [[median - min(values)], [max(values) - median]]
        axis.barh(position, median, xerr=spread, color=COLORS[CONTENDERS[name].family], height=0.7)
        text = f"  {median:,.2f}" if median < 100 else f"  {median:,.0f}"
        axis.annotate(text, (max(values), position), va="center", fontsize=7)
    axis.margins(x=0.15)  # room for the numbers
    _label(axis, _names(outcome, metric), label)


def _latencies(outcome: Outcome, axis: Any) -> None:
    """Draw p50, p99, p99.9 and the maximum of each contender on one logarithmic line."""
    names = _names(outcome, "p50_us")
    if not names:
        axis.set_axis_off()
        return
    for position, name in enumerate(names):
        color = COLORS[CONTENDERS[name].family]
        medians = [statistics.median(outcome.values(name, metric)) for metric, _ in PERCENTILES]
        axis.plot([medians[0], medians[-1]], [position, position], color=color, linewidth=1)
        for value, (_, marker) in zip(medians, PERCENTILES, strict=True):
            axis.plot(value, position, marker, color=color, markersize=5)
    axis.set_xscale("log", subs=[])
    ticker: Any = importlib.import_module("matplotlib.ticker")
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5), numticks=30))
    axis.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,g}"))
    axis.xaxis.set_minor_locator(ticker.NullLocator())
    _label(axis, names, "latency us: p50 o, p99 square, p99.9 diamond, max bar; lower is better")


def _label(axis: Any, names: Sequence[str], label: str) -> None:
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_xlabel(label, fontsize=7)
    axis.tick_params(axis="x", labelsize=7)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
