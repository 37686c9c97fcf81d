"""TinyDB's own suite, of the installed version, with WALStorage in the place of its storages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.crash.methods import unavailable
from tests.tinydb.walstorage_plugin import LEFT_OUT

PASSED_MIN = 213
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests of the installed version, from its source distribution."""
    folder = tmp_path_factory.mktemp("tinydb")
    wanted = f"tinydb=={version('tinydb')}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", wanted]
    command += ["--no-binary", "tinydb", "--disable-pip-version-check", "--dest", str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=folder, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        unavailable("pypi", f"the source of {wanted} cannot be had: {last}")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (tests,) = folder.glob("tinydb-*/tests")
    return tests


@pytest.mark.parametrize("table", ["", "1"], ids=["Table", "WALTable"])
def test_its_own_suite_passes(suite: Path, table: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "walstorage_plugin"]
    command += ["-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=", "-c", os.devnull]
    command += ["--rootdir", str(suite), f"--basetemp={tmp_path / 'temp'}"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent),  # both suites are packages called tests,
        "PYTEST_ADDOPTS": "",
        "TMPDIR": str(tmp_path),
        "WALSTORE_TINYDB_TABLE": table,
    }
    done = subprocess.run(
        [*command, str(suite)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=suite,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.strip().splitlines()[-1]
    print(said)
    counts = {what: int(number) for number, what in re.findall(r"(\d+) (\w+)", said)}
    assert counts["passed"] >= PASSED_MIN, said
    assert counts["deselected"] == len(LEFT_OUT), said
