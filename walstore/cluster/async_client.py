"""A client of a replicated state machine, for one event loop (docs/machines.md, "Clients")."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from walstore.cluster.client_links import LinkError, Links, LinkTimeoutError
from walstore.cluster.client_session import ClientSession
from walstore.cluster.machine_errors import (
    ClusterUnavailableError,
    CommandUnknownError,
    SessionExpiredError,
)
from walstore.cluster.sessions import result_of
from walstore.errors import ClosedLogError, OptionError
from walstore.limits import LSN_MAX
from walstore.replication import TLS, NetworkOptions, Security
from walstore.replication.dialing import check_url
from walstore.replication.message import is_node_id
from walstore.replication.requests import (
    CLIENT_PREFIX,
    COMMAND_BYTES_MAX,
    Ask,
    ClientRequest,
    ClientResponse,
    Status,
    is_client_id,
)
from walstore.wal.arguments import checked_lsn

__all__ = ["AsyncClusterClient"]

_PAUSE_MIN_S = 0.01
_PAUSE_MAX_S = 1.0
_REOPEN_MAX = 3
_NODES_MAX = 64
_SETTLED = frozenset(
    (
        *(Status.DONE, Status.REFUSED, Status.EXPIRED, Status.FORGOTTEN, Status.BEYOND),
        *(Status.TOO_LARGE, Status.UNSUPPORTED),
    )
)


@dataclass(slots=True)
class _Asking:
    """One request, over all attempts.

    Attributes:
        timeout_s, deadline_s: until when it is tried.
        anywhere: whether any node will do.
        reasons: why it has no answer, by node.
        taken: whether a node may have taken it.
        strangers: nodes, and where, that refuse to talk to this client.
        failures: attempts without an answer.
        redirected: the last answer named another node.
    """

    timeout_s: float
    deadline_s: float
    anywhere: bool = False
    reasons: dict[str, str] = field(default_factory=dict)
    taken: bool = False
    strangers: set[tuple[str, str]] = field(default_factory=set)
    failures: int = 0
    redirected: bool = False

    @property
    def left_s(self) -> float:
        return self.deadline_s - time.monotonic()


class _NoAnswerError(Exception):
    """The time is over."""


class AsyncClusterClient:
    """A client for one event loop; otherwise as ClusterClient, which says what all of it means."""

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
        own = CLIENT_PREFIX + name
        if not name or not is_node_id(own):
            raise OptionError(f"a client's name is a short printable one, not {name!r}")
        if not nodes:
            raise OptionError("nodes names no node: give {node id: url}")
        self._security = Security(secret, tls, insecure)
        self._given: dict[str, str] = dict(nodes)
        self._nodes: dict[str, tuple[str, ...]] = {}  # the one to try first
        for node, url in nodes.items():
            self._add(node, url)
        self.timeout_s = _checked(timeout_s, "timeout_s")
        self._attempt_s = _checked(attempt_s, "attempt_s")
        self._rng = random.Random()
        self._links = Links(own, self._security, network or NetworkOptions(), os.urandom)
        self._at = self._rng.choice(list(self._nodes))
        self._session: ClientSession | None = None
        self._opening = asyncio.Lock()
        self._room = asyncio.Condition()
        self._closed = False
        self.last_lsn = 0

    # ---- what users call ----

    async def call(self, command: bytes, *, timeout_s: float | None = None) -> bytes:
        """See ClusterClient.call."""
        asking = self._asking(command, timeout_s)
        for _ in range(_REOPEN_MAX):
            session = await self._open_session(asking)
            response = await self._command(session, command, asking)
            if response is not None:
                return self._result(response)
        raise ClusterUnavailableError(asking.timeout_s, {self._at: "it expires each new session"})

    async def read(self, query: bytes, *, timeout_s: float | None = None) -> bytes:
        """See ClusterClient.read."""
        return await self._read(ClientRequest(0, Ask.READ, data=query), timeout_s)

    async def read_after(
        self, query: bytes, lsn: int | None = None, *, timeout_s: float | None = None
    ) -> bytes:
        """See ClusterClient.read_after."""
        after = self.last_lsn if lsn is None else checked_lsn("lsn", lsn)
        if not 0 <= after <= LSN_MAX:
            raise OptionError(f"lsn is 0 to {LSN_MAX}, not {after}")
        request = ClientRequest(0, Ask.READ_AFTER, sequence=after, data=query)
        return await self._read(request, timeout_s, anywhere=True)

    async def read_stale(self, query: bytes, *, timeout_s: float | None = None) -> bytes:
        """See ClusterClient.read_stale."""
        return await self.read_after(query, 0, timeout_s=timeout_s)

    async def close(self) -> None:
        """See ClusterClient.close."""
        session, self._session = self._session, None
        self._closed = True
        try:
            if session is not None:  # where this is not heard, others' sessions close it later
                request = ClientRequest(0, Ask.CLOSE, session.number, self._random())
                url = self._nodes[self._at][0]
                with contextlib.suppress(LinkError):
                    await self._links.ask(self._at, url, request, self._attempt_s)
        finally:  # also of one who is cancelled meanwhile
            await self._links.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # ---- commands ----

    async def _open_session(self, asking: _Asking) -> ClientSession:
        async with self._alone(asking):
            if self._session is None:
                request = ClientRequest(0, Ask.OPEN, sequence=self._random())
                opening = _Asking(asking.timeout_s, asking.deadline_s)
                try:
                    response = await self._ask(request, opening)
                except _NoAnswerError:
                    raise ClusterUnavailableError(asking.timeout_s, opening.reasons) from None
                self._result(response)
                self._session = ClientSession(response.lsn)
            return self._session

    @contextlib.asynccontextmanager
    async def _alone(self, asking: _Asking) -> AsyncIterator[None]:
        """Nobody else opens a session."""
        try:
            async with asyncio.timeout(asking.left_s):
                await self._opening.acquire()
        except TimeoutError:
            reasons = {self._at: "another call still opens the session"}
            raise ClusterUnavailableError(asking.timeout_s, reasons) from None
        try:
            yield
        finally:
            self._opening.release()

    async def _command(
        self, session: ClientSession, command: bytes, asking: _Asking
    ) -> ClientResponse | None:
        """Its answer; None: the session was expired before any node took the command."""
        sequence = await self._begin(session, asking)
        asking.taken = False
        try:
            response = await self._ask(
                lambda: ClientRequest(
                    0, Ask.COMMAND, session.number, sequence, session.answered, command
                ),
                asking,
            )
        except _NoAnswerError:
            if not asking.taken:
                raise ClusterUnavailableError(asking.timeout_s, asking.reasons) from None
            raise CommandUnknownError(
                session.number, sequence, asking.timeout_s, asking.reasons
            ) from None
        finally:
            session.end(sequence)
            async with self._room:
                self._room.notify_all()
        if response.status in (Status.FORGOTTEN, Status.BEYOND):  # others use this session, too
            reasons = {self._at: f"it is {response.status.name}"}
            raise CommandUnknownError(session.number, sequence, asking.timeout_s, reasons)
        if response.status is not Status.EXPIRED:
            return response
        if self._session is session:
            self._session = None
        if asking.taken:
            raise SessionExpiredError(session.number, sequence)
        return None

    async def _begin(self, session: ClientSession, asking: _Asking) -> int:
        try:
            async with asyncio.timeout(asking.left_s), self._room:
                while session.full:
                    await self._room.wait()
        except TimeoutError:
            reasons = {self._at: "too many calls of this client have no answer yet"}
            raise ClusterUnavailableError(asking.timeout_s, reasons) from None
        return session.begin()

    async def _read(
        self, request: ClientRequest, timeout_s: float | None, *, anywhere: bool = False
    ) -> bytes:
        asking = self._asking(request.data, timeout_s, anywhere)
        try:
            response = await self._ask(request, asking)
        except _NoAnswerError:
            raise ClusterUnavailableError(asking.timeout_s, asking.reasons) from None
        return self._result(response)

    def _result(self, response: ClientResponse) -> bytes:
        if response.status is Status.UNSUPPORTED:
            raise OptionError(response.data.decode(errors="replace"))
        self.last_lsn = max(self.last_lsn, response.lsn)
        return result_of(response.status, response.data)

    # ---- attempts ----

    def _asking(self, data: bytes, timeout_s: float | None, anywhere: bool = False) -> _Asking:
        if self._closed:
            raise ClosedLogError("the client is closed")
        if not isinstance(data, bytes) or len(data) > COMMAND_BYTES_MAX:
            raise OptionError(f"a command or query is at most {COMMAND_BYTES_MAX} bytes")
        limit_s = self.timeout_s if timeout_s is None else _checked(timeout_s, "timeout_s")
        return _Asking(limit_s, time.monotonic() + limit_s, anywhere)

    async def _ask(
        self, request: ClientRequest | Callable[[], ClientRequest], asking: _Asking
    ) -> ClientResponse:
        """The answer of whichever node can give it. Its `answered` may change between attempts.

        Raises:
            _NoAnswerError: none did, in time; or none ever will.
            ClosedLogError: the client was closed meanwhile.
        """
        while asking.left_s > 0:
            if self._closed:
                raise ClosedLogError("the client is closed")
            node = self._at
            url = self._nodes[node][0]
            now = request() if callable(request) else request
            limit_s = min(self._attempt_s, asking.left_s)
            try:
                response = await self._links.ask(node, url, now, limit_s)
            except LinkError as error:
                if not isinstance(error, LinkTimeoutError) or limit_s == self._attempt_s:
                    asking.reasons[node] = error.reason
                asking.reasons.setdefault(node, error.reason)  # it had little time
                asking.taken = asking.taken or error.sent
                if error.final:
                    asking.strangers.add((node, url))
                    known = {(n, u) for n, urls in self._nodes.items() for u in urls}
                    if asking.strangers >= known:
                        break
                if not error.sent and self._nodes[node][0] == url:  # where else it may be
                    self._nodes[node] = (*self._nodes[node][1:], url)
                self._go_on_from(node)
                await self._pause(asking)
                continue
            if response.status in _SETTLED:
                return response
            asking.taken = asking.taken or response.status is Status.UNSETTLED
            asking.reasons[node] = _said(response)
            await self._follow(node, response, asking)
        raise _NoAnswerError

    async def _follow(self, node: str, response: ClientResponse, asking: _Asking) -> None:
        """Goes to the node that the answer names, at once the first time; or to another one."""
        leader, url = response.leader_id, response.leader_url
        moved = leader in self._nodes and url and url not in self._nodes[leader]
        if moved or (leader and leader not in self._nodes and len(self._nodes) < _NODES_MAX):
            with contextlib.suppress(OptionError):  # one that this client may not talk to
                self._add(leader, url)
        if leader in self._nodes and leader != node:
            if self._at == node:
                self._at = leader
            if not asking.redirected:
                asking.redirected = True
                return
        elif leader != node or asking.anywhere:  # one that leads and is busy stays the one to ask
            self._go_on_from(node)
        await self._pause(asking)

    async def _pause(self, asking: _Asking) -> None:
        asking.redirected = False
        longest_s = min(_PAUSE_MAX_S, _PAUSE_MIN_S * 2 ** min(asking.failures, 16))
        asking.failures += 1
        await asyncio.sleep(max(0.0, min(longest_s * self._rng.uniform(0.5, 1.0), asking.left_s)))

    def _go_on_from(self, node: str) -> None:
        """The next node, unless another call has found one already."""
        if self._at == node:
            names = list(self._nodes)
            self._at = names[(names.index(node) + 1) % len(names)]

    def _add(self, node: str, url: str) -> None:
        if not is_node_id(node) or is_client_id(node):
            raise OptionError(f"{node!r} cannot be a node id")
        check_url(self._security, url, f"url of {node}")
        self._nodes[node] = tuple(dict.fromkeys((url, self._given.get(node, url))))

    def _random(self) -> int:
        return int.from_bytes(os.urandom(8), "little") & LSN_MAX


def _said(response: ClientResponse) -> str:
    text = response.data.decode(errors="replace")
    busy = response.status is Status.BUSY
    follows = f"it follows {response.leader_id}" if response.leader_id and not busy else ""
    return text or follows or response.status.name.lower().replace("_", " ")


def _checked(number: float, what: str) -> float:
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not number > 0:
        raise OptionError(f"{what} is a positive number of seconds, not {number!r}")
    return number
