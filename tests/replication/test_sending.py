"""What a leader sends when its log, a snapshot, the queue or the connection is another by then."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from tests.replication.cores import NODES
from tests.replication.networks import in_loop, until
from tests.wal.replicas import replicated
from walstore.replication import TermOf
from walstore.replication.acks import Acks
from walstore.replication.core import Core
from walstore.replication.effects import (
    AppendTermEntry,
    Effect,
    PersistTerm,
    SendEntries,
    SendSnapshot,
)
from walstore.replication.log import NodeLog
from walstore.replication.message import SnapshotPart, SyncRequest, WalEntry
from walstore.replication.network import NetworkManager
from walstore.replication.sending import _READERS_MAX, Sender
from walstore.replication.throttle import Throttle
from walstore.wal.records import parse_records

ENTRIES = 20
PAYLOAD_BYTES = 1000
SEGMENT_BYTES = 4096
PROBE_MS = 500
NOW_MS = 1e6  # the clock stands still


class Wire:
    """Of a network: the queue of one connection, which has room for so many bodies."""

    def __init__(self) -> None:
        self.connected = {"b"}
        self.room = 100
        self.got: list[WalEntry | SnapshotPart] = []
        self.full = asyncio.Event()  # somebody waits for room
        self._changed = asyncio.Event()

    def send(self, node: str, body: WalEntry | SnapshotPart) -> bool:
        if node not in self.connected or not self.room:
            return False
        self.room -= 1
        self.got.append(body)
        return True

    async def drained(self, node: str) -> None:
        self.full.set()
        await self._changed.wait()

    def make_room(self) -> None:
        self.room = 100
        self._changed.set()

    def hang_up(self) -> None:
        self.connected.clear()
        self._changed.set()


class Application:
    """With one snapshot, or none; each question for it may be held up."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self.answer: Any = None
        self.terms: TermOf | None = None
        self.holds: list[tuple[threading.Event, threading.Event]] = []
        self.mistakes: list[Exception] = []

    def save(self, lsn: int) -> bytes:
        state = b"as of %d" % lsn
        path = self._base / f"{lsn}.snapshot"
        path.write_bytes(state)
        self.answer = lsn, str(path)
        return state

    def hold(self) -> tuple[threading.Event, threading.Event]:
        """Of the next question: when it has come, and what lets it be answered."""
        self.holds.append((threading.Event(), threading.Event()))
        return self.holds[-1]

    def newest(self, term_of: TermOf) -> Any:
        self.terms, answer = term_of, self.answer
        if self.holds:
            came, go = self.holds.pop()
            came.set()
            assert go.wait(10)
        if self.mistakes:
            raise self.mistakes.pop()
        return answer

    def install(self, lsn: int, path: str) -> None:
        raise AssertionError("a leader installs nothing")


class Leading:
    """The sender of a leader with 20 entries, and its core, which has b connected.

    Attributes:
        given: what the core wanted done next.
    """

    def __init__(self, base: Path) -> None:
        self.application = Application(base)
        self.wire = Wire()
        self.given: list[Effect] = []
        self.wal = replicated(base / "log", segment_bytes=SEGMENT_BYTES)
        self.log = NodeLog(self.wal)
        self.core = Core("a", NODES, self.log, self.wal.term, 0, Acks(2))
        for effect in self.core.campaign(NOW_MS, force=True):
            if isinstance(effect, PersistTerm):
                self.log.adopt_term(effect.term)
            elif isinstance(effect, AppendTermEntry):
                self.core.began(self.log.append_term_entry(b"a"))
        self.log.accept_appends(True)
        for _ in range(ENTRIES - self.log.last_lsn):
            self.wal.submit(bytes(PAYLOAD_BYTES))
        self.wal.sync()
        self.log.set_committed(ENTRIES)
        self.core.connected("b", NOW_MS)
        self.sender = Sender(
            self.log,
            cast(NetworkManager, self.wire),
            self.core,
            self._give,
            self._fail,
            self.application,
            Throttle(None),
            lambda: NOW_MS,
            lambda lsn: b"members",
        )

    def _give(self, call: Callable[[], list[Effect]]) -> None:
        self.given += call()

    def _fail(self, error: Exception) -> None:
        raise error

    def asked(self, lsn: int) -> Any:
        """What the core wants sent when b asks to go on behind an entry."""
        term = self.log.term_of(lsn) if lsn >= self.log.first_lsn else 0
        (effect,) = self.core.received("b", self.core.term, SyncRequest(lsn, term), NOW_MS)
        return effect

    def reconnect(self) -> None:
        """A new connection takes the place of the one before."""
        self.core.disconnected("b")
        self.core.connected("b", NOW_MS)

    def drop(self, lsn: int) -> None:
        """Truncates the log's front."""
        self.log.drop_before(lsn)
        assert 1 < self.log.first_lsn <= lsn

    async def settled(self) -> None:
        """Nothing is on its way."""
        await until(lambda: not self.sender._is_busy("b"), "it is still under way")

    def held(self) -> list[str]:
        """The snapshots that are open."""
        names = []
        for fd in os.listdir("/proc/self/fd"):
            try:
                names.append(os.readlink(f"/proc/self/fd/{fd}"))
            except OSError:
                continue  # the listing's own
        return [Path(name).name for name in names if name.endswith(".snapshot")]

    async def __aenter__(self) -> Leading:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.settled()
        self.sender.clear()
        assert self.held() == []
        self.wal.close()


@in_loop
async def test_entries_that_were_dropped_meanwhile_come_as_a_snapshot(tmp_path: Path) -> None:
    async with Leading(tmp_path) as node:
        effect = node.asked(0)
        assert isinstance(effect, SendEntries)
        node.drop(10)
        node.sender.entries(effect)
        assert node.wire.got == []
        (instead,) = node.given
        assert isinstance(instead, SendSnapshot)


@in_loop
async def test_what_is_not_wanted_any_more_is_not_sent_in_its_turn(tmp_path: Path) -> None:
    """What is in the queue in part has to come to its end."""
    async with Leading(tmp_path) as node:
        node.wire.room = 0
        node.sender.entries(node.asked(0))
        await node.wire.full.wait()
        for lsn in (8, 4):
            node.sender.entries(node.asked(lsn))
        node.wire.make_room()
        await node.settled()
        bodies = [body for body in node.wire.got if isinstance(body, WalEntry)]
        assert [body.prev_lsn for body in bodies] == [0, 4]
        progress = node.core.progress("b")
        assert progress is not None
        last = parse_records(
            bodies[1].records, seed=bodies[1].seed, prev_lsn=4, prev_term=bodies[1].prev_term
        )
        assert progress.next_lsn == last.last_lsn + 1


@pytest.mark.parametrize("snapshot", [False, True])
def test_what_has_no_room_when_the_connection_ends_was_not_sent(
    tmp_path: Path, snapshot: bool
) -> None:
    @in_loop
    async def main() -> None:
        async with Leading(tmp_path) as node:
            if snapshot:
                node.drop(10)
                node.application.save(15)
            effect = node.asked(0)
            node.wire.room = 0
            (node.sender.snapshot if snapshot else node.sender.entries)(effect)
            await node.wire.full.wait()
            node.wire.hang_up()
            await node.settled()
            assert (node.given, node.wire.got) == ([], [])
            assert node.core.awaits(effect)

    main()


@in_loop
async def test_readers_at_many_places_are_few_and_read_what_they_should(tmp_path: Path) -> None:
    async with Leading(tmp_path) as node:
        places = [*range(ENTRIES, 0, -1), *range(1, ENTRIES + 1)]
        readers = set()
        for lsn in places:
            term = node.log.term_of(lsn - 1)
            node.sender.entries(SendEntries("b", lsn - 1, term, lsn, 1, 0, False))
            readers.add(len(node.sender._readers))
        for lsn, body in zip(places, node.wire.got, strict=True):
            assert isinstance(body, WalEntry)
            read = parse_records(
                body.records, seed=body.seed, prev_lsn=body.prev_lsn, prev_term=body.prev_term
            )
            assert (read.first_lsn, read.last_lsn) == (lsn, lsn)
        assert max(readers) == _READERS_MAX


# ---- snapshots ----


@in_loop
async def test_a_snapshot_that_there_is_not_yet_is_asked_for_again(tmp_path: Path) -> None:
    """Also one that does not reach to where the log begins."""
    async with Leading(tmp_path) as node:
        node.drop(10)
        effect = node.asked(0)
        for saved_lsn in (0, node.log.first_lsn - 2):
            if saved_lsn:
                node.application.save(saved_lsn)
            node.sender.snapshot(effect)
            await node.settled()
            assert node.wire.got == []
            assert node.core.tick(NOW_MS + PROBE_MS - 1) == []
            (effect,) = node.core.tick(NOW_MS + PROBE_MS)
            assert isinstance(effect, SendSnapshot)
        state = node.application.save(node.log.first_lsn - 1)
        node.sender.snapshot(effect)
        await node.settled()
        lsn, term, size = node.log.first_lsn - 1, node.core.term, len(state)
        assert node.wire.got == [SnapshotPart(lsn, term, 0, size, state, b"members")]


@in_loop
async def test_an_application_that_fails_to_say_is_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises, which is told meanwhile."""
    async with Leading(tmp_path) as node:
        node.drop(10)
        state = node.application.save(15)
        mistakes = [OSError("of its disk"), KeyError("of its own")]
        node.application.mistakes = list(mistakes)
        effect = node.asked(0)
        for mistake in reversed(mistakes):
            node.sender.snapshot(effect)
            await node.settled()
            assert node.sender.application_error is mistake
            told = [record.exc_info[0] for record in caplog.records if record.exc_info]
            assert told[-1] is type(mistake)
            assert node.core.tick(NOW_MS + PROBE_MS - 1) == []
            (effect,) = node.core.tick(NOW_MS + PROBE_MS)
        node.sender.snapshot(effect)
        await node.settled()
        assert node.sender.application_error is None
        assert [part.data for part in _parts(node)] == [state]


NO_SNAPSHOTS = {
    "no pair": 15,
    "too many": (15, "name", "more"),
    "a str": ("15", "name"),
    "a float": (15.0, "name"),
    "beyond": (ENTRIES + 1, "name"),
    "vast": (1 << 70, "name"),
    "no name": (15, None),
    "a descriptor": (15, 0),
    "a NUL": (15, "na\0me"),
    "a surrogate": (15, "\ud800"),
}


@pytest.mark.parametrize("answer", NO_SNAPSHOTS.values(), ids=NO_SNAPSHOTS.keys())
def test_an_application_that_says_nonsense_is_asked_again(tmp_path: Path, answer: Any) -> None:
    @in_loop
    async def main() -> None:
        async with Leading(tmp_path) as node:
            node.drop(10)
            node.application.answer = answer
            node.sender.snapshot(node.asked(0))
            await node.settled()
            assert node.sender.application_error is not None
            (effect,) = node.core.tick(NOW_MS + PROBE_MS)
            state = node.application.save(15)
            node.application.answer = (15, Path(node.application.answer[1]))
            node.sender.snapshot(effect)  # type: ignore[arg-type]
            await node.settled()
            assert node.sender.application_error is None
            assert [part.data for part in _parts(node)] == [state]

    main()


@in_loop
async def test_an_application_is_told_the_terms_of_what_the_log_has(tmp_path: Path) -> None:
    async with Leading(tmp_path) as node:
        node.drop(10)
        node.sender.snapshot(node.asked(0))
        await node.settled()
        first_lsn, term = node.log.first_lsn, node.core.term
        places = (first_lsn - 2, first_lsn - 1, first_lsn, ENTRIES, ENTRIES + 1)
        assert node.application.terms is not None
        assert [node.application.terms(lsn) for lsn in places] == [0, term, term, term, 0]


@in_loop
async def test_a_snapshot_that_is_not_wanted_any_more_is_not_sent(tmp_path: Path) -> None:
    async with Leading(tmp_path) as node:
        node.drop(10)
        node.application.save(15)
        came, go = node.application.hold()
        node.sender.snapshot(node.asked(0))
        await asyncio.to_thread(came.wait, 10)
        node.core.disconnected("b")
        go.set()
        await node.settled()
        assert (node.wire.got, node.given) == ([], [])


@in_loop
async def test_a_snapshot_from_which_the_log_does_not_go_on_is_given_up(tmp_path: Path) -> None:
    async with Leading(tmp_path) as node:
        node.drop(8)
        node.application.save(8)
        node.sender.snapshot(node.asked(0))
        await node.settled()
        assert node.held() == ["8.snapshot"]
        node.reconnect()
        node.sender.forget("b")
        assert node.held() == ["8.snapshot"]  # to go on with
        node.drop(16)
        state = node.application.save(17)
        node.sender.snapshot(node.asked(0))
        await node.settled()
        assert node.held() == ["17.snapshot"]
        assert [(part.lsn, part.at, part.data) for part in _parts(node)] == [
            (8, 0, b"as of 8"),
            (17, 0, state),
        ]


@in_loop
async def test_a_snapshot_is_opened_once_where_a_connection_ends_meanwhile(tmp_path: Path) -> None:
    async with Leading(tmp_path) as node:
        node.drop(10)
        node.application.save(12)
        came, go = node.application.hold()
        node.sender.snapshot(node.asked(0))
        await asyncio.to_thread(came.wait, 10)
        node.reconnect()
        node.sender.forget("b")
        node.application.save(15)
        node.sender.snapshot(node.asked(0))
        await node.settled()
        assert [part.lsn for part in _parts(node)] == [15]
        go.set()  # the thread of the connection before goes on
        await asyncio.get_running_loop().shutdown_default_executor()
        assert node.held() == ["15.snapshot"]


def _parts(node: Leading) -> list[SnapshotPart]:
    return [body for body in node.wire.got if isinstance(body, SnapshotPart)]
