"""Two networks beside two bare connections of the library they are built on.

    python -m bench.network

Both run in one process and loop over loopback: small messages one at a time there and back, then
large ones one way. Medians of several runs that take turns.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from walstore.replication.message import Ack, ReplicationMessage, WalEntry
from walstore.replication.network import NetworkManager
from walstore.replication.options import NetworkOptions
from walstore.replication.security import Security

RUNS = 5
ROUND_TRIPS = 2000
SMALL_BYTES = 200
LARGE_BYTES = 256 << 10
LARGE_MESSAGES = 1000
SECRET = b"a secret of 32 bytes for a bench"

Measured = tuple[float, float]


async def bare() -> Measured:
    """Microseconds a round trip, MB/s: the library alone, compression off."""

    async def answer(ws: ServerConnection) -> None:
        left = LARGE_MESSAGES
        async for data in ws:
            if len(data) == SMALL_BYTES:
                await ws.send(data)
            else:
                left -= 1
                if not left:
                    await ws.send(b"all")

    async with serve(answer, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(
            f"ws://127.0.0.1:{port}", compression=None, ping_interval=None, proxy=None
        ) as ws:
            small, large = bytes(SMALL_BYTES), bytes(LARGE_BYTES)
            begin = time.perf_counter()
            for _ in range(ROUND_TRIPS):
                await ws.send(small)
                await ws.recv()
            between = time.perf_counter()
            for _ in range(LARGE_MESSAGES):
                await ws.send(large)
            await ws.recv()
            return _figures(begin, between, time.perf_counter())


def _figures(begin: float, between: float, end: float) -> Measured:
    megabytes = LARGE_MESSAGES * LARGE_BYTES / 1e6
    return (between - begin) / ROUND_TRIPS * 1e6, megabytes / (end - between)


async def networks(secret: bytes | None) -> Measured:
    """The same of two NetworkManagers."""
    cluster_id = bytes(range(16))
    answers: asyncio.Queue[ReplicationMessage] = asyncio.Queue()
    left = LARGE_MESSAGES

    def answer(node_id: str, message: ReplicationMessage) -> None:
        nonlocal left
        assert isinstance(message.body, WalEntry)
        if len(message.body.records) == LARGE_BYTES:
            left -= 1
            if left:
                return
        listener.send(node_id, Ack(1, 1, 1))

    def manager(
        name: str,
        peers: dict[str, str],
        on_message: Callable[[str, ReplicationMessage], Awaitable[None] | None],
    ) -> NetworkManager:
        return NetworkManager(
            name,
            cluster_id=lambda: cluster_id,
            term=lambda: 1,
            listen="127.0.0.1:0",
            peers=peers,
            security=Security(secret=secret),
            options=NetworkOptions(),
            on_message=on_message,
        )

    listener = manager("listener", {}, answer)
    await listener.start()
    dialer = manager("dialer", {}, lambda node_id, message: answers.put_nowait(message))
    await dialer.start()
    await dialer.connect("listener", listener.url)
    small = WalEntry(1, 1, 1, 0, bytes(SMALL_BYTES))
    large = WalEntry(1, 1, 1, 0, bytes(LARGE_BYTES))
    begin = time.perf_counter()
    for _ in range(ROUND_TRIPS):
        assert dialer.send("listener", small)
        await answers.get()
    between = time.perf_counter()
    for _ in range(LARGE_MESSAGES):
        while not dialer.send("listener", large):
            await dialer.drained("listener")
    await answers.get()
    figures = _figures(begin, between, time.perf_counter())
    await dialer.stop()
    await listener.stop()
    return figures


def main() -> None:
    """Prints a table."""
    subjects: dict[str, Callable[[], Awaitable[Measured]]] = {
        "websockets": bare,
        "walstore": lambda: networks(None),
        "walstore, secret": lambda: networks(SECRET),
    }
    figures: dict[str, list[Measured]] = {name: [] for name in subjects}
    for _ in range(RUNS):
        for name, subject in subjects.items():
            figures[name].append(asyncio.run(_run(subject)))
    for name, runs in figures.items():
        round_trip_us = statistics.median(run[0] for run in runs)
        speed = statistics.median(run[1] for run in runs)
        print(f"{name:18} {round_trip_us:7.1f} us a round trip  {speed:7.0f} MB/s")


async def _run(subject: Callable[[], Awaitable[Measured]]) -> Measured:
    return await subject()


if __name__ == "__main__":
    main()
