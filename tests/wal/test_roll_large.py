"""An entry, or batch, that is larger than a segment, wherever in a segment it comes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from walstore import FileWALManager


@pytest.mark.parametrize("before", range(6))
def test_append_larger_than_a_segment(tmp_path: Path, before: int) -> None:
    path = tmp_path / "log"
    wanted = [*[b"y" * 2000] * before, b"x" * 10_000, b"z" * 9000, b"q", *[b"t" * 1000] * 20]
    with FileWALManager(path, segment_bytes=4096) as log:
        for payload in wanted[:-20]:
            log.append(payload)
        log.append_many(wanted[-20:])
        assert log.verify().status == "clean"
        assert [entry.payload for entry in log.replay()] == wanted
    with FileWALManager(path, read_only=True) as log:
        assert log.verify().status == "clean"
        assert [entry.payload for entry in log.replay()] == wanted
        follower = log._follower
        assert follower is not None
        sealed = [segment.seal for segment in follower.segments()[:-1]]
        assert all(seal is not None and seal.index_count > 0 for seal in sealed)
        # The empty segment that the large entry did not fit in is gone.
        assert follower.layout.leftovers == ()
    assert len([name for name in os.listdir(path) if name[0].isdigit()]) == len(sealed) + 1


def test_append_many_larger_than_a_segment_first(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log", segment_bytes=4096) as log:
        assert log.append_many([b"x" * 100] * 100) == range(1, 101)
        assert log.append(b"next") == 101
        assert log.verify().entries == 101
