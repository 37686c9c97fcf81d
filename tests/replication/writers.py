"""Nodes that are processes which write whenever they lead (node_process.py)."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.helpers import ROOT, tell
from tests.replication.nodes import free_ports, until


class Ledger:
    """The entries that were acked, by any process: {lsn: payload}."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.acked: dict[int, str] = {}
        self.bad: list[str] = []

    def note(self, lsn: int, payload: str) -> None:
        """An entry was acked; no other one was before, at its lsn."""
        with self._lock:
            before = self.acked.setdefault(lsn, payload)
            if before != payload:
                self.bad.append(f"lsn {lsn} was acked as {before} and as {payload}")


class Processes:
    """Nodes, each a process that writes whenever it leads, and the ledger of what they acked."""

    def __init__(self, base: Path, names: str = "abc") -> None:
        self.base = base
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.ledger = Ledger()
        self.running: dict[str, subprocess.Popen[str]] = {}
        self._readers: list[threading.Thread] = []
        self._starts = 0
        self._unheard: set[str] = set()

    def start(self, *names: str, prefix: str = "start") -> None:
        """Starts nodes at the same time; returns when they have begun."""
        self.spawn(*names, prefix=prefix)
        self.hear(*names)

    def spawn(self, *names: str, prefix: str) -> None:
        """Starts nodes, and does not wait."""
        for name in names:
            self._starts += 1
            self._unheard.add(name)
            self.running[name] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.replication.node_process", name),
                    *(str(self.base / name), json.dumps(self.ports), f"{prefix}{self._starts}"),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )

    def hear(self, *names: str) -> None:
        """Waits until nodes that were spawned have begun, and listens to what they say."""
        for name in names:
            process = self.running[name]
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            self._unheard.remove(name)
            reader = threading.Thread(target=self._read, args=(process,))
            reader.start()
            self._readers.append(reader)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                if line.endswith("\n"):  # not half a line of a process that was killed
                    lsn, payload = line.split()
                    self.ledger.note(int(lsn), payload)

    def promote(self, name: str) -> None:
        """Asks a node to lead; it may fail to."""
        with contextlib.suppress(BrokenPipeError):
            tell(self.running[name], "promote")

    def goes_on(self, entries: int, promotes: str = "") -> None:
        """Waits until so many more entries were acked, asking running nodes to lead meanwhile: each
        twice, since one that is not connected yet is refused."""
        wanted = len(self.ledger.acked) + entries
        for name in promotes * 2:
            self.promote(name)
            with contextlib.suppress(AssertionError):
                until(lambda: len(self.ledger.acked) >= wanted, "acked", timeout_s=5.0)
                return
        until(lambda: len(self.ledger.acked) >= wanted, "more entries are acked")

    @contextlib.contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """SIGSTOP, and SIGCONT in the end."""
        process = self.running[name]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def kill(self, name: str) -> None:
        """kill -9."""
        process = self.running.pop(name)
        process.kill()
        process.wait()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        if name in self._unheard:  # otherwise it is its reader's to close
            process.stdout.close()

    def close(self) -> None:
        """Kills all, and lets go of them."""
        for name in list(self.running):
            self.kill(name)
        for reader in self._readers:
            reader.join()
