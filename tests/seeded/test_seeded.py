"""Every seeded bug still fits the code, and a few are caught; `make seeded-bugs` takes all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import seeded

from .bugs import BUGS, Bug
from .run import apply, copy_tree, run

SAMPLE = 3


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tree")
    copy_tree(path)
    return path


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_bug_can_be_put_in(bug: Bug, tree: Path) -> None:
    before = {edit.file: (tree / edit.file).read_bytes() for edit in bug.edits}
    try:
        apply(bug, tree)
        assert all((tree / name).read_bytes() != text for name, text in before.items())
    finally:
        for name, text in before.items():
            (tree / name).write_bytes(text)


@pytest.mark.timeout(900)
def test_a_sample_is_caught(tmp_path: Path) -> None:
    # What the crash lab finds at random, in a small part of its states, is left to the long run.
    certain = [bug for bug in BUGS if not any("crash" in test for test in bug.tests)]
    bugs = seeded("seeded bugs").sample(certain, SAMPLE)
    assert set(run(bugs, tmp_path)) == {bug.name for bug in bugs}
