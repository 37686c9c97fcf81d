"""What was written stays readable: entries and a snapshot as format 1 has them, byte for byte."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import msgspec

from walstore.docstore import snapshot
from walstore.docstore.checkpoint import files_of
from walstore.docstore.index import checked_spec
from walstore.docstore.record import (
    Delete,
    DropCollection,
    DropIndex,
    MakeIndex,
    Put,
    Record,
    decode_record,
    encode_records,
    encoded_operation,
)
from walstore.docstore.snapshot import Position
from walstore.docstore.state import Change, State
from walstore.docstore.values import key_of

DOCUMENT = {
    "_id": "x",
    "n": [1, -2.5, None, True],
    "raw": b"\0",
    "at": datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
}
OPERATIONS: list[list[Any]] = [
    ["p", "things", DOCUMENT],
    ["d", "things", b"y"],
    ["i", "things", "a_1", [["a", 1]], True],
    ["x", "things", "a_1"],
    ["c", "things"],
]
ENTRY = bytes.fromhex(
    "940107c29593a170a67468696e677384a35f6964a178a16e9401cbc004000000000000c0c3a3726177c40100a26174"
    "d7ff00005dc0695735a593a164a67468696e6773c4017995a169a67468696e6773a3615f319192a16101c393a178a6"
    "7468696e6773a3615f3192a163a67468696e6773"
)
POSITION = Position("ab" * 16, 9, 3, 8)
PAIR = checked_spec([("n", 1), ("a", -1)], "pair", True)
SNAPSHOT = bytes.fromhex(
    "57414c444f435331420000009601d920616261626162616261626162616261626162616261626162616261626162"
    "61620903089193a67468696e67739193a4706169729292a16e0192a161ffc3012b0000009184a35f6964a178a16e"
    "9401cbc004000000000000c0c3a3726177c40100a26174d7ff00005dc0695735a5ce26a195d01c8375cd37e6b3c1"
    "60dcd4"
)


def test_an_entry() -> None:
    operations = [encoded_operation(*operation) for operation in OPERATIONS]
    assert encode_records(7, operations) == [ENTRY]
    assert msgspec.msgpack.decode(ENTRY) == [1, 7, False, OPERATIONS], "docs/docstore.md"
    assert decode_record("log", 8, ENTRY) == Record(
        7,
        False,
        [
            Put("things", DOCUMENT),
            Delete("things", b"y"),
            MakeIndex("things", "a_1", (("a", 1),), True),
            DropIndex("things", "a_1"),
            DropCollection("things"),
        ],
    )


def test_a_snapshot(tmp_path: Path) -> None:
    state = State()
    state.apply(Change("i", "things", definition=PAIR))
    state.apply(Change("p", "things", key_of("x"), None, DOCUMENT))
    files = files_of(str(tmp_path))
    files.write(9, snapshot.write(POSITION, snapshot.copy_of_state(state)))
    path = tmp_path / "documents" / f"snapshot-{9:020}"
    assert path.read_bytes() == SNAPSHOT
    assert files.newest(lambda lsn: 3) == (9, str(path))
    position, read = snapshot.read("path", memoryview(SNAPSHOT)[8:-16])
    assert position == POSITION
    collection = read.collections["things"]
    assert collection.get(key_of("x")) == DOCUMENT
    assert list(collection.specs) == [PAIR]
    assert len(collection.indexes["pair"]) == 4
