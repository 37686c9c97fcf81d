"""Peers that misbehave: refused with the right code, counted, and nobody else is affected."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Origin

from tests.helpers import open_descriptors, seeded
from tests.replication.networks import SECRET, Net, Raw, in_loop, until
from tests.replication.proxy import Frame as WireFrame
from tests.replication.proxy import frame_bytes
from walstore.replication import CloseCode, RefusedError, UnreachableError
from walstore.replication.handshake import Dialer
from walstore.replication.message import (
    CONTROL_BYTES_MAX,
    MESSAGE_BYTES,
    MESSAGE_BYTES_MAX,
    Ack,
    WalEntry,
)
from walstore.replication.network import NodeDisconnected
from walstore.replication.options import NetworkOptions
from walstore.replication.security import Security

LIVE_MUTATIONS = 2000
SECURE = Security(secret=SECRET)
PATIENT = NetworkOptions(
    heartbeat_ms=500, silence_ms=30_000, handshake_timeout_ms=3000, close_timeout_ms=300
)


@asynccontextmanager
async def pair(options: NetworkOptions = PATIENT) -> AsyncIterator[tuple[Net, Net]]:
    """A network and a good peer, which is connected throughout."""
    async with (
        Net("B", security=SECURE, options=options) as b,
        Net("good", {"B": b.url}, security=SECURE, options=options) as good,
    ):
        await good.joined("B")
        yield b, good
        assert good.manager.send("B", Ack(77, 7, 7))
        await until(lambda: ("good", Ack(77, 7, 7)) in b.got, "the good one is heard")
        assert not any(isinstance(event, NodeDisconnected) for event in good.events)
        assert b.manager.connected == ("good",)


def flipped(frame: bytes, at: int) -> bytes:
    return frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]


@in_loop
async def test_who_leaves_in_the_burst_of_its_hello_is_not_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with pair() as (b, _):
        raw = await Raw.to(b)
        hello = Dialer("raw", "B", SECRET, bytes(32), lambda: bytes(16)).hello()
        raw.ws.protocol.send_binary(hello)
        raw.ws.protocol.send_close(1000)
        raw.ws.transport.write(b"".join(raw.ws.protocol.data_to_send()))
        await raw.ws.wait_closed()
        await until(lambda: len(b.manager._all) == 1, "it is gone")
    assert "data_received" not in caplog.text
    assert "Traceback" not in caplog.text


@in_loop
async def test_a_listener_that_leaves_as_it_accepts_is_not_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What it says arrives in one piece where this node was held up."""

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = ServerProtocol()
        while not (events := protocol.events_received()):
            protocol.receive_data(await reader.read(1 << 16))
        (request,) = events
        assert isinstance(request, Request)
        protocol.send_response(protocol.accept(request))
        protocol.send_close(CloseCode.GOING_AWAY, "gone again")
        writer.write(b"".join(protocol.data_to_send()))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(leave, "127.0.0.1", 0)
    async with server, Net("A") as net:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(UnreachableError, match="gone again"):
            await net.manager.connect("B", f"ws://127.0.0.1:{port}")
    assert "data_received" not in caplog.text
    assert "Traceback" not in caplog.text


@in_loop
async def test_a_peer_that_resets_while_it_is_refused_disturbs_nobody() -> None:
    """It has left, which the loop has not been told yet: the kernel answers what it is sent."""
    async with pair() as (b, _):
        raw = await Raw.to(b)
        await raw.greet(SECRET)
        await b.joined("good", "raw")
        raw.ws.transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        b.manager._connections["raw"].refuse(CloseCode.NO_ANSWER, "silent")
        await b.joined("good")
        await raw.ws.wait_closed()


@in_loop
async def test_nothing_is_said_to_a_peer_that_has_ended() -> None:
    """What is sent between the end of its stream and that of the connection is lost, as later."""
    async with pair() as (b, _):
        raw = await Raw.to(b)
        await raw.greet(SECRET)
        await b.joined("good", "raw")
        connection = b.manager._connections["raw"]
        b.manager.hold()
        assert b.manager.send("raw", Ack(1, 1, 1))
        connection.eof_received()
        assert not b.manager.send("raw", Ack(2, 2, 2))
        b.manager.release()
        raw.ws.transport.abort()
        await b.joined("good")
        await raw.ws.wait_closed()


@in_loop
async def test_a_peer_that_does_not_read_is_told_why_when_it_does() -> None:
    """The end of the stream waits for the bytes before it, of which the kernel takes no more."""
    async with pair() as (b, _):
        raw = await Raw.to(b)
        await raw.greet(SECRET)
        await b.joined("good", "raw")
        connection = b.manager._connections["raw"]
        assert connection._transport is not None
        raw.ws.transport.pause_reading()
        body = WalEntry(1, 1, 1, 0, bytes(MESSAGE_BYTES))
        while not connection._transport.get_write_buffer_size():
            b.manager.send("raw", body)
            await asyncio.sleep(0)
        connection.refuse(CloseCode.NO_ANSWER, "silent")
        assert connection._end_due
        raw.ws.transport.resume_reading()
        assert await raw.closed_with() == (CloseCode.NO_ANSWER, "silent")
        await b.joined("good")


@in_loop
async def test_the_end_of_a_stream_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """A peer whose own stream has ended has then closed the connection: a second end would raise in
    the loop."""
    async with pair() as (b, _):
        raw = await Raw.to(b)
        await raw.greet(SECRET)
        await b.joined("good", "raw")
        connection = b.manager._connections["raw"]
        transport = connection._transport
        assert transport is not None
        # What is left for the last write is little then, and travels at once.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        raw.ws.transport.pause_reading()
        body = WalEntry(1, 1, 1, 0, bytes(MESSAGE_BYTES))
        while not transport.get_write_buffer_size():
            b.manager.send("raw", body)
            await asyncio.sleep(0)
        connection.refuse(CloseCode.NO_ANSWER, "silent")
        transport.pause_reading()  # its end is seen only after ours was said
        raw.ws.transport.write_eof()
        raw.ws.transport.resume_reading()
        while transport.get_write_buffer_size():
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        transport.resume_reading()
        await connection.ended.wait()
        await b.joined("good")
    assert "Exception in callback" not in caplog.text


@pytest.mark.parametrize("greeted", [False, True], ids=["stranger", "peer"])
@pytest.mark.parametrize(
    ("make", "code", "name"),
    [
        (lambda good: b"", 1002, "BAD_MESSAGE"),
        (lambda good: b"noise" * 50, 1002, "BAD_MESSAGE"),
        (lambda good: "text", 1003, "NOT_BINARY"),
        (lambda good: flipped(good, 4), 1002, "BAD_MESSAGE"),
        (lambda good: flipped(good, len(good) - 1), 1002, "BAD_MESSAGE"),
        (lambda good: good[:-1], 1002, "BAD_MESSAGE"),
        (lambda good: [good[:10], good[10:]], 1002, "BAD_MESSAGE"),
        (lambda good: bytes(MESSAGE_BYTES_MAX + 1), 1009, "TOO_BIG"),
    ],
)
@in_loop
async def test_garbage_is_refused_and_others_go_on(
    caplog: pytest.LogCaptureFixture,
    greeted: bool,
    make: Callable[[bytes], bytes | str | list[bytes]],
    code: int,
    name: str,
) -> None:
    async with pair() as (b, _):
        raw = await Raw.to(b)
        good = await first_frame(raw, greeted)
        await raw.ws.send(make(good))
        assert (await raw.closed_with())[0] == code
        if greeted:
            await until(lambda: b.manager.connected == ("good",), "it is gone")
            assert b.manager.metrics().peers["raw"].refused == {name: 1}
            assert b.manager.metrics().peers["raw"].failures == 1
        else:
            assert b.manager.metrics().strangers_refused == {name: 1}
    assert "Traceback" not in caplog.text
    assert any(record.levelno == logging.WARNING for record in caplog.records)


async def first_frame(raw: Raw, greeted: bool) -> bytes:
    """A good one, which is not sent yet."""
    if greeted:
        return (await raw.greet(SECRET)).seal(Ack(1, 1, 1), 1, 0)
    return Dialer("raw", "B", SECRET, bytes(32), lambda: bytes(16)).hello()


@in_loop
async def test_a_stranger_sends_little() -> None:
    async with pair() as (b, _):
        raw = await Raw.to(b)
        await raw.ws.send(bytes(CONTROL_BYTES_MAX + 1))
        code, reason = await raw.closed_with()
        assert code == CloseCode.TOO_BIG
        assert f"at most {CONTROL_BYTES_MAX} are taken" in reason
        raw = await Raw.to(b)
        for number in range(200):  # 106 bytes each, and all in all more than 16 KiB
            raw.ws.transport.write(frame_bytes(WireFrame(0x89, b"mask", bytes([number]) * 100)))
        code, reason = await raw.closed_with()
        assert code == CloseCode.TOO_BIG
        assert reason == "too many bytes before the handshake has ended"
        assert b.got == []


@pytest.mark.parametrize(
    "frame",
    [
        WireFrame(0x82, b"", b"not masked"),
        WireFrame(0xC2, b"mask", b"a reserved bit"),
        WireFrame(0x83, b"mask", b"a reserved opcode"),
        WireFrame(0x80, b"mask", b"a continuation of nothing"),
        WireFrame(0x09, b"mask", b"a ping in fragments"),
        WireFrame(0x89, b"mask", b"a long ping" * 20),
        WireFrame(0x88, b"mask", b"\x00\x01"),
    ],
    ids=lambda frame: frame.payload.decode(errors="replace")[:14],
)
@in_loop
async def test_bad_frames_are_refused(frame: WireFrame) -> None:
    async with pair() as (b, _):
        raw = await Raw.to(b)
        await raw.greet(SECRET)
        raw.ws.transport.write(frame_bytes(frame))
        assert (await raw.closed_with())[0] == 1002
        await until(lambda: b.manager.connected == ("good",), "it is gone")


@in_loop
async def test_mutated_frames_never_disturb_others() -> None:
    rng = seeded("live mutations")
    codes: dict[int, int] = {}
    options = NetworkOptions(handshakes_max=64, close_timeout_ms=300)
    async with pair(options) as (b, _):

        async def one(number: int) -> None:
            raw = await Raw.to(b, f"raw{number % 16}")
            good = bytearray(await first_frame(raw, number % 4 == 0))
            for _ in range(rng.randint(1, 4)):
                good[rng.randrange(len(good))] ^= rng.randint(1, 255)
            cut = len(good) if rng.random() < 0.7 else rng.randrange(len(good))
            await raw.ws.send(bytes(good[:cut]))
            code, _ = await raw.closed_with()
            codes[code] = codes.get(code, 0) + 1

        for begin in range(0, LIVE_MUTATIONS, 16):
            await asyncio.gather(*(one(number) for number in range(begin, begin + 16)))
        await b.joined("good")
    print(f"codes={codes}")
    # Two of one name at a time: the older one is replaced before it has said anything.
    assert set(codes) <= {1002, CloseCode.REPLACED}
    assert codes[1002] >= LIVE_MUTATIONS - 10
    assert b.got == [("good", Ack(77, 7, 7))]


@in_loop
async def test_a_browser_is_not_let_in() -> None:
    async with pair() as (b, _):
        with pytest.raises(InvalidStatus):
            await connect(b.url, origin=Origin("http://example.org"), proxy=None)
        await until(lambda: b.manager.metrics().handshakes == 0, "it is gone")


@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" * 99, b"\r\n" * 20000]
)
@in_loop
async def test_what_is_no_websocket_is_refused(noise: bytes) -> None:
    async with pair() as (b, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", b.port)
        writer.write(noise)
        try:
            async with asyncio.timeout(5):
                await reader.read()
        except ConnectionResetError:
            pass
        writer.close()
        await until(lambda: b.manager.metrics().handshakes == 0, "it is gone")


# ---- floods ----


@in_loop
async def test_500_half_open_connections_and_silent_peers_leave_others_alone() -> None:
    """Half of the 500 say nothing, half stop in the middle of the request; 30 peers are silent."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft > 700
    async with pair() as (b, good):
        silent = [await Raw.to(b, f"silent{number}") for number in range(30)]
        for raw in silent:
            await raw.greet(SECRET)
        before = open_descriptors()
        dials = (asyncio.open_connection("127.0.0.1", b.port) for _ in range(500))
        halves = await asyncio.gather(*dials)
        for _, writer in halves[::2]:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
        loop = asyncio.get_running_loop()
        slowest_s = 0.0
        for lsn in range(100):
            begin_s = loop.time()
            assert good.manager.send("B", Ack(lsn, 0, 0))
            await until(partial(b.got.__contains__, ("good", Ack(lsn, 0, 0))), "it arrives")
            slowest_s = max(slowest_s, loop.time() - begin_s)
        # Ours are 500 in this process; the network holds no more than its share of the other ends.
        held = open_descriptors() - before - 500
        print(f"held={held} slowest_ms={slowest_s * 1000:.0f}")
        assert held <= PATIENT.handshakes_max + 1
        assert b.manager.metrics().handshakes <= PATIENT.handshakes_max
        assert (
            b.manager.metrics().strangers_refused["TRY_LATER"] >= 300
        )  # some places were free again
        assert slowest_s < 5.0
        await until(lambda: b.manager.metrics().handshakes == 0, "their time is over")
        for raw in silent:
            await raw.ws.close()
        for _, writer in halves:
            writer.close()
        await b.joined("good")


@in_loop
async def test_there_is_a_limit_of_peers() -> None:
    options = NetworkOptions(peers_max=2)
    async with pair(options) as (b, _):
        first, second = await Raw.to(b, "first"), await Raw.to(b, "second")
        await first.greet(SECRET)
        with pytest.raises(ConnectionClosed):  # where a WELCOME would be
            await second.greet(SECRET)
        assert await second.closed_with() == (CloseCode.TRY_LATER, "2 nodes are connected")
        await first.ws.close()
        await b.joined("good")


@in_loop
async def test_a_peer_that_does_not_read_is_closed_before_it_costs_memory() -> None:
    async with pair() as (b, _):
        raw = await Raw.to(b, max_queue=1)
        await raw.greet(SECRET)
        raw.ws.transport.pause_reading()
        part = WalEntry(1, 1, 1, 1, bytes(1 << 19))
        await until(lambda: not b.manager.send("raw", part), "its queue is full")
        assert b.manager.metrics().peers["raw"].queued_bytes <= PATIENT.queue_bytes
        lsn = 0
        while b.manager.send("raw", Ack(lsn, 0, 0)):
            lsn += 1
        assert 1000 < lsn < 10_000
        assert b.manager.metrics().peers["raw"].refused == {"NO_ANSWER": 1}
        await b.joined("good")
        raw.ws.transport.abort()


# ---- a listener that misbehaves ----


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"noise" * 20, CloseCode.BAD_MESSAGE),
        ("text", CloseCode.NOT_BINARY),
        (bytes(CONTROL_BYTES_MAX + 1), CloseCode.TOO_BIG),
        (None, None),
    ],
)
@in_loop
async def test_a_dialer_refuses_a_listener_s_garbage(
    answer: bytes | str | None, code: CloseCode | None
) -> None:
    closings: list[int] = []

    async def handler(ws: ServerConnection) -> None:
        await ws.recv()
        if answer is not None:
            await ws.send(answer)
        try:
            await ws.recv()
        except ConnectionClosed as closed:
            closings.append(closed.rcvd.code if closed.rcvd is not None else 1006)

    async with serve(handler, "127.0.0.1", 0, compression=None) as server, Net("A") as net:
        port = next(iter(server.sockets)).getsockname()[1]
        expected = UnreachableError if code is None else RefusedError
        with pytest.raises(expected) as caught:
            await net.manager.connect("B", f"ws://127.0.0.1:{port}")
        if code is not None:
            assert isinstance(caught.value, RefusedError)
            assert caught.value.code == code
        await until(lambda: closings, "it was told")
        assert closings == [CloseCode.NO_ANSWER if code is None else code]
        assert net.events == []
