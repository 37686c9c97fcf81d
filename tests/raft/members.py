"""Clusters whose members are processes in network namespaces, and what their clients have seen
(member.py)."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests import linear
from tests.crash.mounts import make_filesystem, mounted, run
from tests.helpers import ROOT, contents
from tests.raft.wall_clock import WallClocks
from tests.replication.namespaces import Namespaces
from tests.replication.nodes import WAIT_S, until
from walstore import WALEntry
from walstore.wal.record import DATA, TERM

ELECTION_MS = 500
OPTIONS = {"probe_ms": 100, "heartbeat_ms": 100, "stall_ms": 1500, "join_timeout_ms": 25_000}
NETWORK = {
    "heartbeat_ms": 200,
    "silence_ms": 2000,
    "connect_timeout_ms": 500,
    "handshake_timeout_ms": 2000,
    "reconnect_min_ms": 20,
    "reconnect_max_ms": 200,
}
PORT = 7000
SEGMENT_BYTES = 16 << 10
DISK_BYTES = 16 << 20


class MemberError(Exception):
    """A member could not do what it was asked."""


class History:
    """What the clients of a cluster did, in the order in which they told it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._writes: dict[str, tuple[str, float, float]] = {}  # value: key, began, ended
        self.refused: dict[str, str] = {}
        self.acked: dict[str, int] = {}
        self.reads: list[linear.Operation] = []
        self.last_acked_by = ""

    def note(self, name: str, kind: str, details: list[Any]) -> None:
        """Takes down a line of a member."""
        with self._lock:
            if kind == "write":
                key, value, began = details
                assert value not in self._writes, value
                self._writes[value] = (key, began, math.inf)
            elif kind == "acked":
                value, lsn, ended = details
                key, began, _ = self._writes[value]
                self._writes[value] = (key, began, ended)
                self.acked[value] = lsn
                self.last_acked_by = name
            elif kind == "refused":
                value, why = details
                self.refused[value] = why
            else:
                key, found, began, ended = details
                self.reads.append(linear.Operation("read", key, found, began, ended))

    def problems(self, entries: Iterable[WALEntry]) -> list[str]:
        """What is wrong with it, when these are the entries that all nodes have in the end."""
        at: dict[str, int] = {}
        found: list[str] = []
        for entry in entries:
            if entry.kind == DATA:
                key, value, _ = entry.payload.decode().split("=")
                if key == "end":
                    continue
                if value in at:
                    found.append(f"{value} is at {at[value]} and at {entry.lsn}")
                if value not in self._writes:
                    found.append(f"nobody wrote {value}, at {entry.lsn}")
                if value in self.refused:
                    found.append(f"{value} was refused ({self.refused[value]}), at {entry.lsn}")
                at[value] = entry.lsn
        for value, lsn in self.acked.items():
            if at.get(value) != lsn:
                found.append(f"{value} was acked at {lsn}, and is at {at.get(value)}")
        return found + self._out_of_order(at) + linear.check(self._operations())

    def _out_of_order(self, at: dict[str, int]) -> list[str]:
        """Writes that had ended when one before them in the log began."""
        found, latest = list[str](), (-math.inf, "")
        for value in sorted(self._writes.keys() & at.keys(), key=at.__getitem__):
            _, began, ended = self._writes[value]
            latest = max(latest, (began, value))
            if ended < latest[0]:
                found.append(f"{value} is behind {latest[1]}, which began after it")
        return found

    def _operations(self) -> Iterator[linear.Operation]:
        yield from self.reads
        for value, (key, began, ended) in self._writes.items():
            if value not in self.refused:
                yield linear.Operation("write", key, value, began, ended)


class Member:
    """The process of one member. It is started at once.

    Attributes:
        began: set when it serves, has found damage in its log, or has ended.
        damage: what it says of it.
        ended: everything that it said was heard.
    """

    def __init__(
        self,
        options: dict[str, Any],
        history: History,
        command: Iterable[str],
        environment: dict[str, str],
        errors: Path,
    ) -> None:
        self.name = str(options["node_id"])
        self.began = threading.Event()
        self.serves = False
        self.damage = ""
        self._history = history
        self._numbers = 0
        self._answers: dict[int, Future[Any]] = {}
        with errors.open("ab") as stderr:
            self._process = subprocess.Popen(
                [*command, sys.executable, "-m", "tests.raft.member", json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=ROOT,
                env={**os.environ, **environment},
            )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.endswith("\n"):
                break  # it was killed amid a long one
            kind, *details = json.loads(line)
            if kind == "ready":
                self.serves = True
                self.began.set()
            elif kind == "damaged":
                self.damage = details[0]
            elif kind == "answer":
                self._answers.pop(details[0]).set_result(details[1])
            elif kind == "error":
                self._answers.pop(details[0]).set_exception(MemberError(": ".join(details[1:])))
            else:
                self._history.note(self.name, kind, details)
        self.began.set()
        for future in list(self._answers.values()):
            future.set_exception(MemberError(f"{self.name} has ended"))

    def ask(self, command: str, *arguments: Any, timeout_s: float = WAIT_S) -> Any:
        """Has a command done; returns what it returned.

        Raises:
            MemberError: it failed, or the process ended.
            TimeoutError: no answer came.
        """
        self._numbers += 1
        number, future = self._numbers, Future[Any]()
        self._answers[number] = future
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([number, command, *arguments]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise MemberError(f"{self.name} has ended") from None
        return future.result(timeout_s)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9; everything that it said is heard at return."""
        self._process.kill()
        self._let_go()

    def close(self) -> int:
        """Has the node closed; returns the exit status."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        return self._let_go()

    def _let_go(self) -> int:
        code = self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        return code


class Members:
    """A cluster: a context manager, at whose end nothing is left of processes and namespaces.

    Args:
        base: where the directories are made; not there yet.
        names: one letter is one node.
        tag: tells its namespaces from those of other clusters.
        small: nodes whose disks are filesystems of a few MiB of their own, in memory.
        stalling: nodes whose disks can be made to stall, see `stalled`.
        election_ms: of each node.

    Raises:
        UnavailableError: this machine does not allow it.
    """

    def __init__(
        self,
        base: Path,
        names: str,
        *,
        tag: str = "",
        small: str = "",
        stalling: str = "",
        election_ms: int = ELECTION_MS,
    ) -> None:
        self.names = names
        self.history = History()
        self.counts = Counter[str]()
        self.running: dict[str, Member] = {}
        self.disks: dict[str, Path] = {}
        self.spaces = Namespaces(names, tag=tag)
        self._small = small
        self._stalling = stalling
        self._options = OPTIONS | {"election_ms": election_ms}
        self.base = base
        self._ends = ExitStack()

    def __enter__(self) -> Members:
        self.base.mkdir()
        self.clocks = WallClocks(self.base / "clocks", self.names)
        with ExitStack() as ends:
            for name in self._small:
                tmpfs = ("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none")
                self._mount(ends, name, *tmpfs)
            for name in self._stalling:
                image = str(self.base / f"image-{name}")
                make_filesystem("ext4", image, DISK_BYTES)
                self._mount(ends, name, "-o", "loop", image)
            ends.enter_context(self.spaces)
            ends.callback(self._kill_all)
            self._ends = ends.pop_all()
        return self

    def _mount(self, ends: ExitStack, name: str, *options: str) -> None:
        made = mounted(str(self.base), *options, name=f"disk-{name}")
        self.disks[name] = Path(ends.enter_context(made))

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def _kill_all(self) -> None:
        for name in list(self.running):
            self.kill(name)

    def path(self, name: str) -> Path:
        """A node's log."""
        return self.disks.get(name, self.base) / f"log-{name}"

    def start(self, *names: str) -> None:
        """Starts nodes, at the same time, and does not wait."""
        urls = {name: f"{self.spaces.address(name)}:{PORT}" for name in self.names}
        for name in names:
            options = {
                "path": str(self.path(name)),
                "node_id": name,
                "listen": urls[name],
                "peers": {peer: f"ws://{url}" for peer, url in urls.items() if peer != name},
                "election": "raft",
                "insecure": True,
                "segment_bytes": SEGMENT_BYTES,
                "network": NETWORK,
                "options": self._options,
            }
            self.running[name] = Member(
                options,
                self.history,
                self.spaces.command(name),
                self.clocks.environment(name),
                self.base / f"errors-{name}",
            )

    @contextlib.contextmanager
    def stalled(self, name: str) -> Iterator[None]:
        """What a node writes waits until the end of the block."""
        run("fsfreeze", "--freeze", str(self.disks[name]))
        try:
            yield
        finally:
            run("fsfreeze", "--unfreeze", str(self.disks[name]))

    def begun(self, name: str) -> Member:
        """Waits until a node serves, or cannot."""
        member = self.running[name]
        assert member.began.wait(WAIT_S), f"{name} does not begin"
        return member

    def serve(self, *names: str) -> None:
        """Waits until nodes serve."""
        for name in names:
            member = self.begun(name)
            assert member.serves, f"{name}: {member.damage or self.errors()}"

    def kill(self, name: str) -> None:
        """kill -9."""
        self.running.pop(name).kill()

    def stop(self, name: str) -> int:
        """Closes a node; returns the exit status."""
        return self.running.pop(name).close()

    def errors(self) -> str:
        """What the processes complained of."""
        files = sorted(self.base.glob("errors-*"))
        return "\n".join(f"{file.name}: {file.read_text()}" for file in files if file.read_text())

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.running[name].ask("status")
        return found

    def append(self, value: str) -> tuple[int, str]:
        """Waits until a node acks an entry; returns its lsn, and the name of the node."""
        found: list[tuple[int, str]] = []

        def is_acked() -> bool:
            for name, member in self.running.items():
                with contextlib.suppress(MemberError):
                    if member.ask("status")["role"] == "leader":
                        found.append((member.ask("append", value, 2.0), name))
                        return True
            return False

        until(is_acked, "a node leads")
        return found[0]

    def goes_on(self, entries: int) -> None:
        """Waits until so many more writes were acked."""
        wanted = len(self.history.acked) + entries
        until(lambda: len(self.history.acked) >= wanted, f"{entries} more writes are acked")

    def assert_equal(self) -> list[WALEntry]:
        """Ends all clients, levels and closes the nodes, whose logs must then be equal in every
        field of every entry; returns the entries. Behind them there may be leaderships that began
        while others were closed."""
        for member in self.running.values():
            member.ask("quiet")
        lsn, _ = self.append("end")
        for name in self.names:
            self.running[name].ask("level", lsn, WAIT_S)
        for name in self.names:
            assert self.stop(name) == 0, (name, self.errors())
        logs = {name: contents(self.path(name)) for name in self.names}
        first = [entry for entry in logs[self.names[0]] if entry.lsn <= lsn]
        assert first[-1].lsn == lsn
        for name, log in logs.items():
            assert [entry for entry in log if entry.lsn <= lsn] == first, name
            assert {entry.kind for entry in log if entry.lsn > lsn} <= {TERM}, name
        return first


def elections(entries: Iterable[WALEntry]) -> int:
    """How often a leader began."""
    return sum(entry.kind == TERM for entry in entries)
