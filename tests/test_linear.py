"""The checker of histories, itself checked."""

from __future__ import annotations

import math
import random
from itertools import permutations

import pytest

from tests.linear import Operation, check
from tests.seeds import seed_from


def write(value: int, began: float, ended: float = math.inf, key: str = "k") -> Operation:
    return Operation("write", key, value, began, ended)


def read(value: int | None, began: float, ended: float = math.inf, key: str = "k") -> Operation:
    return Operation("read", key, value, began, ended)


GOOD = {
    "nothing": [],
    "one after the other": [read(None, 0, 1), write(1, 2, 3), read(1, 4, 5)],
    "a read beside a write sees either": [write(1, 0, 9), read(None, 1, 2), read(1, 3, 4)],
    "writes beside each other come in any order": [
        write(1, 0, 9), write(2, 0, 9), read(2, 10, 11), read(2, 12, 13),
    ],
    "an unknown write happens late": [write(1, 0, 1), write(2, 2), read(1, 3, 4), read(2, 9, 10)],
    "an unknown write never happens": [write(1, 0, 1), write(2, 2), read(1, 3, 4), read(1, 9, 10)],
    "a read that did not return": [write(1, 0, 1), read(7, 2)],
    "keys are apart": [write(1, 0, 1), read(None, 2, 3, key="other"), write(1, 4, 5, key="other")],
}  # fmt: skip
BAD = {
    "a stale read": [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)],
    "a lost write": [write(1, 0, 1), read(None, 2, 3)],
    "back and forth": [write(1, 0, 9), read(1, 1, 2), read(None, 3, 4)],
    "two orders": [
        write(1, 0, 1), write(2, 0, 1), read(1, 2, 3), read(2, 4, 5), read(1, 6, 7),
    ],
    "out of nothing": [write(1, 0, 1), read(2, 2, 3)],
    "from the future": [read(1, 0, 1), write(1, 2, 3)],
    "an unknown write comes and goes": [
        write(1, 0, 1), write(2, 2), read(2, 3, 4), read(1, 5, 6),
    ],
    "between two sightings of another": [
        write(1, 0, 1), read(1, 2, 3), write(2, 4, 5), read(1, 6, 7),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_good(name: str) -> None:
    assert check(GOOD[name]) == []


@pytest.mark.parametrize("name", BAD)
def test_bad(name: str) -> None:
    (problem,) = check(BAD[name])
    assert problem.startswith("key k: ")


def test_values_are_written_once() -> None:
    with pytest.raises(ValueError, match="written twice"):
        check([write(1, 0, 1), write(1, 2, 3)])


def linearizable(operations: list[Operation]) -> bool:
    """Tries all orders, and all subsets of writes whose outcome is unknown."""
    unknown = [each for each in operations if each.ended == math.inf]
    for chosen in range(1 << len(unknown)):
        dropped = {id(each) for bit, each in enumerate(unknown) if not chosen >> bit & 1}
        kept = [each for each in operations if id(each) not in dropped]
        if any(is_legal(order) for order in permutations(kept)):
            return True
    return False


def is_legal(order: tuple[Operation, ...]) -> bool:
    value, latest_begin = None, -math.inf
    for operation in order:
        if operation.ended < latest_begin:
            return False  # it had ended before one that stands before it began
        latest_begin = max(latest_begin, operation.began)
        if operation.kind == "write":
            value = operation.value
        elif operation.value != value:
            return False
    return True


def random_history(rng: random.Random) -> list[Operation]:
    times = rng.sample(range(100), 12)
    found: list[Operation] = []
    values: list[int | None] = [None]
    for number in range(rng.randint(1, 6)):
        began, ended = sorted((times.pop(), times.pop()))
        if rng.random() < 0.5:
            found.append(write(number, began, ended if rng.random() < 0.8 else math.inf))
            values.append(number)
        else:
            found.append(read(rng.choice(values), began, ended))
    return found


def test_as_trying_all_orders() -> None:
    number = seed_from("WALSTORE_TEST_SEED")
    print(f"replay with WALSTORE_TEST_SEED={number}")
    rng = random.Random(number)
    counts = {True: 0, False: 0}
    for _ in range(3000):
        history = random_history(rng)
        expected = linearizable(history)
        counts[expected] += 1
        assert (not check(history)) is expected, "\n".join(map(str, history))
    assert min(counts.values()) > 300, counts
