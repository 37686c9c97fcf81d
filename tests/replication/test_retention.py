"""What a leader's log keeps for a follower, rule by rule."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.wal.replicas import replicated
from walstore.replication import ReplicationOptions
from walstore.replication.lag import _SAMPLES_MAX, Lag, Samples
from walstore.replication.log import NodeLog
from walstore.replication.progress import Progress
from walstore.replication.retention import needed_from

ENTRIES = 40
PAYLOAD_BYTES = 1000
SEGMENT_BYTES = 8192


@dataclass
class Kept:
    """A log of 40 entries in several segments, of which the samples may know."""

    log: NodeLog
    samples: Samples

    def of(self, progress: Progress | None, gone_s: float = 0.0, **options: float) -> int:
        """The first entry that is kept for a follower."""
        given = ReplicationOptions(**options)  # type: ignore[arg-type]
        return needed_from(progress, self.log, self.samples, given, gone_s * 1000, 0.0)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    with replicated(tmp_path / "log", segment_bytes=SEGMENT_BYTES) as wal:
        for _ in range(ENTRIES):
            wal.submit(bytes(PAYLOAD_BYTES))
        wal.sync()
        yield Kept(NodeLog(wal), Samples())


def follower(matched_lsn: int, *, connected: bool = True) -> Progress:
    return Progress("b", ENTRIES + 1, connected=connected, matched_lsn=matched_lsn)


def test_a_node_that_does_not_lead_keeps_nothing_for_others(kept: Kept) -> None:
    """Or that feeds this one no longer: its leadership may end while it is asked."""
    assert kept.of(None) == ENTRIES + 1


def test_what_a_follower_lacks_is_kept(kept: Kept) -> None:
    assert kept.of(follower(3)) == kept.of(follower(3, connected=False)) == 4
    assert kept.of(follower(ENTRIES)) == ENTRIES + 1


def test_who_is_gone_for_too_long_is_waited_for_no_more(kept: Kept) -> None:
    gone = follower(3, connected=False)
    assert kept.of(gone, gone_s=60.0, retention_s=60.0) == 4
    assert kept.of(gone, gone_s=60.1, retention_s=60.0) == ENTRIES + 1
    assert kept.of(follower(3), gone_s=60.1, retention_s=60.0) == 4


def test_who_is_too_far_behind_is_waited_for_no_more(kept: Kept) -> None:
    """By what was appended since the log was opened, or by the full segments."""
    full_bytes = kept.log.full_bytes_after(3)
    assert full_bytes > 10 * PAYLOAD_BYTES
    assert kept.of(follower(3), retention_bytes=full_bytes) == 4
    assert kept.of(follower(3), retention_bytes=full_bytes - 1) == ENTRIES + 1
    kept.samples.note(3, 5000, 0.0)
    kept.samples.note(ENTRIES, 5000 + 2 * full_bytes, 0.0)
    assert kept.of(follower(3), retention_bytes=2 * full_bytes) == 4
    assert kept.of(follower(3), retention_bytes=2 * full_bytes - 1) == ENTRIES + 1


def test_for_who_was_not_heard_yet_the_end_of_the_log_is_kept(kept: Kept) -> None:
    """As much as a follower pins at most: it may lack a little only."""
    full = [segment for segment in kept.log._writer.segments() if segment.seal is not None]
    assert len(full) >= 3
    all_bytes = kept.log.full_bytes_after(0)
    assert kept.of(follower(0), retention_bytes=all_bytes) == 1
    assert kept.of(follower(0), retention_bytes=all_bytes - 1) == full[1].first_lsn
    last_bytes = kept.log.full_bytes_after(full[-2].first_lsn)
    assert kept.of(follower(0), retention_bytes=last_bytes) == full[-1].first_lsn
    assert kept.of(follower(0), retention_bytes=last_bytes - 1) > full[-1].first_lsn
    gone = follower(0, connected=False)
    assert kept.of(gone, gone_s=60.1, retention_s=60.0) == ENTRIES + 1


def test_what_was_written_before_a_leadership_is_nobody_s_lag() -> None:
    samples = Samples()
    samples.restart(1000, 10 << 30, 0.0)
    assert samples.lag(998, 1000, 5.0) == Lag(2, 0, 5.0)
    samples.note(1003, (10 << 30) + 300, 10.0)
    assert samples.lag(998, 1003, 15.0) == Lag(5, 300, 15.0)
    assert samples.lag(1000, 1003, 15.0) == Lag(3, 300, 5.0)
    samples.restart(2000, 20 << 30, 20.0)
    samples.note(2001, (20 << 30) + 100, 25.0)
    assert samples.lag(1003, 2001, 30.0) == Lag(998, 100, 10.0)


def test_what_is_far_behind_is_known_to_a_part_of_it() -> None:
    """Also behind where the leadership began, and when samples have been thinned out many times;
    however unevenly the log grows."""
    samples, rng = Samples(), random.Random(7)
    samples.restart(1000, 0, 0.0)
    whole = [(1000, 0, 0.0)]
    for count in range(50_000):
        lsn, written, now_ms = whole[-1]
        if count % 500 == 0:
            size, pause_ms = rng.choice((100, 1 << 20)), rng.choice((5.0, 500.0))
        whole.append((lsn + 1, written + size, now_ms + pause_ms))
        samples.note(*whole[-1])
        assert len(samples._lsns) <= _SAMPLES_MAX
    last_lsn, last_bytes, last_ms = whole[-1]
    assert samples.lag(1, last_lsn, last_ms).bytes == last_bytes
    for at, (lsn, written, _) in enumerate(whole[:-1]):
        lag = samples.lag(lsn, last_lsn, last_ms)
        behind_bytes, behind_ms = last_bytes - written, last_ms - whole[at + 1][2]
        assert behind_bytes <= lag.bytes <= 1.05 * behind_bytes
        assert lag.ms <= behind_ms <= 1.05 * lag.ms
