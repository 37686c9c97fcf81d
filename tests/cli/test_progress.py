"""The progress bar: on a terminal, for work that takes a while, and nowhere else."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.logs import large
from tests.helpers import ROOT

IMPATIENT = (
    "import walstore.cli.progress as p; p.PATIENCE_S = 0; from walstore.cli import main; main()"
)


def on_a_terminal(
    arguments: list[str | Path], *, stdout_too: bool = False, impatient: bool = True
) -> tuple[int, str, str]:
    """Runs a command with stderr on a terminal. Returns its code, stdout and what was shown."""
    ours, theirs = pty.openpty()
    start = ["-c", IMPATIENT] if impatient else ["-m", "walstore"]
    process = subprocess.Popen(
        [sys.executable, *start, *map(str, arguments)],
        stdout=theirs if stdout_too else subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "100"},
        cwd=ROOT,
    )
    os.close(theirs)
    shown, out = b"", b""
    deadline = time.monotonic() + 60
    try:
        while True:
            sources = [ours] + ([process.stdout.fileno()] if process.stdout else [])
            ready, _, _ = select.select(sources, [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "timed out"
            if ours in ready:
                try:
                    data = os.read(ours, 65536)
                except OSError:
                    data = b""  # EIO: the other side is closed
                if not data:
                    break
                shown += data
            elif process.stdout:
                out += os.read(process.stdout.fileno(), 65536)
        if process.stdout:
            out += process.stdout.read()
            process.stdout.close()
        return process.wait(timeout=30), out.decode(), shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("progress") / "log"
    return large(path, 40_000)


@pytest.mark.parametrize(
    ("command", "what"), [("verify", "verifying"), ("stats", "counting"), ("dump", "reading")]
)
def test_bar_on_a_terminal(log: Path, command: str, what: str) -> None:
    code, out, shown = on_a_terminal([command, log])
    assert code == 0
    assert what in shown
    assert re.search(r"\d+%", shown)
    assert out
    assert what not in out
    assert "\x1b" not in out


def test_output_goes_where_it_belongs_while_a_bar_is_shown(log: Path) -> None:
    code, out, shown = on_a_terminal(["dump", log])
    assert code == 0
    assert len(out.splitlines()) == 40_000
    assert "entry-40000" not in shown


def test_bar_is_taken_away(log: Path) -> None:
    _, _, shown = on_a_terminal(["stats", log])
    assert "\x1b[?25h" in shown  # the cursor is back
    assert shown.rstrip().endswith("\x1b[2K")  # and the line is clear


def test_no_bar_for_short_work(log: Path) -> None:
    code, _, shown = on_a_terminal(["verify", log], impatient=False)
    assert code == 0
    assert shown == ""


def test_no_bar_between_entries_on_the_same_terminal(log: Path) -> None:
    _, _, shown = on_a_terminal(["dump", log, "--limit", "5000"], stdout_too=True)
    assert "reading" not in shown
    assert "entry-5000" in shown


def test_no_bar_in_a_pipe(log: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPATIENT, "verify", str(log)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.stderr == ""
    assert done.stdout.startswith("clean: ")
    assert "\x1b" not in done.stdout


def test_color_on_a_terminal_only_if_wanted(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    _, _, shown = on_a_terminal(["info", log], stdout_too=True)
    assert "\x1b[32m" in shown
    monkeypatch.setenv("NO_COLOR", "1")
    _, _, shown = on_a_terminal(["info", log], stdout_too=True)
    assert "\x1b[32m" not in shown
    _, _, shown = on_a_terminal(["tail", log], stdout_too=True)
    assert "\x1b[3" not in shown
