"""A writer is killed at any moment: all that it acknowledged is there, and each write is whole."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from tinydb import TinyDB

from tests.helpers import child, end, seeded
from walstore.tinydb import WALStorage, WALTinyDB

ROUNDS = 6
BATCH = 5

WRITER = """
import sys
from walstore.tinydb import WALStorage, WALTinyDB
from tinydb import TinyDB, where

database = {"TinyDB": TinyDB, "WALTinyDB": WALTinyDB}[sys.argv[2]]
db = database(
    sys.argv[1], storage=WALStorage, sync="os", segment_bytes=16384, checkpoint_bytes=20000
)
number = max((document["batch"] for document in db), default=0)
while True:
    number += 1
    db.insert_multiple({"batch": number, "of": at, "seen": 0} for at in range(5))
    db.update({"seen": number})
    if number > 20:
        db.remove(where("batch") <= number - 20)
    print(number, flush=True)
"""


@pytest.mark.parametrize("database", [TinyDB, WALTinyDB])
def test_a_killed_writer_loses_nothing(database: type[TinyDB], tmp_path: Path) -> None:
    rng = seeded("tinydb kill -9")
    path = tmp_path / "db"
    acked = amid = 0
    for _round in range(ROUNDS):
        process = child(WRITER, path, database.__name__)
        try:
            last = acks_until(process, acked + rng.randrange(5, 25), rng.random() / 50)
        finally:
            end(process)
        acked = max(acked, last)
        with TinyDB(path, storage=WALStorage) as db:
            amid += check(db, acked)
    print(f"acked={acked} amid={amid}")
    assert acked >= ROUNDS * 5


def acks_until(process: subprocess.Popen[str], number: int, seconds: float) -> int:
    """Kills the writer some seconds after it has acknowledged this number; returns the last one."""
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= number:
            break
    time.sleep(seconds)  # somewhere in the middle of a write
    assert process.poll() is None, "the writer has died"
    process.kill()
    return max([number, *map(int, process.stdout.read().split())])


def check(db: TinyDB, acked: int) -> bool:
    """Each write is there whole or not at all. Returns whether the last round of three was cut."""
    batches: dict[int, list[int]] = {}
    for document in db:
        batches.setdefault(document["batch"], []).append(document["of"])
    last = max(batches)
    assert acked <= last <= acked + 1
    assert all(ofs == list(range(BATCH)) for ofs in batches.values())
    assert sorted(batches) == list(range(min(batches), last + 1))
    assert min(batches) in {max(1, last - 19 - lag) for lag in (0, 1, 2)}
    unseen = {document["batch"] for document in db if document["seen"] == 0}
    seen = {document["seen"] for document in db if document["seen"]}
    assert unseen <= {last - 1, last}
    assert seen == {last} if not unseen else len(seen) == 1
    return bool(unseen)
