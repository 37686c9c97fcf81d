"""What a follower makes of messages that hold records, and of the parts of large batches."""

from __future__ import annotations

import pytest

from tests.native.twin import Record
from tests.wal.replicas import SEED, records_of
from walstore.replication.errors import MessageError
from walstore.replication.message import WalEntry
from walstore.replication.receiving import Joiner, records_from

PREV_LSN, PREV_TERM = 9, 1
RECORD = Record(PREV_LSN + 1, 2, payload=bytes(range(250)))
DATA = bytes(records_of(RECORD, prev_term=PREV_TERM).data)


def part(data: bytes, prev_lsn: int = PREV_LSN, *, more: bool = False) -> WalEntry:
    return WalEntry(prev_lsn, PREV_TERM, PREV_LSN, SEED, data, more=more)


def takes_all(joiner: Joiner, term: int) -> bool:
    """Whether what comes in two parts is there, once both are."""
    assert joiner.batch("a", term, part(DATA[:100], more=True)) is None
    batch = joiner.batch("a", term, part(DATA[100:]))
    return batch is not None and bytes(records_from(batch, PREV_LSN + 1).data) == DATA


def test_parts_are_joined_whatever_sign_of_life_comes_amid_them() -> None:
    joiner = Joiner()
    assert joiner.batch("a", 2, part(DATA[:100], more=True)) is None
    sign = joiner.batch("a", 2, part(b"", PREV_LSN + 5))
    assert sign is not None
    assert sign.data is None
    batch = joiner.batch("a", 2, part(DATA[100:]))
    assert batch is not None
    assert batch.last_lsn == PREV_LSN + 1


def test_parts_of_two_batches_do_not_belong_together() -> None:
    joiner = Joiner()
    joiner.batch("a", 2, part(DATA[:100], more=True))
    with pytest.raises(MessageError):
        joiner.batch("a", 2, part(DATA[100:], PREV_LSN - 1))
    assert takes_all(Joiner(), 2)


def test_a_connection_that_is_gone_leaves_no_part_behind() -> None:
    joiner = Joiner()
    joiner.batch("a", 2, part(b"of a batch", PREV_LSN - 1, more=True))
    joiner.forget("a")
    assert takes_all(joiner, 2)


@pytest.mark.parametrize("sign", [True, False])
def test_a_leadership_that_ended_amid_a_batch_leaves_no_part_behind(sign: bool) -> None:
    """Its node leads again, on the same connection; other nodes' parts stay."""
    joiner = Joiner()
    joiner.batch("b", 2, part(DATA[:100], more=True))
    joiner.batch("a", 2, part(b"of a batch", PREV_LSN - 1, more=True))
    if sign:
        joiner.batch("a", 3, part(b""))
        assert list(joiner._parts) == ["b"]
    assert takes_all(joiner, 3)
    assert joiner.batch("b", 2, part(DATA[100:])) is not None
