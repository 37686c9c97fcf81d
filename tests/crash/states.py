"""Crash states of a log: recovered as its next user would, judged by the ledger, saved, replayed.

python -m <package>.states DIR...     replays states that were saved as bad
"""

from __future__ import annotations

import json
import os
import random
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from walstore.testing.disk import Image, read_image, write_image
from walstore.testing.explore import BadState, Explorer, Recording, State, remove_tree
from walstore.testing.story import replay_each

from .ledger import Ledger, Recovered
from .session import Target, recover


@dataclass(frozen=True)
class LogRecording(Recording):
    """What a workload did to a log."""

    target: Target = field(kw_only=True)


def explorer(
    recording: LogRecording,
    scratch: str,
    rng: random.Random,
    *,
    states_per_point: int,
    states_max: int,
    follow: Callable[[State[Recovered], Ledger], None] | None = None,
    seen: set[int] | None = None,
) -> Explorer[Recovered]:
    """Explores the crashes of a log."""
    ledger = Ledger.of(recording.marks)

    def recover_image(image: Image) -> Recovered:
        probe = b"probe" + rng.randbytes(8) if rng.random() < 0.5 else None
        place = os.path.join(scratch, "state")
        write_image(image, place)
        recovered = recover(recording.target, os.path.join(place, "log"), probe=probe)
        remove_tree(place)
        return recovered

    def go_on(state: State[Recovered]) -> None:
        if follow is not None:
            follow(state, ledger)

    return Explorer(
        recording, ledger, recover_image, rng,
        states_per_point=states_per_point, states_max=states_max,
        follow=go_on if follow else None, opens=lambda mark: json.loads(mark)["t"] == "opened",
        seen=seen,
    )  # fmt: skip


def save_case(folder: Path, image: Image, about: Mapping[str, Any]) -> Path:
    """Writes a bad state, and what is known about it, as a directory for `replay`."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f"{about['workload']}-", dir=folder))
    write_image(image, str(place / "image"))
    (place / "case.json").write_text(json.dumps(about, indent=1))
    return place


def save(bad: BadState, folder: Path) -> Path:
    """Writes the state as a directory that replays with one command."""
    recording = bad.recording
    assert isinstance(recording, LogRecording)
    about = {
        "target": recording.target.name,
        "workload": recording.workload,
        "seed": recording.seed,
        "note": bad.note,
        "problems": bad.problems,
        "history": bad.history,
        "marks": bad.marks,
    }
    return save_case(folder, bad.image, about)


def describe(bad: BadState, place: Path) -> str:
    recording = bad.recording
    lines = [
        f"workload {recording.workload} (seed {recording.seed}), power cut: {bad.note}",
        *(f"  {problem}" for problem in bad.problems[:5]),
        *(f"    {line[:160]}" for line in bad.history),
        f"  replay: {sys.executable} -m {__package__}.states {place}",
    ]
    return "\n".join(lines)


def signature(problem: str) -> str:
    """A problem without its numbers and paths, to count it by."""
    lines = problem.splitlines()
    line = lines[1] if len(lines) > 1 and "power cut" in lines[0] else lines[-1] or lines[0]
    return re.sub(r"/\S+|\d+|0x\w+", "_", line).strip()[:120]


def replay(place: Path) -> bool:
    """Recovers and judges a saved state again; returns whether it is good now."""
    from .workloads import target_named

    about = json.loads((place / "case.json").read_text())
    target = target_named(about["target"])
    ledger = Ledger.of(about["marks"])
    print(f"{place}: {about['workload']}, power cut: {about['note']}")
    good = True
    for probe in (None, b"probe"):
        with tempfile.TemporaryDirectory() as scratch:
            copy = os.path.join(scratch, "state")
            write_image(read_image(str(place / "image")), copy)
            recovered = recover(target, os.path.join(copy, "log"), probe=probe)
        problems = ledger.problems(recovered)
        good = good and not problems
        print(f"  recovered {recovered.first}..{recovered.last}, promised ..{ledger.durable}:",
              "good" if not problems else "; ".join(problems))  # fmt: skip
    return good


if __name__ == "__main__":
    sys.exit(replay_each(replay, sys.argv[1:], __doc__))
