"""Records: the scanner agrees with its specification, and what it decodes is what was encoded."""

from __future__ import annotations

from tests.fuzz.fix import fix_records
from tests.native import twin
from tests.native.test_record import compare
from walstore._native import lib
from walstore.errors import RefusedRecordsError
from walstore.wal.record import Scanner, entries_of, reseal
from walstore.wal.records import Records, check_records, parse_records, skip_records, term_runs

__all__ = ["one_input"]

SEED, OTHER_SEED = 7, 0xFFFFFFF1
BASE_AT = 8192


def one_input(data: bytes) -> None:
    """Scans the input as records."""
    if not data:
        return
    choice, data = data[0], data[1:]
    next_lsn, term = choice & 7, choice >> 3 & 1
    if choice & 0x80:
        data = fix_records(data, SEED, next_lsn)
    stop_lsn = next_lsn + 2 if choice & 16 else twin.FOREVER
    scan = compare(data, SEED, next_lsn, term, stop_lsn=stop_lsn, base_at=BASE_AT)
    _check_encoded(data[: scan.consumed], next_lsn, term)
    _check_find(data, next_lsn, term, scan.consumed)
    if next_lsn:
        _check_raw(data, next_lsn, term)
        _check_raw(data[: scan.consumed], next_lsn, term)


def _check_encoded(good: bytes, next_lsn: int, term: int) -> None:
    """What was decoded encodes to the same bytes, also by way of another segment."""
    records = twin.Scan(SEED, next_lsn, term).run(good)
    assert b"".join(twin.encode(record, SEED) for record in records) == good
    elsewhere = reseal(good, OTHER_SEED)
    assert elsewhere == b"".join(twin.encode(record, OTHER_SEED) for record in records)
    assert reseal(elsewhere, SEED) == good


def _check_find(data: bytes, next_lsn: int, term: int, good_bytes: int) -> None:
    """Each good record is found, and what is found behind the good ones is sound too."""
    good = Scanner(SEED, next_lsn, term)
    entries = entries_of(data, 0, good.decode(data[:good_bytes], 0, BASE_AT))
    for entry in entries:
        assert Scanner(SEED, next_lsn, term).find(data, entry.lsn) == entry
    wanted_lsn = next_lsn + len(entries) + 1
    scanner = Scanner(SEED, next_lsn, term)
    found = scanner.find(data, wanted_lsn)
    if found is None:
        assert scanner.state.stop != lib.WALCORE_SCAN_LIMIT
    else:
        assert (found.lsn, found.kind > 0, found.term >= term) == (wanted_lsn, True, True)


def _is_taken(data: bytes, next_lsn: int, term: int) -> bool:
    try:
        check_records(Records(SEED, next_lsn, 0, term, 0, data))
    except RefusedRecordsError:
        return False
    return True


def _check_raw(data: bytes, next_lsn: int, term: int) -> None:
    """What another node sends is taken when all of it is good and its last batch is whole."""
    scan = twin.Scan(SEED, next_lsn, term)
    records = scan.run(data)
    good = bool(records) and scan.consumed == len(data) and not records[-1].flags & twin.MORE
    assert _is_taken(data, next_lsn, term) == good
    if not good:
        return
    found = parse_records(data, seed=SEED, prev_lsn=next_lsn - 1, prev_term=term)
    assert (found.last_lsn, found.last_term) == (records[-1].lsn, records[-1].term)
    terms = [term for _, term in term_runs(found)]
    assert terms == sorted({record.term for record in records})
    half = records[len(records) // 2]
    rest = skip_records(found, half.lsn)
    assert bytes(rest.data) == b"".join(
        twin.encode(record, SEED) for record in records if record.lsn >= half.lsn
    )
