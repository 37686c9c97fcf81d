"""A full disk refuses appends whole and leaves a log that works again once there is room."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from walstore.testing.shim import environment

from .full_disk import METHODS
from .methods import required


def test_log_on_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    used, problems = [], []
    for method in METHODS:
        done = subprocess.run(
            [sys.executable, "-m", f"{__package__}.full_disk", method, str(tmp_path)],
            env=environment(preload=False), capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        if done.returncode:
            problems.append(f"{method}:\n{done.stderr[-3000:]}")
            continue
        result = json.loads(done.stdout.splitlines()[-1])
        if "unavailable" not in result:
            used.append(method)
        with capsys.disabled():
            print(f"\nfull disk by {method}: {result}", end="")
    with capsys.disabled():
        print()
    assert not problems, "\n".join(problems)
    assert used, "no method to fill a disk worked on this machine"
    if "ext4" in required():
        assert "ext4 on a loop device" in used
