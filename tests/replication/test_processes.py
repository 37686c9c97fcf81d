"""Real processes, killed and paused: nothing acked is lost, and all logs end equal."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.settings import scaled, seed
from tests.helpers import ROOT, tell
from tests.replication.nodes import Cluster, free_ports, until
from walstore.replication import ReplicationWALManager

NAMES = "abc"
ROUNDS = scaled(6)


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
    """Three nodes, each a process, and the ledger of what they acked."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
        self.ledger = Ledger()
        self.running: dict[str, subprocess.Popen[str]] = {}
        self._readers: list[threading.Thread] = []
        self._starts = 0

    def start(self, name: str, prefix: str = "start") -> None:
        """Starts a node; returns when it has begun."""
        self._starts += 1
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.replication.node_process", name),
                *(str(self.base / name), json.dumps(self.ports), f"{prefix}{self._starts}"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.running[name] = process
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
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
        """Waits until so many more entries were acked, asking running nodes to lead meanwhile."""
        wanted = len(self.ledger.acked) + entries
        for name in promotes:
            self.promote(name)
            with contextlib.suppress(AssertionError):
                until(lambda: len(self.ledger.acked) >= wanted, "acked", timeout_s=5.0)
                return
        until(lambda: len(self.ledger.acked) >= wanted, "more entries are acked")

    def kill(self, name: str) -> None:
        """kill -9."""
        process = self.running.pop(name)
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()

    def close(self) -> None:
        """Kills all, and lets go of them."""
        for name in list(self.running):
            self.kill(name)
        for reader in self._readers:
            reader.join()


@pytest.mark.timeout(7000)
def test_nothing_acked_is_lost_when_processes_are_killed_and_paused(tmp_path: Path) -> None:
    """Leader and followers alike, while a majority of the disks lives."""
    number = seed()
    print(f"kills: replay with WALSTORE_CRASH_SEED={number}")
    rng = random.Random(number)
    nodes = Processes(tmp_path)
    done = {"kill": 0, "pause": 0}
    try:
        nodes.start("a", "make")
        for name in "bc":
            nodes.start(name)
        nodes.goes_on(20)
        for turn in range(ROUNDS):
            victim = rng.choice(NAMES)
            others = "".join(rng.sample([name for name in NAMES if name != victim], 2))
            what = "pause" if turn % 3 == 2 else "kill"
            if what == "kill":
                nodes.kill(victim)
                nodes.goes_on(10, others)
                nodes.start(victim)
            else:
                process = nodes.running[victim]
                process.send_signal(signal.SIGSTOP)
                try:
                    nodes.goes_on(10, others)
                finally:
                    process.send_signal(signal.SIGCONT)
            nodes.goes_on(10, others)
            done[what] += 1
    finally:
        nodes.close()
    acked = nodes.ledger.acked
    print(f"rounds={done} acked={len(acked)} bad={len(nodes.ledger.bad)}")
    assert not nodes.ledger.bad
    assert len(acked) >= 20 * ROUNDS
    assert min(done.values()) >= ROUNDS // 3
    entries = _final_logs(tmp_path)
    lost = [lsn for lsn, payload in acked.items() if entries.get(lsn) != payload.encode()]
    assert not lost, (len(lost), lost[:5])


def _end_of(node: ReplicationWALManager) -> tuple[int, int]:
    """What votes are given for: the term of the last entry, and its lsn."""
    last_lsn = node.last_lsn
    return node._log_writer().term_of(last_lsn), last_lsn


def _final_logs(base: Path) -> dict[int, bytes]:
    """Starts the nodes once more, in this process, until their logs are equal."""
    cluster = Cluster(base, NAMES, segment_bytes=64 << 10)
    try:
        for name in NAMES:
            cluster.start(name)
        cluster.joined(*NAMES)
        leader = max((cluster[name] for name in NAMES), key=_end_of)
        leader.promote()
        leader.append(b"the end", acks="all")
        return {entry.lsn: entry.payload.rstrip() for entry in cluster.assert_equal(*NAMES)}
    finally:
        cluster.close()


def test_a_second_process_reads_what_is_committed(cluster: Callable[..., Cluster]) -> None:
    """A reader beside the node sees no entry that is durable there and not committed."""
    abc = cluster("ab")
    leader = abc.lead()
    lsn = leader.append(b"committed")
    abc.stop("b")
    leader.submit(b"not committed")
    until(lambda: leader.durable_lsn == lsn + 1, "durable")
    source = (
        "import sys; from walstore import FileWALManager\n"
        "with FileWALManager(sys.argv[1], read_only=True) as log:\n"
        "    print([entry.payload for entry in log.replay() if entry.kind == 1])\n"
    )
    shown = [""]

    def sees() -> bool:
        command = [sys.executable, "-c", source, str(abc.path("a"))]
        shown[0] = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "not" not in shown[0]
        return "committed" in shown[0]

    until(sees, "it is shown what is committed")
