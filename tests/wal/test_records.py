"""Raw records: read while the log changes, refused when they are not whole, else kept as is."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from tests.helpers import contents, crash_copy, seeded, segment_files
from tests.native.twin import MORE, Record, Scan, encode
from tests.wal.inside import append_numbered, settle, writer_of
from tests.wal.replicas import SEED, copy_all, records_of, written_lsn
from walstore import FileWALManager, LSNOutOfRangeError, WALEntry
from walstore._native import lib
from walstore.errors import CorruptLogError, RefusedRecordsError
from walstore.wal.record import CONFIGURATION, TERM
from walstore.wal.records import parse_records, skip_records, term_runs

pytestmark = pytest.mark.timeout(90)


def write_some(log: FileWALManager, rng: random.Random, count: int) -> None:
    for _ in range(count):
        size = rng.choice((0, 7, 100, 900, 3000))
        if rng.random() < 0.3:
            log.append_many([rng.randbytes(size) for _ in range(rng.randrange(1, 7))], kind=3)
        else:
            log.append(rng.randbytes(size), kind=rng.randrange(1, 9))
        if rng.random() < 0.1:
            log.begin_term()


def batches_of(log: FileWALManager) -> list[list[int]]:
    """The lsns of each batch, as the flags of the records say."""
    batches: list[list[int]] = [[]]
    reader, lsn = log._record_reader(), log.first_lsn
    while lsn <= log.last_lsn:
        found = reader.read(lsn, 1 << 20, written_lsn(log))
        scan = Scan(found.seed, lsn, found.prev_term)
        for record in scan.run(bytes(found.data)):
            batches[-1].append(record.lsn)
            if not record.flags & MORE:
                batches.append([])
        lsn = found.last_lsn + 1
    return batches[:-1]


@pytest.mark.parametrize("bytes_max", [1, 5000, 1 << 20])
def test_a_copy_is_the_same_log(tmp_path: Path, bytes_max: int) -> None:
    rng = seeded("copy")
    with (
        FileWALManager(tmp_path / "a", segment_bytes=8192) as source,
        FileWALManager(tmp_path / "b", segment_bytes=4096) as target,
    ):
        write_some(source, rng, 120)
        calls = copy_all(source, target, bytes_max)
        print(f"{source.last_lsn} entries in {calls} calls")
        assert calls > len(segment_files(tmp_path / "a")) / 2
        target.sync()
        assert list(target.replay()) == list(source.replay())
        assert batches_of(target) == batches_of(source)
        assert len(segment_files(tmp_path / "b")) > 3
        assert target.verify().status == source.verify().status == "clean"
        killed = crash_copy(tmp_path / "b", tmp_path / "killed")
        wanted = list(source.replay())
    with FileWALManager(killed) as again:
        assert list(again.replay()) == wanted


def test_raw_records_tell_their_terms(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log:
        for count in range(1, 12):
            append_numbered(log, b"t", count)
            log.begin_term()
        records = log._record_reader().read(3, 1 << 20, 60)
        assert (records.first_lsn, records.last_lsn) == (4, 55) or records.first_lsn == 3
        runs = term_runs(records)
        terms = {entry.lsn: entry.term for entry in log.replay()}
        firsts = [records.first_lsn]
        for lsn in range(records.first_lsn + 1, records.last_lsn + 1):
            if terms[lsn] != terms[lsn - 1]:
                firsts.append(lsn)
        assert runs == tuple((lsn, terms[lsn]) for lsn in firsts)
        assert len(runs) > 8
        for lsn in range(records.first_lsn, records.last_lsn + 1):
            rest = skip_records(records, lsn)
            assert (rest.first_lsn, rest.last_lsn) == (lsn, records.last_lsn)
            assert rest.prev_term == (terms[lsn - 1] if lsn > 1 else 0)
            again = parse_records(
                rest.data, seed=rest.seed, prev_lsn=lsn - 1, prev_term=rest.prev_term
            )
            assert again == rest


def test_the_reader_stops_where_it_is_told(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log", segment_bytes=4096) as log:
        log.append_many([b"x" * 100] * 5)
        log.append_many([b"x" * 900] * 12)  # a segment of its own size
        log.append(b"y")
        assert log._record_reader().read(1, 1, 18).last_lsn == 5
        assert log._record_reader().read(6, 1, 18).last_lsn == 17
        for first, last in ((0, 3), (1, 19), (19, 19), (5, 4)):
            with pytest.raises(LSNOutOfRangeError):
                log._record_reader().read(first, 100, last)
        with pytest.raises(LSNOutOfRangeError):
            log._record_reader().read(6, 100, 9)  # in the middle of a batch
        log.truncate_before(3)
        assert log._record_reader().read(3, 1, 18)[1:3] == (3, 5)


def test_chunks_are_all_batches_up_to_the_end_and_no_more(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log", segment_bytes=4096) as log:
        log.append_many([b"x" * 100] * 5)
        log.append_many([b"x" * 900] * 12)
        log.append(b"y")
        log.append(b"z")

        def ends(from_lsn: int, to_lsn: int) -> list[tuple[int, int]]:
            chunks = log._record_reader().chunks(from_lsn, 1, to_lsn)
            return [(records.first_lsn, records.last_lsn) for records in chunks]

        assert ends(1, 19) == [(1, 5), (6, 17), (18, 18), (19, 19)]
        assert ends(6, 18) == [(6, 17), (18, 18)]
        assert ends(20, 19) == ends(19, 18) == []
        with pytest.raises(LSNOutOfRangeError):
            ends(18, 20)


def test_a_batch_that_a_truncation_cut_ends_where_it_was_cut(tmp_path: Path) -> None:
    with (
        FileWALManager(tmp_path / "a") as source,
        FileWALManager(tmp_path / "b") as target,
    ):
        source.append_many([b"a", b"b", b"c"])
        source.truncate_after(2)
        source.append(b"d")
        copy_all(source, target)
        target.sync()
        killed = crash_copy(tmp_path / "b", tmp_path / "killed")
        assert source._record_reader().read(1, 1, 3).last_lsn == 2
    assert [entry.payload for entry in contents(killed)] == [b"a", b"b", b"d"]
    with FileWALManager(tmp_path / "killed") as log:
        assert batches_of(log) == [[1, 2], [3]]


def test_damage_is_seen_before_anything_is_sent(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log:
        log.append(b"x" * 500)
        log.append(b"y" * 500)
        path = segment_files(tmp_path / "log")[0]
        data = bytearray(path.read_bytes())
        data[8192 + 548 + 100] ^= 1
        path.write_bytes(data)
        assert log._record_reader().read(1, 1, 2).last_lsn == 1
        with pytest.raises(CorruptLogError) as caught:
            log._record_reader().read(2, 1, 2)
        assert caught.value.lsn == 2


GOOD = [Record(1, payload=b"a", flags=MORE), Record(2, payload=b"bb"), Record(3, term=2)]
WRONG = {
    "an lsn is left out": [GOOD[0], GOOD[1], Record(4)],
    "the first is another": [Record(2), Record(3)],
    "a term goes back": [Record(1, term=2), Record(2, term=1)],
    "the batch goes on": [GOOD[0], Record(2, flags=MORE)],
    "a term beyond the log's": [Record(1, term=3)],
    "no kind": [Record(1, kind=0)],
    "durable before it was written": [Record(1, durable_lsn=1)],
}


@pytest.mark.parametrize("why", WRONG)
def test_records_that_do_not_fit_are_refused_whole(tmp_path: Path, why: str) -> None:
    with FileWALManager(tmp_path / "log") as log:
        log._adopt_term(2)
        with pytest.raises(RefusedRecordsError) as caught:
            log._submit_records(records_of(*WRONG[why])._replace(first_lsn=1))
        assert caught.value.lsn in (1, 2, 3)
        assert (log.last_lsn, list(log.replay())) == (0, [])
        assert log._submit_records(records_of(*GOOD)) == 3
        log.sync()
        assert [entry.payload for entry in log.replay()] == [b"a", b"bb", b""]


def test_every_flipped_bit_is_refused(tmp_path: Path) -> None:
    records = records_of(*GOOD)
    tried = 0
    with FileWALManager(tmp_path / "log") as log:
        log._adopt_term(2)
        for at in range(len(records.data)):
            for bit in range(8):
                data = bytearray(records.data)
                data[at] ^= 1 << bit
                with pytest.raises(RefusedRecordsError):
                    log._submit_records(records._replace(data=bytes(data)))
                tried += 1
        with pytest.raises(RefusedRecordsError):
            log._submit_records(records._replace(seed=SEED + 1))
        for size in range(len(records.data)):
            with pytest.raises(RefusedRecordsError):
                log._submit_records(records._replace(data=records.data[:size]))
        assert log.last_lsn == 0
    assert tried == 8 * len(records.data) >= 1000


def test_the_own_durable_lsn_is_what_copies_carry(tmp_path: Path) -> None:
    """The other log's says nothing of this disk, and would make torn tails look damaged."""
    with FileWALManager(tmp_path / "log") as log:
        log._submit_records(records_of(*[Record(n, durable_lsn=n - 1) for n in range(1, 9)]))
        log.sync()
        log._submit_records(records_of(Record(9, durable_lsn=0)))
        log.sync()
        data = segment_files(tmp_path / "log")[0].read_bytes()[8192:]
    durable = [int.from_bytes(data[48 * n + 32 : 48 * n + 40], "little") for n in range(9)]
    assert durable == [0] * 8 + [8]


def test_reading_goes_on_while_the_log_changes(tmp_path: Path) -> None:
    """Appends, rolls and truncations under a reader's hands: it never gives bytes that were not
    the log's, and never those of a place that was cut or used again."""
    rng = seeded("changes")
    reads, chunks, gone = 0, 0, 0
    with FileWALManager(tmp_path / "log", segment_bytes=4096, sync="os") as log:
        ended = threading.Event()

        def change() -> None:
            for round_number in range(150):
                append_numbered(log, b"%03d" % round_number, rng.randrange(1, 30))
                if rng.random() < 0.4:
                    log.truncate_after(max(log.first_lsn - 1, log.last_lsn - rng.randrange(1, 9)))
                if rng.random() < 0.3:
                    log.truncate_before(max(log.first_lsn, log.last_lsn - 60))
            ended.set()

        writer = threading.Thread(target=change)
        writer.start()
        reader, lsn = log._record_reader(), 1
        while not ended.is_set() or lsn <= written_lsn(log):
            try:
                records = reader.read(lsn, rng.choice((1, 1000, 9000)), written_lsn(log))
            except LSNOutOfRangeError:
                gone += 1
                lsn = rng.randrange(log.first_lsn, max(log.first_lsn, log.last_lsn) + 1)
                if ended.is_set() and lsn > written_lsn(log):
                    break
                continue
            reads += 1
            chunks += records.last_lsn - records.first_lsn + 1
            assert records.first_lsn == lsn
            parse_records(
                records.data, seed=records.seed, prev_lsn=lsn - 1, prev_term=records.prev_term
            )
            lsn = records.last_lsn + 1
        writer.join()
    print(f"{reads} reads of {chunks} entries; {gone} found the log changed")
    assert reads >= 50


def test_a_term_entry_is_the_log_s_own(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log:
        assert log._append_term_entry(b"node").wait(30) == 1
        entry = log.read(1)
        assert entry == WALEntry(1, 1, entry.timestamp_ns, TERM, b"node")


def test_records_wait_for_no_disk(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log", sync="os") as log:
        log._submit_records(records_of(*[Record(n, payload=b"x" * 100) for n in range(1, 9)]))
        assert (written_lsn(log), log.durable_lsn) == (8, 0)
        settle(log)
        assert writer_of(log).group.status().syncs == 0


def test_the_kinds_of_the_specification(tmp_path: Path) -> None:
    assert TERM == 65535 == lib.WALCORE_KIND_TERM
    assert CONFIGURATION == 65534 == lib.WALCORE_KIND_CONFIGURATION
    assert len(encode(Record(1), SEED)) == 48
