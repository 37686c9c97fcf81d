"""kill -9 of the follower, and of the leader, in the middle of a catch-up and of a snapshot.

In the end the follower has all of it, and the logs are one.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.crash.settings import scaled, seed
from tests.replication.nodes import until
from tests.replication.remotes import Remotes
from walstore import FileWALManager

ROUNDS = scaled(3)
BYTES_PER_S = 4 << 20
"""So slow are catch-ups and snapshots that there is a middle."""


class Scene(Protocol):
    """What is interrupted: the follower c is on its way to what the leader a has."""

    def begin(self) -> None:
        """Sees to it that it is far from there, and running."""

    def is_under_way(self) -> bool:
        """Whether it has come a part of the way since."""

    def is_amid(self) -> bool:
        """After the kill: whether a part of it is on c's disk, and not all."""


class CatchUp:
    """Entries that c lacks."""

    ENTRY_BYTES = 8 << 10
    BATCH = 32
    BATCHES = 24

    def __init__(self, abc: Remotes, rng: random.Random) -> None:
        self._abc = abc
        self._rng = rng
        self._from_lsn = self._over_lsn = self._to_lsn = 0

    def begin(self) -> None:
        self._from_lsn = self._abc["c"].status()["last_lsn"]
        if self._from_lsn + self.BATCH * self.BATCHES // 3 > self._to_lsn:
            self._abc.kill("c")
            self._to_lsn = self._abc["a"].ask("fill", self.BATCHES, self.BATCH, self.ENTRY_BYTES)
            self._abc.start("c")
        self._over_lsn = self._from_lsn + self._rng.randint(1, 4 * self.BATCH)

    def is_under_way(self) -> bool:
        return bool(self._abc["c"].status()["durable_lsn"] > self._over_lsn)

    def is_amid(self) -> bool:
        if "c" in self._abc.nodes:
            last_lsn = self._abc["c"].status()["durable_lsn"]
        else:
            with FileWALManager(self._abc.paths["c"], read_only=True) as log:
                last_lsn = log.last_lsn
        return bool(self._from_lsn < last_lsn < self._to_lsn)


class Transfer:
    """A snapshot, since the leader no longer holds the entries that c lacks."""

    SNAPSHOT_BYTES = 3 << 20

    def __init__(self, abc: Remotes, rng: random.Random) -> None:
        self._abc = abc
        self._rng = rng
        self._incoming = abc.paths["c"] / "incoming.snapshot"
        self._folder = abc.base / "c-application"
        self._before_ns = self._over_bytes = self.lsn = 0

    def begin(self) -> None:
        if not self.lsn or (self._folder / f"installed-{self.lsn}").exists():
            self._abc.kill("c")
            self._make()
            self._abc.start("c")
        self._before_ns = self._incoming.stat().st_mtime_ns if self._incoming.exists() else 0
        self._over_bytes = self._rng.randint(1, self.SNAPSHOT_BYTES // 2)

    def _make(self) -> None:
        """A snapshot of all, and a log that begins behind it."""
        leader = self._abc["a"]
        held_lsn = leader.status()["last_lsn"]
        self.lsn = leader.ask("fill", 10, 8, 4000)
        leader.ask("save", self.lsn, self.SNAPSHOT_BYTES, self._rng.getrandbits(32))
        until(
            lambda: leader.ask("truncate_before", self.lsn + 1) > held_lsn + 1, "c is left behind"
        )

    def is_under_way(self) -> bool:
        if not self._incoming.exists():
            return False
        stat = self._incoming.stat()
        return stat.st_mtime_ns > self._before_ns and stat.st_size > self._over_bytes

    def is_amid(self) -> bool:
        size = self._incoming.stat().st_size if self._incoming.exists() else 0
        return 0 < size < self.SNAPSHOT_BYTES


def kill_amid(abc: Remotes, scene: Scene, what: str) -> None:
    """Rounds of kills; most of them were in the middle."""
    counts = Counter[str]()
    for victim in "ca" * ROUNDS:
        until(lambda: abc["a"].status()["role"] == "leader", "a leads")
        scene.begin()
        until(scene.is_under_way, f"the {what} is under way")
        abc.kill(victim)
        counts[victim] += scene.is_amid()
        abc.start(victim, role="leader" if victim == "a" else "follower")
    until(lambda: abc["a"].status()["role"] == "leader", "a leads")
    print(f"amid a {what}: follower killed {counts['c']} times of {ROUNDS}, leader {counts['a']}")
    assert min(counts["c"], counts["a"]) > ROUNDS // 2


@pytest.fixture
def rng() -> random.Random:
    number = seed()
    print(f"kills: replay with WALSTORE_CRASH_SEED={number}")
    return random.Random(number)


@pytest.fixture
def abc(tmp_path: Path) -> Iterator[Remotes]:
    """Three processes, which are ended whatever happens."""
    options = {"catch_up_bytes_per_s": BYTES_PER_S, "retention_s": 0.05}
    remotes = Remotes(tmp_path, segment_bytes=64 << 10, options=options)
    yield remotes
    remotes.close()


@pytest.mark.timeout(3600)
def test_amid_a_catch_up(abc: Remotes, rng: random.Random) -> None:
    abc.lead()
    kill_amid(abc, CatchUp(abc, rng), "catch-up")
    abc.assert_equal("a")
    assert not [*abc.base.glob("*/diverged-*")]


@pytest.mark.timeout(3600)
def test_amid_a_snapshot(abc: Remotes, rng: random.Random) -> None:
    abc.lead()
    scene = Transfer(abc, rng)
    kill_amid(abc, scene, "snapshot")
    installed = abc.base / "c-application" / f"installed-{scene.lsn}"
    until(installed.exists, "it is installed in the end")
    saved = abc.base / "a-application" / f"saved-{scene.lsn}"
    assert installed.read_bytes() == saved.read_bytes()
    abc.assert_equal("a")
    with FileWALManager(abc.paths["c"], read_only=True) as log:
        assert log.first_lsn == scene.lsn + 1
