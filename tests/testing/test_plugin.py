"""The plugin finds the bugs of broken.py, tells their story, repeats it, and refuses clearly."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.helpers import ROOT

BROKEN = "tests/testing/broken.py"
TIMEOUT_S = 120

# What each failing test shows. The first is in the first lines, which most people read.
SHOWN = {
    "test_store_with[snapshot-unsynced]": (
        "Error",
        "rename    snapshot.new to snapshot",
        "snapshot: ",
        'marks made by then: ["a", 1], ["b", 2], ["a", 3]',
    ),
    "test_store_with[directory-unsynced]": ("assert None is not None", "snapshot is not there"),
    "test_store_with[log-cut-first]": ("assert None is not None", 'mark      ["a", 3]'),
    "test_journal_syncs_again": (
        "the check fails after eio-once at call 8 of its kind, a fsync, and a power cut",
        "fsync     journal  FAILED: Input/output error",
        "journal: empty instead of 11 bytes",
    ),
    "test_journal_writes_short": ("short-once at call 1 of its kind", "5 of 11 bytes at 0"),
    "test_journal_ignores_a_full_disk": ("enospc-once", "FAILED: No space left on device"),
    "test_journal_does_not_recover": ("after a power cut", "write     journal, 11 bytes at 0"),
    "test_journal_recovers_in_place": ("while it ran after another one",),
    "test_workload_that_gives_up": ("the workload raised AssertionError: not under this",),
    "test_check_that_dies": ("the check was killed by SIGSEGV", "mark      0"),
}
REFUSED = {
    "test_local_function": "move test_local_function.<locals>.workload there",
    "test_workload[fails]": "the workload raised ValueError: no good, without any fault",
    "test_workload[does_nothing]": "the workload changed nothing in the directory it was given",
    "test_workload[links]": "the crash lab does not model this call: link",
    "test_workload[writes_once]": "the workload has only 2 crash states",
}


def run_pytest(
    folder: Path, *arguments: str, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "walstore.testing", "-p", "no:cacheprovider"]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return subprocess.run(
        [*command, f"--basetemp={folder / 'base'}", "-q", *arguments],
        cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True,
        timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each test of broken.py failed with."""
    folder = tmp_path_factory.mktemp("broken")
    done = run_pytest(folder, f"--junitxml={folder / 'report.xml'}", BROKEN)
    assert done.returncode == 1, done.stdout + done.stderr
    cases = ElementTree.parse(folder / "report.xml").getroot().iter("testcase")
    return {
        case.attrib["name"]: "".join(failure.text or "" for failure in case.iter("failure"))
        for case in cases
    }


def test_every_test_of_broken_fails(messages: dict[str, str]) -> None:
    assert {*messages} == {*SHOWN, *REFUSED}
    assert all(messages.values()), [name for name, text in messages.items() if not text]


@pytest.mark.parametrize("name", SHOWN)
def test_bug_is_found_and_its_story_told(name: str, messages: dict[str, str]) -> None:
    text = messages[name]
    assert [piece for piece in SHOWN[name] if piece not in text] == [], text
    place = re.search(r"replay: \S+ -m walstore.testing (\S+)", text)
    assert place, text
    assert re.search(rf"all again: pytest .*{re.escape(BROKEN)}.* --walstore-seed=\d+", text)


@pytest.mark.parametrize("name", REFUSED)
def test_misuse_is_one_sentence(name: str, messages: dict[str, str]) -> None:
    text = messages[name]
    assert re.search(rf"CrashLabError: .*{re.escape(REFUSED[name])}", text), text


def story(text: str) -> list[str]:
    """The story of a failure, up to where paths begin."""
    lines = [line.removeprefix("E").strip() for line in text.splitlines()]
    start = next(at for at, line in enumerate(lines) if line.startswith("crash lab: the check"))
    return lines[start : next(at for at, line in enumerate(lines) if "state is saved" in line)]


def test_seed_repeats_the_run_and_the_command_replays_the_state(tmp_path: Path) -> None:
    test = f"{BROKEN}::test_journal_does_not_recover"
    runs = [run_pytest(tmp_path, "--walstore-seed=77", test) for _ in range(2)]
    assert "seed=77" in runs[0].stdout
    assert len(story(runs[0].stdout)) >= 6
    assert story(runs[0].stdout) == story(runs[1].stdout)
    command = re.search(r"replay: (.*)", runs[1].stdout)
    assert command, runs[1].stdout
    replayed = subprocess.run(
        shlex.split(command[1]), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert replayed.returncode == 1, replayed.stderr
    assert story(replayed.stdout) == story(runs[1].stdout)
    assert "Error" in replayed.stdout.splitlines()[-2], replayed.stdout


PROJECT = """
from functools import partial

def workload(path, mark, text):
    (path / "x").write_text(text)
    mark({"hint": text})

def check(path, marks):
    assert marks in ([], [{"hint": "hello"}])

def test_passes(crash_lab):
    report = crash_lab.power_cuts(partial(workload, text="hello"), check, states_min=5)
    assert report.states >= 5
    assert report.marks == 1
"""


@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_project_somewhere_else(mode: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "test_mine.py").write_text(PROJECT)
    done = run_pytest(tmp_path, "-s", f"--import-mode={mode}", "sub", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"crash lab, power cuts: seed=\d+ calls=\d+ marks=1 states=\d+", done.stdout)


def test_no_compiler_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(PROJECT)
    (tmp_path / "nothing").mkdir()
    nowhere = str(tmp_path / "nothing")
    done = run_pytest(tmp_path, "test_mine.py", cwd=tmp_path, PATH=nowhere, CC="", TMPDIR=nowhere)
    assert done.returncode == 1
    assert "\nthe crash lab needs a C compiler: on Debian 'apt install gcc" in done.stdout
    assert "Traceback" not in done.stdout
    assert ".py:" not in done.stdout.split("short test summary")[0], done.stdout


def test_nothing_but_the_plugin_needs_pytest() -> None:
    source = "import sys, walstore, walstore.testing.worker; print('pytest' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
