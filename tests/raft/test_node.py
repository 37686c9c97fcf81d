"""RaftNode, one message at a time: what no schedule and no scenario gets to by itself."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.replication.cores import Log, batch
from walstore.raft.membership import Configuration
from walstore.raft.node import RaftNode
from walstore.raft.options import RaftOptions
from walstore.raft.reads import READS_MAX
from walstore.replication.effects import (
    AppendConfiguration,
    AppendTermEntry,
    ChangeRefused,
    Effect,
    HoldAppends,
    PersistTerm,
    ReadReady,
    ReadRefused,
    Refuse,
    RoleChanged,
    Send,
    TransferFailed,
    VoteFailed,
)
from walstore.replication.entries import Batch
from walstore.replication.message import (
    Ack,
    Confirm,
    Confirmed,
    SnapshotPart,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
    WalEntry,
)
from walstore.replication.terms import next_term

ABC = Configuration(frozenset("abc"))
A1, B1, C1 = (next_term(0, name) for name in "abc")
ELECTION_MS = RaftOptions().election_ms


@dataclass
class RaftLog(Log):
    """Each entry is one byte long."""

    accepted: int = 0
    """Entries that are not written yet."""

    @property
    def accepted_lsn(self) -> int:
        return self.last_lsn + self.accepted

    def bytes_after(self, lsn: int) -> int:
        return self.last_lsn - lsn


def node_of(
    log: RaftLog | None = None, first: Configuration = ABC, name: str = "a", term: int = 0
) -> RaftNode:
    """A node whose election timer runs out after 1.5 times the least time."""
    node = RaftNode(
        name, log or RaftLog(), term, 0, [(0, first)], lambda low, high: (low + high) / 2, 0
    )
    for other in sorted(first.members - {name}):
        node.connected(other, 0)
    return node


def leading(log: RaftLog, now_ms: float = 1_500) -> RaftNode:
    """Node a, elected in A1, with its term entry committed."""
    node = node_of(log)
    node.tick(now_ms)
    node.received("b", node.term, VoteResponse(True, 0, 0, pre=True), now_ms)
    log.take(node.received("b", node.term, VoteResponse(True, 0, 0), now_ms))
    log.durable_lsn = 1
    node.written()
    node.durable(now_ms)
    node.received("b", node.term, Ack(1, 1, 0), now_ms)
    assert node.role == "leader"
    assert node.committed_lsn == 1
    return node


def sends(effects: list[Effect], kind: type) -> list[tuple[str, object]]:
    """Messages of a kind, by target."""
    return [(e.node, e.body) for e in effects if isinstance(e, Send) and isinstance(e.body, kind)]


# ---- votes ----


def test_a_vote_is_durable_before_it_is_given() -> None:
    effects = node_of().received("b", B1, VoteRequest(0, 0), 2_000)
    assert effects == [PersistTerm(B1), Send("b", VoteResponse(True, 0, 0))]


def test_a_vote_is_remembered_by_its_term() -> None:
    """Whoever opens the log again has the vote: lower terms get an answer that says so."""
    (lower, first), (higher, second) = sorted([(B1, "b"), (C1, "c")])
    node = node_of(term=higher)
    assert node.received(first, lower, VoteRequest(0, 0), 2_000) == [Send(first, Ack(0, 0, 0))]
    again = node.received(second, higher, VoteRequest(0, 0), 2_000)
    assert again == [Send(second, VoteResponse(True, 0, 0))]


def test_nobody_is_voted_for_in_the_term_of_another() -> None:
    node = node_of()
    effects = node.received("c", B1, VoteRequest(0, 0), 2_000)
    assert effects == [Refuse("c", f"term {B1} is not one of c")]
    assert node.term == 0


def test_a_term_has_one_leader_when_two_ask_for_votes_at_once() -> None:
    """All three campaign; every message arrives, in every order of the voters."""
    nodes = {name: node_of(name=name) for name in "abc"}
    led: dict[int, set[str]] = {}
    posts = [
        (name, node.term, effect) for name, node in nodes.items() for effect in node.campaign(2_000)
    ]
    for _ in range(10):
        arriving, posts = posts, []
        for source, term, effect in arriving:
            if not isinstance(effect, Send):
                continue
            target = nodes[effect.node]
            answers = target.received(source, term, effect.body, 2_000)  # type: ignore[arg-type]
            posts += [(effect.node, target.term, answer) for answer in answers]
            for answer in answers:
                if isinstance(answer, RoleChanged) and answer.role == "leader":
                    led.setdefault(answer.term, set()).add(effect.node)
    assert led
    assert all(len(names) == 1 for names in led.values())


def test_a_node_without_a_configuration_gives_no_vote() -> None:
    node = node_of(first=Configuration(), name="d")
    effects = node.received("a", A1, VoteRequest(9, 0), 2_000)
    assert effects == [PersistTerm(A1), Send("a", VoteResponse(False, 0, 0))]
    assert node.next_deadline_ms is None, "nor does it campaign"
    assert node.tick(1e9) == []


def test_a_question_changes_nothing() -> None:
    log = RaftLog([A1])
    node = node_of(log, term=A1)
    node.tick(0)
    due_ms = node.next_deadline_ms
    for last, granted in (((1, A1), True), ((0, 0), False)):
        effects = node.received("b", A1, VoteRequest(*last, pre=True), 1_200)
        assert effects == [Send("b", VoteResponse(granted, 1, A1, pre=True))]
    assert (node.term, node.next_deadline_ms) == (A1, due_ms)


def test_answers_to_another_question_elect_nobody() -> None:
    node = node_of()
    node.tick(1_500)
    assert node.asking
    node.received("b", 0, VoteResponse(True, 0, 0), 1_500)  # a vote, and no answer to the question
    assert (node.asking, node.term, node.role) == (True, 0, "follower")
    node.received("b", 0, VoteResponse(True, 0, 0, pre=True), 1_500)
    node.received("c", node.term, VoteResponse(True, 0, 0, pre=True), 1_500)
    assert node.campaigning, "an answer, and no vote"


def test_a_question_that_is_refused_is_over() -> None:
    node = node_of()
    node.tick(1_500)
    for name in "bc":
        node.received(name, 0, VoteResponse(False, 5, 0, pre=True), 1_500)
    assert not node.asking
    assert node.term == 0


def test_votes_that_are_refused_elect_nobody() -> None:
    node = node_of()
    node.campaign(1_500)
    effects = [
        e for name in "bc" for e in node.received(name, node.term, VoteResponse(False, 5, 0), 1_500)
    ]
    (failed,) = effects
    assert isinstance(failed, VoteFailed)
    assert set(failed.reasons) == {"b", "c"}
    assert (node.campaigning, node.role, node.term) == (False, "follower", A1)


def test_a_node_that_does_not_lead_has_nothing_to_resign() -> None:
    assert node_of().resign(0) == []


def test_who_connects_later_is_asked_too() -> None:
    node = node_of()
    for name in "bc":
        node.disconnected(name)
    assert node.tick(1_500) == []
    assert sends(node.connected("b", 1_600), VoteRequest) == [("b", VoteRequest(0, 0, pre=True))]


@pytest.mark.parametrize("since_ms", [0, 500, ELECTION_MS - 1])
def test_who_hears_a_leader_votes_for_nobody(since_ms: float) -> None:
    node = node_of()
    node.received("b", B1, Confirm(1), 0)
    higher = next_term(B1, "c")
    for request in (VoteRequest(9, 9), VoteRequest(9, 9, pre=True)):
        assert node.received("c", higher, request, since_ms) == []
    assert node.term == B1
    handed_over = node.received("c", higher, VoteRequest(9, 9, transfer=True), since_ms)
    assert handed_over[0] == PersistTerm(higher)


def test_who_has_not_heard_it_for_an_election_timeout_votes() -> None:
    node = node_of()
    node.received("b", B1, Confirm(1), 0)
    higher = next_term(B1, "c")
    assert node.received("c", higher, VoteRequest(9, 9), ELECTION_MS)[0] == PersistTerm(higher)


def test_only_the_leader_asks_a_node_to_lead() -> None:
    node = node_of()
    node.received("b", B1, Confirm(1), 0)
    assert node.received("c", B1, TimeoutNow(), 0) == []
    effects = node.received("b", B1, TimeoutNow(), 0)
    assert sends(effects, VoteRequest) == [
        (name, VoteRequest(0, 0, transfer=True)) for name in "bc"
    ]
    node.received("b", node.term, VoteResponse(False, 0, 0), 0)
    later = node.tick(3_000)
    assert sends(later, VoteRequest)[0][1] == VoteRequest(0, 0, pre=True), "only that once"


def test_a_learner_does_not_lead_when_it_is_asked_to() -> None:
    node = node_of(first=Configuration(frozenset("bc"), frozenset("a")))
    node.received("b", B1, Confirm(1), 0)
    assert node.received("b", B1, TimeoutNow(), 0) == []


def test_election_timeouts_are_random() -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    node = RaftNode("a", RaftLog(), 0, 0, [(0, ABC)], uniform, 0)
    assert drawn == [(ELECTION_MS, 2 * ELECTION_MS)]
    node.received("b", B1, Confirm(1), 10)
    assert (len(drawn), node.next_deadline_ms) == (2, 10 + 2 * ELECTION_MS)
    higher = next_term(B1, "c")
    node.received("c", higher, VoteRequest(0, 0), 5_000)
    assert (len(drawn), node.next_deadline_ms) == (3, 5_000 + 2 * ELECTION_MS)
    node.tick(5_000 + 2 * ELECTION_MS)
    assert len(drawn) == 4
    node.campaign(9_000)
    assert (len(drawn), node.next_deadline_ms) == (5, 9_000 + 2 * ELECTION_MS)


def test_a_campaign_that_takes_too_long_is_given_up_and_the_node_asks_again() -> None:
    node = node_of()
    node.campaign(1_500)
    effects = node.tick(3_000)
    (failed,) = [effect for effect in effects if isinstance(effect, VoteFailed)]
    assert failed.reasons == {"b": "no answer yet", "c": "no answer yet"}
    assert (node.campaigning, node.asking, node.term) == (False, True, A1)
    node.received("b", A1, VoteResponse(True, 0, 0), 3_000)
    assert node.role == "follower", "too late"


# ---- leading ----


def test_the_others_hear_of_a_leader_before_its_disk_works() -> None:
    node = node_of()
    node.campaign(1_500)
    effects = node.received("b", node.term, VoteResponse(True, 0, 0), 1_500)
    begins = effects.index(AppendTermEntry(node.term))
    assert {node for node, _ in sends(effects[:begins], Confirm)} == {"b", "c"}


def test_a_follower_confirms_whatever_its_disk_does() -> None:
    node = node_of(RaftLog([B1] * 9, durable_lsn=0), term=B1)
    assert sends(node.received("b", B1, Confirm(7), 0), Confirmed) == [("b", Confirmed(7))]


def test_a_leader_that_hears_no_quorum_resigns_in_its_term() -> None:
    node = leading(RaftLog())
    node.received("c", node.term, Confirmed(1), 2_000)
    assert node.tick(2_999)
    assert node.role == "leader"
    effects = node.tick(3_000)
    assert RoleChanged("follower", node.term, None) in effects
    assert (node.role, node.term) == ("follower", A1)


def test_rounds_of_the_future_confirm_nothing() -> None:
    node = leading(RaftLog())
    node.tick(1_600)
    node.read(1, 1_600)
    for number in (1_000_000, 1, 0):
        effects = node.received("b", node.term, Confirmed(number), 1_600)
        assert not [e for e in effects if isinstance(e, ReadReady)]


def test_a_read_waits_for_a_round_that_begins_after_it() -> None:
    """An answer that is on its way says nothing about now."""
    node = leading(RaftLog())
    node.received("b", node.term, Confirmed(1), 1_500)
    assert sends(node.read(1, 1_600), Confirm)[0] == ("b", Confirm(2))
    assert node.read(2, 1_601) == []
    effects = node.received("b", node.term, Confirmed(2), 1_602)
    assert effects[0] == ReadReady(1, 1)
    assert sends(effects[1:], Confirm) == [("b", Confirm(3)), ("c", Confirm(3))]
    assert node.received("b", node.term, Confirmed(3), 1_603) == [ReadReady(2, 1)]


def test_reads_are_bounded() -> None:
    node = leading(RaftLog())
    for number in range(READS_MAX):
        node.read(number, 1_500)
    assert node.read(READS_MAX, 1_500) == [
        ReadRefused(READS_MAX, f"{READS_MAX} reads wait already")
    ]
    ended = node.resign(1_500)
    assert sum(isinstance(effect, ReadRefused) for effect in ended) == READS_MAX


def test_every_read_is_answered_once() -> None:
    """Also when rounds are repeated, answered twice, or answered by one node only."""
    node, now_ms = leading(RaftLog()), 1_600.0
    answered: list[int] = []
    for number in range(50):
        now_ms += 30
        effects = node.read(number, now_ms) + node.tick(now_ms)
        for _, body in sends(effects, Confirm)[:: 1 + number % 2]:
            assert isinstance(body, Confirm)
            for _ in range(2):
                effects += node.received("b", node.term, Confirmed(body.round), now_ms)
        answered += [effect.read_id for effect in effects if isinstance(effect, ReadReady)]
    now_ms += 200
    for _, body in sends(node.tick(now_ms), Confirm):
        assert isinstance(body, Confirm)
        effects = node.received("c", node.term, Confirmed(body.round), now_ms)
        answered += [effect.read_id for effect in effects if isinstance(effect, ReadReady)]
    assert answered == list(range(50))


# ---- membership ----


def with_configuration(prev: tuple[int, int], configuration: Configuration) -> Batch:
    """One entry, which is a configuration."""
    plain = batch(prev, [B1])
    found = ((prev[0] + 1, configuration.encode()),)
    return Batch(
        plain.prev_lsn, plain.prev_term, 0, plain.runs, plain.last_lsn, configurations=found
    )


def test_a_configuration_is_in_force_when_it_is_written() -> None:
    log = RaftLog()
    node = node_of(log)
    more = Configuration(frozenset("abcd"), outgoing=frozenset("abc"))
    log.take(node.received("b", B1, with_configuration((0, 0), more), 0))
    assert (node.configuration, node.configuration_lsn) == (more, 1)
    asked = sends(node.tick(9_000), VoteRequest)
    assert [name for name, _ in asked] == ["b", "c"], "d is not connected"
    assert sends(node.connected("d", 9_000), VoteRequest)


def test_a_configuration_that_the_disk_refused_is_not_in_force() -> None:
    node = node_of()
    alone = Configuration(frozenset("a"))
    node.received("b", B1, with_configuration((0, 0), alone), 0)  # and nothing is appended
    node.tick(1)
    assert (node.configuration, node.configuration_lsn) == (ABC, 0)
    node.tick(9_000)
    assert (node.role, node.asking) == ("follower", True), "it does not elect itself"


def test_a_configuration_that_the_disk_refused_comes_again() -> None:
    log = RaftLog()
    node = node_of(log)
    more = Configuration(frozenset("ab"), outgoing=frozenset("abc"))
    arriving = with_configuration((0, 0), more)
    node.received("b", B1, arriving, 0)
    log.take(node.received("b", B1, arriving, 1))
    assert (node.configuration, node.configuration_lsn) == (more, 1)


def test_one_configuration_may_take_the_place_of_another_at_its_lsn() -> None:
    log = RaftLog()
    node = node_of(log)
    one = Configuration(frozenset("abc"), frozenset("d"))
    other = Configuration(frozenset("abc"), frozenset("e"))
    log.take(node.received("b", B1, with_configuration((0, 0), one), 0))
    term = next_term(max(B1, C1), "c")
    runs = batch((0, 0), [term])
    replacing = Batch(0, 0, 0, runs.runs, 1, configurations=((1, other.encode()),))
    log.take(node.received("c", term, replacing, 0))
    assert (node.configuration, node.configuration_lsn) == (other, 1)


@pytest.mark.parametrize("payload", [b"", b"\x02\0", b"\x01\0", b"\x01\x01\x01\x09a"])
def test_bytes_that_are_no_configuration_are_refused(payload: bytes) -> None:
    node = node_of()
    plain = batch((0, 0), [B1])
    bad = Batch(0, 0, 0, plain.runs, 1, configurations=((1, payload),))
    for body in (bad, SnapshotPart(1, B1, 0, 4, b"data", payload)):
        (effect,) = node.received("b", B1, body, 0)
        assert isinstance(effect, Refuse)
    assert node.term == 0


def test_a_change_that_the_disk_refused_can_be_asked_for_again() -> None:
    log = RaftLog()
    node = leading(log)
    assert isinstance(node.change(set("ab"), set(), 1_600)[0], AppendConfiguration)
    assert isinstance(node.change(set("ac"), set(), 1_600)[0], ChangeRefused)
    assert node.configured(0, 1_600) == []
    assert isinstance(node.change(set("ac"), set(), 1_600)[0], AppendConfiguration)


def test_what_was_accepted_is_handed_over_and_not_only_what_is_written() -> None:
    """The leader's disk works, and what users have appended meanwhile waits for it."""
    log = RaftLog(accepted=1)
    node = leading(log)
    lead = [("b", TimeoutNow())]
    assert node.transfer("b", 1_600) == [HoldAppends(True)]
    assert sends(node.held(1_600), TimeoutNow) == []
    log.terms.append(node.term)
    log.accepted = 0
    node.written()
    assert sends(node.received("b", node.term, Ack(2, 2, 0), 1_600), TimeoutNow) == lead
    assert node.received("b", node.term, TimeoutNow(), 1_600) == [], "it is about to lead"


def test_a_stalled_disk_s_leader_hands_over_what_is_written() -> None:
    """What is not would never be."""
    log = RaftLog()
    node = leading(log)
    log.terms.append(node.term)
    log.accepted = 1
    node.written()
    for now_ms in range(1_600, 5_600, 500):
        node.received("c", node.term, Ack(2, 2, 0), now_ms)
        effects = node.tick(now_ms)
        if sends(effects, TimeoutNow):
            break
    assert HoldAppends(True) in effects
    assert sends(effects, TimeoutNow) == [("c", TimeoutNow())]


def test_what_there_is_no_such_membership_for_is_refused() -> None:
    node = leading(RaftLog())
    assert node.change(set(), set(), 1_600) == [ChangeRefused("a cluster needs a voter")]
    assert node.transfer("d", 1_600) == [TransferFailed("d", "d is no other voter")]


def test_an_unknown_leader_is_asked_again_on_a_new_connection() -> None:
    """A leader that the log does not know yet is one all the same."""
    log = RaftLog()
    node = node_of(log, first=Configuration(), name="d")
    (_, _, asked) = node.received("a", A1, batch((5, A1), []), 0)
    farther = batch((6, A1), [A1])
    assert node.received("a", A1, farther, 0) == [], "it has asked"
    node.connected("x", 10)
    assert node.received("a", A1, farther, 10) == []
    node.connected("a", 10)
    assert node.received("a", A1, farther, 10) == [asked], "what it had asked for is lost"


def test_a_leader_may_be_the_newcomer_itself() -> None:
    """It was removed, is to vote again, and is elected by the only voter, having all entries."""
    log = RaftLog([B1, B1], durable_lsn=2)
    back = Configuration(frozenset("b"), frozenset("a"), target=frozenset("ab"))
    known = [(0, Configuration(frozenset("ab"))), (1, Configuration(frozenset("b"))), (2, back)]
    node = RaftNode("a", log, B1, 0, known, lambda low, high: low, 0)
    node.connected("b", 0)
    node.tick(ELECTION_MS)
    node.received("b", B1, VoteResponse(True, 2, B1, pre=True), ELECTION_MS)
    log.take(node.received("b", node.term, VoteResponse(True, 2, B1), ELECTION_MS))
    log.durable_lsn = 3
    effects = node.received("b", node.term, Ack(3, 3, 0), ELECTION_MS)
    joint = Configuration(frozenset("ab"), outgoing=frozenset("b"))
    assert effects[-1] == AppendConfiguration(joint.encode())


def removing(log: RaftLog, there: bool = True) -> RaftNode:
    """A leader that has written the entry that removes c, which has the one before and may be gone
    by then."""
    node = leading(log)
    node.change(set("ab"), set(), 1_600)
    log.terms.append(node.term)
    log.durable_lsn = 2
    node.configured(2, 1_600)
    (leave,) = [
        e
        for name in "bc"
        for e in node.received(name, node.term, Ack(2, 2, 0), 1_600)
        if isinstance(e, AppendConfiguration)
    ]
    assert leave.payload == Configuration(frozenset("ab")).encode()
    if not there:
        node.disconnected("c")
    log.terms.append(node.term)
    node.configured(3, 1_600)
    return node


def test_a_removed_node_is_fed_until_it_knows_that_it_is() -> None:
    log = RaftLog()
    node = removing(log)
    log.durable_lsn = 3
    node.durable(1_600)
    assert node.progress("c") is not None
    node.received("c", node.term, Ack(3, 3, 0), 1_610)
    assert node.committed_lsn == 2, "and not counted"
    assert not sends(node.tick(1_700), Confirm)[1:]
    node.received("b", node.term, Ack(3, 3, 0), 1_700)
    assert node.committed_lsn == 3
    assert node.progress("c") is not None
    told = node.tick(1_800)
    assert "c" in {name for name, body in sends(told, WalEntry)}
    assert node.progress("c") is None
    assert not [e for e in node.tick(2_000) if isinstance(e, Send) and e.node == "c"]


@pytest.mark.parametrize("before", [False, True])
def test_a_removed_node_that_is_not_there_is_not_fed(before: bool) -> None:
    node = removing(RaftLog(), there=not before)
    if not before:
        node.disconnected("c")
    assert node.progress("c") is None
    node.connected("c", 1_700)
    assert node.progress("c") is None


def test_what_a_removed_node_was_fed_is_lost_with_its_connection() -> None:
    """Also where the end of the older one was not told: if it is added again, it is fed anew."""
    node = removing(RaftLog())
    assert node.progress("c") is not None
    node.connected("c", 1_700)
    assert node.progress("c") is None


def test_a_removed_node_is_not_listened_to() -> None:
    node = removing(RaftLog())
    assert node.received("c", next_term(node.term, "c"), Ack(0, 0, 0), 1_700) == []
    assert node.role == "leader"
