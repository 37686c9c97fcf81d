"""walstore cluster: nodes that elect, as processes."""

from __future__ import annotations

import json
import re
import shutil
import signal
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import click
import pytest

from tests.cli.conftest import Outcome, Run
from tests.cli.nodes import READY_S, Served, append, ask, lone_node
from tests.cluster.registers import Registers, put
from tests.helpers import ROOT, contents
from tests.replication.nodes import OPTIONS, free_ports, until
from walstore import FileWALManager
from walstore.cli import cluster as cluster_command
from walstore.cli.client import NodeRefusedError, NodeUnreachableError
from walstore.cli.cluster import cluster as group
from walstore.cli.endpoint import Endpoint
from walstore.cli.node_config import load_config
from walstore.cli.remote import RemoteNode
from walstore.cluster import ClusterManager, MachineHost, MachineSnapshots
from walstore.replication import NotLeaderError, ReplicationWALManager
from walstore.replication.log import CONFIGURATIONS_NAME
from walstore.replication.notes import CLAIM_NAME, remove_note, write_note

pytestmark = pytest.mark.timeout(180)

FAST = "\n[replication]\nheartbeat_ms = 50\nelection_ms = 300\n"


def initialise(run: Run, base: Path, names: str = "abc") -> dict[str, Path]:
    """The files of nodes on free ports of this machine."""
    ports = free_ports(len(names))
    nodes = [f"--node={name}=127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)]
    found = run("cluster", "init", base, *nodes)
    assert found.code == 0, found
    paths = {name: base / f"{name}.toml" for name in names}
    assert found.lines == [f"walstore serve --config {path}" for path in paths.values()]
    for at, path in enumerate(paths.values()):
        text = path.read_text()
        assert f'status_listen = "127.0.0.1:{7100 + at}"' in text
        path.write_text(text.replace(f":{7100 + at}", ":0") + FAST)
    return paths


def further(base: Path, name: str, peer: Served) -> Path:
    """The file of a node that knows one other, and listens anywhere."""
    path = base / f"{name}.toml"
    path.write_text(
        f'node_id = "{name}"\npath = "{name}"\nelection = "raft"\nlisten = "127.0.0.1:0"\n'
        'advertise = "ws://127.0.0.1:0"\nstatus_listen = "127.0.0.1:0"\n'
        f'[peers]\n{peer.ready["node_id"]} = "{peer.ready["url"]}"\n'
        f'[security]\nsecret_file = "secret"\n{FAST}'
    )
    return path


@contextmanager
def serving(paths: dict[str, Path]) -> Iterator[dict[str, Served]]:
    """Processes, started at the same time; those that are left are killed in the end."""
    with ThreadPoolExecutor(len(paths)) as pool:
        nodes = dict(zip(paths, pool.map(Served, paths.values()), strict=True))
    try:
        for node in nodes.values():
            assert node.ready, node.process.communicate()
        yield nodes
    finally:
        for node in nodes.values():
            node.kill()


def cluster(run: Run, what: str, nodes: dict[str, Served], *options: str) -> Outcome:
    return run("cluster", what, *(node.url for node in nodes.values()), *options)


def well(run: Run, nodes: dict[str, Served]) -> Outcome:
    """Waits until all is well."""
    found = cluster(run, "status", nodes, "--wait", "60", "--json")
    assert found.code == 0, found
    return found


def until_failed(run: Run, nodes: dict[str, Served], name: str) -> dict[str, str]:
    """Waits until a node takes no part any more."""
    deadline = time.monotonic() + READY_S
    while True:
        found = cluster(run, "status", nodes, "--json")
        assert found.code == 1
        nodes_found: list[dict[str, str]] = found.json["nodes"]
        (node,) = (node for node in nodes_found if node["node_id"] == name)
        if node["state"] == "failed":
            return node
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def append_anywhere(nodes: dict[str, Served], payload: bytes) -> str:
    """Appends where it is taken; returns who leads."""
    deadline = time.monotonic() + READY_S
    while True:
        for name, node in list(nodes.items()):
            with suppress(ConnectionError):  # it does not run, or ends
                if ask(node.url, "POST", "/append", payload, X_Walstore="1")[0] == 200:
                    return name
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("name", sorted(group.commands))
def test_each_command_has_help_and_is_documented(run: Run, name: str) -> None:
    found = run("cluster", name, "--help")
    assert found.code == 0
    for part in (f"Usage: walstore cluster {name}", "Examples:", "Exit codes:"):
        assert part in found.out
    assert name in run("cluster", "--help").out
    text = (ROOT / "docs" / "cli.md").read_text()
    section = text.split("## walstore cluster\n")[1].split("\n## ")[0]
    (usage,) = re.findall(rf"^    walstore cluster {name} (.*)$", section, re.M)
    for parameter in group.commands[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help
            assert parameter.opts[0] in usage


def test_init_writes_what_is_not_there(run: Run, tmp_path: Path) -> None:
    base = tmp_path / "conf"
    nodes = ["--node", "a=n1:7001", "--node", "b=[::1]:7001"]
    for _ in range(2):
        found = run("cluster", "init", base, *nodes, "--status-port", "9000")
        assert (found.code, len(found.lines)) == (0, 2)
    assert sorted(path.name for path in base.iterdir()) == ["a.toml", "b.toml", "secret"]
    assert stat.S_IMODE((base / "secret").stat().st_mode) == 0o600
    secret = (base / "secret").read_text()
    assert len(secret) == 65
    text = (base / "b.toml").read_text()
    for line in ('listen = "[::1]:7001"', 'advertise = "ws://[::1]:7001"', ':9001"',
                 '"a" = "ws://n1:7001"'):  # fmt: skip
        assert line in text
    found = run("cluster", "init", base, *nodes, "--node", "c=n3:7001")
    assert found.code == 4
    assert "a.toml is there, and says something else" in found.err
    assert not (base / "c.toml").exists()
    assert (base / "secret").read_text() == secret


def test_init_says_what_is_wrong_with_what_is_there(run: Run, tmp_path: Path) -> None:
    base = tmp_path / "conf"
    nodes = ["--node", "a=n1:7001", "--node", "b=n2:7001"]
    base.mkdir()
    secret, good = base / "secret", b"x" * 16 + b"\n"
    for data, mode, text in (
        (b"", 0o600, "holds 0 bytes"),
        (b" " * 9 + b"x" * 15 + b"\n", 0o600, "holds 15 bytes"),
        (good, 0o644, "its mode is 0644"),
    ):
        secret.write_bytes(data)
        secret.chmod(mode)
        found = run("cluster", "init", base, *nodes)
        assert (found.code, found.out) == (4, "")
        assert text in found.err
        assert [*base.iterdir()] == [secret]
    secret.chmod(0o400)
    (base / "a.toml").write_bytes(b"\xff\xfe")
    found = run("cluster", "init", base, *nodes)
    assert found.code == 4
    assert "a.toml is there, and says something else" in found.err
    (base / "a.toml").unlink()
    found = run("cluster", "init", base, *nodes, "--status-port", "65535")
    assert found.code == 64
    assert "no port for each" in found.err
    assert run("cluster", "init", base, *nodes, "--status-port", "65534").code == 0
    assert secret.read_bytes() == good


def test_init_writes_any_id(run: Run, tmp_path: Path) -> None:
    names = ["\U0001f600", 'quoted "\\"', "\u00e9"]
    nodes = [f"--node={name}=127.0.0.1:{7001 + at}" for at, name in enumerate(names)]
    assert run("cluster", "init", tmp_path, *nodes).code == 0
    for name in names:
        assert load_config(str(tmp_path / f"{name}.toml")).node["node_id"] == name


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        (["a"], "ID=HOST:PORT"),
        (["a=n1"], "ID=HOST:PORT"),
        (["a=n1:0"], "ID=HOST:PORT"),
        (["a=n1:1", "a=n2:1"], "once for each"),
        (["=n1:1"], "cannot be a cluster"),
        (["a/b=n1:1"], "ID=HOST:PORT"),
        (["secret=n1:1"], "its log would be at secret"),
        (["..=n1:1"], "its log would be at .."),
        ([".=n1:1"], "its log would be at ."),
        (["a=n1:1", "a.toml=n2:1"], "its log would be at a.toml"),
    ],
)
def test_nodes_that_init_refuses(run: Run, tmp_path: Path, nodes: list[str], text: str) -> None:
    found = run("cluster", "init", tmp_path / "conf", *(f"--node={node}" for node in nodes))
    assert found.code == 64
    assert text in found.err
    assert not (tmp_path / "conf").exists()


def test_the_life_of_a_cluster(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = initialise(run, tmp_path)
    with serving(paths) as nodes:
        found = well(run, nodes).json
        assert (found["can_lose"], found["changing"], found["silent"]) == (1, False, {})
        assert [node["node_id"] for node in found["nodes"]] == [*"abc"]
        leader = append_anywhere(nodes, b"one")
        assert leader == found["leader_id"]
        table = cluster(run, "status", nodes)
        assert table.lines[0].split() == ["node", "role", "state", "address"]
        assert [line.split()[:3] for line in table.lines[1:4]] == [
            [name, "leader", "leading"] if name == leader else [name, "voter", "following"]
            for name in "abc"
        ]
        assert table.lines[4] == f"{leader} leads; can lose 1 more"

        target = next(name for name in "abc" if name != leader)
        assert cluster(run, "transfer", nodes, "--to", target).out == f"{target} leads\n"
        assert append_anywhere(nodes, b"two") == target
        again = cluster(run, "transfer", nodes).out
        assert again in {f"{name} leads\n" for name in "abc" if name != target}

        with monkeypatch.context() as patch:
            patch.setattr("walstore.cli.cluster._LEADER_TIMEOUT_S", 0.5)
            _ask_a_follower_alone(run, nodes, again.split()[0])
        _grow(run, tmp_path, nodes)
        _replace(run, tmp_path, nodes, paths)


def _ask_a_follower_alone(run: Run, nodes: dict[str, Served], leader: str) -> None:
    url = next(node.url for name, node in nodes.items() if name != leader)
    found = run("cluster", "remove", url, "--node", "c")
    assert found.code == 4
    assert "nobody who answers leads" in found.err
    assert f"its leader {leader} did not answer" in found.err
    found = run("cluster", "status", url)
    assert found.code == 1
    assert found.lines[-1] == "nobody who answered leads"
    with pytest.raises(NotLeaderError) as caught:
        RemoteNode(url, 1).transfer(None)
    assert caught.value.leader_id == leader


def _grow(run: Run, base: Path, nodes: dict[str, Served]) -> None:
    nodes["d"] = Served(further(base, "d", nodes["a"]))
    found = cluster(run, "status", nodes)
    assert "no member" in found.out
    found = cluster(run, "add", nodes, "--node", "d", "--learner")
    assert (found.code, found.out) == (0, "d learns\n")
    assert cluster(run, "add", nodes, "--node", "d").out == "d votes\n"
    assert well(run, nodes).json["can_lose"] == 1  # of four
    found = cluster(run, "remove", nodes, "--node", "d")
    assert found.out == "d is no member; end its process if it runs\n"
    nodes.pop("d").kill()


def _replace(run: Run, base: Path, nodes: dict[str, Served], paths: dict[str, Path]) -> None:
    """The leader, whose disk is lost, too."""
    leader = well(run, nodes).json["leader_id"]
    nodes[leader].kill()  # the others take over
    left = {name: node for name, node in nodes.items() if name != leader}
    append_anywhere(left, b"three")
    found = cluster(run, "status", nodes)
    assert found.code == 1
    assert "does not answer" in found.out
    found = cluster(run, "status", left, "--json")
    assert found.code == 1
    assert [n["state"] for n in found.json["nodes"] if n["node_id"] == leader] == ["unreachable"]
    assert found.json["can_lose"] == 0
    victim = next(name for name in left if name != found.json["leader_id"])
    refused = cluster(run, "remove", left, "--node", victim)
    assert refused.code == 4
    assert f"taking the vote of {victim} is refused" in refused.err

    shutil.rmtree(base / leader)
    nodes[leader] = Served(paths[leader])
    reason = until_failed(run, nodes, leader)["reason"]
    assert "must not come back under this name" in reason
    _, _, err = nodes[leader].end(signal.SIGTERM)
    assert "walstore cluster replace URL... --node OLD --with NEW" in err

    left["e"] = nodes["e"] = Served(further(base, "e", left[victim]))
    replaced = cluster(run, "replace", left, "--node", leader, "--with", "e")
    assert replaced.out == f"e is in the place of {leader}; end {leader} if it runs\n"
    assert well(run, left).json["can_lose"] == 1
    append_anywhere(left, b"four")
    for node in left.values():
        assert node.end(signal.SIGTERM)[0] == 0
    logs = [[e.payload for e in contents(base / name) if e.kind == 1] for name in left]
    assert logs[0] == logs[1] == logs[2] == [b"one", b"two", b"three", b"four"]


def test_a_rolling_restart_of_processes_fails_no_write(run: Run, tmp_path: Path) -> None:
    """A client that asks the next node where one does not take its entry, and asks nobody twice who
    may have: each entry is there once."""
    paths = initialise(run, tmp_path)
    acked: list[bytes] = []
    ended = threading.Event()
    with serving(paths) as nodes:

        def write() -> None:
            while not ended.is_set():
                append_anywhere(nodes, value := f"value-{len(acked)}".encode())
                acked.append(value)

        def restart(name: str) -> None:
            assert nodes[name].end(signal.SIGTERM)[0] == 0
            wanted = len(acked) + 3
            until(lambda: len(acked) >= wanted, "the others go on")
            nodes[name] = Served(paths[name])

        well(run, nodes)
        operator = ClusterManager(lambda: [RemoteNode(node.url, 30) for node in nodes.values()])
        writer = threading.Thread(target=write)
        writer.start()
        try:
            operator.rolling_restart(restart)
        finally:
            ended.set()
            writer.join()
        well(run, nodes)
        for node in nodes.values():
            node.end(signal.SIGTERM)
    logs = [[e.payload for e in contents(tmp_path / name) if e.kind == 1] for name in paths]
    assert acked == max(logs, key=len)
    print(f"acked={len(acked)}")
    assert len(acked) >= 9


def test_a_lost_quorum(run: Run, tmp_path: Path) -> None:
    paths = initialise(run, tmp_path)
    with serving(paths) as nodes:
        well(run, nodes)
        append_anywhere(nodes, b"one")
        well(run, nodes)
        busy = run("cluster", "recover", tmp_path / "a")
        assert busy.code == 5
    logs = [tmp_path / name for name in "abc"]
    found = run("cluster", "recover", logs[0], "--survivor", logs[1])
    assert found.code == 1
    assert found.out.count("last term") == 2
    assert "a, b, c" in found.out
    same = run("cluster", "recover", logs[0], "--survivor", tmp_path / "b" / ".." / "a")
    assert (same.code, same.out) == (64, "")
    assert "is the log itself" in same.err
    claim = {"term": 1 << 40, "lsn": 1234}  # of one that damage has cut
    write_note(str(logs[1]), CLAIM_NAME, claim)
    found = run("cluster", "recover", logs[0], "--survivor", logs[1])
    assert found.code == 1
    assert re.search(r"^damaged +it had entries up to lsn 1234", found.out, re.M)
    assert "b was damaged: it had entries up to lsn 1234" in found.lines[-1]
    remove_note(str(logs[1]), CLAIM_NAME)
    plan = run("cluster", "recover", logs[0], "--node", "a", "--into", tmp_path / "new")
    assert plan.code == 1
    assert "with --accept-loss" in plan.out
    assert not (tmp_path / "new").exists()
    for wrong in (["--node", "a"], ["--accept-loss"]):
        assert run("cluster", "recover", logs[0], *wrong).code == 64
    codes = []
    for at in (0, 1):  # one of them may have more than the other
        how = ["--survivor", logs[1 - at], "--into", tmp_path / f"new{at}", "--accept-loss"]
        codes.append(run("cluster", "recover", logs[at], "--node", "a", *how).code)
    assert set(codes) <= {0, 4}
    assert 0 in codes
    made = tmp_path / f"new{codes.index(0)}"
    assert (made / CONFIGURATIONS_NAME).exists()
    again = run("cluster", "recover", logs[0], "--node", "a", "--into", made, "--accept-loss")
    assert again.code == 4
    assert "already" in again.err

    paths["a"].write_text(paths["a"].read_text().replace('path = "a"', f'path = "{made}"'))
    with serving({"a": paths["a"]}) as nodes:
        append_anywhere(nodes, b"two")
        nodes["b2"] = Served(further(tmp_path, "b2", nodes["a"]))
        assert cluster(run, "add", nodes, "--node", "b2").out == "b2 votes\n"
        assert append(nodes["a"].url, b"three")["receipt"].keys() == {"a", "b2"}
    assert [e.payload for e in contents(made) if e.kind == 1][:2] == [b"one", b"two"]


def test_recover_takes_a_machine_over(run: Run, tmp_path: Path) -> None:
    """Also where the log begins behind its snapshot; without that it makes nothing."""
    old, new = tmp_path / "old", tmp_path / "new"
    options: dict[str, Any] = {"election": "raft", "options": OPTIONS}
    with ReplicationWALManager(
        old, node_id="a", snapshots=MachineSnapshots(old), **options
    ) as node, MachineHost(node, Registers()) as host:  # fmt: skip
        until(lambda: node.role == "leader", "it leads")
        for number in range(3):
            host.call(put(f"name-{number}", "x", number))
            host.checkpoint()
        until(lambda: node.first_lsn > 1, "the log is cut")
    how = ["--node", "n", "--accept-loss", "--into"]
    assert run("cluster", "recover", old, *how, new).code == 0
    with ReplicationWALManager(
        new, node_id="n", snapshots=MachineSnapshots(new), **options
    ) as node, MachineHost(node, Registers()) as host:  # fmt: skip
        until(lambda: node.role == "leader", "it leads")
        host.wait_applied(node.last_lsn)
        assert host.read(b"x") == b"2"
    (old / "machine").rename(tmp_path / "elsewhere")
    write_note(str(old), CLAIM_NAME, {"term": 1 << 40, "lsn": 1234})
    found = run("cluster", "recover", old, *how, tmp_path / "other")
    assert found.code == 4
    assert "no snapshot of what was before is whole" in found.err
    assert not [*tmp_path.glob("other*")]
    (tmp_path / "elsewhere").rename(old / "machine")
    found = run("cluster", "recover", old, *how, tmp_path / "other")
    assert found.code == 0
    assert "old was damaged: it had entries up to lsn 1234" in found.out


def test_who_cannot_be_asked(run: Run, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    for command in (["status"], ["add", "--node", "d"], ["transfer"]):
        found = run("cluster", *command, f"http://127.0.0.1:{port}")
        assert (found.code, found.out) == (4, "")
        assert "does not answer" in found.err
        assert "hint" in found.err
    with lone_node(tmp_path / "log") as endpoint:
        found = run("cluster", "status", endpoint.url)
        assert found.code == 64
        assert "do not elect" in found.err
        with pytest.raises(NodeRefusedError, match="raft"):
            RemoteNode(endpoint.url, 1).remove_node("d")
        for path in ("/members/add?node=d", "/transfer"):
            status, text = ask(endpoint.url, "POST", path, b"", X_Walstore="1")
            assert (status, "raft" in text) == (400, True)
        for path in ("/members/add", "/members/add?node=d&vote=2", "/members/remove?node=d&x=1",
                     "/members/replace?node=d", "/members/add?node=d&timeout=0"):  # fmt: skip
            assert ask(endpoint.url, "POST", path, b"", X_Walstore="1")[0] == 400
    assert run("cluster", "recover", tmp_path / "log").code == 4
    assert run("cluster", "recover", tmp_path / "nothing").code == 3


@pytest.mark.parametrize("text", ['{"peers": []}', '{"peers": [5]}', '{"peers": [{"lag": 5}]}'])
def test_an_endpoint_that_is_no_nodes(run: Run, text: str) -> None:
    with answering(text) as url:
        found = run("cluster", "status", url)
    assert found.code == 4
    assert "answers as no node of this version does" in found.err


STATUS = {
    "node_id": "a", "role": "leader", "error": "", "term": 1, "last_lsn": 1, "durable_lsn": 1,
    "committed_lsn": 1, "applied_lsn": 1, "since_s": 1.5, "leader_id": None, "cluster_id": "c",
    "first_lsn": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    "found",
    [
        {},
        STATUS,
        STATUS | {"peers": 5},
        STATUS | {"peers": [5]},
        STATUS | {"peers": [{"node_id": "b", "connected": True}]},
        STATUS | {"peers": [{"node_id": "b", "connected": True, "lag": {"durable": 5}}]},
        STATUS | {"peers": [], "since_s": "long"},
    ],
)
def test_a_status_that_is_no_nodes(run: Run, found: dict[str, object]) -> None:
    with answering(json.dumps(found)) as url:
        shown = run("status", url)
    assert (shown.code, shown.err) == (1, "")
    assert "answers as no node of" in shown.out


@pytest.mark.parametrize("text", ["{}", '{"node_id": 5, "term": "1"}', '{"node_id": "a"}'])
def test_answers_that_are_no_nodes(run: Run, tmp_path: Path, text: str) -> None:
    FileWALManager(tmp_path / "log").close()
    for command in (["promote"], ["demote"], ["diff", tmp_path / "log"]):
        with answering(text) as url:
            found = run(*command, url)
        assert found.code == 4, (command, found)
        assert "answers as no node of this version does" in found.err
    for change in (RemoteNode.add_voter, RemoteNode.transfer):
        with answering(text) as url, pytest.raises(NodeUnreachableError, match="as no node"):
            change(RemoteNode(url, 1), "d")


@pytest.mark.parametrize("entry", [5, {}, {"lsn": 1}, {"lsn": 2}])
def test_entries_that_are_no_nodes(run: Run, tmp_path: Path, entry: object) -> None:
    with FileWALManager(tmp_path / "log") as log:
        log.append(b"one")
        found = STATUS | {"cluster_id": log.log_id, "entries": [entry]}
    with answering(json.dumps(found), requests=2) as url:
        shown = run("diff", tmp_path / "log", url)
    assert shown.code == 4
    assert "answers as no node of this version does" in shown.err


@pytest.mark.parametrize("node", ["d\udcff", "", "x" * 65, "client:x", "a\nb"])
def test_ids_that_no_node_can_have(run: Run, node: str) -> None:
    url = "http://127.0.0.1:1"
    for command in (
        ["add", url, "--node", node],
        ["remove", url, "--node", node],
        ["replace", url, "--node", "a", "--with", node],
        ["transfer", url, "--to", node],
    ):
        found = run("cluster", *command)
        assert found.code == 64, command
        assert "cannot be a node's id" in found.err


@contextmanager
def answering(text: str, port: int = 0, requests: int = 1) -> Iterator[str]:
    """An endpoint that answers one request with this, or more."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", port), Other) as server:

        def answer() -> None:
            for _ in range(requests):
                server.handle_request()

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        thread.join()


def test_who_is_waited_for_may_answer_late(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody answers at first, and a node that is well then."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    options: dict[str, Any] = {"election": "raft", "options": OPTIONS}
    with ExitStack() as stack:
        node = stack.enter_context(ReplicationWALManager(tmp_path / "a", node_id="a", **options))
        until(lambda: node.role == "leader", "it leads")
        asked = 0
        real = cluster_command._ask

        def ask_then(nodes: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked == 2:
                stack.enter_context(closing(Endpoint(node, "127.0.0.1", port)))
            return real(nodes)

        monkeypatch.setattr(cluster_command, "_ask", ask_then)
        found = run("cluster", "status", url, "--wait", "60")
    assert found.code == 0, found
    assert asked >= 2
    found = run("cluster", "status", url, "--wait", "1")
    assert found.code == 4
    assert "does not answer" in found.err
