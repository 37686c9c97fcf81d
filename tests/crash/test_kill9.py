"""kill -9 at random moments, with every ack checked."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from walstore.testing.explore import remove_tree
from walstore.testing.workers import finish, scratch_folder, start

from . import kill9
from .settings import scaled, seed

ROUNDS_MIN = 600


def test_acked_entries_survive_kill_9(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rounds, total, running, first_seed = scaled(ROUNDS_MIN), kill9.Outcome(), [], seed()
    workers = min(os.cpu_count() or 1, 8)
    for index in range(workers):
        spec = kill9.Spec(
            -(-rounds // workers), first_seed + index, str(tmp_path), scratch_folder()
        )
        worker = start(
            f"{__package__}.kill9", json.dumps(asdict(spec)), spec.scratch, preload=False
        )
        running.append((worker, spec.scratch))
    for worker, scratch in running:
        total.add(kill9.Outcome(**finish(worker, 60 + rounds, scratch)))
        remove_tree(scratch)
    with capsys.disabled():
        print(
            f"\nkill -9: rounds={total.rounds} acks={total.acks} bad={total.bad} "
            f"seed={first_seed} seconds={total.seconds:.1f}"
        )
    assert total.bad == 0, "\n".join(total.reports)
    assert total.rounds >= rounds
    assert total.acks >= 10 * rounds, "the writers hardly got to write"
