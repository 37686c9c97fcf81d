"""What the replication tests share: nodes in this process, and hands to speak the protocol with."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.helpers import contents
from walstore import WALEntry
from walstore.replication import ReplicationMessage, ReplicationWALManager
from walstore.replication.message import Body, Hello, decode, encode

WAIT_S = 20.0


def until(truth: Callable[[], bool], what: str) -> None:
    """Waits for something that nobody announces."""
    deadline = time.monotonic() + WAIT_S
    while not truth():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.005)


class Nodes:
    """Nodes by name, each with its directory; started, stopped and started again."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._open: list[ReplicationWALManager] = []
        self._sockets = ExitStack()

    def leader(self, name: str = "L", port: int = 0, **options: Any) -> ReplicationWALManager:
        """Starts a leader."""
        return self._keep(
            ReplicationWALManager(
                self.base / name, node_id=name, listen=f"127.0.0.1:{port}", **options
            )
        )

    def follower(
        self, name: str, leader: ReplicationWALManager, **options: Any
    ) -> ReplicationWALManager:
        """Starts a follower."""
        peers = {leader.node_id: leader.url}
        return self._keep(
            ReplicationWALManager(self.base / name, node_id=name, peers=peers, **options)
        )

    def raw(self, leader: ReplicationWALManager, name: str = "raw", **options: Any) -> RawFollower:
        """Connects, to say anything."""
        made = connect(leader.url, compression=None, max_size=None, proxy=None, **options)
        return RawFollower(leader, name, self._sockets.enter_context(made))

    def _keep(self, log: ReplicationWALManager) -> ReplicationWALManager:
        self._open.append(log)
        return log

    def entries(self, name: str) -> list[WALEntry]:
        """All that a stopped node's log holds."""
        return contents(self.base / name)

    def close(self) -> None:
        """Stops every node, followers first."""
        for log in reversed(self._open):
            log.close()
        self._open.clear()
        self._sockets.close()

    def assert_equal(self, *names: str) -> list[WALEntry]:
        """Stops every node; their logs must be the same in every field. Returns the entries."""
        self.close()
        first, *others = (self.entries(name) for name in names)
        for other in others:
            assert other == first
        return first


class RawFollower:
    """A connection to a leader on which anything can be sent."""

    def __init__(self, leader: ReplicationWALManager, name: str, socket: ClientConnection) -> None:
        self.leader = leader
        self.name = name
        self.socket = socket
        self.sent = 0

    def message(self, body: Body, **changes: Any) -> ReplicationMessage:
        """The next message that a well-behaved follower would send."""
        self.sent += 1
        fields: dict[str, Any] = {
            "source": self.name,
            "target": self.leader.node_id,
            "message_id": self.sent,
            "term": 1,
            "timestamp_ns": 0,
            "log_id": bytes.fromhex(self.leader.log_id),
            "body": body,
        }
        return ReplicationMessage(**(fields | changes))

    def send(self, body: Body, **changes: Any) -> None:
        """Sends a message."""
        self.socket.send(encode(self.message(body, **changes)))

    def receive(self) -> ReplicationMessage:
        """The leader's next message."""
        data = self.socket.recv(WAIT_S)
        assert isinstance(data, bytes)
        return decode(data)

    def greet(self, last_lsn: int = 0, last_term: int = 0) -> None:
        """Says hello, and is answered."""
        self.send(Hello(last_lsn, last_term))
        assert isinstance(self.receive().body, Hello)

    def closed_with(self) -> tuple[int, str]:
        """Waits for the leader to close. Returns its code and reason."""
        closed = None
        while closed is None:
            try:
                self.socket.recv(WAIT_S)
            except ConnectionClosed as error:
                closed = error.rcvd
        return closed.code, closed.reason
