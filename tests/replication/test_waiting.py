"""Waiting for acks: every waiter is settled once, whoever gave up meanwhile."""

from __future__ import annotations

import pytest

from walstore import ClosedLogError
from walstore.replication.waiting import Waiters


def test_who_gave_up_while_the_others_were_looked_at_harms_nobody() -> None:
    waiters, reached = Waiters(), 0

    def gives_up_meanwhile() -> int:
        second.cancel()
        return reached

    first = waiters.add(1, lambda: reached)
    second = waiters.add(1, gives_up_meanwhile)
    third = waiters.add(2, lambda: reached)
    reached = 1
    waiters.look()
    assert [first.done(), second.cancelled(), third.done()] == [True, True, False]
    reached = 2
    waiters.look()
    assert [third.done(), bool(waiters)] == [True, False]


def test_who_comes_while_the_others_are_looked_at_is_kept() -> None:
    waiters = Waiters()
    later = []

    def another_comes() -> int:
        later.append(waiters.add(2, lambda: 2))
        return 0

    first = waiters.add(1, another_comes)
    waiters.look()
    assert not first.done()
    assert not later[0].done()
    waiters.look()
    assert later[0].done()


def test_who_comes_too_late_is_told_at_once() -> None:
    """A node is closed between an append and the wait for it."""
    waiters = Waiters()
    early = waiters.add(1, lambda: 0)
    waiters.fail(ClosedLogError("it is closed"))
    late = waiters.add(1, lambda: 0)
    waiters.look()
    for future in (early, late):
        with pytest.raises(ClosedLogError, match="it is closed"):
            future.result(0)
