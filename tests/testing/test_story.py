"""What a story says of a history and of what the disk lost."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from walstore.testing.story import LINES_MAX, differences, history
from walstore.testing.trace import Event, Kind


def event(index: int, kind: Kind, **values: Any) -> Event:
    blank: dict[str, Any] = {
        "thread": 0, "fd": 3, "result": 0, "offset": 0, "length": 0, "flags": 0, "path": "",
        "path2": "", "data": b"",
    }  # fmt: skip
    return Event(index, kind, **{**blank, **values})


@pytest.mark.parametrize(
    ("live", "there", "line"),
    [
        (b"abcdef", b"abc", "x: 3 of 6 bytes"),
        (b"abcdef", b"", "x: empty instead of 6 bytes"),
        (b"abc", b"abcdef", "x: 6 bytes instead of 3"),
        (b"abcdef", b"ab\0\0ef", "x: zeros at 2 to 3"),
        (b"abcdef", b"aXcdeY", "x: other bytes at 1 to 5"),
        (b"abcdef", b"aXc", "x: 3 bytes instead of 6, other bytes at 1 to 1"),
        (b"a" * 9000, b"a" * 5000 + b"\0" * 4000, "x: zeros at 5000 to 8999"),
        (b"abc", None, "x is not there"),
        (None, b"abc", "x is still there"),
    ],
)
def test_difference(live: bytes | None, there: bytes | None, line: str) -> None:
    with_x = [{} if data is None else {"x": data} for data in (live, there)]
    assert differences(with_x[0], with_x[1]) == [line]


def test_no_difference() -> None:
    assert differences({"x": b"abc", "d": None}, {"x": b"abc", "d": None}) == []


def test_history_names_files_and_leaves_out_what_changes_nothing() -> None:
    events = [
        event(0, Kind.OPEN, path="/p/x", flags=os.O_CREAT | os.O_RDWR, result=3),
        event(1, Kind.WRITE, offset=8, length=4, result=4, data=b"abcd"),
        event(2, Kind.WRITE, offset=12, length=4, result=2, data=b"ab"),
        event(3, Kind.FDATASYNC),
        event(4, Kind.FDATASYNC, flags=1, offset=3, result=-errno.EIO),
        event(5, Kind.OPEN, path="/p", fd=4, result=4),
        event(6, Kind.FSYNC, fd=4, flags=1, offset=5),
        event(7, Kind.CLOSE),
        event(8, Kind.RENAME, path="/p/x", path2="/p/y"),
        event(9, Kind.MARK, data=b'["a", 1]'),
        event(10, Kind.UNLINK, path="/p/y"),
    ]
    assert history(events, 9, "/p") == [
        "    0 open      x",
        "    1 write     x, 4 bytes at 8",
        "    2 write     x, 2 of 4 bytes at 12",
        "    4 fdatasync x  FAILED: Input/output error",
        "    6 fsync     the directory",
        "    8 rename    x to y",
        '    9 mark      ["a", 1]',
    ]


def test_history_is_short_but_keeps_what_failed() -> None:
    failed = event(1, Kind.WRITE, length=4, result=-errno.ENOSPC)
    opened = event(0, Kind.OPEN, path="/p/x", flags=os.O_CREAT, result=3)
    writes = [event(n, Kind.WRITE, length=1, result=1) for n in range(2, 60)]
    lines = history([opened, failed, *writes], 59, "/p")
    assert len(lines) == LINES_MAX + 2
    assert lines[0] == "    1 write     x, 0 of 4 bytes at 0  FAILED: No space left on device"
    assert lines[1] == f"  ... {60 - LINES_MAX - 1} before"
