"""When a node that is to lead asks for votes by itself."""

from __future__ import annotations

from walstore.replication.candidacy import Candidacy

from .cores import A1, B2, NODES

TIMEOUT_MS = 300.0


def candidacy() -> Candidacy:
    return Candidacy(True, "a", NODES, TIMEOUT_MS)


def test_it_waits_for_silence_and_for_a_majority() -> None:
    node = candidacy()
    assert not node.is_due(A1, TIMEOUT_MS, 1, {})
    assert not node.is_due(A1, TIMEOUT_MS + 1, 0, {})
    assert node.is_due(A1, TIMEOUT_MS + 1, 1, {})


def test_the_owner_of_the_term_must_have_been_heard_of_in_it() -> None:
    node = candidacy()
    long_ms = 100 * TIMEOUT_MS
    assert not node.is_due(B2, long_ms, 2, {"b": 7, "c": 1})  # the 7 may be of an earlier term
    assert not node.is_due(B2, long_ms, 2, {"b": 7, "c": 9})
    assert node.is_due(B2, long_ms, 2, {"b": 8, "c": 9})


def test_one_that_was_withdrawn_is_not_waited_for() -> None:
    node = candidacy()
    assert not node.wait(0)  # nothing is known yet
    node.settled.set()
    assert node.wait(30)
    node.withdraw()
    assert not node.wait(30)
    assert node.settled.is_set()
