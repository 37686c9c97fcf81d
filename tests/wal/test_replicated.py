"""The log of one of several nodes: what is shown, woken, cut, kept and begun anew."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.cli.logs import GARBAGE, end_of
from tests.helpers import contents, crash_copy, open_descriptors, payloads
from tests.native.twin import Record
from tests.wal.inside import append_numbered, writer_of
from tests.wal.replicas import diverge, records_of, replicated
from walstore import (
    ClosedLogError,
    CommitTimeoutError,
    EntryTruncatedError,
    FileWALManager,
    LSNOutOfRangeError,
    OptionError,
    ReplicatedLogError,
    WALEntry,
)
from walstore.replication import ReplicationWALManager
from walstore.wal import files, reading, writing
from walstore.wal.layout import Segment
from walstore.wal.meta import COMMIT_MARK_AT, Meta, mark_replicated, write_copy
from walstore.wal.opening import Start, create_log, mark_open, open_meta, read_log
from walstore.wal.repair import repair_tail
from walstore.wal.writing import Replicated

pytestmark = pytest.mark.timeout(60)


# ---- what is committed ----


def test_nothing_is_shown_before_it_is_committed(tmp_path: Path) -> None:
    with replicated(tmp_path / "log") as log:
        commits = [log.submit(b"%d" % i) for i in range(5)]
        log.sync()
        assert (log.last_lsn, log.durable_lsn, log.committed_lsn) == (5, 5, 0)
        assert list(log.replay()) == []
        with pytest.raises(LSNOutOfRangeError):
            log.read(1)
        with pytest.raises(CommitTimeoutError):
            commits[0].wait(0.05)
        assert not commits[0].done()
        log._set_committed(3)
        assert [commit.done() for commit in commits] == [True] * 3 + [False] * 2
        assert commits[2].wait(30) == 3
        assert payloads(log.replay()) == [b"0", b"1", b"2"]
        log._set_committed(2)  # it never goes back
        assert log.committed_lsn == 3
        with pytest.raises(LSNOutOfRangeError):
            log.read(4)
        assert log.verify().entries == 5


def test_what_is_committed_is_shown_once_it_is_durable(tmp_path: Path) -> None:
    with replicated(tmp_path / "log", sync="os") as log:
        log.submit(b"a")
        log._set_committed(9)
        assert list(log.replay()) == []
        log.sync()
        assert payloads(log.replay()) == [b"a"]


def test_an_append_returns_when_it_is_committed(tmp_path: Path) -> None:
    with replicated(tmp_path / "log") as log:
        done: queue.SimpleQueue[int] = queue.SimpleQueue()

        def append() -> None:
            done.put(log.append(b"a"))
            done.put(log.append_many([b"b", b"c"]).start)

        thread = threading.Thread(target=append)
        thread.start()
        for first_lsn, last_lsn in ((1, 1), (2, 3)):
            while log.durable_lsn < last_lsn:
                log.sync()
            assert done.empty()
            log._set_committed(last_lsn)
            assert done.get(timeout=30) == first_lsn
        thread.join()


def test_tails_and_awaits_end_with_the_commit(tmp_path: Path) -> None:
    async def main(log: FileWALManager) -> None:
        commit = log.submit(b"a")
        tail = log.tail()
        entry = asyncio.ensure_future(anext(tail))
        waiting = asyncio.ensure_future(_wait_for(commit))
        log.sync()
        await asyncio.sleep(0)
        assert not entry.done()
        assert not waiting.done()
        log._set_committed(1)
        assert await asyncio.wait_for(waiting, 30) == 1
        assert (await asyncio.wait_for(entry, 30)).payload == b"a"

    with replicated(tmp_path / "log") as log:
        asyncio.run(main(log))


async def _wait_for(commit: Any) -> Any:
    return await commit


def test_readers_beside_the_writer_are_shown_the_same(tmp_path: Path) -> None:
    with replicated(tmp_path / "log", segment_bytes=4096) as log:
        reader = FileWALManager(tmp_path / "log", read_only=True)
        for lsn in range(1, 60):
            log.submit(b"x" * 300)
            log.sync()
            assert reader.replay(1, lsn - 1) is not None
            assert len(list(reader.replay())) == lsn - 1
            log._set_committed(lsn)
            assert len(list(reader.replay())) == lsn
        assert (reader.last_lsn, reader.committed_lsn) == (59, 59)
        log.submit(b"y")
    with FileWALManager(tmp_path / "log", read_only=True) as reader:
        assert (len(list(reader.replay())), reader.durable_lsn) == (59, 60)
        assert reader.verify().entries == 60


def test_a_writer_begins_where_the_mark_is(tmp_path: Path) -> None:
    with replicated(tmp_path / "log") as log:
        append = [log.submit(b"x") for _ in range(6)]
        log._set_committed(4)
        log.sync()
        killed = crash_copy(tmp_path / "log", tmp_path / "killed")
        log._set_committed(99)
        assert append[-1].wait(30) == 6
    with replicated(killed) as log:
        assert (log.committed_lsn, log.last_lsn, len(list(log.replay()))) == (4, 6, 4)
    with replicated(tmp_path / "log") as log:
        assert (log.committed_lsn, log.last_lsn) == (6, 6), "never above what is here"


def test_a_mark_of_zeros_is_that_of_a_log_of_one_node(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log:
        log.append(b"a")
    assert len((tmp_path / "log" / "meta").read_bytes()) <= COMMIT_MARK_AT
    with replicated(tmp_path / "log") as log:
        assert log.committed_lsn == 0
        assert contents(tmp_path / "log") == []


# ---- whose log it is ----


def assert_refused(path: Path) -> None:
    """To a plain writer, and nothing of it is changed."""
    before = {it: it.read_bytes() for it in sorted(path.rglob("*")) if it.is_file()}
    with pytest.raises(ReplicatedLogError, match="is the log of a node of a cluster") as caught:
        FileWALManager(path)
    assert caught.value.path == str(path)
    assert "read_only=True" in caught.value.hint
    assert {it: it.read_bytes() for it in sorted(path.rglob("*")) if it.is_file()} == before


@pytest.mark.parametrize(
    "options",
    [
        {"listen": "nonsense"},
        {"listen": "0.0.0.0:0"},
        {"peers": {"b": "http://127.0.0.1:1"}},
        {"election": "raft", "peers": {"b": "nonsense"}},
        {"acks": 9},
    ],
    ids=str,
)
def test_options_that_make_no_sense_leave_a_plain_log_plain(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    with FileWALManager(tmp_path) as log:
        log.append(b"a")
    with pytest.raises(OptionError):
        ReplicationWALManager(tmp_path, node_id="a", **options)
    with FileWALManager(tmp_path) as log:
        assert log.append(b"b") == 2


def test_a_nodes_log_is_written_to_by_the_node_alone(tmp_path: Path) -> None:
    """Also when it is new, holds nothing, was killed, or has another's id, when a power loss took
    the mark of what is committed, or was written by a walstore that wrote nothing else."""
    path = tmp_path / "log"
    with replicated(path):
        pass
    assert_refused(path)
    with replicated(path) as log:
        log.submit(b"a")
        log.sync()
        killed = crash_copy(path, tmp_path / "killed")
    assert_refused(path)
    assert_refused(killed)
    with replicated(path) as log:
        log._reset(9, 1, 2, b"0123456789abcdef")
    assert_refused(path)
    meta = path / "meta"
    data = meta.read_bytes()
    mark, tag = data[COMMIT_MARK_AT : COMMIT_MARK_AT + 24], data[COMMIT_MARK_AT + 24 :]
    assert mark.strip(b"\0")
    assert tag == b"NODELOG\n"
    for left in (bytes(24) + tag, mark, mark[:-7] + b"\1" + mark[-6:]):
        meta.write_bytes(data[:COMMIT_MARK_AT] + left)
        assert_refused(path)
        with FileWALManager(path, read_only=True) as log:
            assert (log.first_lsn, log.last_lsn) == (9, 8)
    with replicated(path):
        pass
    assert meta.read_bytes().endswith(tag)


def test_a_log_of_one_node_becomes_one_of_several_for_good(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log:
        log.append(b"a")
    with FileWALManager(tmp_path / "log") as log:
        log.append(b"b")
    with replicated(tmp_path / "log") as log:
        assert log.last_lsn == 2
        log._set_committed(2)
    assert_refused(tmp_path / "log")
    assert payloads(contents(tmp_path / "log")) == [b"a", b"b"]


def test_it_is_a_nodes_before_it_can_take_part(tmp_path: Path) -> None:
    """Durable with the first change that an opening makes, and when a log is made; none of it is
    left to what is never synced."""
    path = tmp_path / "log"
    FileWALManager(path).close()
    meta_fd = open_meta(str(path), write=True)
    opened = read_log(str(path), meta_fd)
    assert opened is not None
    mark_open(meta_fd, str(path), opened, replicated=True)
    files.close(meta_fd)
    assert_refused(path)
    made = tmp_path / "made"
    meta_fd = open_meta(str(made), write=True)
    start = Start(b"0123456789abcdef", replicated=True)
    create_log(str(made), meta_fd, 4096, 0, os.urandom, start)
    files.close(meta_fd)
    assert_refused(made)


def test_a_making_that_was_cut_short_leaves_no_nodes_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    meta_fd = open_meta(str(path), write=True)
    mark_replicated(meta_fd, str(path))
    files.close(meta_fd)
    with FileWALManager(path) as log:
        log.append(b"a")
    with FileWALManager(path) as log:
        assert payloads(log.replay()) == [b"a"]


def test_what_lost_is_a_log_of_one_node(tmp_path: Path) -> None:
    with diverge(tmp_path / "log") as log:
        kept = log._cut_diverged(10, 9)
    with FileWALManager(kept) as branch:
        assert branch.last_lsn == 40
        branch.append(b"more")


def test_a_torn_tail_of_a_nodes_log_is_cut_as_the_node_does(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with replicated(path) as log:
        log.submit(b"a")
        log.sync()
        log._set_committed(1)
        term = log.term
        killed = crash_copy(path, tmp_path / "killed")
    segment, at = end_of(killed)
    with open(segment, "r+b") as file:
        file.seek(at)
        file.write(GARBAGE)
    repaired = repair_tail(killed, apply=True)
    assert repaired is not None
    assert repaired.applied
    assert_refused(killed)
    with replicated(killed) as log:
        assert (log.term, log.committed_lsn, log.last_lsn) == (term, 1, 1)


def test_a_damaged_mark_hides_and_shows_nothing_new(tmp_path: Path) -> None:
    with replicated(tmp_path / "log") as log:
        log.submit(b"a")
        log._set_committed(1)
    path = tmp_path / "log" / "meta"
    data = bytearray(path.read_bytes())
    data[COMMIT_MARK_AT + 17] ^= 1
    path.write_bytes(data)
    assert contents(tmp_path / "log") == []
    with replicated(tmp_path / "log") as log:
        assert (log.committed_lsn, log.last_lsn) == (0, 1)


# ---- terms ----


def test_terms_are_those_that_the_node_chooses(tmp_path: Path) -> None:
    with replicated(tmp_path / "log", next_term=lambda term: term + 10) as log:
        first = log.term
        assert log.begin_term() == first + 10
        log.submit(b"a")
        log.submit(b"b")
        log.truncate_after(1)
        assert log.term == first + 20
        log._adopt_term(first + 15)
        assert log.term == first + 20
    with (
        replicated(tmp_path / "other", next_term=lambda term: term) as log,
        pytest.raises(OptionError, match="the term after 1 cannot be 1"),
    ):
        log.begin_term()


def test_a_new_log_gets_the_id_it_is_given(tmp_path: Path) -> None:
    class Other(FileWALManager):
        _replicated = Replicated(log_id=b"0123456789abcdef")

    with Other(tmp_path / "log") as log:
        assert bytes.fromhex(log.log_id) == b"0123456789abcdef"


def test_an_entry_that_is_awaited_after_the_close_leaves_no_descriptor_open(tmp_path: Path) -> None:
    async def main() -> None:
        for _ in range(3):
            with replicated(tmp_path / "log") as log:
                commit = log.submit(b"not committed")
            with pytest.raises(ClosedLogError):
                await commit

    before = open_descriptors()
    asyncio.run(main())
    assert open_descriptors() == before


# ---- a log that begins anew ----


@pytest.mark.parametrize("first_lsn", [1000, 30])
def test_a_log_begins_anew_behind_a_snapshot(tmp_path: Path, first_lsn: int) -> None:
    log = diverge(tmp_path / "log")
    with log:
        pending = log.submit(b"lost")
        log._reset(first_lsn, 5, 9)
        with pytest.raises(EntryTruncatedError):
            pending.wait(30)
        assert (log.first_lsn, log.last_lsn, log.term) == (first_lsn, first_lsn - 1, 9)
        assert (log.committed_lsn, list(log.replay())) == (first_lsn - 1, [])
        assert list(FileWALManager(log.path, read_only=True).replay()) == []
        killed = crash_copy(tmp_path / "log", tmp_path / "killed")
        copy = records_of(Record(first_lsn, term=5, payload=b"n"), prev_term=5)
        assert log._submit_records(copy) == first_lsn
        log._set_committed(first_lsn)
        log.sync()
        assert log._record_reader().read(first_lsn, 100, first_lsn).prev_term == 5
        assert payloads(log.replay()) == [b"n"]
    with replicated(tmp_path / "log") as log:
        assert (log.first_lsn, log.last_lsn, log.term) == (first_lsn, first_lsn, 9)
    with replicated(killed) as log:
        assert (log.first_lsn, log.last_lsn, log.committed_lsn) == (
            first_lsn,
            first_lsn - 1,
            first_lsn - 1,
        )


def test_a_look_at_a_log_amid_its_new_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the copies of the metadata has it, and the other not yet: it is still the old log."""
    with diverge(tmp_path / "log") as log:
        looks = []

        def look_first(fd: int, meta: Meta, path: str, which: int) -> None:
            if which == 1:
                looks.append((log.first_lsn, log.term, log.verify().entries, len([*log.replay()])))
            write_copy(fd, meta, path, which)

        with monkeypatch.context() as patch:
            patch.setattr(writing, "write_copy", look_first)
            log._reset(1000, 5, 9)
        assert looks == [(1, 2, 40, 10)]
        assert (log.first_lsn, log.term, log.verify().entries) == (1000, 9, 0)


def test_an_empty_log_joins_another(tmp_path: Path) -> None:
    other = b"fedcba9876543210"
    with replicated(tmp_path / "log") as log:
        reader = FileWALManager(tmp_path / "log", read_only=True)
        log._reset(1, 0, 1, other)
        assert bytes.fromhex(log.log_id) == other
        log.submit(b"a")
        log._set_committed(1)
        log.sync()
        assert payloads(reader.replay()) == [b"a"]
        killed = crash_copy(tmp_path / "log", tmp_path / "killed")
    for path in (tmp_path / "log", killed):
        with replicated(path) as log:
            assert bytes.fromhex(log.log_id) == other
            assert payloads(log.replay()) == [b"a"]


def test_a_log_does_not_begin_where_none_can(tmp_path: Path) -> None:
    with replicated(tmp_path / "log") as log:
        log._adopt_term(4)
        for first_lsn, prev_term, term in ((0, 0, 4), (1 << 63, 1, 4), (5, 5, 4), (5, 1, 3)):
            with pytest.raises(OptionError):
                log._reset(first_lsn, prev_term, term)
        append_numbered_when_committed(log)
        assert writer_of(log).bounds() == (1, 3)


def append_numbered_when_committed(log: Any) -> None:
    log._set_committed(10)
    append_numbered(log, b"t", 3)


def test_a_term_is_told_while_its_entry_is_truncated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another thread, between the look at the bounds and the read."""
    with FileWALManager(tmp_path / "log", segment_bytes=4096) as log:
        append_numbered(log, b"x" * 40, 100)
        log.begin_term()
        last_lsn = log.append(b"of the next term")
        writer = writer_of(log)

        def read(view: writing.LogWriter, segments: tuple[Segment, ...], lsn: int) -> WALEntry:
            if lsn == 1:
                log.truncate_before(last_lsn)
            return reading.read_entry(view, writer.segments(), lsn)

        monkeypatch.setattr(writing, "read_entry", read)
        held_term = log.term
        assert writer.term_of(1) == writer.meta.prev_term < held_term
        with pytest.raises(LSNOutOfRangeError):
            writer.term_of(last_lsn + 1)
