"""Nodes that elect as processes: killed, paused, and started again, while all of them write."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.settings import scaled
from tests.helpers import seeded
from tests.raft.elected import Elected
from tests.replication.nodes import until
from tests.replication.writers import Processes
from walstore import FileWALManager

pytestmark = pytest.mark.timeout(7000)

ROUNDS = scaled(2)
FOUNDINGS = scaled(2)
SMALL = 64 << 10


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Processes]:
    """Three that elect."""
    with contextlib.closing(Processes(tmp_path)) as made:
        made.start("a", "b", "c", prefix="raft")
        made.goes_on(20)
        yield made


def leader_of(nodes: Processes) -> str:
    """Who acked the newest entry."""
    acked = nodes.ledger.acked
    return acked[max(acked)].split("-")[1]


def assert_kept(nodes: Processes) -> None:
    """Starts them once more, in this process, until their logs are equal: what was acked is there,
    at its lsn, and nothing is there twice."""
    nodes.close()
    assert not nodes.ledger.bad
    cluster = Elected(nodes.base, segment_bytes=SMALL)
    cluster.ports = nodes.ports
    try:
        cluster.begin().append(b"the end")
        entries = cluster.assert_equal()
    finally:
        cluster.close()
    found = {entry.lsn: entry.payload.rstrip() for entry in entries}
    acked = nodes.ledger.acked
    lost = [lsn for lsn, payload in acked.items() if found.get(lsn) != payload.encode()]
    assert not lost, (len(lost), lost[:5])
    users = [entry.payload for entry in entries if entry.kind == 1]
    assert len(users) == len(set(users))
    print(f"acked={len(acked)} entries={len(entries)} terms={len({e.term for e in entries})}")


def test_a_cluster_is_made_though_one_is_killed_meanwhile(tmp_path: Path) -> None:
    """At any moment: before it has met the others, amid making the cluster, amid joining it."""
    rng, ends = seeded("founding"), Counter[str]()
    for turn in range(FOUNDINGS):
        with contextlib.closing(Processes(tmp_path / str(turn))) as made:
            made.base.mkdir()
            made.spawn("a", "b", "c", prefix="raft")
            victim, moment_s = rng.choice("aabc"), rng.uniform(0.4, 1.4)
            began_s = time.monotonic()
            until(lambda at=began_s + moment_s: time.monotonic() > at, "the moment")  # type: ignore[misc]
            made.kill(victim)
            ends["with a log" if (made.base / victim).exists() else "without"] += 1
            made.spawn(victim, prefix="raft")
            made.hear("a", "b", "c")
            made.goes_on(10)
            assert_kept(made)
    print(dict(ends))
    assert sum(ends.values()) == FOUNDINGS


def test_another_leads_when_the_leader_is_killed(nodes: Processes) -> None:
    for _ in range(ROUNDS):
        victim = leader_of(nodes)
        nodes.kill(victim)
        nodes.goes_on(20)
        assert leader_of(nodes) != victim
        nodes.start(victim, prefix="raft")
        nodes.goes_on(20)
    assert_kept(nodes)


def test_a_leader_that_was_stopped_for_longer_than_an_election_acks_nothing(
    nodes: Processes,
) -> None:
    for _ in range(ROUNDS):
        victim = leader_of(nodes)
        with nodes.paused(victim):
            nodes.goes_on(20)
            second = leader_of(nodes)
            assert second != victim
        nodes.goes_on(20)
    assert_kept(nodes)


def test_a_follower_is_killed_and_all_are(nodes: Processes) -> None:
    leader = leader_of(nodes)
    follower = next(name for name in "abc" if name != leader)
    nodes.kill(follower)
    nodes.goes_on(20)
    nodes.start(follower, prefix="raft")
    nodes.goes_on(20)
    for name in "abc":
        nodes.kill(name)
    with FileWALManager(nodes.base / follower, read_only=True) as log:
        assert log.last_lsn
    nodes.start("a", "b", "c", prefix="raft")
    nodes.goes_on(20)
    until(lambda: leader_of(nodes) in "abc", "one leads")
    assert_kept(nodes)
