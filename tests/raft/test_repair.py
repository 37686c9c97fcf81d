"""Clusters with a damaged disk: nothing acked is lost, the others go on, the log is whole again."""

from __future__ import annotations

import itertools
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import seeded, segment_files
from tests.raft.elected import Clients, Elected
from tests.replication.nodes import OPTIONS, WAIT_S, until
from walstore import CorruptLogError, EntryTruncatedError, FileWALManager
from walstore.limits import LSN_MAX
from walstore.raft.ledger import COPY_NAME
from walstore.replication import (
    NotLeaderError,
    ReplicationTimeoutError,
    ReplicationWALManager,
    TooFewNodesError,
)
from walstore.replication.log import CONFIGURATIONS_NAME
from walstore.replication.message import VoteRequest
from walstore.replication.network import NetworkManager
from walstore.replication.notes import CLAIM_NAME
from walstore.wal.meta import META_NAME, WATERMARK_AT
from walstore.wal.segment import RECORDS_AT

pytestmark = pytest.mark.timeout(240)

SEGMENT_BYTES = 16 << 10
ENTRIES = 400
APPEND_TRIES = 30
STEADY = replace(OPTIONS, election_ms=1000)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def last_at(path: Path) -> int:
    """Where the last byte of a segment is that is not zero."""
    return len(path.read_bytes().rstrip(b"\0")) - 1


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "first segment's header": lambda path, rng: flip(segment_files(path)[0], rng.randrange(104)),
    "some segment's header": lambda path, rng: flip(segment_files(path)[2], rng.randrange(104)),
    "last segment's header": lambda path, rng: flip(segment_files(path)[-1], rng.randrange(104)),
    "last segment's first record": lambda path, rng: flip(
        segment_files(path)[-1], RECORDS_AT + rng.randrange(48)
    ),
    "last segment's last record": lambda path, rng: flip(
        segment_files(path)[-1], last_at(segment_files(path)[-1])
    ),
    "first segment gone": lambda path, rng: segment_files(path)[0].unlink(),
    "some segment gone": lambda path, rng: segment_files(path)[2].unlink(),
    "last segment gone": lambda path, rng: segment_files(path)[-1].unlink(),
    "some segment short": lambda path, rng: cut(segment_files(path)[1], rng.randrange(RECORDS_AT)),
    "last segment short": lambda path, rng: cut(segment_files(path)[-1], RECORDS_AT + 40),
    "all segments gone": lambda path, rng: remove_all(segment_files(path)),
    "configurations": lambda path, rng: flip(path / CONFIGURATIONS_NAME, rng.randrange(60)),
    "configurations gone": lambda path, rng: (path / CONFIGURATIONS_NAME).unlink(),
    "their copy": lambda path, rng: flip(path / COPY_NAME, rng.randrange(60)),
    "a copy of meta": lambda path, rng: flip(path / META_NAME, rng.randrange(96)),
    "the watermark": lambda path, rng: flip(path / META_NAME, 8192 + rng.randrange(24)),
}


def remove_all(paths: list[Path]) -> None:
    for path in paths:
        path.unlink()


def fill(size: int, count: int) -> list[bytes]:
    """Payloads that are all different."""
    return [b"%d|" % next(_numbers) + bytes(size) for _ in range(count)]


_numbers = itertools.count()


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def append(abc: Elected, size: int, count: int) -> tuple[ReplicationWALManager, range]:
    """Appends to whoever leads by then: on a busy machine the leader may change at any time."""
    for _ in range(APPEND_TRIES):
        leader = abc.leader()
        try:
            return leader, leader.append_many(fill(size, count))
        except (NotLeaderError, EntryTruncatedError, ReplicationTimeoutError, TooFewNodesError):
            continue
    raise AssertionError("no leader takes an append")


def has_all(node: ReplicationWALManager) -> bool:
    return not node.status().lost_to_lsn


def damaged(path: Path) -> list[str]:
    return [it.name for it in path.iterdir() if it.name.startswith("damaged-")]


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_any_file_of_one_node(elected: Callable[..., Elected], who: str) -> None:
    """Each kind of damage in turn, while clients append all along; the node is stopped, damaged,
    started, and has everything again."""
    rng, counts = seeded(f"repair {who}"), Counter[str]()
    abc = elected(segment_bytes=SEGMENT_BYTES)
    abc.begin()
    append(abc, 200, ENTRIES)
    kinds = list(DAMAGES) if who == "follower" else rng.sample(list(DAMAGES)[:11], 5)
    with Clients(abc) as clients:
        for kind in kinds:
            leader, lsns = append(abc, 500, 100)
            name = leader.node_id if who == "leader" else abc.others(leader)[0].node_id
            abc[name].wait_committed(lsns[-1], timeout_s=WAIT_S)
            abc.stop(name)
            DAMAGES[kind](abc.path(name), rng)
            before = len(damaged(abc.path(name)))
            clients.go_on(20)
            node = abc.start(name)
            counts["cut"] += len(damaged(abc.path(name))) > before
            until(partial(has_all, node), f"{name} has all again after {kind}")
            assert node.error is None
            _, lsns = append(abc, 1, 1)
            node.wait_committed(lsns[-1], timeout_s=WAIT_S)
            counts[kind] += 1
    print(counts)
    assert counts["cut"] >= len(kinds) // 2
    clients.assert_kept(abc.assert_equal())
    for name in abc.names:
        assert not (abc.path(name) / CLAIM_NAME).exists()


def test_a_damaged_node_votes_for_nobody_who_lacks_what_it_had(
    elected: Callable[..., Elected], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader and one other have the last entries, and the third has not. The other is damaged
    and the leader gone: no one of them can lead before it is back."""
    abc = elected(segment_bytes=SEGMENT_BYTES, options=STEADY)
    leader = abc.begin()
    first = leader.append_many([bytes(200)] * 100)
    abc.level()
    damaged_node, late = (node.node_id for node in abc.others(leader))
    abc.stop(late)
    acked = leader.append_many([b"acked"] * 50)
    abc[damaged_node].wait_committed(acked[-1], timeout_s=WAIT_S)
    gone = leader.node_id
    abc.stop(damaged_node)
    abc.stop(gone)
    segment_files(abc.path(damaged_node))[-1].unlink()
    asked: Counter[str] = Counter()
    send = NetworkManager.send

    def count(network: NetworkManager, node_id: str, body: Any) -> bool:
        asked[network.node_id] += isinstance(body, VoteRequest)
        return send(network, node_id, body)

    monkeypatch.setattr(NetworkManager, "send", count)
    abc.start(damaged_node, options=OPTIONS)
    abc.start(late, options=OPTIONS)
    abc.joined(damaged_node, late)
    assert abc[damaged_node].last_lsn < acked[-1]
    assert abc[damaged_node].status().lost_to_lsn >= acked[-1]
    terms = [abc[name].term for name in (damaged_node, late)]
    until(lambda: asked[late] >= 5, "it was refused its vote")
    assert not asked[damaged_node]
    assert [abc[name].term for name in (damaged_node, late)] == terms
    assert all(abc[name].role == "follower" for name in (damaged_node, late))
    abc.start(gone)
    leader = abc.leader()
    assert leader.node_id == gone
    until(lambda: not abc[damaged_node].status().lost_to_lsn, "it has all again")
    entries = abc.assert_equal()
    assert [entry.payload for entry in entries if entry.lsn in acked] == [b"acked"] * 50
    assert first[-1] < acked[0]


def test_a_damaged_node_elects_one_that_has_what_it_had(
    elected: Callable[..., Elected],
) -> None:
    """Its vote is needed, and given: the cluster goes on with it though it lacks entries."""
    abc = elected(segment_bytes=SEGMENT_BYTES, options=STEADY)
    leader = abc.begin()
    acked = [lsn for _ in range(4) for lsn in leader.append_many([b"acked"] * 200)]
    abc.level()
    damaged_node, other = (node.node_id for node in abc.others(leader))
    for name in (damaged_node, other, leader.node_id):  # nobody else is elected meanwhile
        abc.stop(name)
    segment_files(abc.path(damaged_node))[1].unlink()
    abc.start(damaged_node)
    abc.start(other)
    assert abc.leader().node_id == other
    until(lambda: not abc[damaged_node].status().lost_to_lsn, "it has all again")
    append(abc, 1, 1)
    abc.start(leader.node_id)
    entries = abc.assert_equal()
    assert [entry.payload for entry in entries if entry.lsn in acked] == [b"acked"] * 800


def cut_power(abc: Elected, name: str, watermark: bytes) -> None:
    """Ends a node as a power loss does that leaves of its watermark what was synced long ago, and
    damages the last segment's header."""
    image = abc.path(name).with_suffix(".image")
    shutil.copytree(abc.path(name), image)
    abc.stop(name)
    shutil.rmtree(abc.path(name))
    image.rename(abc.path(name))
    meta = abc.path(name) / META_NAME
    data = meta.read_bytes()
    meta.write_bytes(data[:WATERMARK_AT] + watermark + data[WATERMARK_AT + len(watermark) :])
    flip(segment_files(abc.path(name))[-1], 20)


def watermark_of(abc: Elected, name: str) -> bytes:
    return (abc.path(name) / META_NAME).read_bytes()[WATERMARK_AT : WATERMARK_AT + 24]


def test_a_watermark_of_long_ago_costs_nothing_that_was_acked(
    elected: Callable[..., Elected], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader and one other have the last entries, and the third has not. Power fails, and the
    last segment of the other is damaged: it does not elect the third, but who led before."""
    abc = elected(segment_bytes=SEGMENT_BYTES, options=STEADY)
    leader = abc.begin()
    leader.append_many([bytes(200)] * 100)
    abc.level()
    gone = leader.node_id
    name, late = (node.node_id for node in abc.others(leader))
    stale = watermark_of(abc, name)
    abc.stop(late)
    acked = leader.append_many([b"acked"] * 20)
    abc[name].wait_committed(acked[-1], timeout_s=WAIT_S)
    cut_power(abc, name, stale)
    abc.stop(gone)
    asked: Counter[str] = Counter()
    send = NetworkManager.send

    def count(network: NetworkManager, node_id: str, body: Any) -> bool:
        asked[network.node_id] += isinstance(body, VoteRequest)
        return send(network, node_id, body)

    monkeypatch.setattr(NetworkManager, "send", count)
    abc.start(name, options=OPTIONS)
    abc.start(late, options=OPTIONS)
    abc.joined(name, late)
    until(lambda: asked[late] >= 5, "it was refused its vote")
    assert abc[late].role == "follower"
    abc.stop(late)
    abc.start(gone)
    assert abc.leader(gone + name).node_id == gone
    until(partial(has_all, abc[name]), "it has all again")
    abc.start(late)
    entries = abc.assert_equal()
    assert [entry.payload for entry in entries if entry.lsn in acked] == [b"acked"] * 20


def test_a_claim_beyond_all_is_fulfilled_by_the_same_leader(
    elected: Callable[..., Elected],
) -> None:
    """Nothing more is appended, and no other term begins."""
    abc = elected(segment_bytes=SEGMENT_BYTES, options=STEADY)
    leader = abc.begin()
    leader.append_many([bytes(200)] * 100)
    abc.level()
    name, term = abc.others(leader)[0].node_id, leader.term
    cut_power(abc, name, watermark_of(abc, name))
    node = abc.start(name)
    assert node.status().lost_to_lsn == LSN_MAX
    until(partial(has_all, node), "it has all again")
    assert node.term == leader.term
    print(f"one term: {leader.term == term}")
    abc.assert_equal()


def test_a_node_that_lost_its_configuration_too_elects(elected: Callable[..., Elected]) -> None:
    abc = elected(segment_bytes=SEGMENT_BYTES, options=STEADY)
    leader = abc.begin()
    acked = leader.append_many([b"acked"] * 100)
    abc.level()
    name, other = (node.node_id for node in abc.others(leader))
    for each in (name, other, leader.node_id):
        abc.stop(each)
    remove_all(segment_files(abc.path(name)))
    node = abc.start(name)
    assert not node.status().voters
    assert not node.last_lsn
    abc.start(other)
    assert abc.leader(name + other).node_id == other
    until(partial(has_all, node), "it has all again")
    abc.start(leader.node_id)
    entries = abc.assert_equal()
    assert [entry.payload for entry in entries if entry.lsn in acked] == [b"acked"] * 100


def test_a_node_that_ends_amid_getting_its_entries_back(elected: Callable[..., Elected]) -> None:
    """And is damaged once more: it claims what it had at first until it has that."""
    slow = replace(STEADY, catch_up_bytes_per_s=1_000_000)
    abc = elected(segment_bytes=SEGMENT_BYTES, options=slow)
    leader = abc.begin()
    for _ in range(3):
        leader.append_many(fill(2000, 300))
    lsn = abc.level()
    name = abc.others(leader)[0].node_id
    abc.stop(name)
    segment_files(abc.path(name))[1].unlink()
    seen = []
    for _ in range(3):
        node = abc.start(name)
        assert node.status().lost_to_lsn >= lsn
        begun = node.last_lsn
        until(partial(grows, node, begun), "it gets some back")
        seen.append(node.last_lsn)
        abc.stop(name)
        segments = segment_files(abc.path(name))
        flip(segments[-1], RECORDS_AT + 8 if len(segments) > 1 else 8)
        assert (abc.path(name) / CLAIM_NAME).exists()
    print(f"lsn={lsn} seen={seen}")
    assert max(seen) < lsn
    node = abc.start(name, options=STEADY)
    until(partial(has_all, node), "it has all again")
    abc.assert_equal()
    assert not (abc.path(name) / CLAIM_NAME).exists()


def grows(node: ReplicationWALManager, lsn: int) -> bool:
    return node.last_lsn > lsn


def test_the_same_entry_on_all_nodes_is_no_one_s_to_make_up(
    elected: Callable[..., Elected],
) -> None:
    abc = elected(segment_bytes=SEGMENT_BYTES, options=STEADY)
    leader = abc.begin()
    for _ in range(4):
        leader.append_many([b"acked"] * 200)
    lsn = abc.level()
    abc.close()
    for name in abc.names:
        segment_files(abc.path(name))[-1].unlink()
    for name in abc.names:
        abc.start(name)
    abc.joined(*abc.names)
    for name in abc.names:
        status = abc[name].status()
        assert (status.role, status.lost_to_lsn >= lsn) == ("follower", True)
        assert status.voters == ("a", "b", "c")
    assert not any(abc[name]._streaming.core.next_deadline_ms for name in abc.names)


def test_lost_terms_are_refused(elected: Callable[..., Elected]) -> None:
    """Without `meta` a node does not come back under its id, and the others go on."""
    abc = elected(segment_bytes=SEGMENT_BYTES, options=STEADY)
    leader = abc.begin()
    leader.append_many([b"acked"] * 20)
    abc.level()
    name = abc.others(leader)[0].node_id
    abc.stop(name)
    meta = abc.path(name) / META_NAME
    whole = meta.read_bytes()
    files = sorted(it.name for it in abc.path(name).iterdir())
    both = whole[:24] + b"*" + whole[25:4120] + b"*" + whole[4121:]
    for data in (None, b"", whole[:40], both):
        meta.unlink() if data is None else meta.write_bytes(data)
        with pytest.raises(CorruptLogError) as caught:
            abc.start(name)
        assert "another id" in caught.value.hint
        assert sorted({*(it.name for it in abc.path(name).iterdir()), META_NAME}) == files
        append(abc, 1, 1)
    meta.write_bytes(whole)
    abc.start(name)
    abc.assert_equal()


def test_a_log_of_one_node_is_refused_as_ever(elected: Callable[..., Elected]) -> None:
    a = elected("a", segment_bytes=SEGMENT_BYTES)
    a.begin().append_many([b"acked"] * 200)
    a.close()
    segment_files(a.path("a"))[-1].unlink()
    with pytest.raises(CorruptLogError):
        a.start("a")
    with pytest.raises(CorruptLogError):
        FileWALManager(a.path("a"))
