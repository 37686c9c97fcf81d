"""What a driver owes its RaftNode, and what reads promise."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.linear import Operation, check
from tests.raft.elected import Elected, configurations
from tests.replication.nodes import OPTIONS, data, until
from walstore import EntryTruncatedError, FileWALManager
from walstore.errors import CorruptLogError
from walstore.raft.ledger import COPY_NAME, Ledger, Mark
from walstore.raft.membership import Configuration
from walstore.replication import (
    NotLeaderError,
    ReplicationTimeoutError,
    ReplicationWALManager,
    TooFewNodesError,
)
from walstore.replication.log import CONFIGURATIONS_NAME, NodeLog
from walstore.replication.message import Ack, VoteRequest, VoteResponse, WalEntry
from walstore.replication.network import NetworkManager

pytestmark = pytest.mark.timeout(120)

SPOKEN = (VoteRequest, VoteResponse, WalEntry, Ack)


def test_no_message_leaves_in_a_term_that_is_not_durable(
    elected: Callable[..., Elected], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is held up each time: what comes of a term must wait for it."""
    durable: dict[str, int] = {}
    early: list[tuple[str, int, int]] = []
    counts = {"terms": 0, "votes": 0, "messages": 0}
    adopt, send = NodeLog.adopt_term, NetworkManager.send

    def adopt_late(log: NodeLog, term: int) -> None:
        time.sleep(0.02)  # a slow disk
        adopt(log, term)
        name = log.path.rsplit("/", 1)[1]
        durable[name] = max(term, durable.get(name, 0))
        counts["terms"] += 1

    def watch(network: NetworkManager, node_id: str, body: Any) -> bool:
        term = network.now()[0]
        if isinstance(body, SPOKEN):
            counts["messages"] += 1
            counts["votes"] += isinstance(body, VoteResponse) and body.granted and not body.pre
            if term > durable.get(network.node_id, 0):
                early.append((network.node_id, term, durable.get(network.node_id, 0)))
        return send(network, node_id, body)

    monkeypatch.setattr(NodeLog, "adopt_term", adopt_late)
    monkeypatch.setattr(NetworkManager, "send", watch)
    abc = elected()
    abc.begin()
    for name in "bca":
        abc.leader()
        abc[name].promote()
        abc.leader().append(name.encode())
    print(counts)
    assert not early, (len(early), early[:3])
    assert counts["terms"] >= 8
    assert counts["votes"] >= 3
    assert counts["messages"] >= 50
    abc.assert_equal()


def test_an_append_is_not_done_before_others_have_it(elected: Callable[..., Elected]) -> None:
    """The leader's disk has it at once; nobody else ever gets it."""
    abc = elected()
    leader = abc.begin()
    leader.append(b"one")
    for node in abc.others(leader):
        abc.stop(node.node_id)
    try:
        commit = leader.submit(b"two")
    except NotLeaderError:
        pytest.fail("it leads for an election's time yet")
    until(lambda: leader.durable_lsn >= commit.lsn, "it is on the leader's disk")
    with pytest.raises(ReplicationTimeoutError):
        commit.wait(0.2)
    assert leader.committed_lsn < commit.lsn


def test_an_append_is_not_done_before_the_leaders_own_disk_has_it(
    elected: Callable[..., Elected], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its two followers have it, and its own disk does not say so."""
    abc = elected()
    leader = abc.begin()
    lsn = leader.append(b"one")
    core = leader._streaming.core
    held = lsn
    monkeypatch.setattr(NodeLog, "durable_lsn", property(lambda log: _durable(log, leader, held)))
    commit = leader.submit(b"two")

    def others_have_it() -> bool:
        stages = core.receipt(commit.lsn).stages
        return sum(stage >= 2 for node, stage in stages.items() if node != leader.node_id) == 2

    until(others_have_it, "the followers' disks have it")
    assert leader.committed_lsn == lsn
    monkeypatch.undo()
    with_it = leader.append(b"three")
    assert with_it > commit.lsn
    assert commit.wait() == commit.lsn


def _durable(log: NodeLog, leader: Any, held: int) -> int:
    lsn: int = log._shared.durable_lsn
    return min(lsn, held) if log.path == leader.path else lsn


def test_appends_wait_while_too_much_is_not_committed(
    elected: Callable[..., Elected], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The followers' disks are stuck; they know the leader all the time."""
    times = replace(OPTIONS, uncommitted_bytes_max=20_000)
    abc = elected(options=times)
    leader = abc.begin()
    held = leader.append(b"one")
    stuck = property(
        lambda log: (
            min(log._shared.durable_lsn, held)
            if log.path != leader.path
            else log._shared.durable_lsn
        )
    )
    monkeypatch.setattr(NodeLog, "durable_lsn", stuck)
    waiting = _appends_until_held(leader)
    assert 10 < waiting < 500
    assert leader.role == "leader"
    monkeypatch.undo()
    leader.append(b"two")
    assert len(data(abc.assert_equal())) == waiting + 2


def _appends_until_held(leader: ReplicationWALManager) -> int:
    """How many are in the log, and not committed, when it takes no more."""
    for count in range(1000):
        try:
            leader.append(bytes(1000), timeout_s=0.01)
        except ReplicationTimeoutError:
            continue
        except TooFewNodesError:
            return count
    raise AssertionError("it takes any number")


# ---- reads ----


def test_reads_of_a_register_are_linearizable(elected: Callable[..., Elected]) -> None:
    """While the leadership goes from node to node: each write is an entry, and a read shows the
    last one up to the lsn that it was told."""
    abc = elected()
    abc.begin()
    history: list[Operation] = []
    lock, ended = threading.Lock(), threading.Event()

    def write(name: str) -> None:
        number = 0
        while not ended.is_set():
            for node in abc.nodes.values():
                number += 1
                value, began, at = f"{name}{number}", time.monotonic(), float("inf")
                try:
                    node.append(value.encode(), timeout_s=2.0)
                    at = time.monotonic()
                except (NotLeaderError, EntryTruncatedError, TooFewNodesError):
                    ended.wait(0.002)
                    continue
                except ReplicationTimeoutError:
                    pass
                with lock:
                    history.append(Operation("write", "x", value, began, at))

    def read() -> None:
        while not ended.is_set():
            for node in abc.nodes.values():
                began = time.monotonic()
                try:
                    lsn = node.linearizable_lsn(timeout_s=2.0)
                except (NotLeaderError, ReplicationTimeoutError):
                    ended.wait(0.002)
                    continue
                values = [e.payload.decode() for e in node.replay(1, lsn) if e.kind == 1]
                value = values[-1] if values else None
                with lock:
                    history.append(Operation("read", "x", value, began, time.monotonic()))

    threads = [threading.Thread(target=write, args=(name,)) for name in "vw"]
    threads += [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for name in "bcabc":
            wanted = len(history) + 40
            until(lambda at=wanted: len(history) >= at, "reads and writes")  # type: ignore[misc]
            abc[name].promote()
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    reads = sum(operation.kind == "read" for operation in history)
    print(f"reads={reads} writes={len(history) - reads}")
    assert min(reads, len(history) - reads) >= 40
    assert check(history) == []


# ---- the file beside the log ----


NOBODY = (0, Configuration())


class FakeLog:
    """What a ledger asks: a log that is no more than its bounds."""

    def __init__(self, path: str, first_lsn: int, last_lsn: int, term: int = 7) -> None:
        self.path = path
        self.first_lsn, self.last_lsn, self.committed_lsn = first_lsn, last_lsn, last_lsn
        self.term = term
        self.entries: list[tuple[int, bytes]] = []

    def term_of(self, lsn: int) -> int:
        return self.term if lsn else 0

    def configurations_from(self, lsn: int) -> list[tuple[int, bytes]]:
        return [item for item in self.entries if item[0] >= lsn]


def test_a_snapshot_that_was_not_installed_says_nothing(tmp_path: Any) -> None:
    """A crash between the file and the log leaves the one before in force, and after it the new."""
    before, after = Configuration(frozenset("abc")), Configuration(frozenset("abd"))
    log = FakeLog(str(tmp_path), 1, 10)
    log.entries = [(1, before.encode())]
    ledger = Ledger(log, frozenset("abc"))
    ledger.write(ledger.mark(), Mark(50, 9, ((40, after.encode()),)))
    assert Ledger(log, frozenset()).configurations() == [NOBODY, (1, before)]
    reset = FakeLog(str(tmp_path), 51, 50, term=9)
    assert Ledger(reset, frozenset()).configurations() == [(40, after)]
    longer = FakeLog(str(tmp_path), 1, 60)  # another leader's entries, in other terms
    longer.entries = log.entries
    assert Ledger(longer, frozenset()).configurations() == [NOBODY, (1, before)]


def test_an_older_mark_takes_no_newer_ones_place(tmp_path: Any) -> None:
    """Two threads make marks; what the later one truncated is gone when the other one writes."""
    one = Configuration(frozenset("abc"))
    log = FakeLog(str(tmp_path), 1, 100)
    log.entries = [(1, one.encode())]
    ledger = Ledger(log, frozenset())
    older = ledger.mark()
    log.last_lsn = log.committed_lsn = 200
    ledger.write(ledger.mark())
    log.first_lsn, log.entries = 151, []
    ledger.write(older)
    assert ledger.marked_lsn == 200
    assert Ledger(log, frozenset()).configurations() == [(1, one)]


def test_a_mark_leaves_the_one_that_is_to_hold_next(tmp_path: Any) -> None:
    """A snapshot is about to be installed while somebody truncates, or the node is closed."""
    before, after = Configuration(frozenset("abc")), Configuration(frozenset("abd"))
    log = FakeLog(str(tmp_path), 1, 10)
    log.entries = [(1, before.encode())]
    ledger = Ledger(log, frozenset())
    ledger.write(ledger.mark(), Mark(50, 9, ((40, after.encode()),)))
    log.last_lsn = log.committed_lsn = 12
    ledger.write(ledger.mark())
    assert ledger.configurations() == [NOBODY, (1, before)]
    assert Ledger(log, frozenset()).configurations() == [NOBODY, (1, before)]
    reset = FakeLog(str(tmp_path), 51, 50, term=9)
    assert Ledger(reset, frozenset()).configurations() == [(40, after)]
    log.first_lsn, log.last_lsn = 51, 50
    ledger.begin_anew()
    assert ledger.configurations() == [(40, after)]


def test_entries_that_caught_up_with_a_snapshot_know_more(tmp_path: Any) -> None:
    first, last = Configuration(frozenset("abc")), Configuration(frozenset("abd"))
    log = FakeLog(str(tmp_path), 1, 10)
    log.entries = [(1, first.encode())]
    ledger = Ledger(log, frozenset())
    ledger.write(ledger.mark(), Mark(50, 7, ((40, last.encode()),)))
    log.last_lsn = log.committed_lsn = 60
    log.entries = [(1, first.encode()), (40, last.encode())]
    assert Ledger(log, frozenset()).at(20) == first.encode()


def test_a_file_of_another_log_and_a_damaged_one_are_refused(tmp_path: Any) -> None:
    log = FakeLog(str(tmp_path), 1, 10)
    log.entries = [(1, Configuration(frozenset("abc")).encode())]
    Ledger(log, frozenset())
    with pytest.raises(CorruptLogError, match="another log"):
        Ledger(FakeLog(str(tmp_path), 20, 30), frozenset())
    whole = (tmp_path / CONFIGURATIONS_NAME).read_bytes()
    for name in (CONFIGURATIONS_NAME, COPY_NAME):
        assert Ledger(log, frozenset()).at(10) == log.entries[0][1]  # one of them is whole
        (tmp_path / name).write_bytes(whole[:-5] + b"*" + whole[-4:])
    with pytest.raises(CorruptLogError, match="checksum"):
        Ledger(log, frozenset())


def test_a_cut_takes_configurations_back(tmp_path: Any) -> None:
    one, two = Configuration(frozenset("a")), Configuration(frozenset("ab"))
    log = FakeLog(str(tmp_path), 1, 10)
    log.entries = [(1, one.encode()), (9, two.encode())]
    ledger = Ledger(log, frozenset())
    ledger.cut(8)
    assert ledger.at(10) == one.encode()
    ledger.note(9, two.encode())
    ledger.note(9, one.encode())  # the disk had no space for the one before
    assert ledger.configurations() == [NOBODY, (1, one), (9, one)]
    log.committed_lsn = 5
    assert ledger.mark() == Mark(5, 7, ((1, one.encode()),))


def test_configurations_are_found_wherever_they_are_in_a_log(
    elected: Callable[..., Elected],
) -> None:
    """After a kill the log is read from the last mark on; here from its beginning."""
    abc = elected()
    leader = abc.begin()
    leader.append_many([bytes(1000)] * 2000)
    leader.add_learner("x")
    leader.append_many([bytes(1000)] * 2000)
    leader.remove_node("x")
    leader.append(b"one")
    name = leader.node_id
    entries = abc.assert_equal()
    for each in (CONFIGURATIONS_NAME, COPY_NAME):
        (abc.path(name) / each).unlink()
    with FileWALManager(abc.path(name), read_only=True) as log:
        assert len(data(log.replay())) == 4001
    expected = configurations(entries)
    assert len(expected) >= 5
    leader = abc.begin()
    known = abc[name]._streaming._ledger  # type: ignore[attr-defined]
    assert [lsn for lsn, _ in known.configurations()][: len(expected) + 1] == [0, *expected]
    assert leader.status().voters == ("a", "b", "c")
