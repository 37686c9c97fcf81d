"""A FileWALManager as replication sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from walstore._native import lib
from walstore.replication.notes import QUARANTINE_NAME, read_note
from walstore.replication.repair import drop_claim, read_claim
from walstore.replication.runs import Terms
from walstore.wal.records import (
    RecordReader,
    Records,
    configurations_in,
    parse_records,
    term_runs,
)
from walstore.wal.watch import LsnWatch

if TYPE_CHECKING:
    from walstore.wal.manager import FileWALManager

__all__ = ["CONFIGURATIONS_NAME", "NodeLog"]

CONFIGURATIONS_NAME = "configurations"
"""A file beside the log of a node that elects (raft/ledger.py)."""

_SCAN_BYTES = 1 << 20


class NodeLog:
    """The log of one node of a cluster. Used by the node's own thread, and by those it gives work
    to, one at a time.

    Args:
        wal: the log, opened as one that is replicated.

    Attributes:
        claim: how far it had been before damage took some of it; None where none did, or all of
            that is back.
        quarantine: which of its entries are not those of the other nodes; None: all are.
    """

    def __init__(self, wal: FileWALManager) -> None:
        self._wal = wal
        self._writer = wal._log_writer()
        self._group = self._writer.group
        self._raw = self._group.raw
        self._shared = self._group.shared
        self._terms = Terms(self.accepted_lsn + 1, self._writer.term_of)
        self.path = wal.path
        self.claim = read_claim(wal.path, self.term)
        self.quarantine = read_note(wal.path, QUARANTINE_NAME)
        self.accept_appends(False)

    # ---- where it stands ----

    @property
    def cluster_id(self) -> bytes:
        """The log's id: 16 bytes."""
        return self._writer.meta.log_id

    @property
    def term(self) -> int:
        """The current term."""
        return self._writer.meta.term

    @property
    def first_lsn(self) -> int:
        """The first entry held."""
        return self._writer.meta.first_lsn

    @property
    def accepted_lsn(self) -> int:
        """The last entry that has its lsn; it may not be handed to the kernel yet."""
        lsn: int = self._shared.next_lsn - 1
        return lsn

    @property
    def last_lsn(self) -> int:
        """The last entry. While threads append, what they have not handed to the kernel yet may
        still be refused, and does not count."""
        return self.written_lsn if self._accepts else self.accepted_lsn

    @property
    def written_lsn(self) -> int:
        """The last entry that was handed to the kernel."""
        lsn: int = self._shared.written_lsn
        return lsn

    @property
    def durable_lsn(self) -> int:
        """The last entry on the disk."""
        lsn: int = self._shared.durable_lsn
        return lsn

    @property
    def committed_lsn(self) -> int:
        """The last entry known to be committed."""
        lsn: int = self._shared.committed_lsn
        return lsn

    @property
    def bytes_written(self) -> int:
        """Bytes written since the log was opened."""
        return self._group.status().write_bytes

    @property
    def bytes_unsynced(self) -> int:
        """Bytes that wait for the disk."""
        return lib.walcore_unsynced_bytes(self._raw)

    def full_bytes_after(self, lsn: int) -> int:
        """Bytes of the full segments that begin after an entry."""
        return sum(
            segment.seal.end_at
            for segment in self._writer.segments()
            if segment.seal is not None and segment.first_lsn > lsn
        )

    def first_within(self, bytes_max: int) -> int:
        """The first entry of the full segments at the log's end that hold at most so many bytes; of
        the last segment where they are none."""
        segments = self._writer.segments()
        lsn = segments[-1].first_lsn
        for segment in reversed(segments):
            if segment.seal is not None:
                bytes_max -= segment.seal.end_at
            if bytes_max < 0:
                break
            lsn = segment.first_lsn
        return lsn

    def term_of(self, lsn: int) -> int:
        """The term of an entry, or of the one before the first."""
        return self._terms.of(lsn)

    def check(self) -> None:
        """Raises what latched the log shut, if anything has."""
        if self._shared.poisoned:
            raise self._group.error(lib.WALCORE_POISONED)

    def check_owner(self) -> None:
        """Raises ClosedLogError in a child made by fork."""
        self._group.check_owner()

    def watch(self, level: int, callback: Callable[[], None]) -> LsnWatch:
        """Calls back in the running loop when an lsn that is armed has come to a level."""
        return LsnWatch(self._group, asyncio.get_running_loop(), level, callback)

    def reader(self) -> RecordReader:
        """A reader of raw records."""
        return self._wal._record_reader()

    # ---- changes ----

    def accept_appends(self, accept: bool, *, alone: bool = False, hold: bool = False) -> None:
        """Lets the users' appends in (`alone`: what this disk has is committed; `hold`: not before
        `hold_appends` says so), or keeps them out.
        Checked where entries get their lsns: none ever gets one in another leader's term."""
        self._accepts = accept
        lib.walcore_accept_appends(self._raw, accept and not hold, alone)
        if accept:
            self._terms.note([(self.accepted_lsn + 1, self.term)])

    def adopt_term(self, term: int) -> None:
        """Makes a term durable."""
        self._wal._adopt_term(term)

    def hold_appends(self, hold: bool) -> None:
        """Keeps the users' appends out while this node leads, or lets them in again."""
        lib.walcore_accept_appends(self._raw, not hold, False)

    def wait_durable(self, lsn: int) -> None:
        """Returns when an entry is on the disk."""
        generation = self._group.refresh_generation()
        self._group.wait(generation, lsn, lib.WALCORE_LEVEL_DURABLE, None)

    def append_configuration(self, payload: bytes) -> int:
        """Appends an entry that says who the nodes are; written, and not durable, at return."""
        commit = self._wal._append_configuration(payload)
        self._terms.note([(commit.lsn, self.term)])
        self._group.wait(commit._generation, commit.lsn, lib.WALCORE_LEVEL_WRITTEN, None)
        return commit.lsn

    def configurations_from(self, lsn: int) -> list[tuple[int, bytes]]:
        """Lsn and payload of each entry from this one on that says who the nodes are."""
        found: list[tuple[int, bytes]] = []
        for read in self.reader().chunks(lsn, _SCAN_BYTES, self.written_lsn):
            prev_lsn, prev_term = read.first_lsn - 1, read.prev_term
            found += configurations_in(
                parse_records(read.data, seed=read.seed, prev_lsn=prev_lsn, prev_term=prev_term)
            )
        return found

    def append_term_entry(self, payload: bytes) -> int:
        """Appends the entry that begins a leadership and returns its lsn; durable, with all before
        it, at return."""
        commit = self._wal._append_term_entry(payload)
        self._terms.note([(commit.lsn, self.term)])
        self._group.wait(commit._generation, commit.lsn, lib.WALCORE_LEVEL_DURABLE, None)
        return commit.lsn

    def submit_records(self, records: Records) -> None:
        """Appends another node's entries, without waiting for the disk."""
        # Before: where a disk is full in the middle, the first part of them is there all the same.
        self._terms.note(term_runs(records))
        self._wal._submit_records(records)

    def cut_diverged(self, after_lsn: int, term: int) -> str:
        """Keeps the entries after this one aside and cuts them; returns where they are."""
        path = self._wal._cut_diverged(after_lsn, term)
        self._terms.cut(after_lsn)
        return path

    def reset(self, first_lsn: int, prev_term: int, term: int) -> None:
        """Begins the log anew."""
        self._terms.restart(first_lsn)  # first: until it has, the terms are read from what there is
        self._wal._reset(first_lsn, prev_term, term)

    def drop_claim(self) -> None:
        """All that damage took of the log is back; durable at return."""
        drop_claim(self.path)
        self.claim = None

    def set_committed(self, lsn: int) -> None:
        """Shows readers the entries up to here."""
        self._wal._set_committed(lsn)

    def drop_before(self, lsn: int) -> None:
        """Truncates the log's front."""
        self._writer.truncate_before(lsn)
