"""Real clusters under faults of every kind at the same time: processes in networks of their own."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.crash.methods import unavailable
from tests.crash.mounts import UnavailableError
from tests.crash.settings import scaled
from tests.helpers import seed_of
from tests.raft.faults import Faults
from tests.raft.members import ELECTION_MS, History, MemberError, Members, elections
from tests.replication.nodes import until
from walstore import WALEntry
from walstore.wal.record import DATA, TERM

pytestmark = pytest.mark.timeout(20_000)

LONG = scaled(1) > 1
SCHEDULES, SECONDS = (60, 120.0) if LONG else (5, 20.0)
CALM_MS = 1500  # an election that only a node causes which was not heard, and no busy machine
STALL_S = 60.0 if LONG else 2.5 * CALM_MS / 1000
AT_ONCE = 5
AT_LEAST = {
    "kill": 3,
    "stop beyond an election": 3,
    "cut one way": 3,
    "cut": 3,
    "full disk": 3,
    "flipped bit": 3,
    "clock jump": 3,
    "change": 1,
    "elections": 6,
    "acked": 300,
    "reads": 300,
}
"""Of the usual run; a long one has more of all of them."""
DAY_S = 86_400
NODES = ("abc", "abcde", "abc", "abc", "abc")
SMALL = "ac"


def test_nothing_acked_is_lost_and_nothing_stale_is_read(tmp_path: Path) -> None:
    """Clients of each cluster write and read all the time; then the faults end."""
    seed = seed_of("schedules of faults")
    ended = threading.Event()
    total = Counter[str]()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [
            pool.submit(run_schedule, tmp_path / str(number), f"{seed}-{number}", number, ended)
            for number in range(SCHEDULES)
        ]
        try:
            for run in runs:
                total += run.result()
        except UnavailableError as error:
            unavailable("netns", str(error))
        finally:
            ended.set()
    print(f"{SCHEDULES} schedules of {SECONDS:g} s: {dict(total)}")
    longer = SCHEDULES * SECONDS / 100
    few = {what: total[what] for what, count in AT_LEAST.items() if total[what] < count * longer}
    assert not few, few


def run_schedule(base: Path, seed: str, number: int, ended: threading.Event) -> Counter[str]:
    """One cluster, from its beginning to the end of its logs; returns what was done and seen."""
    if ended.is_set():
        return Counter()  # another one has failed
    names = NODES[number % len(NODES)]
    with Members(base, names, tag=str(number), small=SMALL) as cluster:
        cluster.start(*names)
        cluster.serve(*names)
        cluster.goes_on(10)
        Faults(cluster, random.Random(seed)).run(SECONDS, ended)
        began_s = time.monotonic()
        cluster.goes_on(1)
        took = (time.monotonic() - began_s) * 1000 / ELECTION_MS
        cluster.serve(*names)
        until(lambda: all_vote(cluster), "all nodes vote again")
        entries = cluster.assert_equal()
        problems = cluster.history.problems(entries)
        assert not problems, (seed, len(problems), problems[:5])
        assert "Traceback" not in cluster.errors(), cluster.errors()
        cluster.counts["elections"] = elections(entries)
        cluster.counts["acked"] = len(cluster.history.acked)
        cluster.counts["reads"] = len(cluster.history.reads)
        cluster.counts.update(f"refused: {why}" for why in cluster.history.refused.values())
        print(f"{seed}: {names}: went on after {took:.1f} election timeouts, {cluster.counts}")
        return cluster.counts


def all_vote(cluster: Members) -> bool:
    """Whether they do; else asks for it."""
    with contextlib.suppress(MemberError):
        _, leader = cluster.append("all vote")
        status = cluster.status(leader)
        missing = set(cluster.names) - set(status["voters"])
        for name in missing:
            cluster.running[leader].ask("change", "add_voter", name, 5.0)
        return not missing and not status["changing"]
    return False


def test_a_jump_of_the_clock_and_a_stalled_disk_elect_nobody(tmp_path: Path) -> None:
    """Each wall clock jumps by a day, forth and back; then a follower's disk takes nothing."""
    try:
        with Members(tmp_path / "abc", "abc", stalling="abc", election_ms=CALM_MS) as cluster:
            cluster.start(*"abc")
            cluster.serve(*"abc")
            cluster.goes_on(10)
            until(lambda: all_vote(cluster), "the cluster is made")
            leader = cluster.history.last_acked_by
            term = cluster.status(leader)["term"]
            for seconds in (DAY_S, -DAY_S):
                for name in "abc":
                    cluster.clocks.move(name, seconds)
                    cluster.goes_on(10)
            follower = "abc".replace(leader, "")[0]
            with cluster.stalled(follower):
                ends_s = time.monotonic() + STALL_S
                until(lambda: time.monotonic() > ends_s, "it has stalled", timeout_s=2 * STALL_S)
                cluster.goes_on(10)
            assert {name: cluster.status(name)["term"] for name in "abc"} == dict.fromkeys(
                "abc", term
            )
            entries = cluster.assert_equal()
    except UnavailableError as error:
        unavailable("netns", str(error))
    assert cluster.history.problems(entries) == []
    (begun,) = (entry.lsn for entry in entries if entry.term == term and entry.kind == TERM)
    times = [entry.timestamp_ns for entry in entries if entry.lsn > begun]
    assert max(times) - min(times) > DAY_S * 10**9


def entry(lsn: int, text: str) -> WALEntry:
    return WALEntry(lsn, 7, 0, DATA, text.encode())


def test_a_history_with_a_problem_is_told_from_one_without() -> None:
    history = History()
    for line in (
        ("write", ["x", "a", 1.0]),
        ("acked", ["a", 1, 2.0]),
        ("write", ["y", "b", 3.0]),
        ("acked", ["b", 2, 4.0]),
        ("write", ["x", "c", 5.0]),
        ("refused", ["c", "NotLeaderError"]),
        ("write", ["x", "d", 6.0]),
        ("read", ["x", "a", 7.0, 8.0]),
    ):
        history.note("n", *line)
    a, b = entry(1, "x=a="), entry(2, "y=b=..")
    assert history.problems([a, b]) == []
    assert history.problems([a, b, entry(3, "x=d="), entry(4, "end=end=")]) == []
    assert history.problems([a]) == ["b was acked at 2, and is at None"]
    assert "a is at 1 and at 3" in history.problems([a, b, entry(3, "x=a=")])
    assert "nobody wrote z, at 3" in history.problems([a, b, entry(3, "x=z=")])
    assert "c was refused (NotLeaderError), at 3" in history.problems([a, b, entry(3, "x=c=")])
    swapped = history.problems([entry(1, "y=b="), entry(2, "x=a=")])
    assert "a is behind b, which began after it" in swapped
    history.note("n", "write", ["x", "e", 9.0])
    history.note("n", "acked", ["e", 3, 10.0])
    history.note("n", "read", ["x", "a", 11.0, 12.0])
    (stale,) = history.problems([a, b, entry(3, "x=e=")])
    assert stale.startswith("key x:")
