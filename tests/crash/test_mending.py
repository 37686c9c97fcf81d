"""A damaged log that is being cut, and a crash or a failing call in the middle of it: it is done
again, with the same outcome; neither the claim is lost, nor a byte of what was sound."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from walstore import FileWALManager
from walstore.replication.repair import mend_log, read_claim
from walstore.testing import CrashLab, Mark
from walstore.wal.segment import RECORDS_AT

SEGMENT_BYTES = 4096
ENTRIES = 5
KINDS = ["record", "header", "gone", "last record"]


def payload(number: int) -> bytes:
    return b"<%03d>" % number + bytes([number]) * 1800


def build(path: Path, kind: str) -> Path:
    """A closed log that is damaged."""
    with FileWALManager(path, segment_bytes=SEGMENT_BYTES) as log:
        for number in range(1, ENTRIES + 1):
            log.append(payload(number))
    for spare in path.glob("spare-*"):
        spare.unlink()
    segments = sorted(it for it in path.iterdir() if it.name[0].isdigit())
    name = segments[-1] if kind == "last record" else segments[1]
    data = bytearray(name.read_bytes())
    data[RECORDS_AT + 100 if "record" in kind else 60] ^= 1
    name.write_bytes(data)
    if kind == "gone":
        name.unlink()
    return path


def workload(path: Path, mark: Mark, source: str) -> None:
    log_path = path / "log"
    log_path.mkdir()
    for name in sorted(Path(source).iterdir()):
        with (log_path / name.name).open("wb") as file:
            file.write(name.read_bytes())
            os.fsync(file.fileno())
    for directory in (log_path, path):
        fd = os.open(directory, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    mark("there")
    mend(log_path)
    mark("mended")


def mend(path: Path) -> None:
    mend_log(str(path), SEGMENT_BYTES, 7, os.urandom)


def check(path: Path, marks: list[Any], source: str, least: int = 1) -> None:
    """As a node opens its log; so many entries are left at least."""
    log_path = path / "log"
    if "there" not in marks:
        return
    mend(log_path)
    claim = read_claim(str(log_path), 0)
    with FileWALManager(log_path, segment_bytes=SEGMENT_BYTES) as log:
        entries = list(log.replay())
    assert [entry.payload for entry in entries] == [payload(i + 1) for i in range(len(entries))]
    assert least <= len(entries) < ENTRIES
    assert claim is not None
    assert claim.lsn == ENTRIES
    assert not entries or claim.term == entries[-1].term
    kept = b"".join(it.read_bytes() for it in log_path.iterdir() if it.is_file())
    there = b"".join(it.read_bytes() for it in Path(source).iterdir())
    lost = [i for i in range(1, ENTRIES + 1) if payload(i) in there and payload(i) not in kept]
    assert not lost


def test_mending_survives_power_cuts(crash_lab: CrashLab, tmp_path: Path) -> None:
    in_recovery = 0
    for kind in KINDS:
        source = str(build(tmp_path / kind, kind))
        report = crash_lab.power_cuts(
            partial(workload, source=source), partial(check, source=source), states_min=100
        )
        in_recovery += report.in_recovery
    assert in_recovery > 0


def test_mending_survives_failing_calls(crash_lab: CrashLab, tmp_path: Path) -> None:
    source = str(build(tmp_path / "record", "record"))
    report = crash_lab.failing_calls(
        partial(workload, source=source),
        partial(check, source=source, least=0),  # a file that is refused with EIO is damaged, too
    )
    assert report.faults >= 100
