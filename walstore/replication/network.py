"""NetworkManager: a node's connections to its peers, made, kept and counted."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from walstore.errors import OptionError
from walstore.replication.clients import ClientHandler, Clients
from walstore.replication.connection import Connection
from walstore.replication.dialing import agree, check_url, host_and_port, open_socket
from walstore.replication.errors import CloseCode, RefusedError, UnreachableError
from walstore.replication.handshake import Dialer, Listener
from walstore.replication.message import NONCE_BYTES, Body, ReplicationMessage, is_node_id
from walstore.replication.metrics import NetworkMetrics, PeerCounters, peer_metrics
from walstore.replication.options import NetworkOptions
from walstore.replication.requests import ClientRequest, is_client_id
from walstore.replication.security import Contexts, Security
from walstore.replication.tasks import begin_task

__all__ = [
    "NetworkError",
    "NetworkEvent",
    "NetworkManager",
    "NodeConnected",
    "NodeDisconnected",
    "QueueDrained",
]

logger = logging.getLogger("walstore.replication")
logger.addHandler(logging.NullHandler())  # quiet, unless the application says otherwise

_BACKLOG = 128
_ACCEPT_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class NodeConnected:
    """A node is connected; `dialed`: by this node."""

    node_id: str
    dialed: bool


@dataclass(frozen=True, slots=True)
class NodeDisconnected:
    """A node no longer is: the close code of WebSocket or CloseCode, 1006 without one."""

    node_id: str
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class NetworkError:
    """A node could not be connected; it is tried again."""

    node_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class QueueDrained:
    """The queue of a node has room again, after `send` had returned False."""

    node_id: str


NetworkEvent = NodeConnected | NodeDisconnected | NetworkError | QueueDrained


class NetworkManager:
    """Connects a node with its peers, and keeps it connected.

    All methods are to be called in the loop that `start` ran in.

    Attributes:
        clients: those that are connected.
        fail: called with a mistake that ended what keeps it connected; nothing, by default.

    Args:
        node_id: this node's.
        cluster_id: gives the id of its log; NO_CLUSTER while there is none.
        term: gives its current term.
        listen: "host:port" where others may connect, port 0 picks a free one; None: nowhere.
        peers: {node id: url} of those to connect to; others may connect to this node, too.
        security: what is asked of them.
        options: see NetworkOptions.
        on_message: called with (node id, message) for each one, in order. An awaitable that it
            returns is awaited before the next one of this peer; meanwhile at most 1 MiB of them is
            held, and the peer is read no further.
        members: the only nodes to be connected with; None: any.
        clock: the wall clock in nanoseconds.
        rng: for the jitter of reconnects.
        entropy: for nonces.

    Raises:
        OptionError: an option that makes no sense, or an address off this machine without
            protection.
    """

    def __init__(
        self,
        node_id: str,
        *,
        cluster_id: Callable[[], bytes],
        term: Callable[[], int],
        listen: str | None,
        peers: Mapping[str, str],
        security: Security,
        options: NetworkOptions,
        on_message: Callable[[str, ReplicationMessage], Awaitable[None] | None],
        members: frozenset[str] | None = None,
        clock: Callable[[], int] = time.time_ns,
        rng: random.Random | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if not is_node_id(node_id) or is_client_id(node_id):
            raise OptionError(f"{node_id!r} cannot be a node id")
        self.node_id = node_id
        self._cluster_id = cluster_id
        self._term = term
        self._security = security
        self._options = options
        self._on_message = on_message
        self._members = members
        self._clock = clock
        self._rng = rng if rng is not None else random.Random()
        self._entropy = entropy
        self._tls = Contexts(security.tls) if security.tls is not None else None
        self._listen = None if listen is None else host_and_port(listen, "listen")
        if self._listen is not None:
            security.check_host(self._listen[0])
        self._peers: dict[str, tuple[str, ...]] = {}
        for peer, url in peers.items():
            self._check_peer(peer, url)
            self._peers[peer] = (url,)
        self._listener: socket.socket | None = None
        self._port = 0
        self._accepting: asyncio.Task[None] | None = None
        self._dialers: dict[str, asyncio.Task[None]] = {}
        self._handshakes: set[asyncio.Task[None]] = set()
        self._all: set[Connection] = set()
        self._asking: set[Connection] = set()
        self.clients = Clients(options.clients_max)
        self._connections: dict[str, Connection] = {}
        self._counters: dict[str, PeerCounters] = {}
        self._strangers_refused: Counter[str] = Counter()
        self._callbacks: list[Callable[[NetworkEvent], None]] = []
        self._holding = False
        self._held: list[Connection] = []
        self.fail: Callable[[Exception], None] = lambda error: None

    # ---- life ----

    async def start(self) -> None:
        """Begins to listen and to connect; returns when others can connect.

        Raises:
            OSError: the address is taken, or not this machine's.
        """
        if self._listen is not None:
            self._listener = await self._bind(*self._listen)
            self._port = self._listener.getsockname()[1]
            self._accepting = begin_task(self._accept(self._listener), self._failed)
        for peer in self._peers:
            self._keep(peer)

    async def stop(self) -> None:
        """Closes everything; returns when no socket and no task is left. What `on_message` still
        awaits is cancelled."""
        if self._accepting is not None:  # first: what it has accepted is a handshake's to close
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
        tasks = [*self._dialers.values(), *self._handshakes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._dialers.clear()
        if self._listener is not None:
            self._listener.close()
        connections = list(self._all)
        for connection in connections:
            connection.close(CloseCode.GOING_AWAY, f"{self.node_id} stops")
        for connection in connections:
            await connection.ended.wait()
            if connection.consumer is not None:
                connection.consumer.cancel()
                await asyncio.gather(connection.consumer, return_exceptions=True)
        await asyncio.sleep(0)  # transports close their sockets right after connection_lost

    async def _bind(self, host: str, port: int) -> socket.socket:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        _listeners.add(listener)
        try:
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    @property
    def url(self) -> str:
        """Where this node listens: what its peers are given.

        Raises:
            OptionError: it does not.
        """
        if self._listen is None:
            raise OptionError(f"{self.node_id} does not listen")
        host = f"[{self._listen[0]}]" if ":" in self._listen[0] else self._listen[0]
        return f"{self._security.scheme}://{host}:{self._port}"

    # ---- peers ----

    @property
    def connected(self) -> tuple[str, ...]:
        """The nodes that are connected now."""
        return tuple(self._connections)

    def send(self, node_id: str, body: Body) -> bool:
        """Queues a message; it leaves with the others of this turn of the loop, in one write.

        Records and parts of snapshots wait in a queue of `queue_bytes`; other messages overtake
        them and are never left out while the connection lasts.

        Returns:
            False where the node is not connected, or its queue is full: see `drained`.
        """
        connection = self._connections.get(node_id)
        return connection is not None and connection.send(body)

    def hold(self) -> None:
        """Keeps what is queued until `release`: it need not wait for the loop's next turn then."""
        self._holding = True

    def release(self) -> None:
        """Sends what was queued since `hold`, in one write for each connection."""
        self._holding = False
        held, self._held = self._held, []
        for connection in held:
            connection.flush()

    def broadcast(self, body: Body) -> tuple[str, ...]:
        """Queues a message for every connected node; returns those that it was queued for."""
        return tuple(node for node in self.connected if self.send(node, body))

    async def drained(self, node_id: str) -> None:
        """Waits until a queue that was full is half empty, or the connection has ended."""
        connection = self._connections.get(node_id)
        if connection is not None:
            await connection.drained()

    async def connect(self, node_id: str, url: str) -> None:
        """Connects to a node; from then on it is a peer, and reconnected when need be.

        Raises:
            OptionError: the url makes no sense.
            UnreachableError: it does not answer in time. It does not become a peer.
            RefusedError: it does, and refuses this node, or is another one.
        """
        self._check_peer(node_id, url)
        if node_id not in self._connections:
            await self._dial(node_id, url)
        self._peers[node_id] = (url,)
        self._keep(node_id)

    def reach(self, node_id: str, urls: Sequence[str]) -> None:
        """Makes a node a peer, which is tried at each of these in turn until it is connected.

        Raises:
            OptionError: one of them makes no sense.
        """
        for url in urls:
            self._check_peer(node_id, url)
        self._peers[node_id] = tuple(urls)
        self._keep(node_id)

    def forget(self, node_id: str) -> None:
        """The node is no peer any more; a connection that there is stays."""
        self._peers.pop(node_id, None)
        task = self._dialers.pop(node_id, None)
        if task is not None:
            task.cancel()

    def is_usable(self, url: str) -> bool:
        """Whether a node could be reached there, as far as one can see."""
        try:
            check_url(self._security, url, "url")
        except OptionError:
            return False
        return True

    async def disconnect(self, node_id: str) -> None:
        """Disconnects from a node, which is no longer a peer; it may still connect to this one."""
        self._peers.pop(node_id, None)
        task = self._dialers.pop(node_id, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        connection = self._connections.get(node_id)
        if connection is not None:
            connection.close(CloseCode.NORMAL, f"{self.node_id} disconnects")
            await connection.ended.wait()

    def refuse(self, node_id: str, reason: str, code: CloseCode = CloseCode.BAD_MESSAGE) -> None:
        """Closes the connection to a node that broke the protocol, or may not take part."""
        connection = self._connections.get(node_id)
        if connection is not None:
            connection.counters.refused[code.name] += 1
            logger.warning("%s: refused: %s", node_id, reason, extra={"node": node_id})
            connection.close(code, reason)

    async def ask(self, node_id: str, url: str | None = None) -> bytes:
        """The cluster id of a node, which need not be connected: a new node joins with it.

        Raises:
            As `connect`.
        """
        connected = self._connections.get(node_id)
        if connected is not None and connected.session is not None:
            return connected.session.peer_cluster_id
        url = self._peers[node_id][0] if url is None else url
        self._check_peer(node_id, url)
        connection = await self._dial(node_id, url, ask=True)
        assert connection.session is not None
        cluster_id = connection.session.peer_cluster_id
        connection.close(CloseCode.NORMAL, "asked")
        await connection.ended.wait()
        return cluster_id

    def serve(self, handler: ClientHandler | None) -> None:
        """Lets clients in, and hands their requests to the handler; None: not any more."""
        self.clients.handler = handler

    def subscribe(self, callback: Callable[[NetworkEvent], None]) -> Callable[[], None]:
        """Calls back in the loop with every event; returns what ends that."""
        self._callbacks.append(callback)
        return partial(self._callbacks.remove, callback)

    def metrics(self) -> NetworkMetrics:
        """What was counted since the start."""
        peers = {}
        for node_id, counters in self._counters.items():
            connection = self._connections.get(node_id)
            since_ns = connection.connected_since_ns if connection is not None else None
            queued_bytes = connection.queued_bytes if connection is not None else 0
            peers[node_id] = peer_metrics(counters, since_ns, queued_bytes)
        return NetworkMetrics(peers, len(self._handshakes), dict(self._strangers_refused))

    def _check_peer(self, node_id: str, url: str) -> None:
        if not is_node_id(node_id) or is_client_id(node_id) or node_id == self.node_id:
            raise OptionError(f"{node_id!r} cannot be a peer of {self.node_id}")
        check_url(self._security, url, f"url of {node_id}")

    # ---- connections that go out ----

    def _keep(self, node_id: str) -> None:
        if node_id not in self._dialers:
            self._dialers[node_id] = begin_task(self._keep_connected(node_id), self._failed)

    async def _keep_connected(self, node_id: str) -> None:
        failures = 0
        while True:
            connection = self._connections.get(node_id)
            if connection is not None:
                await connection.ended.wait()
                failures = 0
                slowly = _is_final(connection.close_code)
            else:
                urls = self._peers[node_id]
                slowly = await self._try(node_id, urls[failures % len(urls)])
                failures += 1
            if node_id not in self._connections:
                await asyncio.sleep(self._backoff_s(failures, slowly))

    async def _try(self, node_id: str, url: str) -> bool:
        """Dials once; whether to try again slowly."""
        try:
            await self._dial(node_id, url)
        except (UnreachableError, RefusedError) as error:
            counters = self._counters_of(node_id)
            counters.failures += 1
            counters.last_error = str(error)
            logger.info("%s: not connected: %s", node_id, error, extra={"node": node_id})
            self._emit(NetworkError(node_id, str(error)))
            return isinstance(error, RefusedError) and error.code.final
        return False

    def _backoff_s(self, failures: int, slowly: bool) -> float:
        """Doubles from failure to failure; jitter keeps the peers of one node apart."""
        options = self._options
        ceiling_ms = options.reconnect_max_ms
        if not slowly:
            ceiling_ms = min(ceiling_ms, options.reconnect_min_ms << min(failures, 16))
        return ceiling_ms * self._rng.uniform(0.5, 1.0) / 1000

    async def _dial(self, node_id: str, url: str, *, ask: bool = False) -> Connection:
        """One attempt, until both ends know each other, or the connection has ended."""
        nonce = self._entropy(NONCE_BYTES)
        dialer = Dialer(self.node_id, node_id, self._security.secret, nonce, self._cluster_id)
        connection = Connection(self, self._options, dialer, url)
        connection.counters = self._counters_of(node_id)
        await open_socket(connection, node_id, url, self._options, self._tls)
        self._all.add(connection)
        if ask:
            self._asking.add(connection)
        await agree(connection, node_id, url, self._options)
        return connection

    # ---- connections that come in ----

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            await _readable(listener)
            try:
                accepted, _ = listener.accept()
            except BlockingIOError:
                continue
            except OSError as error:  # it is gone already, or there are no descriptors left
                logger.warning("cannot accept: %s", error, extra={"node": self.node_id})
                await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            accepted.setblocking(False)
            if len(self._handshakes) >= self._options.handshakes_max:
                self._strangers_refused[CloseCode.TRY_LATER.name] += 1
                accepted.close()
                continue
            task = asyncio.create_task(self._shake(accepted))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _shake(self, accepted: socket.socket) -> None:
        """Holds one of the places for handshakes until this one has ended."""
        loop = asyncio.get_running_loop()
        nonce = self._entropy(NONCE_BYTES)
        listener = Listener(self.node_id, self._security.secret, nonce, self._cluster_id)
        connection = Connection(self, self._options, listener, None)
        connection.counters.refused = self._strangers_refused
        try:
            async with asyncio.timeout(self._options.handshake_timeout_ms / 1000):
                await loop.connect_accepted_socket(
                    lambda: connection,
                    accepted,
                    ssl=self._tls.server() if self._tls is not None else None,
                )
        except OSError as error:
            self._strangers_refused["TLS"] += 1
            logger.warning("a stranger: refused: %s", error or "no TLS handshake in time")
            return
        self._all.add(connection)
        await connection.ready.wait()

    # ---- what connections ask of their network ----

    def now(self) -> tuple[int, int]:
        """The node's term, and the wall clock."""
        return self._term(), self._clock()

    def take_flush(self, connection: Connection) -> bool:
        """Whether `release` will flush the connection, in which something was queued."""
        if self._holding and connection not in self._held:
            self._held.append(connection)
        return self._holding

    def check_admission(self, connection: Connection) -> None:
        """Refuses who is no node of this cluster, or finds no room.

        Raises:
            RefusedError
        """
        if connection in self._asking:
            return
        node_id = connection.peer_id
        if is_client_id(node_id):
            self.clients.check_admission()
            return
        if self._members is not None and node_id not in self._members:
            raise RefusedError(CloseCode.WRONG_NODE, f"{node_id} is no node of this cluster")
        is_full = len(self._connections) >= self._options.peers_max
        if is_full and node_id not in self._connections:
            reason = f"{self._options.peers_max} nodes are connected"
            raise RefusedError(CloseCode.TRY_LATER, reason)

    def admit(self, connection: Connection) -> None:
        """Keeps one connection for each node: see docs/protocol.md, "Handshake"."""
        if connection in self._asking:
            return
        node_id = connection.peer_id
        if is_client_id(node_id):
            connection.counters = PeerCounters()
            self.clients.admit(connection)
            return
        before = self._connections.get(node_id)
        if before is not None:
            loser = self._loser(before, connection)
            loser.close(CloseCode.REPLACED, "another connection of the same nodes remains")
            if loser is connection:
                return
            self._forget(before)
        connection.counters = self._counters_of(node_id)
        connection.counters.connects += 1
        self._connections[node_id] = connection
        logger.info("%s: connected", node_id, extra={"node": node_id})
        self._emit(NodeConnected(node_id, connection.dialed))

    def _loser(self, before: Connection, after: Connection) -> Connection:
        if before.dialed == after.dialed or before.closing:
            return before
        this_node_wins = self.node_id < before.peer_id
        return before if after.dialed == this_node_wins else after

    def deliver(
        self, connection: Connection, message: ReplicationMessage
    ) -> Awaitable[None] | None:
        """Hands a message to the user of this network; not that of a connection which another one
        has replaced, of which the user has heard already: it would come too late."""
        if self._connections.get(connection.peer_id) is not connection:
            return None
        return self._on_message(connection.peer_id, message)

    def requested(self, connection: Connection, request: ClientRequest) -> None:
        """Hands a client's request to who serves clients."""
        self.clients.requested(connection, request)

    def roomy(self, connection: Connection) -> None:
        """Tells that a queue has room again."""
        if self._connections.get(connection.peer_id) is connection:
            self._emit(QueueDrained(connection.peer_id))

    def lost(self, connection: Connection) -> None:
        """A connection has ended."""
        self._all.discard(connection)
        self._asking.discard(connection)
        self.clients.lost(connection)
        if self._connections.get(connection.peer_id) is connection:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        node_id = connection.peer_id
        code, reason = connection.close_code, connection.close_reason
        del self._connections[node_id]
        if code not in (CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.REPLACED):
            connection.counters.failures += 1
            connection.counters.last_error = reason
        # Whoever knows the secret can make up names: they are not counted for ever.
        if node_id not in self._peers and len(self._counters) > 2 * self._options.peers_max:
            del self._counters[node_id]
        logger.info("%s: disconnected: %s", node_id, reason, extra={"node": node_id, "code": code})
        self._emit(NodeDisconnected(node_id, code, reason))

    def _counters_of(self, node_id: str) -> PeerCounters:
        return self._counters.setdefault(node_id, PeerCounters())

    def _failed(self, error: Exception) -> None:
        self.fail(error)

    def _emit(self, event: NetworkEvent) -> None:
        for callback in tuple(self._callbacks):
            callback(event)


def _abandon_all() -> None:
    """In a child made by fork: the addresses are the parent's alone."""
    for listener in list(_listeners):
        listener.close()


_listeners: weakref.WeakSet[socket.socket] = weakref.WeakSet()
os.register_at_fork(after_in_child=_abandon_all)


def _is_final(code: int) -> bool:
    return code in set(CloseCode) and CloseCode(code).final


async def _readable(listener: socket.socket) -> None:
    """Returns when somebody waits to be accepted. Not sock_accept: cancelled at the wrong moment,
    it loses the socket that it has accepted."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(listener, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(listener)
