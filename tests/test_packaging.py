"""walstore installs from its wheel and its source distribution, and says what it lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 240

TRY = """
import sys, walstore
with walstore.FileWALManager(sys.argv[1], segment_bytes=4096) as wal:
    assert wal.append(b"x") == 1
with walstore.FileWALManager(sys.argv[1], read_only=True) as wal:
    assert wal.read(1).payload == b"x"
print(walstore.__file__)
"""


def run(
    *command: str | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=cwd,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files git knows, without anything that was built."""
    target = tmp_path_factory.mktemp("source")
    listed = run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    return target


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the source distribution and the wheel made from it."""
    out = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "build", "--outdir", out, source)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_source_distribution_has_the_c_source_and_nothing_built(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = [name.split("/", 1)[1] for name in tar.getnames() if "/" in name]
    for name in ("walcore.h", "writer.c", "record.c", "crc32c.c", "files.c", "build.py"):
        assert f"walstore/_native/{name}" in names
    assert "walstore/testing/shim.c" in names
    assert not [name for name in names if name.endswith((".so", ".o", "_walcore.c"))]


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and with what it needs for its tests' plugin."""
    (wheel,) = built.glob("*.whl")
    assert "-cp311-abi3-" in wheel.name
    environment = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    done = run(python, "-m", "pip", "install", "--quiet", f"{wheel}[testing]")
    assert done.returncode == 0, done.stderr
    return environment


def test_wheel_works_in_a_clean_environment(installed: Path, tmp_path: Path) -> None:
    environment, python = installed, installed / "bin" / "python"
    done = run(python, "-c", TRY, tmp_path / "log", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(environment) in done.stdout
    done = run(environment / "bin" / "walstore", "verify", tmp_path / "log", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


CRASH_TEST = """
import os

def workload(path, mark):
    with open(path / "x", "w") as file:
        file.write("x" * 2000)
        file.flush()
        os.fsync(file.fileno())
    mark("written")

def check(path, marks):
    assert not marks or (path / "x").read_text() == "x" * 2000

def test_survives(crash_lab):
    crash_lab.power_cuts(workload, check, states_min=20)
"""


@pytest.mark.parametrize("named", [False, True])
def test_crash_lab_of_the_wheel_finds_a_bug(named: bool, installed: Path, tmp_path: Path) -> None:
    """The name of the file is not synced. The plugin is there by itself, and by its name."""
    (tmp_path / "test_mine.py").write_text(CRASH_TEST)
    environment = {"TMPDIR": str(tmp_path), "PYTEST_ADDOPTS": ""}
    plugin = ["-p", "walstore.testing"] if named else []
    python = installed / "bin" / "python"
    done = run(python, "-m", "pytest", *plugin, "-q", "test_mine.py", cwd=tmp_path, **environment)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "crash lab: the check fails after a power cut" in done.stdout, done.stdout
    assert "x is not there" in done.stdout
    assert list(tmp_path.glob("walstore-shim-*/shim-*.so"))


def test_missing_compiler_is_one_sentence(source: Path) -> None:
    done = run(sys.executable, "-m", "pip", "wheel", "--no-deps", source, CC="no-such-compiler")
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if "needs a C compiler" in line]
    assert said, done.stderr
    assert "apt install gcc python3-dev" in said[0]
    assert "Traceback" not in done.stderr
