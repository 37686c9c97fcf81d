"""Bad input is named, at the call, and nothing is lost by it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import open_descriptors, payloads, segment_files
from tests.wal.inside import settle, writer_of
from walstore import FileWALManager, LSNOutOfRangeError, NotALogError, OptionError, PayloadTypeError
from walstore.limits import KIND_MAX, PAYLOAD_BYTES_MAX
from walstore.wal.arguments import checked_lsn
from walstore.wal.repair import repair_tail


class Index:
    """A number of another kind, as of numpy."""

    def __index__(self) -> int:
        return 3


CALLS: list[Callable[[FileWALManager, Any], object]] = [
    lambda log, lsn: log.read(lsn),
    lambda log, lsn: log.replay(lsn),
    lambda log, lsn: log.replay(1, lsn),
    lambda log, lsn: log.tail(lsn),
    lambda log, lsn: log.truncate_before(lsn),
    lambda log, lsn: log.truncate_after(lsn),
]


@pytest.mark.parametrize("bad", [1.0, 2.5, "3", b"3", True, [1]], ids=repr)
def test_lsn_that_is_no_whole_number_is_refused_at_the_call(tmp_path: Path, bad: object) -> None:
    with FileWALManager(tmp_path / "log", segment_bytes=4096) as log:
        while len(segment_files(tmp_path / "log")) < 2:
            log.append(b"x" * 500)
        settle(log)
        before = log.term, log.first_lsn, log.last_lsn, sorted(os.listdir(tmp_path / "log"))
        assert writer_of(log)._spares.ready
        for call in CALLS:
            with pytest.raises(OptionError, match="lsn is a whole number"):
                call(log, bad)
        for none in (log.read, log.truncate_before, log.truncate_after):
            with pytest.raises(OptionError, match="whole number"):
                none(None)  # type: ignore[arg-type]
        assert before == (
            log.term,
            log.first_lsn,
            log.last_lsn,
            sorted(os.listdir(tmp_path / "log")),
        )
        assert writer_of(log)._spares.ready


def test_lsn_of_another_kind_of_whole_number(tmp_path: Path) -> None:
    assert checked_lsn("lsn", Index()) == 3
    with FileWALManager(tmp_path / "log") as log:
        log.append_many([b"%d" % number for number in range(1, 6)])
        assert log.read(Index()).payload == b"3"  # type: ignore[arg-type]
        assert payloads(log.replay(Index(), Index())) == [b"3"]  # type: ignore[arg-type]
        for absurd in (-1, 1 << 64, 1 << 200):
            for call in CALLS:
                if absurd > 0 or call is not CALLS[2]:  # a range that ends before it starts
                    with pytest.raises(LSNOutOfRangeError):
                        call(log, absurd)


@pytest.mark.parametrize("path", [b"log", 3, None, object()], ids=["bytes", "int", "none", "other"])
def test_path_that_is_no_text(path: Any) -> None:
    for call in (FileWALManager, repair_tail):
        with pytest.raises(OptionError, match="path is a str"):
            call(path)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"], ids=["nul", "no character"])
def test_path_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    for call in (FileWALManager, repair_tail):
        with pytest.raises(NotALogError, match="no file can have this name") as caught:
            call(os.path.join(str(tmp_path), name))
        assert caught.value.hint


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_meta_that_is_no_file(
    tmp_path: Path, make: Callable[[Path], None], read_only: bool
) -> None:
    make(tmp_path / "meta")
    before = open_descriptors()
    with pytest.raises(NotALogError, match="not a plain file") as caught:
        FileWALManager(tmp_path, read_only=read_only)
    assert caught.value.hint
    assert caught.value.path == str(tmp_path)
    assert open_descriptors() == before


class Clock:
    """Right, until it is told to give something else."""

    def __init__(self) -> None:
        self.now: Any = 1_700_000_000_000_000_000

    def __call__(self) -> int:
        now: int = self.now
        return now


@pytest.mark.parametrize("bad", [1.5, -1, 1 << 64, None, True], ids=repr)
def test_clock_that_gives_no_time_is_named(tmp_path: Path, bad: object) -> None:
    clock = Clock()
    with FileWALManager(tmp_path / "log", segment_bytes=4096, clock=clock) as log:
        log.append(b"good")
        clock.now = bad
        for call in (
            lambda: log.append(b"x"),
            lambda: log.append_many([b"x"]),
            lambda: log.submit(b"x"),
            lambda: log.truncate_after(0),
        ):
            with pytest.raises(OptionError, match="clock gives"):
                call()
        clock.now = 5
        assert log.append(b"good") == 2
        assert [entry.timestamp_ns for entry in log.replay()] == [1_700_000_000_000_000_000, 5]
        clock.now = bad
    clock.now = bad
    before = open_descriptors()
    for path in (tmp_path / "log", tmp_path / "new"):
        with pytest.raises(OptionError, match="clock gives"):
            FileWALManager(path, clock=clock)
    assert open_descriptors() == before
    for path, last_lsn in ((tmp_path / "log", 2), (tmp_path / "new", 0)):
        with FileWALManager(path) as log:
            assert log.last_lsn == last_lsn


@pytest.mark.parametrize("give", [b"short", bytearray(16), None, "x" * 16], ids=repr)
def test_entropy_that_gives_too_little_is_named(tmp_path: Path, give: Any) -> None:
    with pytest.raises(OptionError, match="entropy gives 16 bytes"):
        FileWALManager(tmp_path / "log", entropy=lambda _size: give)
    with FileWALManager(tmp_path / "log") as log:
        assert log.append(b"x") == 1


def test_a_kind_that_is_none_is_named_however_much_comes_with_it(tmp_path: Path) -> None:
    """That much would be taken with another one."""
    payload = bytes(PAYLOAD_BYTES_MAX - 8)
    with FileWALManager(tmp_path / "log", segment_bytes=4096) as log:
        for call in (log.append, log.submit, lambda one, **how: log.append_many([one], **how)):
            with pytest.raises(OptionError, match="kind is a whole number"):
                call(payload, kind=KIND_MAX + 1)
        assert log.append(b"x") == 1


def test_views_of_all_kinds(tmp_path: Path) -> None:
    """What is contiguous is a payload, whatever it is a view of."""
    numbers = (ctypes.c_int * 2)(1, 2)
    views = [
        (memoryview(((ctypes.c_uint8 * 2) * 0)()), b""),
        (memoryview(numbers), bytes(numbers)),
        (memoryview((ctypes.c_int * 0)()), b""),
        (memoryview(b"abcdef").cast("B", (2, 3)), b"abcdef"),
        (memoryview(b"abcd" * 2).cast("I"), b"abcd" * 2),
        (memoryview((ctypes.c_uint32.__ctype_be__ * 2)(1, 2)), b"\0\0\0\1\0\0\0\2"),
    ]
    wanted = [data for _, data in views]
    with FileWALManager(tmp_path / "log") as log:
        for view, _ in views:
            log.append(view)
        log.append_many([view for view, _ in views])
        for view, _ in views:
            log.submit(view).wait()
        assert payloads(log.replay()) == wanted * 3


def test_released_view_is_named(tmp_path: Path) -> None:
    released = memoryview(b"gone")
    released.release()
    with FileWALManager(tmp_path / "log") as log:
        for call in (
            lambda: log.append(released),
            lambda: log.append_many([b"x", released]),
            lambda: log.submit(released),
        ):
            with pytest.raises(PayloadTypeError, match="released"):
                call()
        assert log.append(b"x") == 1
