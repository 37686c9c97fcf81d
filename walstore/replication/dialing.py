"""One attempt to reach a node, as a node's network and a client's links make it."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from walstore.errors import OptionError
from walstore.replication.connection import Connection
from walstore.replication.errors import CloseCode, RefusedError, UnreachableError
from walstore.replication.handshake import Session
from walstore.replication.options import NetworkOptions
from walstore.replication.security import Contexts, Security

__all__ = ["agree", "check_url", "host_and_port", "open_socket"]


def host_and_port(address: str, what: str) -> tuple[str, int]:
    """Of "host:port".

    Raises:
        OptionError: it is none.
    """
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port is None or parts.path:
        raise OptionError(f"{what} must be host:port, not {address!r}")
    return host, port


def check_url(security: Security, url: str, what: str) -> None:
    """Refuses a url that no node with this security is dialed at.

    Raises:
        OptionError: another scheme, no address, or one off this machine without protection.
    """
    scheme, _, address = url.partition("://")
    if scheme != security.scheme:
        raise OptionError(f"{url!r} must begin with {security.scheme}://")
    security.check_host(host_and_port(address, what)[0])


async def open_socket(
    connection: Connection, node_id: str, url: str, options: NetworkOptions, tls: Contexts | None
) -> None:
    """Gives a connection its socket; the handshake has begun at return.

    Raises:
        UnreachableError: nobody listens there, or not in time.
    """
    host, port = host_and_port(url.partition("://")[2], "url")
    timeout_s = options.connect_timeout_ms / 1000
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.get_running_loop().create_connection(
                lambda: connection, host, port, ssl=tls.client() if tls is not None else None
            )
    # TimeoutError and ssl.SSLError are OSErrors. ValueError: no host can have this name, as only
    # who looks it up says (UnicodeError, of a part that is empty or too long). RuntimeError: the
    # loop is an application's, and has no thread to look it up.
    except (OSError, ValueError, RuntimeError) as error:
        raise UnreachableError(node_id, url, timeout_s, str(error) or "timed out") from error


async def agree(connection: Connection, node_id: str, url: str, options: NetworkOptions) -> Session:
    """Waits until both ends know each other; a cancelled wait closes the connection.

    Raises:
        RefusedError: one of them does not want to know the other.
        UnreachableError: the connection has ended.
    """
    try:
        await connection.ready.wait()
    except asyncio.CancelledError:
        connection.close(CloseCode.GOING_AWAY, "not waited for any more")
        raise
    if connection.session is None:
        raise _refusal(connection, node_id, url, options.handshake_timeout_ms / 1000)
    return connection.session


def _refusal(
    connection: Connection, node_id: str, url: str, timeout_s: float
) -> RefusedError | UnreachableError:
    """Why a connection ended before both ends knew each other."""
    code, reason = connection.close_code, connection.close_reason
    absent = (CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.NO_ANSWER)
    if code in set(CloseCode) and code not in absent:
        return RefusedError(CloseCode(code), reason or CloseCode(code).name)
    return UnreachableError(node_id, url, timeout_s, reason)
