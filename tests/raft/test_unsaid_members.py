"""A copy of the log of a cluster that did not elect before: who its members are is said by no
entry, until the first leader that was elected has written them down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.raft.lone import MEMBERS, OPTIONS, Lone, led, record
from tests.raft.test_handing_over import leading
from tests.raft.test_node import RaftLog, node_of
from tests.wal.replicas import SEED, records_of
from walstore.raft.history import History, as_of
from walstore.raft.membership import Configuration
from walstore.replication.effects import Refuse
from walstore.replication.message import Ack, SnapshotPart, SyncRequest, WalEntry
from walstore.replication.options import ReplicationOptions
from walstore.replication.terms import next_term

B1 = next_term(0, "b")
C2 = next_term(B1, "c")
ABC = Configuration(MEMBERS)
UNSAID = led(1, B1, "b", 199)
SAID = record(201, B1, ABC)


def node_at(path: Path, options: ReplicationOptions = OPTIONS) -> Lone:
    return Lone(path, lambda _: None, options=options)


async def copy(node: Lone) -> None:
    """The log, and the members behind it, which are not committed."""
    await node.take("b", UNSAID, 0)
    await node.commit("b", UNSAID[-1])
    await node.take("b", [SAID], B1)


def replace_members(node: Lone) -> None:
    """Another leader, which lacks the members, has other entries there."""
    data = records_of(*led(SAID.lsn, C2, "c"), prev_term=B1).data
    node.hear("c", C2, WalEntry(SAID.lsn - 1, B1, 0, SEED, data))


@pytest.mark.parametrize("times", [0, 1, 2], ids=["first", "reopened", "reopened twice"])
def test_members_that_were_never_committed_can_be_cut(tmp_path: Path, times: int) -> None:
    """Also by a node that was opened again since it got them: it knows no members then, gives no
    vote, and goes on."""

    async def cut(node: Lone) -> None:
        replace_members(node)
        await node.said(Ack, lambda ack: ack.durable_lsn > SAID.lsn, "c")
        assert node.log.term_of(SAID.lsn) == C2
        assert node.driver.core.configuration == Configuration()
        end = SAID.lsn + 2
        assert not await node.asked("b", next_term(C2, "b"), (end, C2))
        await node.take("b", [record(end + 1, next_term(C2, "b"), ABC)], C2)
        assert node.driver.core.configuration == ABC

    async def run() -> None:
        async with node_at(tmp_path) as node:
            await copy(node)
            if not times:
                await cut(node)
        for time in range(1, times + 1):
            async with node_at(tmp_path) as node:
                if time == times:
                    await cut(node)

    asyncio.run(run())


def test_a_mistake_of_the_core_ends_the_node_s_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came in the middle of a decision: nothing that the core believes by now is told."""

    def mistake(*_: Any) -> None:
        raise IndexError("of ours")

    async def run() -> None:
        async with node_at(tmp_path) as node:
            await copy(node)
            with monkeypatch.context() as patch:
                patch.setattr(History, "cut", mistake)
                replace_members(node)
            assert isinstance(node.driver.error, IndexError)
            node._said.clear()
            node.driver.applied(SAID.lsn - 1)
            assert not node._said

    asyncio.run(run())


def test_a_follower_far_behind_is_told_who_the_members_are(tmp_path: Path) -> None:
    """What is left of the log does not say it, and begins before the entry that does."""

    async def run() -> None:
        async with node_at(tmp_path) as node:
            await copy(node)
            await node.commit("b", SAID)
            await node.truncate(150)
            await node.lead("b")
            node.hear("c", node.driver.core.term, SyncRequest(1, B1))
            part = await node.said(SnapshotPart, lambda _: True, "c")
            follower = node_of(RaftLog([B1], durable_lsn=1), name="c")
            effects = follower.received("a", node.driver.core.term, part, 0)
            assert not any(isinstance(effect, Refuse) for effect in effects)
            assert follower.configuration == ABC

    asyncio.run(run())


def test_members_that_were_changed_meanwhile_are_not_written_down(tmp_path: Path) -> None:
    """That waited for the disk, which had a change; it would undo that."""

    async def run() -> None:
        async with leading(tmp_path) as node:
            await node.change(lambda voters, _: (voters, {"d"}))
            node.driver._input(node.driver._write_down)
            while node.driver._work is not None:
                await asyncio.wait([node.driver._work])
            assert node.driver.core.configuration.learners == {"d"}

    asyncio.run(run())


@pytest.mark.parametrize(
    "first",
    [
        lambda abc: abc,
        lambda abc: abc.change(set("ab")),
        lambda abc: abc.change(set("abd")),
        lambda abc: abc.change(set("abc"), set("d")),
    ],
    ids=["written down", "voter removed", "voter replaced", "learner added"],
)
def test_the_first_change_says_what_it_was_made_of(
    first: Callable[[Configuration], Configuration],
) -> None:
    known = [(0, Configuration()), (9, first(ABC))]
    assert as_of(known, 5) == ABC
    assert as_of(known, 9) == first(ABC)
    assert as_of(known[:1], 5) == Configuration()
