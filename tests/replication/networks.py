"""Networks for tests: started, watched, and gone without a trace afterwards."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.helpers import open_descriptors
from walstore.replication.handshake import Dialer, Session
from walstore.replication.message import Body, ReplicationMessage
from walstore.replication.network import NetworkEvent, NetworkManager
from walstore.replication.options import NetworkOptions
from walstore.replication.security import Security

__all__ = ["CLUSTER", "FAST", "SECRET", "WAIT_S", "Net", "Raw", "in_loop", "raises_in", "until"]

WAIT_S = 10.0
CLUSTER = bytes(range(16))
SECRET = b"a secret of more than 16 bytes"
FAST = NetworkOptions(
    heartbeat_ms=50,
    silence_ms=1500,
    handshake_timeout_ms=1000,
    close_timeout_ms=300,
    reconnect_min_ms=10,
    reconnect_max_ms=200,
)


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test in a loop of its own, in which no task and no descriptor may be left."""

    async def run(*arguments: Any, **named: Any) -> None:
        before = open_descriptors()
        await test(*arguments, **named)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left
        await until(lambda: open_descriptors() <= before, "descriptors are left")

    @functools.wraps(test)
    def wrapped(*arguments: Any, **named: Any) -> None:
        asyncio.run(run(*arguments, **named))

    return wrapped


async def until(truth: Callable[[], object], what: str) -> None:
    """Waits for something that no event tells."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not truth():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(what) from None


class Net:
    """One NetworkManager and what it was told.

    Attributes:
        got: the messages, as (node id, body).
        events: as they came.
    """

    def __init__(
        self,
        node_id: str,
        peers: Mapping[str, str] | None = None,
        *,
        listen: str | None = "127.0.0.1:0",
        security: Security | None = None,
        options: NetworkOptions = FAST,
        cluster_id: bytes = CLUSTER,
        members: frozenset[str] | None = None,
        on_message: Callable[[str, ReplicationMessage], Awaitable[None] | None] | None = None,
    ) -> None:
        self.got: list[tuple[str, Body]] = []
        self.events: list[NetworkEvent] = []
        self.cluster_id = cluster_id
        self.term = 1
        self.manager = NetworkManager(
            node_id,
            cluster_id=lambda: self.cluster_id,
            term=lambda: self.term,
            listen=listen,
            peers=peers or {},
            security=security or Security(),
            options=options,
            on_message=on_message or self._take,
            members=members,
            rng=random.Random(1),
        )
        self.manager.subscribe(self.events.append)

    def _take(self, node_id: str, message: ReplicationMessage) -> None:
        self.got.append((node_id, message.body))

    async def __aenter__(self) -> Net:
        await self.manager.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.manager.stop()
        assert self.manager.connected == ()

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.manager.url

    @property
    def port(self) -> int:
        """The same."""
        return int(self.url.rpartition(":")[2])

    async def joined(self, *nodes: str) -> None:
        """Waits until exactly these are connected."""
        await until(lambda: set(self.manager.connected) == set(nodes), f"{nodes} are connected")

    def count(self, kind: type[NetworkEvent]) -> int:
        """How many events of a kind there were."""
        return sum(isinstance(event, kind) for event in self.events)


class Raw:
    """A peer on the library's own connection, which says what a test wants it to say."""

    def __init__(self, ws: ClientConnection, node_id: str, target: str) -> None:
        self.ws = ws
        self._node_id = node_id
        self._target = target
        self.session: Session | None = None

    @classmethod
    async def to(cls, net: Net, node_id: str = "raw", **options: Any) -> Raw:
        """Connects, and says nothing yet."""
        options = {"compression": None, "proxy": None, "ping_interval": None, **options}
        return cls(await connect(net.url, **options), node_id, net.manager.node_id)

    async def greet(self, secret: bytes | None = None, nonce: bytes = bytes(32)) -> Session:
        """Goes through the handshake."""
        dialer = Dialer(self._node_id, self._target, secret, nonce, lambda: CLUSTER)
        await self.ws.send(dialer.hello())
        while dialer.session is None:
            data = await self.ws.recv()
            assert isinstance(data, bytes)
            answer = dialer.receive(data, 1, 0)
            if answer is not None:
                await self.ws.send(answer)
        self.session = dialer.session
        return dialer.session

    async def closed_with(self) -> tuple[int, str]:
        """Waits until the other end closes; whatever it sends before is passed over."""
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    await self.ws.recv()
        except ConnectionClosed as closed:
            await self.ws.close()
            frame = closed.rcvd
            return (frame.code, frame.reason) if frame is not None else (1006, "")


@contextmanager
def raises_in(seconds: float) -> Iterator[None]:
    """What is inside takes no longer."""
    loop = asyncio.get_running_loop()
    begin_s = loop.time()
    yield
    assert loop.time() - begin_s < seconds
