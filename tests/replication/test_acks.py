"""Rules of acks: `reached` against its definition, for every small vector."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from walstore import OptionError
from walstore.replication.acks import Acks, AcksOption, majority, parse_acks


def holds(value: AcksOption, nodes: frozenset[str], lsns: dict[str, int], lsn: int) -> bool:
    """Whether enough nodes have an lsn, said as the documentation says it."""
    holders = {node for node in nodes if lsns.get(node, 0) >= lsn}
    if "a" not in holders:
        return False
    if isinstance(value, frozenset):
        return value <= holders
    if value == "quorum":
        return 2 * len(holders) > len(nodes)
    needed = {"async": 1, "all": len(nodes)}.get(str(value), value)
    assert isinstance(needed, int)
    return len(holders) >= needed


def test_reached_for_all_small_clusters() -> None:
    vectors = 0
    for size in range(1, 5):
        nodes = frozenset("abcd"[:size])
        names = [frozenset(c) for n in range(1, size + 1) for c in combinations(sorted(nodes), n)]
        options: list[AcksOption] = ["async", "quorum", "all", *range(1, size + 1), *names]
        for value in options:
            acks = parse_acks(value, nodes)
            for vector in product(range(4), repeat=size):
                lsns = dict(zip(sorted(nodes), vector, strict=True))
                expected = max(n for n in range(4) if n == 0 or holds(value, nodes, lsns, n))
                assert acks.reached(lsns, "a") == expected, (value, lsns)
                vectors += 1
    print(f"{vectors} vectors")
    assert vectors > 5_000


def test_a_node_nothing_is_known_of_holds_nothing() -> None:
    assert Acks(2).reached({"a": 5}, "a") == 0
    assert Acks(1, frozenset("b")).reached({"a": 5}, "a") == 0
    assert Acks(1).reached({}, "a") == 0


def test_majorities_meet() -> None:
    for size in range(1, 9):
        assert 2 * majority(size) > size
        assert 2 * (majority(size) - 1) <= size


@pytest.mark.parametrize(
    "value", [0, 4, -1, True, "most", "", frozenset(), frozenset("x"), 1.5, None]
)
def test_what_makes_no_sense_is_refused(value: AcksOption) -> None:
    with pytest.raises(OptionError):
        parse_acks(value, frozenset("abc"))
