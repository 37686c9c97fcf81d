"""The audit: the leader has all nodes read and hash the same committed entries, some each second,
and compares (docs/repair.md, "The audit").
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from xxhash import xxh3_64

from walstore.errors import ClosedLogError, LogAccessError, LSNOutOfRangeError, WALStoreError
from walstore.replication.core import Core
from walstore.replication.log import NodeLog
from walstore.replication.message import Audit, Audited, Quarantine
from walstore.replication.network import NetworkManager
from walstore.replication.repair import damage_of
from walstore.replication.tasks import begin_task
from walstore.replication.verdict import differing
from walstore.wal.records import normalized

__all__ = ["Auditor", "Span", "hash_entries"]

logger = logging.getLogger("walstore.replication")

_READ_BYTES = 256 << 10


class Span(NamedTuple):
    """Entries of a log and their hash."""

    first_lsn: int
    last_lsn: int
    digest: int


def hash_entries(log: NodeLog, first_lsn: int, last_lsn: int, bytes_max: int) -> Span:
    """Reads and checks entries from the first one on, to the last one or at least so many bytes.

    Raises:
        LSNOutOfRangeError: the log does not hold them.
        CorruptLogError: one of them is damaged.
        ClosedLogError, LogAccessError
    """
    reader, lsn, read_bytes, digest = log.reader(), first_lsn, 0, xxh3_64()
    while lsn <= last_lsn and read_bytes < bytes_max:
        records = reader.read(lsn, min(_READ_BYTES, bytes_max), last_lsn)
        digest.update(normalized(records))
        read_bytes += len(records.data)
        lsn = records.last_lsn + 1
    return Span(first_lsn, lsn - 1, digest.intdigest())


class Auditor:
    """One node's part in audits. In the node's loop.

    Args:
        node_id, log, network, core: the node's.
        voters: gives those of its nodes whose hashes are counted.
        fail: called with an error of the log's, or a mistake of its own.
        differs: called when this leader's log is not that of the others.
        bytes_max, pause_ms: of entries in one span, and between two.
    """

    def __init__(
        self,
        node_id: str,
        log: NodeLog,
        network: NetworkManager,
        core: Core,
        voters: Callable[[], frozenset[str]],
        fail: Callable[[Exception], None],
        differs: Callable[[Quarantine], None],
        bytes_max: int,
        pause_ms: float,
    ) -> None:
        self._node_id = node_id
        self._log = log
        self._network = network
        self._core = core
        self._voters = voters
        self._fail = fail
        self._differs = differs
        self._bytes_max = bytes_max
        self._pause_ms = pause_ms
        self._due_ms = 0.0
        self._next_lsn = 0
        self._work: asyncio.Task[None] | None = None
        self._span: Span | None = None
        self._digests: dict[str, int] = {}

    async def stop(self) -> None:
        """Returns when nothing is read any more."""
        if self._work is not None:
            await asyncio.wait([self._work])

    def begin(self, now_ms: float) -> None:
        """Has the next span read, here and on the others, when it is time; the leader's."""
        if now_ms < self._due_ms or not self._is_idle():
            return
        self._due_ms = now_ms + self._pause_ms
        first_lsn = max(self._next_lsn, self._log.first_lsn)
        last_lsn = min(self._core.committed_lsn, self._log.durable_lsn)
        if first_lsn > last_lsn:
            first_lsn = self._log.first_lsn  # once more from the start
        if first_lsn <= last_lsn:
            self._span = None
            self._work = begin_task(self._lead(first_lsn, last_lsn), self._fail)

    def _is_idle(self) -> bool:
        return self._work is None or self._work.done()

    async def _lead(self, first_lsn: int, last_lsn: int) -> None:
        span = await self._read(first_lsn, last_lsn, self._bytes_max)
        if span is None or self._core.role != "leader":
            return
        self._next_lsn = span.last_lsn + 1
        self._span, self._digests = span, {self._node_id: span.digest}
        self._network.broadcast(Audit(span.first_lsn, span.last_lsn))

    async def _read(self, first_lsn: int, last_lsn: int, bytes_max: int) -> Span | None:
        try:
            return await asyncio.to_thread(hash_entries, self._log, first_lsn, last_lsn, bytes_max)
        except (LSNOutOfRangeError, ClosedLogError):  # truncated meanwhile
            return None
        except (WALStoreError, MemoryError) as error:
            cause = damage_of(error)
            if isinstance(cause, LogAccessError | MemoryError):  # of this moment: none is left
                why = str(error) or "no memory left"
                logger.warning("%s: the audit leaves entries out: %s", self._node_id, why)
            else:
                self._fail(error)
            return None

    # ---- messages, of the current term ----

    def asked(self, leader_id: str, body: Audit) -> None:
        """The leader wants to know the hash of entries; only of what is here, and committed."""
        here = self._log.first_lsn <= body.first_lsn
        if here and body.last_lsn <= self._core.committed_lsn and self._is_idle():
            self._work = begin_task(self._answer(leader_id, body), self._fail)

    async def _answer(self, leader_id: str, body: Audit) -> None:
        span = await self._read(body.first_lsn, body.last_lsn, 1 << 62)
        if span is not None and self._core.leader_id == leader_id:
            self._network.send(leader_id, Audited(*span))

    def answered(self, node: str, body: Audited) -> None:
        """A node has hashed what this leader asked for."""
        span = self._span
        if span is None or (body.first_lsn, body.last_lsn) != span[:2]:
            return
        self._digests[node] = body.digest
        wrong = differing(self._digests, self._node_id, self._voters())
        verdict = Quarantine(span.first_lsn, span.last_lsn)
        for other in sorted(wrong - {self._node_id}):
            logger.error(
                "%s: entries %d to %d of %s are not those of the others",
                self._node_id, span.first_lsn, span.last_lsn, other,
            )  # fmt: skip
            self._network.send(other, verdict)
        if self._node_id in wrong:
            self._differs(verdict)
