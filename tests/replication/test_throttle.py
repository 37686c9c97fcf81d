"""How fast followers may catch up."""

from __future__ import annotations

import pytest

from walstore.replication.throttle import Throttle

MIB = 1 << 20


def sent(throttle: Throttle, *, size: int, seconds: float, appended_per_s: int = 0) -> int:
    """How many bytes go out in so many seconds to who asks for more whenever it may."""
    total, now_s = 0, 100.0
    while now_s < 100 + seconds:
        now_s += throttle.take(size, round((now_s - 99) * appended_per_s), now_s) or 0.0001
        total += size
    return total


@pytest.mark.parametrize("size", [1000, 200_000, 4 * MIB])
@pytest.mark.parametrize("appended_per_s", [0, MIB, 500 * MIB])
def test_a_bound_holds_whatever_is_appended(size: int, appended_per_s: int) -> None:
    rate = 7 * MIB
    total = sent(Throttle(rate), size=size, seconds=60, appended_per_s=appended_per_s)
    assert 0.98 * rate * 60 <= total <= 1.01 * rate * 60 + size


@pytest.mark.parametrize("size", [200_000, MIB])
@pytest.mark.parametrize("appended_per_s", [1000, 10 * MIB, 500 * MIB])
def test_beside_appends_there_is_a_bound_that_grows_with_them(
    size: int, appended_per_s: int
) -> None:
    rate = 64 * MIB + 2 * appended_per_s
    total = sent(Throttle(None), size=size, seconds=20, appended_per_s=appended_per_s)
    assert 0.9 * rate * 20 <= total <= 1.01 * rate * 20 + 2 * size


def test_without_appends_nothing_waits() -> None:
    throttle = Throttle(None)
    assert throttle.take(100 * MIB, 5000, 100.0) == 0
    assert throttle.take(100 * MIB, 5000, 100.5) > 1, "something was appended half a second ago"
    waits = [throttle.take(100 * MIB, 5000, 101.5 + i / 1000) for i in range(100)]
    assert set(waits) == {0.0}


def test_quiet_times_save_nothing_up() -> None:
    throttle = Throttle(MIB)
    throttle.take(1, 0, 100.0)
    assert throttle.take(MIB, 0, 1000.0) == 0
    assert 0.9 < throttle.take(1, 0, 1000.0) < 1
