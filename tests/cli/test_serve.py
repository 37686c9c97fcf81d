"""walstore serve, status, promote, demote: three nodes as processes."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.cli.conftest import Run
from tests.cli.nodes import READY_S, Served, append, ask, config, lone_node, spawn_node
from tests.helpers import ROOT, contents, end, segment_files
from tests.replication.nodes import free_ports, until
from walstore.cli.status import NodeView, is_healthy, status_table

EAGER = "import walstore.cli.status as s; s._WATCH_S = 0.2; from walstore.cli import main; main()"


@pytest.fixture
def three(tmp_path: Path) -> Iterator[dict[str, Served]]:
    nodes: dict[str, Served] = {}
    try:
        for name in "abc":
            peers = {
                other: nodes[other].ready["url"] if other in nodes else ""
                for other in "abc"
                if other != name
            }
            role = "follower" if nodes else "leader"
            nodes[name] = Served(config(tmp_path, name, role, peers, "timeout_s = 1"))
            assert nodes[name].ready, nodes[name].process.communicate()
        yield nodes
    finally:
        for node in nodes.values():
            node.kill()


def until_healthy(run: Run, urls: list[str]) -> list[dict[str, object]]:
    """Waits until `walstore status` says so, and all have the same; returns the nodes."""
    deadline = time.monotonic() + READY_S
    while True:
        found = run("status", "--json", *urls)
        nodes = [node["status"] for node in found.json["nodes"]]
        assert found.json["healthy"] == (found.code == 0)
        if found.code == 0 and len({node["committed_lsn"] for node in nodes}) == 1:
            return nodes
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def test_the_life_of_a_cluster(tmp_path: Path, run: Run, three: dict[str, Served]) -> None:
    urls = [node.url for node in three.values()]
    for name, node in three.items():
        assert sorted(node.ready) == ["node_id", "pid", "status_url", "url"]
        assert (node.ready["node_id"], node.ready["pid"]) == (name, node.process.pid)
    until_healthy(run, urls)
    assert append(urls[0], b"one")["lsn"] == 2
    metrics = ask(urls[0], "GET", "/metrics")[1]
    for peer in "bc":
        assert f'walstore_peer_connected{{peer="{peer}"}} 1.0' in metrics
        assert f'walstore_peer_lag_entries{{peer="{peer}",stage="durable"}}' in metrics
        assert f'walstore_peer_round_trip_seconds_count{{peer="{peer}"}}' in metrics

    until_healthy(run, urls)  # b may have been the one that was not waited for
    found = run("promote", urls[1])
    assert found.code == 0
    assert found.out.startswith("b leads in term ")
    status, text = ask(urls[0], "POST", "/append", b"no", X_Walstore="1")
    assert (status, json.loads(text)["error"]) == (409, "NotLeaderError")
    assert append(urls[1], b"two")["lsn"] == 4  # after the term entry
    nodes = until_healthy(run, urls)
    assert [node["role"] for node in nodes] == ["follower", "leader", "follower"]
    table = run("status", *urls)
    assert table.code == 0
    assert [line.split()[:2] for line in table.lines] == [
        ["node", "role"], ["a", "follower"], ["b", "leader"], ["c", "follower"],
    ]  # fmt: skip
    for other in urls[1:]:
        assert run("diff", urls[0], other).out == "same: 4 entries, lsn 1 to 4\n"

    assert run("demote", urls[1]).out.startswith("b does not lead; term ")
    found = run("status", *urls)
    assert found.code == 1
    assert "no leader" in found.out

    for node, number in zip(
        three.values(), (signal.SIGTERM, signal.SIGINT, signal.SIGTERM), strict=True
    ):
        code, out, err = node.end(number)
        assert (code, out) == (0, ""), err
        assert "Traceback" not in err
    logs = [contents(tmp_path / name) for name in three]
    assert logs[0] == logs[1] == logs[2]
    assert [entry.payload for entry in logs[0] if entry.kind == 1] == [b"one", b"two"]
    for name in three:
        assert run("info", tmp_path / name, "--json").json["closed_cleanly"] is True


def test_nodes_that_are_gone(run: Run, three: dict[str, Served]) -> None:
    urls = [node.url for node in three.values()]
    until_healthy(run, urls)
    three["c"].kill()
    found = run("status", *urls)
    assert found.code == 1
    assert f"{urls[2]}  no answer" in found.out
    assert "Connection refused" in found.out
    three["b"].kill()
    found = run("promote", urls[0])
    assert found.code == 0  # it leads already
    assert run("demote", urls[0]).code == 0
    found = run("promote", urls[0])
    assert found.code == 4
    assert "a was not promoted" in found.err
    assert "force" in found.err
    assert run("promote", urls[0], "--force").out.startswith("a leads in term ")
    found = run("promote", urls[1])
    assert found.code == 4
    assert "does not answer" in found.err


def test_nodes_that_elect(tmp_path: Path, run: Run) -> None:
    ports = dict(zip("abc", free_ports(3), strict=True))
    urls = {name: f"ws://127.0.0.1:{port}" for name, port in ports.items()}
    for name in "abc":
        peers = "".join(f'{peer} = "{url}"\n' for peer, url in urls.items() if peer != name)
        (tmp_path / f"{name}.toml").write_text(
            f'node_id = "{name}"\npath = "{name}"\nlisten = "127.0.0.1:{ports[name]}"\n'
            'status_listen = "127.0.0.1:0"\nsegment_bytes = 65536\nelection = "raft"\n'
            f"[replication]\nelection_ms = 300\nheartbeat_ms = 50\n[peers]\n{peers}"
        )
    with ThreadPoolExecutor(3) as pool:
        nodes = list(pool.map(Served, (tmp_path / f"{name}.toml" for name in "abc")))
    try:
        at = [node.url for node in nodes]
        until_healthy(run, at)
        assert run("promote", at[1]).out.startswith("b leads in term ")
        assert append(at[1], b"one")["receipt"].keys() == {"a", "b", "c"}
        statuses = until_healthy(run, at)
        assert [status["role"] for status in statuses] == ["follower", "leader", "follower"]
        for status in statuses:
            assert (status["election"], status["leader_id"]) == ("raft", "b")
            assert (status["voters"], status["learners"]) == (["a", "b", "c"], [])
        assert run("promote", at[0], "--force").code != 0
        nodes[1].kill()
        until(lambda: _has_leader(at[0]), "another leads")
    finally:
        for node in nodes:
            node.kill()


def test_a_node_that_finds_its_log_damaged_mends_it(tmp_path: Path, run: Run) -> None:
    """It is closed and opened again, by itself."""
    free = free_ports(6)
    ports, at_port = (dict(zip("abc", some, strict=True)) for some in (free[:3], free[3:]))
    urls = {name: f"ws://127.0.0.1:{port}" for name, port in ports.items()}
    for name in "abc":
        peers = "".join(f'{peer} = "{url}"\n' for peer, url in urls.items() if peer != name)
        (tmp_path / f"{name}.toml").write_text(
            f'node_id = "{name}"\npath = "{name}"\nlisten = "127.0.0.1:{ports[name]}"\n'
            f'status_listen = "127.0.0.1:{at_port[name]}"\nsegment_bytes = 65536\n'
            'election = "raft"\n[replication]\nelection_ms = 300\nheartbeat_ms = 50\n'
            f"audit_ms = 100\n[peers]\n{peers}"
        )
    with ThreadPoolExecutor(3) as pool:
        nodes = list(pool.map(Served, (tmp_path / f"{name}.toml" for name in "abc")))
    try:
        at = [node.url for node in nodes]
        until_healthy(run, at)
        run("promote", at[1])
        for _ in range(12):
            lsn = append(at[1], b"value" * 2000)["lsn"]
        segment = segment_files(tmp_path / "c")[0]
        with segment.open("r+b") as file:
            file.seek(segment.read_bytes().find(b"value") + 3)
            file.write(b"*")
        until(lambda: any((tmp_path / "c").glob("damaged-*")), "it has cut its log")
        until_healthy(run, at)
        until(lambda: _stat(at[2], "committed_lsn") >= lsn, "it has all again")
        until(lambda: not _stat(at[2], "lost_to_lsn"), "it says so")
        _, out, err = nodes[2].end(signal.SIGTERM)
        assert not out
        assert "was damaged" in err
        assert "has all again" in err
    finally:
        for node in nodes:
            node.kill()


def _stat(url: str, name: str) -> int:
    found: int = json.loads(ask(url, "GET", "/status")[1])[name]
    return found


def _has_leader(url: str) -> bool:
    status = json.loads(ask(url, "GET", "/status")[1])
    return status["leader_id"] in ("a", "c")


@pytest.mark.parametrize("election", ["manual", "raft"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_node_that_waits_for_its_peers_is_ended(
    tmp_path: Path, election: str, number: signal.Signals, code: int
) -> None:
    """By a service manager as one that serves: it has nothing to lose."""
    with socket.create_server(("127.0.0.1", 0)) as peer:
        path = tmp_path / "a.toml"
        path.write_text(
            f'node_id = "a"\npath = "a"\nlisten = "127.0.0.1:0"\nelection = "{election}"\n'
            f'[peers]\nb = "ws://127.0.0.1:{peer.getsockname()[1]}"\n'
            "[replication]\njoin_timeout_ms = 600000\n"
        )
        process = spawn_node(path)
        try:
            peer.settimeout(READY_S)
            asked, _ = peer.accept()  # it waits for the answer
            with asked:
                process.send_signal(number)
                out, err = process.communicate(timeout=READY_S)
        finally:
            end(process)
    assert (process.returncode, out) == (code, "")
    assert "Traceback" not in err
    assert not (tmp_path / "a").exists()


def test_an_address_that_is_taken(tmp_path: Path, run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for key in ("listen", "status_listen"):
            path = tmp_path / f"{key}.toml"
            path.write_text(
                f'node_id = "a"\npath = "{key}"\nrole = "leader"\n{key} = "{address}"\n'
                "segment_bytes = 65536\n"
            )
            node = Served(path)
            code, out, err = node.process.wait(READY_S), *node.process.communicate()
            assert (code, out) == (4, "")
            assert f"walstore: cannot listen at {address}: " in err
            assert "in use" in err
            assert "Traceback" not in err


def test_a_log_that_another_process_has(tmp_path: Path) -> None:
    path = config(tmp_path, "a", "leader", {})
    node = Served(path)
    try:
        other = Served(path)
        _, err = other.process.communicate()
        assert other.process.returncode == 5
        assert "another" in err
    finally:
        node.kill()


class Watch:
    """A process of `walstore status --watch`, that looks often, and what it has shown."""

    def __init__(self, url: str, *options: str, terminal: bool = False) -> None:
        self._ours, theirs = pty.openpty() if terminal else os.pipe()
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", EAGER, "status", "--watch", *options, url],
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "100"},
            cwd=ROOT,
        )
        os.close(theirs)

    def until(self, wanted: str) -> None:
        """Reads until it has shown this since it was last asked."""
        new, deadline = "", time.monotonic() + READY_S
        while wanted not in new:
            ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{wanted} is not shown"
            new += os.read(self._ours, 65536).decode()
        self.shown += new

    def end(self) -> None:
        """Whatever it does."""
        end(self.process)
        os.close(self._ours)


def test_status_is_shown_until_it_is_interrupted(tmp_path: Path) -> None:
    with lone_node(tmp_path / "log", segment_bytes=1 << 16) as endpoint:
        in_json, in_pipe = Watch(endpoint.url, "--json"), Watch(endpoint.url)
        on_terminal = Watch(endpoint.url, terminal=True)
        all_three = (in_json, in_pipe, on_terminal)
        try:
            for watch in all_three:
                watch.until('"healthy": true' if watch is in_json else "leader")
            endpoint.node.demote()
            for watch in all_three:
                watch.until('"healthy": false' if watch is in_json else "no leader")
                watch.process.send_signal(signal.SIGINT)
                assert watch.process.communicate(timeout=READY_S)[1] == "walstore: interrupted\n"
                assert watch.process.returncode == 130
        finally:
            for watch in all_three:
                watch.end()
    assert all(json.loads(line)["nodes"] for line in in_json.shown.splitlines()[:-1])
    assert "\n\nnode " in in_pipe.shown, "an empty line between two tables"
    assert ["\x1b[" in watch.shown for watch in all_three] == [False, False, True]


def view(role: str, error: str = "", connected: bool = True) -> NodeView:
    peer = {"node_id": "x", "connected": connected, "lag": None}
    facts = {"node_id": "n", "role": role, "leader_id": "n", "error": error, "peers": [peer]}
    lsns = dict.fromkeys(("last_lsn", "durable_lsn", "committed_lsn", "applied_lsn"), 1)
    return NodeView("http://n", {**facts, **lsns, "term": 1, "since_s": 7200})


def test_what_is_healthy() -> None:
    leader, follower = view("leader"), view("follower")
    assert is_healthy([leader, follower])
    for wrong in (
        [follower, follower],
        [leader, leader],
        [leader, NodeView("http://gone", None, "refused")],
        [leader, view("follower", error="oh")],
        [leader, view("follower", connected=False)],
    ):
        assert not is_healthy(wrong)


def test_a_narrow_terminal_gets_fewer_columns() -> None:
    for width, there in ((200, True), (80, False)):
        console = Console(width=width, file=StringIO())
        console.print(status_table([view("leader", connected=False)], width))
        assert isinstance(console.file, StringIO)
        text = console.file.getvalue()
        assert ("applied" in text, "2 h" in text) == (there, there)
        assert "without x" in text
        assert len(text.splitlines()) == 2


def test_what_ails_a_node_is_shown() -> None:
    assert "the disk is gone" in _table_of(view("follower", error="the disk is gone"))


def test_how_far_a_node_is_behind_is_known_to_the_leader() -> None:
    leader, follower = view("leader"), view("follower")
    assert leader.status is not None
    assert follower.status is not None
    follower.status["node_id"] = "x"
    for entries, text in ((1234, "1,234, 2.0 KiB, 1,500 ms"), (0, "  0  ")):
        durable = {"entries": entries, "bytes": 2048, "ms": 1500.4}
        leader.status["peers"][0]["lag"] = {"durable": durable}
        first, second = _table_of(leader, follower).splitlines()[1:]
        assert (text in first, text in second) == (False, True)
        assert text not in _table_of(follower)


@pytest.mark.parametrize(
    ("since_s", "text"),
    [
        (119.4, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"),
        (47.9 * 3600, "47 h"), (48 * 3600, "2 d"), (1e7, "115 d"),
    ],
)  # fmt: skip
def test_for_how_long_it_has_been_so(since_s: float, text: str) -> None:
    shown = view("leader")
    assert shown.status is not None
    shown.status["since_s"] = since_s
    assert f"  {text}  " in _table_of(shown)


WRONG_URLS = ["127.0.0.1:80", "ws://127.0.0.1:80", "http://", "http://a:x", "http://a/b"]
WRONG_URLS += ["http://a..b:80", f"http://{'a' * 70}.b:80", "http://a b:80"]


def test_wrong_urls(run: Run) -> None:
    for command in (["status"], ["promote"], ["demote"], ["cluster", "status"]):
        for url in WRONG_URLS:
            found = run(*command, url)
            assert found.code == 64, (command, url, found)
            assert "is no status url" in found.err
        assert run(*command).code == 64


def test_the_members_of_an_elected_cluster_are_shown() -> None:
    leader, learner = view("leader"), view("follower")
    assert leader.status is not None
    assert learner.status is not None
    leader.status.update(voters=["x"], learners=["n"], changing=True)
    learner.status.update(voters=["x"], learners=["n"], changing=False)
    assert "learner" in _table_of(learner)
    assert "damaged" not in _table_of(learner)
    learner.status.update(lost_to_lsn=77)
    assert "damaged: gets back entries up to 77" in _table_of(learner)
    assert "the members change" in _table_of(leader)


def _table_of(*shown: NodeView) -> str:
    console = Console(file=StringIO(), width=200)
    console.print(status_table(shown, 200))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text
