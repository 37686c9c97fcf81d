"""Power cuts at every point of every workload: the log survives whatever is on the disk then."""

from __future__ import annotations

import pytest

from . import lab
from .settings import scaled, seed
from .workloads import workloads

STATES_MIN = 50_000
SECOND_ORDER_MIN = 5_000
STATES_PER_WORKLOAD_MIN = 300


def test_log_survives_every_crash_state(capsys: pytest.CaptureFixture[str]) -> None:
    names = [workload.name for workload in workloads("walstore")]
    spec = lab.Spec(
        names,
        seed(),
        scaled(STATES_MIN),
        states_each=STATES_PER_WORKLOAD_MIN,
        seconds=600 + scaled(STATES_MIN) / 150,
        second_order=0.008,
    )
    outcome = lab.run_workers(spec, timeout_s=spec.seconds + 300)
    with capsys.disabled():
        print(f"\ncrash states: {outcome}")
    assert outcome.bad == 0, f"{outcome.bad} bad states\n" + "\n".join(outcome.reports)
    assert outcome.states >= scaled(STATES_MIN)
    assert outcome.second_order >= scaled(SECOND_ORDER_MIN)
    few = {name for name in names if outcome.by_workload.get(name, 0) < STATES_PER_WORKLOAD_MIN}
    assert not few, f"hardly explored: {few}"
