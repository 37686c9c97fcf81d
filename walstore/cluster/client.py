"""A client of a replicated state machine, for threads (docs/machines.md, "Clients")."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from walstore.cluster.async_client import AsyncClusterClient
from walstore.errors import ClosedLogError
from walstore.replication import TLS, NetworkOptions
from walstore.replication.background import Background, LoopCalls

__all__ = ["ClusterClient"]


class _Service:
    """An AsyncClusterClient in a loop of its own."""

    def __init__(self, make: Callable[[], AsyncClusterClient], calls: LoopCalls) -> None:
        self._make = make
        self._calls = calls
        self.client: AsyncClusterClient | None = None

    async def start(self) -> None:
        self._calls.loop = asyncio.get_running_loop()
        self.client = self._make()

    async def stop(self) -> None:
        if self.client is not None:
            await self.client.close()


class ClusterClient:
    """Calls the commands of a state machine on the nodes of a cluster, each applied once.

    Args:
        nodes: {node id: url} of nodes to ask. They name others, and who leads.
        name: with TLS, `client:NAME` is a name in this client's certificate.
        secret, tls, insecure: as the nodes have them; see ReplicationWALManager.
        timeout_s: how long a call is tried.
        attempt_s: how long one node has to answer.
        network: as of nodes.

    Attributes:
        last_lsn: the last entry that this client knows of.

    Raises:
        OptionError: an option makes no sense.

    All methods are safe from several threads, whose calls are under way at the same time, up to
    64; those of one thread are applied in order. Calls of a client that has forked, and in the
    child, are not served.
    """

    def __init__(
        self,
        nodes: Mapping[str, str],
        *,
        name: str = "client",
        secret: bytes | None = None,
        tls: TLS | None = None,
        insecure: bool = False,
        timeout_s: float = 30.0,
        attempt_s: float = 2.0,
        network: NetworkOptions | None = None,
    ) -> None:
        self._owner = os.getpid()
        self._calls = LoopCalls("the client", self._check_owner)

        def make() -> AsyncClusterClient:
            return AsyncClusterClient(
                nodes,
                name=name,
                secret=secret,
                tls=tls,
                insecure=insecure,
                timeout_s=timeout_s,
                attempt_s=attempt_s,
                network=network,
            )

        service = _Service(make, self._calls)
        self._background = Background(service, "walstore-client")
        try:
            self._background.start()
        except BaseException:  # interrupted, too
            self._background.stop()
            raise
        assert service.client is not None
        self._client = service.client

    def _check_owner(self) -> None:
        if os.getpid() != self._owner:
            raise ClosedLogError("the client was made by the parent process; make one in this one")

    @property
    def last_lsn(self) -> int:
        """The last entry that this client knows of: `read_after` reads what it wrote."""
        return self._client.last_lsn

    def call(self, command: bytes, *, timeout_s: float | None = None) -> bytes:
        """Has a command applied once, and returns its result; it is committed then.

        Args:
            command: at most COMMAND_BYTES_MAX.
            timeout_s: by default the client's.

        Raises:
            CommandRefusedError: the machine refused it.
            ResultTooLargeError: it was applied, and its result is too large.
            ClusterUnavailableError: nothing was done, and will be.
            CommandUnknownError, SessionExpiredError: applied once, or never.
            OptionError: it is too large.
            ClosedLogError: the client is closed.
        """
        return self._calls.wait_for(self._client.call(command, timeout_s=timeout_s))

    def read(self, query: bytes, *, timeout_s: float | None = None) -> bytes:
        """The leader's answer, of a state that has all that was answered before this call, to
        anybody.

        Raises:
            CommandRefusedError, ResultTooLargeError: the machine's.
            ClusterUnavailableError: there is none in time.
            OptionError: too large; or the nodes do not elect, and cannot know: see read_after.
            ClosedLogError: the client is closed.
        """
        return self._calls.wait_for(self._client.read(query, timeout_s=timeout_s))

    def read_after(
        self, query: bytes, lsn: int | None = None, *, timeout_s: float | None = None
    ) -> bytes:
        """The answer of any node that has applied an entry; by default `last_lsn`.

        Raises:
            OptionError: `lsn` is no entry's number, nor 0.
            Otherwise as `read`.
        """
        return self._calls.wait_for(self._client.read_after(query, lsn, timeout_s=timeout_s))

    def read_stale(self, query: bytes, *, timeout_s: float | None = None) -> bytes:
        """The answer of any node, of some state that once was.

        Raises:
            As `read`.
        """
        return self._calls.wait_for(self._client.read_stale(query, timeout_s=timeout_s))

    def close(self) -> None:
        """Closes its session and its connections. Calls that have no answer are ended with
        ClosedLogError, and may still be applied. Closing twice does nothing."""
        self._background.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
