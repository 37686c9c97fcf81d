"""A node that cannot read the terms of its log when its core asks: what the core had begun to
decide is lost, and nothing may come of it. The node says so, and is good again when it is opened
again."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import refuse_reads, segment_files
from tests.raft.lone import MEMBERS, OPTIONS, WAIT_S, Lone, Paused, led, record
from walstore import LogAccessError
from walstore.raft.membership import Configuration
from walstore.replication import FatalReplicationError
from walstore.replication.effects import AppendConfiguration, AppendTermEntry
from walstore.replication.message import Confirm, VoteRequest, VoteResponse
from walstore.replication.notes import CLAIM_COPY_NAME, CLAIM_NAME, write_note
from walstore.replication.terms import next_term

B1 = next_term(0, "b")
C1 = next_term(B1, "c")
BEGIN = [record(1, B1, Configuration(MEMBERS)), *led(2, B1, "b")]
LAST_LSN = BEGIN[-1].lsn


@asynccontextmanager
async def reopened(path: Path, **options: Any) -> AsyncIterator[Lone]:
    """The node; all that its log holds was there before, so that terms are read from the disk."""
    if not (path / "log").exists():
        async with Lone(path, lambda _: None) as node:
            await node.take("b", BEGIN, 0)
    async with Lone(path, lambda _: None, options=replace(OPTIONS, **options)) as node:
        yield node


def refuse(patch: pytest.MonkeyPatch, path: Path, number: int = errno.EMFILE) -> None:
    refuse_reads(patch, segment_files(path / "log")[-1], number)


def assert_no_mistake(caplog: pytest.LogCaptureFixture) -> None:
    """A log that cannot be read is said to be that; it kills no task of the node's."""
    assert "replication ends here" in caplog.text
    assert "died of a mistake" not in caplog.text


async def ended(node: Lone, number: int = errno.EMFILE) -> None:
    """Waits until the node says that it takes no part, and why."""
    with pytest.raises(LogAccessError) as caught:
        await node.until(lambda: False, "it says what ails it")
    assert caught.value.errno == number
    assert node.driver.role == "follower"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
def test_no_vote_leaves_before_its_term_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The term was adopted, and then the node could not see where its own log ends."""
    request = VoteRequest(LAST_LSN, B1, transfer=True)

    async def run() -> None:
        async with reopened(tmp_path) as node:
            with monkeypatch.context() as patch:
                refuse(patch, tmp_path, number)
                node.hear("c", C1, request)
                await ended(node, number)
            node.hear("c", C1, request)  # all is well again, but for what is lost
            assert node.log.term == B1
            assert not any(isinstance(body, VoteResponse) for _, body in node._said)
        async with reopened(tmp_path) as node:
            assert await node.asked("c", C1, (LAST_LSN, B1))
            assert node.log.term == C1

    asyncio.run(run())


def test_a_node_whose_timer_meets_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with reopened(tmp_path, election_ms=60, heartbeat_ms=20) as node:
            refuse(monkeypatch, tmp_path)
            await ended(node)

    asyncio.run(run())


@asynccontextmanager
async def lacking(path: Path) -> AsyncIterator[Lone]:
    """The same, and damage took entries from the log, which it has not got back."""
    async with reopened(path):
        for name in (CLAIM_NAME, CLAIM_COPY_NAME):
            write_note(str(path / "log"), name, {"term": B1, "lsn": LAST_LSN + 5})
    async with reopened(path) as node:
        yield node


def test_a_node_that_cannot_see_when_to_look_again_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers what it has decided on, and then does not know what it waits for."""

    async def run() -> None:
        async with lacking(tmp_path) as node:
            refuse(monkeypatch, tmp_path)
            node.hear("b", B1, Confirm(1))
            assert node.driver.error is not None
            await ended(node)

    asyncio.run(run())


def test_a_node_that_cannot_see_what_it_lacks_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing happens but that it looks after itself."""

    async def run() -> None:
        async with lacking(tmp_path) as node:
            refuse(monkeypatch, tmp_path)
            await ended(node)

    asyncio.run(run())
    assert_no_mistake(caplog)


@pytest.mark.parametrize(
    "error", [LogAccessError(errno.EMFILE, "the log", "cannot read"), MemoryError()]
)
def test_a_node_that_meets_it_when_it_begins_to_lead_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    def began(lsn: int) -> None:
        raise error

    async def run() -> None:
        async with reopened(tmp_path) as node:
            monkeypatch.setattr(node.driver.core, "began", began)
            node.hear("b", B1, Confirm(1))
            with pytest.raises(type(error)):
                await node.lead("b")
            assert node.driver.error is error
            assert node.driver.role == "follower"

    asyncio.run(run())
    assert_no_mistake(caplog)


def test_who_changes_the_members_is_told_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = LogAccessError(errno.EMFILE, "the log", "cannot read")

    def configured(lsn: int, now_ms: float) -> None:
        raise error

    async def run() -> None:
        async with reopened(tmp_path) as node:
            node.hear("b", B1, Confirm(1))
            node.follow = True
            await node.lead("b")
            await node.append(b"it leads")
            monkeypatch.setattr(node.driver.core, "configured", configured)
            with pytest.raises(LogAccessError) as caught:
                await node.driver.change_members(lambda voters, _: (voters, {"d"}), 3.0)
            assert caught.value is error is node.driver.error

    asyncio.run(run())


def test_whose_changes_wait_is_told_of_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One waits for a newcomer, one is on the way to the disk, and two are in line behind it."""
    error = LogAccessError(errno.EMFILE, "the log", "cannot read")

    def configured(lsn: int, now_ms: float) -> None:
        raise error

    async def run() -> None:
        async with reopened(tmp_path) as node:
            node.hear("b", B1, Confirm(1))
            node.follow = True
            await node.lead("b")
            await node.append(b"it leads")

            def change(name: str, vote: bool) -> asyncio.Task[int]:
                def wish(voters: Set[str], learners: Set[str]) -> tuple[Set[str], Set[str]]:
                    return (voters | {name}, learners) if vote else (voters, learners | {name})

                return asyncio.create_task(node.driver.change_members(wish, 2 * WAIT_S))

            waiting = [change("d", vote=True)]
            core = node.driver.core
            await node.until(
                lambda: (
                    core.configuration.newcomers and core.configuration_lsn <= core.committed_lsn
                ),
                "a newcomer is waited for",
            )
            paused = Paused(node, AppendConfiguration)
            monkeypatch.setattr(core, "configured", configured)
            waiting += [change(name, vote=False) for name in "efg"]
            await asyncio.to_thread(paused.begun.wait, WAIT_S)
            assert not any(task.done() for task in waiting)
            paused.goes_on.set()
            told = asyncio.gather(*waiting, return_exceptions=True)
            assert await asyncio.wait_for(told, WAIT_S) == [error] * 4

    asyncio.run(run())


@pytest.mark.parametrize("how", ["fails", "stops"])
def test_a_node_that_has_ended_does_not_begin_to_lead(tmp_path: Path, how: str) -> None:
    """Its term entry was on the way to the disk."""
    error = FatalReplicationError("a person has to look at this")

    async def run() -> None:
        async with reopened(tmp_path) as node:
            driver, paused = node.driver, Paused(node, AppendTermEntry)
            node.hear("b", B1, Confirm(1))
            leading = asyncio.create_task(node.lead("b"))
            await asyncio.to_thread(paused.begun.wait, WAIT_S)
            stopping = None
            if how == "fails":
                driver._fail(error)
            else:
                stopping = asyncio.create_task(driver.stop())
                await asyncio.sleep(0)
            work = driver._work
            assert work
            paused.goes_on.set()
            await work
            assert driver.role == "follower"
            assert not node.log._accepts
            leading.cancel()
            await asyncio.gather(leading, return_exceptions=True)
            if stopping is not None:
                await stopping

    asyncio.run(run())
