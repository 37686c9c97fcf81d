"""Sending what the core asks for: read from the log, paced by the peer's queue and the throttle.

What a slow follower needs is read again when it is ready for it; it holds no memory here but one
message and its queue.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from walstore.errors import LSNOutOfRangeError, WALStoreError
from walstore.replication.core import Core
from walstore.replication.effects import Effect, SendEntries, SendSnapshot
from walstore.replication.message import MESSAGE_BYTES, MESSAGE_BYTES_MAX, SnapshotPart, WalEntry
from walstore.replication.network import NetworkManager
from walstore.replication.progress import State
from walstore.replication.snapshots import Outgoing, Snapshots
from walstore.replication.tasks import begin_task
from walstore.replication.throttle import Throttle
from walstore.wal.arguments import checked_lsn
from walstore.wal.records import RecordReader, Records

__all__ = ["Sender", "SentLog"]

logger = logging.getLogger("walstore.replication")

_PLAIN_BYTES_MAX = MESSAGE_BYTES_MAX - 4096
_RECENT_MAX = 8
_READERS_MAX = 8


class _UnansweredError(Exception):
    """The application raised something, or said something else, where it was to say which snapshot
    is its newest."""


class SentLog(Protocol):
    """What sending needs of a log."""

    @property
    def first_lsn(self) -> int: ...

    @property
    def written_lsn(self) -> int:
        """The last entry that may travel."""

    @property
    def bytes_written(self) -> int:
        """Bytes written since the log was opened."""

    def term_of(self, lsn: int) -> int:
        """The term of an entry, or of the one before the first."""

    def reader(self) -> RecordReader:
        """A reader of raw records."""


class Sender:
    """Carries out SendEntries and SendSnapshot.

    Args:
        log: whose records.
        network: where to.
        core: what to tell.
        give: takes what the core wants done next.
        fail: called with an error of the log's, or a mistake of its own.
        snapshots: the application's; None: there are none.
        throttle: for followers that catch up.
        now_ms: the monotonic clock.
        configuration_at: the members as of an lsn, for snapshots.

    Attributes:
        application_error: why the application did not say which snapshot is its newest, when it
            was last asked; None: it did.
    """

    def __init__(
        self,
        log: SentLog,
        network: NetworkManager,
        core: Core,
        give: Callable[[Callable[[], list[Effect]]], None],
        fail: Callable[[Exception], None],
        snapshots: Snapshots | None,
        throttle: Throttle,
        now_ms: Callable[[], float],
        configuration_at: Callable[[int], bytes],
    ) -> None:
        self._log = log
        self._network = network
        self._core = core
        self._give = give
        self._fail = fail
        self._snapshots = snapshots
        self._throttle = throttle
        self._now_ms = now_ms
        self._configuration_at = configuration_at
        self._readers: OrderedDict[int, RecordReader] = OrderedDict()  # by where each is
        self._recent: OrderedDict[tuple[int, int], Records] = OrderedDict()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._outgoing: dict[str, Outgoing] = {}
        # Whose snapshot could not be read: what they are sent next may be another file of the same
        # lsn and size, and must not go on where the first one ended.
        self._failed: set[str] = set()
        self.application_error: Exception | None = None

    def entries(self, effect: SendEntries) -> None:
        """Reads and sends; tells the core when that is in the peer's queue."""
        try:
            records = self._read(effect)
        except LSNOutOfRangeError:
            self._not_sent(effect)
            return
        except WALStoreError as error:
            self._fail(error)
            return
        behind = records.last_lsn < self._log.written_lsn
        wait_s = self._take(len(records.data)) if behind else 0.0
        bodies = _messages(effect, records)
        at_once = not wait_s and len(bodies) == 1 and not self._is_busy(effect.node)
        if at_once and self._network.send(effect.node, bodies[0]):
            self._sent(effect, records)
            return
        self._later(effect.node, lambda: self._send_entries(effect, records, bodies, wait_s))

    async def _send_entries(
        self, effect: SendEntries, records: Records, bodies: list[WalEntry], wait_s: float
    ) -> None:
        await asyncio.sleep(wait_s)
        if not self._core.awaits(effect):
            return
        for body in bodies:
            if not await self._push(effect.node, body):
                return
        self._sent(effect, records)

    def _take(self, size: int) -> float:
        return self._throttle.take(size, self._log.bytes_written, self._now_ms() / 1000)

    def _sent(self, effect: SendEntries, records: Records) -> None:
        last_lsn, size = records.last_lsn, len(records.data)
        self._give(lambda: self._core.sent(effect, last_lsn, size, self._now_ms()))

    def _not_sent(self, effect: SendEntries | SendSnapshot) -> None:
        self._give(lambda: self._core.not_sent(effect, self._now_ms()))

    async def _push(self, node: str, body: WalEntry | SnapshotPart) -> bool:
        """Queues a body when there is room; False: the node is not connected, as the core knows
        or is about to hear."""
        while not self._network.send(node, body):
            if node not in self._network.connected:
                return False
            await self._network.drained(node)  # a disconnect cancels this task
        return True

    def _is_busy(self, node: str) -> bool:
        """Whether something is still on its way into the node's queue: also what the core has
        given up since, of which the rest must not come amid what is sent next."""
        return node in self._tasks and not self._tasks[node].done()

    def _later(self, node: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        before = self._tasks[node] if self._is_busy(node) else None
        self._tasks[node] = begin_task(_in_turn(before, work), self._fail)

    def _read(self, effect: SendEntries) -> Records:
        """Followers that are level are sent the same bytes."""
        to_lsn = self._log.written_lsn
        key = (effect.from_lsn, effect.bytes_max)
        recent = self._recent.get(key)
        if recent is not None and (recent.last_lsn == to_lsn or len(recent.data) >= MESSAGE_BYTES):
            return recent
        reader = self._readers.pop(effect.from_lsn, None) or self._log.reader()
        records = reader.read(effect.from_lsn, effect.bytes_max, to_lsn)
        self._readers[records.last_lsn + 1] = reader
        if len(self._readers) > _READERS_MAX:
            self._readers.popitem(last=False)
        if len(records.data) <= _PLAIN_BYTES_MAX:
            self._recent[key] = records
            self._recent.move_to_end(key)
            if len(self._recent) > _RECENT_MAX:
                self._recent.popitem(last=False)
        return records

    # ---- snapshots ----

    def snapshot(self, effect: SendSnapshot) -> None:
        """Reads a part and sends it; in a task, since it reads a file of the application's."""
        self._later(effect.node, lambda: self._send_snapshot(effect))

    async def _send_snapshot(self, effect: SendSnapshot) -> None:
        before = self._outgoing.get(effect.node)
        try:
            outgoing = await self._current_snapshot(effect)
            if outgoing is None:
                self._not_sent(effect)
                return
            data = b""  # of one that a disconnect cut short: how much is there already?
            if effect.lsn or outgoing is not before or effect.node in self._failed:
                data = await asyncio.to_thread(outgoing.read, effect.at, effect.bytes_max)
        except (OSError, WALStoreError, _UnansweredError) as error:
            logger.warning("%s: no snapshot for it: %s", effect.node, error)
            self._close_snapshot(effect.node)
            self._failed.add(effect.node)
            self._not_sent(effect)
            return
        end = effect.at + len(data)
        if not self._core.awaits(effect):
            return
        part = SnapshotPart(
            outgoing.lsn,
            outgoing.term,
            effect.at,
            outgoing.total_bytes,
            data,
            self._configuration_at(outgoing.lsn),
        )
        await asyncio.sleep(self._take(len(data)))
        if not await self._push(effect.node, part):
            return
        self._give(
            lambda: self._core.snapshot_sent(effect, outgoing.lsn, outgoing.total_bytes, end)
        )

    async def _current_snapshot(self, effect: SendSnapshot) -> Outgoing | None:
        """The snapshot under way, also before a disconnect, or the newest one that reaches the
        log."""
        node = effect.node
        current = self._outgoing.get(node)
        if effect.lsn:
            return current if current is not None and current.lsn == effect.lsn else None
        if current is not None and current.lsn >= self._log.first_lsn - 1:
            return current
        self._close_snapshot(node)
        opening = asyncio.get_running_loop().run_in_executor(None, self._open_snapshot)
        try:
            outgoing = await asyncio.shield(opening)
        except asyncio.CancelledError:  # the thread goes on, for nobody
            opening.add_done_callback(_let_go)
            raise
        if outgoing is not None:
            self._outgoing[node] = outgoing
        return outgoing

    def _open_snapshot(self) -> Outgoing | None:
        """In a thread: it asks the application."""
        lsn = self._log.first_lsn - 1
        if self._snapshots is None:
            return Outgoing(lsn, self._log.term_of(lsn), None)
        newest = self._newest(self._snapshots)
        if newest is None or newest[0] < lsn:
            return None
        return Outgoing(newest[0], self._log.term_of(newest[0]), newest[1])

    def _newest(self, snapshots: Snapshots) -> tuple[int, str] | None:
        try:
            answer = snapshots.newest(self._term_of)
            newest = None if answer is None else self._checked(*answer)
        except Exception as error:
            # The application's code, which may raise or answer anything. Its mistake is no reason
            # to end this task or the node: it is said, and the application is asked again later.
            logger.exception("the application does not say which snapshot is its newest")
            self.application_error = error
            raise _UnansweredError(str(error)) from error
        self.application_error = None
        return newest

    def _checked(self, lsn: object, path: str | bytes | os.PathLike[str]) -> tuple[int, str]:
        """What the application says; raises where it can be no snapshot of this log."""
        reached_lsn, name = checked_lsn("lsn", lsn), os.fsencode(path)
        if reached_lsn > self._log.written_lsn:
            raise ValueError(f"lsn is {lsn}, and the log ends at {self._log.written_lsn}")
        if b"\0" in name:
            raise ValueError(f"no file can have the name {path!r}")
        return reached_lsn, os.fsdecode(name)

    def _term_of(self, lsn: int) -> int:
        """Of snapshots.TermOf."""
        if not self._log.first_lsn - 1 <= lsn <= self._log.written_lsn:
            return 0
        return self._log.term_of(lsn)

    # ---- life ----

    def forget(self, node: str) -> None:
        """The connection is gone. A snapshot that was not taken stays open, to go on with."""
        task = self._tasks.pop(node, None)
        if task is not None:
            task.cancel()
        progress = self._core.progress(node)
        if progress is None or progress.state is State.REPLICATE:
            self._close_snapshot(node)

    def _close_snapshot(self, node: str) -> None:
        outgoing = self._outgoing.pop(node, None)
        if outgoing is not None:
            outgoing.close()

    def clear(self) -> None:
        """The node does not lead any more, or is closed."""
        for node in {*self._tasks, *self._outgoing}:
            self.forget(node)
            self._close_snapshot(node)
        self._failed.clear()
        self.application_error = None
        self._recent.clear()
        self._readers.clear()


def _let_go(opening: asyncio.Future[Outgoing | None]) -> None:
    outgoing = opening.result() if opening.exception() is None else None
    if outgoing is not None:
        outgoing.close()


async def _in_turn(
    before: asyncio.Task[None] | None, work: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    if before is not None:
        await before  # cancelled with this one
    await work()


def _messages(effect: SendEntries, records: Records) -> list[WalEntry]:
    """One message, or the parts of a batch that is too large for one."""
    data = memoryview(records.data)
    size = len(data) if len(data) <= _PLAIN_BYTES_MAX else MESSAGE_BYTES
    cuts = range(0, len(data), size)
    return [
        WalEntry(
            effect.prev_lsn,
            effect.prev_term,
            effect.committed_lsn,
            records.seed,
            records.data if len(cuts) == 1 else data[at : at + size],
            more=at + size < len(data),
            receipt=effect.receipt,
        )
        for at in cuts
    ]
