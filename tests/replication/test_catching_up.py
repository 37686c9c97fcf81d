"""Followers that were away, batches larger than a message, and entries that are gone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import contents, open_descriptors
from tests.replication.nodes import WAIT_S, Cluster, data, until
from walstore import LSNOutOfRangeError
from walstore.replication import (
    CloseCode,
    NodeDisconnected,
    ReplicationOptions,
    ReplicationWALManager,
    TermOf,
)
from walstore.replication.lag import Lag

Make = Callable[..., Cluster]
SMALL = 16 << 10
"""Bytes of a segment: a little log has many."""


def test_batches_larger_than_a_message_travel_in_parts(cluster: Make) -> None:
    """Whole, also at 70 MiB, while the leader's signs of life go on."""
    abc = cluster("ab", segment_bytes=64 << 20)
    leader = abc.lead()
    gone: list[object] = []
    leader.subscribe(gone.append)
    for mib in (3, 70):
        batch = [bytes([number]) * (1 << 20) for number in range(mib)]
        lsns = leader.append_many(batch, timeout_s=WAIT_S)
        leader.append(b"behind %d" % mib)
        follower = abc["b"]
        follower.wait_committed(lsns[-1])
        shown = follower.replay(lsns[0], lsns[-1])
        assert sum(entry.payload == sent for entry, sent in zip(shown, batch, strict=True)) == mib
    codes = [event.code for event in gone if isinstance(event, NodeDisconnected)]
    assert CloseCode.BAD_MESSAGE not in codes
    abc.assert_equal()


def test_a_batch_is_shown_whole_or_not_at_all(cluster: Make) -> None:
    """To readers on leader and follower; never an entry beyond what is committed."""
    abc = cluster("ab")
    leader, follower = abc.lead(), abc["b"]
    stop = threading.Event()
    bad: list[str] = []
    seen = {"a": 0, "b": 0}

    def watch(name: str) -> None:
        node = abc[name]
        while not stop.is_set():
            committed_before = node.committed_lsn
            entries = data(node.replay())
            if len(entries) % 7:
                bad.append(f"{name} shows {len(entries)} entries of batches of 7")
            if len(entries) < committed_before - 1:
                bad.append(f"{name} hides what is committed")
            seen[name] += 1

    threads = [threading.Thread(target=watch, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    try:
        for number in range(60):
            leader.append_many([b"%d" % number * 100] * 7)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not bad
    assert min(seen.values()) >= 10
    follower.wait_committed(leader.last_lsn)
    assert len(data(follower.replay())) == 420


def test_a_follower_catches_up_through_many_segments_while_appends_go_on(cluster: Make) -> None:
    abc = cluster(segment_bytes=SMALL)
    leader = abc.lead()
    abc.stop("c")
    for number in range(40):
        leader.append_many([os.urandom(500)] * 20 + [b"%d" % number])
    assert leader.stats().segments >= 20
    stop = threading.Event()

    def go_on() -> None:
        while not stop.is_set():
            leader.append(b"meanwhile")

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        behind = leader.last_lsn
        abc.start("c").wait_committed(behind, timeout_s=WAIT_S)
        abc["c"].wait_committed(leader.last_lsn, timeout_s=WAIT_S)
    finally:
        stop.set()
        thread.join()
    entries = abc.assert_equal()
    assert b"meanwhile" in data(entries)


def test_catch_up_is_no_faster_than_it_may_be(cluster: Make) -> None:
    """Also where batches fill no message to its end."""
    abc = cluster(options=ReplicationOptions(catch_up_bytes_per_s=1 << 20))
    leader = abc.lead()
    abc.stop("c")
    for _ in range(10):
        leader.append_many([bytes(1000)] * 180)
    end, began_s = leader.last_lsn, time.monotonic()
    abc.start("c").wait_committed(end, timeout_s=WAIT_S)
    assert time.monotonic() - began_s > 1.2, "1.8 MB at 1 MiB a second"
    abc.assert_equal()


class Application:
    """An application with snapshots: the payloads that it was given, in order."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.installed: list[tuple[int, bytes]] = []
        self.mistake: Exception | None = None
        self._newest: tuple[int, str] | None = None

    def save(self, lsn: int, state: bytes) -> None:
        """Makes a snapshot."""
        path = self.base / f"snapshot-{lsn}"
        path.write_bytes(state)
        self._newest = (lsn, str(path))

    def newest(self, term_of: TermOf) -> tuple[int, str] | None:
        if self.mistake is not None:
            raise self.mistake
        return self._newest

    def install(self, lsn: int, path: str) -> None:
        if self.mistake is not None:
            raise self.mistake
        self.installed.append((lsn, Path(path).read_bytes()))


def test_what_is_gone_comes_as_a_snapshot(cluster: Make, tmp_path: Path) -> None:
    """Of several windows, to a follower that had a part of the log and to a new one."""
    here, there = Application(tmp_path), Application(tmp_path)
    fast = ReplicationOptions(window_bytes=1 << 20, probe_ms=100, heartbeat_ms=50, retention_s=0.05)
    abc = cluster(segment_bytes=SMALL, options=fast)
    leader = abc.start("a", role="leader", snapshots=here)
    abc.start("b", snapshots=there)
    abc.joined("a", "b")
    leader.append(b"old", acks={"b"})
    abc.start("c")
    abc.joined("a", "b", "c")
    abc.stop("b")
    for _ in range(20):
        lsns = leader.append_many([os.urandom(1000)] * 20)
    state = os.urandom(3 << 20)
    here.save(lsns[-1] - 5, state)

    def drop() -> bool:
        leader.truncate_before(lsns[-1] - 5)
        return leader.first_lsn > 2

    until(drop, "the front is gone: b is away for longer than it is kept")
    follower = abc.start("b", snapshots=there)
    leader.append(b"new", acks={"b"}, timeout_s=WAIT_S)
    assert there.installed == [(lsns[-1] - 5, state)]
    assert follower.first_lsn == lsns[-1] - 4
    follower.wait_committed(leader.last_lsn)
    with pytest.raises(LSNOutOfRangeError):
        follower.read(lsns[-1] - 5)
    assert not (abc.path("b") / "incoming.snapshot").exists()
    assert data(abc.assert_equal("a", "b"))[-1] == b"new"


@pytest.mark.parametrize("mistake", [OSError("of the disk"), KeyError("of its own")])
def test_a_snapshot_that_is_not_installed_takes_no_log_s_place(
    cluster: Make, tmp_path: Path, mistake: Exception
) -> None:
    """Otherwise what it stands for would be nowhere on the follower, and never sent again."""
    here, there = Application(tmp_path), Application(tmp_path)
    fast = ReplicationOptions(probe_ms=100, heartbeat_ms=50, retention_s=0.05)
    abc = cluster("abc", segment_bytes=SMALL, options=fast)
    leader = abc.start("a", role="leader", snapshots=here)
    abc.start("b")
    abc.start("c", snapshots=there)
    abc.joined("a", "b", "c")
    leader.append(b"old", acks="all")
    held_lsn = abc.level()
    abc.stop("c")
    lsn = leader.append_many([os.urandom(1000)] * 40)[-1]
    here.save(lsn, b"all of it")

    def drop() -> bool:
        leader.truncate_before(lsn + 1)
        return leader.first_lsn > held_lsn + 1

    until(drop, "the front is gone")
    there.mistake = mistake
    follower = abc.start("c", snapshots=there)
    until(lambda: follower.error or follower.first_lsn > 1, "it has tried")
    assert follower.error is mistake
    assert str(mistake) in follower.status().error
    assert (follower.first_lsn, follower.last_lsn) == (1, held_lsn)
    leader.append(b"goes on")
    abc.stop("c")
    there.mistake = None
    follower = abc.start("c", snapshots=there)
    follower.wait_committed(leader.last_lsn, timeout_s=WAIT_S)
    assert there.installed == [(lsn, b"all of it")]
    assert follower.first_lsn == lsn + 1
    abc.assert_equal()


def test_a_mistake_of_the_application_that_snapshots_is_said_and_it_is_asked_again(
    cluster: Make, tmp_path: Path
) -> None:
    here, there = Application(tmp_path), Application(tmp_path)
    fast = ReplicationOptions(probe_ms=20, heartbeat_ms=50, retention_s=0.05)
    abc = cluster("abc", segment_bytes=SMALL, options=fast)
    leader = abc.start("a", role="leader", snapshots=here)
    abc.start("b")
    abc.joined("a", "b")
    lsn = leader.append_many([os.urandom(1000)] * 40)[-1]
    here.save(lsn, b"all of it")

    def drop() -> bool:
        leader.truncate_before(lsn + 1)
        return leader.first_lsn == lsn + 1

    until(drop, "the front is gone")
    here.mistake = KeyError("of its own")
    follower = abc.start("c", snapshots=there)
    until(lambda: "of its own" in leader.status().error, "it is said")
    assert leader.error is None
    here.mistake = None
    follower.wait_committed(leader.append(b"goes on"), timeout_s=WAIT_S)
    assert there.installed == [(lsn, b"all of it")]
    assert leader.status().error == ""
    abc.assert_equal()


def test_without_snapshots_a_log_begins_where_the_leaders_does(cluster: Make) -> None:
    abc = cluster("abc", segment_bytes=SMALL)
    leader = abc.lead()
    abc.stop("c")
    leader.append_many([b"x" * 1000] * 30)
    abc.close()
    leader = abc.start(
        "a", role="leader", options=ReplicationOptions(retention_s=0.01, leader_timeout_ms=100)
    )
    abc.start("b")
    abc.joined("a", "b")
    lsns = leader.append_many([b"y" * 1000] * 30)

    def drop() -> bool:
        leader.truncate_before(lsns[0])
        return leader.first_lsn == lsns[0]

    until(drop, "dropped")
    follower = abc.start("c")
    until(lambda: follower.first_lsn == lsns[0], "it begins anew")
    follower.wait_committed(lsns[-1])
    assert data(follower.replay()) == [b"y" * 1000] * 30
    abc.assert_equal()


def test_a_follower_that_is_there_pins_what_it_needs_and_no_more(cluster: Make) -> None:
    """Truncation waits for a follower that is behind by less than the cap, and not for one that
    is behind by more."""
    cap = 200_000
    slow = ReplicationOptions(probe_ms=100, heartbeat_ms=50, retention_bytes=cap)
    abc = cluster(segment_bytes=SMALL, options=slow)
    leader = abc.lead()
    leader.append(b"everyone has it", acks="all")
    leader._streaming._samples._resolution_ms = 1e9  # what was written just now counts, too
    abc.stop("c")
    lsn = leader.append_many([b"x" * 1000] * 50)[-1]
    leader.truncate_before(lsn)
    assert leader.first_lsn <= 3, "c needs it"
    lsn = leader.append_many([b"x" * 1000] * 300)[-1]

    def drop() -> bool:
        leader.truncate_before(lsn)
        return leader.first_lsn > 3

    until(drop, "c is too far behind")
    assert leader.first_lsn > 50
    abc.start("c")
    abc.assert_equal()


@pytest.mark.parametrize("heard", [False, True], ids=["away", "heard"])
@pytest.mark.parametrize("led_before", [False, True], ids=["new", "again"])
def test_a_new_leader_keeps_what_a_follower_that_is_away_lacks(
    cluster: Make, heard: bool, led_before: bool
) -> None:
    """However much it wrote before it led: that is nobody's lag."""
    cap = ReplicationOptions(probe_ms=100, heartbeat_ms=50, retention_bytes=200_000)
    abc = cluster(segment_bytes=SMALL, options=cap)
    leader = abc.lead()
    if led_before:
        abc["b"].promote()
        abc["b"].append(b"it led", acks="all")
        leader.promote()
    for _ in range(10):
        end = leader.append_many([b"x" * 1000] * 50, acks="all")[-1]
    for name in "abc":
        abc[name].wait_committed(end)
        abc[name].truncate_before(end - 20)
    first_lsn = end - 20
    until(lambda: leader.first_lsn == first_lsn, "dropped")
    if not heard:
        abc.stop("c")
    abc["b"].promote()
    leader = abc["b"]
    if heard:
        until(lambda: _lacks(leader, "c") == 0, "it has the first entry of the leadership")
        end = leader.last_lsn
        abc.stop("c")
    lsn = leader.append_many([b"y" * 1000] * 50)[-1]
    leader.truncate_before(lsn)
    assert leader.first_lsn <= end + 1
    follower = abc.start("c")
    follower.wait_committed(lsn)
    assert follower.first_lsn == first_lsn
    abc.assert_equal()


def test_what_others_wrote_between_two_leaderships_is_nobody_s_lag(cluster: Make) -> None:
    """It is not known how much that was."""
    abc = cluster()
    first = abc.lead()
    second = abc["b"]
    lsn = first.append(b"it led", acks="all")
    abc["c"].wait_committed(lsn)
    abc["c"].mark_applied(lsn)
    second.promote()
    second.append_many([b"x" * 1000] * 50, acks="all")
    first.promote()
    lsn = first.append(b"it leads again", acks="all")
    until(lambda: _lag(first, "c", "applied").bytes > 0, "heard, and behind")
    lag = _lag(first, "c", "applied")
    assert lag.entries > 50
    assert lag.bytes < 10_000
    abc["c"].wait_committed(lsn)
    abc["c"].mark_applied(lsn)
    until(lambda: _lag(first, "c", "applied").entries == 0, "it has applied all")


def _lag(leader: ReplicationWALManager, node: str, stage: str) -> Lag:
    peer = next(peer for peer in leader.status().peers if peer.node_id == node)
    return peer.lag[stage] if peer.lag else Lag(0, 0, 0.0)


def _lacks(leader: ReplicationWALManager, node: str) -> int | None:
    """So many entries a node's disk lacks; None: it was not heard yet."""
    peer = next(peer for peer in leader.status().peers if peer.node_id == node)
    return peer.lag["durable"].entries if peer.lag else None


def test_the_caps_hold_for_what_was_written_before_a_restart(cluster: Make) -> None:
    """A node that is gone for good pins no more than `retention_bytes` of an old log."""
    cap = ReplicationOptions(
        probe_ms=100, heartbeat_ms=50, leader_timeout_ms=100, retention_bytes=100_000
    )
    abc = cluster(segment_bytes=SMALL, options=cap)
    leader = abc.start("a", role="leader")
    abc.start("b")
    lsn = leader.append_many([b"x" * 1000] * 300)[-1]
    abc.close()
    leader = abc.start("a", role="leader")
    abc.start("b")
    leader.append(b"again")
    leader.truncate_before(lsn)
    until(lambda: leader.first_lsn > 1, "dropped in the background at the latest")
    abc.assert_equal("a", "b")


def test_nothing_is_left_of_a_closed_node(cluster: Make) -> None:
    abc = cluster()
    abc.lead().append(b"one", acks="all")
    abc.close()
    before = open_descriptors()
    for _ in range(2):
        again = abc.start("a", role="leader")
        for name in "bc":
            abc.start(name)
        again.append(b"again", acks="all")
        abc.level()
        abc.close()
    assert open_descriptors() == before
    assert len(data(contents(abc.path("c")))) == 3
