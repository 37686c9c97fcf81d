"""Entries: their bytes, and which of them count."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from walstore import UnsupportedFormatError, WALEntry
from walstore.docstore.errors import InvalidDocumentError
from walstore.docstore.record import (
    CHAINED,
    KIND,
    Delete,
    Put,
    decode_record,
    encode_records,
    encoded_operation,
)
from walstore.docstore.replay import Step, Steps
from walstore.limits import DOCUMENT_BYTES_MAX, TRANSACTION_PART_BYTES_MAX


def test_a_large_transaction_takes_several_entries() -> None:
    part = b"x" * (TRANSACTION_PART_BYTES_MAX // 4)
    operations = [encoded_operation("p", "things", {"_id": at, "a": part}) for at in range(9)]
    payloads = encode_records(3, operations)
    records = [decode_record("log", 1, payload) for payload in payloads]
    assert [(record.previous, record.more) for record in records] == [
        (3, True),
        (CHAINED, True),
        (CHAINED, False),
    ]
    puts = [operation for record in records for operation in record.operations]
    ids = [put.document["_id"] for put in puts if isinstance(put, Put)]
    assert ids == list(range(9))


def test_a_document_that_is_too_large() -> None:
    with pytest.raises(InvalidDocumentError, match=r"takes 167772\d\d bytes, more than 16777216"):
        encoded_operation("p", "things", {"_id": 1, "a": b"x" * DOCUMENT_BYTES_MAX})
    encoded_operation("p", "things", {"_id": 1, "a": b"x" * (DOCUMENT_BYTES_MAX - 100)})


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (b"", "entry 5"),
        (b"hello", "entry 5"),
        (msgspec.msgpack.encode([1, 2, False]), "entry 5"),
        (msgspec.msgpack.encode([2, 0, False, []]), "document format 2"),
        (msgspec.msgpack.encode([1, 0, False, [["q", "things"]]]), "entry 5 .*'q'"),
        (msgspec.msgpack.encode([1, 0, False, [["p", "things", {"a": 1}]]]), "without an _id"),
        (msgspec.msgpack.encode([1, 0, False, [["d", "things", 1, 2]]]), "entry 5"),
        (msgspec.msgpack.encode([1, 0, False, [["i", "things", "n", [["a", 2]], True]]]), "5"),
        (msgspec.msgpack.encode([1, 0, False, [["d", "t", msgspec.msgpack.Ext(7, b"")]]]), "ext"),
    ],
)
def test_an_entry_that_is_not_known(payload: bytes, what: str) -> None:
    with pytest.raises(UnsupportedFormatError, match=what):
        decode_record("log", 5, payload)


class Log:
    """Entries, as a log would have them."""

    def __init__(self) -> None:
        self.entries: list[WALEntry] = []

    def add(self, previous: int, what: str, *, more: bool = False, kind: int = KIND) -> int:
        lsn = len(self.entries) + 1
        payload = msgspec.msgpack.encode([1, previous, more, [["d", "things", what]]])
        self.entries.append(WALEntry(lsn, 1, 0, kind, payload))
        return lsn

    def counted(self, from_lsn: int = 1, state_lsn: int = 0) -> list[Any]:
        steps = Steps("log", state_lsn)
        done = map(steps.take, self.entries[from_lsn - 1 :])
        return [_shown(step) for step in done if step is not None]


def _shown(step: Step) -> Any:
    deletes = step.operations
    ids = deletes and "".join(each.id for each in deletes if isinstance(each, Delete))
    return step.first_lsn, step.last_lsn, step.state_lsn, ids


def test_entries_count_when_nothing_came_between() -> None:
    log = Log()
    log.add(0, "a")
    log.add(CHAINED, "b")
    log.add(2, "c")
    log.add(2, "void")  # computed before c
    log.add(CHAINED, "void, too")
    log.add(3, "d")
    assert log.counted() == [
        (1, 1, 1, "a"),
        (2, 2, 2, "b"),
        (3, 3, 3, "c"),
        (4, 4, 3, None),
        (5, 5, 3, None),
        (6, 6, 6, "d"),
    ]
    assert log.counted(4, 3) == log.counted()[3:], "wherever one begins"


def test_entries_of_others_do_not_come_between() -> None:
    log = Log()
    log.add(0, "x", kind=65535)  # a leadership begins
    log.add(0, "a")
    log.add(0, "x", kind=1)
    log.add(2, "b")
    assert log.counted() == [(1, 1, 0, None), (2, 2, 2, "a"), (3, 3, 2, None), (4, 4, 4, "b")]


def test_the_first_entry_does_not_count_as_chained() -> None:
    log = Log()
    log.add(0, "x", kind=65535)
    log.add(CHAINED, "void")
    assert log.counted() == [(1, 1, 0, None), (2, 2, 0, None)]


def test_a_transaction_of_several_entries_is_one_step() -> None:
    log = Log()
    log.add(0, "a", more=True)
    log.add(CHAINED, "b", more=True)
    log.add(CHAINED, "c")
    log.add(3, "d")
    assert log.counted() == [(1, 3, 3, "abc"), (4, 4, 4, "d")]
    void = Log()
    void.add(0, "a")
    void.add(0, "b", more=True)
    void.add(CHAINED, "c")
    assert void.counted() == [(1, 1, 1, "a"), (2, 2, 1, None), (3, 3, 1, None)]


def test_a_transaction_without_its_end_is_left_out() -> None:
    log = Log()
    log.add(0, "a")
    log.add(1, "b", more=True)
    assert log.counted() == [(1, 1, 1, "a")]
    log.add(1, "void")  # of who has not seen the part
    log.add(2, "c", more=True)
    log.add(CHAINED, "d")
    log.add(5, "e")
    rest = [(3, 3, 2, None), (4, 5, 5, "cd"), (6, 6, 6, "e")]
    assert log.counted() == [(1, 1, 1, "a"), *rest]
    assert log.counted(3, 2) == rest, "wherever one begins"
