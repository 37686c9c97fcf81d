"""writer.c at its limits: what it refuses, where it looks, and what it does without a waiter."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.native.test_writer import LIMIT_AT, SECOND_NS, SEED, START_AT, Native
from tests.native.twin import Record, encode
from walstore._native import ffi, lib
from walstore.wal.record import Scanner, entries_of

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def native(tmp_path: Path) -> Iterator[Native]:
    native = Native(tmp_path / "file")
    yield native
    lib.walcore_writer_stop(native.raw)
    os.close(native.fd)


def append_many(native: Native, lengths: list[int], kind: int = 1) -> int:
    payload = b"x" * min(sum(lengths), 1000)
    return lib.walcore_append_many(native.raw, payload, lengths, len(lengths), 5, kind)


def test_batches_outside_their_limits_are_refused(native: Native) -> None:
    large = lib.WALCORE_PAYLOAD_BYTES_MAX
    assert append_many(native, [1, large + 1]) == lib.WALCORE_REFUSED
    assert append_many(native, [large] * 4) == lib.WALCORE_REFUSED  # with their headers
    assert append_many(native, [1, 2], kind=0) == lib.WALCORE_REFUSED
    assert append_many(native, [large]) == lib.WALCORE_ROLL
    assert append_many(native, [1, 2]) == 1
    assert native.payloads() == [b"x", b"xx"]


def test_a_batch_that_is_waited_for_a_while_has_the_same_limits(native: Native) -> None:
    large = lib.WALCORE_PAYLOAD_BYTES_MAX
    outcome: Any = ffi.new("walcore_outcome *")

    def append(lengths: list[int], kind: int = 1) -> int:
        count, timeout_ns = len(lengths), 30 * SECOND_NS
        return lib.walcore_append_within(
            native.raw, b"xyz", lengths, count, 5, kind, timeout_ns, outcome
        )

    assert append([1, large + 1]) == lib.WALCORE_REFUSED
    assert append([large] * 4) == lib.WALCORE_REFUSED
    assert append([1, 2], kind=0) == lib.WALCORE_REFUSED
    assert append([1, 2]) == 1
    assert (outcome.generation, outcome.rc) == (0, lib.WALCORE_OK)
    assert native.payloads() == [b"x", b"yz"]


def submit_records(native: Native, *records: Record) -> tuple[int, int]:
    """The result and how many bytes were taken."""
    data = b"".join(encode(record, 99) for record in records)
    counts = ffi.new("uint64_t[2]")
    rc = lib.walcore_submit_records(native.raw, data, len(data), counts, counts + 1)
    return rc, counts[0]


def test_records_that_do_not_follow_are_refused(native: Native) -> None:
    lib.walcore_writer_set_term(native.raw, 4)
    for bad in (
        [Record(2)],
        [Record(1), Record(3)],
        [Record(1, term=0)],
        [Record(1, term=2), Record(2, term=1)],
        [Record(1, term=5)],
    ):
        assert submit_records(native, *bad) == (lib.WALCORE_REFUSED, 0), bad
    large = Record(1, payload=bytes(LIMIT_AT - START_AT))
    assert submit_records(native, large) == (lib.WALCORE_ROLL, 0)
    small = [Record(1, term=2, payload=b"a"), Record(2, term=4, payload=b"b")]
    rc, taken = submit_records(native, *small, Record(3, term=4, payload=large.payload))
    assert (rc, taken) == (lib.WALCORE_ROLL, 112)
    assert native.wait(2) == lib.WALCORE_OK
    assert native.payloads() == [b"a", b"b"]


def test_what_was_taken_of_records_is_not_called_all_of_them(tmp_path: Path) -> None:
    """Nor written yet, where a log would write it before the call returns: a roll follows."""
    native = Native(tmp_path / "file", lib.WALCORE_LEVEL_WRITTEN)
    small, large = Record(1, payload=b"a"), Record(2, payload=bytes(LIMIT_AT - START_AT))
    assert submit_records(native, small, large) == (lib.WALCORE_ROLL, 56)
    assert lib.walcore_last_lsn(native.raw) == 1
    assert native.payloads() == []
    assert lib.walcore_freeze(native.raw) == lib.WALCORE_OK
    assert native.payloads() == [b"a"]
    lib.walcore_writer_stop(native.raw)
    os.close(native.fd)


def test_a_node_alone_does_not_take_back_what_others_committed(tmp_path: Path) -> None:
    native = Native(tmp_path / "file", committed_lsn=2)
    lib.walcore_accept_appends(native.raw, True, True)
    for lsn, committed_lsn in ((1, 2), (2, 2), (3, 3)):
        assert native.append(b"x") == lsn
        assert lib.walcore_visible_lsn(native.raw) == lsn
        assert lib.walcore_committed_lsn(native.raw) == committed_lsn
        assert native.marked_lsn() == committed_lsn
    lib.walcore_writer_stop(native.raw)
    lib.walcore_set_committed(native.raw, 9)  # the descriptor may be another file's by now
    assert (lib.walcore_committed_lsn(native.raw), native.marked_lsn()) == (3, 3)
    os.close(native.fd)


def test_the_logs_own_kinds_are_not_for_users(native: Native) -> None:
    for kind in (lib.WALCORE_KIND_CONFIGURATION, lib.WALCORE_KIND_TERM):
        assert native.append(b"x", kind) == lib.WALCORE_REFUSED
        assert append_many(native, [1, 2], kind=kind) == lib.WALCORE_REFUSED
        assert lib.walcore_submit(native.raw, 0, b"x", 1, 5, kind) == lib.WALCORE_REFUSED
    assert lib.walcore_submit_term(native.raw, 0, b"x", 1, 5) == 1
    too_large = lib.WALCORE_PAYLOAD_BYTES_MAX + 1
    assert lib.walcore_submit_term(native.raw, 0, b"", too_large, 5) == lib.WALCORE_REFUSED


def test_an_entry_without_a_time_gets_the_clock_s(native: Native) -> None:
    assert lib.walcore_append(native.raw, b"x", 1, 0, 1) == 1
    data = os.pread(native.fd, 1000, START_AT)
    (entry,) = entries_of(data, 0, Scanner(SEED, 1, 0).decode(data, 0, START_AT))
    assert entry.timestamp_ns > 1_600_000_000 * SECOND_NS


def test_nothing_of_another_generation_or_kind_is_submitted(native: Native) -> None:
    too_large = lib.WALCORE_PAYLOAD_BYTES_MAX + 1
    assert lib.walcore_submit(native.raw, 0, b"", too_large, 5, 1) == lib.WALCORE_REFUSED
    assert lib.walcore_submit(native.raw, 0, b"x", 1, 5, 0) == lib.WALCORE_REFUSED
    assert native.submit(b"x", generation=1) == lib.WALCORE_STALE
    assert native.submit(b"x") == 1


def test_a_place_outside_of_the_segment_is_not_located(native: Native) -> None:
    found = ffi.new("uint64_t[3]")

    def locate(lsn: int) -> int:
        return lib.walcore_locate(native.raw, lsn, found, found + 1, found + 2)

    assert [locate(lsn) for lsn in (0, 1, 2)] == [-1, -1, -1]
    lib.walcore_freeze(native.raw)
    native.attach(5)  # without the index of the four
    lib.walcore_thaw(native.raw)
    assert [locate(lsn) for lsn in (1, 4, 5)] == [-1, -1, -1]
    assert native.append(b"x") == 5
    assert [locate(lsn) for lsn in (0, 5, 6)] == [-1, 0, -1]


def test_a_long_index_is_kept_whole(native: Native) -> None:
    count = 5000
    pairs = struct.pack(f"<{2 * count}I", *(n for i in range(count) for n in (i, 1024 + 2048 * i)))
    lib.walcore_freeze(native.raw)
    native.attach(count + 1)
    view = ffi.from_buffer("uint32_t[]", pairs)
    assert lib.walcore_writer_index_load(native.raw, view, count) == lib.WALCORE_OK
    lib.walcore_thaw(native.raw)
    out = ffi.new("uint32_t[]", 2 * count)
    assert lib.walcore_index_copy(native.raw, out, count - 1) == count
    assert not any(out), "copied although there was no room"
    assert lib.walcore_index_copy(native.raw, out, count) == count
    assert bytes(ffi.buffer(out)) == pairs


@pytest.mark.parametrize("ending", ["durable", "poisoned", "stopped", "truncated", "pending"])
def test_whoever_asks_to_be_woken_is_told_what_is_so_already(native: Native, ending: str) -> None:
    for _ in range(3):
        native.append(b"x")
    event = os.eventfd(0, os.EFD_NONBLOCK)
    slot = lib.walcore_notify_open(native.raw, event)
    if ending == "poisoned":
        lib.walcore_poison(native.raw, errno.EIO)
    elif ending == "stopped":
        lib.walcore_writer_stop(native.raw)
    elif ending == "truncated":
        lib.walcore_freeze(native.raw)
        native.attach(2)
        lib.walcore_thaw(native.raw)
    lsn = {"durable": 3, "truncated": 2}.get(ending, 4)
    assert lib.walcore_notify_arm(native.raw, slot, 0, lsn, lib.WALCORE_LEVEL_DURABLE) == (
        ending != "pending"
    )
    lib.walcore_notify_close(native.raw, slot)
    os.close(event)


def test_a_full_eventfd_is_no_failure(native: Native) -> None:
    event = os.eventfd((1 << 32) - 1, os.EFD_NONBLOCK)
    os.eventfd_write(event, (1 << 64) - (1 << 32) - 1)
    slot = lib.walcore_notify_open(native.raw, event)
    assert lib.walcore_notify_arm(native.raw, slot, 0, 1, lib.WALCORE_LEVEL_DURABLE) == 0
    assert native.append(b"x") == 1
    assert os.eventfd_read(event) == (1 << 64) - 2
    os.close(event)


def test_a_log_without_a_period_is_synced_when_much_is_not(tmp_path: Path) -> None:
    native = Native(tmp_path / "file", lib.WALCORE_LEVEL_WRITTEN)
    lib.walcore_writer_set_limit(native.raw, START_AT + (32 << 20))
    assert native.append(b"x" * (5 << 20)) == 1  # larger than the buffer, which shrinks again
    assert native.submit(b"x" * (2 << 20)) == 2
    assert native.status().syncs == 0
    assert native.append(b"x" * (2 << 20)) == 3
    assert lib.walcore_watch(native.raw, 3, 30 * SECOND_NS) == lib.WALCORE_OK
    assert native.status().syncs == 1
    lib.walcore_writer_stop(native.raw)
    os.close(native.fd)


@pytest.mark.parametrize("published", [False, True])
def test_a_watermark_that_cannot_be_published_harms_nothing(
    tmp_path: Path, published: bool
) -> None:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    watermark_fd = os.open(tmp_path / "file", os.O_RDONLY) if published else -1
    raw: Any = lib.walcore_writer_new(lib.WALCORE_LEVEL_DURABLE, 0, watermark_fd, 0, 7)
    rc = lib.walcore_writer_attach(raw, fd, SEED, 1, 1, 1, 0, 1, START_AT, LIMIT_AT, True)
    assert rc == (-errno.EBADF if published else 0)
    lib.walcore_thaw(raw)
    assert lib.walcore_append(raw, b"x", 1, 5, 1) == 1  # the flusher was never started
    status: Any = ffi.new("walcore_status *")
    lib.walcore_writer_status(raw, status)
    assert (status.durable_lsn, status.watermark_failures) == (1, 2 if published else 0)
    lib.walcore_writer_free(raw)
    os.close(fd)


def test_the_free_slots_are_given_out_again(native: Native) -> None:
    slots = [lib.walcore_notify_open(native.raw, 0) for _ in range(lib.WALCORE_NOTIFY_SLOTS)]
    lib.walcore_notify_close(native.raw, slots[3])
    assert lib.walcore_notify_open(native.raw, 0) == slots[3]
    for slot in slots:
        lib.walcore_notify_close(native.raw, slot)


def test_a_wait_without_an_end_and_a_preference_that_is_over(native: Native) -> None:
    lib.walcore_writer_prefer(native.raw, 5000, 0)
    assert native.submit(b"x") == 1
    assert lib.walcore_wait(native.raw, 0, 1, lib.WALCORE_LEVEL_DURABLE, -1) == lib.WALCORE_OK
