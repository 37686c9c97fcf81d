"""The rules of leader and follower, without a network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from walstore import WALEntry
from walstore.replication import CloseCode, MessageError, RefusedError, ReplicationMessage
from walstore.replication.message import Ack, Body, Entries, Hello, encode
from walstore.replication.protocol import (
    Position,
    Session,
    check_entries,
    check_follower,
    check_leader,
)

LOG, OTHER = b"L" * 16, b"O" * 16
LEADER = Position(LOG, term=5, first_lsn=11, last_lsn=20)
FOLLOWER = Position(LOG, term=4, first_lsn=1, last_lsn=15)


def message(body: Body, **changes: Any) -> ReplicationMessage:
    return replace(ReplicationMessage("F", "L", 1, 4, 0, LOG, body), **changes)


def term_of(lsn: int) -> int:
    """On the leader: term 3 up to lsn 15, then 5."""
    return 3 if lsn <= 15 else 5


@pytest.mark.parametrize(("last_lsn", "last_term"), [(10, 3), (15, 3), (16, 5), (20, 5)], ids=str)
def test_a_prefix_of_the_leader_may_follow(last_lsn: int, last_term: int) -> None:
    check_follower(message(Hello(last_lsn, last_term)), LEADER, term_of)


def test_an_empty_log_may_follow_from_the_start() -> None:
    check_follower(message(Hello(0, 0), term=1), replace(LEADER, first_lsn=1), term_of)


@pytest.mark.parametrize(
    ("hello", "code", "reason"),
    [
        (message(Hello(15, 3), log_id=OTHER), CloseCode.OTHER_LOG, f"F holds log {OTHER.hex()}"),
        (message(Hello(15, 3), term=6), CloseCode.STALE_LEADER, "F has seen term 6"),
        (message(Hello(21, 5)), CloseCode.DIVERGED, "F ends at lsn 21, the leader at 20"),
        (message(Hello(9, 3)), CloseCode.BEHIND, "F ends at lsn 9, the leader begins at 11"),
        (message(Hello(0, 0)), CloseCode.BEHIND, "F ends at lsn 0, the leader begins at 11"),
        (message(Hello(16, 3)), CloseCode.DIVERGED, "lsn 16 is of term 3 on F, of term 5"),
        (message(Hello(15, 4)), CloseCode.DIVERGED, "lsn 15 is of term 4 on F, of term 3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_prefix_is_refused(
    hello: ReplicationMessage, code: CloseCode, reason: str
) -> None:
    with pytest.raises(RefusedError, match=reason) as caught:
        check_follower(hello, LEADER, term_of)
    assert caught.value.code == code


def test_a_follower_checks_its_leader() -> None:
    answer = message(Hello(20, 5), source="L", target="F", term=5)
    check_leader(answer, FOLLOWER)
    for changes, code in (
        ({"log_id": OTHER}, CloseCode.OTHER_LOG),
        ({"term": 3}, CloseCode.STALE_LEADER),
    ):
        with pytest.raises(RefusedError) as caught:
            check_leader(replace(answer, **changes), FOLLOWER)
        assert caught.value.code == code


def batch(*entries: tuple[int, int], **changes: Any) -> ReplicationMessage:
    made = tuple(WALEntry(lsn, term, 0, 1, b"") for lsn, term in entries)
    return message(Entries(made), **({"term": 5} | changes))


def test_the_next_entries_are_taken() -> None:
    assert len(check_entries(batch((16, 4), (17, 5)), FOLLOWER).entries) == 2


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (batch((17, 5)), "lsn 17 where 16 was due"),
        (batch((15, 5), (16, 5)), "lsn 15 where 16 was due"),
        (batch((16, 3)), "an entry of term 3, and term 4 has begun"),
        (batch((16, 6)), "an entry of term 6 from a leader of term 5"),
        (batch((16, 5), log_id=OTHER), "a batch of another log"),
        (message(Ack(3)), "a message of type ACK from a leader"),
    ],
)
def test_other_entries_are_not(wrong: ReplicationMessage, reason: str) -> None:
    with pytest.raises((MessageError, RefusedError), match=reason):
        check_entries(wrong, FOLLOWER)


def test_a_session_counts_and_names() -> None:
    follower, leader = Session("F", "L"), Session("L")
    hello = leader.unpack(follower.pack(Hello(15, 3), FOLLOWER, 7))
    assert (hello.source, hello.target, hello.message_id, hello.term) == ("F", "L", 1, 4)
    answer = follower.unpack(leader.pack(Hello(20, 5), LEADER, 8))
    assert (answer.source, answer.target, answer.timestamp_ns) == ("L", "F", 8)
    assert leader.unpack(follower.pack(Ack(16), FOLLOWER, 9)).message_id == 2


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (message(Ack(1), message_id=1), "message 1 where 2 was due"),
        (message(Ack(1), message_id=3), "message 3 where 2 was due"),
        (message(Hello(0, 0), message_id=2), "a message of type HELLO out of place"),
        (message(Ack(1), message_id=2, source="G"), "a message of G on the connection of F"),
        (message(Ack(1), message_id=2, target="M"), "a message to M, and this is L"),
    ],
)
def test_a_session_refuses_what_is_out_of_place(second: ReplicationMessage, reason: str) -> None:
    session = Session("L")
    session.unpack(encode(message(Hello(0, 0))))
    with pytest.raises(MessageError, match=reason):
        session.unpack(encode(second))


def test_a_session_begins_with_a_hello_of_another_node() -> None:
    with pytest.raises(MessageError, match="ACK out of place"):
        Session("L").unpack(encode(message(Ack(1))))
    with pytest.raises(MessageError, match="two nodes are called L"):
        Session("L").unpack(encode(message(Hello(0, 0), source="L")))
    with pytest.raises(MessageError, match="a message of F on the connection of X"):
        Session("L", "X").unpack(encode(message(Hello(0, 0))))


def test_text_is_refused() -> None:
    with pytest.raises(MessageError) as caught:
        Session("L").unpack("hello")
    assert caught.value.code == CloseCode.NOT_BINARY
