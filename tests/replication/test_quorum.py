"""Majorities against brute force: all votes and all lsns of small clusters."""

from __future__ import annotations

from collections.abc import Iterator, Set
from itertools import combinations, product

import pytest

from walstore.replication.quorum import Quorum


def subsets(nodes: Set[str]) -> Iterator[frozenset[str]]:
    for size in range(len(nodes) + 1):
        yield from map(frozenset, combinations(sorted(nodes), size))


def halves(most: int) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
    """Voters and outgoing voters that overlap in every way, up to so many of each."""
    for first, second in product(range(1, most + 1), range(most + 1)):
        for common in range(min(first, second) + 1):
            voters = frozenset("abcde"[:first])
            outgoing = frozenset("abcde"[:common] + "vwxyz"[: second - common])
            yield voters, outgoing


def is_majority(some: Set[str], voters: frozenset[str]) -> bool:
    return 2 * len(some & voters) > len(voters)


def is_enough(some: Set[str], voters: frozenset[str], outgoing: frozenset[str]) -> bool:
    return is_majority(some, voters) and (not outgoing or is_majority(some, outgoing))


def test_votes_by_brute_force() -> None:
    """Every vector of yes, no and nothing, up to five voters and five outgoing ones."""
    cases = 0
    for voters, outgoing in halves(5):
        quorum, nodes = Quorum(voters, outgoing), voters | outgoing
        assert quorum.nodes == nodes
        for some in subsets(nodes):
            assert quorum.elected(some | {"stranger"}) == is_enough(some, voters, outgoing)
            assert quorum.rejected(some) == (not is_enough(nodes - some, voters, outgoing))
            assert not (quorum.elected(some) and quorum.rejected(nodes - some))
            cases += 1
    assert cases == 7_296


def test_two_quorums_of_one_configuration_meet() -> None:
    for voters, outgoing in halves(3):
        quorum = Quorum(voters, outgoing)
        enough = [some for some in subsets(voters | outgoing) if quorum.elected(some)]
        assert enough
        assert all(one & other for one, other in product(enough, enough))


def test_a_joint_quorum_meets_those_of_both_its_halves() -> None:
    for voters, outgoing in halves(3):
        if not outgoing:
            continue
        nodes = voters | outgoing
        joint = [some for some in subsets(nodes) if Quorum(voters, outgoing).elected(some)]
        for half in (voters, outgoing):
            simple = [some for some in subsets(nodes) if Quorum(half).elected(some)]
            assert all(one & other for one, other in product(joint, simple))


def test_agreement_by_brute_force() -> None:
    """The highest value for which those who have it are enough."""
    cases = 0
    for voters, outgoing in halves(3):
        quorum, nodes = Quorum(voters, outgoing), sorted(voters | outgoing)
        for vector in product(range(3), repeat=len(nodes)):
            values = {node: value for node, value in zip(nodes, vector, strict=True) if value}
            expected = max(
                value
                for value in range(3)
                if is_enough({n for n in nodes if values.get(n, 0) >= value}, voters, outgoing)
            )
            assert quorum.agreed(values, 0) == expected
            cases += 1
    assert cases > 1_000


def test_agreement_never_falls_when_a_value_rises() -> None:
    for voters, outgoing in halves(2):
        quorum, nodes = Quorum(voters, outgoing), sorted(voters | outgoing)
        for vector in product(range(3), repeat=len(nodes)):
            values = dict(zip(nodes, vector, strict=True))
            for node in nodes:
                raised = values | {node: values[node] + 1}
                assert quorum.agreed(raised, 0) >= quorum.agreed(values, 0)


def test_two_voters_are_both_needed() -> None:
    quorum = Quorum(frozenset("ab"))
    assert quorum.rejected({"a"})
    assert not quorum.elected({"a"})
    assert quorum.agreed({"a": 5, "b": 3}, 0) == 3


def test_what_the_leader_does_not_hold_is_not_committed() -> None:
    quorum = Quorum(frozenset("abc"))
    assert quorum.reached({"a": 3, "b": 5, "c": 5}, "a") == 3
    assert quorum.reached({"x": 9, "b": 5, "c": 4}, "x") == 4, "no voter, so not counted"


@pytest.mark.parametrize("outgoing", ["", "ab"])
def test_nobody_is_never_enough(outgoing: str) -> None:
    quorum = Quorum(frozenset(), frozenset(outgoing))
    assert not quorum.elected({"a", "b"})
    assert quorum.rejected(frozenset())
    assert quorum.agreed({"a": 3, "b": 3}, 0) == 0
    assert quorum.agreed({}, -1.0) == -1.0
