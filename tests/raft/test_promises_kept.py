"""Power cuts, and failing calls, of one node of a cluster that elects: what it has told the others,
and its users, it knows when it comes back. lone.py says how; the crash lab breaks the disk."""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.crash.settings import scaled
from tests.raft.lone import MEMBERS, NAME, NEVER_MS, OPTIONS, Lone, led, opened, record
from walstore import durable
from walstore.raft.driver import _View
from walstore.raft.ledger import Ledger
from walstore.raft.membership import Configuration
from walstore.raft.node import RaftNode
from walstore.raft.options import RaftOptions
from walstore.replication.effects import Send
from walstore.replication.errors import MembershipError
from walstore.replication.lag import Samples
from walstore.replication.log import NodeLog
from walstore.replication.message import SnapshotAck, SnapshotPart, VoteRequest, VoteResponse
from walstore.replication.snapshots import Incoming
from walstore.replication.streaming import core_options
from walstore.replication.terms import next_term
from walstore.testing import CrashLab, Mark

STATES_MIN = 150
IS_SOAK = scaled(1) > 1
NEVER_LSN = 1 << 60

pytestmark = pytest.mark.timeout(7200)

ABC = Configuration(MEMBERS)
ABD = Configuration(frozenset("abd"))
B1 = next_term(0, "b")
C1 = next_term(B1, "c")
B2 = next_term(C1, "b")
C2 = next_term(B2, "c")
BEGIN = [record(1, B1, ABC), *led(2, B1, "b")]
SNAPSHOT_LSN = 40
SNAPSHOT = bytes(range(256)) * 20


# ---- votes ----


async def _vote(path: Path, mark: Mark) -> None:
    async with Lone(path, mark) as node:
        await node.take("b", BEGIN, 0)
        await node.commit("b", BEGIN[-1])
        lost = led(5, B1, "b")
        await node.take("b", lost, B1)
        assert await node.asked("c", C1, (9, B1))
        mark(["cut", 4])
        ours = led(5, C1, "c", 5)
        await node.take("c", ours, B1)
        assert not await node.asked("b", B2, (7, B1))
    async with Lone(path, mark) as node:
        assert node.driver.core.term == B2
        assert await node.asked("c", C2, (10, C1))
        more = led(11, C2, "c")
        await node.take("c", more, C1)
        await node.commit("c", more[-1])
        assert not await node.asked("b", next_term(C2, "b"), (7, B1))


def vote(path: Path, mark: Mark) -> None:
    """Votes that are given and refused, beside entries of those who were elected."""
    asyncio.run(_vote(path, mark))


# ---- changes of the members ----


async def _change(path: Path, mark: Mark) -> None:
    async with Lone(path, mark) as node:
        await node.take("b", BEGIN, 0)
        node.follow = True
        await node.lead("b")
        await node.append(*[b"%d" % n * 200 for n in range(8)])
        await node.change(lambda voters, learners: (voters - {"c"}, learners))
        await node.change(lambda voters, learners: (voters, learners | {"d"}))
        await node.append(*[b"%d" % n * 200 for n in range(20)])
        await node.truncate(node.log.last_lsn - 3)
        await node.change(lambda voters, learners: (voters | {"c"}, learners - {"c"}))
    async with Lone(path, mark) as node:
        ledger = node.driver._ledger
        assert node.driver.core.configuration == Configuration(MEMBERS, frozenset("d"))
        last_lsn, term = node.log.last_lsn, node.driver.core.term
        first = led(last_lsn + 1, next_term(term, "b"), "b")
        await node.take("b", first, node.log.term_of(last_lsn))
        await node.commit("b", first[-1])
        node.follow = True
        await node.lead("b")
        await node.append(b"the last that others have")
        node.follow = False
        last_lsn = node.log.last_lsn
        before = ledger.at(last_lsn)
        lost = asyncio.create_task(node.driver.change_members(lambda *_: (MEMBERS, set()), 20.0))
        await node.until(lambda: ledger.at(NEVER_LSN) != before, "it is in the log")
        second = led(last_lsn + 1, next_term(node.driver.core.term, "b"), "b")
        await node.take("b", second, node.log.term_of(last_lsn))
        assert ledger.at(NEVER_LSN) == before
        with suppress(MembershipError):
            await lost


def change(path: Path, mark: Mark) -> None:
    """Members come and go; a truncation takes away the entries that say so, and a change is cut."""
    asyncio.run(_change(path, mark))


# ---- snapshots ----


class Application:
    """Its state is one file."""

    def __init__(self, path: Path) -> None:
        self.path = path / "application"

    def newest(self) -> None:
        return None

    def install(self, lsn: int, path: str) -> None:
        data = b"%d\n" % lsn + Path(path).read_bytes()
        durable.write_whole(str(self.path), [data], new=f"{self.path}.new")


async def _take_snapshot(node: Lone, mark: Mark) -> None:
    await node.take("b", BEGIN, 0)
    await node.commit("b", BEGIN[-1])
    lost = led(5, B1, "b")
    await node.take("b", lost, B1)
    mark(["cut", 4])
    mark(["front", SNAPSHOT_LSN + 1, ABD.encode().hex()])
    half = len(SNAPSHOT) // 2
    for at, data in ((0, SNAPSHOT[:half]), (half, SNAPSHOT[half:])):
        part = SnapshotPart(SNAPSHOT_LSN, C1, at, len(SNAPSHOT), data, ABD.encode())
        node.hear("c", C1, part)
        await node.said(SnapshotAck, lambda ack, end=at + half: ack.at >= end, "c")  # type: ignore[misc]
    mark(["snapshot", SNAPSHOT_LSN])


async def _install(path: Path, mark: Mark) -> None:
    async with Lone(path, mark, Application(path)) as node:
        await _take_snapshot(node, mark)
        behind = led(SNAPSHOT_LSN + 1, C1, "c", 6)
        await node.take("c", behind, C1)
        await node.commit("c", behind[-1])
    async with Lone(path, mark, Application(path)) as node:
        assert node.driver.core.configuration == ABD
        assert node.log.first_lsn == SNAPSHOT_LSN + 1


def install(path: Path, mark: Mark) -> None:
    """A snapshot takes the log's place, with the members as of it."""
    asyncio.run(_install(path, mark))


def test_a_snapshot_whose_file_stays_has_taken_the_log_s_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails when all is done but to remove what has come."""

    def fail(incoming: Incoming) -> None:
        if os.path.exists(incoming.path):
            raise OSError(errno.EIO, incoming.path)

    async def run() -> None:
        async with Lone(tmp_path, lambda _: None, Application(tmp_path)) as node:
            with pytest.raises(OSError, match="Errno 5"):
                await _take_snapshot(node, lambda _: None)
            assert node.log.first_lsn == SNAPSHOT_LSN + 1
        async with Lone(tmp_path, lambda _: None, Application(tmp_path)) as node:
            assert node.driver.core.configuration == ABD

    monkeypatch.setattr(Incoming, "remove", fail)
    asyncio.run(run())


# ---- what was promised ----


@dataclass
class Promises:
    """Of some marks."""

    term: int = 0
    has: dict[int, int] = field(default_factory=dict)
    members: dict[int, str] = field(default_factory=dict)
    front: tuple[int, str] = (1, "")
    snapshot_lsn: int = 0

    def __init__(self, marks: list[Any]) -> None:
        self.has, self.members = {}, {}
        for kind, value, *more in marks:
            match kind:
                case "term":
                    self.term = max(self.term, value)
                case "has":
                    self.has[value] = more[0]
                case "members":
                    self.members[value] = more[0]
                case "cut":
                    self.has = {lsn: term for lsn, term in self.has.items() if lsn <= value}
                    self.members = {lsn: one for lsn, one in self.members.items() if lsn <= value}
                case "front":
                    self.front = (value, more[0])
                case "snapshot":
                    self.snapshot_lsn = value


def check(path: Path, marks: list[Any]) -> None:
    promised = Promises(marks)
    with opened(path) as wal:
        log = NodeLog(wal)
        ledger = Ledger(log, MEMBERS)
        assert log.term >= promised.term
        for lsn, term in promised.has.items():
            assert log.last_lsn >= lsn
            assert lsn < log.first_lsn or log.term_of(lsn) == term
        for lsn, payload in promised.members.items():
            assert lsn < log.first_lsn or ledger.at(lsn).hex() == payload
        assert (log.first_lsn > promised.snapshot_lsn) or not promised.snapshot_lsn
        if log.first_lsn > 1:
            assert promised.front == (log.first_lsn, ledger.at(log.first_lsn - 1).hex())
        if promised.snapshot_lsn:
            assert Application(path).path.read_bytes() == b"%d\n" % SNAPSHOT_LSN + SNAPSHOT
        assert not votes_below(log, ledger, promised.term)


def votes_below(log: NodeLog, ledger: Ledger, term: int) -> bool:
    """Whether the node would vote in a term below one that it has spoken in."""
    uniform = partial(max, 0.0)
    raft = RaftOptions(NEVER_MS, NEVER_MS, 1 << 20)
    node = RaftNode(
        NAME, _View(log, Samples()), log.term, log.committed_lsn, ledger.configurations(),
        uniform, 0.0, core_options(OPTIONS), raft,
    )  # fmt: skip
    effects = []
    for candidate in "bc":
        below = next_term(0, candidate)
        if below < term:
            effects += node.received(candidate, below, VoteRequest(1 << 40, term), 1.0)
    answers = [effect.body for effect in effects if isinstance(effect, Send)]
    return any(isinstance(body, VoteResponse) and body.granted for body in answers)


@pytest.mark.parametrize("workload", [vote, change, install])
def test_promises_survive_power_cuts(crash_lab: CrashLab, workload: Any) -> None:
    report = crash_lab.power_cuts(workload, check, states_min=scaled(STATES_MIN))
    assert report.in_recovery > 0


@pytest.mark.skipif(not IS_SOAK, reason="takes minutes: a soak does it")
@pytest.mark.parametrize("workload", [vote, change, install])
def test_promises_survive_failing_calls(crash_lab: CrashLab, workload: Any) -> None:
    report = crash_lab.failing_calls(workload, check)
    assert report.faults >= 500
