"""Clusters: replicated state machines and their clients, and what an operator needs."""

from __future__ import annotations

from walstore.cluster.async_client import AsyncClusterClient
from walstore.cluster.client import ClusterClient
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
from walstore.cluster.host import MachineHost
from walstore.cluster.machine import StateMachine
from walstore.cluster.machine_errors import (
    AppliedTimeoutError,
    ClusterUnavailableError,
    CommandRefusedError,
    CommandUnknownError,
    MachineError,
    MachineFailedError,
    MachineStateError,
    ResultTooLargeError,
    SessionExpiredError,
)
from walstore.cluster.machine_files import MachineSnapshots
from walstore.cluster.manager import ClusterManager, ClusterNode
from walstore.cluster.measure import measure_clock, measure_disk, measure_round_trips
from walstore.cluster.recovery import Survivor, inspect_survivor, make_cluster

__all__ = [
    "AppliedTimeoutError",
    "AsyncClusterClient",
    "ChangeRefusedError",
    "Clock",
    "ClusterClient",
    "ClusterError",
    "ClusterHealth",
    "ClusterManager",
    "ClusterNode",
    "ClusterUnavailableError",
    "CommandRefusedError",
    "CommandUnknownError",
    "Disk",
    "Finding",
    "HealthLimits",
    "Level",
    "MachineError",
    "MachineFailedError",
    "MachineHost",
    "MachineSnapshots",
    "MachineStateError",
    "NodeHealth",
    "NotWellError",
    "Quantiles",
    "RecoveryError",
    "ResultTooLargeError",
    "SessionExpiredError",
    "State",
    "StateMachine",
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
