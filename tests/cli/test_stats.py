"""walstore stats."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from tests.cli.conftest import Run
from tests.cli.logs import damage, healthy
from walstore import FileWALManager
from walstore.cli.stats import Timeline

SECOND = 1_000_000_000


def mixed(path: Path) -> Path:
    """Ten entries, one a second, of sizes 0 to 9, of two kinds and two terms."""
    now = [0]
    with FileWALManager(path, segment_bytes=1 << 16, clock=lambda: now[0]) as log:
        for number in range(10):
            now[0] = (number + 1) * SECOND
            if number == 6:
                log.begin_term()
            log.append(b"x" * number, kind=1 + number % 2)
    return path


def test_stats_json(tmp_path: Path, run: Run) -> None:
    found = run("stats", mixed(tmp_path / "log"), "--json").json
    assert (found["entries"], found["payload_bytes"]) == (10, 45)
    assert (found["payload_min"], found["payload_mean"], found["payload_max"]) == (0, 4.5, 9)
    assert found["seconds"] == 9.0
    assert found["entries_per_second"] == 10 / 9
    assert found["kinds"] == [
        {"kind": 1, "entries": 5, "payload_bytes": 20},
        {"kind": 2, "entries": 5, "payload_bytes": 25},
    ]
    assert found["terms"] == [
        {"term": 1, "entries": 6, "payload_bytes": 15},
        {"term": 2, "entries": 4, "payload_bytes": 30},
    ]
    assert found["payload_sizes"] == [
        {"from": 0, "to": 0, "entries": 1},
        {"from": 1, "to": 1, "entries": 1},
        {"from": 2, "to": 3, "entries": 2},
        {"from": 4, "to": 7, "entries": 4},
        {"from": 8, "to": 15, "entries": 2},
    ]
    assert sum(span["entries"] for span in found["timeline"]) == 10
    assert sum(span["payload_bytes"] for span in found["timeline"]) == 45
    assert len(found["timeline"]) <= 60


def test_stats_text(tmp_path: Path, run: Run) -> None:
    found = run("stats", mixed(tmp_path / "log"))
    assert found.code == 0
    for part in (
        "over time",
        "payload sizes",
        "2 kinds",
        "2 terms",
        "10, lsn 1 to 10",
        "in 1 segment",
    ):
        assert part in found.out
    assert "1 segments" not in found.out
    assert found.out.isascii()
    assert not any(line.endswith(" ") for line in found.lines)


def test_stats_empty(tmp_path: Path, run: Run) -> None:
    path = healthy(tmp_path / "log", entries=0)
    assert "no entries" in run("stats", path).out
    found = run("stats", path, "--json").json
    assert found["entries"] == 0
    assert found["payload_min"] is None
    assert found["timeline"] == []


def test_stats_many_kinds(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "log"
    with FileWALManager(path, segment_bytes=1 << 16) as log:
        for kind in range(1, 31):
            log.append(b"", kind=kind)
    assert "and 18 smaller ones" in run("stats", path).out
    assert len(run("stats", path, "--json").json["kinds"]) == 30


def test_stats_corrupt(tmp_path: Path, run: Run) -> None:
    path = healthy(tmp_path / "log", entries=300, segment_bytes=4096)
    damage(path, b"entry-20")
    found = run("stats", path)
    assert found.code == 2
    assert found.out == ""
    assert "(lsn 20)" in found.err


def test_timeline_is_bounded() -> None:
    timeline = Timeline(spans_max=64)
    stamps = [n * n * 7_000_000 for n in range(5000)]
    for at in stamps:
        timeline.add(at, 10)
    assert len(timeline.entries) <= 64
    spans = timeline.spans(12)
    assert len(spans) <= 12
    assert sum(number for _, number, _ in spans) == 5000
    assert sum(total for _, _, total in spans) == 50_000
    width = timeline.span_ns
    assert all(after[0] - before[0] == width for before, after in pairwise(spans))
    assert [number for _, number, _ in spans] == [
        sum(start <= at < start + width for at in stamps) for start, _, _ in spans
    ]


def test_timeline_with_a_clock_that_was_wrong() -> None:
    timeline = Timeline(spans_max=64)
    for at in (0, 2**64 - 1, 1_795_000_000 * SECOND):
        timeline.add(at, 1)
    assert sum(number for _, number, _ in timeline.spans(12)) == 3
