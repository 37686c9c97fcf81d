"""The nodes, one process each, and where they listen."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from walstore.cli.status import NodeView, look
from walstore.demo.documents import DemoError

__all__ = ["TIMEOUT_S", "Cluster", "Node", "free_port"]

TIMEOUT_S = 15.0
"""What takes longer is not going to happen."""

_PORTS = range(20_000, 32_768)  # below those of connections that go out


@dataclass
class Node:
    """A process of `walstore serve`."""

    name: str
    process: subprocess.Popen[str]
    url: str
    status_url: str


class Cluster:
    """The nodes' processes: whatever happens, none is left at the end."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.nodes: dict[str, Node] = {}
        self._all: list[subprocess.Popen[str]] = []

    def start(self, *names: str) -> None:
        """Starts nodes, or starts them again; returns when all of them serve."""
        processes = {name: self._spawn(name) for name in names}
        for name, process in processes.items():
            ready = _ready_line(name, process)
            self.nodes[name] = Node(name, process, ready["url"], ready["status_url"])

    def _spawn(self, name: str) -> subprocess.Popen[str]:
        config = str(self.base / f"{name}.toml")
        process = subprocess.Popen(
            [sys.executable, "-m", "walstore", "serve", "--config", config],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for this process, which ends the others
        )
        self._all.append(process)
        return process

    @property
    def urls(self) -> list[str]:
        """The status urls of all nodes that were started."""
        return [node.status_url for node in self.nodes.values()]

    def look(self) -> list[NodeView]:
        """All nodes that were started, as they say they are."""
        return look(self.urls)

    def leader(self) -> str | None:
        """Who leads now."""
        found = [view.status for view in self.look() if view.status is not None]
        return next((node["node_id"] for node in found if node["role"] == "leader"), None)

    def kill(self, name: str) -> int:
        """kill -9; returns the process id."""
        process = self.nodes[name].process
        process.kill()
        process.wait()
        return process.pid

    def stop(self) -> None:
        """Ends all nodes as an operator does; who leads last, so that nobody is elected."""
        leader = self.leader()
        for names in ([name for name in self.nodes if name != leader], [leader]):
            for name in names:
                self.nodes[str(name)].process.terminate()
            for name in names:
                _end_well(self.nodes[str(name)])

    def end(self) -> None:
        """Kills what still runs."""
        for process in self._all:
            if process.poll() is None:
                process.kill()
            process.communicate()


def _ready_line(name: str, process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    watchdog = threading.Timer(TIMEOUT_S, process.kill)
    watchdog.start()
    line = process.stdout.readline()
    watchdog.cancel()
    if not line:
        _, words = process.communicate()
        raise DemoError(f"{name} was not ready: {words.strip() or 'it said nothing'}")
    ready: dict[str, Any] = json.loads(line)
    return ready


def _end_well(node: Node) -> None:
    try:
        code = node.process.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise DemoError(f"{node.name} did not end within {TIMEOUT_S:g} s") from None
    if code:
        raise DemoError(f"{node.name} ended with exit code {code}")


def free_port(count: int) -> int:
    """The first of so many ports in a row that nothing listens on."""
    for first in random.SystemRandom().sample(_PORTS[:-count], 100):
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise DemoError(f"there are no {count} free ports")
