"""Peers that misbehave: refused with a reason, and nobody else is affected."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Origin

from tests.helpers import seeded
from tests.replication.nodes import WAIT_S, Nodes, until
from walstore import WALEntry
from walstore.replication import CloseCode, ReplicationMessage, ReplicationWALManager, network
from walstore.replication.message import (
    CONTROL_BYTES_MAX,
    NO_LOG,
    Ack,
    Entries,
    Hello,
    decode,
    encode,
)


@pytest.fixture
def leader(nodes: Nodes) -> ReplicationWALManager:
    """A leader with one entry and one good follower."""
    leader = nodes.leader()
    leader.append(b"one")
    nodes.follower("F", leader)
    leader.wait_for_followers(1, timeout_s=WAIT_S)
    return leader


def assert_serves(nodes: Nodes, leader: ReplicationWALManager) -> None:
    """The good follower is connected still, and gets what is new."""
    until(lambda: leader.connected == ("F",), "nobody else is connected")
    lsn = leader.append(b"more")
    leader.wait_for_followers(lsn, timeout_s=WAIT_S)
    nodes.assert_equal("L", "F")


def flipped(frame: bytes, at: int) -> bytes:
    return frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]


@pytest.mark.parametrize("greeted", [False, True], ids=["first", "later"])
@pytest.mark.parametrize(
    ("make", "code", "reason"),
    [
        (lambda good: b"", 1002, "shorter than any message"),
        (lambda good: b"noise" * 50, 1002, "not a walstore message"),
        (lambda good: "text", 1003, "a text message; this protocol is binary"),
        (lambda good: flipped(good, 4), 1002, "protocol version 0; this node speaks 1"),
        (lambda good: flipped(good, -1 + len(good)), 1002, "checksum does not match"),
        (lambda good: good[:-1], 1002, "checksum does not match"),
        (lambda good: bytes(CONTROL_BYTES_MAX + 1), 1009, ""),
    ],
)
def test_garbage_is_refused_and_others_go_on(
    nodes: Nodes,
    leader: ReplicationWALManager,
    greeted: bool,
    make: Callable[[bytes], bytes | str],
    code: int,
    reason: str,
) -> None:
    raw = nodes.raw(leader)
    if greeted:
        raw.greet()
        until(lambda: "raw" in leader.connected, "raw is connected")
    good = encode(raw.message(Ack(1) if greeted else Hello(0, 0)))
    raw.socket.send(make(good))
    got = raw.closed_with()
    assert got[0] == code
    assert reason in got[1]
    assert_serves(nodes, leader)


@pytest.mark.parametrize(
    ("body", "changes", "code", "reason"),
    [
        (Hello(1, 2), {"log_id": b"x" * 16}, CloseCode.OTHER_LOG, "raw holds log 7878"),
        (Hello(9, 2), {}, CloseCode.DIVERGED, "raw ends at lsn 9, the leader at 1"),
        (Hello(1, 1), {}, CloseCode.DIVERGED, "lsn 1 is of term 1 on raw, of term 2"),
        (Hello(1, 2), {"term": 9}, CloseCode.STALE_LEADER, "raw has seen term 9"),
        (Hello(0, 0), {"message_id": 2}, CloseCode.BAD_MESSAGE, "message 2 where 1 was due"),
        (Hello(0, 0), {"source": "L"}, CloseCode.WRONG_NODE, "two nodes are called L"),
        (Hello(0, 0), {"target": "M"}, CloseCode.WRONG_NODE, "a message to M, and this is L"),
        (Ack(1), {}, CloseCode.BAD_MESSAGE, "ACK out of place"),
    ],
)
def test_a_wrong_hello_is_refused(
    nodes: Nodes,
    leader: ReplicationWALManager,
    body: Hello | Ack,
    changes: dict[str, Any],
    code: CloseCode,
    reason: str,
) -> None:
    raw = nodes.raw(leader)
    raw.send(body, **changes)
    got = raw.closed_with()
    assert got[0] == code
    assert reason in got[1]
    assert_serves(nodes, leader)


def test_a_wrong_ack_is_refused(nodes: Nodes, leader: ReplicationWALManager) -> None:
    raw = nodes.raw(leader)
    raw.greet()
    raw.send(Ack(2))
    assert raw.closed_with() == (1002, "an ack of lsn 2, which the leader does not hold")
    raw = nodes.raw(leader)
    raw.greet()
    raw.send(Entries((WALEntry(2, 2, 0, 1, b"mine"),)))
    assert raw.closed_with() == (1002, "a message of type WAL_ENTRY from a follower")
    assert_serves(nodes, leader)


def test_random_mutations_never_disturb_others(nodes: Nodes, leader: ReplicationWALManager) -> None:
    rng = seeded("mutations")
    for _ in range(60):
        raw = nodes.raw(leader)
        if rng.random() < 0.5:
            raw.greet()
        frame = bytearray(encode(raw.message(Ack(1) if raw.sent else Hello(0, 0))))
        for _ in range(rng.randint(1, 4)):
            frame[rng.randrange(len(frame))] ^= rng.randint(1, 255)
        raw.socket.send(bytes(frame))
        assert raw.closed_with()[0] == 1002
    assert leader.last_lsn == 1
    assert_serves(nodes, leader)


def test_who_says_nothing_is_not_waited_for(
    nodes: Nodes, leader: ReplicationWALManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "_HANDSHAKE_TIMEOUT_S", 0.1)
    assert nodes.raw(leader).closed_with() == (CloseCode.NO_ANSWER, "no hello in time")
    assert_serves(nodes, leader)


def test_a_browser_is_not_let_in(leader: ReplicationWALManager) -> None:
    with pytest.raises(InvalidStatus):
        connect(leader.url, origin=Origin("http://example.org"), proxy=None)


def test_a_node_without_a_log_learns_the_leader_s_and_no_more(
    nodes: Nodes, leader: ReplicationWALManager
) -> None:
    raw = nodes.raw(leader)
    raw.send(Hello(0, 0), log_id=NO_LOG)
    answer = raw.receive()
    assert answer.log_id.hex() == leader.log_id
    assert answer.body == Hello(1, 2)
    assert raw.closed_with()[0] == 1000
    assert leader.followers() == {"F": 1}
    assert_serves(nodes, leader)


def test_a_second_connection_of_a_node_replaces_the_first(
    nodes: Nodes, leader: ReplicationWALManager
) -> None:
    first, second = nodes.raw(leader), nodes.raw(leader)
    first.greet()
    second.greet()
    assert first.closed_with() == (CloseCode.REPLACED, "raw has connected anew")
    assert isinstance(second.receive().body, Entries)
    second.socket.close()
    assert_serves(nodes, leader)


def test_there_is_a_limit_of_followers(
    nodes: Nodes, leader: ReplicationWALManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "FOLLOWERS_MAX", 1)
    raw = nodes.raw(leader)
    raw.send(Hello(0, 0))
    assert raw.closed_with() == (CloseCode.TRY_LATER, "1 followers are connected")
    assert_serves(nodes, leader)


# ---- a leader that misbehaves ----


@contextmanager
def served(handler: Callable[[ServerConnection], None]) -> Iterator[str]:
    """Someone who listens where a leader should."""
    server: Server = serve(handler, "127.0.0.1", 0, compression=None)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
    finally:
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("make", "code", "reason"),
    [
        (lambda good: random.Random(1).randbytes(200), 1002, "not a walstore message"),
        (lambda good: "text", 1003, "a text message"),
        (lambda good: flipped(encode(good), 70), 1002, "checksum does not match"),
        (lambda good: encode(good), 1002, "lsn 3 where 2 was due"),
    ],
)
def test_a_follower_refuses_a_leader_s_garbage_and_keeps_its_log(
    nodes: Nodes,
    leader: ReplicationWALManager,
    make: Callable[[ReplicationMessage], bytes | str],
    code: int,
    reason: str,
) -> None:
    nodes.close()
    before = nodes.entries("F")
    log_id = bytes.fromhex(leader.log_id) if not leader.closed else b""
    closings: list[tuple[int, str]] = []
    seen = threading.Event()

    def handler(socket: ServerConnection) -> None:
        data = socket.recv(WAIT_S)
        assert isinstance(data, bytes)
        log_id = decode(data).log_id
        socket.send(encode(ReplicationMessage("L", "F", 1, 2, 0, log_id, Hello(9, 2))))
        entry = WALEntry(3, 2, 0, 1, b"three")
        socket.send(make(ReplicationMessage("L", "F", 2, 2, 0, log_id, Entries((entry,)))))
        try:
            socket.recv(WAIT_S)
        except ConnectionClosed as closed:
            if closed.rcvd is not None:
                closings.append((closed.rcvd.code, closed.rcvd.reason))
        seen.set()

    assert log_id == b""
    with served(handler) as url:
        path = nodes.base / "F"
        with ReplicationWALManager(path, node_id="F", peers={"L": url}) as follower:
            assert seen.wait(WAIT_S)
            assert follower.replication_error is None
    assert closings[0][0] == code
    assert reason in closings[0][1]
    assert nodes.entries("F") == before
