"""Opening a log whose writer was killed by SIGKILL: the time must not grow with the log.

Before each open another process opens the log, appends 16 MiB durably and kills itself, so that
the open always meets the tail of a crashed writer in the last segment.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.conftest import Measure
from bench.peers.plan import ROWS, Settings
from bench.peers.run import ask
from walstore import FileWALManager

REOPEN = next(row for row in ROWS if row.name == "reopen-big")
OPENS = 5


@pytest.mark.parametrize(
    "mib",
    [
        pytest.param(100, id="100MiB"),
        pytest.param(1024, id="1GiB", marks=pytest.mark.big),
        pytest.param(4096, id="4GiB", marks=pytest.mark.big),
    ],
)
def test_reopen_after_kill(measure: Measure, disk: Path, mib: int) -> None:
    settings = Settings(big_mib=mib)
    ask("build", REOPEN, "walstore", disk, settings)
    opened: list[FileWALManager] = []
    expected = 0

    def crash_its_writer() -> None:
        nonlocal expected
        if opened:
            opened.pop().close()
        expected = int(ask("crash", REOPEN, "walstore", disk, settings)["records"])

    def open_log() -> None:
        opened.append(FileWALManager(disk))
        assert opened[-1].last_lsn == expected

    measure(open_log, setup=crash_its_writer, rounds=OPENS)
    opened.pop().close()
