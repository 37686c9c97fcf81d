"""Whatever arrives, in whatever order: no exception, and what must never happen does not."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from tests.helpers import seeded
from tests.replication.cores import batch
from walstore.raft.membership import Configuration, decode_configuration
from walstore.raft.node import RaftNode
from walstore.replication.core import CoreBody
from walstore.replication.effects import (
    AppendConfiguration,
    AppendTermEntry,
    Effect,
    PersistTerm,
    Refuse,
    Reset,
    RoleChanged,
    Send,
    SendEntries,
    SetCommitted,
    StopFollowing,
)
from walstore.replication.entries import Batch
from walstore.replication.message import (
    Ack,
    Confirm,
    Confirmed,
    SnapshotAck,
    SnapshotPart,
    SyncRequest,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from walstore.replication.terms import next_term, owns_term

from .test_node import RaftLog

ROUNDS = 150
MESSAGES = 150
NAMES = "abcdx"


def any_configuration(rng: random.Random) -> Configuration:
    voters = frozenset(rng.sample("abcd", rng.randint(1, 3)))
    outgoing = frozenset(rng.sample("abcd", rng.randint(0, 2)))
    return Configuration(voters, frozenset(rng.sample("abcd", 1)), outgoing)


class Target:
    """A node, on a log in memory, and what was seen of it."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.log = RaftLog()
        first = [(0, Configuration(frozenset("abc")))]
        self.node = RaftNode("a", self.log, 0, 0, first, rng.uniform, 0)
        self.now_ms = 0.0
        self.durable_term = 0
        self.committed_lsn = 0
        self.seen: Counter[str] = Counter()

    # ---- what is thrown at it ----

    def any_term(self) -> int:
        term, rng = self.node.term, self.rng
        return rng.choice((term, next_term(term, rng.choice(NAMES)), max(0, term - 1), 1))

    def any_message(self) -> tuple[str, int, CoreBody]:
        """Mostly one that the node could get."""
        rng, node = self.rng, self.node
        if (node.asking or node.campaigning) and rng.random() < 0.4:
            return rng.choice("bc"), node.term, VoteResponse(True, 0, 0, pre=node.asking)
        last_lsn = self.log.last_lsn
        if node.role == "leader" and rng.random() < 0.9:
            held = Ack(last_lsn, last_lsn, 0)
            body: CoreBody = rng.choice((held, held, Confirmed(rng.randint(1, 3))))
            return rng.choice("bcd"), node.term, body
        body, name = self.any_body(), rng.choice(NAMES)
        if rng.random() < 0.05:
            return name, self.any_term(), body
        claims = isinstance(body, Batch | SnapshotPart | Confirm | VoteRequest)
        if not claims or (isinstance(body, VoteRequest) and body.pre):
            return rng.choice("bc"), node.term, body
        owners = [other for other in NAMES if owns_term(node.term, other)]
        if owners and owners != ["a"] and rng.random() < 0.9:
            return owners[0], node.term, body
        other = rng.choice("bcdx")
        return other, next_term(node.term, other), body

    def any_lsn(self) -> int:
        return self.rng.randint(0, self.log.last_lsn + 2)

    def any_body(self) -> CoreBody:
        rng, log = self.rng, self.log
        lsn = self.any_lsn()
        held = log.first_lsn - 1 <= lsn <= log.last_lsn and rng.random() < 0.8
        term = log.term_of(lsn) if held else self.any_term()
        choice = rng.randrange(12)
        if choice < 3:
            return self.any_batch(lsn, term)
        granted, flag = rng.random() < 0.7, rng.random() < 0.5
        members = any_configuration(rng).encode() if rng.random() < 0.98 else b"?"
        bodies: Sequence[CoreBody] = (
            SyncRequest(lsn, term),
            Ack(lsn, self.any_lsn(), 0),
            SnapshotPart(
                lsn + 1, term, rng.choice((0, 0, 4)), rng.choice((4, 8)), b"1234", members
            ),
            SnapshotAck(lsn, rng.choice((0, 4, 8))),
            VoteRequest(lsn, term, flag, rng.random() < 0.3),
            VoteResponse(granted, lsn, term, flag),
            Confirm(rng.randint(0, 9)),
            Confirmed(rng.randint(0, 9)),
            TimeoutNow(),
        )
        return bodies[choice - 3]

    def any_batch(self, lsn: int, term: int) -> Batch:
        rng = self.rng
        terms = sorted(rng.choice((term, self.node.term)) for _ in range(rng.randint(0, 3)))
        found = batch((lsn, term), terms, self.any_lsn())
        payloads = tuple(
            (at, any_configuration(rng).encode())
            for at in range(lsn + 1, lsn + 1 + len(terms))
            if rng.random() < 0.3
        )
        return Batch(
            found.prev_lsn,
            found.prev_term,
            found.committed_lsn,
            found.runs,
            found.last_lsn,
            configurations=payloads,
        )

    def anything(self) -> None:
        """One input."""
        rng, node = self.rng, self.node
        self.now_ms += rng.choice((0, 1, 1, 30, 30, 400, 2_500))
        choice = rng.randrange(20)
        name = rng.choice(NAMES)
        if choice < 12:
            source, term, body = self.any_message()
            self.take(node.received(source, term, body, self.now_ms))
        elif choice == 12:
            self.take(node.connected(rng.choice("bcdx"), self.now_ms))
        elif choice == 13:
            self.take(node.disconnected(name))
        elif choice == 14:
            self.take(node.read(1, self.now_ms))
        elif choice == 15:
            self.take(node.transfer(name, self.now_ms))
        elif choice == 16:
            voters = set(rng.sample("abcd", rng.randint(0, 3)))
            self.take(node.change(voters, set(rng.sample("abcd", 1)), self.now_ms))
        elif choice < 19:
            last_lsn = self.log.last_lsn
            self.log.durable_lsn = rng.choice(
                (last_lsn, rng.randint(self.log.durable_lsn, last_lsn))
            )
            self.take(node.durable(self.now_ms))
        else:
            self.take(node.tick(max(self.now_ms, node.next_deadline_ms or 0)))

    # ---- what comes of it ----

    def take(self, effects: list[Effect]) -> None:
        """Carries effects out, as a driver would."""
        for effect in effects:
            self.seen[type(effect).__name__] += 1
            self.log.take([effect])
            match effect:
                case PersistTerm():
                    assert effect.term > self.durable_term
                    self.durable_term = effect.term
                case AppendTermEntry():
                    self.take(self.node.written())
                case AppendConfiguration():
                    decode_configuration(effect.payload)
                    self.append_configuration()
                case SendEntries():
                    self.take(self.node.sent(effect, self.log.last_lsn, 10, self.now_ms))
                case Reset():
                    self.log.first_lsn, self.log.prev_term = effect.first_lsn, effect.prev_term
                    self.log.terms.clear()
                    self.log.durable_lsn = effect.first_lsn - 1
                case SetCommitted():
                    assert self.committed_lsn < effect.lsn <= self.log.last_lsn
                    self.committed_lsn = effect.lsn
                case Send():
                    assert effect.node != "a"
                    assert self.node.term == self.durable_term, "before its term is durable"
                case RoleChanged(role="leader"):
                    assert owns_term(effect.term, "a")
                case _:
                    pass
        assert self.node.term == self.durable_term

    def append_configuration(self) -> None:
        full = self.rng.random() < 0.2
        if not full:
            self.log.terms.append(self.node.term)
        lsn = 0 if full else self.log.last_lsn
        self.take(self.node.configured(lsn, self.now_ms))


def test_any_messages_in_any_order() -> None:
    rng = seeded("any message")
    seen: Counter[str] = Counter()
    for _ in range(ROUNDS):
        target = Target(rng)
        for name in "bc":
            target.take(target.node.connected(name, 0))
        for _ in range(MESSAGES):
            target.anything()
        seen += target.seen
    print(", ".join(f"{name} {count}" for name, count in sorted(seen.items())))
    common = (PersistTerm, RoleChanged, Send, Refuse, SetCommitted, AppendTermEntry)
    assert all(seen[kind.__name__] >= 60 for kind in common)
    assert all(seen[kind.__name__] >= 10 for kind in (AppendConfiguration, Reset, StopFollowing))
