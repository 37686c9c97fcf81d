"""The crash lab tests itself: a lab that finds nothing must not pass for a log without bugs."""

from __future__ import annotations

import errno
import random
import subprocess
import sys
from array import array
from pathlib import Path
from typing import Any

import pytest

from walstore.testing.disk import SECTOR, Choice, Disk, Garbage, Image, Plan
from walstore.testing.explore import fingerprint
from walstore.testing.faults import FAULTS
from walstore.testing.shim import environment
from walstore.testing.trace import Event, Kind

from . import faults, lab
from .checks import CHECKS
from .ledger import Entry, Ledger, Recovered, digest
from .session import Target
from .settings import scaled, seed
from .states import LogRecording, explorer
from .toy import BUGS, toy


@pytest.mark.parametrize("name", CHECKS)
def test_shim(name: str) -> None:
    command = [sys.executable, "-m", f"{__package__}.checks", name]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


# The toy.


def explore_toy(bug: str, states: int) -> lab.Outcome:
    name = f"toy-{bug}" if bug else "toy"
    return lab.run_workers(lab.Spec([name, f"{name}-poisoned"], seed(), states))


def test_correct_toy_survives(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = explore_toy("", scaled(4000))
    with capsys.disabled():
        print(f"\ncorrect toy: {outcome}")
    assert outcome.states >= scaled(4000)
    assert outcome.second_order >= scaled(200)
    assert outcome.bad == 0, "\n".join(outcome.reports)


@pytest.mark.parametrize("bug", BUGS)
def test_toy_with_a_bug_is_found(bug: str, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = explore_toy(bug, 2000)
    with capsys.disabled():
        print(f"\ntoy with {bug}: states={outcome.states} bad={outcome.bad} seed={outcome.seed}")
    assert outcome.bad > 0


def test_fault_loops_pass_the_correct_toy() -> None:
    outcome = faults.run_workers([("toy", fault) for fault in FAULTS], seed())
    assert outcome.bad == 0, "\n".join(outcome.reports)
    assert outcome.hits >= 400, outcome
    assert all(outcome.by_fault.get(fault) for fault in FAULTS), outcome


def test_fault_loops_find_the_toy_that_tries_a_sync_again() -> None:
    outcome = faults.run_workers([("toy-retry-sync", "eio-once")], seed())
    assert outcome.bad > 0


# Counting.


def test_state_counts_once_in_all_traces(tmp_path: Path) -> None:
    """Two recordings that start from the same disk lead to the same state."""
    seen = set[int]()
    target = Target("toy", toy())
    initial: Image = {"log": None, "log/x": b"stray"}
    recording = LogRecording("/p", b"", "toy", 1, initial, target=target)
    counts = []
    for seed_ in (1, 2):
        report = explorer(
            recording, str(tmp_path), random.Random(seed_),
            states_per_point=4, states_max=4, seen=seen,
        ).run()  # fmt: skip
        counts.append((report.states, report.again))
    assert counts == [(1, 0), (0, 1)]


def test_states_of_several_workers_count_once(tmp_path: Path) -> None:
    folders = []
    for name, states in (("a", [1, 2, 3]), ("b", [3, 4]), ("c", [1, 3])):
        folders.append(str(tmp_path / name))
        (tmp_path / name).mkdir()
        (tmp_path / name / lab.SEEN).write_bytes(array("Q", states).tobytes())
    assert lab.count_shared(folders) == 3


def test_fingerprint_tells_every_name_and_byte_apart() -> None:
    images: list[Image] = [
        {},
        {"a": b""},
        {"a": None},
        {"b": b""},
        {"a": b"\0"},
        {"a": b"\0\0"},
        {"a": b"b", "b": b"a"},
        {"a": b"a", "b": b"b"},
        {"a": b"a\0b"},
        {"a/b": b"a", "a": None},
    ]
    assert len({fingerprint(image) for image in images}) == len(images)
    assert fingerprint({"a": b"1", "b": b"2"}) == fingerprint({"b": b"2", "a": b"1"})


# The disk model.


class Script:
    """Writes events by hand; file and directory names are below /p."""

    def __init__(self, initial: Image | None = None) -> None:
        self.disk = Disk("/p", initial or {})
        self.syncs = faults.FailedSyncs(self.disk)
        self._count = 0

    def event(self, kind: Kind, **values: Any) -> int:
        blank: dict[str, Any] = {
            "thread": 0, "fd": 0, "result": 0, "offset": 0, "length": 0, "flags": 0, "path": "",
            "path2": "", "data": b"",
        }  # fmt: skip
        self._count += 1
        event = Event(self._count, kind, **{**blank, **values})
        self.disk.apply(event)
        self.syncs.look(event)
        return self._count

    def create(self, name: str, fd: int) -> None:
        self.event(Kind.OPEN, path=f"/p/{name}", flags=0o102, fd=fd)

    def write(self, fd: int, data: bytes, offset: int = 0) -> int:
        return self.event(Kind.WRITE, fd=fd, data=data, offset=offset)

    def sync(self, fd: int, result: int = 0) -> None:
        begin = self.event(Kind.FDATASYNC, fd=fd)
        self.event(Kind.FDATASYNC, fd=fd, flags=1, offset=begin, result=result)

    def sync_names(self) -> None:
        self.event(Kind.OPEN, path="/p", fd=99)
        self.sync(99)

    def durable(self) -> Image:
        """What is there when nothing that is pending reached the disk."""
        files = {number: inode.nothing() for number, inode in self.disk.files.items()}
        return self.disk.image(Plan(frozenset(), files, ""))


def test_file_is_there_after_its_sync_and_that_of_its_directory() -> None:
    script = Script()
    script.create("x", 3)
    script.write(3, b"abc")
    script.sync(3)
    assert script.durable() == {}
    script.sync_names()
    assert script.durable() == {"x": b"abc"}
    script.write(3, b"d", 3)
    assert script.durable() == {"x": b"abc"}
    assert script.disk.live_image() == {"x": b"abcd"}


def test_sync_covers_only_what_came_before_it_began() -> None:
    script = Script({"x": b""})
    script.create("x", 3)
    script.write(3, b"abc")
    begin = script.event(Kind.FDATASYNC, fd=3)
    script.write(3, b"def", 3)
    script.event(Kind.FDATASYNC, fd=3, flags=1, offset=begin)
    assert script.durable() == {"x": b"abc"}


def test_failed_sync_loses_its_writes_unless_they_are_made_again() -> None:
    script = Script({"x": bytes(2 * SECTOR)})
    script.create("x", 3)
    script.write(3, b"a" * 2 * SECTOR)
    script.sync(3, result=-errno.EIO)
    script.sync(3)
    assert script.durable() == {"x": bytes(2 * SECTOR)}
    script.write(3, b"b", SECTOR)
    script.sync(3)
    assert script.durable() == {"x": bytes(SECTOR) + b"b" + b"a" * (SECTOR - 1)}


def test_file_may_be_synced_after_a_failure_only_when_opened_anew() -> None:
    script = Script({"x": b"", "y": b""})
    script.create("x", 3)
    script.create("y", 4)
    script.sync(3, result=-errno.EIO)
    script.sync(4)
    assert not script.syncs.problems
    script.create("x", 5)
    script.sync(5)
    assert not script.syncs.problems
    script.sync(5, result=-errno.ENOSPC)
    script.sync(3)
    assert len(script.syncs.problems) == 1


def test_failed_sync_is_that_of_a_file_not_of_a_name() -> None:
    script = Script()
    script.create("spare", 3)
    script.event(Kind.RENAME, path="/p/spare", path2="/p/segment")
    script.create("spare", 4)
    script.sync(3, result=-errno.EIO)
    script.sync(4)
    assert not script.syncs.problems
    script.create("segment", 5)
    script.sync(4, result=-errno.EIO)
    script.event(Kind.UNLINK, path="/p/spare")
    script.sync(3)
    assert not script.syncs.problems


def test_torn_write_spares_the_bytes_around_it() -> None:
    script = Script({"x": b"." * 3 * SECTOR})
    script.create("x", 3)
    script.write(3, b"w" * (SECTOR + 20), SECTOR - 10)
    inode = script.disk.files[1]
    for kind in Garbage.KINDS:
        torn = Choice(1, 1, ((0, 0), (1, 0)), (Garbage(0, 0, kind, 1), Garbage(0, 2, kind, 2)))
        content = inode.content(torn)
        assert content[: SECTOR - 10] == b"." * (SECTOR - 10)
        assert content[SECTOR : 2 * SECTOR] == b"." * SECTOR
        assert content[2 * SECTOR + 10 :] == b"." * (SECTOR - 10)


def test_size_and_bytes_are_independent_but_sizes_keep_their_order() -> None:
    script = Script({"x": b"abcdef"})
    script.create("x", 3)
    script.event(Kind.TRUNCATE, fd=3, length=2)
    script.write(3, b"XY", 2)
    inode = script.disk.files[1]
    assert inode.content(Choice(2, 2)) == b"abXY"
    assert inode.content(Choice(2, 1)) == b"ab"
    assert inode.content(Choice(0, 2)) == b"ab\0\0"
    assert inode.content(Choice(0, 0)) == b"abcdef"


def test_changes_of_one_name_keep_their_order() -> None:
    script = Script({"x": b"old"})
    script.create("y", 3)
    script.event(Kind.RENAME, path="/p/y", path2="/p/x")
    script.create("y", 4)
    first, second, third = (change.seq for change in script.disk.name_changes)
    assert script.disk.with_dependencies([third]) == {first, second, third}
    assert script.disk.with_dependencies([first]) == {first}
    plan = Plan(frozenset({first, second}), {}, "")
    assert script.disk.image(plan) == {"x": b""}


# The ledger.


def recovered(*payloads: bytes, first: int = 1) -> Recovered:
    entries = tuple(Entry(lsn, 1, digest(p)) for lsn, p in enumerate(payloads, first))
    last = first + len(payloads) - 1
    return Recovered(first, last, last, 1, entries)


def appended(op: int, lsn: int, *payloads: bytes) -> list[dict[str, Any]]:
    begun = {"t": "append", "op": op, "digests": [digest(p) for p in payloads]}
    return [begun, {"t": "acked", "op": op, "lsn": lsn, "durable": True}]


def test_ledger_wants_every_acked_entry_and_no_other() -> None:
    ledger = Ledger.of([*appended(1, 1, b"a"), *appended(2, 2, b"b"), appended(3, 3, b"c")[0]])
    assert not ledger.problems(recovered(b"a", b"b"))
    assert not ledger.problems(recovered(b"a", b"b", b"c"))
    for wrong in (
        recovered(b"a"),
        recovered(b"b", b"a"),
        recovered(b"a", b"x"),
        recovered(b"a", b"b", b"x"),
        recovered(b"a", b"b", b"c", b"c"),
        recovered(b"b", first=2),
        Recovered(1, 3, 3, 1, recovered(b"a", b"b").entries),
        Recovered(trouble="recovery raised"),
    ):
        assert ledger.problems(wrong), wrong


def test_ledger_wants_batches_whole() -> None:
    ledger = Ledger.of([*appended(1, 1, b"a"), appended(2, 2, b"b", b"c")[0]])
    assert not ledger.problems(recovered(b"a"))
    assert not ledger.problems(recovered(b"a", b"b", b"c"))
    assert ledger.problems(recovered(b"a", b"b"))
    assert ledger.problems(recovered(b"a", b"c", b"b"))


def test_ledger_takes_a_truncation_under_way_as_done_or_not() -> None:
    marks = [*appended(1, 1, b"a", b"b"), *appended(2, 3, b"c"), {"t": "cut_after", "lsn": 1}]
    ledger = Ledger.of(marks)
    assert not ledger.problems(recovered(b"a", b"b", b"c"))
    assert not ledger.problems(recovered(b"a"))
    assert ledger.problems(recovered(b"a", b"b"))
    ledger.apply({"t": "cut_after_done", "lsn": 1})
    assert not ledger.problems(recovered(b"a"))
    assert ledger.problems(recovered(b"a", b"b", b"c"))


def test_ledger_lets_the_front_be_cut_where_that_was_asked_for() -> None:
    ledger = Ledger.of([*appended(1, 1, b"a"), *appended(2, 2, b"b"), *appended(3, 3, b"c")])
    assert ledger.problems(recovered(b"b", b"c", first=2))
    ledger.apply({"t": "cut_before", "lsn": 2})
    assert not ledger.problems(recovered(b"a", b"b", b"c"))
    assert not ledger.problems(recovered(b"b", b"c", first=2))
    assert ledger.problems(recovered(b"c", first=3))
    ledger.apply({"t": "cut_before_done", "first": 2})
    assert ledger.problems(recovered(b"a", b"b", b"c"))


def test_ledger_lets_a_batch_be_cut_at_both_ends() -> None:
    ledger = Ledger.of(
        [
            *appended(1, 1, b"a", b"b", b"c"),
            {"t": "cut_before", "lsn": 2},
            {"t": "cut_before_done", "first": 2},
            {"t": "cut_after", "lsn": 2},
        ]
    )
    assert not ledger.problems(recovered(b"b", b"c", first=2))
    assert not ledger.problems(recovered(b"b", first=2))
    ledger.apply({"t": "cut_after_done", "lsn": 2})
    assert not ledger.problems(recovered(b"b", first=2))
    assert ledger.problems(recovered(b"b", b"c", first=2))


def test_ledger_holds_the_log_to_what_it_showed() -> None:
    ledger = Ledger.of([appended(1, 1, b"a", b"b")[0], {"t": "crash"}])
    ledger.apply(recovered(b"a", b"b").to_mark())
    assert not ledger.faults
    assert ledger.problems(recovered())
    gone = Ledger.of([appended(1, 1, b"a")[0], {"t": "crash"}, recovered().to_mark()])
    assert gone.problems(recovered(b"a"))
