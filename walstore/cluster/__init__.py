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
from walstore.cluster.errors import ChangeRefusedError, ClusterError, NotWellError, RecoveryError
from walstore.cluster.health import ClusterHealth, HealthLimits, NodeHealth, State, judge
from walstore.cluster.manager import ClusterManager, ClusterNode
from walstore.cluster.measure import measure_clock, measure_disk, measure_round_trips
from walstore.cluster.recovery import Survivor, inspect_survivor, make_cluster

__all__ = [
    "ChangeRefusedError",
    "Clock",
    "ClusterError",
    "ClusterHealth",
    "ClusterManager",
    "ClusterNode",
    "Disk",
    "Finding",
    "HealthLimits",
    "Level",
    "NodeHealth",
    "NotWellError",
    "Quantiles",
    "RecoveryError",
    "State",
    "Survivor",
    "Timing",
    "derive",
    "inspect_survivor",
    "judge",
    "judge_clock",
    "judge_disk",
    "judge_timing",
    "make_cluster",
    "measure_clock",
    "measure_disk",
    "measure_round_trips",
]
