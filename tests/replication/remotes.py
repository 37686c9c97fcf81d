"""Clusters of nodes that are processes, which do what a test tells them (told_node.py)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from tests.helpers import ROOT, contents
from tests.replication.nodes import free_ports, until
from walstore import WALEntry
from walstore.cli.app import app
from walstore.testing.shim import environment

NETWORK = {
    "heartbeat_ms": 100,
    "silence_ms": 2000,
    "reconnect_min_ms": 10,
    "reconnect_max_ms": 100,
}
OPTIONS = {"probe_ms": 100, "heartbeat_ms": 50, "leader_timeout_ms": 300, "election_ms": 300}


class RemoteError(Exception):
    """A command failed.

    Attributes:
        kind: the class of the error.
        lsn: of an append that ran out of time, or 0.
    """

    def __init__(self, kind: str, message: str, lsn: int) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.lsn = lsn


class Remote:
    """One node's process. It is started at once; `ready` waits until it has begun.

    Args:
        options: of ReplicationWALManager.
        command: what runs the process, such as `ip netns exec NAME`.
        shim: whether its disk can be made to fail.
    """

    def __init__(
        self, options: Mapping[str, Any], command: Sequence[str] = (), *, shim: bool = False
    ) -> None:
        self.name = str(options["node_id"])
        arguments = [sys.executable, "-m", "tests.replication.told_node", json.dumps(options)]
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(preload=shim),
        )

    def ready(self) -> None:
        """Waits until the node has begun."""
        assert self._read() == "ready"

    def ask(self, command: str, *arguments: Any) -> Any:
        """Has a command done; returns what it returned.

        Raises:
            RemoteError: it failed.
        """
        self.tell(command, *arguments)
        return self.answer()

    def tell(self, command: str, *arguments: Any) -> None:
        """Has a command done, and does not wait: the answer is to be read."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Waits for the answer of a command that it was told."""
        return self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"{self.name} has ended: {self.process.wait()}"
        found = json.loads(line)
        if "error" in found:
            raise RemoteError(found["error"], found["message"], found.get("lsn", 0))
        return found["result"]

    def status(self) -> dict[str, Any]:
        """What the node says of itself."""
        found: dict[str, Any] = self.ask("status")
        return found

    def peer(self, name: str) -> dict[str, Any]:
        """What the node says of another one."""
        (found,) = (peer for peer in self.status()["peers"] if peer["node_id"] == name)
        assert isinstance(found, dict)
        return found

    def resident_bytes(self) -> int:
        """Memory of the process that is its own: no pages of files."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in text.splitlines() if line.startswith("RssAnon:"))
        return int(line.split()[1]) << 10

    def pause(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self._let_go()

    def close(self) -> int:
        """Has the node closed; returns the exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self._let_go()

    def _let_go(self) -> int:
        code = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        return code


class Remotes:
    """Nodes by name, each a process with its directory; started, killed, started again.

    Args:
        base: where the directories are made.
        hosts: the address of each node, and the command that runs what is to be there; by default
            all are on this machine.
        options: for each node, as of ReplicationWALManager; `network` and `options` as their
            fields.
    """

    def __init__(
        self,
        base: Path,
        names: str = "abc",
        hosts: Mapping[str, tuple[str, Sequence[str]]] | None = None,
        **options: Any,
    ) -> None:
        self.base = base
        self.names = names
        self._hosts = hosts or dict.fromkeys(names, ("127.0.0.1", ()))
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))
        self._options = {
            "segment_bytes": 1 << 20,
            "network": NETWORK | options.pop("network", {}),
            "options": OPTIONS | options.pop("options", {}),
            **options,
        }
        self.nodes: dict[str, Remote] = {}
        self.paths = {name: base / name for name in names}

    def __getitem__(self, name: str) -> Remote:
        return self.nodes[name]

    def start(self, *names: str, role: str = "follower", shim: str = "") -> None:
        """Starts nodes, all at the same time; returns when they have begun.

        Args:
            shim: those whose disks can be made to fail.
        """
        for name in names:
            urls = {peer: f"ws://{self._address(peer)}" for peer in self.names if peer != name}
            own = {"node_id": name, "path": str(self.paths[name]), "role": role, "peers": urls}
            options = own | {"listen": self._address(name)} | self._options
            self.nodes[name] = Remote(options, self._hosts[name][1], shim=name in shim)
        for name in names:
            self.nodes[name].ready()

    def _address(self, name: str) -> str:
        return f"{self._hosts[name][0]}:{self._ports[name]}"

    def lead(self, *, shim: str = "") -> Remote:
        """Starts all, the first one as the leader; returns when they have an entry in common."""
        first = self.names[0]
        self.start(first, role="leader", shim=shim)
        self.start(*self.names[1:], shim=shim)
        self.level(self[first].ask("append", "all have it"))
        return self[first]

    def level(self, lsn: int, names: str = "") -> None:
        """Waits until an entry is committed and durable on these nodes."""
        for name in names or self.nodes:
            until(partial(is_there, self[name], lsn), f"{name} has lsn {lsn}")

    def kill(self, name: str) -> None:
        """kill -9."""
        self.nodes.pop(name).kill()

    def close(self) -> None:
        """Kills what still runs."""
        for name in list(self.nodes):
            self.kill(name)

    def assert_equal(self, leader: str) -> list[WALEntry]:
        """Levels and closes all; the logs must be the same, entry by entry, as `walstore diff` and
        a comparison of every field say. Returns the leader's entries."""
        lsn = self[leader].ask("append", "the end")
        self.level(lsn)
        for name in list(self.nodes):
            assert self.nodes.pop(name).close() == 0, name
        entries = contents(self.paths[leader])
        assert entries[-1].lsn == lsn
        for name in self.names:
            if name == leader:
                continue
            pair = [str(self.paths[leader]), str(self.paths[name])]
            done = CliRunner().invoke(app, ["diff", *pair])
            assert (done.exit_code, done.stdout[:5]) == (0, "same:"), (name, done.output)
            others = contents(self.paths[name])
            first_lsn = max(entries[0].lsn, others[0].lsn)
            held = [entry for entry in others if entry.lsn >= first_lsn]
            assert held == [entry for entry in entries if entry.lsn >= first_lsn], name
        return entries


def is_there(node: Remote, lsn: int) -> bool:
    """Whether an entry is committed and durable on a node."""
    status = node.status()
    return bool(min(status["committed_lsn"], status["durable_lsn"]) >= lsn)
