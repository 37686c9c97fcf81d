"""Hand-overs that meet each other, or a disk that takes its time: each ends, and says how."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.raft.lone import MEMBERS, OPTIONS, WAIT_S, Lone, Paused, led, record
from walstore import ClosedLogError
from walstore.raft.membership import Configuration
from walstore.replication import PromotionError
from walstore.replication.effects import AppendConfiguration, HoldAppends
from walstore.replication.message import TimeoutNow
from walstore.replication.options import ReplicationOptions
from walstore.replication.terms import next_term

B1 = next_term(0, "b")
QUICK = replace(OPTIONS, election_ms=1000, heartbeat_ms=100)


@asynccontextmanager
async def leading(path: Path, options: ReplicationOptions = QUICK) -> AsyncIterator[Lone]:
    """A leader whose voters take what it sends, and never lead themselves."""
    async with Lone(path, lambda _: None, options=options) as node:
        await node.take("b", [record(1, B1, Configuration(MEMBERS)), *led(2, B1, "b")], 0)
        node.follow = True
        await node.lead("b")
        await node.append(b"it leads")
        yield node


async def under_way(node: Lone, target: str) -> asyncio.Task[int]:
    """A hand-over that waits for its end."""
    handing = asyncio.create_task(node.driver.transfer(target))
    await node.said(TimeoutNow, lambda _: True, target)
    return handing


def test_one_hand_over_at_a_time(tmp_path: Path) -> None:
    """The first one is told what becomes of it; then the leader steps down as it is told to."""

    async def run() -> None:
        async with leading(tmp_path) as node:
            first, term = await under_way(node, "b"), node.driver.core.term
            for second in (node.driver.transfer("c"), node.driver.demote()):
                with pytest.raises(PromotionError, match="b: it is about to lead"):
                    await asyncio.wait_for(second, WAIT_S)
            with pytest.raises(PromotionError, match="b: it did not lead in time"):
                await asyncio.wait_for(first, WAIT_S)
            roles = [node.driver.role]
            assert await asyncio.wait_for(node.driver.demote(), WAIT_S) > term
            assert [*roles, node.driver.role] == ["leader", "follower"]

    asyncio.run(run())


def test_a_voter_that_wants_to_lead_ends_no_hand_over(tmp_path: Path) -> None:
    """Neither another's nor the one to itself."""

    async def run() -> None:
        async with leading(tmp_path) as node:
            first = await under_way(node, "b")
            for voter in "cb":
                node.hear(voter, node.driver.core.term, TimeoutNow())
            with pytest.raises(PromotionError, match="b: it did not lead in time"):
                await asyncio.wait_for(first, WAIT_S)

    asyncio.run(run())


def test_what_was_appended_before_appends_are_held_is_handed_over(tmp_path: Path) -> None:
    """Another thread was faster than the node that is about to keep it out."""

    async def run() -> None:
        async with leading(tmp_path) as node:
            hold = node.driver._handlers[HoldAppends]
            late: list[int] = []

            def append_and_hold(effect: HoldAppends) -> None:
                if effect.hold:
                    late.append(node.wal.submit(b"late").lsn)
                hold(effect)

            node.driver._handlers[HoldAppends] = append_and_hold
            handing = await under_way(node, "b")
            progress = node.driver.core.progress("b")
            assert progress is not None
            assert [progress.matched_lsn] == late
            handing.cancel()
            await asyncio.gather(handing, return_exceptions=True)

    asyncio.run(run())


@asynccontextmanager
async def disk_paused(node: Lone) -> AsyncIterator[Paused]:
    """The leader waits for its disk, which has a change of the members; the end of the block does
    not wait for that change."""
    paused = Paused(node, AppendConfiguration)
    change = asyncio.create_task(
        node.driver.change_members(lambda voters, _: (voters, {"d"}), WAIT_S)
    )
    await asyncio.to_thread(paused.begun.wait, WAIT_S)
    try:
        yield paused
    finally:
        paused.goes_on.set()
        change.cancel()
        await asyncio.gather(change, return_exceptions=True)


def test_a_hand_over_that_waits_for_the_disk_ends(tmp_path: Path) -> None:
    async def run() -> None:
        async with leading(tmp_path) as node, disk_paused(node):
            with pytest.raises(PromotionError, match="b: it did not lead in time"):
                await asyncio.wait_for(node.driver.transfer("b"), WAIT_S)

    asyncio.run(run())


def test_a_hand_over_that_nobody_waits_for_any_more_does_not_begin(tmp_path: Path) -> None:
    """It was given up while it waited for the disk. No timer of the leader runs out meanwhile: one
    that has resigned hands nothing over, whatever it is asked."""

    async def run() -> None:
        async with leading(tmp_path, OPTIONS) as node, disk_paused(node) as paused:
            held: list[HoldAppends] = []
            node.driver._handlers[HoldAppends] = held.append
            handing = asyncio.create_task(node.driver.transfer("b"))
            await node.until(lambda: node.driver._transfer is not None, "it waits for its turn")
            handing.cancel()
            await asyncio.gather(handing, return_exceptions=True)
            paused.goes_on.set()
            while node.driver._work is not None:
                await asyncio.wait([node.driver._work])
            assert not node.driver._inbox
            assert node.driver.leading
            assert not held

    asyncio.run(run())


def test_a_hand_over_of_a_node_that_is_closed_meanwhile_has_not_happened(tmp_path: Path) -> None:
    async def run() -> None:
        async with leading(tmp_path) as node, disk_paused(node) as paused:
            handing = asyncio.create_task(node.driver.transfer("b"))
            await node.until(lambda: node.driver._transfer is not None, "it waits for its turn")
            stopping = asyncio.create_task(node.driver.stop())
            with pytest.raises(ClosedLogError):
                await asyncio.wait_for(handing, WAIT_S)
            paused.goes_on.set()
            await stopping

    asyncio.run(run())


def test_a_hand_over_that_a_close_ends_leaves_nothing_to_complain_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with leading(tmp_path) as node:
            handing = asyncio.create_task(node.driver.transfer("b"))
            await node.until(lambda: node.driver._transfer is not None, "it waits")
            await node.driver.stop()
            with pytest.raises(ClosedLogError):
                await asyncio.wait_for(handing, WAIT_S)
            del handing
            gc.collect()

    asyncio.run(run())
    assert not [record for record in caplog.records if record.name == "asyncio"]
