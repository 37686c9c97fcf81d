"""Every storage call of a workload fails once, or from then on; the log stays honest."""

from __future__ import annotations

import pytest

from walstore.testing.faults import FAULTS

from . import faults
from .settings import scaled, seed
from .workloads import workloads

# In the usual run; a soak takes all that are fit for it.
WORKLOADS: tuple[str, ...] = (
    "append_always",
    "append_batches",
    "append_large",
    "truncate_before",
    "truncate_after",
    "begin_term",
    "torn_tail",
)
FAULT_NAMES: tuple[str, ...] = tuple(name for name in FAULTS if not name.startswith("edquot"))
HITS_MIN = 6_000


def test_every_storage_call_failing(capsys: pytest.CaptureFixture[str]) -> None:
    names, kinds = WORKLOADS, FAULT_NAMES
    if scaled(1) > 1:
        names = tuple(w.name for w in workloads("walstore") if w.faults)
        kinds = tuple(FAULTS)
    pairs = [(name, fault) for fault in kinds for name in names]
    first_seed = seed()
    outcome = faults.run_workers(pairs, first_seed)
    with capsys.disabled():
        print(f"\nseed={first_seed} {outcome}")
    assert outcome.bad == 0, f"{outcome.bad} bad runs\n" + "\n".join(outcome.reports)
    assert outcome.hits >= HITS_MIN
    assert {*outcome.by_fault} == {*kinds}, "a fault never hit"
    assert {*outcome.by_workload} == {*names}, "a workload was never hit"
