"""Whatever a function does to its process, the lab learns of it and goes on."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from walstore.testing import forked
from walstore.testing.forked import Asker

WATCH_S = 30


def fails() -> None:
    raise ValueError("no good")


ENDINGS: dict[str, tuple[Callable[[], object], str, str]] = {
    "returns": (lambda: None, "", ""),
    "raises": (fails, "raised ValueError: no good", "ValueError"),
    "exits": (lambda: sys.exit(3), "raised SystemExit: 3", "SystemExit"),
    "dies": (lambda: os.kill(os.getpid(), signal.SIGKILL), "was killed by SIGKILL", ""),
    "leaves": (lambda: os._exit(4), "ended its process with status 4", ""),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_ending(name: str, tmp_path: Path) -> None:
    call, problem, raised = ENDINGS[name]
    ending = forked.run(call, str(tmp_path / "note"), WATCH_S)
    assert (ending.problem, ending.raised) == (problem, raised)


def test_traceback_begins_with_what_was_called(tmp_path: Path) -> None:
    details = forked.run(fails, str(tmp_path / "note"), WATCH_S).details
    assert details.splitlines()[1].endswith("in fails")
    assert "forked.py" not in details.replace(__file__, "")


def test_hang_ends_and_shows_where(tmp_path: Path) -> None:
    ending = forked.run(lambda: time.sleep(WATCH_S), str(tmp_path / "note"), 2)
    assert ending.problem == "did not end within 2 s"
    assert Path(__file__).name in ending.details


def test_asker_says_yes_in_one_child_and_no_for_whatever_ends_it() -> None:
    def ask(what: str, number: int) -> None:
        match what:
            case "fail":
                fails()
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(WATCH_S)
            case "fork":  # a process that outlives its parent, and holds its pipes open
                if os.fork() == 0:
                    time.sleep(2)
                    os._exit(0)
                os._exit(1)
            case _:
                assert number > 0

    asker = Asker(ask, timeout_s=4)  # enough on a busy machine
    for what in ("fail", "die", "hang", "fork"):
        for number in (1, 2, 3):
            assert asker.passes("good", number)
        assert not asker.passes(what, 1)
    assert not asker.passes("good", 0)
    assert sum(asker.passes("good", 1) for _ in range(2 * Asker.ANSWERS_MAX)) == 200
    asker.end()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # no child of ours is left


def test_asker_keeps_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    asker = Asker(lambda good: [][0 if good else 1] if not good else None, WATCH_S)
    for number in range(40):
        assert asker.passes(number % 2 == 0) == (number % 2 == 0)
    asker.end()
    assert len(os.listdir("/proc/self/fd")) == len(before)
