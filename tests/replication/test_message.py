"""The codec: what goes out comes back, and nothing else is taken."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walstore import WALEntry
from walstore.limits import PAYLOAD_BYTES_MAX
from walstore.replication import CloseCode, MessageError, MessageType, ReplicationMessage
from walstore.replication import message as codec
from walstore.replication.message import (
    MESSAGE_BYTES_MAX,
    Ack,
    Body,
    Entries,
    Hello,
    decode,
    encode,
    is_node_id,
)

HEADER_BYTES = 60

names = st.text(min_size=1, max_size=16).filter(is_node_id)
u63 = st.integers(0, (1 << 63) - 1)
u64 = st.integers(0, (1 << 64) - 1)


@st.composite
def batches(draw: Any) -> Entries:
    first_lsn = draw(st.integers(1, 1 << 62))
    term = draw(st.integers(1, 1 << 40))
    entries = []
    for lsn in range(first_lsn, first_lsn + draw(st.integers(1, 8))):
        term += draw(st.integers(0, 2))
        kind, payload = draw(st.integers(1, 0xFFFF)), draw(st.binary(max_size=64))
        entries.append(WALEntry(lsn, term, draw(u64), kind, payload))
    return Entries(tuple(entries))


bodies: st.SearchStrategy[Body] = st.one_of(
    st.builds(Hello, u63, u63), st.builds(Ack, u63), batches()
)
messages = st.builds(
    ReplicationMessage,
    source=names,
    target=st.one_of(st.just(""), names),
    message_id=u64,
    term=u63,
    timestamp_ns=u64,
    log_id=st.binary(min_size=16, max_size=16),
    body=bodies,
)

BATCH = Entries(
    (
        WALEntry(7, 2, 1_700_000_000_000_000_000, 1, b"seven"),
        WALEntry(8, 3, 1_700_000_000_000_000_001, 9, b""),
        WALEntry(9, 3, 0, 0xFFFF, b"nine" * 5),
    )
)
SAMPLES = [
    ReplicationMessage("F", "L", 1, 2, 3, bytes(range(16)), body)
    for body in (Hello(9, 3), BATCH, Ack(9))
]


def sealed(frame: bytes) -> bytes:
    """The frame with its checksum put right: what a hostile peer, not a bad line, would send."""
    head, tail = frame[:8], frame[16:]
    return head + struct.pack("<Q", codec._checksum(head, tail)) + tail


def refusal(frame: bytes) -> str:
    with pytest.raises(MessageError) as caught:
        decode(frame)
    assert caught.value.code == CloseCode.BAD_MESSAGE
    return caught.value.reason


@given(messages)
def test_round_trip(message: ReplicationMessage) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize("message", SAMPLES, ids=lambda m: m.type.name)
def test_every_change_of_a_byte_is_refused(message: ReplicationMessage) -> None:
    frame = encode(message)
    for at in range(len(frame)):
        for value in range(256):
            if value != frame[at]:
                refusal(frame[:at] + bytes([value]) + frame[at + 1 :])


@pytest.mark.parametrize("message", SAMPLES, ids=lambda m: m.type.name)
def test_every_cut_and_every_surplus_is_refused(message: ReplicationMessage) -> None:
    frame = encode(message)
    for size in range(len(frame)):
        refusal(frame[:size])
        if size > 16:
            refusal(sealed(frame[:size]))
    refusal(frame + b"\0")
    refusal(sealed(frame + b"\0"))
    refusal(frame + frame)


@given(st.binary(max_size=300))
def test_noise_is_refused(data: bytes) -> None:
    refusal(data)


@settings(max_examples=1000)
@given(messages, st.data())
def test_a_mutated_message_with_a_good_checksum_is_one_or_is_refused(
    message: ReplicationMessage, data: st.DataObject
) -> None:
    frame = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(6, len(frame) - 1))] = data.draw(st.integers(0, 255))
    crafted = sealed(bytes(frame))
    try:
        decoded = decode(crafted)
    except MessageError:
        return
    assert encode(decoded) == crafted


def test_an_unknown_version_is_named() -> None:
    frame = bytearray(encode(SAMPLES[0]))
    frame[4] = 2
    assert refusal(sealed(bytes(frame))) == "protocol version 2; this node speaks 1"


@pytest.mark.parametrize("number", [0, len(MessageType) + 1, 255])
def test_an_unknown_type_is_named(number: int) -> None:
    frame = bytearray(encode(SAMPLES[0]))
    frame[6] = number
    assert refusal(sealed(bytes(frame))) == f"message type {number} is not known"


def test_too_large_is_refused_before_it_is_looked_at() -> None:
    with pytest.raises(MessageError, match="at most 100 are taken") as caught:
        decode(bytes(101), bytes_max=100)
    assert caught.value.code == CloseCode.TOO_BIG


def test_the_largest_entry_fits() -> None:
    entry = WALEntry(1, 1, 1, 1, bytes(PAYLOAD_BYTES_MAX))
    frame = encode(replace(SAMPLES[1], body=Entries((entry,))))
    assert len(frame) <= MESSAGE_BYTES_MAX
    assert decode(frame).body == Entries((entry,))


def with_batch(header: tuple[int, int, int], rows: list[tuple[int, ...]], rest: bytes) -> bytes:
    body = struct.pack("<QII", *header) + b"".join(struct.pack("<QQIHH", *row) for row in rows)
    start = encode(SAMPLES[1])[: HEADER_BYTES + 2]
    return sealed(start + body + rest)


@pytest.mark.parametrize(
    ("header", "rows", "rest", "reason"),
    [
        ((1, 0, 0), [], b"", "a batch without entries"),
        ((1, 1, 1), [(1, 0, 0, 1, 0)], b"", "a batch without entries"),
        ((1, 0xFFFFFFFF, 0), [(1, 0, 0, 1, 0)], b"", "a batch shorter than its entries"),
        ((0, 1, 0), [(1, 0, 0, 1, 0)], b"", "a batch beyond every lsn"),
        (((1 << 63) - 1, 1, 0), [(1, 0, 0, 1, 0)], b"", "a batch beyond every lsn"),
        ((1, 1, 0), [(1, 0, PAYLOAD_BYTES_MAX + 1, 1, 0)], b"", "a payload beyond the maximum"),
        ((1, 1, 0), [(1, 0, 5, 1, 0)], b"four", "a batch shorter than its payloads"),
        ((1, 1, 0), [(1, 0, 4, 1, 0)], b"four+", "a batch longer than its payloads"),
        ((1, 1, 0), [(1, 0, 0, 0, 0)], b"", "an entry with a field no leader sends"),
        ((1, 1, 0), [(1, 0, 0, 1, 1)], b"", "an entry with a field no leader sends"),
        ((1, 1, 0), [(0, 0, 0, 1, 0)], b"", "an entry beyond every term"),
        ((1, 1, 0), [(1 << 63, 0, 0, 1, 0)], b"", "an entry beyond every term"),
        ((1, 2, 0), [(2, 0, 0, 1, 0), (1, 0, 0, 1, 0)], b"", "entries whose terms go back"),
    ],
)
def test_a_crafted_batch_is_refused(
    header: tuple[int, int, int], rows: list[tuple[int, ...]], rest: bytes, reason: str
) -> None:
    assert refusal(with_batch(header, rows, rest)) == reason


def test_node_ids() -> None:
    assert is_node_id("knoten-1 ü")
    assert is_node_id("x" * 64)
    for name in ("", "x" * 65, "ü" * 33, "a\nb", "a\0", "\x1b[2J"):
        assert not is_node_id(name)


def test_a_node_id_of_control_characters_is_refused() -> None:
    frame = bytearray(encode(SAMPLES[0]))
    frame[HEADER_BYTES] = 0x1B
    assert refusal(sealed(bytes(frame))) == "a node id that cannot be one"
    frame[HEADER_BYTES] = 0xFF
    assert refusal(sealed(bytes(frame))) == "a node id that is not UTF-8"
