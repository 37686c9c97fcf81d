"""The main job, as `make demo` runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.helpers import ROOT, contents
from walstore.demo import digest, load_documents

TIMEOUT_S = 90


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "walstore.demo", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=ROOT,
        check=False,
    )


def demo_processes() -> list[str]:
    """Command lines of processes that a demo started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it ended just now
        if "walstore.demo" in line:
            found.append(line)
    return found


def test_the_main_job_ends_with_three_equal_logs(tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    result = run_demo("--keep", str(keep))
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    documents = load_documents()
    assert len(documents) > 5000
    for text in ("kill -9", "resumes after", f"{len(documents):,} entries each"):
        assert text in result.stdout
    assert result.stdout.count(" same ") == 3
    assert "$ walstore info" in result.stdout
    assert documents[2][1].decode() in result.stdout  # the last line of dump
    wanted = digest((lsn, kind, body) for lsn, (kind, body) in enumerate(documents, 1))
    logs = [contents(keep / name) for name in ("leader", "follower-1", "follower-2")]
    assert logs[0] == logs[1] == logs[2]
    assert digest((e.lsn, e.kind, e.payload) for e in logs[0]) == wanted
    assert not [line for line in demo_processes() if str(keep) in line]


def test_the_logs_are_removed_and_a_kept_directory_is_new(tmp_path: Path) -> None:
    result = run_demo("--keep", str(tmp_path))
    assert result.returncode == 1
    assert result.stderr == f"walstore.demo: {tmp_path} exists already\n"


def test_without_its_data_set_it_says_what_to_install() -> None:
    source = (
        "import sys; sys.modules['pycountry'] = None\n"
        "from walstore.demo import main\n"
        "main(['--documents', '100'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 1
    assert "pip install 'walstore[dev]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_digest_sees_every_field() -> None:
    base = [(1, 1, b"a"), (2, 1, b"bc")]
    others = [
        [(1, 1, b"a"), (3, 1, b"bc")],
        [(1, 2, b"a"), (2, 1, b"bc")],
        [(1, 1, b"ab"), (2, 1, b"c")],
        [(1, 1, b"a")],
        [],
    ]
    assert len({digest(entries) for entries in [base, *others]}) == 6
