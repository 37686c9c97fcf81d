"""Processes of a cluster: started, waited for, ended; their output goes to a file each."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.replication.nodes import free_ports

READY_S = 30.0
STOP_S = 30.0
POLL_S = 0.01
SETTLE_S = 1.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now, and that the kernel gives to no connection."""
    return free_ports(1)[0]


def missing_package(name: str) -> str:
    """What to say when a client's package is not there; empty when it is."""
    if importlib.util.find_spec(name):
        return ""
    return f"Python's package {name} is not installed: pip install -e '.[bench]'"


def until(what: str, ready: Callable[[], bool], timeout_s: float = READY_S) -> None:
    """Asks again and again: a foreign program has no other way to say that it is ready."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(POLL_S)


class Processes:
    """The processes of one cluster, by name."""

    def __init__(self, logs: Path, user: str | None = None) -> None:
        self._logs, self._user = logs, user
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts a program, with pipes to talk to it, in a group of its own."""
        with open(self._logs / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if name.startswith("node-") else log,
                stderr=log,
                cwd=self._logs if self._user else None,  # where that user may be, too
                env={**os.environ, **(env or {})},
                user=self._user,
                process_group=0,
            )
        self._running[name] = process
        return process

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends one, by force when it does not end by itself."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGCONT)
        process.send_signal(how)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def stop_all(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends all, the last one started first."""
        for name in reversed(list(self._running)):
            self.stop(name, how)

    def idle(self, names: Sequence[str], seconds: float) -> dict[str, float]:
        """How much of a CPU each of these takes by itself, the most of them, in percent."""
        time.sleep(SETTLE_S)
        before = {name: self._cpu_s(name) for name in names}
        time.sleep(seconds)
        used_s = [self._cpu_s(name) - before[name] for name in names]
        return {"cpu_percent": 100 * max(used_s) / seconds}

    def _cpu_s(self, name: str) -> float:
        stat = Path("/proc", str(self._running[name].pid), "stat").read_text(errors="replace")
        fields = stat.rpartition(")")[2].split()  # the command may hold spaces and parentheses
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def send(self, name: str, what: signal.Signals) -> None:
        """Sends a signal to one."""
        self._running[name].send_signal(what)
