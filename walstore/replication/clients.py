"""The clients that are connected to a node: no peers, and seen by nobody but who serves them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace

from walstore.replication.connection import Connection
from walstore.replication.errors import CloseCode, RefusedError
from walstore.replication.requests import ClientRequest, ClientResponse, Status

__all__ = ["ANSWERS_BYTES_MAX", "REQUESTS_OPEN_MAX", "ClientHandler", "ClientLink", "Clients"]

ANSWERS_BYTES_MAX = 64 << 20
"""Answers that wait to be read, of all clients: each may have as much as the others, and one answer
in any case."""

REQUESTS_OPEN_MAX = 64
"""Requests of one client that are not answered yet; further ones are answered BUSY."""


class ClientLink:
    """One client's connection, to answer it.

    Args:
        connection: to the client.
        queue_bytes: how much may wait for this client now.
    """

    def __init__(self, connection: Connection, queue_bytes: Callable[[], int]) -> None:
        self._connection = connection
        self._queue_bytes = queue_bytes
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
        """Sends it; in the loop. What there is no room for is to be asked again."""
        connection, waiting_bytes = self._connection, self._connection.queued_bytes
        fits = not waiting_bytes or waiting_bytes + len(response.data) <= self._queue_bytes()
        if fits and connection.send(response):
            return
        # Its command may be applied: that nothing was done must not be said of it.
        done = response.status in (Status.DONE, Status.REFUSED, Status.TOO_LARGE)
        status = Status.UNSETTLED if done else response.status
        connection.send(replace(response, status=status, lsn=0, data=b""))


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

    def check_admission(self) -> None:
        """Whether one more client may be let in.

        Raises:
            RefusedError: it is to try again later, or elsewhere.
        """
        if self.handler is None:
            raise RefusedError(CloseCode.TRY_LATER, "nothing here takes requests of clients")
        if len(self._links) >= self._clients_max:
            raise RefusedError(CloseCode.TRY_LATER, f"{self._clients_max} clients are connected")

    def admit(self, connection: Connection) -> None:
        """A client is let in."""
        self._links[connection] = ClientLink(connection, self._share_bytes)

    def _share_bytes(self) -> int:
        return ANSWERS_BYTES_MAX // max(1, len(self._links))

    def lost(self, connection: Connection) -> None:
        """A connection has ended: a client's, or another one."""
        self._links.pop(connection, None)

    def requested(self, connection: Connection, request: ClientRequest) -> None:
        """A client asks for something."""
        link = self._links[connection]
        if self.handler is None or link.open >= REQUESTS_OPEN_MAX:
            status = Status.NOT_LEADER if self.handler is None else Status.BUSY
            link.send(ClientResponse(request.number, status))
            return
        link.open += 1
        self.handler(link, request)
