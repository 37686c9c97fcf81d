"""What all commands share: help, exit codes, and one clear sentence for whatever goes wrong."""

from __future__ import annotations

import errno
import importlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import walstore
from tests.cli.conftest import Outcome, Run
from tests.cli.logs import healthy, large, torn
from tests.helpers import ROOT, end
from walstore import cli
from walstore.cli import exits
from walstore.cli import stats as stats_module
from walstore.cli.app import app
from walstore.wal import files

COMMANDS = ["info", "dump", "tail", "verify", "repair", "stats"]
"""Those that take one log."""

ALL_COMMANDS = [*COMMANDS, "diff", "serve", "status", "promote", "demote", "doctor"]
ALL_COMMANDS += ["query", "export", "import", "cluster"]


def a_sentence(text: str) -> bool:
    """Whether stderr holds one message, and at most a hint."""
    return re.fullmatch(r"walstore: [^\n]+\n(  hint: [^\n]+\n)?", text) is not None


# ---- help and documentation ----


def test_commands() -> None:
    assert sorted(app.commands) == sorted(ALL_COMMANDS)


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_help(run: Run, command: str) -> None:
    found = run(command, "--help")
    assert found.code == 0
    assert found.out == run(command, "-h").out
    for part in (f"Usage: walstore {command}", "Examples:", "Exit codes:", "--help"):
        assert part in found.out
    for parameter in app.commands[command].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_documented(command: str) -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    (section,) = re.findall(rf"^## walstore {command}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    for parameter in app.commands[command].params:
        if isinstance(parameter, click.Option):
            for name in parameter.opts:
                assert f"`{name}" in section or f"{name}`" in section, name


def test_exit_codes_documented(run: Run) -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    codes = {getattr(exits, name) for name in exits.__all__}
    section = text.split("## Exit codes")[1].split("\n## ")[0]
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.M)}
    assert documented == codes
    listed = run("--help").out.split("Exit codes:")[1].split("'diff'")[0]
    assert {int(code) for code in re.findall(r"\d+", listed)} == codes - {exits.DEFECT}


def test_help_of_all(run: Run) -> None:
    found = run("--help")
    assert found.code == 0
    for command in ALL_COMMANDS:
        assert re.search(rf"^  {command} +[A-Z]", found.out, re.M)
        assert not re.search(rf"^  {command} .*\.\.\.$", found.out, re.M)


def test_version(run: Run) -> None:
    assert run("--version").out == f"walstore {walstore.__version__}\n"


# ---- wrong usage ----


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["info"], ["info", ""], ["info", "a", "b"], ["dump", ".", "--limit", "x"]],
)
def test_wrong_usage(run: Run, arguments: list[str]) -> None:
    found = run(*arguments)
    assert found.code == 64
    assert found.out == ""
    assert "Usage: walstore" in found.err


@pytest.mark.parametrize(
    ("command", "option"),
    [("dump", "--from"), ("dump", "--limit"), ("dump", "--kind"), ("tail", "--lines")],
)
def test_what_is_no_number(run: Run, command: str, option: str) -> None:
    found = run(command, ".", option, "x")
    assert found.code == 64
    assert "'x' is not a valid whole number" in found.err


def test_no_command(run: Run) -> None:
    found = run()
    assert found.code == 64
    assert "Usage: walstore" in found.out + found.err


# ---- paths that are no log ----


@pytest.mark.parametrize("command", COMMANDS)
def test_no_log(tmp_path: Path, run: Run, command: str) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "meta").write_bytes(b"something else" * 1000)
    for name, reason in (
        ("missing", "no such directory"),
        ("file", "it is a file"),
        (".", "holds no log"),
        ("other", "walstore's mark"),
        ("a\x1b[31m\nb", "no such directory"),
    ):
        found = run(command, tmp_path / name)
        assert found.code == 3
        assert found.out == ""
        assert reason in found.err
        assert "\x1b" not in found.err
        assert a_sentence(found.err), found.err
    assert sorted(os.listdir(tmp_path)) == ["file", "other"]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_log_in_a_process(tmp_path: Path, spawn: Run, command: str) -> None:
    found = spawn(command, tmp_path / "missing")
    assert found.code == 3
    assert a_sentence(found.err)


# ---- what the system refuses ----


@pytest.mark.parametrize("command", COMMANDS)
def test_no_permission(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    path = healthy(tmp_path / "log")

    def refuse(name: str, **_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)

    monkeypatch.setattr(files, "open_file", refuse)
    found = run(command, path)
    assert found.code == 4
    assert found.out == ""
    assert "Permission denied" in found.err
    assert "user" in found.err
    assert a_sentence(found.err)


AS_NOBODY = """
import os, sys
from walstore.cli.app import app

if os.getuid() == 0:  # whom nothing is refused
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
app()
"""


def as_nobody(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a command as a user without rights."""
    return subprocess.run(
        [sys.executable, "-c", AS_NOBODY, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that every user can reach; those of pytest are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_permission_as_another_user(open_path: Path, command: str) -> None:
    path = healthy(open_path / "log")
    for closed, mode in ((path, 0), (path / "meta", 0)):
        before = closed.stat().st_mode
        closed.chmod(mode)
        try:
            done = as_nobody(command, path)
        finally:
            closed.chmod(before)
        assert done.returncode == 4
        assert done.stdout == ""
        assert f"cannot open {path / 'meta'}: Permission denied" in done.stderr
        assert a_sentence(done.stderr)


def test_logs_that_may_not_be_read_are_not_compared(open_path: Path) -> None:
    path = healthy(open_path / "log")
    path.chmod(0)
    done = as_nobody("diff", path, path)
    path.chmod(0o700)
    assert (done.returncode, done.stdout) == (4, "")
    assert "run it as the user who owns the log's files" in done.stderr
    assert a_sentence(done.stderr)


def test_reading_needs_no_write_permission(open_path: Path) -> None:
    path = torn(open_path / "log")
    for name in path.iterdir():
        name.chmod(0o444)
    path.chmod(0o555)
    for command in COMMANDS:
        done = as_nobody(command, path)
        assert (done.returncode, done.stderr) == (command in ("verify", "repair"), "")
    done = as_nobody("repair", "--apply", path)
    assert done.returncode == 4
    assert "Permission denied" in done.stderr
    assert a_sentence(done.stderr)


@pytest.mark.parametrize("command", COMMANDS)
def test_disk_that_fails(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    path = healthy(tmp_path / "log")

    def fail(*_: object, **__: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "read_at", fail)
    found = run(command, path)
    assert found.code == 4
    assert "cannot read" in found.err
    assert "Input/output error" in found.err
    assert "the disk" in found.err
    assert a_sentence(found.err)


@pytest.mark.parametrize("command", ["dump", "info", "stats", "verify"])
def test_output_that_is_full(tmp_path: Path, spawn: Run, command: str) -> None:
    path = healthy(tmp_path / "log")
    with open("/dev/full", "w") as full:
        found = spawn(command, path, stdout=full)
    assert found.code == 4
    assert found.err.startswith("walstore: cannot write the output: No space left on device\n")
    assert a_sentence(found.err)


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_that_is_not_read(spawn: Run, option: str) -> None:
    with open("/dev/full", "w") as full:
        found = spawn(option, stdout=full)
    assert found.code == 4
    assert found.err.startswith("walstore: cannot write the output: No space left on device\n")
    assert a_sentence(found.err)
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        assert spawn(option, stdout=write_end) == Outcome(141, "", "")
    finally:
        os.close(write_end)


@pytest.mark.parametrize("errors", ["2>/dev/full", "2>&-"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [("verify nodir", 3), ("query shop order", 64), ("verify", 64), ("info shop", 0),
     ("import shop c bad", 65), ("--help >/dev/full", 4), ("dump shop >/dev/full", 4)],
)  # fmt: skip
def test_errors_that_cannot_be_said(tmp_path: Path, arguments: str, code: int, errors: str) -> None:
    """The exit code says it all the same: 1 would be a verdict on the log."""
    healthy(tmp_path / "shop")
    (tmp_path / "bad").write_text("bad\n")
    command = f"exec {sys.executable} -m walstore {arguments} {errors}"
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == code
    assert b"Traceback" not in done.stdout + done.stderr


def test_output_that_is_closed(tmp_path: Path) -> None:
    path = healthy(tmp_path / "log")
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m walstore info {path} >&-"],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


# ---- who reads goes away, and Ctrl-C ----


@pytest.mark.parametrize("form", [[], ["--json"], ["--payload", "raw"]])
def test_broken_pipe(tmp_path: Path, form: list[str]) -> None:
    path = large(tmp_path / "log", 50_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "walstore", "dump", str(path), *form],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(100)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 141
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def test_broken_pipe_is_no_verdict(tmp_path: Path, spawn: Run) -> None:
    path = healthy(tmp_path / "log")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        found = spawn("verify", path, stdout=writing)
    finally:
        os.close(writing)
    assert (found.code, found.err) == (141, "")


def test_interrupt(tmp_path: Path) -> None:
    path = healthy(tmp_path / "log")
    process = subprocess.Popen(
        [sys.executable, "-m", "walstore", "tail", "-f", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "entry-1" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert err == "walstore: interrupted\n"
    finally:
        end(process)


# ---- what should not happen ----


def test_defect_is_a_sentence_too(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(stats_module, "_count", fail)
    found = run("stats", healthy(tmp_path / "log"))
    assert found.code == 70
    assert "ZeroDivisionError: oh" in found.err
    assert "WALSTORE_TRACEBACK=1" in found.err
    assert a_sentence(found.err)


def test_defect_with_traceback(tmp_path: Path, spawn: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        "import walstore.cli.stats as s\n"
        "def fail(*_): raise ZeroDivisionError('oh')\n"
        "s._count = fail\n"
        "from walstore.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", source, "stats", str(healthy(tmp_path / "log"))],
        env=os.environ | {"WALSTORE_TRACEBACK": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == 70
    assert "in fail" in done.stderr


def test_interrupt_while_modules_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("walstore.cli.app.app", interrupted)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 130


def test_only_running_the_package_runs_a_command() -> None:
    assert importlib.import_module("walstore.__main__").main is cli.main
