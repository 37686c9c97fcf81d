"""A small append-only store without walstore underneath, and bugs of the calls it makes itself.

A line is a CRC and a JSON value. Opening keeps the good lines and cuts what follows them.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

BUGS = (
    "sync-again",  # a failed sync is tried again, and believed then
    "short-write",  # what the kernel did not take is not written
    "full-disk-ignored",  # a full disk is no reason to fail
    "no-recovery",  # what a crash left half written stays, and the next line is joined to it
)


class Journal:
    """A list of values that survives. `bug` is one of BUGS, or nothing."""

    def __init__(self, path: Path, bug: str = "") -> None:
        self._bug = bug
        self._fd = os.open(path / "journal", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self.values = self._recover()
            self._sync_directory(path)
        except BaseException:
            os.close(self._fd)
            raise

    def add(self, value: Any) -> None:
        line = encode(value)
        while line:
            try:
                written = os.write(self._fd, line)
            except OSError:
                if self._bug != "full-disk-ignored":
                    raise
                break
            line = b"" if self._bug == "short-write" else line[written:]
        self._sync()
        self.values.append(value)

    def close(self) -> None:
        os.close(self._fd)

    def _recover(self) -> list[Any]:
        values, good = [], 0
        with open(self._fd, "rb", closefd=False) as file:
            for line in file:
                if encoded(line) is None:
                    break
                values.append(encoded(line))
                good += len(line)
        if self._bug != "no-recovery":
            os.ftruncate(self._fd, good)
            self._sync()
            os.lseek(self._fd, good, os.SEEK_SET)
        else:
            os.lseek(self._fd, 0, os.SEEK_END)
        return values

    def _sync(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError:
            if self._bug != "sync-again":
                raise
            os.fsync(self._fd)

    def _sync_directory(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def encode(value: Any) -> bytes:
    text = json.dumps(value).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def encoded(line: bytes) -> Any:
    """The value of a line; None when it is not whole."""
    crc, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or crc != b"%08x" % zlib.crc32(text):
        return None
    return json.loads(text)


def workload(path: Path, mark: Any, bug: str = "", values: int = 4) -> None:
    journal = Journal(path, bug)
    for value in range(values):
        journal.add(value)
        mark(value)
    journal.close()


def check(path: Path, marks: list[Any], bug: str = "") -> None:
    journal = Journal(path, bug)
    assert journal.values[: len(marks)] == marks
    journal.add("one more")
    journal.close()
    journal = Journal(path, bug)
    assert journal.values[-1] == "one more", "the journal lost what came after the crash"
    journal.close()
