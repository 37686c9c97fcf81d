"""What changes are, as a stream shows them: made from operations, kept for a while, named."""

from __future__ import annotations

import pytest

from walstore.docstore import QueryError
from walstore.docstore.changes import ResumeToken, shown
from walstore.docstore.history import Applied, History
from walstore.docstore.record import Delete, Operation, Put
from walstore.docstore.state import Change, State
from walstore.docstore.values import key_of

LOG_ID = "0123456789abcdef" * 2


def applied(lsn: int, size_bytes: int = 10) -> Applied:
    return Applied(lsn, [Change("p", "things", key_of(lsn), None, {"_id": lsn})], size_bytes)


def state_of(*operations: Operation) -> State:
    state = State()
    for change in state.changes_of(operations):
        state.apply(change)
    return state


def test_operations_of_one_transaction_follow_each_other() -> None:
    """What the log says of one document twice: the second is what the first made of it."""
    state = state_of(Put("things", {"_id": 1, "a": 1}), Put("things", {"_id": 2}))
    operations: list[Operation] = [
        Put("things", {"_id": 1, "a": 2}),
        Delete("things", 1),
        Put("things", {"_id": 1, "a": 3}),
        Put("others", {"_id": 1}),
        Put("things", {"_id": 1, "a": 4}),
        Delete("things", 2),
    ]
    made = [(change.old, change.new) for change in state.changes_of(operations)]
    assert made == [
        ({"_id": 1, "a": 1}, {"_id": 1, "a": 2}),
        ({"_id": 1, "a": 2}, None),
        (None, {"_id": 1, "a": 3}),
        (None, {"_id": 1}),
        ({"_id": 1, "a": 3}, {"_id": 1, "a": 4}),
        ({"_id": 2}, None),
    ]


def test_what_is_shown_of_a_transaction() -> None:
    changes = [
        Change("p", "things", key_of(1), None, {"_id": 1, "list": [1]}),
        Change("p", "others", key_of(2), {"_id": 2}, {"_id": 2, "a": 1}),
        Change("d", "things", key_of(3), {"_id": 3}),
    ]
    one = Applied(7, changes, 100)
    all_of_it = list(shown(one, LOG_ID, 5, 0, None))
    assert [
        (change.operation, change.collection, change.document_id, change.before, change.after)
        for change in all_of_it
    ] == [
        ("insert", "things", 1, None, {"_id": 1, "list": [1]}),
        ("update", "others", 2, {"_id": 2}, {"_id": 2, "a": 1}),
        ("delete", "things", 3, {"_id": 3}, None),
    ]
    assert [(change.lsn, change.position, change.count) for change in all_of_it] == [
        (7, 0, 3),
        (7, 1, 3),
        (7, 2, 3),
    ]
    assert [ResumeToken.parsed(change.token) for change in all_of_it] == [
        (LOG_ID, 7, 5, position, 3) for position in range(3)
    ]
    assert [ResumeToken.parsed(change.token).ends for change in all_of_it] == [False, False, True]
    assert list(shown(one, LOG_ID, 5, 1, None)) == all_of_it[1:]
    assert list(shown(one, LOG_ID, 5, 0, "things")) == [all_of_it[0], all_of_it[2]]
    (inserted,) = shown(one._replace(changes=changes[:1]), LOG_ID, 5, 0, None)
    assert inserted.after is not None
    inserted.after["list"].append(2)
    assert changes[0].new == {"_id": 1, "list": [1]}, "what is handed out is a copy"


def test_indexes_are_not_shown_and_a_drop_is_one_change() -> None:
    assert list(shown(Applied(1, [Change("i", "things")], 1), LOG_ID, 1, 0, None)) == []
    assert list(shown(Applied(1, [Change("x", "things")], 1), LOG_ID, 1, 0, None)) == []
    (dropped,) = shown(Applied(1, [Change("c", "things")], 1), LOG_ID, 1, 0, "things")
    assert (dropped.operation, dropped.document_id) == ("drop", None)
    assert (dropped.before, dropped.after) == (None, None)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", 5, None, b"a.1.1.0.1", f"{LOG_ID}.1.1.0", f"{LOG_ID}.1.1.0.1.1"),
        *(f"{LOG_ID}.0.1.0.1", f"{LOG_ID}.1.1.1.1", f"{LOG_ID}.-1.1.0.1", f"{LOG_ID}.1.1.x.1"),
        ".1.1.0.1",
    ],
    ids=repr,
)
def test_what_is_no_token(text: object) -> None:
    with pytest.raises(QueryError, match="is not the token of a change"):
        ResumeToken.parsed(text)


def test_the_history_holds_the_last_and_says_where_it_begins() -> None:
    history = History(4, bytes_max=30)
    for lsn in (5, 7, 8):
        history.note(applied(lsn))
    assert history.begin_lsn == 4
    assert [history.ended_at(lsn) for lsn in range(5, 9)] == [
        applied(5),
        None,
        applied(7),
        applied(8),
    ]
    history.note(Applied(9, [], 1000))  # a void one takes nothing
    assert history.begin_lsn == 4
    history.note(applied(10))
    assert (history.begin_lsn, history.ended_at(5)) == (5, None)
    history.note(applied(11, 1000))
    assert history.begin_lsn == 10, "the last one stays, whatever its size"
    assert history.ended_at(11) == applied(11, 1000)
    history.note(applied(12))
    assert (history.begin_lsn, history.ended_at(12)) == (11, applied(12))


def test_what_documents_were_counts() -> None:
    """A deletion is a small entry, and keeps a whole document."""
    history = History(0, bytes_max=5000)
    for lsn in range(1, 20):
        old = {"_id": lsn, "pad": "x" * 1000}
        history.note(Applied(lsn, [Change("d", "things", key_of(lsn), old)], 10))
    assert history.begin_lsn == 15
    assert [lsn for lsn in range(16, 20) if history.ended_at(lsn)] == [16, 17, 18, 19]
