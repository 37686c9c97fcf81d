"""The clients that are connected to a node: no peers, and seen by nobody but who serves them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from walstore.replication.connection import Connection
from walstore.replication.errors import CloseCode, RefusedError
from walstore.replication.requests import ClientRequest, ClientResponse, Status

__all__ = ["REQUESTS_OPEN_MAX", "ClientHandler", "ClientLink", "Clients"]

REQUESTS_OPEN_MAX = 64
"""Requests of one client that are not answered yet; further ones are answered BUSY."""


class ClientLink:
    """One client's connection, to answer it.

    Args:
        connection: to the client.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self.open = 0

    @property
    def gone(self) -> bool:
        """Whether nobody waits for an answer any more. From any thread."""
        return self._connection.closing

    def answer(self, response: ClientResponse) -> None:
        """Answers a request, each once. From any thread."""
        with contextlib.suppress(RuntimeError):  # the node was closed, and the client told
            self._loop.call_soon_threadsafe(self._send, response)

    def _send(self, response: ClientResponse) -> None:
        self.open -= 1
        self.send(response)

    def send(self, response: ClientResponse) -> None:
        """Sends it; in the loop. What the queue has no room for is to be asked again."""
        if not self._connection.send(response):
            self._connection.send(ClientResponse(response.number, Status.BUSY))


ClientHandler = Callable[[ClientLink, ClientRequest], None]
"""Takes a request, in the node's loop; it must not block."""


class Clients:
    """All of them.

    Args:
        clients_max: how many there may be.

    Attributes:
        handler: who serves them; None: nobody, and they are not let in.
    """

    def __init__(self, clients_max: int) -> None:
        self._clients_max = clients_max
        self._links: dict[Connection, ClientLink] = {}
        self.handler: ClientHandler | None = None

    def __len__(self) -> int:
        return len(self._links)

    def admit(self, connection: Connection) -> None:
        """A client has proven itself.

        Raises:
            RefusedError: it is to try again later, or elsewhere.
        """
        if self.handler is None:
            raise RefusedError(CloseCode.TRY_LATER, "nothing here takes requests of clients")
        if len(self._links) >= self._clients_max:
            raise RefusedError(CloseCode.TRY_LATER, f"{self._clients_max} clients are connected")
        self._links[connection] = ClientLink(connection)

    def lost(self, connection: Connection) -> None:
        """A connection has ended: a client's, or another one."""
        self._links.pop(connection, None)

    def requested(self, connection: Connection, request: ClientRequest) -> None:
        """A client asks for something."""
        link = self._links[connection]
        if self.handler is None or link.open >= REQUESTS_OPEN_MAX:
            link.send(ClientResponse(request.number, Status.BUSY))
            return
        link.open += 1
        self.handler(link, request)
