"""Nodes that elect, on real disks and sockets, in one process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.raft.elected import Clients, Elected, configurations
from tests.replication.nodes import OPTIONS, WAIT_S, Cluster, data, until
from walstore import EntryTruncatedError, FileWALManager, OptionError, ReplicatedLogError
from walstore.raft import driver
from walstore.raft.membership import decode_configuration
from walstore.replication import (
    LostDiskError,
    MembershipError,
    NotLeaderError,
    PromotionError,
    ReplicationOptions,
    ReplicationTimeoutError,
    ReplicationWALManager,
    Stage,
    TooFewNodesError,
    UnreachableError,
)
from walstore.replication.effects import AppendConfiguration
from walstore.replication.log import CONFIGURATIONS_NAME, NodeLog
from walstore.testing.partitions import Partitions
from walstore.wal.record import DATA

pytestmark = pytest.mark.timeout(120)


# ---- a cluster begins ----


def test_nodes_elect_and_their_followers_name_the_leader(elected: Callable[..., Elected]) -> None:
    abc = elected()
    leader = abc.begin()
    lsn = leader.append(b"one")
    for node in abc.others(leader):
        node.wait_committed(lsn)
        with pytest.raises(NotLeaderError) as caught:
            node.append(b"nobody takes this")
        assert caught.value.leader_id == leader.node_id
        assert caught.value.leader_url == abc.url(leader.node_id)
        with pytest.raises(NotLeaderError):
            node.linearizable_lsn()
    status = leader.status()
    assert (status.role, status.election, status.acks) == ("leader", "raft", "quorum")
    assert (status.voters, status.learners, status.changing) == (("a", "b", "c"), (), False)
    assert data(abc.assert_equal()) == [b"one"]


def test_a_new_cluster_acks_nothing_before_its_voters_are_all_there(
    elected: Callable[..., Elected],
) -> None:
    """Its first node leads before the others have its log, and could commit alone."""
    abc = elected()
    with Clients(abc) as clients:
        abc.begin()
        clients.go_on(20)
    entries = abc.assert_equal()
    clients.assert_kept(entries)
    first, joint, *_ = configurations(entries)
    assert first == 1
    assert decode_configuration(entries[0].payload).target == {"a", "b", "c"}
    assert decode_configuration(entries[joint - 1].payload).voters == {"a", "b", "c"}
    assert joint < next(entry.lsn for entry in entries if entry.kind == DATA)


def test_the_first_node_of_a_new_cluster_takes_no_appends_alone(
    elected: Callable[..., Elected], partitions: Partitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is cut off as soon as all have met: it leads, being the only voter so far."""
    abc = elected(partitions=partitions)
    found_cluster = driver._found_cluster

    def found_alone(*arguments: Any) -> None:
        partitions.isolate("a")
        found_cluster(*arguments)

    monkeypatch.setattr(driver, "_found_cluster", found_alone)
    with ThreadPoolExecutor(3) as pool:
        starting = [pool.submit(abc.start, name) for name in "abc"]
        try:
            first = starting[0].result()
            assert abc.leader("a") is first
            with pytest.raises(TooFewNodesError):
                first.append(b"alone", timeout_s=0.3)
        finally:
            partitions.heal()
        for start in starting:
            start.result()
    first.append(b"one")
    assert data(abc.assert_equal()) == [b"one"]


def test_a_cluster_is_not_made_before_all_have_met(elected: Callable[..., Elected]) -> None:
    abc = elected(options=ReplicationOptions(join_timeout_ms=300, election_ms=300))
    for name in "ab":
        with pytest.raises(UnreachableError, match="c"):
            abc.start(name)
        assert not abc.path(name).exists()


def test_one_node_is_a_cluster(elected: Callable[..., Elected]) -> None:
    alone = elected("a")
    alone.begin()
    lsn = alone["a"].append(b"one")
    alone.stop("a")
    assert alone.begin().append(b"two") > lsn


def test_a_stopped_nodes_log_is_for_the_node_alone(elected: Callable[..., Elected]) -> None:
    """What another writer appended there would have the lsn and the term of an entry that the
    others acknowledge meanwhile: that one would be lost when the node came to lead."""
    abc = elected()
    leader = abc.begin()
    leader.append(b"one")
    (stopped, left) = (node.node_id for node in abc.others(leader))
    abc.level()
    abc.stop(stopped)
    with pytest.raises(ReplicatedLogError):
        FileWALManager(abc.path(stopped))
    leader.append(b"two")
    abc.stop(leader.node_id)
    abc.start(stopped)
    assert data(abc.assert_equal(stopped, left)) == [b"one", b"two"]


def test_a_node_that_was_ended_amid_making_the_cluster_makes_it(
    elected: Callable[..., Elected],
) -> None:
    abc = elected()
    FileWALManager(abc.path("a")).close()
    abc.begin().append(b"one")
    assert data(abc.assert_equal()) == [b"one"]


def test_an_empty_node_joins_what_there_is(elected: Callable[..., Elected]) -> None:
    """Also one whose name comes first, which makes a cluster where there is none."""
    abc = elected("abc")
    abc.names = "bc"
    leader = abc.begin()
    leader.append(b"one")
    abc.names = "abc"
    abc.start("a")
    leader.add_voter("a")
    leader.append(b"two")
    assert abc["a"].status().cluster_id == leader.status().cluster_id
    assert data(abc.assert_equal()) == [b"one", b"two"]


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_voter_that_has_lost_its_disk_takes_no_part(
    elected: Callable[..., Elected], name: str
) -> None:
    """Under its name; also the one that made the cluster. Another one takes its place."""
    abc = elected("abcd")
    abc.names = "abc"
    abc.begin().append(b"one")
    abc.stop(name)
    shutil.rmtree(abc.path(name))
    leader = abc.leader()
    leader.append(b"two")
    for _ in range(2):  # starting it again does not help
        node = abc.start(name)
        until(lambda node=node: node.error, "it is refused")  # type: ignore[misc]
        assert isinstance(node.error, LostDiskError)
        assert node.error.node_id == name
        assert "replace" in node.error.hint
        assert name in node.status().error
        assert not node.status().last_lsn
        abc.stop(name)
    abc.names = "abcd"
    abc.start("d")
    leader.replace_node(name, "d")
    assert leader.status().voters == tuple(sorted({*"abcd"} - {name}))
    leader.append(b"three")
    assert data(abc.assert_equal()) == [b"one", b"two", b"three"]


def test_a_manual_cluster_becomes_an_elected_one(elected: Callable[..., Elected]) -> None:
    abc = elected()
    before = Cluster(abc.base, options=OPTIONS)
    before.ports = abc.ports
    before.lead().append(b"one")
    before.assert_equal("a", "b", "c")
    leader = abc.begin()
    leader.append(b"two")
    until(lambda: abc.leader().status().term and _is_written_down(abc), "its log names its nodes")
    abc.leader().append(b"three")
    entries = abc.assert_equal()
    assert data(entries) == [b"one", b"two", b"three"]
    (lsn, *_) = configurations(entries)
    assert decode_configuration(entries[lsn - 1].payload).voters == {"a", "b", "c"}
    with pytest.raises(OptionError, match="elect"):
        before.start("a", role="leader")


def _is_written_down(abc: Elected) -> bool:
    leader = abc.leader()
    return bool(configurations(leader.replay(1)))


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"acks": "all"}, "acks"),
        ({"role": "leader"}, "role"),
        ({"too_few": "refuse"}, "too_few"),
        ({"election": "paxos"}, "raft"),
        ({"options": ReplicationOptions(election_ms=100, heartbeat_ms=50)}, "election_ms"),
    ],
)
def test_options_that_do_not_go_together(
    elected: Callable[..., Elected], option: dict[str, Any], text: str
) -> None:
    with pytest.raises(OptionError, match=text):
        elected("a").start("a", **option)


def test_what_only_the_other_kind_of_cluster_does(
    elected: Callable[..., Elected],
) -> None:
    alone = elected("a")
    node = alone.begin()
    refused: list[dict[str, Any]] = [{"acks": "async"}, {"acks": 1}, {"stage": Stage.RECEIVED}]
    for options in refused:
        with pytest.raises(OptionError, match="quorum"):
            node.append(b"", **options)
    with pytest.raises(OptionError, match="force"):
        node.promote(force=True)
    manual = Cluster(alone.base, "m")
    with manual.start("m", role="leader") as other:
        with pytest.raises(OptionError, match="raft"):
            other.linearizable_lsn()
        with pytest.raises(OptionError, match="raft"):
            other.add_voter("x")


# ---- leaders come and go ----


def test_a_leader_is_replaced_and_comes_back(elected: Callable[..., Elected]) -> None:
    abc = elected()
    abc.begin()
    with Clients(abc) as clients:
        for _ in range(2):
            clients.go_on(20)
            gone = abc.leader().node_id
            abc.stop(gone)
            clients.go_on(20)
            abc.start(gone)
    clients.assert_kept(abc.assert_equal())


def test_all_are_started_again(elected: Callable[..., Elected]) -> None:
    abc = elected()
    with Clients(abc) as clients:
        abc.begin()
        clients.go_on(20)
    term = abc["a"].status().term
    for name in "abc":
        abc.stop(name)
    leader = abc.begin()
    assert leader.status().term > term
    leader.append(b"one more")
    clients.assert_kept(abc.assert_equal())


def test_five_nodes_without_two(elected: Callable[..., Elected]) -> None:
    five = elected("abcde")
    leader = five.begin()
    with Clients(five) as clients:
        clients.go_on(20)
        for name in (leader.node_id, five.others(leader)[0].node_id):
            five.stop(name)
        clients.go_on(20)
    clients.assert_kept(five.assert_equal())


def test_the_minority_acks_nothing(elected: Callable[..., Elected], partitions: Partitions) -> None:
    abc = elected(partitions=partitions)
    leader = abc.begin()
    alone, others = leader.node_id, [name for name in "abc" if name != leader.node_id]
    leader.append(b"before")
    partitions.isolate(alone)
    with pytest.raises((NotLeaderError, ReplicationTimeoutError)):
        leader.linearizable_lsn(timeout_s=0.1)
    commit = leader.submit(b"of the minority")
    with pytest.raises(ReplicationTimeoutError):
        commit.wait(0.5)
    until(lambda: leader.role == "follower", "it steps down")
    with pytest.raises(NotLeaderError) as caught:
        leader.append(b"of nobody")
    assert caught.value.leader_id is None
    abc.leader(others).append(b"of the majority")
    partitions.heal()
    abc.leader().append(b"after")
    with pytest.raises(EntryTruncatedError):
        commit.wait(WAIT_S)
    assert data(abc.assert_equal()) == [b"before", b"of the majority", b"after"]


def test_a_node_that_comes_back_deposes_nobody(
    elected: Callable[..., Elected], partitions: Partitions
) -> None:
    abc = elected(partitions=partitions)
    leader = abc.begin()
    leader.append(b"one")
    term = leader.status().term
    alone = abc.others(leader)[0]
    partitions.isolate(alone.node_id)
    for _ in range(2):  # its election timer runs out, and again
        before = alone._streaming.core.next_deadline_ms
        until(partial(_asks_again, alone, before), "it asks around")
    leader.append(b"without it")
    partitions.heal()
    alone.wait_committed(leader.append(b"with it"))
    assert leader.role == "leader"
    assert (leader.status().term, alone.status().term) == (term, term)


def _asks_again(node: ReplicationWALManager, before_ms: float | None) -> bool:
    return node._streaming.core.next_deadline_ms != before_ms


# ---- what a person asks for ----


def test_leadership_is_handed_over_without_a_loss(elected: Callable[..., Elected]) -> None:
    abc = elected()
    abc.begin()
    with Clients(abc) as clients:
        for name in "abca":
            abc.leader()
            clients.go_on(10)
            assert abc[name].promote() == abc[name].status().term
            clients.go_on(10)
        abc["a"].promote()
        term = abc["a"].demote()
        assert abc["a"].status().term >= term
        assert abc.leader("bc")
        clients.go_on(10)
    assert not any(client.unknown for client in clients.all)
    clients.assert_kept(abc.assert_equal())


def test_a_learner_is_not_promoted(elected: Callable[..., Elected]) -> None:
    abc = elected()
    leader = abc.begin()
    other = abc.others(leader)[0]
    leader.add_learner(other.node_id)
    leader.append(b"one")
    with pytest.raises(PromotionError, match="no voter") as refused:
        other.promote(timeout_s=1.0)
    assert "force" not in refused.value.hint, "elected nodes refuse it"


def test_members_come_and_go(elected: Callable[..., Elected]) -> None:
    four = elected("abcd")
    with Clients(four) as clients:
        four.names = "abc"
        leader = four.begin()
        four.names = "abcd"
        clients.go_on(10)
        four.start("d")
        leader.add_learner("d")
        assert leader.status().learners == ("d",)
        leader.add_voter("d")
        assert leader.status().voters == ("a", "b", "c", "d")
        clients.go_on(10)
        leader.remove_node(leader.node_id)
        until(lambda: leader.role == "follower", "who was removed leads no longer")
        second = four.leader([name for name in "abcd" if name != leader.node_id])
        assert leader.node_id not in second.status().voters
        clients.go_on(10)
        gone = leader.node_id
        four.stop(gone)
    names = "".join(name for name in "abcd" if name != gone)
    for name in names:
        four.stop(name)
    assert four.begin(names).status().voters == tuple(names)
    entries = four.assert_equal()
    clients.assert_kept(entries)
    assert len(configurations(entries)) >= 6


def awaits(leader: ReplicationWALManager, *newcomers: str) -> None:
    """Waits until these are on their way, and that is committed."""
    until(
        lambda: leader.status().newcomers == newcomers and leader.committed_lsn == leader.last_lsn,
        "they are waited for",
    )


def test_who_asks_for_the_same_is_answered_the_same(elected: Callable[..., Elected]) -> None:
    """Also while what the first one asked for is not committed yet."""
    leader = elected().begin()
    with ThreadPoolExecutor(8) as pool:
        lsns = set(pool.map(leader.add_learner, ["d"] * 8))
    assert len(lsns) == 1
    assert "d" in leader.status().learners


def test_a_change_that_waits_for_a_newcomer_makes_room(elected: Callable[..., Elected]) -> None:
    """Whoever waits for it is told, at once; who is on its way still is."""
    abc = elected()
    leader = abc.begin()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(leader.add_voter, "d", timeout_s=WAIT_S)
        awaits(leader, "d")
        second = pool.submit(leader.replace_node, "c", "e", timeout_s=WAIT_S)
        with pytest.raises(MembershipError, match=r"a later change has .* yet to vote: d, e"):
            first.result(WAIT_S / 2)
        with pytest.raises(MembershipError, match=r"c votes only until those .* be a, b, d, e"):
            leader.replace_node("c", "f")
        awaits(leader, "d", "e")
        third = pool.submit(leader.remove_node, "d", timeout_s=WAIT_S)
        with pytest.raises(MembershipError, match=r"a later change has .* yet to vote: e"):
            second.result(WAIT_S / 2)
        awaits(leader, "e")
        leader.remove_node("e")
        with pytest.raises(MembershipError, match="a later change has taken the place of this one"):
            third.result(WAIT_S / 2)
    assert leader.status().voters == ("a", "b", "c")
    assert leader.status().learners == ()


def test_a_change_waits_for_no_step_of_another(
    elected: Callable[..., Elected], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The followers' disks are stuck: what is in the log and not committed is not to be undone."""
    abc = elected()
    leader = abc.begin()
    held = leader.append(b"one")
    monkeypatch.setattr(
        NodeLog,
        "durable_lsn",
        property(
            lambda log: (
                log._shared.durable_lsn
                if log.path == leader.path
                else min(log._shared.durable_lsn, held)
            )
        ),
    )
    gone = abc.others(leader)[0].node_id
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(leader.remove_node, gone, timeout_s=1.0)
        until(lambda: leader.status().outgoing, "it is in the log")
        with pytest.raises(MembershipError, match="an earlier change is not committed yet"):
            leader.add_learner("d")
        with pytest.raises(ReplicationTimeoutError, match=r"lsn \d+, is not committed; known: "):
            first.result()
    monkeypatch.undo()
    until(lambda: gone not in leader.status().voters, "it is made yet")


def test_a_change_of_the_members_waits_for_the_one_before(
    elected: Callable[..., Elected],
) -> None:
    abc = elected()
    leader = abc.begin()
    with pytest.raises(
        ReplicationTimeoutError, match=r"0\.3 s: not with all of the log yet: nobody$"
    ):
        leader.add_voter("nobody", timeout_s=0.3)  # a learner for now: it never has the log
    assert leader.status().learners == ("nobody",)
    assert leader.status().changing
    leader.remove_node("nobody")
    assert leader.status().learners == ()
    with pytest.raises(MembershipError, match="rename"):
        leader.add_voter(_twin("a"))


def test_a_change_that_was_made_is_told_so_whatever_comes_next(
    elected: Callable[..., Elected],
) -> None:
    """Each thread changes what is its own: none takes another's place."""
    leader = elected("a").begin()

    def come_and_go(name: str) -> None:
        for _ in range(20):
            for change, is_in in ((leader.add_learner, True), (leader.remove_node, False)):
                lsn = _changed(change, name)
                assert lsn <= leader.committed_lsn
                now = decode_configuration(leader.read(lsn).payload)
                assert (name in now.learners) == is_in

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(come_and_go, "xyz"))
    assert leader.status().learners == ()


def test_a_change_that_is_made_as_the_next_one_begins_is_told_so(
    elected: Callable[..., Elected],
) -> None:
    """The next one waits in line while the disk takes the first."""
    leader = elected("a").begin()
    node: Any = leader._streaming
    append = node._disk_handlers[AppendConfiguration]

    def append_slowly(effect: AppendConfiguration) -> None:
        append(effect)
        until(lambda: node._log.durable_lsn == leader.last_lsn, "it is durable")
        until(lambda: len(node._changes) == 2 or leader.status().learners, "the next one waits")

    node._disk_handlers[AppendConfiguration] = append_slowly
    with ThreadPoolExecutor(2) as pool:
        lsns = list(pool.map(leader.add_learner, "de"))
    assert leader.status().learners == ("d", "e")
    changed = [decode_configuration(leader.read(lsn).payload).learners for lsn in sorted(lsns)]
    assert len(changed[0]) == 1
    assert changed[1] == {"d", "e"}


def _changed(change: Callable[[str], int], name: str) -> int:
    """Asks until no earlier change is under way; returns the lsn."""
    while True:
        try:
            return change(name)
        except MembershipError as error:
            if error.reason != "an earlier change is not committed yet":
                raise


def _twin(name: str) -> str:
    """A node id that owns the same terms."""
    from walstore.replication.terms import term_bits

    return next(f"n{i}" for i in range(1 << 20) if term_bits(f"n{i}") == term_bits(name))


# ---- what is not in the log any more ----


def test_the_members_are_known_where_the_log_was_truncated(
    elected: Callable[..., Elected],
) -> None:
    """On the leader, and on a node that gets the rest of the log only."""
    four = elected("abcd")
    four.names = "abc"
    leader = four.begin()
    four.names = "abcd"
    lsn = leader.append(b"one")
    for node in four.nodes.values():
        node.wait_committed(lsn)
    until(lambda: _truncated(leader, lsn) == lsn, "it is truncated")
    text = (four.path(leader.node_id) / CONFIGURATIONS_NAME).read_text()
    assert json.loads(text.partition("\n")[2])["marks"][-1]["lsn"] >= lsn - 1
    four.start("d")
    leader.add_learner("d")
    four["d"].wait_committed(leader.append(b"two"))
    assert four["d"].first_lsn == lsn
    for name in "abcd":
        four.stop(name)
    (four.path("d") / CONFIGURATIONS_NAME).stat()
    assert four.begin().status().learners == ("d",)
    assert four["d"].status().voters == ("a", "b", "c")
    assert four["d"].role == "follower"
    four.leader().append(b"three")
    assert data(four.assert_equal())[-2:] == [b"two", b"three"]


def _truncated(node: ReplicationWALManager, lsn: int) -> int:
    node.truncate_before(lsn)
    return node.first_lsn
