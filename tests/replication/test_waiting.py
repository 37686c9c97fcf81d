"""Waiting for acks: every waiter is settled once, whoever gave up meanwhile."""

from __future__ import annotations

from concurrent.futures import Future

from walstore.replication.waiting import Waiters


def test_who_gave_up_while_the_others_were_looked_at_harms_nobody() -> None:
    waiters, reached = Waiters(), 0
    first, second, third = Future[None](), Future[None](), Future[None]()

    def gives_up_meanwhile() -> int:
        second.cancel()
        return reached

    waiters.add(1, lambda: reached, first)
    waiters.add(1, gives_up_meanwhile, second)
    waiters.add(2, lambda: reached, third)
    reached = 1
    waiters.look()
    assert [first.done(), second.cancelled(), third.done()] == [True, True, False]
    reached = 2
    waiters.look()
    assert [third.done(), bool(waiters)] == [True, False]
