"""A commit has one seed; a variable names another; soaks draw fresh ones."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import helpers, seeds
from tests.crash import settings

GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@t")


def commit(folder: Path, message: str) -> str:
    """Commits nothing; returns the hash."""
    command = [*GIT, "commit", "--quiet", "--allow-empty", "-m", message]
    subprocess.run(command, cwd=folder, check=True)
    return subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=folder, text=True)


def test_a_commit_has_one_seed(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    found = []
    for message in ("one", "two"):
        name = commit(tmp_path, message)
        assert seeds.of_commit(tmp_path) == seeds.of_commit(tmp_path) == int(name[:6], 16)
        found.append(seeds.of_commit(tmp_path))
    assert found[0] != found[1]


def test_without_a_checkout_it_is_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert len({seeds.of_commit(tmp_path) for _ in range(4)}) > 1
    monkeypatch.setenv("PATH", "")
    assert len({seeds.of_commit(tmp_path) for _ in range(4)}) > 1


def test_the_variable_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALSTORE_CRASH_SEED", "7")
    monkeypatch.setenv("WALSTORE_TEST_SEED", "8")
    assert (settings.seed(), helpers.seed_of("seeds")) == (7, 8)
    monkeypatch.setenv("WALSTORE_CRASH_SEED", seeds.FRESH)
    assert len({settings.seed() for _ in range(4)}) > 1
    monkeypatch.delenv("WALSTORE_CRASH_SEED")
    monkeypatch.delenv("WALSTORE_TEST_SEED")
    monkeypatch.setattr(seeds, "of_commit", lambda folder: 9)
    assert (settings.seed(), helpers.seed_of("seeds")) == (9, 9)
