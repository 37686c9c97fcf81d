"""All logs pass these tests.

A test module subclasses LogConformance for each implementation, or way to configure one, and says
how it is opened. Only what users see is called here; nothing looks inside.
"""

from __future__ import annotations

import array
import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import open_descriptors, payloads, seeded
from walstore import (
    ClosedLogError,
    Commit,
    FileWALManager,
    LSNOutOfRangeError,
    OptionError,
    PayloadTooLargeError,
    PayloadTypeError,
    WALEntry,
    WALStoreError,
)
from walstore.limits import BATCH_BYTES_MAX, KIND_MAX, PAYLOAD_BYTES_MAX


def run_threads(*targets: Callable[[], object]) -> None:
    """Runs functions at once, each in a thread, and raises what the first failing one raised."""
    errors: list[BaseException] = []

    def guarded(target: Callable[[], object]) -> None:
        try:
            target()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class LogConformance:
    """The contract of a log. Subclasses say how to open one."""

    small_segments = False
    """Whether a segment holds 4 KiB, so that every test rolls through several."""

    def open(self, path: Path, **options: Any) -> FileWALManager:
        """Opens the log at `path`, making it when there is none."""
        raise NotImplementedError

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "log"

    @pytest.fixture
    def log(self, path: Path) -> Iterator[FileWALManager]:
        with self.open(path) as log:
            yield log

    # A new log.

    def test_new_log_is_empty(self, log: FileWALManager) -> None:
        assert (log.first_lsn, log.last_lsn, log.durable_lsn) == (1, 0, 0)
        assert log.term >= 1
        assert len(bytes.fromhex(log.log_id)) == 16
        assert list(log.replay()) == []
        assert log.verify().status == "clean"
        assert log.verify().entries == 0
        assert not log.closed

    def test_log_ids_differ(self, log: FileWALManager, tmp_path: Path) -> None:
        with self.open(tmp_path / "other") as other:
            assert other.log_id != log.log_id

    def test_empty_log_survives_reopen(self, path: Path) -> None:
        with self.open(path) as log:
            log_id = log.log_id
        with self.open(path) as log:
            assert (log.first_lsn, log.last_lsn, log.log_id) == (1, 0, log_id)
            assert log.append(b"first") == 1

    # append

    def test_append_returns_dense_lsns_from_one(self, log: FileWALManager) -> None:
        assert [log.append(b"%d" % i) for i in range(100)] == list(range(1, 101))
        assert (log.first_lsn, log.last_lsn) == (1, 100)

    def test_entry_is_read_back_whole(self, log: FileWALManager) -> None:
        before_ns = time.time_ns()
        lsn = log.append(b"hello", kind=7)
        entry = log.read(lsn)
        assert entry == WALEntry(1, log.term, entry.timestamp_ns, 7, b"hello")
        assert before_ns <= entry.timestamp_ns <= time.time_ns()
        assert type(entry.payload) is bytes

    def test_timestamps_come_from_the_clock(self, path: Path) -> None:
        ticks = iter(range(1000, 2000))
        with self.open(path, clock=lambda: next(ticks)) as log:
            log.append(b"a")
            log.append_many([b"b", b"c"])
            stamps = [entry.timestamp_ns for entry in log.replay()]
        assert all(1000 <= stamp < 2000 for stamp in stamps)
        assert stamps[0] < stamps[1] == stamps[2]

    @pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 4047, 4048, 4049, 5000, 20_000, 300_000])
    def test_payload_sizes(self, path: Path, size: int) -> None:
        data = bytes(i * 7 & 0xFF for i in range(size))
        with self.open(path) as log:
            assert log.append(data) == 1
            assert log.append(b"between") == 2
            assert log.append(data) == 3
            assert log.read(1).payload == log.read(3).payload == data
        with self.open(path) as log:
            assert payloads(log.replay()) == [data, b"between", data]

    def test_largest_payload(self, path: Path) -> None:
        data = (b"0123456789abcdef" * (1 << 16)) * 64
        assert len(data) == PAYLOAD_BYTES_MAX == 64 << 20
        with self.open(path) as log:
            log.append(b"before")
            assert log.append(data) == 2
            log.append(b"after")
            assert log.read(2).payload == data
        with self.open(path) as log:
            assert [len(payload) for payload in payloads(log.replay())] == [6, 64 << 20, 5]

    def test_payload_beyond_the_maximum_is_refused(self, log: FileWALManager) -> None:
        log.append(b"one")
        data = bytes(PAYLOAD_BYTES_MAX + 1)
        for call in (log.append, log.submit, lambda data: log.append_many([b"x", data])):
            with pytest.raises(PayloadTooLargeError) as caught:
                call(data)
            assert caught.value.size_bytes == PAYLOAD_BYTES_MAX + 1
            assert caught.value.max_bytes == PAYLOAD_BYTES_MAX
            assert isinstance(caught.value, ValueError)
        assert log.append(b"two") == 2

    @pytest.mark.parametrize(
        "payload",
        [
            b"plain",
            bytearray(b"plain"),
            memoryview(b"plain"),
            memoryview(b"xxplainxx")[2:7],
            memoryview(bytearray(b"plain")),
        ],
        ids=["bytes", "bytearray", "memoryview", "slice", "writable"],
    )
    def test_payload_types(self, log: FileWALManager, payload: Any) -> None:
        log.append(payload)
        log.append_many([payload, payload])
        log.submit(payload).wait()
        assert payloads(log.replay()) == [b"plain"] * 4

    @pytest.mark.parametrize("empty", [b"", bytearray(), memoryview(b""), memoryview(bytearray())])
    def test_empty_payload_types(self, log: FileWALManager, empty: Any) -> None:
        log.append(empty)
        log.append_many([empty])
        log.submit(empty).wait()
        assert payloads(log.replay()) == [b""] * 3

    def test_memoryview_of_numbers_is_its_bytes(self, log: FileWALManager) -> None:
        numbers = array.array("I", [1, 2, 3])
        log.append(memoryview(numbers))
        assert log.read(1).payload == numbers.tobytes()

    def test_bytearray_is_free_again_after_append(self, log: FileWALManager) -> None:
        data = bytearray(b"mutable")
        log.append(data)
        commit = log.submit(data)
        data.clear()
        commit.wait()
        assert payloads(log.replay()) == [b"mutable"] * 2

    @pytest.mark.parametrize(
        "payload",
        ["text", 5, None, [1], 1.5, memoryview(b"abcdef")[::2], array.array("I", [1])],
        ids=["str", "int", "None", "list", "float", "strided", "array"],
    )
    def test_what_is_not_bytes_is_refused(self, log: FileWALManager, payload: Any) -> None:
        log.append(b"one")
        for call in (log.append, log.submit, lambda item: log.append_many([b"x", item])):
            with pytest.raises(PayloadTypeError) as caught:
                call(payload)
            assert isinstance(caught.value, TypeError)
            assert caught.value.hint
        assert log.append(b"two") == 2
        assert payloads(log.replay()) == [b"one", b"two"]

    @pytest.mark.parametrize("kind", [0, -1, KIND_MAX + 1, 1 << 70])
    def test_kind_outside_its_range_is_refused(self, log: FileWALManager, kind: int) -> None:
        for call in (log.append, log.submit):
            with pytest.raises(OptionError, match="kind"):
                call(b"x", kind=kind)
        with pytest.raises(OptionError, match="kind"):
            log.append_many([b"x"], kind=kind)
        assert log.append(b"y", kind=KIND_MAX) == 1
        assert log.read(1).kind == KIND_MAX

    @pytest.mark.parametrize("kind", ["1", None, 1.5])
    def test_kind_that_is_no_number_is_refused(self, log: FileWALManager, kind: Any) -> None:
        with pytest.raises((OptionError, TypeError)):
            log.append(b"x", kind=kind)
        assert log.append(b"y") == 1

    # append_many

    def test_batch_returns_its_range(self, log: FileWALManager) -> None:
        log.append(b"x")
        assert log.append_many([b"a", b"b", b"c"], kind=3) == range(2, 5)
        assert payloads(log.replay()) == [b"x", b"a", b"b", b"c"]
        assert {entry.kind for entry in log.replay(2)} == {3}

    def test_batch_of_one_and_of_none(self, log: FileWALManager) -> None:
        assert list(log.append_many([])) == []
        assert log.append_many([b"only"]) == range(1, 2)
        assert log.append_many(iter(())) == range(2, 2)
        assert log.last_lsn == 1
        assert log.append(b"next") == 2

    def test_batch_from_a_generator(self, log: FileWALManager) -> None:
        assert log.append_many(b"%d" % i for i in range(1000)) == range(1, 1001)
        assert log.read(1000).payload == b"999"

    def test_batch_whose_generator_fails_appends_nothing(self, log: FileWALManager) -> None:
        def broken() -> Iterator[bytes]:
            yield b"a"
            raise KeyError("source")

        with pytest.raises(KeyError):
            log.append_many(broken())
        assert log.last_lsn == 0

    def test_batch_larger_than_a_segment(self, path: Path) -> None:
        batch = [bytes([i]) * 1000 for i in range(50)]
        with self.open(path) as log:
            log.append(b"before")
            assert log.append_many(batch) == range(2, 52)
            log.append(b"after")
            assert payloads(log.replay(2, 51)) == batch
        with self.open(path) as log:
            assert payloads(log.replay(2, 51)) == batch
            assert log.last_lsn == 52

    def test_batch_beyond_the_maximum_is_refused(self, log: FileWALManager) -> None:
        part = bytes(PAYLOAD_BYTES_MAX)
        with pytest.raises(PayloadTooLargeError) as caught:
            log.append_many([part] * 4)
        assert caught.value.max_bytes == BATCH_BYTES_MAX < caught.value.size_bytes
        assert log.append(b"next") == 1

    def test_large_entry_in_a_new_log(self, path: Path) -> None:
        with self.open(path) as log:
            assert log.append(bytes(70_000)) == 1
            assert log.append(b"x") == 2
        with self.open(path) as log:
            assert [len(payload) for payload in payloads(log.replay())] == [70_000, 1]

    # submit

    def test_submit_returns_a_commit_with_its_lsn(self, log: FileWALManager) -> None:
        commits = [log.submit(b"%d" % i) for i in range(50)]
        assert [commit.lsn for commit in commits] == list(range(1, 51))
        assert all(isinstance(commit, Commit) for commit in commits)
        assert commits[-1].wait() == 50
        assert commits[-1].wait(timeout_s=0) == 50
        assert all(commit.done() for commit in commits)
        assert "50" in repr(commits[-1])
        assert payloads(log.replay()) == [b"%d" % i for i in range(50)]

    def test_submitted_entries_are_durable_without_a_wait(self, log: FileWALManager) -> None:
        commit = log.submit(b"x")
        assert log.sync() == log.durable_lsn == commit.lsn
        assert commit.done()

    def test_commit_outlives_the_log(self, path: Path) -> None:
        with self.open(path) as log:
            commit = log.submit(b"x")
        assert commit.wait(timeout_s=1) == 1
        assert commit.done()

    def test_submit_append_and_batches_keep_their_order(self, log: FileWALManager) -> None:
        log.submit(b"a")
        log.append_many([b"b", b"c"])
        log.submit(b"d")
        log.append(b"e")
        assert b"".join(payloads(log.replay())) == b"abcde"

    def test_sync_covers_everything_accepted(self, log: FileWALManager) -> None:
        assert log.sync() == 0
        for _ in range(20):
            log.append(b"x")
            log.submit(b"y")
        assert log.sync() == 40 == log.durable_lsn

    # read and replay

    def test_read_out_of_range_says_what_is_held(self, log: FileWALManager) -> None:
        log.append_many([b"x"] * 9)
        log.truncate_before(4)
        for lsn in (-1, 0, 1, 3, 10, 1 << 62, 1 << 80):
            with pytest.raises(LSNOutOfRangeError) as caught:
                log.read(lsn)
            error = caught.value
            assert (error.lsn, error.first_lsn, error.last_lsn) == (lsn, 4, 9)
            assert isinstance(error, IndexError)
            assert "4 to 9" in str(error)

    def test_read_of_an_empty_log(self, log: FileWALManager) -> None:
        with pytest.raises(LSNOutOfRangeError, match="no entries"):
            log.read(1)

    def test_every_entry_is_read_at_random(self, log: FileWALManager) -> None:
        random = seeded("random reads")
        expected = [random.randbytes(random.randrange(900)) for _ in range(200)]
        for data in expected:
            log.submit(data)
        for lsn in random.sample(range(1, 201), 200):
            assert log.read(lsn).payload == expected[lsn - 1]

    def test_replay_ranges(self, log: FileWALManager) -> None:
        log.append_many(b"%d" % i for i in range(1, 101))
        lsns = list(range(1, 101))

        def got(*bounds: int | None) -> list[int]:
            return [entry.lsn for entry in log.replay(*bounds)]

        assert got() == got(None, None) == got(1) == got(1, 100) == lsns
        assert got(40) == got(40, None) == lsns[39:]
        assert got(None, 40) == lsns[:40]
        assert got(40, 60) == lsns[39:60]
        assert got(100) == got(100, 100) == [100]
        assert got(101) == []
        assert got(40, 39) == []

    @pytest.mark.parametrize(
        ("bounds", "lsn"),
        [((0,), 0), ((-5,), -5), ((12,), 12), ((1, 11), 11), ((None, 11), 11), ((50, 60), 50)],
    )
    def test_replay_out_of_range(
        self, log: FileWALManager, bounds: tuple[int | None, ...], lsn: int
    ) -> None:
        log.append_many([b"x"] * 10)
        with pytest.raises(LSNOutOfRangeError) as caught:
            log.replay(*bounds)
        assert (caught.value.lsn, caught.value.last_lsn) == (lsn, 10)

    def test_replay_ends_where_the_log_did_when_it_was_called(self, log: FileWALManager) -> None:
        log.append_many([b"x"] * 10)
        replayed = log.replay()
        log.append_many([b"y"] * 10)
        assert len(list(replayed)) == 10

    def test_several_replays_at_once(self, log: FileWALManager) -> None:
        log.append_many(b"%d" % i for i in range(300))
        pairs = list(zip(log.replay(), log.replay(), strict=True))
        assert len(pairs) == 300
        assert all(a == b for a, b in pairs)

    # tail

    def test_tail_gives_old_entries_then_new_ones(self, log: FileWALManager) -> None:
        log.append_many([b"1", b"2"])
        tail = log.tail()
        assert [next(tail).payload, next(tail).payload] == [b"1", b"2"]
        log.append(b"3")
        assert next(tail).payload == b"3"
        tail.close()
        assert list(tail) == []

    def test_tail_from_the_next_entry_waits_for_it(self, log: FileWALManager) -> None:
        log.append(b"old")
        tail = log.tail(2)
        got: list[WALEntry] = []
        run_threads(lambda: got.append(next(tail)), lambda: log.submit(b"new").wait())
        assert payloads(got) == [b"new"]

    @pytest.mark.parametrize("from_lsn", [0, -1, 3, 100])
    def test_tail_out_of_range(self, log: FileWALManager, from_lsn: int) -> None:
        log.append(b"x")
        with pytest.raises(LSNOutOfRangeError):
            log.tail(from_lsn)

    def test_tail_follows_a_writer_to_the_end(self, log: FileWALManager) -> None:
        got: list[bytes] = []

        def follow() -> None:
            for entry in log.tail():
                assert entry.lsn == len(got) + 1
                assert entry.lsn <= log.durable_lsn
                got.append(entry.payload)
                if len(got) == 300:
                    return

        def write() -> None:
            for i in range(300):
                (log.append if i % 3 else log.submit)(b"%d" % i)

        run_threads(follow, write)
        assert got == [b"%d" % i for i in range(300)]

    def test_tail_ends_when_the_log_is_closed(self, path: Path) -> None:
        log = self.open(path)
        log.append(b"x")
        tail = log.tail()
        assert next(tail).payload == b"x"
        run_threads(lambda: list(tail) == [] or pytest.fail("more"), log.close)

    def test_async_tail(self, log: FileWALManager) -> None:
        async def follow() -> list[bytes]:
            got: list[bytes] = []
            tail = log.tail()
            async for entry in tail:
                got.append(entry.payload)
                if len(got) == 1:
                    await log.submit(b"2")
                    log.append(b"3")
                if len(got) == 3:
                    tail.close()
            return got

        log.append(b"1")
        assert asyncio.run(follow()) == [b"1", b"2", b"3"]

    def test_async_tail_leaves_the_loop_free(self, log: FileWALManager) -> None:
        async def first(tail: AsyncIterator[WALEntry]) -> WALEntry:
            return await anext(tail)

        async def main() -> None:
            task = asyncio.create_task(first(log.tail()))
            for _ in range(10):
                await asyncio.sleep(0)
            assert not task.done()
            await log.submit(b"now")
            assert (await task).payload == b"now"

        asyncio.run(main())

    def test_async_tail_can_be_cancelled(self, log: FileWALManager) -> None:
        async def main() -> None:
            task = asyncio.create_task(anext(log.tail()))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert log.append(b"x") == 1

    # truncation

    def test_truncate_before_drops_and_stays_dropped(self, path: Path) -> None:
        with self.open(path) as log:
            log.append_many(b"%d" % i for i in range(1, 101))
            log.truncate_before(60)
            assert (log.first_lsn, log.last_lsn) == (60, 100)
            log.truncate_before(50)
            assert log.first_lsn == 60
        with self.open(path) as log:
            assert (log.first_lsn, log.last_lsn) == (60, 100)
            assert [entry.lsn for entry in log.replay()] == list(range(60, 101))
            assert log.append(b"more") == 101
            assert log.verify().status == "clean"
            assert log.verify().entries == 42

    def test_truncate_before_everything(self, path: Path) -> None:
        with self.open(path) as log:
            log.append_many([b"x"] * 100)
            log.truncate_before(101)
            assert (log.first_lsn, log.last_lsn) == (101, 100)
            assert list(log.replay()) == []
        with self.open(path) as log:
            assert (log.first_lsn, log.last_lsn) == (101, 100)
            assert log.append(b"y") == 101
            assert log.read(101).payload == b"y"

    @pytest.mark.parametrize("lsn", [0, -1, 12, 1 << 70])
    def test_truncate_before_out_of_range(self, log: FileWALManager, lsn: int) -> None:
        log.append_many([b"x"] * 10)
        with pytest.raises(LSNOutOfRangeError) as caught:
            log.truncate_before(lsn)
        assert (caught.value.lsn, caught.value.first_lsn, caught.value.last_lsn) == (lsn, 1, 10)
        assert log.verify().entries == 10

    def test_truncate_after_drops_and_begins_a_term(self, path: Path) -> None:
        with self.open(path) as log:
            log.append_many(b"%d" % i for i in range(1, 101))
            term = log.term
            log.truncate_after(70)
            assert (log.last_lsn, log.durable_lsn) == (70, 70)
            assert log.term > term
            assert log.append(b"new") == 71
            assert log.read(71).term == log.term > log.read(70).term
        with self.open(path) as log:
            expected = [b"%d" % i for i in range(1, 71)] + [b"new"]
            assert payloads(log.replay()) == expected
            assert log.verify().status == "clean"

    def test_truncate_after_everything(self, path: Path) -> None:
        with self.open(path) as log:
            log.append_many([b"x"] * 100)
            log.truncate_before(50)
            log.truncate_after(49)
            assert (log.first_lsn, log.last_lsn) == (50, 49)
            assert log.append(b"y") == 50
        with self.open(path) as log:
            assert payloads(log.replay()) == [b"y"]

    def test_truncate_after_at_the_last_entry_keeps_all(self, log: FileWALManager) -> None:
        log.append_many([b"x"] * 10)
        term = log.term
        log.truncate_after(10)
        assert (log.last_lsn, log.term) == (10, term + 1)
        assert log.verify().entries == 10

    @pytest.mark.parametrize("lsn", [3, 0, -1, 11, 100, 1 << 70])
    def test_truncate_after_out_of_range(self, log: FileWALManager, lsn: int) -> None:
        log.append_many([b"x"] * 10)
        log.truncate_before(5)
        term = log.term
        with pytest.raises(LSNOutOfRangeError) as caught:
            log.truncate_after(lsn)
        assert (caught.value.lsn, caught.value.first_lsn, caught.value.last_lsn) == (lsn, 5, 10)
        assert (log.first_lsn, log.last_lsn, log.term) == (5, 10, term)
        assert log.append(b"next") == 11
        assert log.verify().entries == 7

    def test_truncations_again_and_again(self, path: Path) -> None:
        random = seeded("truncations")
        expected: dict[int, bytes] = {}
        with self.open(path) as log:
            for _ in range(40):
                for data in (random.randbytes(random.randrange(400)) for _ in range(15)):
                    expected[log.append(data)] = data
                if random.random() < 0.5:
                    lsn = random.randrange(log.first_lsn - 1, log.last_lsn + 1)
                    log.truncate_after(lsn)
                    expected = {key: expected[key] for key in expected if key <= lsn}
                else:
                    lsn = random.randrange(log.first_lsn, log.last_lsn + 2)
                    log.truncate_before(lsn)
                    expected = {key: expected[key] for key in expected if key >= lsn}
                assert {entry.lsn: entry.payload for entry in log.replay()} == expected
            assert log.verify().status == "clean"
        with self.open(path) as log:
            assert {entry.lsn: entry.payload for entry in log.replay()} == expected

    # terms

    def test_begin_term_marks_later_entries(self, path: Path) -> None:
        with self.open(path) as log:
            first = log.term
            log.append(b"a")
            assert log.begin_term() == log.term == first + 1
            log.append(b"b")
            assert log.begin_term() == first + 2
        with self.open(path) as log:
            assert log.term >= first + 2
            assert [entry.term for entry in log.replay()] == [first, first + 1]
            log.append(b"c")
            terms = [entry.term for entry in log.replay()]
            assert all(a <= b for a, b in pairwise(terms))

    # verify and stats

    def test_verify_counts_and_reports_progress(self, log: FileWALManager) -> None:
        log.append_many(bytes(100) for _ in range(200))
        log.truncate_before(11)
        calls: list[tuple[int, int]] = []
        report = log.verify(lambda done, total: calls.append((done, total)))
        assert (report.status, report.entries, report.problems) == ("clean", 190, ())
        assert (report.first_lsn, report.last_lsn) == (11, 200)
        assert report.bytes >= 190 * 148
        assert calls
        assert all(0 <= done <= total for done, total in calls)
        assert all(a[0] <= b[0] for a, b in pairwise(calls))

    def test_stats_count(self, log: FileWALManager) -> None:
        before = log.stats()
        assert (before.first_lsn, before.last_lsn, before.segments) == (1, 0, 1)
        for _ in range(100):
            log.append(bytes(100))
        log.sync()
        after = log.stats()
        assert (after.last_lsn, after.durable_lsn, after.term) == (100, 100, log.term)
        assert after.writes > before.writes
        assert after.write_bytes - before.write_bytes >= 100 * 148
        assert after.syncs > before.syncs
        assert sum(after.sync_histogram) == after.syncs
        assert after.disk_bytes >= 100 * 148
        assert after.segments > 1 or not self.small_segments

    # life

    def test_close_twice_and_use_after(self, path: Path) -> None:
        log = self.open(path)
        log.append(b"x")
        log.close()
        log.close()
        assert log.closed
        calls: list[Callable[[], object]] = [
            lambda: log.append(b"y"),
            lambda: log.append_many([b"y"]),
            lambda: log.append_many([]),
            lambda: log.submit(b"y"),
            lambda: log.sync(),
            lambda: log.read(1),
            lambda: log.replay(),
            lambda: log.tail(),
            lambda: log.truncate_before(1),
            lambda: log.truncate_after(0),
            lambda: log.begin_term(),
            lambda: log.verify(),
            lambda: log.stats(),
            lambda: log.first_lsn,
            lambda: log.last_lsn,
            lambda: log.durable_lsn,
            lambda: log.term,
        ]
        for call in calls:
            with pytest.raises(ClosedLogError) as caught:
                call()
            assert isinstance(caught.value, ValueError)
        with self.open(path) as log:
            assert payloads(log.replay()) == [b"x"]

    def test_every_policy_keeps_all_over_close(self, path: Path) -> None:
        for sync in ("always", "interval", "os"):
            with self.open(path, sync=sync) as log:
                assert log.sync_policy == sync
                log.append(sync.encode())
                log.submit(b"+")
        with self.open(path) as log:
            assert payloads(log.replay()) == [b"always", b"+", b"interval", b"+", b"os", b"+"]

    def test_nothing_stays_open(self, path: Path) -> None:
        async def some(log: FileWALManager) -> None:
            await asyncio.gather(*(log.submit(b"x") for _ in range(20)))

        before, threads = open_descriptors(), threading.active_count()
        for _ in range(3):
            with self.open(path) as log:
                log.append_many([bytes(500)] * 30)
                asyncio.run(some(log))
                list(log.replay())
                log.read(log.first_lsn)
                log.truncate_before(log.last_lsn - 3)
        assert open_descriptors() == before
        assert threading.active_count() == threads

    def test_an_unfinished_replay_leaves_nothing_open(self, path: Path) -> None:
        before = open_descriptors()
        log = self.open(path)
        log.append_many([bytes(500)] * 30)
        replayed = log.replay()
        next(replayed)
        log.close()
        try:
            rest = len(list(replayed))
        except ClosedLogError:
            rest = 29
        assert rest == 29
        del replayed
        assert open_descriptors() == before

    def test_path_is_absolute_and_shown(self, log: FileWALManager, path: Path) -> None:
        assert log.path == str(path)
        assert str(path) in repr(log)

    # threads

    def test_threads_get_distinct_dense_lsns(self, path: Path) -> None:
        acked: dict[int, bytes] = {}

        def writer(name: int) -> Callable[[], None]:
            def run() -> None:
                for i in range(60):
                    data = b"%d:%d" % (name, i)
                    if i % 10 == 0:
                        lsns = log.append_many([data, data, data])
                        acked.update((lsn, data) for lsn in lsns)
                    elif i % 3 == 0:
                        acked[log.submit(data).wait()] = data
                    else:
                        acked[log.append(data)] = data

            return run

        with self.open(path) as log:
            run_threads(*(writer(name) for name in range(8)))
            assert sorted(acked) == list(range(1, 8 * (54 + 6 * 3) + 1))
        with self.open(path) as log:
            assert {entry.lsn: entry.payload for entry in log.replay()} == acked

    def test_each_thread_reads_its_own_writes_at_once(self, log: FileWALManager) -> None:
        def run() -> None:
            name = threading.get_ident()
            for i in range(150):
                data = b"%d:%d" % (name, i) + bytes(i % 90)
                assert log.read(log.append(data)).payload == data

        run_threads(run, run, run, run)

    def test_writers_readers_and_truncation_at_once(self, path: Path) -> None:
        """Entries say their own lsn, so that every reader can judge what it is shown."""
        random = seeded("at once")
        stop = threading.Event()
        counts = {"read": 0, "replayed": 0, "gone": 0, "cut": 0}

        def write() -> None:
            try:
                for i in range(20_000):
                    enough = min(counts["read"], counts["replayed"], 10 * counts["cut"]) > 40
                    if i >= 400 and enough:
                        return
                    size = random.randrange(200)
                    if i % 7 == 0:
                        log.append_many([bytes(size), bytes(size)])
                    elif i % 2:
                        log.append(bytes(size))
                    else:
                        log.submit(bytes(size)).wait()
            finally:
                stop.set()

        def read() -> None:
            while not stop.is_set():
                lsn = random.randrange(log.first_lsn, log.last_lsn + 2)
                try:
                    entry = log.read(lsn)
                except LSNOutOfRangeError:
                    counts["gone"] += 1
                else:
                    assert entry.lsn == lsn
                    assert not any(entry.payload)
                    counts["read"] += 1

        def replay() -> None:
            while not stop.is_set():
                try:
                    lsns = []
                    for entry in log.replay():
                        assert entry.lsn <= log.durable_lsn
                        lsns.append(entry.lsn)
                except LSNOutOfRangeError:
                    counts["gone"] += 1
                assert all(b == a + 1 for a, b in pairwise(lsns))
                counts["replayed"] += len(lsns)

        def truncate() -> None:
            while not stop.wait(0.002):
                log.truncate_before(max(log.first_lsn, log.last_lsn - 30))
                counts["cut"] += 1

        with self.open(path) as log:
            run_threads(write, write, read, read, replay, truncate)
            log.sync()
            last_lsn = log.last_lsn
            assert log.verify().status == "clean"
        print(counts)
        assert last_lsn >= 400
        assert counts["read"] > 40
        assert counts["replayed"] > 40
        assert counts["cut"] > 4
        with self.open(path) as log:
            assert [entry.lsn for entry in log.replay()] == list(range(log.first_lsn, last_lsn + 1))

    def test_suffix_truncation_under_readers(self, path: Path) -> None:
        """What a reader is shown was written at that lsn, before or after the truncation."""
        stop = threading.Event()
        seen = 0

        def write() -> None:
            try:
                for generation in range(60):
                    for _ in range(12):
                        log.append(b"%d:%d" % (generation, log.last_lsn + 1) + b"." * 150)
                    log.truncate_after(log.last_lsn - 9)
            finally:
                stop.set()

        def read() -> None:
            nonlocal seen
            while not stop.is_set():
                try:
                    for entry in log.replay(max(log.first_lsn, log.last_lsn - 40)):
                        assert entry.payload.rstrip(b".").endswith(b":%d" % entry.lsn)
                        seen += 1
                except LSNOutOfRangeError:
                    pass

        with self.open(path) as log:
            run_threads(write, read, read)
            assert log.last_lsn == 60 * 3
            assert log.verify().status == "clean"
        assert seen > 50

    def test_close_under_writers_keeps_what_was_acked(self, path: Path) -> None:
        acked: dict[int, bytes] = {}
        for attempt in range(8):
            self.close_under_writers(path, acked, 20 * (attempt + 1))
            with self.open(path) as log:
                assert {entry.lsn: entry.payload for entry in log.replay()} == acked

    def close_under_writers(self, path: Path, acked: dict[int, bytes], enough: int) -> None:
        log = self.open(path)
        reached = threading.Event()

        def write() -> None:
            data = b"%d:%d" % (enough, threading.get_ident())
            try:
                while True:
                    acked[log.append(data)] = data
                    if len(acked) > enough:
                        reached.set()
            except ClosedLogError:
                assert log.closed

        def close() -> None:
            reached.wait()
            log.close()

        run_threads(*[write] * 6, close)

    # asyncio

    def test_await_commit(self, log: FileWALManager) -> None:
        async def main() -> list[int]:
            commits = [log.submit(b"%d" % i) for i in range(256)]
            return [await commit for commit in reversed(commits)]

        assert asyncio.run(main()) == list(range(256, 0, -1))
        assert log.stats().syncs < 256 or self.small_segments

    def test_many_coroutines(self, log: FileWALManager) -> None:
        async def writer(name: int) -> list[int]:
            return [await log.submit(b"%d:%d" % (name, i)) for i in range(20)]

        async def main() -> list[list[int]]:
            return await asyncio.gather(*(writer(name) for name in range(64)))

        lsns = asyncio.run(main())
        assert sorted(chain.from_iterable(lsns)) == list(range(1, 64 * 20 + 1))
        assert all(a < b for run in lsns for a, b in pairwise(run))

    def test_several_loops_in_several_threads(self, log: FileWALManager) -> None:
        async def main() -> None:
            for _ in range(30):
                await log.submit(b"x")

        run_threads(*[lambda: asyncio.run(main())] * 4)
        assert log.last_lsn == 120

    def test_more_loops_over_time_than_slots(self, log: FileWALManager) -> None:
        async def main() -> int:
            return await log.submit(b"x")

        assert [asyncio.run(main()) for _ in range(40)] == list(range(1, 41))

    def test_cancelled_wait_does_not_take_the_entry_back(self, log: FileWALManager) -> None:
        async def main() -> None:
            async def wait(commit: Commit) -> int:
                return await commit

            tasks = [asyncio.create_task(wait(log.submit(b"x"))) for _ in range(20)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for task, result in zip(tasks[1::2], results[1::2], strict=True):
                assert result == task.result()

        asyncio.run(main())
        assert log.last_lsn == log.sync() == 20

    def test_close_from_another_thread_under_awaits(self, path: Path) -> None:
        """Every await ends: with the lsn, or with the error that the log is closed."""
        log = self.open(path)
        acked: list[int] = []

        async def writer() -> None:
            try:
                while True:
                    acked.append(await log.submit(b"x"))
                    await asyncio.sleep(0)
            except ClosedLogError:
                assert log.closed

        async def main() -> None:
            tasks = [asyncio.create_task(writer()) for _ in range(16)]
            while len(acked) < 50:
                await asyncio.sleep(0)
            await asyncio.to_thread(log.close)
            await asyncio.gather(*tasks)

        asyncio.run(main(), debug=True)
        with self.open(path) as reopened:
            assert reopened.last_lsn >= max(acked)

    def test_errors_of_a_log_are_of_one_tree(self, log: FileWALManager) -> None:
        with pytest.raises(WALStoreError):
            log.read(1)
