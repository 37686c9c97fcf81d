"""A leader and its followers over real connections: what they hold, confirm, refuse and survive."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import open_descriptors, payloads
from tests.replication.nodes import WAIT_S, Nodes, until
from walstore import ClosedLogError, FileWALManager, NotALogError, OptionError
from walstore.replication import (
    CloseCode,
    NotLeaderError,
    RefusedError,
    ReplicationTimeoutError,
    ReplicationWALManager,
    UnreachableError,
)


def test_two_followers_hold_the_leader_s_log_in_every_field(nodes: Nodes) -> None:
    leader = nodes.leader()
    before = [leader.append(b"before %d" % i) for i in range(10)]
    followers = [nodes.follower(name, leader) for name in ("F", "G")]
    leader.wait_for_followers(before[-1], count=2, timeout_s=WAIT_S)
    for i in range(200):
        leader.append(b"live %d" % i, kind=1 + i % 3)
    leader.append(b"")
    leader.append_many([b"batch %d" % i for i in range(50)], kind=9)
    last = leader.submit(b"last", kind=0xFFFF).wait()
    leader.wait_for_followers(last, count=2, timeout_s=WAIT_S)
    assert leader.followers() == {"F": last, "G": last}
    assert set(leader.connected) == {"F", "G"}
    for follower in followers:
        assert follower.durable_lsn == last
        assert follower.connected == ("L",)
        assert follower.log_id == leader.log_id
    entries = nodes.assert_equal("L", "F", "G")
    assert len(entries) == last == 262
    assert {entry.term for entry in entries} == {2}


def test_a_stopped_follower_catches_up_from_where_it_was(nodes: Nodes) -> None:
    leader = nodes.leader()
    follower = nodes.follower("F", leader)
    lsn = leader.append_many([b"x" * 100] * 100)[-1]
    leader.wait_for_followers(lsn, timeout_s=WAIT_S)
    follower.close()
    lsn = leader.append_many([b"y" * 100] * 100)[-1]
    follower = nodes.follower("F", leader)
    assert follower.first_lsn == 1
    assert follower.durable_lsn >= 100
    leader.wait_for_followers(lsn, timeout_s=WAIT_S)
    assert len(nodes.assert_equal("L", "F")) == 200


def test_a_follower_far_behind_gets_large_and_small_entries(nodes: Nodes) -> None:
    leader = nodes.leader(segment_bytes=1 << 20, sync="os")
    for i in range(300):
        leader.append(os.urandom(10_000 if i % 50 else 700_000))
    lsn = leader.append_many([b"tiny"] * 20_000)[-1]
    nodes.follower("F", leader, segment_bytes=200_000)
    leader.wait_for_followers(lsn, timeout_s=WAIT_S)
    nodes.assert_equal("L", "F")


def test_a_follower_comes_back_when_its_leader_does(nodes: Nodes) -> None:
    leader = nodes.leader()
    follower = nodes.follower("F", leader)
    leader.append(b"one")
    leader.wait_for_followers(1, timeout_s=WAIT_S)
    port = int(leader.url.rpartition(":")[2])
    leader.close()
    until(lambda: not follower.connected, "the follower noticed")
    leader = nodes.leader(port=port)
    leader.append(b"two")
    leader.wait_for_followers(2, timeout_s=WAIT_S)
    entries = nodes.assert_equal("L", "F")
    assert [(entry.term, entry.payload) for entry in entries] == [(2, b"one"), (3, b"two")]


@pytest.mark.parametrize("sync", ["always", "interval", "os"])
def test_an_ack_says_durable_whatever_the_follower_s_policy(nodes: Nodes, sync: Any) -> None:
    leader = nodes.leader(sync=sync)
    follower = nodes.follower("F", leader, sync=sync)
    lsn = leader.append_many([b"entry"] * 10)[-1]
    leader.wait_for_followers(lsn, timeout_s=WAIT_S)
    assert follower.durable_lsn == leader.durable_lsn == lsn
    nodes.assert_equal("L", "F")


def test_a_follower_can_be_followed_by_its_readers(nodes: Nodes) -> None:
    leader = nodes.leader()
    follower = nodes.follower("F", leader)
    seen: list[bytes] = []

    def read() -> None:
        seen.extend(entry.payload for entry in follower.tail())

    async def read_async() -> list[bytes]:
        tail = follower.tail()
        return [(await anext(tail)).payload for _ in range(30)]

    thread = threading.Thread(target=read)
    thread.start()
    for i in range(30):
        leader.append(b"%d" % i)
    wanted = [b"%d" % i for i in range(30)]
    assert asyncio.run(asyncio.wait_for(read_async(), WAIT_S)) == wanted
    until(lambda: len(seen) == 30, "the thread has read all")
    assert payloads(follower.replay(11, 12)) == [b"10", b"11"]
    follower.close()
    thread.join()
    assert seen == wanted


def test_only_the_leader_writes(nodes: Nodes) -> None:
    leader = nodes.leader()
    follower = nodes.follower("F", leader)
    writes = (
        lambda: follower.append(b"x"),
        lambda: follower.append_many([b"x"]),
        lambda: follower.submit(b"x"),
        follower.begin_term,
        lambda: follower.truncate_after(0),
        lambda: follower.url,
    )
    for write in writes:
        with pytest.raises(NotLeaderError, match="F follows L") as caught:
            write()
        assert caught.value.leader_id == "L"
        assert caught.value.hint == "write on L"
    assert (leader.role, follower.role) == ("leader", "follower")


def test_each_leadership_has_a_term_of_its_own(nodes: Nodes) -> None:
    for term in (2, 3, 4):
        assert nodes.leader().term == term
        nodes.close()


def test_a_timeout_says_what_is_known(nodes: Nodes) -> None:
    leader = nodes.leader()
    nodes.follower("F", leader)
    lsn = leader.append(b"x")
    leader.wait_for_followers(lsn, timeout_s=WAIT_S)
    with pytest.raises(ReplicationTimeoutError, match="known durable: F 1") as caught:
        leader.wait_for_followers(lsn, count=2, timeout_s=0.05)
    error = caught.value
    assert (error.lsn, error.wanted, error.durable_lsns) == (1, 2, {"F": 1})
    assert isinstance(error, TimeoutError)


def test_closing_ends_a_wait(nodes: Nodes) -> None:
    leader = nodes.leader()
    errors: list[Exception] = []

    def wait() -> None:
        try:
            leader.wait_for_followers(1)
        except ClosedLogError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    leader.close()
    thread.join(WAIT_S)
    assert len(errors) == 1


def test_a_follower_that_is_started_as_leader_leads(nodes: Nodes) -> None:
    leader = nodes.leader()
    for name in ("F", "G"):
        nodes.follower(name, leader)
    leader.wait_for_followers(leader.append(b"old"), count=2, timeout_s=WAIT_S)
    nodes.close()
    leader = nodes.leader("F")
    nodes.follower("G", leader)
    nodes.follower("L", leader)
    leader.wait_for_followers(leader.append(b"new"), count=2, timeout_s=WAIT_S)
    entries = nodes.assert_equal("F", "G", "L")
    assert [(entry.term, entry.payload) for entry in entries] == [(2, b"old"), (3, b"new")]


def test_a_leader_that_was_replaced_is_left(nodes: Nodes, caplog: pytest.LogCaptureFixture) -> None:
    old = nodes.leader("L")
    with nodes.follower("F", old), nodes.follower("G", old):
        old.wait_for_followers(old.append(b"old"), count=2, timeout_s=WAIT_S)
    new = nodes.leader("F")
    with nodes.follower("G", new):
        new.wait_for_followers(new.append(b"new"), timeout_s=WAIT_S)
    old.append(b"lost")
    follower = nodes.follower("G", old)
    until(lambda: "G: refused: G has seen term 3" in caplog.text, "the old leader notices")
    assert follower.replication_error is None  # a newer leader may come to this address
    nodes.close()
    assert payloads(nodes.entries("G")) == [b"old", b"new"]


# ---- followers that cannot be ----


def refused(log: ReplicationWALManager) -> RefusedError:
    until(lambda: log.replication_error is not None, "the follower is refused")
    assert isinstance(log.replication_error, RefusedError)
    return log.replication_error


def test_a_follower_of_another_log_is_refused(nodes: Nodes) -> None:
    leader, other = nodes.leader("L"), nodes.leader("M")
    other.append(b"theirs")
    with nodes.follower("F", other):
        other.wait_for_followers(1, timeout_s=WAIT_S)
    leader.append(b"ours")
    good = nodes.follower("G", leader)
    error = refused(nodes.follower("F", leader))
    assert error.code == CloseCode.OTHER_LOG
    assert "F holds log" in str(error)
    assert "new directory" in error.hint
    leader.wait_for_followers(leader.append(b"more"), timeout_s=WAIT_S)
    assert good.last_lsn == 2
    nodes.close()
    assert payloads(nodes.entries("F")) == [b"theirs"]


def test_a_log_of_its_own_cannot_become_a_follower_s(nodes: Nodes) -> None:
    leader = nodes.leader()
    FileWALManager(nodes.base / "F").close()
    assert refused(nodes.follower("F", leader)).code == CloseCode.OTHER_LOG


def test_a_follower_ahead_of_its_leader_is_refused(nodes: Nodes) -> None:
    leader = nodes.leader()
    with nodes.follower("F", leader):
        leader.wait_for_followers(leader.append_many([b"x"] * 5)[-1], timeout_s=WAIT_S)
    leader.truncate_after(3)
    error = refused(nodes.follower("F", leader))
    assert error.code == CloseCode.DIVERGED
    assert str(error) == "F ends at lsn 5, the leader at 3"


def test_a_follower_with_other_entries_is_refused(nodes: Nodes) -> None:
    leader = nodes.leader()
    with nodes.follower("F", leader):
        leader.wait_for_followers(leader.append_many([b"x"] * 5)[-1], timeout_s=WAIT_S)
    leader.truncate_after(3)
    leader.append_many([b"y"] * 5)
    error = refused(nodes.follower("F", leader))
    assert error.code == CloseCode.DIVERGED
    assert str(error) == "lsn 5 is of term 2 on F, of term 3 on the leader"
    nodes.close()
    assert payloads(nodes.entries("F")) == [b"x"] * 5


def test_a_follower_behind_what_the_leader_kept_is_refused(nodes: Nodes) -> None:
    leader = nodes.leader()
    with nodes.follower("F", leader):
        leader.wait_for_followers(leader.append(b"x"), timeout_s=WAIT_S)
    leader.append_many([b"y"] * 5)
    leader.truncate_before(5)
    assert refused(nodes.follower("F", leader)).code == CloseCode.BEHIND
    assert refused(nodes.follower("G", leader)).code == CloseCode.BEHIND


def test_a_follower_at_the_very_start_of_what_was_kept_goes_on(nodes: Nodes) -> None:
    leader = nodes.leader()
    with nodes.follower("F", leader):
        leader.wait_for_followers(leader.append_many([b"x"] * 4)[-1], timeout_s=WAIT_S)
    leader.append_many([b"y"] * 4)
    leader.truncate_before(5)
    with nodes.follower("F", leader) as follower:
        leader.wait_for_followers(8, timeout_s=WAIT_S)
        follower.truncate_before(6)
    nodes.close()
    assert payloads(nodes.entries("F")) == [b"y"] * 3


# ---- bad input ----


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"listen": "127.0.0.1:0", "peers": {"L": "ws://127.0.0.1:1"}},
        {"listen": "0.0.0.0:0"},
        {"listen": ":0"},
        {"listen": "127.0.0.1"},
        {"listen": "127.0.0.1:65536"},
        {"peers": {}},
        {"peers": {"L": "ws://127.0.0.1:1", "M": "ws://127.0.0.1:2"}},
        {"peers": {"L": "ws://example.org:1"}},
        {"peers": {"L": "wss://127.0.0.1:1"}},
        {"peers": {"L": "ws://127.0.0.1"}},
        {"peers": {"L": "ws://127.0.0.1:99999"}},
        {"peers": {"": "ws://127.0.0.1:1"}},
        {"node_id": "", "listen": "127.0.0.1:0"},
        {"node_id": "x" * 65, "listen": "127.0.0.1:0"},
    ],
    ids=str,
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        ReplicationWALManager(tmp_path / "log", **({"node_id": "N"} | options))
    assert not (tmp_path / "log").exists()


def test_an_address_that_is_taken(nodes: Nodes) -> None:
    port = int(nodes.leader().url.rpartition(":")[2])
    with pytest.raises(OSError, match="address already in use"):
        nodes.leader("M", port=port)
    FileWALManager(nodes.base / "M").close()  # it was let go of


def test_a_new_follower_needs_its_leader_once(nodes: Nodes) -> None:
    leader = nodes.leader()
    peers = {"L": leader.url}
    leader.close()
    path = nodes.base / "F"
    with pytest.raises(UnreachableError, match="L did not answer at ws://") as caught:
        ReplicationWALManager(path, node_id="F", peers=peers, join_timeout_s=0.3)
    assert caught.value.hint == "start the leader first, and check its url"
    assert not path.exists()


def test_a_follower_that_has_a_log_opens_without_its_leader(nodes: Nodes) -> None:
    leader = nodes.leader()
    with nodes.follower("F", leader):
        leader.wait_for_followers(leader.append(b"x"), timeout_s=WAIT_S)
    url = leader.url
    leader.close()
    with ReplicationWALManager(nodes.base / "F", node_id="F", peers={"L": url}) as follower:
        assert follower.read(1).payload == b"x"
        assert follower.connected == ()
        assert follower.replication_error is None


def test_a_path_that_is_no_log(nodes: Nodes) -> None:
    (nodes.base / "F").write_text("a file")
    with pytest.raises(NotALogError):
        nodes.follower("F", nodes.leader())


def test_a_peer_that_is_not_the_leader_it_is_taken_for(nodes: Nodes) -> None:
    leader = nodes.leader()
    peers = {"X": leader.url}
    with pytest.raises(RefusedError, match="a message to X, and this is L") as caught:
        ReplicationWALManager(nodes.base / "F", node_id="F", peers=peers)
    assert "node id and url" in caught.value.hint
    with nodes.follower("F", leader):
        pass
    error = refused(nodes._keep(ReplicationWALManager(nodes.base / "F", node_id="F", peers=peers)))
    assert error.code == CloseCode.WRONG_NODE


def test_two_nodes_of_one_name(nodes: Nodes) -> None:
    leader = nodes.leader("L")
    with pytest.raises(RefusedError, match="two nodes are called L"):
        ReplicationWALManager(nodes.base / "F", node_id="L", peers={"L": leader.url})


# ---- what it costs ----


def test_closing_leaves_nothing_behind(nodes: Nodes) -> None:
    def round_trip(name: str) -> None:
        leader = nodes.leader("L" + name)
        nodes.follower("F" + name, leader)
        leader.wait_for_followers(leader.append(b"x"), timeout_s=WAIT_S)
        nodes.close()

    round_trip("0")
    threads, descriptors = threading.active_count(), open_descriptors()
    for i in range(1, 4):
        round_trip(str(i))
    assert threading.active_count() == threads
    assert open_descriptors() == descriptors


def anonymous_kib() -> int:
    """Memory of this process that is no file's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0])


def test_a_follower_that_takes_nothing_costs_the_leader_little(nodes: Nodes) -> None:
    leader = nodes.leader(sync="os")
    stuck = nodes.raw(leader, "stuck", max_queue=1, close_timeout=0.1)
    stuck.greet()
    good = nodes.follower("F", leader)
    block = os.urandom(1 << 16)
    leader.wait_for_followers(leader.append(block), timeout_s=WAIT_S)
    before = anonymous_kib()
    for _ in range(1500):
        lsn = leader.append(block)
    leader.wait_for_followers(lsn, timeout_s=60)
    assert good.durable_lsn == lsn
    assert leader.followers()["stuck"] == 0
    assert anonymous_kib() - before < 32 << 10
