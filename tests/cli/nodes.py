"""Nodes with a local endpoint, in this process and as processes of `walstore serve`."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.helpers import ROOT
from walstore.cli.endpoint import Endpoint
from walstore.replication import ReplicationWALManager

READY_S = 30.0


@contextmanager
def lone_node(path: Path, **options: Any) -> Iterator[Endpoint]:
    """A cluster of one node, in this process."""
    node = ReplicationWALManager(path, node_id="solo", role="leader", **options)
    with closing(node), closing(Endpoint(node, "127.0.0.1", 0)) as endpoint:
        yield endpoint


def ask(
    url: str, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, str]:
    """A request as any client could make it; status and body of the answer. In the names of
    headers an underscore is a hyphen."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=READY_S)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def append(url: str, payload: bytes) -> dict[str, Any]:
    """Appends through the endpoint."""
    status, text = ask(url, "POST", "/append", payload, X_Walstore="1")
    assert status == 200, text
    found: dict[str, Any] = json.loads(text)
    return found


def spawn_node(config: Path) -> subprocess.Popen[str]:
    """Starts a process of `walstore serve`."""
    return subprocess.Popen(
        [sys.executable, "-m", "walstore", "serve", "--config", str(config.resolve())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


class Served:
    """A process of `walstore serve`, and the line that it printed when it was ready.

    Attributes:
        line, ready: that line, and what it says.
    """

    def __init__(self, config: Path, process: subprocess.Popen[str] | None = None) -> None:
        self.process = process or spawn_node(config)
        assert self.process.stdout is not None
        watchdog = threading.Timer(READY_S, self.process.kill)
        watchdog.start()
        self.line = self.process.stdout.readline()
        watchdog.cancel()
        self.ready: dict[str, Any] = json.loads(self.line) if self.line else {}
        self.url: str = self.ready.get("status_url", "")

    def end(self, signal_number: int) -> tuple[int, str, str]:
        """Sends a signal; exit code, and what was written to stdout since, and to stderr."""
        self.process.send_signal(signal_number)
        out, err = self.process.communicate(timeout=READY_S)
        return self.process.returncode, out, err

    def kill(self) -> None:
        """Whatever it does."""
        self.process.kill()
        self.process.communicate()


def config(base: Path, name: str, role: str, peers: dict[str, str], more: str = "") -> Path:
    """Writes a node's file."""
    path = base / f"{name}.toml"
    path.write_text(
        f'node_id = "{name}"\npath = "{name}"\nlisten = "127.0.0.1:0"\nrole = "{role}"\n'
        f'status_listen = "127.0.0.1:0"\nsegment_bytes = 65536\n{more}\n[peers]\n'
        + "".join(f'{peer} = "{url}"\n' for peer, url in peers.items())
    )
    return path
