"""The main job, as `make demo` runs it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT, contents
from walstore.demo import load_documents, nodes
from walstore.demo.documents import DemoError
from walstore.demo.nodes import Cluster, Node

TIMEOUT_S = 90
DOCUMENTS = 600


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "walstore.demo", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=ROOT,
        check=False,
    )


def node_processes(base: Path) -> list[str]:
    """Command lines of nodes that a demo started there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it ended just now
        if "walstore serve" in line and str(base) in line:
            found.append(line)
    return found


def test_the_main_job_ends_with_three_equal_logs(tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    result = run_demo("--keep", str(keep), "--documents", str(DOCUMENTS))
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    for text in ("$ walstore cluster init", "kill -9", "is elected", "is back with lsn",
                 "has caught up with", "handed over", "$ walstore info", "no answer"):  # fmt: skip
        assert text in result.stdout
    assert result.stdout.count("\nsame: ") == 2
    documents = load_documents(DOCUMENTS)
    logs = [contents(keep / name) for name in "abc"]
    assert logs[0] == logs[1] == logs[2]
    held = [(entry.kind, entry.payload) for entry in logs[0] if entry.kind < 65534]
    (acked,) = re.findall(r"with ([\d,]+) acked documents", result.stdout)
    assert 100 <= int(acked.replace(",", "")) == len(set(held))
    assert set(held) <= set(documents)
    (twice,) = re.findall(r"there twice +│ +(\d+)", result.stdout)
    assert len(held) - len(set(held)) == int(twice) <= 32
    leaders = [entry.payload for entry in logs[0] if entry.kind == 65535]
    (killed,) = re.findall(r"the leader (\w) was killed", result.stdout)
    (elected,) = re.findall(r"(\w) is elected", result.stdout)
    assert elected != killed
    assert {killed.encode(), elected.encode()} <= set(leaders)
    resumed, missed = (
        int(re.findall(pattern, result.stdout)[0].replace(",", ""))
        for pattern in (r"with lsn ([\d,]+)", r"caught up with ([\d,]+)")
    )
    assert 0 < resumed < resumed + missed < logs[0][-1].lsn
    assert not node_processes(keep)


def test_the_logs_are_removed_and_a_kept_directory_is_new(tmp_path: Path) -> None:
    result = run_demo("--keep", str(tmp_path))
    assert result.returncode == 1
    assert result.stderr == f"walstore.demo: {tmp_path} exists already\n"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.end()


def process_of(cluster: Cluster, source: str) -> Node:
    """A process in the place of a node's, once it has begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"print(flush=True); {source}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    cluster._all.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "\n"
    return Node("a", process, "", "")


def test_a_node_that_does_not_start_says_why(cluster: Cluster) -> None:
    with pytest.raises(DemoError, match=r"^a was not ready: walstore: .*a\.toml"):
        cluster.start("a")
    assert cluster.nodes == {}


def test_a_node_ends_well_and_in_time_or_the_demo_fails(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "TIMEOUT_S", 0.1)
    stuck = process_of(cluster, "import time; time.sleep(60)")
    with pytest.raises(DemoError, match=r"^a did not end within 0\.1 s$"):
        nodes._end_well(stuck)
    assert stuck.process.poll() is None
    monkeypatch.undo()
    with pytest.raises(DemoError, match=r"^a ended with exit code 3$"):
        nodes._end_well(process_of(cluster, "raise SystemExit(3)"))
    nodes._end_well(process_of(cluster, ""))
    cluster.end()
    assert stuck.process.returncode == -signal.SIGKILL


def test_ports_that_are_taken_are_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(nodes, "_PORTS", [port - 1] * 200)
        with pytest.raises(DemoError, match=r"^there are no 2 free ports$"):
            nodes.free_port(2)


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
