"""A client's connections to the nodes of a cluster: made when they are needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from walstore.replication.connection import Connection
from walstore.replication.dialing import agree, open_socket
from walstore.replication.errors import CloseCode, MessageError, RefusedError, UnreachableError
from walstore.replication.handshake import Dialer
from walstore.replication.message import NO_CLUSTER, NONCE_BYTES, ReplicationMessage
from walstore.replication.options import NetworkOptions
from walstore.replication.requests import ClientRequest, ClientResponse
from walstore.replication.security import Contexts, Security

__all__ = ["LinkError", "LinkTimeoutError", "Links"]


class LinkError(Exception):
    """There is no answer.

    Attributes:
        reason: why.
        sent: whether the node may have taken the request.
        final: the node knows this client not to be one; a person must do something first.
    """

    def __init__(self, reason: str, sent: bool, final: bool = False) -> None:
        self.reason = reason
        self.sent = sent
        self.final = final
        super().__init__(reason)


class LinkTimeoutError(LinkError):
    """There is none in the time that the node was given."""


class Links:
    """All of them; to be used in one event loop.

    Args:
        name: the client's.
        security: as of the nodes.
        options: how patient it is.
        entropy: for nonces.

    Raises:
        OptionError: the files of TLS make no sense.
    """

    def __init__(
        self,
        name: str,
        security: Security,
        options: NetworkOptions,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._name = name
        self._security = security
        self._options = options
        self._entropy = entropy
        self._tls = Contexts(security.tls) if security.tls is not None else None
        self._cluster_id = NO_CLUSTER
        self._connections: dict[str, Connection] = {}
        self._dialing: dict[str, asyncio.Lock] = {}
        self._waiting: dict[int, tuple[Connection, asyncio.Future[ClientResponse]]] = {}
        self._all: set[Connection] = set()
        self._number = 0
        self._closed = False

    async def ask(
        self, node_id: str, url: str, request: ClientRequest, timeout_s: float
    ) -> ClientResponse:
        """The node's answer.

        Raises:
            LinkError: there is none, in time.
        """
        sent = False
        number = self._number = self._number + 1
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._connected(node_id, url)
                future: asyncio.Future[ClientResponse] = asyncio.get_running_loop().create_future()
                self._waiting[number] = (connection, future)
                if not connection.send(replace(request, number=number)):
                    raise LinkError("too much waits to be sent", False)
                sent = True
                return await future
        except TimeoutError:
            raise LinkTimeoutError(f"no answer within {timeout_s:.3g} s", sent) from None
        except UnreachableError as error:
            raise LinkError(str(error), False) from error
        except RefusedError as error:
            raise LinkError(str(error), False, error.code.final) from error
        finally:
            self._waiting.pop(number, None)

    async def _connected(self, node_id: str, url: str) -> Connection:
        async with self._dialing.setdefault(node_id, asyncio.Lock()):
            connection = self._connections.get(node_id)
            if self._closed:
                raise LinkError("the client is closed", False)
            if connection is None:
                connection = await self._dial(node_id, url)
                if not connection.closing:
                    self._connections[node_id] = connection
            return connection

    async def _dial(self, node_id: str, url: str) -> Connection:
        """One attempt, until both ends know each other, or the connection has ended."""
        nonce = self._entropy(NONCE_BYTES)
        dialer = Dialer(self._name, node_id, self._security.secret, nonce, lambda: self._cluster_id)
        connection = Connection(self, self._options, dialer, url)
        await open_socket(connection, node_id, url, self._options, self._tls)
        self._all.add(connection)
        if self._closed:
            connection.abort()
        session = await agree(connection, node_id, url, self._options)
        if self._cluster_id == NO_CLUSTER:
            self._cluster_id = session.peer_cluster_id
        return connection

    async def close(self) -> None:
        """Ends; no connection is left."""
        self._closed = True
        ending = list(self._all)
        for connection in ending:  # all at once: each ends by itself, also when nobody waits
            connection.close(CloseCode.NORMAL, f"{self._name} is done")
        for connection in ending:
            await connection.ended.wait()
        await asyncio.sleep(0)  # transports close their sockets right after connection_lost

    # ---- what connections ask of their owner ----

    def now(self) -> tuple[int, int]:
        """A client has no term."""
        return 0, time.time_ns()

    def take_flush(self, connection: Connection) -> bool:
        """Nothing is held back."""
        return False

    def check_admission(self, connection: Connection) -> None:
        """Every node that was dialed is let in."""

    def admit(self, connection: Connection) -> None:
        """Who dialed has it already."""

    def deliver(
        self, connection: Connection, message: ReplicationMessage
    ) -> Awaitable[None] | None:
        """An answer."""
        assert isinstance(message.body, ClientResponse)
        _, future = self._waiting.get(message.body.number, (None, None))
        if future is not None and not future.done():
            future.set_result(message.body)
        return None

    def requested(self, connection: Connection, request: ClientRequest) -> None:
        """Nobody asks a client."""
        raise MessageError("a REQUEST to a client")

    def roomy(self, connection: Connection) -> None:
        """What had no room was given up."""

    def lost(self, connection: Connection) -> None:
        """A connection has ended."""
        self._all.discard(connection)
        if self._connections.get(connection.peer_id) is connection:
            del self._connections[connection.peer_id]
        reason = connection.close_reason or f"closed with {connection.close_code}"
        for owner, future in self._waiting.values():
            if owner is connection and not future.done():
                future.set_exception(LinkError(reason, True))
