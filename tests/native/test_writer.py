"""writer.c by itself: limits, groups, generations, and no wakeup that is lost."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from walstore import FileWALManager
from walstore._native import ffi, lib
from walstore.wal.record import Scanner, crc32c, entries_of, record_bytes

pytestmark = pytest.mark.timeout(90)

SEED = 0x1234
WATERMARK_SEED = 7
MARK = struct.Struct("<IIQQ")
MARK_AT = 512
START_AT = 8192
LIMIT_AT = START_AT + (1 << 20)
SECOND_NS = 1_000_000_000


class Native:
    """A C writer on a file of its own."""

    def __init__(
        self,
        path: Path,
        level: int = lib.WALCORE_LEVEL_DURABLE,
        *,
        flusher: bool = True,
        committed_lsn: int | None = None,
    ) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT)
        self.raw = ffi.gc(
            lib.walcore_writer_new(level, 0, self.fd, 0, WATERMARK_SEED), lib.walcore_writer_free
        )
        if committed_lsn is not None:
            lib.walcore_writer_commits(self.raw, committed_lsn, MARK_AT)
        self.attach(1)
        assert not flusher or lib.walcore_writer_start(self.raw) == 0
        lib.walcore_thaw(self.raw)

    def attach(self, next_lsn: int, *, term: int = 1, zeroed: bool = True) -> None:
        assert not lib.walcore_writer_attach(
            self.raw, self.fd, SEED, next_lsn, term, term, 0, 1, START_AT, LIMIT_AT, zeroed
        )

    def append(self, payload: bytes, kind: int = 1) -> int:
        return lib.walcore_append(self.raw, payload, len(payload), 5, kind)

    def submit(self, payload: bytes, generation: int = 0) -> int:
        return lib.walcore_submit(self.raw, generation, payload, len(payload), 5, 1)

    def wait(self, lsn: int, generation: int = 0) -> int:
        level = lib.WALCORE_LEVEL_DURABLE
        return lib.walcore_wait(self.raw, generation, lsn, level, 30 * SECOND_NS)

    def status(self) -> Any:
        status = ffi.new("walcore_status *")
        lib.walcore_writer_status(self.raw, status)
        return status

    def marked_lsn(self, seed: int = WATERMARK_SEED) -> int:
        """How far other processes are told that the log is committed."""
        data = os.pread(self.fd, MARK.size, MARK_AT)
        crc, level, _epoch, lsn = MARK.unpack(data)
        assert (crc, level) == (crc32c(data[4:], seed), lib.WALCORE_LEVEL_COMMITTED)
        return int(lsn)

    def payloads(self) -> list[bytes]:
        data = os.pread(self.fd, 4 << 20, START_AT)
        rows = Scanner(SEED, 1, 0).decode(data, 0, START_AT)
        return [entry.payload for entry in entries_of(data, 0, rows)]


@pytest.fixture
def native(tmp_path: Path) -> Iterator[Native]:
    native = Native(tmp_path / "file")
    yield native
    lib.walcore_writer_stop(native.raw)
    os.close(native.fd)


def test_append_is_on_disk_and_counted(native: Native) -> None:
    assert [native.append(payload) for payload in (b"a", b"", b"c" * 5000)] == [1, 2, 3]
    assert native.payloads() == [b"a", b"", b"c" * 5000]
    status = native.status()
    assert (status.next_lsn, status.written_lsn, status.durable_lsn) == (4, 3, 3)
    assert (status.writes, status.syncs) == (3, 3)
    assert status.tail_at == START_AT + sum(record_bytes(size) for size in (1, 0, 5000))


def test_submit_is_flushed_without_a_waiter(native: Native) -> None:
    assert native.submit(b"x") == 1
    assert lib.walcore_watch(native.raw, 1, 30 * SECOND_NS) == lib.WALCORE_OK
    assert native.payloads() == [b"x"]
    assert lib.walcore_watch(native.raw, 2, 1) == lib.WALCORE_TIMEOUT


def test_what_is_outside_its_limits_is_refused(native: Native) -> None:
    assert native.append(b"x", kind=0) == lib.WALCORE_REFUSED
    too_large = lib.WALCORE_PAYLOAD_BYTES_MAX + 1
    assert lib.walcore_append(native.raw, b"", too_large, 5, 1) == lib.WALCORE_REFUSED
    assert native.append(b"x" * (LIMIT_AT - START_AT)) == lib.WALCORE_ROLL
    assert native.append(b"x") == 1
    exact = LIMIT_AT - native.status().tail_at - lib.WALCORE_RECORD_HEADER_BYTES
    assert native.append(b"y" * (exact + 1)) == lib.WALCORE_ROLL
    assert native.append(b"y" * exact) == 2
    assert native.append(b"") == lib.WALCORE_ROLL


def test_generations_tell_an_entry_from_its_successor(native: Native) -> None:
    for _ in range(5):
        native.append(b"x")
    assert lib.walcore_freeze(native.raw) == lib.WALCORE_OK
    native.attach(3)
    lib.walcore_thaw(native.raw)
    assert lib.walcore_generation(native.raw) == 1
    assert native.submit(b"x", generation=0) == lib.WALCORE_STALE
    assert native.wait(4, generation=0) == lib.WALCORE_TRUNCATED
    assert native.wait(2, generation=0) == lib.WALCORE_OK
    assert native.wait(4, generation=1) == lib.WALCORE_TRUNCATED  # not yet given out
    assert lib.walcore_durable_lsn(native.raw) == 2
    assert native.append(b"new") == 3
    assert native.append(b"new") == 4
    assert native.wait(4, generation=0) == lib.WALCORE_TRUNCATED
    assert native.wait(4, generation=1) == lib.WALCORE_OK
    fates = [lib.walcore_fate_of(native.raw, 0, lsn) for lsn in (2, 3)]
    assert fates == [lib.WALCORE_OK, lib.WALCORE_TRUNCATED]


def test_poison_keeps_the_first_error_and_stop_ends_calls(native: Native) -> None:
    native.append(b"x")
    lib.walcore_poison(native.raw, 5)
    lib.walcore_poison(native.raw, 28)
    assert native.status().error == 5
    assert native.append(b"y") == lib.WALCORE_POISONED
    assert native.wait(1) == lib.WALCORE_OK
    assert lib.walcore_watch(native.raw, 2, SECOND_NS) == lib.WALCORE_POISONED
    assert lib.walcore_freeze(native.raw) == lib.WALCORE_POISONED


def test_stopped_writer_takes_nothing(native: Native) -> None:
    lib.walcore_writer_stop(native.raw)
    assert native.append(b"x") == lib.WALCORE_STOPPED
    assert lib.walcore_watch(native.raw, 1, 30 * SECOND_NS) == lib.WALCORE_STOPPED


def test_nothing_is_written_after_a_stop(tmp_path: Path) -> None:
    """The descriptor may be closed by then, and its number be that of another file."""
    native = Native(tmp_path / "file", flusher=False)
    assert native.submit(b"staged") == 1
    lib.walcore_writer_stop(native.raw)
    assert native.wait(1) == lib.WALCORE_STOPPED
    assert lib.walcore_freeze(native.raw) == lib.WALCORE_STOPPED
    assert native.payloads() == []
    os.close(native.fd)


def test_term_never_goes_back(native: Native) -> None:
    lib.walcore_writer_set_term(native.raw, 4)
    native.append(b"x")
    lib.walcore_writer_set_term(native.raw, 2)
    native.append(b"y")
    data = os.pread(native.fd, 1 << 16, START_AT)
    rows = Scanner(SEED, 1, 0).decode(data, 0, START_AT)
    assert [entry.term for entry in entries_of(data, 0, rows)] == [4, 4]


def test_reused_file_is_zero_behind_the_last_record(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff" * (2 << 20))
    native = Native(tmp_path / "file")
    assert lib.walcore_freeze(native.raw) == lib.WALCORE_OK
    native.attach(1, zeroed=False)
    lib.walcore_thaw(native.raw)
    for size in (10, 4000, 40, 4096, 9000, 1):
        native.append(b"x" * size)
        tail_at = native.status().tail_at
        header_bytes = lib.WALCORE_RECORD_HEADER_BYTES
        assert not any(os.pread(native.fd, header_bytes, tail_at)), size
    lib.walcore_writer_stop(native.raw)
    os.close(native.fd)


def test_locate_brackets_every_record(native: Native) -> None:
    for i in range(100):
        native.append(b"x" * (i * 97 % 3000))
    found = ffi.new("uint64_t[3]")
    for lsn in range(1, 101):
        assert lib.walcore_locate(native.raw, lsn, found, found + 1, found + 2) == 0
        assert found[0] <= lsn
        assert START_AT <= found[1] < found[2] <= native.status().tail_at
        data = os.pread(native.fd, 1 << 16, found[1])
        assert Scanner(SEED, found[0], 0).find(data, lsn) is not None
    assert lib.walcore_locate(native.raw, 101, found, found + 1, found + 2) == -1


def test_notify_writes_once_when_an_armed_lsn_is_durable(native: Native) -> None:
    event = os.eventfd(0, os.EFD_NONBLOCK)
    slot = lib.walcore_notify_open(native.raw, event)
    assert lib.walcore_notify_arm(native.raw, slot, 0, 2, lib.WALCORE_LEVEL_DURABLE) == 0
    native.append(b"1")
    with pytest.raises(BlockingIOError):
        os.read(event, 8)
    native.append(b"2")
    native.append(b"3")
    assert os.read(event, 8) == (1).to_bytes(8, "little")
    assert (
        lib.walcore_notify_arm(native.raw, slot, 0, 3, lib.WALCORE_LEVEL_DURABLE) == 1
    )  # due already
    slots = [lib.walcore_notify_open(native.raw, event) for _ in range(lib.WALCORE_NOTIFY_SLOTS)]
    assert slots[-1] == -1
    assert len(set(slots)) == lib.WALCORE_NOTIFY_SLOTS
    os.close(event)


def test_no_wakeup_is_lost_when_staging_is_full(tmp_path: Path) -> None:
    """24 MiB through buffers of 4: submitters wait for the flusher and the flusher for none."""

    async def main(log: FileWALManager) -> None:
        async def wait(commit: Any) -> int:
            lsn: int = await commit
            return lsn

        for _ in range(3):
            commits = [log.submit(b"x" * (1 << 20)) for _ in range(24)]
            waits = asyncio.gather(*[wait(commit) for commit in commits])
            got = await asyncio.wait_for(waits, 25)
            assert got == [commit.lsn for commit in commits]

    with FileWALManager(tmp_path / "log", segment_bytes=80 << 20) as log:
        asyncio.run(main(log))
        assert log.durable_lsn == 72
