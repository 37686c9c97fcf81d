"""Clusters: replicated state machines and their clients, and what an operator needs."""

from __future__ import annotations

# async_client
from walstore.cluster.async_client import AsyncClusterClient

# client
from walstore.cluster.client import ClusterClient

# doctor
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

# host
from walstore.cluster.host import MachineHost

# machine
from walstore.cluster.machine import StateMachine

# machine_errors
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

# machine_files
from walstore.cluster.machine_files import MachineSnapshots

# measure
from walstore.cluster.measure import measure_clock, measure_disk, measure_round_trips

__all__ = [
    "AppliedTimeoutError",
    "AsyncClusterClient",
    "Clock",
    "ClusterClient",
    "ClusterUnavailableError",
    "CommandRefusedError",
    "CommandUnknownError",
    "Disk",
    "Finding",
    "Level",
    "MachineError",
    "MachineFailedError",
    "MachineHost",
    "MachineSnapshots",
    "MachineStateError",
    "Quantiles",
    "ResultTooLargeError",
    "SessionExpiredError",
    "StateMachine",
    "Timing",
    "derive",
    "judge_clock",
    "judge_disk",
    "judge_timing",
    "measure_clock",
    "measure_disk",
    "measure_round_trips",
]
