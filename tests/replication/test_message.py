"""The codec: what goes out comes back, and nothing else is taken."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from tests.helpers import seeded
from walstore.limits import LSN_MAX
from walstore.replication import CloseCode, MessageError, MessageType, ReplicationMessage
from walstore.replication.message import (
    CONTROL_BYTES_MAX,
    MAC_BYTES,
    MESSAGE_BYTES_MAX,
    NO_CLUSTER,
    NODE_ID_BYTES_MAX,
    TERM_MAX,
    Ack,
    Address,
    Addresses,
    Audit,
    Audited,
    Body,
    Challenge,
    Confirm,
    Confirmed,
    Heartbeat,
    Hello,
    Proof,
    Quarantine,
    SnapshotAck,
    SnapshotPart,
    SyncRequest,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
    WalEntry,
    Welcome,
    decode,
    encode,
    is_node_id,
)
from walstore.replication.requests import (
    COMMAND_BYTES_MAX,
    Ask,
    ClientRequest,
    ClientResponse,
    Status,
)

HEADER_BYTES = 60
KEY = bytes(range(32))
MUTATIONS = 100_000

names = st.text(min_size=1, max_size=16).filter(is_node_id)
lsns = st.integers(0, LSN_MAX)
firsts, lasts = st.integers(1, 1 << 40), st.integers(1 << 40, LSN_MAX)
terms = st.integers(0, TERM_MAX)
u32 = st.integers(0, (1 << 32) - 1)
u63 = st.integers(0, (1 << 63) - 1)
u64 = st.integers(0, (1 << 64) - 1)
random_32 = st.binary(min_size=32, max_size=32)
bulk = st.binary(min_size=1, max_size=300)

handshakes: st.SearchStrategy[Body] = st.one_of(
    st.builds(Hello, random_32), st.builds(Challenge, random_32)
)
bodies: st.SearchStrategy[Body] = st.one_of(
    st.builds(Proof, random_32),
    st.builds(Welcome, random_32),
    st.builds(Heartbeat, u64, u64),
    st.builds(SyncRequest, lsns, terms, st.booleans()),
    st.builds(WalEntry, lsns, terms, lsns, u32, bulk, st.booleans(), st.booleans()),
    st.builds(WalEntry, lsns, terms, lsns, u32, st.just(b""), st.just(False), st.booleans()),
    st.builds(Ack, lsns, lsns, lsns),
    st.builds(SnapshotPart, lsns, terms, st.integers(0, 1 << 61), st.just(1 << 62), bulk),
    st.builds(SnapshotAck, lsns, u63),
    st.builds(SnapshotPart, lsns, terms, st.just(7), st.just(1 << 62), st.binary(max_size=9), bulk),
    st.builds(VoteRequest, lsns, terms, st.booleans(), st.booleans()),
    st.builds(VoteResponse, st.booleans(), lsns, terms, st.booleans()),
    st.builds(Confirm, u64),
    st.builds(Confirmed, u64),
    st.just(TimeoutNow()),
    st.builds(ClientRequest, u64, st.sampled_from(Ask), lsns, lsns, lsns, st.binary(max_size=300)),
    st.builds(
        ClientResponse,
        u64,
        st.sampled_from(Status),
        lsns,
        st.one_of(st.just(""), names),
        st.sampled_from(["", "ws://127.0.0.1:7"]),
        st.binary(max_size=300),
    ),
    st.builds(
        Addresses,
        st.lists(
            st.builds(
                Address,
                names,
                st.integers(1, (1 << 63) - 1),
                st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=1024),
            ),
            max_size=3,
        ).map(tuple),
    ),
    st.builds(Audit, firsts, lasts),
    st.builds(Audited, firsts, lasts, u64),
    st.builds(Quarantine, firsts, lasts),
)
cluster_ids = st.binary(min_size=16, max_size=16)
messages = st.one_of(
    st.builds(ReplicationMessage, names, names, u64, terms, u64, cluster_ids, bodies),
    st.builds(
        ReplicationMessage, st.just(""), st.just(""), u64, terms, u64, cluster_ids, handshakes
    ),
)
keys = st.one_of(st.none(), random_32)

SAMPLES = [
    ReplicationMessage("", "", 1, 0, 0, NO_CLUSTER, body)
    for body in (Hello(bytes(32)), Challenge(bytes(range(32))))
] + [
    ReplicationMessage("F", "L", 3, 2, 7, bytes(range(16)), body)
    for body in (
        Proof(bytes(range(32))),
        Welcome(bytes(32)),
        Heartbeat(5, 6),
        SyncRequest(9, 3),
        SyncRequest(9, 3, True),
        WalEntry(9, 3, 7, 1 << 31, b"records" * 5, True, True),
        Ack(9, 8, 7),
        SnapshotPart(9, 3, 100, 200, b"part"),
        SnapshotAck(9, 104),
        VoteRequest(9, 3),
        VoteResponse(True, 9, 3),
        Confirm(4),
        Confirmed(4),
        TimeoutNow(),
        ClientRequest(1, Ask.COMMAND, 9, 2, 1, b"command"),
        ClientResponse(1, Status.NOT_LEADER, 0, "L", "ws://127.0.0.1:7", b"why"),
        Addresses((Address("a", 1, "ws://h:1"), Address("b", 7, "wss://[::1]:65535"))),
        Audit(3, 9),
        Audited(3, 9, (1 << 64) - 1),
        Quarantine(3, 9),
    )
]


def sealed(frame: bytes) -> bytes:
    """The frame with its checksum put right: what a hostile peer, not a bad line, would send."""
    head, tail = frame[:8], frame[16:]
    return head + struct.pack("<Q", xxh3_64_intdigest(tail, int.from_bytes(head, "little"))) + tail


def refusal(frame: bytes, key: bytes | None = None) -> str:
    with pytest.raises(MessageError) as caught:
        decode(frame, key=key)
    assert caught.value.code == CloseCode.BAD_MESSAGE
    return caught.value.reason


@given(messages, keys)
def test_round_trip(message: ReplicationMessage, key: bytes | None) -> None:
    frame = encode(message, key)
    assert decode(frame, key=key) == message
    assert decode(memoryview(bytearray(frame)), key=key) == message
    assert encode(decode(frame, key=key), key) == frame


def test_a_configuration_longer_than_its_message_is_refused() -> None:
    part = SnapshotPart(1, 1, 0, 4, b"data", b"members")
    frame = encode(ReplicationMessage("F", "L", 3, 2, 7, bytes(16), part))
    at = frame.index(b"members") - 8
    for size, zero in ((12, 0), (0, 0), (7, 1)):
        bad = frame[:at] + struct.pack("<II", size, zero) + frame[at + 8 :]
        assert refusal(sealed(bad)) == "no configuration"
    assert refusal(sealed(frame[: at + 4])) == "a SNAPSHOT shorter than its configuration"


@pytest.mark.parametrize(
    ("at", "put", "reason"),
    [
        (8, b"\x06", "a REQUEST for 6, which is not known"),
        (8, b"\x00", "a REQUEST for 0, which is not known"),
        (9, b"\x01", "a REQUEST for 2, which is not known"),
        (23, b"\x80", "a REQUEST beyond every session or sequence"),
        (39, b"\x80", "a REQUEST beyond every session or sequence"),
    ],
)
def test_requests_that_no_client_makes(at: int, put: bytes, reason: str) -> None:
    body = ClientRequest(1, Ask.COMMAND, 9, 2, 1, b"command")
    frame = encode(ReplicationMessage("client:c", "L", 3, 0, 7, bytes(16), body))
    at += HEADER_BYTES + len("client:cL")
    assert refusal(sealed(frame[:at] + put + frame[at + 1 :])) == reason
    assert refusal(sealed(frame[: HEADER_BYTES + 9 + 39])) == "a REQUEST shorter than its fields"


@pytest.mark.parametrize(
    ("at", "put", "reason"),
    [
        (16, b"\x00", "a RESPONSE that no node gives"),
        (16, b"\x0b", "a RESPONSE that no node gives"),
        (15, b"\x80", "a RESPONSE that no node gives"),
        (20, b"\x01", "a RESPONSE that no node gives"),
        (17, b"\xff", "a RESPONSE with names of the wrong size"),
        (19, b"\x03", "a RESPONSE with names of the wrong size"),
        (24, b"\xff", "a name that is not UTF-8"),
        (24, b"\n", "a name that is not printable"),
    ],
)
def test_responses_that_no_node_makes(at: int, put: bytes, reason: str) -> None:
    body = ClientResponse(1, Status.NOT_LEADER, 0, "L", "ws://127.0.0.1:7", b"why")
    frame = encode(ReplicationMessage("L", "client:c", 3, 0, 7, bytes(16), body))
    at += HEADER_BYTES + len("client:cL")
    assert refusal(sealed(frame[:at] + put + frame[at + 1 :])) == reason
    assert refusal(sealed(frame[: HEADER_BYTES + 9 + 23])) == "a RESPONSE shorter than its fields"


def test_a_request_is_bounded() -> None:
    def frame(size: int) -> bytes:
        body = ClientRequest(1, Ask.READ, data=bytes(size))
        return encode(ReplicationMessage("client:c", "L", 3, 0, 7, bytes(16), body))

    assert len(decode(frame(COMMAND_BYTES_MAX)).body.data) == COMMAND_BYTES_MAX  # type: ignore[union-attr]
    assert refusal(frame(COMMAND_BYTES_MAX + 1)).startswith("a REQUEST with 1000001 bytes")


def test_every_type_is_sampled() -> None:
    assert {message.type for message in SAMPLES} == set(MessageType)


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "secret"])
@pytest.mark.parametrize("message", SAMPLES, ids=lambda m: m.type.name)
def test_every_change_of_a_byte_is_refused(message: ReplicationMessage, key: bytes | None) -> None:
    frame = encode(message, key)
    for at in range(len(frame)):
        for bit in range(8):
            refusal(frame[:at] + bytes([frame[at] ^ 1 << bit]) + frame[at + 1 :], key)


@pytest.mark.parametrize("message", SAMPLES, ids=lambda m: m.type.name)
def test_every_cut_and_every_surplus_is_refused(message: ReplicationMessage) -> None:
    frame = encode(message)
    # Its end is nobody's to miss.
    has_bulk = isinstance(message.body, WalEntry | SnapshotPart | ClientRequest | ClientResponse)
    fields_end = HEADER_BYTES + 2 + 32 if has_bulk else len(frame)
    for size in range(len(frame)):
        refusal(frame[:size])
        if 16 < size < fields_end:
            refusal(sealed(frame[:size]))
    refusal(frame + b"\0")
    refusal(frame + frame)
    if not has_bulk:
        refusal(sealed(frame + b"\0"))


def test_a_mac_is_asked_for_where_there_is_a_key() -> None:
    message = SAMPLES[7]
    assert refusal(encode(message), KEY) in ("MAC does not match", "shorter than any message")
    assert refusal(encode(message, KEY), bytes(32)) == "MAC does not match"
    assert "checksum" in refusal(encode(message, KEY))
    assert len(encode(message, KEY)) == len(encode(message)) + MAC_BYTES


def test_mutated_frames_with_a_good_checksum_are_messages_or_are_refused() -> None:
    rng = seeded("mutated frames")
    frames = [encode(message) for message in SAMPLES]
    taken = refused = 0
    for _ in range(MUTATIONS):
        frame = bytearray(rng.choice(frames))
        for _ in range(rng.randint(1, 3)):
            frame[rng.randrange(len(frame))] = rng.randrange(256)
        if rng.random() < 0.2:
            del frame[rng.randrange(len(frame)) :]
        crafted = sealed(bytes(frame)) if rng.random() < 0.9 else bytes(frame)
        try:
            decoded = decode(crafted)
        except MessageError:
            refused += 1
            continue
        taken += 1
        assert encode(decoded) == crafted
    print(f"taken={taken} refused={refused}")
    assert taken >= 5000
    assert refused >= 30000
    assert taken + refused == MUTATIONS


@settings(max_examples=300)
@given(st.binary(max_size=300), keys)
def test_noise_is_refused(data: bytes, key: bytes | None) -> None:
    refusal(data, key)


def test_an_unknown_version_is_named() -> None:
    frame = bytearray(encode(SAMPLES[0]))
    frame[4] = 9
    assert refusal(sealed(bytes(frame))) == "protocol version 9; this node speaks 2"


@pytest.mark.parametrize("number", [0, len(MessageType) + 1, 255])
def test_an_unknown_type_is_named(number: int) -> None:
    frame = bytearray(encode(SAMPLES[0]))
    frame[6] = number
    assert refusal(sealed(bytes(frame))) == f"message type {number} with flags 0 is not known"


@pytest.mark.parametrize("message", SAMPLES, ids=lambda m: m.type.name)
def test_unknown_flags_are_refused(message: ReplicationMessage) -> None:
    frame = bytearray(encode(message))
    frame[7] |= 4
    assert "flags" in refusal(sealed(bytes(frame)))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (SyncRequest(LSN_MAX + 1, 1), "beyond every lsn"),
        (SyncRequest(1, TERM_MAX + 1), "beyond every lsn or term"),
        (WalEntry(LSN_MAX + 1, 1, 1, 1, b""), "beyond every lsn"),
        (WalEntry(1, TERM_MAX + 1, 1, 1, b""), "beyond every lsn or term"),
        (WalEntry(1, 1, LSN_MAX + 1, 1, b""), "no leader sends"),
        (WalEntry(1, 1, 1, 1, b"", more=True), "without bytes"),
        (Ack(1, LSN_MAX + 1, 1), "beyond every lsn"),
        (SnapshotPart(1, 1, 9, 10, b"12"), "beyond its snapshot"),
        (SnapshotPart(LSN_MAX + 1, 1, 9, 10, b"1"), "beyond every lsn"),
        (SnapshotAck(1, 1 << 63), "beyond every snapshot"),
        (VoteRequest(1, TERM_MAX + 1), "beyond every lsn or term"),
        (VoteResponse(True, LSN_MAX + 1, 1), "beyond every lsn"),
    ],
)
def test_numbers_out_of_range_are_refused(body: Body, reason: str) -> None:
    assert reason in refusal(encode(replace(SAMPLES[3], body=body)))


@pytest.mark.parametrize("message", SAMPLES, ids=lambda m: m.type.name)
def test_names_are_there_from_the_proof_on_and_not_before(message: ReplicationMessage) -> None:
    other = ("", "") if message.source else ("F", "L")
    refusal(encode(replace(message, source=other[0], target=other[1])))
    refusal(encode(replace(message, source="F", target="")))


@pytest.mark.parametrize("name", ["", "\n", "a" * (NODE_ID_BYTES_MAX + 1), "\ud800"])
def test_what_cannot_be_a_node_id(name: str) -> None:
    assert not is_node_id(name)
    if name.isascii():
        refusal(encode(replace(SAMPLES[3], source=name)))


def test_too_large_is_refused_before_it_is_looked_at() -> None:
    with pytest.raises(MessageError, match="at most 100 are taken") as caught:
        decode(bytes(101), bytes_max=100)
    assert caught.value.code == CloseCode.TOO_BIG
    with pytest.raises(MessageError) as caught:
        decode(bytes(MESSAGE_BYTES_MAX + 1))
    assert caught.value.code == CloseCode.TOO_BIG


def test_control_messages_stay_below_what_a_stranger_may_send() -> None:
    name = "n" * NODE_ID_BYTES_MAX
    for message in SAMPLES:
        if not isinstance(message.body, WalEntry | SnapshotPart):
            source = name if message.source else ""
            frame = encode(replace(message, source=source, target=source), KEY)
            assert len(frame) < CONTROL_BYTES_MAX


def test_bulk_is_not_copied() -> None:
    data = bytes(1 << 16)
    frame = encode(replace(SAMPLES[3], body=WalEntry(1, 1, 1, 1, data)), KEY)
    body = decode(frame, key=KEY).body
    assert isinstance(body, WalEntry)
    assert isinstance(body.records, memoryview)
    assert body.records.obj is frame
