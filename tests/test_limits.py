"""The limits: what users were promised, and what must hold between them."""

from __future__ import annotations

import ast

from tests.helpers import ROOT
from walstore import limits
from walstore._native import lib
from walstore.wal.record import CONFIGURATION, TERM, record_bytes
from walstore.wal.segment import RECORDS_AT, file_bytes, index_pairs_max, limit_for


def test_the_promised_values() -> None:
    assert limits.PAYLOAD_BYTES_MAX == 64 << 20
    assert limits.BATCH_BYTES_MAX == 256 << 20
    assert limits.SEGMENT_BYTES_MIN == 4096
    assert limits.KIND_MAX == 65533
    assert limits.BLOCK_BYTES == 4096


def test_a_batch_holds_the_largest_entry() -> None:
    assert record_bytes(limits.PAYLOAD_BYTES_MAX) <= limits.BATCH_BYTES_MAX


def test_every_place_in_the_largest_segment_fits_into_the_index() -> None:
    limit_at = limit_for(limits.SEGMENT_BYTES_MAX, limits.BATCH_BYTES_MAX)
    assert limit_at // lib.WALCORE_RECORD_ALIGN_BYTES < 1 << 32
    assert index_pairs_max(limit_at) < 1 << 32


def test_every_entry_of_the_largest_segment_fits_into_the_index() -> None:
    limit_at = limit_for(limits.SEGMENT_BYTES_MAX)
    assert (limit_at - RECORDS_AT) // record_bytes(0) < 1 << 32


def test_a_file_of_the_largest_segment_is_one_that_systems_take() -> None:
    assert file_bytes(limit_for(limits.SEGMENT_BYTES_MAX)) < 1 << 40


def test_lsns_and_kinds_fit_their_fields() -> None:
    assert limits.LSN_MAX < 1 << 63, "an lsn shares a signed type with error codes"
    assert limits.KIND_MAX + 1 == CONFIGURATION == TERM - 1 < TERM < 1 << 16
    assert limits.PAYLOAD_BYTES_MAX < 1 << 32


def test_segments_and_blocks_keep_records_aligned() -> None:
    for value in (limits.BLOCK_BYTES, limits.SEGMENT_BYTES_MIN, limits.SEGMENT_BYTES_MAX):
        assert value % lib.WALCORE_RECORD_ALIGN_BYTES == 0
    assert limits.SEGMENT_BYTES_MIN < limits.SEGMENT_BYTES_MAX
    assert limits.SEGMENT_BYTES_MIN >= record_bytes(0)


def test_an_interval_is_short_enough_for_a_clock_in_ns() -> None:
    assert 0 < limits.SYNC_INTERVAL_MS_MAX * 1_000_000 < 1 << 63


def test_every_limit_is_exported() -> None:
    tree = ast.parse((ROOT / "walstore" / "limits.py").read_text(encoding="utf-8"))
    names = set()
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    assert names - {"__all__"} == set(limits.__all__)
