"""Logs that hold each other's entries, for the tests of what replication needs of the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.native.twin import Record, encode
from walstore import FileWALManager
from walstore._native import lib
from walstore.wal.records import Records
from walstore.wal.writing import Replicated

__all__ = ["ReplicatedLog", "copy_all", "diverge", "records_of", "replicated", "written_lsn"]

SEED = 0xC0FFEE


class ReplicatedLog(FileWALManager):
    """A log whose entries are shown once they are committed."""

    def __init__(self, path: Any, *, replicated: Replicated | None = None, **options: Any) -> None:
        self._replicated = replicated or Replicated()
        super().__init__(path, **options)


def replicated(path: Any, next_term: Callable[[int], int] | None = None, **options: Any) -> Any:
    """Opens one."""
    given = Replicated(next_term=next_term) if next_term else None
    return ReplicatedLog(path, replicated=given, **options)


def written_lsn(log: Any) -> int:
    """The last entry that was handed to the kernel, with all before it."""
    return lib.walcore_written_lsn(log._raw)


def copy_all(source: Any, target: Any, bytes_max: int = 1 << 16) -> int:
    """Brings what `target` lacks over from `source`, as replication does; returns the calls."""
    reader, calls = source._record_reader(), 0
    target._adopt_term(source.term)
    while target.last_lsn < written_lsn(source):
        records = reader.read(target.last_lsn + 1, bytes_max, written_lsn(source))
        assert target._submit_records(records) == records.last_lsn
        calls += 1
    return calls


def records_of(*records: Record, prev_term: int = 0) -> Records:
    """Records as another log would hold them, by way of the specification's encoder."""
    data = b"".join(encode(record, SEED) for record in records)
    return Records(SEED, records[0].lsn, records[-1].lsn, prev_term, records[-1].term, data)


def diverge(path: Any) -> Any:
    """A log of 40 entries of two terms, of which 10 are committed."""
    log = replicated(path, segment_bytes=4096)
    log._submit_records(records_of(*[Record(n, payload=b"x" * 300) for n in range(1, 21)]))
    log._adopt_term(2)
    log._submit_records(
        records_of(*[Record(n, term=2, payload=b"y" * 300) for n in range(21, 41)], prev_term=1)
    )
    log.sync()
    log._set_committed(10)
    return log
