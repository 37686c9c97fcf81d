"""The repository checks itself: short functions, no private paths, a test file for each module."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.helpers import ROOT

FUNCTION_LINES_MAX = 70
LINE_LENGTH_MAX = 100
# Put together here, so that this file does not hold what it forbids.
FORBIDDEN = ["/" + "work/", "/" + "root/", "/" + "home/", "artifact" + "ory", "local" + "host:8"]


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def source_files(suffix: str) -> list[Path]:
    return [path for path in tracked() if path.suffix == suffix]


def test_functions_are_short() -> None:
    long = []
    for path in source_files(".py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno + 1 >= FUNCTION_LINES_MAX:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not long


def test_c_functions_and_lines_are_short() -> None:
    for path in [*source_files(".c"), *source_files(".h")]:
        lines = path.read_text(encoding="utf-8").splitlines()
        start = 0
        for number, line in enumerate(lines, 1):
            assert len(line) <= LINE_LENGTH_MAX, f"{path.name}:{number}"
            if line[:1].isalpha():
                start = number
            if line == "}":
                assert number - start < FUNCTION_LINES_MAX, f"{path.name}:{start}"


def test_no_path_or_host_of_a_machine() -> None:
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {word}" for word in FORBIDDEN if word in text]
    assert not found


@pytest.mark.parametrize("folder", ["wal"])
def test_every_module_has_its_test_file(folder: str) -> None:
    modules = {path.stem for path in (ROOT / "walstore" / folder).glob("*.py")} - {"__init__"}
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / folder).glob("test_*")}
    assert modules <= tests, modules - tests


def test_every_module_says_what_it_is_for() -> None:
    for path in source_files(".py"):
        text = path.read_text(encoding="utf-8")
        if text.strip() and path.name != "__init__.py":
            assert ast.get_docstring(ast.parse(text)), path.relative_to(ROOT)


def test_no_generated_file_is_tracked() -> None:
    names = [path.relative_to(ROOT).as_posix() for path in tracked()]
    bad = re.compile(r"(\.so|\.o|\.pyc|_walcore\.c)$|^build/|\.egg-info/")
    assert not [name for name in names if bad.search(name)]


def test_nothing_lies_at_the_top_that_does_not_belong_there() -> None:
    folders = {".ci", "bench", "docs", "examples", "tests", "walstore"}
    files = {".gitignore", "CHANGELOG.md", "LICENSE", "MANIFEST.in", "Makefile", "README.md"}
    files |= {"pyproject.toml", "setup.py"}
    top = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert top == folders | files
