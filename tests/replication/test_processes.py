"""Real processes, killed and paused: nothing acked is lost, and all logs end equal."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.settings import scaled, seed
from tests.replication.nodes import Cluster, until
from tests.replication.writers import Processes
from walstore.replication import ReplicationWALManager

NAMES = "abc"
ROUNDS = scaled(6)


@pytest.mark.timeout(7000)
def test_nothing_acked_is_lost_when_processes_are_killed_and_paused(tmp_path: Path) -> None:
    """Leader and followers alike, while a majority of the disks lives."""
    number = seed()
    print(f"kills: replay with WALSTORE_CRASH_SEED={number}")
    rng = random.Random(number)
    nodes = Processes(tmp_path)
    done = {"kill": 0, "pause": 0}
    try:
        nodes.start("a", prefix="make")
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
                with nodes.paused(victim):
                    nodes.goes_on(10, others)
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
