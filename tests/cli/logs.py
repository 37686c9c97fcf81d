"""Logs in every state that the command line has to tell apart."""

from __future__ import annotations

from pathlib import Path

from tests.helpers import Ticks, crash_copy, segment_files
from walstore import FileWALManager
from walstore.wal import files
from walstore.wal.opening import open_meta, read_log

GARBAGE = b"\xa5" * 100


def healthy(path: Path, entries: int = 10, segment_bytes: int = 1 << 16) -> Path:
    """A closed log whose entry n has the payload entry-n; from Ticks, so 1 us apart."""
    with FileWALManager(path, segment_bytes=segment_bytes, clock=Ticks()) as log:
        for number in range(1, entries + 1):
            log.append(b"entry-%d" % number)
    return path


def large(path: Path, entries: int) -> Path:
    """As `healthy`, made in batches of 1000, of the same time each, in segments of 512 KiB."""
    with FileWALManager(path, segment_bytes=1 << 19, clock=Ticks()) as log:
        for start in range(1, entries + 1, 1000):
            log.append_many([b"entry-%d" % number for number in range(start, start + 1000)])
    return path


def crashed(path: Path, entries: int = 10, segment_bytes: int = 1 << 16) -> Path:
    """The same, not closed."""
    running = path.with_name(path.name + "-running")
    with FileWALManager(running, segment_bytes=segment_bytes, clock=Ticks()) as log:
        for number in range(1, entries + 1):
            log.append(b"entry-%d" % number)
        log._writer._housekeeper.wait_idle()  # type: ignore[union-attr]
        return crash_copy(running, path)


def end_of(path: Path) -> tuple[Path, int]:
    """The last segment and where its records end."""
    fd = open_meta(str(path), write=False)
    try:
        opened = read_log(str(path), fd)
    finally:
        files.close(fd)
    assert opened is not None
    return Path(opened.layout.segments[-1].path), opened.tail.end_at


def torn(path: Path, entries: int = 10) -> Path:
    """A log with a torn tail of GARBAGE."""
    crashed(path, entries)
    segment, at = end_of(path)
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(GARBAGE)
    return path


def damage(path: Path, payload: bytes) -> tuple[Path, int]:
    """Flips a bit of an entry's payload. Returns the file and the place of that byte."""
    for segment in segment_files(path):
        at = segment.read_bytes().find(payload)  # the first: entry-2 comes before entry-20
        if at >= 0:
            with segment.open("r+b") as file:
                file.seek(at)
                file.write(bytes([payload[0] ^ 1]))
            return segment, at
    raise AssertionError(f"no entry {payload!r} in {path}")
