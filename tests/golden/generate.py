"""Writes the golden logs of format version 1: python -m tests.golden.generate [directory]

They are committed and never written again: every later walstore must read them. Clock and random
bytes are fixed, so running it twice gives the same files.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.helpers import Entropy, Ticks, crash_copy, segment_files
from tests.native.twin import MORE, Record
from tests.wal.replicas import records_of
from walstore import FileWALManager

HERE = Path(__file__).parent
VERSION_DIRECTORY = HERE / "v1"
PAGE_BYTES = 4096


def fill(log: FileWALManager, count: int) -> None:
    """Entries of every shape, enough for several segments."""
    for i in range(count):
        log.append(b"%d:" % i + bytes((i * 31 + j) & 0xFF for j in range(i * 11)), kind=1 + i % 3)


def clean(log: FileWALManager) -> None:
    fill(log, 30)


def killed(log: FileWALManager) -> None:
    fill(log, 33)
    log.append(b"")


def torn(log: FileWALManager) -> None:
    fill(log, 5)


def truncated(log: FileWALManager) -> None:
    fill(log, 30)
    log.begin_term()
    log.append(b"second term")
    log.truncate_after(25)
    log.append(b"in place of 26")
    log.truncate_before(9)
    log.begin_term()
    log.append(b"last")


def submit_kind_65535(log: FileWALManager, payloads: list[bytes]) -> None:
    """A batch of a kind that was anybody's when the files were written. By now only records of
    another log may have it; they are given the time at which an append_many would have rolled."""
    clock, more = log._clock, len(payloads) - 1
    assert clock is not None
    clock()
    now_ns = clock() + 2000
    batch = [
        Record(lsn, 1, now_ns, kind=0xFFFF, flags=MORE if i < more else 0, payload=payloads[i])
        for i, lsn in enumerate(range(2, 2 + len(payloads)))
    ]
    log._submit_records(records_of(*batch))
    log.sync()
    clock()


def batches(log: FileWALManager) -> None:
    log.append_many([b"one"])
    submit_kind_65535(log, [b"%d" % i * 30 for i in range(60)])
    log.append(b"alone")
    log.append_many([b"", b"after nothing", b""])


SAMPLES: list[tuple[Callable[[FileWALManager], None], bool]] = [
    (clean, True),
    (killed, False),
    (torn, False),
    (truncated, True),
    (batches, True),
]


def tear(path: Path) -> None:
    """Half of a record that was never synced, behind the last one."""
    last = segment_files(path)[-1]
    data = bytearray(last.read_bytes())
    end = len(bytes(data).rstrip(b"\0")) + 7 & ~7
    data[end : end + 96] = bytes(range(1, 97))
    last.write_bytes(data)


def describe(log: FileWALManager) -> dict[str, object]:
    """What every reader must find."""
    return {
        "log_id": log.log_id,
        "term": log.term,
        "first_lsn": log.first_lsn,
        "last_lsn": log.last_lsn,
        "entries": [
            [entry.lsn, entry.term, entry.timestamp_ns, entry.kind, entry.payload.hex()]
            for entry in log.replay()
        ],
    }


def generate(target: Path) -> None:
    """Writes all samples. Trailing zeros are left out, and put back by `restore_zeros`."""
    for number, (write, close) in enumerate(SAMPLES):
        with tempfile.TemporaryDirectory() as name:
            work = Path(name) / "log"
            log = FileWALManager(
                work, segment_bytes=PAGE_BYTES, clock=Ticks(), entropy=Entropy(number)
            )
            write(log)
            expected = describe(log)
            if close:
                log.close()
                kept = work
            else:
                assert log._writer is not None
                log._writer._housekeeper.wait_idle()
                kept = crash_copy(work, Path(name) / "copy")
                log.close()
            if write is torn:
                tear(kept)
            save(kept, target / write.__name__, expected)


def save(source: Path, target: Path, expected: dict[str, object]) -> None:
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    sizes = {}
    for file in sorted(source.iterdir()):
        if not file.name.startswith("spare-"):
            data = file.read_bytes()
            sizes[file.name] = len(data)
            (target / file.name).write_bytes(data.rstrip(b"\0"))
    (target / "expected.json").write_text(json.dumps({"sizes": sizes, **expected}, indent=0))


def restore_zeros(source: Path, target: Path) -> dict[str, object]:
    """Copies a golden log, at its full size, and returns what it must hold."""
    loaded: dict[str, object] = json.loads((source / "expected.json").read_text())
    sizes = loaded.pop("sizes")
    assert isinstance(sizes, dict)
    target.mkdir()
    for name, size in sizes.items():
        (target / name).write_bytes((source / name).read_bytes().ljust(size, b"\0"))
    return loaded


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else VERSION_DIRECTORY)
