"""Running the command line, inside this process and as one of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.helpers import ROOT
from walstore.cli.app import app

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(90))


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


Run = Callable[..., Outcome]


@pytest.fixture
def run() -> Run:
    """Runs a command in this process."""

    def run(*arguments: str | Path) -> Outcome:
        result: Result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert "Traceback" not in result.output
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def spawn() -> Run:
    """Runs a command as `python -m walstore`; keywords go to subprocess.run."""

    def spawn(*arguments: str | Path, **options: Any) -> Outcome:
        options.setdefault("stdout", subprocess.PIPE)
        done = subprocess.run(
            [sys.executable, "-m", "walstore", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            cwd=ROOT,
            **options,
        )
        assert "Traceback" not in done.stderr
        return Outcome(done.returncode, done.stdout or "", done.stderr)

    return spawn
