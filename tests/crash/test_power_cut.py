"""Power cuts on ext4, XFS and btrfs: what was acked is on the disk, whatever it had of the rest."""

from __future__ import annotations

import pytest

from . import cuts
from .methods import unavailable
from .mounts import UnavailableError
from .settings import scaled, seed

CUTS_MIN = {"ext4": 60, "xfs": 30, "btrfs": 20}
ACKS_PER_CUT_MIN = 5
SYNCS_CUT_FROM = 300  # of so many cuts about ten tear a group of entries


def cut(kind: str, count: int, target: str = "walstore") -> cuts.Outcome:
    try:
        return cuts.run_workers("power_cut", cuts.Spec(kind, count, seed(), target=target))
    except UnavailableError as error:
        unavailable(kind, str(error))


@pytest.mark.parametrize("kind", CUTS_MIN)
def test_acked_entries_survive_a_power_cut(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    count = scaled(CUTS_MIN[kind])
    outcome = cut(kind, count)
    with capsys.disabled():
        print(f"\npower cuts on {kind}: {outcome}")
    assert outcome.bad == 0, "\n".join(outcome.reports)
    assert outcome.rounds >= count
    assert outcome.acks >= ACKS_PER_CUT_MIN * count, "the writers hardly got to write"
    if kind == "ext4" and count >= SYNCS_CUT_FROM:
        assert outcome.torn, "no cut came into the middle of a sync"


def test_power_cut_is_good_to_a_log_that_syncs_and_finds_one_that_does_not() -> None:
    right, wrong = cut("ext4", 6, "toy"), cut("ext4", 6, "toy-no-fdatasync")
    assert right.bad == 0, "\n".join(right.reports)
    assert right.rounds >= 6
    assert wrong.bad > 0
