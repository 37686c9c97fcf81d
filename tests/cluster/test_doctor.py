"""What measurements mean for a log, and for a cluster."""

from __future__ import annotations

import pytest

from walstore.cluster import (
    Clock,
    Disk,
    Level,
    Quantiles,
    Timing,
    derive,
    judge_clock,
    judge_disk,
    judge_timing,
)

SYNC = Quantiles(1.0, 3.0, 9.0)
TRIP = Quantiles(0.5, 2.0, 5.0)
LATE = Quantiles(0.1, 1.0, 2.0)


def disk(
    sync: Quantiles = SYNC, filesystem: str = "ext4", options: frozenset[str] = frozenset({"rw"})
) -> Disk:
    return Disk(sync, 100, filesystem, options)


def worst(findings: list[tuple[Level, str, str]]) -> Level:
    order = [Level.GOOD, Level.DOUBTFUL, Level.UNSAFE]
    return max((level for level, _, _ in findings), key=order.index)


@pytest.mark.parametrize(
    ("patient", "level", "word"),
    [
        (disk(), Level.GOOD, "as long as a disk"),
        (disk(filesystem="tmpfs"), Level.UNSAFE, "tmpfs is memory"),
        (disk(Quantiles(0.0099, 1, 1)), Level.UNSAFE, "9.9 us"),
        (disk(Quantiles(0.0101, 1, 1)), Level.GOOD, "as long as a disk"),
        (disk(options=frozenset({"rw", "nobarrier"})), Level.UNSAFE, "nobarrier"),
        (disk(options=frozenset({"barrier=0"})), Level.UNSAFE, "barrier=0"),
        (disk(filesystem="nfs4"), Level.DOUBTFUL, "nfs4"),
        (disk(Quantiles(1, 100.0, 900)), Level.GOOD, "as long as a disk"),
        (disk(Quantiles(1, 101.0, 900)), Level.DOUBTFUL, "101 ms"),
    ],
)
def test_disk(patient: Disk, level: Level, word: str) -> None:
    findings = judge_disk(patient)
    assert worst([*findings]) is level
    assert word in findings[0].text


@pytest.mark.parametrize(
    ("patient", "level", "word"),
    [
        (Clock(499, 0.001, LATE), Level.GOOD, "steadily"),
        (Clock(-501, 0.001, LATE), Level.DOUBTFUL, "-501 ms"),
        (Clock(0, 1001, LATE), Level.DOUBTFUL, "ticks"),
    ],
)
def test_clock(patient: Clock, level: Level, word: str) -> None:
    (finding,) = judge_clock(patient)
    assert finding.level is level
    assert word in finding.text


def test_quantiles() -> None:
    assert Quantiles.of([5.0]) == (5, 5, 5)
    assert Quantiles.of([float(n) for n in range(1, 201)]) == (100, 198, 200)
    assert Quantiles.of([3.0, 1.0, 2.0]) == (2, 3, 3)


def test_usual_machines_get_the_usual_times() -> None:
    assert derive(SYNC, TRIP, LATE) == Timing(100, 1000)
    assert derive(SYNC, None, LATE) == Timing(100, 1000)


@pytest.mark.parametrize(
    ("sync", "trip", "late", "timing"),
    [
        (200.0, 0.0, 0.0, Timing(100, 4000)),  # ten rounds of two syncs
        (0.0, 100.0, 11.0, Timing(230, 2300)),  # two trips, ten heartbeats
        (1.0, 40.0, 1000.0, Timing(2100, 21000)),
    ],
)
def test_slow_machines_get_longer_ones(
    sync: float, trip: float, late: float, timing: Timing
) -> None:
    figures = [Quantiles(value, value, value) for value in (sync, trip, late)]
    assert derive(*figures) == timing


@pytest.mark.parametrize("scale", [0.01, 0.3, 1.0, 7.0, 100.0])
def test_derived_times_are_judged_good(scale: float) -> None:
    figures = [Quantiles(*(scale * value for value in each)) for each in (SYNC, TRIP, LATE)]
    assert worst([*judge_timing(derive(*figures), *figures)]) is Level.GOOD


@pytest.mark.parametrize(
    ("timing", "level", "word"),
    [
        (Timing(3, 30), Level.GOOD, "suit"),
        (Timing(2.9, 30), Level.DOUBTFUL, "shorter than a round trip"),
        (Timing(100, 299), Level.UNSAFE, "less than 3 heartbeats"),
        (Timing(100, 300), Level.GOOD, "suit"),
        (Timing(100, 299, True), Level.UNSAFE, "election_ms = 299 is less than 3 heartbeats"),
        (Timing(3, 26, True), Level.UNSAFE, "election_ms = 26 is less than 3 rounds"),
        (Timing(3, 26), Level.UNSAFE, "rounds of question, sync and answer"),
    ],
)
def test_timing(timing: Timing, level: Level, word: str) -> None:
    """A round is 2 + 2 * 3 + 1 = 9 ms."""
    findings = judge_timing(timing, SYNC, TRIP, LATE)
    assert [finding.level for finding in findings] == [level]
    assert word in findings[0].text
    assert bool(findings[0].hint) is (level is not Level.GOOD)
