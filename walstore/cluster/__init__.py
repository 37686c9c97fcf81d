"""What an operator of several nodes needs."""

from __future__ import annotations

from walstore.cluster.doctor import (
    Clock,
    Disk,
    Finding,
    Level,
    Quantiles,
    Timing,
    derive,
    judge_clock,
    judge_disk,
    judge_timing,
)
from walstore.cluster.measure import measure_clock, measure_disk, measure_round_trips

__all__ = [
    "Clock",
    "Disk",
    "Finding",
    "Level",
    "Quantiles",
    "Timing",
    "derive",
    "judge_clock",
    "judge_disk",
    "judge_timing",
    "measure_clock",
    "measure_disk",
    "measure_round_trips",
]
