"""FileWALManager: the durable log, as its users see it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from types import TracebackType
from typing import Any, Literal, NoReturn, Self

from walstore._native import ffi, lib
from walstore.errors import (
    ClosedLogError,
    CommitTimeoutError,
    EntryTruncatedError,
    LogFullError,
    LogPoisonedError,
    LSNOutOfRangeError,
    OptionError,
    PayloadTooLargeError,
    ReadOnlyLogError,
    WALStoreError,
)
from walstore.limits import (
    BATCH_BYTES_MAX,
    KIND_MAX,
    PAYLOAD_BYTES_MAX,
    SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN,
    SYNC_INTERVAL_MS_MAX,
)
from walstore.wal import files
from walstore.wal.arguments import (
    checked_clock,
    checked_entropy,
    checked_lsn,
    checked_path,
    checked_payload,
)
from walstore.wal.commit import WAIT_SLICE_NS, Commit, GroupCommit, forked_error
from walstore.wal.following import LogFollower
from walstore.wal.opening import (
    Start,
    access_error,
    create_log,
    open_meta,
    read_log,
    refuse_replicated,
)
from walstore.wal.reading import Snapshot, read_entry, replay
from walstore.wal.record import DATA, WALEntry, record_bytes
from walstore.wal.records import RecordReader, Records
from walstore.wal.report import LogStats, VerifyReport, log_stats, verify_log
from walstore.wal.tail import Tail
from walstore.wal.writing import LogWriter, Replicated

__all__ = ["FileWALManager", "Payload", "SyncPolicy"]

SyncPolicy = Literal["always", "interval", "os"]
Payload = bytes | bytearray | memoryview

_POLL_S = 0.02

_append = lib.walcore_append
_append_many = lib.walcore_append_many
_submit = lib.walcore_submit


def _checked(sync: str, segment_bytes: int, sync_interval_ms: int) -> None:
    if sync not in ("always", "interval", "os"):
        raise OptionError(f"sync is 'always', 'interval' or 'os', not {sync!r}")
    for name, value, low, high in (
        ("segment_bytes", segment_bytes, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX),
        ("sync_interval_ms", sync_interval_ms, 1, SYNC_INTERVAL_MS_MAX),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise OptionError(f"{name} is a whole number from {low} to {high}, not {value!r}")


class FileWALManager:
    """A write-ahead log in a directory: one writer, any number of readers.

    Args:
        path: the log's directory; made, in a directory that exists, when it is not there.
        sync: what an append waits for. "always": the disk; it survives a power loss.
            "interval": the kernel; its sync begins at most `sync_interval_ms` later, and what was
            not synced may be lost with the machine's power. "os": the kernel; it survives
            `kill -9` and is synced when the kernel likes, every 8 MiB, at `sync()` and at
            `close()`.
        segment_bytes: size of the record area of new segments, in bytes.
        sync_interval_ms: see sync="interval".
        read_only: open to read, also while another process writes. Beside a writer with
            sync="interval" or "os", whose disk runs full in the middle of a write, it may show
            entries that the writer then refuses: see docs/assumptions.md.
        clock: wall clock for `timestamp_ns`, in ns since 1970.
        entropy: random bytes for ids and salts.

    Raises:
        OptionError: an option makes no sense.
        NotALogError, LogLockedError, LogAccessError, UnsupportedFormatError: see there.
        ReplicatedLogError: it is the log of a node of a cluster, and `read_only` was not given.
        CorruptLogError: entries that had been durable are damaged or missing. Nothing is changed.

    A torn tail, which a crash in the middle of an append leaves, is cut and logged as a warning,
    and its bytes are kept in a file beside the log. All methods are safe to call from several
    threads. A signal's handler may look at properties and `stats()`; any other call may wait there,
    for ever, for the one that the handler has come into. In a child process made by fork the log is
    closed: open it there anew. Properties other than `closed` raise ClosedLogError once the log is
    closed.
    """

    _replicated: Replicated | None = None
    """Set before `__init__` by a log that several nodes hold."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sync: SyncPolicy = "always",
        segment_bytes: int = 64 << 20,
        sync_interval_ms: int = 50,
        read_only: bool = False,
        clock: Callable[[], int] = time.time_ns,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        _checked(sync, segment_bytes, sync_interval_ms)
        self.path = checked_path(path)
        now_ns = clock if clock is time.time_ns else checked_clock(clock)
        self.sync_policy: SyncPolicy = sync
        self.read_only = read_only
        # The usual clock is read by C, which saves a call on every append.
        self._clock = None if clock is time.time_ns else now_ns
        self._closing = threading.RLock()  # held by `close` until it is done
        self._closed = self._close_begun = False
        self._forked = False
        self._writer: LogWriter | None = None
        self._follower: LogFollower | None = None
        self._group: GroupCommit | None = None
        self._raw: Any = None
        if read_only:
            self._follower = LogFollower(self.path)
        else:
            self._writer = _open_writer(
                self.path,
                sync=sync,
                segment_bytes=segment_bytes,
                sync_interval_ms=sync_interval_ms,
                replicated=self._replicated,
                clock=now_ns,
                entropy=checked_entropy(entropy),
            )
            self._group = self._writer.group
            self._raw = self._group.raw
        _open_logs.add(self)

    # ---- properties ----

    @property
    def first_lsn(self) -> int:
        """The first entry that is held; `last_lsn` + 1 when there is none."""
        return self._view().meta.first_lsn

    @property
    def last_lsn(self) -> int:
        """The last entry that was accepted; 0 in a new log. A reader's view is the last refresh."""
        view = self._view()
        return view.readable()[1] if isinstance(view, LogFollower) else view.bounds()[1]

    @property
    def committed_lsn(self) -> int:
        """The last entry that readers are shown, when it is durable here: in a replicated log what
        its nodes agree on and never lose, otherwise `durable_lsn`. A reader's view is the last
        refresh."""
        view = self._view()
        if isinstance(view, LogFollower):
            return view.readable()[1]
        if self._replicated is None:
            return lib.walcore_durable_lsn(view.group.raw)
        return lib.walcore_committed_lsn(view.group.raw)

    @property
    def durable_lsn(self) -> int:
        """The last entry known to be on the disk, with all before it."""
        view = self._view()
        if isinstance(view, LogFollower):
            return view.bounds()[1]
        return lib.walcore_durable_lsn(view.group.raw)

    @property
    def term(self) -> int:
        """The current term; it never goes back."""
        return self._view().meta.term

    @property
    def log_id(self) -> str:
        """Names this log's history: 32 hexadecimal digits."""
        return self._view().meta.log_id.hex()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    # ---- writing ----

    def append(self, payload: Payload, *, kind: int = DATA) -> int:
        """Appends an entry and returns its lsn, durable as the policy says.

        Args:
            payload: up to 64 MiB; may be empty.
            kind: 1 to 65533; what the payload is to the application.

        Raises:
            PayloadTypeError, PayloadTooLargeError, OptionError: nothing was appended.
            LogFullError: there was no space; nothing was appended, and later appends may work.
            LogPoisonedError: a write or sync failed, now or before; the entry may be in the log
                or not, which reopening tells.
            ClosedLogError, ReadOnlyLogError
        """
        data: Any = payload if type(payload) is bytes else _buffer(payload)
        size = len(data)
        clock = self._clock
        try:
            lsn: int = _append(self._raw, data, size, clock() if clock else 0, kind)
            while lsn <= 0:
                self._again(lsn, size, record_bytes(size), kind)
                lsn = _append(self._raw, data, size, clock() if clock else 0, kind)
        except (TypeError, OverflowError):
            self._refuse(size, record_bytes(size), kind)
        return lsn

    def append_many(self, payloads: Iterable[Payload], *, kind: int = DATA) -> range:
        """Appends a batch, whole or not at all, with one sync. Returns its lsns.

        Args:
            payloads: any number; together at most 256 MiB with 48 to 55 bytes for each.

        Raises:
            As `append`.
        """
        parts = self._parts_of(payloads)
        if not parts:
            return self._no_entries()
        first = self._append_batch(_append_many, parts, kind)
        return range(first, first + len(parts))

    def submit(self, payload: Payload, *, kind: int = DATA) -> Commit:
        """Accepts an entry and returns at once; the Commit tells when it is durable.

        Entries become durable in the order of their lsns. Under sync="always" it waits only where
        more than 8 MiB are on their way to the disk, or for the change to a new segment; under
        "interval" and "os" it hands the entry to the kernel before it returns.

        Raises:
            As `append`, for what is known at once; the rest is raised by the Commit.
        """
        data: Any = payload if type(payload) is bytes else _buffer(payload)
        size = len(data)
        clock = self._clock
        try:
            group: Any = self._group
            generation: int = group.generation
            lsn: int = _submit(self._raw, generation, data, size, clock() if clock else 0, kind)
            while lsn <= 0:
                self._again(lsn, size, record_bytes(size), kind)
                generation = group.generation
                lsn = _submit(self._raw, generation, data, size, clock() if clock else 0, kind)
        except (TypeError, OverflowError, AttributeError):
            self._refuse(size, record_bytes(size), kind)
        return Commit(group, generation, lsn)

    def sync(self) -> int:
        """Makes every entry accepted so far durable, whatever the policy. Returns the durable lsn.

        Raises:
            LogFullError, LogPoisonedError, ClosedLogError, ReadOnlyLogError
        """
        group = self._writable()
        generation = lib.walcore_generation(group.raw)
        lsn = lib.walcore_last_lsn(group.raw)
        group.wait(generation, lsn, lib.WALCORE_LEVEL_DURABLE, None)
        return self.durable_lsn

    def begin_term(self) -> int:
        """Begins a new term and returns it; durable at return.

        Raises:
            LogFullError: no space; the term is as it was.
            LogPoisonedError, ClosedLogError, ReadOnlyLogError
        """
        self._writable()
        assert self._writer is not None
        return self._writer.begin_term()

    def truncate_before(self, lsn: int) -> None:
        """Drops all entries before `lsn`; durable at return. They never come back.

        Args:
            lsn: the new `first_lsn`; at most `last_lsn` + 1, which leaves the log empty. Smaller
                than `first_lsn`: nothing is to be done.

        Raises:
            OptionError: `lsn` is no whole number.
            LSNOutOfRangeError: beyond `last_lsn` + 1, or less than 1.
            LogFullError: no space; nothing changed.
            LogPoisonedError, ClosedLogError, ReadOnlyLogError
        """
        self._writable()
        assert self._writer is not None
        self._writer.truncate_before(checked_lsn("lsn", lsn))

    def truncate_after(self, lsn: int) -> None:
        """Drops all entries after `lsn` and begins a new term; durable at return.

        Args:
            lsn: the new `last_lsn`; at least `first_lsn` - 1, which leaves the log empty.

        Raises:
            OptionError: `lsn` is no whole number.
            LSNOutOfRangeError: not in that range.
            LogFullError: no space; nothing changed.
            LogPoisonedError, ClosedLogError, ReadOnlyLogError
        """
        self._writable()
        assert self._writer is not None
        self._writer.truncate_after(checked_lsn("lsn", lsn))

    # ---- reading ----

    def read(self, lsn: int) -> WALEntry:
        """One entry, its checksum verified. Waits until it is durable: no reader is shown an
        entry that a power loss could take back.

        Raises:
            OptionError: `lsn` is no whole number.
            LSNOutOfRangeError: the log does not hold it.
            CorruptLogError: its bytes are damaged.
            LogAccessError: the system refused to read it.
            LogFullError, LogPoisonedError, EntryTruncatedError: it did not become durable.
            ClosedLogError
        """
        view = self._view()
        lsn = checked_lsn("lsn", lsn)
        return read_entry(view, self._snapshot(lsn, lsn).segments, lsn)

    def replay(self, from_lsn: int | None = None, to_lsn: int | None = None) -> Iterator[WALEntry]:
        """The entries of a range in order, checksums verified, durable first (see `read`).

        Args:
            from_lsn: the first one; by default the first that is held. `last_lsn` + 1 gives none.
            to_lsn: the last one; by default the last that is held when this is called, or the
                last durable one after a failed write or sync.

        Raises:
            OptionError: an lsn is no whole number; raised at once.
            LSNOutOfRangeError: the log does not hold the range; raised at once, or while
                iterating when it is truncated meanwhile.
            CorruptLogError: damaged bytes were reached; all entries before were good.
            LogAccessError: the system refused to read.
            LogFullError, LogPoisonedError, EntryTruncatedError: the range did not become durable.
            ClosedLogError
        """
        view = self._view()
        if from_lsn is not None:
            from_lsn = checked_lsn("from_lsn", from_lsn)
        if to_lsn is not None:
            to_lsn = checked_lsn("to_lsn", to_lsn)
        held = self._snapshot(from_lsn, to_lsn)
        start = held.first_lsn if from_lsn is None else from_lsn
        return chain.from_iterable(replay(view, held.segments, start, held.last_lsn))

    def tail(self, from_lsn: int | None = None) -> Tail:
        """Follows the log: the entries from `from_lsn` on (by default the first that is held),
        then each new one as soon as it is durable. See Tail.

        Raises:
            OptionError: `from_lsn` is no whole number.
            LSNOutOfRangeError: before the first entry held, or more than one beyond the last.
            ClosedLogError; and as `read`, since it looks at the entry before.
        """
        self._view()
        first_lsn, last_lsn = self._bounds_now()
        start = first_lsn if from_lsn is None else checked_lsn("from_lsn", from_lsn)
        if not first_lsn <= start <= last_lsn + 1:
            raise LSNOutOfRangeError(start, first_lsn, last_lsn)
        return Tail(self, start)

    def verify(self, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
        """Checks every record of the log and reports; changes nothing.

        Args:
            progress: called with (bytes done, bytes in all).

        Raises:
            LogAccessError: the system refused to read.
            ClosedLogError
        """
        view = self._view()
        return verify_log(view, self._snapshot(None, None, everything=True), progress)

    def stats(self) -> LogStats:
        """Sizes, counters and latencies; cheap.

        Raises:
            ClosedLogError
        """
        return log_stats(self._view())

    # ---- life ----

    def close(self) -> None:
        """Makes every accepted entry durable, marks the log as cleanly closed and lets go of it.
        Closing twice does nothing, unless the first call was interrupted: then the second ends it.
        While another thread closes it, this waits for that.

        Not for a signal's handler: let that raise, as Ctrl-C's does, and close the log where it
        arrives. At the end of the interpreter another process can open the log when this one is
        gone.

        Raises:
            LogPoisonedError: entries that sync="os" or "interval" had accepted could not be made
                durable.
            LogFullError: there was no space for them, or for the mark. The log is closed all the
                same.
        """
        if self._forked:
            return
        with self._closing:
            if self._close_begun:  # by this thread: a signal's handler has come into it
                return
            self._close_begun = True
            try:
                self._let_go()
            finally:
                self._close_begun = False

    def _let_go(self) -> None:
        self._closed = True
        if self._writer is not None and not self._writer.released:
            self._writer.close()
        elif self._follower is not None:
            self._follower.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "read-only" if self.read_only else self.sync_policy
        return f"<{type(self).__name__} {self.path!r} {state}>"

    # ---- for replication ----

    def _log_writer(self) -> LogWriter:
        self._writable()
        assert self._writer is not None
        return self._writer

    def _record_reader(self) -> RecordReader:
        """Reads raw records, see there."""
        return RecordReader(self._log_writer())

    def _submit_records(self, records: Records) -> int:
        """See LogWriter.submit_records."""
        return self._log_writer().submit_records(records)

    def _set_committed(self, lsn: int) -> None:
        """See LogWriter.set_committed."""
        self._log_writer().set_committed(lsn)

    def _append_term_entry(self, payload: bytes) -> Commit:
        """Accepts the entry that a leadership begins with; as `submit`."""
        return self._append_own(lib.walcore_submit_term, payload)

    def _append_configuration(self, payload: bytes) -> Commit:
        """Accepts an entry that says who the nodes are; as `submit`."""
        return self._append_own(lib.walcore_submit_configuration, payload)

    def _append_own(self, submit: Callable[..., int], payload: bytes) -> Commit:
        group = self._log_writer().group
        while True:
            generation = group.refresh_generation()
            now_ns = self._clock() if self._clock else 0
            lsn = submit(group.raw, generation, payload, len(payload), now_ns)
            if lsn > 0:
                return Commit(group, generation, lsn)
            self._again(lsn, len(payload), record_bytes(len(payload)), DATA)

    def _append_within(self, parts: list[bytes], kind: int, timeout_s: float) -> tuple[int, Commit]:
        """Appends a batch and waits for it to be committed, about so long at the most. Returns the
        first lsn, and the commit of the last, which tells what became of it.

        Raises:
            As `append_many`, for what is known at once.
        """
        outcome: Any = ffi.new("walcore_outcome *")
        slice_ns = min(WAIT_SLICE_NS, int(timeout_s * 1e9))
        first = self._append_batch(lib.walcore_append_within, parts, kind, slice_ns, outcome)
        last_lsn = first + len(parts) - 1
        return first, Commit(self._writable(), outcome.generation, last_lsn)

    def _adopt_term(self, term: int) -> None:
        """Makes another node's term durable before its entries are; a lower one changes nothing.

        Raises:
            As `begin_term`.
        """
        self._log_writer().adopt_term(term)

    def _cut_diverged(self, after_lsn: int, term: int) -> str:
        """See LogWriter.cut_diverged."""
        return self._log_writer().cut_diverged(after_lsn, term)

    def _reset(
        self, first_lsn: int, prev_term: int, term: int, log_id: bytes | None = None
    ) -> None:
        """See LogWriter.reset."""
        self._log_writer().reset(first_lsn, prev_term, term, log_id)

    # ---- inside ----

    def _append_batch(
        self, append: Callable[..., int], parts: list[bytes], kind: int, *how: Any
    ) -> int:
        """Calls C's `append` until it has taken the batch; `how`: what else that one wants to know.
        Returns the first lsn."""
        lengths = _lengths_of(parts)
        joined, sizes, count = b"".join(parts), ffi.from_buffer("uint32_t[]", lengths), len(parts)
        clock = self._clock
        try:
            while True:
                now_ns = clock() if clock else 0
                first = append(self._raw, joined, sizes, count, now_ns, kind, *how)
                if first > 0:
                    return first
                self._again(first, max(lengths), sum(map(record_bytes, lengths)), kind)
        except (TypeError, OverflowError):
            self._refuse(max(lengths), sum(map(record_bytes, lengths)), kind)

    def _parts_of(self, payloads: Iterable[Payload]) -> list[bytes]:
        """The payloads of a batch, which the caller may change from now on."""
        parts: list[Any] = list(payloads)
        if set(map(type, parts)) - {bytes}:
            parts = [bytes(checked_payload(item)) for item in parts]
        self._writable()
        return parts

    def _no_entries(self) -> range:
        next_lsn = self.last_lsn + 1
        return range(next_lsn, next_lsn)

    def _view(self) -> LogWriter | LogFollower:
        if self._closed:
            raise self._closed_error()
        view = self._writer or self._follower
        assert view is not None
        return view

    def _closed_error(self) -> ClosedLogError:
        if self._forked:
            return forked_error(self.path)
        return ClosedLogError(f"{self.path} is closed")

    def _abandon(self) -> None:
        """In a child made by fork: the log is the parent's, with its lock and its threads."""
        self._raw = None
        if self._writer is not None and not self._writer.released:
            self._writer.abandon()
        self._closed = self._forked = True

    def _writable(self) -> GroupCommit:
        if self._closed:
            raise self._closed_error()
        if self._group is None:
            raise ReadOnlyLogError(self.path)
        return self._group

    def _again(self, rc: int, payload_bytes: int, need_bytes: int, kind: int) -> None:
        """Clears the way after the writer did not take an entry, or raises why it cannot be."""
        if rc == lib.WALCORE_ROLL:
            assert self._writer is not None
            self._writer.roll(need_bytes)
        elif rc == lib.WALCORE_STALE:
            self._writable().refresh_generation()
        elif rc == lib.WALCORE_REFUSED:
            self._refuse(payload_bytes, need_bytes, kind)
        else:
            assert self._group is not None
            raise self._group.error(rc)

    def _refuse(self, payload_bytes: int, need_bytes: int, kind: int) -> NoReturn:
        """Says what was wrong with the arguments of an append that C did not take."""
        self._writable()
        if not isinstance(kind, int) or not 1 <= kind <= KIND_MAX:
            raise OptionError(f"kind is a whole number from 1 to {KIND_MAX}, not {kind!r}")
        if payload_bytes > PAYLOAD_BYTES_MAX:
            raise PayloadTooLargeError("a payload", payload_bytes, PAYLOAD_BYTES_MAX)
        raise PayloadTooLargeError("a batch", need_bytes, BATCH_BYTES_MAX)

    def _bounds_now(self) -> tuple[int, int]:
        view = self._view()
        if isinstance(view, LogFollower):
            view.refresh()
        return view.readable()

    def _snapshot(
        self, from_lsn: int | None, to_lsn: int | None, *, everything: bool = False
    ) -> Snapshot:
        """Checks a range, makes it durable, and holds on to what has it: entries up to `to_lsn`,
        by default the last one now, or of a log that was latched shut the last durable one.
        `everything`: in a replicated log, too, also what is not committed."""
        while True:
            view = self._view()
            if isinstance(view, LogFollower):
                view.refresh()
            generation = view.generation()
            first_lsn, last_lsn = view.bounds() if everything else view.readable()
            start = first_lsn if from_lsn is None else from_lsn
            end = last_lsn if to_lsn is None else to_lsn
            nothing_yet = start == last_lsn + 1 and end == last_lsn
            if not (first_lsn <= start <= last_lsn or nothing_yet):
                raise LSNOutOfRangeError(start, first_lsn, last_lsn)
            if end > last_lsn:
                raise LSNOutOfRangeError(end, first_lsn, last_lsn)
            if isinstance(view, LogWriter) and end > lib.walcore_durable_lsn(view.group.raw):
                try:
                    view.group.wait(generation, end, lib.WALCORE_LEVEL_DURABLE, None)
                except (EntryTruncatedError, LogFullError):
                    if to_lsn is not None:
                        raise
                    continue  # the log's end is another one now
                except LogPoisonedError:
                    end = lib.walcore_durable_lsn(view.group.raw)
                    if to_lsn is not None or start > end + 1:
                        raise
            segments = view.segments_in(generation)
            if segments is not None:
                return Snapshot(first_lsn, end, segments)

    def _epoch(self) -> int:
        """How often the suffix was truncated."""
        return self._view().meta.epoch

    def _history(self, lsn: int) -> tuple[int, int]:
        """The epoch, and the term that an entry, or the one before the first, has in that epoch or
        in a later one. For Tail."""
        epoch = self._epoch()
        return epoch, self._term_of(lsn)

    def _term_of(self, lsn: int) -> int:
        """The term of an entry, or of the one before the log's first."""
        meta = self._view().meta
        if lsn == meta.first_lsn - 1:
            return meta.prev_term
        return self.read(lsn).term

    def _await_entry(self, lsn: int) -> bool:
        """Waits a little for an entry to be durable. For Tail."""
        view = self._view()
        if isinstance(view, LogFollower):
            view.refresh()
            if view.readable()[1] < lsn:
                time.sleep(_POLL_S)
            return view.readable()[1] >= lsn
        self._nudge(view, lsn)
        rc = lib.walcore_watch(view.group.raw, lsn, WAIT_SLICE_NS)
        if rc not in (lib.WALCORE_OK, lib.WALCORE_TIMEOUT):
            raise view.group.error(rc)
        return rc == lib.WALCORE_OK

    async def _await_entry_async(self, lsn: int) -> bool:
        view = self._view()
        if isinstance(view, LogFollower):
            view.refresh()
            if view.readable()[1] < lsn:
                await asyncio.sleep(_POLL_S)
            return view.readable()[1] >= lsn
        if lib.walcore_visible_lsn(view.group.raw) >= lsn:
            return True
        self._nudge(view, lsn)
        generation = view.generation()
        # An entry of this lsn that does not make it is followed by another.
        with contextlib.suppress(TimeoutError, LogFullError, EntryTruncatedError):
            await asyncio.wait_for(view.group.waker().future(generation, lsn), WAIT_SLICE_NS / 1e9)
        return lib.walcore_visible_lsn(view.group.raw) >= lsn

    def _nudge(self, view: LogWriter, lsn: int) -> None:
        """Under sync="os" nothing may ever become durable by itself; a follower asks for it."""
        if self.sync_policy != "os" or view.bounds()[1] < lsn:
            return
        if lib.walcore_durable_lsn(view.group.raw) >= lsn:
            return
        with contextlib.suppress(CommitTimeoutError, EntryTruncatedError):
            self.sync()


def _abandon_all() -> None:
    for log in list(_open_logs):
        log._abandon()


_open_logs: weakref.WeakSet[FileWALManager] = weakref.WeakSet()
os.register_at_fork(after_in_child=_abandon_all)


def _open_writer(
    path: str,
    *,
    sync: SyncPolicy,
    segment_bytes: int,
    sync_interval_ms: int,
    replicated: Replicated | None,
    clock: Callable[[], int],
    entropy: Callable[[int], bytes],
) -> LogWriter:
    meta_fd = open_meta(path, write=True)
    try:
        opened = read_log(path, meta_fd)
        if opened is None:
            given = replicated.log_id if replicated else None
            start = Start(given or entropy(16), replicated=replicated is not None)
            create_log(path, meta_fd, segment_bytes, clock(), entropy, start)
            opened = read_log(path, meta_fd)
            assert opened is not None
        elif replicated is None:
            refuse_replicated(path, meta_fd)
        return LogWriter(
            path,
            meta_fd,
            opened,
            durable=sync == "always",
            interval_ns=sync_interval_ms * 1_000_000 if sync == "interval" else 0,
            segment_bytes=segment_bytes,
            clock=clock,
            entropy=entropy,
            replicated=replicated,
        )
    except BaseException as error:
        files.close(meta_fd)
        if isinstance(error, OSError) and not isinstance(error, WALStoreError):
            raise access_error(error, path, "cannot open") from error
        raise


def _buffer(payload: object) -> Any:
    return ffi.from_buffer("uint8_t[]", checked_payload(payload))


def _lengths_of(parts: list[bytes]) -> array[int]:
    try:
        return array("I", map(len, parts))
    except OverflowError as error:
        longest = max(map(len, parts))
        raise PayloadTooLargeError("a payload", longest, PAYLOAD_BYTES_MAX) from error
