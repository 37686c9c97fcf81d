"""What a stopped follower costs its leader: the window, and nothing that grows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.replication.nodes import until
from tests.replication.remotes import Remotes

WINDOW_BYTES = 4 << 20
ALLOWANCE_BYTES = 32 << 20
ROUNDS, BATCH = 50, (16, 4, 64 << 10)
"""200 MiB, in batches of the size of a message."""


@pytest.fixture
def abc(tmp_path: Path) -> Iterator[Remotes]:
    """Three processes, which are ended whatever happens. No silence is too long."""
    remotes = Remotes(
        tmp_path,
        segment_bytes=16 << 20,
        network={"silence_ms": 600_000},
        options={"window_bytes": WINDOW_BYTES},
    )
    yield remotes
    remotes.close()


def test_a_stopped_follower_costs_the_window(abc: Remotes) -> None:
    leader = abc.lead()
    held_lsn = leader.ask("fill", *BATCH)  # buffers are there
    abc.level(held_lsn)
    before_bytes = leader.resident_bytes()
    abc["c"].pause()
    try:
        peak_bytes = 0
        for _ in range(ROUNDS):
            lsn = leader.ask("fill", *BATCH)
            peak_bytes = max(peak_bytes, leader.resident_bytes())
        peer = leader.peer("c")
        assert (peer["connected"], peer["state"]) == (True, "replicate")
        assert peer["received_lsn"] < (held_lsn + lsn) // 2
    finally:
        abc["c"].resume()
    growth_bytes = peak_bytes - before_bytes
    print(f"a leader of {before_bytes >> 20} MiB grew by {growth_bytes >> 10} KiB")
    assert growth_bytes < WINDOW_BYTES + ALLOWANCE_BYTES
    until(lambda: leader.peer("c")["durable_lsn"] >= lsn, "c catches up")
