"""walstore doctor."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Run

MEMORY = Path("/dev/shm")


@contextmanager
def listening() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def write_config(directory: Path, text: str) -> Path:
    path = directory / "node.toml"
    path.write_text(f'node_id = "a"\npath = "data/log"\n{text}')
    return path


def test_measures_and_leaves_nothing(tmp_path: Path, run: Run) -> None:
    found = run("doctor", tmp_path, "--seconds", "0.1", "--json").json
    assert found["path"] == str(tmp_path)
    assert found["syncs"] >= 5
    assert 0 < found["sync_ms"]["p50"] <= found["sync_ms"]["p99"] <= found["sync_ms"]["most"]
    assert found["late_ms"]["most"] > 0
    assert found["timing"] == {"heartbeat_ms": 100, "leader_timeout_ms": 1000}
    assert not os.listdir(tmp_path)


def test_text(tmp_path: Path, run: Run) -> None:
    with listening() as port:
        found = run("doctor", tmp_path, "--seconds", "0.1", "--peer", f"127.0.0.1:{port}")
    for part in ("write and sync", f"round trip 127.0.0.1:{port}", "times that suit"):
        assert part in found.out


@pytest.mark.skipif(not MEMORY.is_dir(), reason="no filesystem in memory")
def test_memory_is_no_place_for_a_log(run: Run) -> None:
    found = run("doctor", MEMORY, "--seconds", "0.1")
    assert found.code == 1
    assert "unsafe   tmpfs is memory" in found.out


def test_a_node_is_looked_at_before_its_directory_is_there(tmp_path: Path, run: Run) -> None:
    with listening() as port, closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        gone = deaf.getsockname()[1]
        peers = f'[peers]\nb = "ws://127.0.0.1:{port}"\nc = "ws://127.0.0.1:{gone}"\nd = ""\n'
        config = write_config(tmp_path, peers)
        found = run("doctor", "--config", config, "--seconds", "0.1", "--json").json
    assert found["path"] == str(tmp_path)
    assert [*found["round_trip_ms"]] == ["b"]
    assert found["silent"] == {"c": "Connection refused"}
    assert {finding["text"] for finding in found["findings"]} >= {
        "c does not answer: Connection refused"
    }


def test_unsafe_times_are_refused(tmp_path: Path, run: Run) -> None:
    times = "[replication]\nheartbeat_ms = 100\nleader_timeout_ms = 200\n"
    found = run("doctor", "--config", write_config(tmp_path, times), "--seconds", "0.1")
    assert found.code == 1
    assert "unsafe   leader_timeout_ms = 200 is less than 3 heartbeats" in found.out
    assert re.search(r"take \d+ and \d+, or more", found.out)


def test_the_name_of_a_peer_does_nothing_to_a_terminal(tmp_path: Path, run: Run) -> None:
    with listening() as port, closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        gone = deaf.getsockname()[1]
        peers = (
            f'[peers]\n"b\\u001b[31m" = "ws://127.0.0.1:{port}"\n'
            f'"c\\u009b31m" = "ws://127.0.0.1:{gone}"\n'
        )
        found = run("doctor", "--config", write_config(tmp_path, peers), "--seconds", "0.1")
    assert "round trip b\\x1b[31m" in found.out
    assert "c\\x9b31m does not answer" in found.out
    assert found.out.replace("\n", "").isprintable()


def test_nodes_that_elect_go_by_other_times(tmp_path: Path, run: Run) -> None:
    times = 'election = "raft"\n[replication]\nelection_ms = 299\nleader_timeout_ms = 5000\n'
    config = write_config(tmp_path, times)
    found = run("doctor", "--config", config, "--seconds", "0.1")
    assert found.code == 1
    assert "unsafe   election_ms = 299 is less than 3 heartbeats" in found.out
    assert re.search(r"times that suit +heartbeat_ms = \d+, election_ms = \d+\n", found.out)
    assert "leader_timeout_ms" not in found.out
    found_json = run("doctor", "--config", config, "--seconds", "0.1", "--json").json
    assert found_json["timing"] == {"heartbeat_ms": 100, "election_ms": 299}
    assert [*found_json["suits"]] == ["heartbeat_ms", "election_ms"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 64, "Name a directory"),
        (["x", "--config", "y"], 64, "Name a directory"),
        (["/nowhere/at/all"], 4, "/nowhere/at/all: No such file or directory"),
        (["--config", "/nowhere.toml"], 4, "/nowhere.toml: No such file or directory"),
        (["x", "--peer", "b"], 64, "write host:port"),
        (["x", "--peer", "a..b:1"], 64, "a..b:1 is no address; write host:port"),
        (["x", "--peer", f"{'a' * 300}:1"], 64, "is no address; write host:port"),
        (["x", "--seconds", "0"], 64, "0.1<=x<=600"),
        (["x", "--seconds", "nan"], 64, "'nan' is no number of seconds"),
    ],
)
def test_bad_input(run: Run, arguments: list[str], code: int, message: str) -> None:
    found = run("doctor", *arguments)
    assert (found.code, message in found.err) == (code, True), found.err
