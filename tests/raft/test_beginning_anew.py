"""A log that a thread begins anew behind a snapshot, and what the node's loop and other threads ask
of it meanwhile."""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.raft.lone import MEMBERS, WAIT_S, Lone, led, record
from walstore.raft.driver import RaftReplicationManager
from walstore.raft.ledger import Ledger, Mark
from walstore.raft.membership import Configuration
from walstore.replication import streaming
from walstore.replication.addressing import Addressing
from walstore.replication.message import SnapshotAck, SnapshotPart
from walstore.replication.notes import CLAIM_COPY_NAME, CLAIM_NAME, write_note
from walstore.replication.tasks import begin_task
from walstore.replication.terms import next_term

B1 = next_term(0, "b")
C1 = next_term(B1, "c")
ABC = Configuration(MEMBERS)
ABD = Configuration(frozenset("abd"))
BEGIN = [record(1, B1, ABC), *led(2, B1, "b")]
SNAPSHOT_LSN = 40
STATE = b"state"
LOOKS = 3


class Application:
    """It takes any snapshot."""

    def newest(self, term_of: Any) -> None:
        raise AssertionError("this node does not lead")

    def install(self, lsn: int, path: str) -> None:
        pass


class HeldUp:
    """The thread that has begun the log anew, and has told nobody yet."""

    def __init__(self, node: Lone) -> None:
        self.begun, self.goes_on = asyncio.Event(), threading.Event()
        self._loop = asyncio.get_running_loop()
        wal: Any = node.wal
        self._reset = wal._reset
        wal._reset = self._run

    def _run(self, *arguments: Any) -> None:
        self._reset(*arguments)
        self._loop.call_soon_threadsafe(self.begun.set)
        assert self.goes_on.wait(WAIT_S)


class Looks:
    """How often the node has looked at what is looked at now and then."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.made = 0
        reach = Addressing.reach

        def counted(addressing: Addressing, members: Any) -> None:
            self.made += 1
            reach(addressing, members)

        patch.setattr(Addressing, "reach", counted)
        patch.setattr(streaming, "_MAINTAIN_S", 0.002)


async def begin(path: Path) -> None:
    """Leaves a log of some entries."""
    async with Lone(path, lambda _: None) as node:
        await node.take("b", BEGIN, 0)
        await node.commit("b", BEGIN[-1])


def send_snapshot(node: Lone) -> None:
    node.hear("c", C1, SnapshotPart(SNAPSHOT_LSN, C1, 0, len(STATE), STATE, ABD.encode()))


def test_the_core_is_asked_nothing_until_the_log_has_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What damage took is not back before; and who asks now and then lives on."""

    async def run() -> None:
        await begin(tmp_path)
        for name in (CLAIM_NAME, CLAIM_COPY_NAME):
            write_note(str(tmp_path / "log"), name, {"term": B1, "lsn": SNAPSHOT_LSN - 1})
        looks = Looks(monkeypatch)
        async with Lone(tmp_path, lambda _: None, Application()) as node:
            assert node.log.claim is not None
            held_up = HeldUp(node)
            send_snapshot(node)
            async with asyncio.timeout(WAIT_S):
                await held_up.begun.wait()
            seen = looks.made
            await node.until(lambda: looks.made > seen + LOOKS, "it looks")
            assert node.log.claim is not None
            held_up.goes_on.set()
            await node.until(lambda: node.log.claim is None, "it has all again")

    asyncio.run(run())


def test_a_mark_made_before_the_members_are_known_is_the_snapshots(tmp_path: Path) -> None:
    """Another thread truncates, and keeps what is in force there: a crash right after it, too,
    brings back the members that came with the snapshot."""

    async def run() -> None:
        await begin(tmp_path)
        async with Lone(tmp_path, lambda _: None, Application()) as node:
            held_up = HeldUp(node)
            send_snapshot(node)
            async with asyncio.timeout(WAIT_S):
                await held_up.begun.wait()
            await asyncio.to_thread(node.driver.keep_configuration, SNAPSHOT_LSN + 1)
            ledger = Ledger(node.log, MEMBERS)
            assert ledger.marked_lsn == SNAPSHOT_LSN
            assert ledger.at(SNAPSHOT_LSN) == ABD.encode()
            held_up.goes_on.set()
            await node.said(SnapshotAck, lambda ack: ack.at == len(STATE), "c")
            assert node.driver.core.configuration == ABD

    asyncio.run(run())


def test_entries_that_have_caught_up_with_a_snapshot_say_more_than_it(tmp_path: Path) -> None:
    """One that was about to be installed, when another leader sent the entries after all."""

    async def run() -> None:
        await begin(tmp_path)
        async with Lone(tmp_path, lambda _: None) as node:
            ledger, last = node.driver._ledger, BEGIN[-1]
            there = Mark(last.lsn + 2, C1, ((last.lsn + 2, ABC.encode()),))
            ledger.write(ledger.mark(), there)
            more = led(last.lsn + 1, C1, "c", 1)
            await node.take("c", more, B1)
            await node.commit("c", more[-1])
            ledger.write(ledger.mark())
            assert Ledger(node.log, MEMBERS).configurations() == [(0, Configuration()), (1, ABC)]

    asyncio.run(run())


@pytest.mark.parametrize("owner", [Addressing, RaftReplicationManager])
def test_a_mistake_in_what_is_looked_at_now_and_then_ends_the_nodes_part(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: type,
) -> None:
    """It is said in the log and by the node: no task dies unseen."""

    def mistaken(*_: object) -> None:
        raise ZeroDivisionError("a mistake")

    async def run() -> None:
        async with Lone(tmp_path, lambda _: None) as node:
            with pytest.raises(ZeroDivisionError, match="a mistake"):
                await node.until(lambda: False, "it says so")

    name = {Addressing: "reach", RaftReplicationManager: "_keep_members"}[owner]
    monkeypatch.setattr(owner, name, mistaken if owner is Addressing else _in_task(mistaken))
    with caplog.at_level(logging.ERROR, "walstore.replication"):
        asyncio.run(run())
    (told,) = [record for record in caplog.records if record.exc_info]
    assert told.exc_info is not None
    assert told.exc_info[0] is ZeroDivisionError


def test_a_disk_that_fails_amid_a_removal_is_no_mistake_of_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a member that is gone; there is no traceback."""
    refusal = OSError(errno.EIO, "the disk refuses the members")

    def refuse(payload: bytes) -> int:
        raise refusal

    async def run() -> None:
        async with Lone(tmp_path, lambda _: None) as node:
            await node.take("b", BEGIN, 0)
            node.follow = True
            await node.lead("b")
            await node.until(lambda: node.log.committed_lsn == node.log.last_lsn, "it may change")
            node.log.append_configuration = refuse  # type: ignore[method-assign]
            removal = begin_task(node.driver._remove_gone(["c"]), node.driver._fail)
            await asyncio.wait([removal])
            assert node.driver.error is refusal
            assert removal.exception() is None

    asyncio.run(run())
    assert [record.message for record in caplog.records if record.exc_info] == []


def _in_task(call: Callable[..., None]) -> Callable[..., Any]:
    async def run(*arguments: object) -> None:
        call(*arguments)

    return run
