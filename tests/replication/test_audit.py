"""Whose log differs, and what hashes it is told by."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from tests.native.twin import MORE, Record
from tests.wal.replicas import copy_all, records_of, replicated
from walstore import FileWALManager
from walstore.replication.auditing import Span, hash_entries
from walstore.replication.log import NodeLog
from walstore.replication.verdict import differing
from walstore.wal.records import normalized


def test_the_verdict_for_all_small_clusters() -> None:
    """A node is only ever judged by what a majority has, or when all voters have answered; and
    never one that has what most have."""
    names, cases = "abcde", 0
    for size in range(1, 6):
        voters = frozenset(names[:size])
        for digests in product((None, 1, 2, 3), repeat=size):
            known = {
                name: digest
                for name, digest in zip(names, digests, strict=False)
                if digest is not None
            }
            for leader in known:
                wrong = differing(known, leader, voters)
                cases += 1
                right = {digest for name, digest in known.items() if name not in wrong}
                most = max(list(known.values()).count(digest) for digest in known.values())
                assert len(wrong) < len(known)
                if wrong:
                    assert len(right) == 1
                    count = list(known.values()).count(right.pop())
                    assert count == most
                    assert 2 * count > size or len(known) == size
                elif len(known) == size or 2 * most > size:
                    assert len(set(known.values())) == 1
    print(f"cases={cases}")
    assert cases > 4000


def test_the_leader_is_right_where_as_many_say_otherwise() -> None:
    assert differing({"a": 1, "b": 2}, "a", frozenset("ab")) == {"b"}
    assert differing({"a": 1, "b": 2}, "b", frozenset("ab")) == {"a"}


def test_a_learner_is_judged_and_does_not_judge() -> None:
    known = {"a": 1, "b": 1, "x": 2, "y": 2}
    assert differing(known, "a", frozenset("abc")) == {"x", "y"}
    assert differing({"x": 2}, "x", frozenset("abc")) == frozenset()


def test_the_same_entries_hash_alike_wherever_segments_end(tmp_path: Path) -> None:
    """Other segments, another history of syncs, other pieces read at a time."""
    with FileWALManager(tmp_path / "a", segment_bytes=4096) as log:
        for i in range(200):
            log.append_many([b"%d" % i * (i % 50)] * (1 + i % 3))
    with (
        replicated(tmp_path / "a", segment_bytes=4096) as a,
        replicated(tmp_path / "b", segment_bytes=1 << 20) as b,
    ):
        copy_all(a, b)
        last_lsn = a.last_lsn
        b.sync()
        logs = [NodeLog(log) for log in (a, b)]
        one, other = (hash_entries(log, 1, last_lsn, 1 << 62) for log in logs)
        assert one == other == Span(1, last_lsn, one.digest)
        part = hash_entries(logs[0], 1, last_lsn, 1000)
        assert 1 < part.last_lsn < last_lsn
        assert hash_entries(logs[1], 1, part.last_lsn, 1 << 62) == part
        assert part.digest != one.digest


def test_each_field_of_an_entry_counts() -> None:
    """What is the same everywhere does, what is not does not."""
    record = Record(7, 3, timestamp_ns=11, payload=b"payload")
    base = normalized(records_of(record))
    for change in (
        Record(8, 3, timestamp_ns=11, payload=b"payload"),
        Record(7, 4, timestamp_ns=11, payload=b"payload"),
        Record(7, 3, timestamp_ns=12, payload=b"payload"),
        Record(7, 3, timestamp_ns=11, payload=b"Payload"),
        Record(7, 3, timestamp_ns=11, payload=b"payload", kind=2),
    ):
        assert normalized(records_of(change)) != base
    same = Record(7, 3, timestamp_ns=11, payload=b"payload", durable_lsn=5)
    assert normalized(records_of(same)) == base
    batch = records_of(
        Record(7, 3, timestamp_ns=11, payload=b"payload", flags=MORE),
        Record(8, 3, timestamp_ns=11, payload=b""),
    )
    assert normalized(batch)[: len(base)] == base
