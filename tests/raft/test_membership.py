"""Memberships: every change there can be in small clusters, and the bytes of one."""

from __future__ import annotations

from itertools import combinations, pairwise, permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.replication.test_quorum import subsets
from walstore.raft.errors import ConfigurationError
from walstore.raft.history import History
from walstore.raft.membership import MEMBERS_MAX, Configuration, decode_configuration
from walstore.replication.message import is_node_id
from walstore.replication.requests import is_client_id
from walstore.replication.terms import term_bits

ABC = frozenset("abc")


def roles(nodes: str) -> list[tuple[frozenset[str], frozenset[str]]]:
    """Every way for nodes to be a voter, a learner, or nothing."""
    ways = []
    for kinds in product(range(3), repeat=len(nodes)):
        voters = frozenset(n for n, kind in zip(nodes, kinds, strict=True) if kind == 1)
        learners = frozenset(n for n, kind in zip(nodes, kinds, strict=True) if kind == 2)
        ways.append((voters, learners))
    return ways


def steps(configuration: Configuration) -> list[Configuration]:
    """How a change goes on by itself."""
    found = [configuration]
    while found[-1].target or found[-1].joint:
        last = found[-1]
        found.append(last.leave() if last.joint else last.promote())
    return found


def test_every_change_gets_where_it_should_and_no_step_splits_the_cluster() -> None:
    """Each quorum of a step meets each quorum of the next; that is what keeps one leader."""
    cases = 0
    for (voters, learners), (to_vote, to_learn) in product(roles("abcd"), roles("abcd")):
        if not voters or not to_vote:
            continue
        before = Configuration(voters, learners)
        course = [before, *steps(before.change(to_vote, to_learn))]
        assert course[-1] == Configuration(to_vote, to_learn)
        assert len(course) <= 4
        assert all(step.outcome == (to_vote, to_learn) for step in course[1:])
        for one, other in pairwise(course):
            one.check()
            nodes = one.members | other.members
            enough = [some for some in subsets(nodes) if one.quorum.elected(some)]
            beside = [some for some in subsets(nodes) if other.quorum.elected(some)]
            assert all(a & b for a, b in product(enough, beside))
        cases += 1
    assert cases == 65 * 65


def pending(nodes: str) -> list[Configuration]:
    """Every configuration in which some wait to vote."""
    found = {
        Configuration(voters, learners).change(to_vote, to_learn)
        for (voters, learners), (to_vote, to_learn) in product(roles(nodes), roles(nodes))
        if voters and to_vote
    }
    return [item for item in found if item.newcomers]


def test_taking_a_newcomer_back_takes_no_vote() -> None:
    """What waited for it is abandoned; the others that are to vote still are."""
    cases = 0
    for before in pending("abcd"):
        for node, stays in product(sorted(before.newcomers), (False, True)):
            learner = {node} if stays else set[str]()
            voters, learners = before.wished(
                lambda old, others, node=node, learner=learner: (  # type: ignore[misc]
                    old - {node},
                    others - {node} | learner,
                )
            )
            assert voters == before.voters | before.target - {node}
            assert (node in learners) == stays
            course = steps(before.change(voters, learners))
            assert all(step.voters >= before.voters for step in course)
            assert course[0].newcomers == before.newcomers - {node}
            cases += 1
    assert cases > 500


def test_what_takes_no_newcomer_back_is_wished_of_those_to_come() -> None:
    """Also where one is replaced: another node is to come in its place."""
    cases = 0
    for before in pending("abcd"):
        others = before.learners - before.target
        for node in sorted({*"abcd"} - before.newcomers):
            removed = before.wished(lambda old, learn, node=node: (old - {node}, learn - {node}))  # type: ignore[misc]
            assert removed == (before.target - {node}, others - {node})
        for node in sorted(before.newcomers):
            replaced = before.wished(
                lambda old, learn, node=node: (old - {node} | {"e"}, learn - {node})  # type: ignore[misc]
            )
            assert replaced == (before.target - {node} | {"e"}, others)
        cases += 1
    assert cases > 200


def test_replacing_a_newcomer_by_another_one_takes_it_back() -> None:
    """Which of them takes whose place is not known: no voter leaves for it."""
    cases = 0
    for before in pending("abcd"):
        for old, new in permutations(sorted(before.newcomers), 2):
            voters, learners = before.wished(
                lambda votes, learn, old=old, new=new: (votes - {old} | {new}, learn - {old, new})  # type: ignore[misc]
            )
            assert voters == before.voters | before.target - {old}
            assert old not in learners
            cases += 1
    assert cases > 100


def test_a_replacement_that_is_taken_back_leaves_the_old_voter() -> None:
    step = Configuration(ABC).change(frozenset("abe"))
    assert (step.newcomers, step.leaving) == (frozenset("e"), frozenset("c"))
    assert step.wished(lambda old, others: (old - {"e"}, others - {"e"})) == (ABC, frozenset())
    assert Configuration(ABC).leaving == frozenset()


def test_a_new_voter_learns_first_and_leaves_nobody_out_meanwhile() -> None:
    step = Configuration(ABC).change(frozenset("bcd"))
    assert step == Configuration(ABC, frozenset("d"), target=frozenset("bcd"))
    assert step.newcomers == {"d"}
    joint = step.promote()
    assert joint == Configuration(frozenset("bcd"), outgoing=ABC)
    assert joint.leave() == Configuration(frozenset("bcd"))


def test_a_demoted_voter_learns_only_when_it_is_none() -> None:
    joint = Configuration(ABC).change(frozenset("ab"), frozenset("c"))
    assert joint.quorum.nodes == ABC
    assert joint.leave() == Configuration(frozenset("ab"), frozenset("c"))


def test_the_same_again_is_one_entry() -> None:
    assert Configuration(ABC).change(ABC) == Configuration(ABC)


def test_learners_come_in_one_step() -> None:
    assert Configuration(ABC).change(ABC, {"d"}) == Configuration(ABC, frozenset("d"))


def colliding() -> tuple[str, str]:
    seen: dict[int, str] = {}
    for number in range(10_000):
        name = f"node-{number}"
        other = seen.setdefault(term_bits(name), name)
        if other != name:
            return other, name
    raise AssertionError("no two ids share 16 bits")


@pytest.mark.parametrize(
    ("voters", "learners", "reason"),
    [
        (set(), set(), "needs a voter"),
        (set(), {"a"}, "needs a voter"),
        ({"a", "b"}, {"b"}, "both vote and only learn"),
        ({"a", ""}, set(), "cannot be a node's id"),
        ({"a"}, {"x" * 65}, "cannot be a node's id"),
        ({"a", "client:x"}, set(), "cannot be a node's id"),
        ({f"n{i}" for i in range(MEMBERS_MAX + 1)}, set(), "nodes; at most 63"),
        ({"a"}, set(colliding()), "would own the same terms"),
    ],
)
def test_what_cannot_be_is_refused(voters: set[str], learners: set[str], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        Configuration(frozenset("a")).change(voters, learners)
    assert reason in caught.value.reason


def test_nothing_is_changed_in_a_joint_configuration() -> None:
    joint = Configuration(frozenset("ab"), outgoing=ABC)
    with pytest.raises(ConfigurationError, match="under way"):
        joint.change(ABC)


ids = st.text(min_size=1, max_size=64).filter(
    lambda name: is_node_id(name) and not is_client_id(name)
)


@given(st.dictionaries(ids, st.integers(0, 7), max_size=8), ids)
def test_bytes_come_back(drawn: dict[str, int], voter: str) -> None:
    kinds = [frozenset(n for n, role in drawn.items() if role >> bit & 1) for bit in range(3)]
    configuration = Configuration(kinds[0] | {voter}, kinds[1], kinds[2])
    target = Configuration(kinds[0] | {voter}, kinds[1], target=kinds[2])
    for item in (configuration, target):
        try:
            item.check()
        except ConfigurationError as error:
            assert "own the same terms" in error.reason  # noqa: PT017
        else:
            assert decode_configuration(item.encode()) == item


def test_other_bytes_are_refused() -> None:
    """Every byte changed in every way, every length: refused, or another valid membership."""
    payload = Configuration(frozenset("ab"), frozenset("é"), target=frozenset("aé")).encode()
    refused = 0
    bad = [payload[:size] for size in range(len(payload))] + [payload + b"\0"]
    for at, value in product(range(len(payload)), range(256)):
        bad.append(payload[:at] + bytes([value]) + payload[at + 1 :])
    for item in bad:
        try:
            assert decode_configuration(item).encode() == item
        except ConfigurationError:
            refused += 1
    assert len(bad) > 2_000
    assert refused > 0.7 * len(bad)


def test_the_last_configuration_of_the_log_is_in_force() -> None:
    one, two, three = (Configuration(frozenset(names)) for names in ("a", "ab", "abc"))
    history = History([(0, one)])
    history.note(3, two)
    history.note(7, three)
    assert (history.current, history.lsn) == (three, 7)
    history.cut(7)
    assert history.lsn == 7
    history.cut(6)
    assert (history.current, history.lsn) == (two, 3)
    history.committed(2)
    history.cut(2)
    assert (history.current, history.lsn) == (one, 0)
    history.note(3, two)
    history.committed(3)
    assert (history.current, history.lsn) == (two, 3)
    assert history.voters() == {"a", "b"}
    history.note(5, one)
    assert history.voters() == {"a", "b"}, "what was before the last may be in force again"
    history.committed(4)
    assert history.voters() == {"a", "b"}
    history.committed(5)
    assert history.voters() == {"a"}
    history.restart(9, three)
    assert (history.current, history.lsn) == (three, 9)


def test_every_pair_of_nodes_is_compared() -> None:
    first, second = colliding()
    for nodes in combinations([first, second, "a", "b"], 3):
        configuration = Configuration(frozenset(nodes))
        if {first, second} <= set(nodes):
            with pytest.raises(ConfigurationError):
                configuration.check()
        else:
            configuration.check()
