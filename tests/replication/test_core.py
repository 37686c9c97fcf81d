"""The core, one message at a time: terms, votes, commits, acks, and where logs meet."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from walstore.limits import LSN_MAX
from walstore.replication.acks import Stage
from walstore.replication.effects import (
    AppendRecords,
    CutDiverged,
    PersistTerm,
    Refuse,
    Reset,
    Send,
    SendEntries,
    SendSnapshot,
    SetCommitted,
    StopFollowing,
    VoteFailed,
)
from walstore.replication.entries import first_conflict, last_of_term
from walstore.replication.message import (
    Ack,
    Confirm,
    Confirmed,
    SnapshotAck,
    SnapshotPart,
    SyncRequest,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from walstore.replication.terms import next_term, owns_term

from .cores import A1, A2, B2, Log, batch, core_of, kinds, leading


def test_two_nodes_never_choose_one_term() -> None:
    terms = [0, 1, A1, B2, A2]
    chosen = {(next_term(term, name), name) for term, name in product(terms, "abcdefgh")}
    assert len({term for term, _ in chosen}) == len(chosen)
    assert all(owns_term(term, name) for term, name in chosen)
    assert all(next_term(term, "a") > term for term in terms)


def test_a_vote_is_durable_before_it_is_given() -> None:
    effects = core_of(Log()).received("b", B2, VoteRequest(0, 0), 0)
    assert effects == [PersistTerm(B2), Send("b", VoteResponse(True, 0, 0))]


def test_votes_go_to_logs_that_are_not_behind() -> None:
    cases = 0
    for own_term, own_last, term, last in product((1, 2), range(1, 4), (1, 2), range(1, 4)):
        log = Log([1] * (own_last - 1) + [own_term])
        effects = core_of(log).received("b", B2, VoteRequest(last, term), 0)
        assert isinstance(effects[-1], Send)
        answer = effects[-1].body
        assert isinstance(answer, VoteResponse)
        assert answer.granted == (term > own_term or (term == own_term and last >= own_last))
        cases += 1
    assert cases == 36


def test_a_vote_is_not_won_with_what_the_disk_may_refuse() -> None:
    """Nor does the leadership begin where the refused entries would have ended."""
    log = Log([A1, A1, A1], durable_lsn=1)
    core = core_of(log, term=A1)
    core.connected("b", 0)
    assert Send("b", VoteRequest(1, A1)) in core.campaign(0)
    assert core.connected("b", 0) == [Send("b", VoteRequest(1, A1))]
    core.received("b", core.term, VoteResponse(True, 1, A1), 0)
    assert core.role == "leader"
    log.terms = [A1, core.term]
    core.began(2)
    log.durable_lsn = 2
    assert SetCommitted(2) in core.received("b", core.term, Ack(2, 2, 0), 0)


def test_a_damaged_log_votes_as_what_it_was() -> None:
    """For each log that is left, each claim and each candidate."""
    cases = granted = 0
    for left, claim, candidate in product(
        product((1, 2), range(3)), product((1, 2), range(4)), product((1, 2), range(4))
    ):
        core = core_of(Log([left[0]] * left[1], durable_lsn=left[1]))
        core.claim(*claim)
        own = (left[0] if left[1] else 0, left[1])
        effects = core.received("b", B2, VoteRequest(candidate[1], candidate[0]), 0)
        assert isinstance(effects[-1], Send)
        answer = effects[-1].body
        assert isinstance(answer, VoteResponse)
        assert answer.granted == (candidate >= max(own, claim))
        assert (answer.last_term, answer.last_lsn) == max(own, claim)
        assert core.lacks == (claim > own)
        cases, granted = cases + 1, granted + answer.granted
    print(f"cases={cases} granted={granted}")
    assert cases == 384
    assert 100 < granted < 300


def test_a_damaged_log_votes_for_who_led_in_the_claim_s_term() -> None:
    """All that was committed in it is on that node's disk, however much is claimed."""
    last, more = (2, B2), (3, B2)
    for name, end, granted in (
        ("b", last, True),
        ("b", more, True),
        ("b", (1, B2), False),  # behind what is left here
        ("b", (9, A1), False),  # it has nothing of that term: it had been another one's, perhaps
        ("c", more, False),
        ("c", (1, A2), True),
    ):
        core = core_of(Log([A1, B2], durable_lsn=2), term=B2)
        core.claim(B2, LSN_MAX)
        effects = core.received(name, next_term(A2, name), VoteRequest(*end), 0)
        assert isinstance(effects[-1], Send)
        assert isinstance(effects[-1].body, VoteResponse)
        assert effects[-1].body.granted == granted, (name, end)


def test_a_claim_is_fulfilled_by_its_own_leader() -> None:
    """By what that has committed in its own term: what it knows of earlier ones may be old."""
    for left, prev, committed_lsn, whole in (
        ([A1, B2], (2, B2), 1, False),
        ([A1, B2], (2, B2), 2, True),
        ([A1, B2], (2, B2), 3, False),
        ([A1, B2], (1, A1), 2, False),  # that the second one is the leader's is not known
        ([A1], (1, A1), 1, False),
    ):
        core = core_of(Log(left, durable_lsn=len(left)), term=B2, committed_lsn=1)
        core.claim(B2, LSN_MAX)
        core.received("b", B2, batch(prev, [], committed_lsn), 0)
        assert core.lacks == (not whole), (left, prev, committed_lsn)
    core = core_of(Log([A1, B2], durable_lsn=1), term=B2)
    core.claim(B2, LSN_MAX)
    core.received("b", B2, batch((2, B2), [], 2), 0)
    assert core.lacks  # it is not on the disk yet
    core = core_of(Log([A1, B2], durable_lsn=2), term=A2)
    core.claim(B2, LSN_MAX)
    core.received("b", B2, batch((2, B2), [], 2), 0)
    assert core.lacks  # a message of a term that is over


def test_a_damaged_log_is_not_proposed_before_it_is_whole() -> None:
    """On the disk: what is on its way there does not count."""
    log = Log([A1], durable_lsn=1)
    core = core_of(log, term=A1)
    core.connected("b", 0)
    core.claim(A1, 3)
    (failed,) = core.campaign(0)
    assert isinstance(failed, VoteFailed)
    assert "up to 3" in failed.reasons["a"]
    assert core.term == A1
    log.terms += [A1, A1]
    assert core.lacks
    log.durable_lsn = 3
    assert not core.lacks
    assert kinds(core.campaign(0))[0] == "PersistTerm"
    core = core_of(Log(), term=A1)
    core.claim(A1, 3)
    assert "Elected" in kinds(core.campaign(0, force=True))  # a person takes it upon them


def test_a_lower_term_changes_nothing() -> None:
    log = Log([A1], durable_lsn=1)
    core = core_of(log, term=A2)
    for body in (batch((0, 0), [B2]), VoteRequest(9, B2), Ack(1, 1, 1), SyncRequest(0, 0)):
        assert core.received("b", B2, body, 0) == [Send("b", Ack(0, 0, 0))]
        assert core.term == A2


def test_a_leader_steps_down_by_a_higher_term() -> None:
    core = leading(Log())
    higher = next_term(core.term, "b")
    effects = core.received("c", higher, Ack(0, 0, 0), 0)
    assert kinds(effects) == ["PersistTerm", "RoleChanged"]
    assert (core.role, core.term, core.leader_id) == ("follower", higher, None)


def test_only_the_owner_of_a_term_leads_in_it() -> None:
    core = core_of(Log())
    for body in (batch((0, 0), []), VoteRequest(0, 0)):
        assert kinds(core.received("c", B2, body, 0)) == ["Refuse"]
    assert core.term == 0
    assert isinstance(core.received("x", B2, batch((0, 0), []), 0)[0], Refuse)


def test_a_core_that_is_promoted_takes_no_part_in_elections() -> None:
    core = core_of(Log())
    votes = (VoteRequest(0, 0, pre=True), VoteRequest(0, 0, transfer=True))
    for body in (
        *votes,
        VoteResponse(True, 0, 0, pre=True),
        Confirm(1),
        Confirmed(1),
        TimeoutNow(),
    ):
        assert core.received("b", B2, body, 0) == [Refuse("b", "nodes do not elect here")]
    assert core.term == 0


def test_only_entries_of_the_own_term_are_counted() -> None:
    """Figure 8 of the Raft paper: an old entry on a majority is not committed by that."""
    log = Log([A1, A1], durable_lsn=2)
    core = leading(log)
    assert log.last_lsn == 3
    for node in "bc":
        assert not [
            e for e in core.received(node, core.term, Ack(2, 2, 0), 0) if e == SetCommitted(2)
        ]
    assert core.committed_lsn == 0
    log.durable_lsn = 3
    core.durable(0)
    assert SetCommitted(3) in core.received("b", core.term, Ack(3, 3, 0), 0)


def test_received_is_not_durable() -> None:
    log = Log()
    core = leading(log)
    log.durable_lsn = 1
    core.durable(0)
    core.received("b", core.term, Ack(1, 0, 0), 0)
    core.received("c", core.term, Ack(1, 0, 0), 0)
    assert core.committed_lsn == 0
    stages = core.receipt(1).stages
    assert stages == {"a": Stage.DURABLE, "b": Stage.RECEIVED, "c": Stage.RECEIVED}


def test_stages_never_fall() -> None:
    log = Log()
    core = leading(log)
    core.received("b", core.term, Ack(1, 1, 1), 0)
    core.received("b", core.term, Ack(0, 0, 0), 0)
    assert [core.lsns(stage)["b"] for stage in list(Stage)[1:]] == [1, 1, 1]
    core.disconnected("b")
    core.connected("b", 0)
    assert core.lsns(Stage.DURABLE)["b"] == 1


def test_an_ack_of_what_was_never_sent_is_refused() -> None:
    core = leading(Log())
    assert isinstance(core.received("b", core.term, Ack(9, 9, 0), 0)[0], Refuse)
    assert core.lsns(Stage.DURABLE)["b"] == 0


def test_the_window_is_counted() -> None:
    log = Log()
    core = leading(log)
    log.terms += [core.term] * 10_000
    effects = core.received("b", core.term, Ack(0, 0, 0), 0)
    size, sent = 256 << 10, 0
    while effects:
        (send,) = (effect for effect in effects if isinstance(effect, SendEntries))
        effects = core.sent(send, send.from_lsn, size, 0)
        sent += size
    assert sent == 4 << 20
    assert core.received("b", core.term, Ack(1, 0, 0), 0)


def test_what_is_durable_is_asked_of_the_log_and_not_remembered() -> None:
    """The cut tail was durable; what is appended in its place is not."""
    log = Log([A1, A1, A1], durable_lsn=3)
    core = core_of(log, term=A1, committed_lsn=1)
    effects = core.received("b", B2, batch((1, A1), [B2, B2], 3), 0)
    assert [e for e in effects if isinstance(e, CutDiverged)] == [CutDiverged(1, B2)]
    assert SetCommitted(3) not in effects
    assert "Send" not in kinds(effects)
    log.take(effects)
    acks = [e.body for e in core.durable(0) if isinstance(e, Send) and isinstance(e.body, Ack)]
    assert all(ack.durable_lsn <= 1 for ack in acks)
    log.durable_lsn = 3
    assert Send("b", Ack(3, 3, 0)) in core.durable(0)


def test_committed_entries_are_never_cut() -> None:
    log = Log([A1, A1, A1], durable_lsn=3)
    core = core_of(log, term=A1, committed_lsn=2)
    effects = core.received("b", B2, batch((1, A1), [B2]), 0)
    assert isinstance(effects[-1], StopFollowing)
    assert core.stopped
    assert core.received("b", B2, batch((0, 0), []), 0) == []


def test_what_is_committed_here_is_not_taken_to_match() -> None:
    """After a forced promotion the leader may lack it: nothing beyond what it said is acked."""
    core = core_of(Log([A1] * 5, durable_lsn=5), term=A1, committed_lsn=5)
    effects = core.received("b", B2, batch((2, A1), []), 0)
    assert effects[-1] == Send("b", Ack(2, 2, 0))


def test_a_refused_batch_is_asked_for_once() -> None:
    core = core_of(Log())
    first = core.received("b", B2, batch((3, B2), [B2]), 0)
    assert first[-1] == Send("b", SyncRequest(0, 0))
    assert core.received("b", B2, batch((4, B2), [B2]), 0) == []
    assert kinds(core.received("b", B2, batch((0, 0), [B2]), 0)) == ["AppendRecords"]


def test_a_leader_that_has_lost_the_question_is_told_again() -> None:
    """As one that has dropped the node and feeds it anew: it asks at one place again and again."""
    core = core_of(Log())
    question = [Send("b", SyncRequest(0, 0))]
    assert core.received("b", B2, batch((3, B2), []), 0)[-1:] == question
    assert core.received("b", B2, batch((4, B2), []), 0) == []
    assert core.received("b", B2, batch((5, B2), []), 0) == []
    assert core.received("b", B2, batch((5, B2), [B2]), 0) == []
    assert core.received("b", B2, batch((5, B2), []), 0) == []
    assert core.received("b", B2, batch((5, B2), []), 0) == question
    assert core.received("b", B2, batch((6, B2), []), 0) == []


def test_a_follower_that_keeps_nothing_is_given_a_rest() -> None:
    log = Log([A1] * 5, durable_lsn=5)
    core = leading(log)
    assert kinds(core.received("b", core.term, SyncRequest(2, A1), 0)) == ["SendEntries"]
    assert core.received("b", core.term, SyncRequest(2, A1), 10) == []
    assert core.received("b", core.term, SyncRequest(2, A1), 20) == []
    assert not [e for e in core.tick(509) if isinstance(e, Send) and e.node == "b"]
    assert [e for e in core.tick(510) if isinstance(e, Send) and e.node == "b"]


def test_a_node_that_comes_back_without_its_disk_is_not_counted() -> None:
    """Under its old name: what it had acked before is counted no more."""
    log = Log([A1] * 5, durable_lsn=5)
    core = leading(log)
    log.terms += [core.term] * 4
    log.durable_lsn = 10
    core.received("b", core.term, Ack(10, 9, 9), 0)
    assert core.committed_lsn == 9
    core.connected("b", 0)
    core.received("b", core.term, SyncRequest(0, 0), 0)
    stages = (Stage.RECEIVED, Stage.DURABLE, Stage.APPLIED)
    assert [core.lsns(stage)["b"] for stage in stages] == [0, 0, 0]
    assert core.committed_lsn == 9
    core.received("b", core.term, Ack(10, 4, 0), 0)
    assert core.committed_lsn == 9
    core.received("b", core.term, Ack(10, 10, 0), 0)
    assert core.committed_lsn == 10


def test_a_snapshot_takes_the_place_of_the_log() -> None:
    log = Log([A1, A1, A1], durable_lsn=3)
    core = core_of(log, term=A1, committed_lsn=1)
    first = core.received("b", B2, SnapshotPart(9, B2, 0, 8, b"1234"), 0)
    assert kinds(first[-2:]) == ["TakeSnapshotPart", "Send"]
    assert core.received("b", B2, SnapshotPart(9, B2, 6, 8, b"78"), 0) == []
    last = core.received("b", B2, SnapshotPart(9, B2, 4, 8, b"5678"), 0)
    assert last[0] == CutDiverged(1, B2)
    assert last[2:] == [Reset(10, B2, B2), SetCommitted(9), Send("b", SnapshotAck(9, 8))]


def test_a_follower_behind_the_log_gets_a_snapshot() -> None:
    log = Log([A1] * 5, first_lsn=100, prev_term=A1, durable_lsn=104)
    core = leading(log)
    (send,) = core.received("b", core.term, SyncRequest(0, 0), 0)
    assert isinstance(send, SendSnapshot)
    assert core.snapshot_sent(send, 102, 10, 10) == []
    (entries,) = core.received("b", core.term, SnapshotAck(102, 10), 0)
    assert isinstance(entries, SendEntries)
    assert entries.from_lsn == 103


def test_committed_is_limited_by_what_matches() -> None:
    log = Log([A1, A1, A1], durable_lsn=3)
    effects = core_of(log, term=A1).received("b", B2, batch((1, A1), [], 3), 0)
    assert SetCommitted(1) in effects


LOGS = [
    list(terms)
    for n in range(4)
    for terms in product((1, 2, 3), repeat=n)
    if list(terms) == sorted(terms)
]


def test_searches_against_their_definitions() -> None:
    searches = 0
    for terms in LOGS:
        log = Log(terms)
        for lsn, term in product(range(5), range(5)):
            fits = [at for at in range(min(lsn, log.last_lsn) + 1) if log.term_of(at) <= term]
            assert last_of_term(log, lsn, term) == max(fits, default=None)
            searches += 1
        for other in LOGS:
            sent = batch((0, 0), other)
            differs = [
                at
                for at in range(1, min(len(terms), len(other)) + 1)
                if terms[at - 1] != other[at - 1]
            ]
            assert first_conflict(log, sent) == min(differs, default=None)
            searches += 1
    assert searches > 700


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(LOGS), st.sampled_from(LOGS), st.data())
def test_any_two_logs_become_one(
    leaders: list[int], followers: list[int], data: st.DataObject
) -> None:
    """Figure 7 of the Raft paper, for all small logs: a message that fits makes a prefix of it."""
    log = Log(list(followers), durable_lsn=len(followers))
    core = core_of(log, term=3)
    prev = data.draw(st.integers(0, len(leaders)))
    prev_term = leaders[prev - 1] if prev else 0
    effects = core.received("b", B2, batch((prev, prev_term), leaders[prev:]), 0)
    log.take(effects)
    if log.last_lsn >= prev and log.term_of(prev) == prev_term:
        assert log.terms[prev : len(leaders)] == leaders[prev:]
        assert core.matched_lsn == len(leaders)
        kept = [e for e in effects if isinstance(e, AppendRecords)]
        assert len(kept) <= 1
    else:
        assert isinstance(effects[-1], Send)
        assert isinstance(effects[-1].body, SyncRequest)
        assert log.terms == followers


def test_a_node_of_no_cluster_changes_nothing() -> None:
    core = core_of(Log())
    assert core.connected("stranger", 0) == []
    assert core.campaign(0, force=True)
    assert core.role == "leader"
    assert core.connected("stranger", 0) == []
    assert core.disconnected("stranger") == []
