"""One node of a cluster that elects: its log, its driver and its core are real, and a script plays
the other nodes. What the node promises them is marked, for the crash lab (test_promises_kept.py).

The marks, in the order in which they count:

    ["term", term]           a message of this term has left, so that no lower one is voted for
    ["has", lsn, term]       the disk has all entries up to this one, of this term
    ["members", lsn, hex]    the configuration of this entry is committed, or acknowledged
    ["cut", lsn]             from now on the entries behind this one may be gone
    ["front", lsn, hex]      from now on those before this one may be; this is in force there
    ["snapshot", lsn]        the application has what the entries up to this one amount to
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, TypeVar, cast

from tests.native.twin import Record
from tests.wal.replicas import SEED, ReplicatedLog, records_of
from walstore.raft.driver import RaftReplicationManager
from walstore.raft.membership import Configuration
from walstore.replication.acks import parse_acks
from walstore.replication.log import NodeLog
from walstore.replication.message import (
    Ack,
    Body,
    Confirm,
    Confirmed,
    ReplicationMessage,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
    WalEntry,
)
from walstore.replication.network import NodeConnected
from walstore.replication.options import ReplicationOptions
from walstore.replication.streaming import Wish
from walstore.replication.terms import next_term
from walstore.testing import Mark
from walstore.wal.record import CONFIGURATION, DATA, TERM
from walstore.wal.records import configurations_in, parse_records
from walstore.wal.writing import Replicated

NAME, OTHERS = "a", ("b", "c")
MEMBERS = frozenset("abc")
CLUSTER_ID = bytes(range(16))
NEVER_MS = 1e9
OPTIONS = ReplicationOptions(
    election_ms=NEVER_MS, heartbeat_ms=NEVER_MS / 4, probe_ms=NEVER_MS, stall_ms=NEVER_MS
)
WAIT_S = 20.0

T = TypeVar("T", bound=Body)


def opened(path: Path) -> ReplicatedLog:
    """The node's log."""
    replicated = Replicated(CLUSTER_ID, partial(next_term, node_id=NAME))
    return ReplicatedLog(path / "log", replicated=replicated, segment_bytes=4096)


def record(lsn: int, term: int, payload: bytes | Configuration = b"", kind: int = DATA) -> Record:
    if isinstance(payload, Configuration):
        payload, kind = payload.encode(), CONFIGURATION
    return Record(lsn, term, timestamp_ns=lsn, kind=kind, payload=payload)


def led(lsn: int, term: int, leader: str, entries: int = 2) -> list[Record]:
    """What a leader appends first, and some entries."""
    data = [record(lsn + n, term, b"%d" % (lsn + n) * 50) for n in range(1, entries + 1)]
    return [record(lsn, term, leader.encode(), TERM), *data]


class Script:
    """The NetworkManager of the node; what the others say is the script's."""

    connected = OTHERS

    def __init__(self, node: Lone, *, cluster_id: Any, term: Any, on_message: Any) -> None:
        self._node = node
        self._term = term
        self.on_message = on_message

    def subscribe(self, callback: Callable[[NodeConnected], None]) -> None:
        self._callback = callback

    async def start(self) -> None:
        pass

    def connect(self) -> None:
        for other in OTHERS:
            self._callback(NodeConnected(other, dialed=False))

    async def stop(self) -> None:
        pass

    def hold(self) -> None:
        pass

    def release(self) -> None:
        pass

    def metrics(self) -> SimpleNamespace:
        return SimpleNamespace(peers={})

    def refuse(self, node: str, reason: str) -> None:
        raise AssertionError(f"{node} was refused: {reason}")

    def broadcast(self, body: Body) -> tuple[str, ...]:
        return tuple(other for other in OTHERS if self.send(other, body))

    def send(self, node: str, body: Body) -> bool:
        self._node.says(node, self._term(), body)
        return True


class Lone:
    """The node, from the start to the end of the block.

    Args:
        path: where its log is, or will be.
        mark: of the crash lab.
        snapshots: the application's.
        options: the node's.

    Attributes:
        follow: whether the others take what this node sends them.
    """

    def __init__(
        self,
        path: Path,
        mark: Mark,
        snapshots: Any = None,
        options: ReplicationOptions = OPTIONS,
    ) -> None:
        self._path = path
        self._mark = mark
        self._snapshots = snapshots
        self._options = options
        self._said: list[tuple[str, Body]] = []
        self._heard = asyncio.Event()
        self._marked_term = 0
        self.follow = False

    async def __aenter__(self) -> Self:
        self.wal = opened(self._path)
        self.log = NodeLog(self.wal)
        make_network: Any = partial(Script, self)
        self.driver = RaftReplicationManager(
            self.log,
            node_id=NAME,
            members=MEMBERS,
            acks=parse_acks("quorum", MEMBERS),
            wants_to_lead=False,
            makes_cluster=False,
            network=make_network,
            urls={},
            advertise=None,
            options=self._options,
            snapshots=self._snapshots,
        )
        self._script = cast(Script, self.driver.network)
        await self.driver.start()
        self._script.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.driver.stop()
        self.wal.close()

    # ---- what the node says ----

    def says(self, to: str, term: int, body: Body) -> None:
        if term > self._marked_term:
            self._marked_term = term
            self._mark(["term", term])
        if isinstance(body, Ack) and body.durable_lsn:
            self.promise(body.durable_lsn)
        self._said.append((to, body))
        self._heard.set()
        if self.follow and isinstance(body, WalEntry | Confirm):
            asyncio.get_running_loop().call_soon(self._answer, to, term, body)

    def promise(self, lsn: int) -> None:
        """The disk has the log up to here."""
        self._mark(["has", lsn, self.log.term_of(lsn)])

    def _answer(self, node: str, term: int, body: WalEntry | Confirm) -> None:
        if isinstance(body, Confirm):
            self._deliver(node, term, Confirmed(body.round))
            return
        lsn = body.prev_lsn
        if body.records:
            prev = {"prev_lsn": lsn, "prev_term": body.prev_term}
            lsn = parse_records(bytes(body.records), seed=body.seed, **prev).last_lsn
        self._deliver(node, term, Ack(lsn, lsn, 0))

    async def until(self, truth: Callable[[], object], what: str) -> None:
        """Waits for something that comes of what was said or heard."""
        deadline = time.monotonic() + WAIT_S
        while not truth():
            if self.driver.error is not None:
                raise self.driver.error
            assert time.monotonic() < deadline, what
            self._heard.clear()
            try:
                await asyncio.wait_for(self._heard.wait(), 0.005)
            except TimeoutError:
                continue

    async def said(self, kind: type[T], truth: Callable[[T], object], to: str) -> T:
        """Waits for a message to a node; what it has said before that is forgotten."""
        found: list[T] = []

        def is_said() -> bool:
            while self._said:
                node, body = self._said.pop(0)
                if node == to and isinstance(body, kind) and truth(body):
                    found.append(body)
                    return True
            return False

        await self.until(is_said, f"{kind.__name__} to {to}")
        return found[0]

    # ---- what it hears ----

    def _deliver(self, source: str, term: int, body: Body) -> None:
        message = ReplicationMessage(source, NAME, 1, term, 0, CLUSTER_ID, body)
        self._script.on_message(source, message)

    async def take(self, leader: str, records: Sequence[Record], prev_term: int) -> None:
        """A leader sends entries; returns when this node has acknowledged them all."""
        first, last = records[0].lsn, records[-1].lsn
        data = records_of(*records, prev_term=prev_term).data
        entries = WalEntry(first - 1, prev_term, 0, SEED, data)
        self._deliver(leader, records[-1].term, entries)
        await self.said(Ack, lambda ack: ack.durable_lsn >= last, leader)
        found = parse_records(data, seed=SEED, prev_lsn=first - 1, prev_term=prev_term)
        for lsn, payload in configurations_in(found):
            self._mark(["members", lsn, payload.hex()])

    async def commit(self, leader: str, last: Record) -> None:
        """A leader says that everything up to its last entry is committed."""
        self._deliver(leader, last.term, WalEntry(last.lsn, last.term, last.lsn, SEED, b""))
        await self.until(lambda: self.log.committed_lsn >= last.lsn, "it is committed")

    async def asked(self, candidate: str, term: int, last: tuple[int, int]) -> bool:
        """A candidate, whose log ends there, asks for the vote; whether it is given."""
        self._deliver(candidate, term, VoteRequest(*last, transfer=True))
        return (await self.said(VoteResponse, lambda _: True, candidate)).granted

    def hear(self, source: str, term: int, body: Body) -> None:
        """Another message."""
        self._deliver(source, term, body)

    async def lead(self, leader: str) -> None:
        """The leader hands over to this node, which another one votes for."""
        self.hear(leader, self.driver.core.term, TimeoutNow())
        await self.said(VoteRequest, lambda _: True, leader)
        term = self.driver.core.term
        self.hear(leader, term, VoteResponse(True, self.log.last_lsn, 0))
        await self.until(lambda: self.driver.leading, "it leads")

    # ---- what its users do ----

    async def append(self, *payloads: bytes) -> None:
        """Returns when they are committed."""
        lsn = self.wal.submit(payloads[0]).lsn
        for payload in payloads[1:]:
            lsn = self.wal.submit(payload).lsn
        await self.until(lambda: self.log.committed_lsn >= lsn, "they are committed")
        self.promise(lsn)

    async def change(self, wish: Wish) -> None:
        """Returns when these are the members."""
        lsn = await self.driver.change_members(wish, WAIT_S)
        self._mark(["members", lsn, self.driver._ledger.at(lsn).hex()])

    async def truncate(self, lsn: int) -> None:
        """Drops the entries before this one."""
        self._mark(["front", lsn, self.driver._ledger.at(lsn - 1).hex()])
        await asyncio.to_thread(self.driver.keep_configuration, lsn)
        await asyncio.to_thread(self.log.drop_before, lsn)


class Paused:
    """What waits for the disk, in a thread, comes to its end when the test says so."""

    def __init__(self, node: Lone, kind: type) -> None:
        self.begun, self.goes_on = threading.Event(), threading.Event()
        self._work = node.driver._disk_handlers[kind]
        node.driver._disk_handlers[kind] = self

    def __call__(self, effect: Any) -> None:
        self._work(effect)
        self.begun.set()
        assert self.goes_on.wait(WAIT_S)
