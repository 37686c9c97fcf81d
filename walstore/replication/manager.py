"""ReplicationWALManager: a log whose durable entries reach its followers."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal
from urllib.parse import urlsplit

from walstore.errors import ClosedLogError, NotALogError, OptionError, WALStoreError
from walstore.replication.background import Background
from walstore.replication.errors import NotLeaderError, ReplicationTimeoutError
from walstore.replication.message import Entries, is_node_id
from walstore.replication.network import (
    FOLLOWERS_MAX,
    FollowerLink,
    LeaderServer,
    ask_log_id,
)
from walstore.replication.protocol import Position
from walstore.wal.commit import Commit
from walstore.wal.manager import FileWALManager, Payload, SyncPolicy
from walstore.wal.record import DATA, WALEntry

__all__ = ["ReplicationWALManager"]

_HOST = "127.0.0.1"


class ReplicationWALManager(FileWALManager):
    """A log on several nodes: the leader's, or a follower's copy of it.

    The node that listens leads: it is a FileWALManager, and streams each entry to its followers
    once that is durable here. A node that is given a leader follows: its log takes the leader's
    entries, whole as they are, and refuses any other write. Both can be read like any log.

    Args:
        path: the log's directory, as of FileWALManager.
        node_id: this node's name, at most 64 bytes; no two nodes share one.
        listen: "127.0.0.1:port" to lead; port 0 picks a free one, see `url`.
        peers: {leader's node id: "ws://127.0.0.1:port"} to follow.
        sync, segment_bytes, sync_interval_ms, clock, entropy: as of FileWALManager. A follower
            acknowledges what is on its disk, whatever its policy.
        join_timeout_s: how long a follower without a log waits for its leader, to learn which
            log it is going to be a copy of. One that has a log needs no leader to open.

    Raises:
        OptionError: neither or both of `listen` and `peers`, or one that makes no sense.
        OSError: the address is taken.
        UnreachableError, RefusedError: a new follower did not find its leader, or found another.
        Other errors: as FileWALManager.

    A leader that cannot be reached is tried again. What ends the replication, such as a leader
    whose log is not this one's continuation, is logged and kept in `replication_error`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        node_id: str,
        listen: str | None = None,
        peers: Mapping[str, str] | None = None,
        sync: SyncPolicy = "always",
        segment_bytes: int = 64 << 20,
        sync_interval_ms: int = 50,
        clock: Callable[[], int] = time.time_ns,
        entropy: Callable[[int], bytes] = os.urandom,
        join_timeout_s: float = 10.0,
    ) -> None:
        self.node_id = _checked_node_id(node_id)
        self.role: Literal["leader", "follower"] = "leader" if listen else "follower"
        self._wall_clock = clock
        self._ending = threading.Event()
        self._progress = threading.Condition()
        self._durable_lsns: dict[str, int] = {}
        self._server: LeaderServer | None = None
        self._link: FollowerLink | None = None
        service: LeaderServer | FollowerLink
        if listen and not peers:
            port = _checked_port(listen)
            service = self._server = LeaderServer(self, _HOST, port, self._note_progress)
        elif peers and not listen:
            self._leader_id, url = _checked_leader(peers)
            service = self._link = FollowerLink(self, self._leader_id, url, random.Random())
            if not _is_log(path):
                log_id = _ask(ask_log_id(node_id, self._leader_id, url, join_timeout_s))
                entropy = _with_log_id(log_id, entropy)
        else:
            raise OptionError("a node is given either listen, to lead, or peers, to follow")
        self._background = Background(service, f"walstore-{node_id}")
        super().__init__(
            path,
            sync=sync,
            segment_bytes=segment_bytes,
            sync_interval_ms=sync_interval_ms,
            clock=clock,
            entropy=entropy,
        )
        try:
            if self.role == "leader":
                super().begin_term()  # (lsn, term) never names two entries, whatever a crash took
            self._background.start()
        except BaseException:
            super().close()
            raise

    # ---- replication, as its users see it ----

    @property
    def url(self) -> str:
        """Where the leader listens: what its followers are given."""
        if self._server is None:
            raise NotLeaderError(self.node_id, self._leader_id)
        return f"ws://{_HOST}:{self._server.port}"

    @property
    def connected(self) -> tuple[str, ...]:
        """The nodes that are connected now."""
        if self._server is not None:
            return self._server.connected
        assert self._link is not None
        return (self._leader_id,) if self._link.connected else ()

    @property
    def replication_error(self) -> Exception | None:
        """On a follower: what ended the replication until a person has acted, or None."""
        return self._link.error if self._link is not None else None

    def followers(self) -> dict[str, int]:
        """On the leader: how far each follower is known to be durable, connected or not."""
        with self._progress:
            return dict(self._durable_lsns)

    def wait_for_followers(
        self, lsn: int, *, count: int = 1, timeout_s: float | None = None
    ) -> None:
        """Waits until `count` followers have an entry on their disks. With lsn 0: until so many
        have connected.

        Raises:
            ReplicationTimeoutError: not known in time; it says what is known. The entry may still
                get there.
            ClosedLogError: this log was closed meanwhile.
        """

        def there() -> bool:
            known = sum(durable_lsn >= lsn for durable_lsn in self._durable_lsns.values())
            return known >= count or self._ending.is_set()

        with self._progress:
            in_time = self._progress.wait_for(there, timeout_s)
            if not in_time:
                assert timeout_s is not None
                raise ReplicationTimeoutError(lsn, count, self._durable_lsns, timeout_s)
        if self._ending.is_set():
            raise ClosedLogError(f"{self.path} is closed")

    # ---- writing: the leader's alone ----

    def append(self, payload: Payload, *, kind: int = DATA) -> int:
        """As FileWALManager.append. Followers get the entry after it is durable here.

        Raises:
            NotLeaderError: this node is a follower.
        """
        self._require_leader()
        return super().append(payload, kind=kind)

    def append_many(self, payloads: Iterable[Payload], *, kind: int = DATA) -> range:
        """As FileWALManager.append_many; see `append`."""
        self._require_leader()
        return super().append_many(payloads, kind=kind)

    def submit(self, payload: Payload, *, kind: int = DATA) -> Commit:
        """As FileWALManager.submit; see `append`."""
        self._require_leader()
        return super().submit(payload, kind=kind)

    def begin_term(self) -> int:
        """As FileWALManager.begin_term; the leader's alone."""
        self._require_leader()
        return super().begin_term()

    def truncate_after(self, lsn: int) -> None:
        """As FileWALManager.truncate_after; the leader's alone. A follower that holds more than
        is left has diverged, and is refused from its next connection on."""
        self._require_leader()
        super().truncate_after(lsn)

    def _require_leader(self) -> None:
        if self._link is not None:
            raise NotLeaderError(self.node_id, self._leader_id)

    # ---- life ----

    def close(self) -> None:
        """Ends the replication, then closes the log as FileWALManager.close. Followers get what
        was not sent yet when the leader is back."""
        with self._progress:
            self._ending.set()
            self._progress.notify_all()
        self._background.stop()
        super().close()

    # ---- what the network needs (network.ReplicatedLog) ----

    def position(self) -> Position:
        """Where the log stands."""
        return Position(bytes.fromhex(self.log_id), self.term, self.first_lsn, self.durable_lsn)

    def term_of(self, lsn: int) -> int:
        """The term of an entry, or of the one before the log's first."""
        return self._term_of(lsn)

    def now_ns(self) -> int:
        """The wall clock."""
        return self._wall_clock()

    async def apply(self, batch: Entries) -> int:
        """Appends a batch that was checked, whole or not at all; durable at return, whatever the
        policy. Returns the durable lsn."""
        return await asyncio.to_thread(self._append_durably, batch.entries)

    # ---- inside ----

    def _append_durably(self, entries: Sequence[WALEntry]) -> int:
        self._append_entries(entries)
        durable_lsn = self.durable_lsn
        return self.sync() if durable_lsn < entries[-1].lsn else durable_lsn

    def _note_progress(self, node_id: str, durable_lsn: int) -> None:
        with self._progress:
            self._durable_lsns[node_id] = durable_lsn
            if len(self._durable_lsns) > FOLLOWERS_MAX:
                gone = set(self._durable_lsns).difference(self.connected)
                del self._durable_lsns[min(gone)]
            self._progress.notify_all()


def _is_log(path: str | os.PathLike[str]) -> bool:
    try:
        FileWALManager(path, read_only=True).close()
    except NotALogError:
        return False
    except WALStoreError:
        return True  # opening it to write says what ails it
    return True


def _ask(question: Coroutine[object, object, bytes]) -> bytes:
    """Runs in a thread of its own: the caller's may have an event loop that is running."""
    with ThreadPoolExecutor(1, "walstore-join") as executor:
        return executor.submit(asyncio.run, question).result()


def _with_log_id(log_id: bytes, entropy: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """Random bytes whose first request of a log id's size gets this one: making a log asks for
    its id once, and for nothing else of that size."""
    ids = iter([log_id])
    return lambda size: (size == len(log_id) and next(ids, b"")) or entropy(size)


def _checked_node_id(node_id: str) -> str:
    if not is_node_id(node_id):
        raise OptionError(f"node_id is a printable name of at most 64 bytes, not {node_id!r}")
    return node_id


def _checked_port(listen: str) -> int:
    host, _, port = listen.rpartition(":")
    if host != _HOST or not port.isdecimal() or int(port) > 0xFFFF:
        raise OptionError(
            f"listen is '{_HOST}:port', not {listen!r}: what travels is neither encrypted nor "
            "authenticated yet, so it stays on this machine"
        )
    return int(port)


def _checked_leader(peers: Mapping[str, str]) -> tuple[str, str]:
    if len(peers) != 1:
        raise OptionError(f"a follower is given one peer, its leader, not {len(peers)}")
    ((leader_id, url),) = peers.items()
    parts = urlsplit(url)
    try:
        good = parts.scheme == "ws" and parts.hostname == _HOST and bool(parts.port)
    except ValueError:
        good = False
    if not good:
        raise OptionError(f"a peer's url is 'ws://{_HOST}:port', not {url!r}")
    return _checked_node_id(leader_id), url
