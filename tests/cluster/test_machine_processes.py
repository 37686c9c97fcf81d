"""Machines on nodes that are processes: killed amid applying and amid snapshots, and switched over,
while clients call. Every command is applied once, and what clients saw is linearizable.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.cluster.registers import Registers, put
from tests.crash.settings import scaled
from tests.helpers import ROOT, end, expect_line, seeded, tell
from tests.linear import Operation, check
from tests.replication.nodes import free_ports, until
from tests.wal.replicas import replicated
from walstore.cluster import (
    ClusterClient,
    ClusterUnavailableError,
    CommandUnknownError,
    MachineHost,
)
from walstore.replication import NetworkOptions

pytestmark = pytest.mark.timeout(7000)

KILLS = scaled(4)
LEFT = scaled(2)
SWITCHOVERS = scaled(10)
"""100 in a soak of ten times the usual."""

CLIENTS = 3
CHECKPOINT_BYTES = 4000
"""So little that a snapshot is under way most of the time."""

NETWORK = NetworkOptions(heartbeat_ms=100, silence_ms=1000)


class Nodes:
    """Three of them, and how they are reached."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.ports = dict(zip("abc", free_ports(3), strict=True))
        self.running: dict[str, subprocess.Popen[str]] = {}

    def start(self, *names: str) -> None:
        """Starts nodes at the same time; returns when they have begun."""
        for name in names:
            arguments = (name, str(self.base / name), json.dumps(self.ports), str(CHECKPOINT_BYTES))
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", "tests.cluster.machine_process", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
        for name in names:
            expect_line(self.running[name], "ready")

    def kill(self, *names: str) -> None:
        """kill -9."""
        for name in names:
            end(self.running.pop(name))

    def promote(self, name: str) -> None:
        """Has a node lead."""
        tell(self.running[name], "promote")
        expect_line(self.running[name], "leads")

    def client(self, attempt_s: float = 1.0) -> ClusterClient:
        """A client of all."""
        urls = {name: f"ws://127.0.0.1:{port}" for name, port in self.ports.items()}
        return ClusterClient(urls, timeout_s=60.0, attempt_s=attempt_s, network=NETWORK)

    def digests(self, lsn: int) -> dict[str, str]:
        """What each node says of its own state, once it has applied an entry."""
        found = {}
        for name in self.running:
            urls = {name: f"ws://127.0.0.1:{self.ports[name]}"}
            with ClusterClient(urls, timeout_s=60.0) as client:
                found[name] = client.read_after(b"digest", lsn).decode()
        return found


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: made.kill(*made.running))
        made.start("a", "b", "c")
        yield made


class Callers:
    """Threads that call and read, each with a client of its own, while the block lasts.

    Attributes:
        done: names of commands that returned.
        failed: what was raised.
        history: of all of them.
        slowest_s: of all calls.
    """

    def __init__(self, nodes: Nodes, rng: Random, timeout_s: float = 60.0) -> None:
        self._nodes = nodes
        self._timeout_s = timeout_s
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.done: list[str] = []
        self.failed: list[Exception] = []
        self.history: list[Operation] = []
        self.slowest_s = 0.0
        self._threads = [
            threading.Thread(target=self._run, args=(f"client{n}", Random(rng.random())))
            for n in range(CLIENTS)
        ]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, calls: int) -> None:
        """Waits until so many more returned."""
        wanted = len(self.done) + calls
        until(lambda: len(self.done) >= wanted, f"{calls} more calls return", timeout_s=60.0)

    def _run(self, name: str, rng: Random) -> None:
        with self._nodes.client() as client:
            for number in itertools.count():
                if self._ended.is_set():
                    return
                key, value = f"key{rng.randrange(3)}", f"{name}-{number}"
                began_s = time.monotonic()
                try:
                    if rng.random() < 0.3:
                        read = json.loads(client.read(key.encode(), timeout_s=self._timeout_s))
                        self._note(Operation("read", key, read, began_s, time.monotonic()))
                        continue
                    client.call(put(value, key, value), timeout_s=self._timeout_s)
                    self._note(Operation("write", key, value, began_s, time.monotonic()))
                    self.done.append(value)
                except (ClusterUnavailableError, CommandUnknownError) as error:
                    self.failed.append(error)
                    if isinstance(error, CommandUnknownError):
                        self._note(Operation("write", key, value, began_s, math.inf))

    def _note(self, operation: Operation) -> None:
        with self._lock:
            self.history.append(operation)
            if operation.ended < math.inf:
                self.slowest_s = max(self.slowest_s, operation.ended - operation.began)


def assert_once(nodes: Nodes, callers: Callers) -> None:
    """Every call that returned was applied once, the others at most once; all nodes are the same,
    and what was seen is linearizable."""
    with nodes.client() as client:
        applied = json.loads(client.read(b"applied"))
        assert set(applied.values()) == {1}, Counter(applied.values())
        assert len(set(callers.done)) == len(callers.done)
        assert set(callers.done) <= applied.keys()
        assert len(applied) <= len(callers.done) + len(callers.failed)
        client.call(put("the end", "end", 1))
        assert len(set(nodes.digests(client.last_lsn).values())) == 1
    assert check(callers.history) == []
    reads = sum(operation.kind == "read" for operation in callers.history)
    print(
        f"calls={len(callers.done)} reads={reads} failed={len(callers.failed)} "
        f"slowest={callers.slowest_s:.3f} s"
    )
    assert len(callers.done) >= 50
    assert reads >= 10


def leader_of(nodes: Nodes) -> str:
    """The node that answers reads itself."""
    for _ in range(1000):
        for name, port in nodes.ports.items():
            if name not in nodes.running:
                continue
            urls = {name: f"ws://127.0.0.1:{port}"}
            client = ClusterClient(urls, timeout_s=0.3)
            with client, contextlib.suppress(ClusterUnavailableError):
                client.read(b"")
                if client._client._at == name:
                    return name
    raise AssertionError("nobody leads")


def test_the_leader_is_killed_again_and_again(nodes: Nodes) -> None:
    """And now and then another one, or all; each time amid applying, and often amid a snapshot."""
    rng = seeded("killed leaders")
    victims: Counter[str] = Counter()
    with Callers(nodes, rng) as callers:
        callers.go_on(60)
        for turn in range(KILLS):
            kind = ("leader", "follower", "leader", "all")[turn % 4]
            leader = leader_of(nodes)
            names = {
                "leader": [leader],
                "follower": [name for name in "abc" if name != leader][:1],
                "all": ["a", "b", "c"],
            }[kind]
            callers.go_on(rng.randint(1, 30))
            nodes.kill(*names)
            victims[kind] += 1
            if kind != "all":
                callers.go_on(20)
            nodes.start(*names)
            callers.go_on(20)
    print(dict(victims))
    assert callers.failed == []
    assert_once(nodes, callers)
    nodes.kill("a", "b", "c")
    snapshots = [len(list((nodes.base / name / "machine").glob("snapshot-*"))) for name in "abc"]
    assert min(snapshots) >= 2, snapshots


def test_planned_switchovers_fail_no_call(nodes: Nodes) -> None:
    rng = seeded("switchovers")
    with Callers(nodes, rng) as callers:
        callers.go_on(60)
        names = itertools.cycle("abc")
        for _ in range(SWITCHOVERS):
            nodes.promote(next(names))
            callers.go_on(10)
    assert callers.failed == []
    assert_once(nodes, callers)


def test_what_is_unknown_is_said_to_be(nodes: Nodes) -> None:
    """Calls with little time while the leader dies, and another node: they fail, and are applied at
    most once."""
    rng = seeded("little time")
    with Callers(nodes, rng, timeout_s=0.15) as callers:
        callers.go_on(60)
        for _ in range(max(2, KILLS // 2)):
            leader = leader_of(nodes)
            victims = [leader, rng.choice(sorted({*"abc"} - {leader}))]
            nodes.kill(*victims)
            failed = len(callers.failed)
            until(lambda failed=failed: len(callers.failed) > failed, "some fail")  # type: ignore[misc]
            nodes.start(*victims)
            callers.go_on(30)
    assert_once(nodes, callers)


def test_what_a_kill_leaves_is_a_state(nodes: Nodes, tmp_path: Path) -> None:
    """Of each node, killed while it applies and checkpoints: a copy of it, read as if no other
    node were there, has each command once. Then they go on."""
    rng = seeded("what is left")
    with Callers(nodes, rng) as callers:
        for turn in range(LEFT):
            callers.go_on(rng.randint(30, 150))
            nodes.kill("a", "b", "c")
            for name in "abc":
                copy = shutil.copytree(nodes.base / name, tmp_path / f"{name}{turn}")
                with replicated(copy) as log, MachineHost(log, Registers()) as host:
                    log._set_committed(log.last_lsn)
                    host.wait_applied(log.last_lsn)
                    applied = json.loads(host.read_stale(b"applied"))
                    assert set(applied.values()) == {1}
                    assert len(applied) >= 20
                shutil.rmtree(copy)
            nodes.start("a", "b", "c")
    assert callers.failed == []
    assert_once(nodes, callers)
