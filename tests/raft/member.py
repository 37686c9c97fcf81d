"""A member of a cluster that elects, with its clients, in a process of its own:
`python -m tests.raft.member OPTIONS` (members.py starts it, and listens to it).

While it leads, clients write a register of a few keys and read it. A line of output is a JSON
array: what it is, and what is known of it. Times are of the monotonic clock, which all processes of
a machine share. A write is told before it begins, so that nothing is in the log that was not told.

A line of input is a JSON array, too: a number, a command, its arguments. Answers may come in
another order. When its input ends the node is closed.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from walstore import ClosedLogError, CorruptLogError, EntryTruncatedError, WALStoreError
from walstore.errors import LogFullError
from walstore.replication import (
    NetworkOptions,
    NotLeaderError,
    ReplicationOptions,
    ReplicationTimeoutError,
    ReplicationWALManager,
    TooFewNodesError,
)
from walstore.wal.record import DATA

KEYS = "xyz"
WRITERS, READERS = 2, 2
PAUSE_S = 0.02
TIMEOUT_S = 1.0
COMMANDS_AT_ONCE = 4


def say(*line: Any) -> None:
    """In one piece, also where the process is killed right after."""
    os.write(1, json.dumps(line).encode() + b"\n")


class Register:
    """The last value of each key in the entries up to some lsn."""

    def __init__(self, node: ReplicationWALManager) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._values: dict[str, str] = {}
        self._next_lsn = 1

    def read(self, key: str, lsn: int) -> str | None:
        """The value, with all entries up to this one applied, or more."""
        with self._lock:
            if lsn >= self._next_lsn:
                for entry in self._node.replay(self._next_lsn, lsn):
                    if entry.kind == DATA:
                        at, value, _ = entry.payload.decode().split("=")
                        self._values[at] = value
                    self._next_lsn = entry.lsn + 1
            return self._values.get(key)


class Clients:
    """Threads that write and read while this node leads."""

    def __init__(self, node: ReplicationWALManager, register: Register) -> None:
        self._node = node
        self._register = register
        self._ended = threading.Event()
        self._life = os.urandom(4).hex()
        jobs = [(self._write, n) for n in range(WRITERS)] + [
            (self._read, n) for n in range(READERS)
        ]
        self._threads = [
            threading.Thread(target=self._run, args=(job, random.Random(f"{self._life}{number}")))
            for job, number in jobs
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, job: Callable[[str, str, random.Random], None], rng: random.Random) -> None:
        number, name = 0, f"{self._life}.{threading.get_ident()}"
        while not self._ended.wait(PAUSE_S):
            if self._node.role == "leader":
                number += 1
                job(rng.choice(KEYS), f"{name}.{number}", rng)

    def _write(self, key: str, value: str, rng: random.Random) -> None:
        say("write", key, value, time.monotonic())
        payload = f"{key}={value}=" + "." * rng.randrange(600)
        try:
            lsn = self._node.append(payload.encode(), timeout_s=TIMEOUT_S)
        except (NotLeaderError, TooFewNodesError, EntryTruncatedError, LogFullError) as error:
            say("refused", value, type(error).__name__)
        except (ReplicationTimeoutError, ClosedLogError):
            pass  # it may be there, or not
        else:
            say("acked", value, lsn, time.monotonic())

    def _read(self, key: str, _: str, rng: random.Random) -> None:
        began = time.monotonic()
        try:
            lsn = self._node.linearizable_lsn(timeout_s=TIMEOUT_S)
            found = self._register.read(key, lsn)
        except (NotLeaderError, ReplicationTimeoutError, ClosedLogError):
            return
        say("read", key, found, began, time.monotonic())


class Commands:
    """What a member may be asked."""

    def __init__(self, node: ReplicationWALManager, clients: Clients) -> None:
        self._node = node
        self.quiet = clients.end

    def status(self) -> dict[str, Any]:
        return self._node.status().as_dict()

    def append(self, value: str, timeout_s: float) -> int:
        return self._node.append(f"end={value}=".encode(), timeout_s=timeout_s)

    def level(self, lsn: int, timeout_s: float) -> None:
        self._node.wait_committed(lsn, timeout_s=timeout_s)

    def change(self, how: str, name: str, timeout_s: float) -> int:
        """add_voter, add_learner or remove_node."""
        lsn: int = getattr(self._node, how)(name, timeout_s=timeout_s)
        return lsn


def obey(call: Callable[..., Any], number: int, arguments: list[Any]) -> None:
    try:
        say("answer", number, call(*arguments))
    except WALStoreError as error:
        say("error", number, type(error).__name__, str(error))


def serve(node: ReplicationWALManager) -> None:
    """Until the input ends."""
    register = Register(node)
    register.read("", node.committed_lsn)  # it holds what it will serve
    clients = Clients(node, register)
    commands = Commands(node, clients)
    say("ready")
    clients.start()
    with ThreadPoolExecutor(COMMANDS_AT_ONCE) as pool:
        for line in sys.stdin:
            number, name, *arguments = json.loads(line)
            pool.submit(obey, getattr(commands, name), number, arguments)
    clients.end()


def main(text: str) -> None:
    options = json.loads(text)
    options["network"] = NetworkOptions(**options["network"])
    options["options"] = ReplicationOptions(**options["options"])
    try:
        with ReplicationWALManager(**options) as node:
            serve(node)
    except CorruptLogError as error:
        say("damaged", str(error))


if __name__ == "__main__":
    main(sys.argv[1])
