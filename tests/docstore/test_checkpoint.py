"""Checkpoints: what is opened from them, and what a damaged one costs."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.docstore.sites import Site, contents
from tests.docstore.test_transactions import before_line
from tests.helpers import run_child
from tests.replication.nodes import until
from walstore import UnsupportedFormatError
from walstore.docstore import SnapshotError, snapshot


def names(site: Site) -> list[str]:
    return sorted(os.listdir(site.path / "documents"))


def fill(site: Site, rounds: int = 3) -> Any:
    """Three collections, an index, and a checkpoint after each round."""
    store = site.store or site.open()
    store["things"].create_index("a", unique=True)
    for number in range(rounds):
        begin = number * 100
        store["things"].insert_many({"_id": at, "a": at} for at in range(begin, begin + 100))
        store["others"].insert_one({"_id": f"x{number}", "raw": b"\\0", "list": [1, {"b": None}]})
        store["things"].delete_one({"_id": begin})
        store["empty"].insert_one({"_id": 1})
        store["empty"].delete_one({"_id": 1})
        assert store.checkpoint() == store.applied_lsn
    return contents(store)


@pytest.mark.parametrize("frozen", [False, True], ids=["", "while something is frozen"])
def test_opening_leaves_the_collector_as_it_was(file_site: Site, frozen: bool) -> None:
    fill(file_site)
    file_site.close()
    assert gc.isenabled()
    gc.freeze() if frozen else None
    try:
        store = file_site.open(checkpoint_bytes=None)
        old = gc.get_objects(generation=2)
        assert gc.isenabled()
        assert (gc.get_freeze_count() > 0) == frozen
    finally:
        gc.unfreeze()
    documents = store._journal.state.collection("others").documents.values()
    assert len(documents) == 3
    if not frozen:
        assert {id(document) for document in documents} <= {id(one) for one in old}


def test_opening_from_a_snapshot(site: Site) -> None:
    expected = fill(site)
    assert site.log is not None
    assert len(names(site)) == 2
    assert site.log.first_lsn > 1
    store = site.reopen()
    assert contents(store) == expected
    assert [spec.name for spec in store["things"].list_indexes()] == ["_id_", "a_1"]
    assert store["things"].explain({"a": 7}).index == "a_1"
    assert site.log is not None
    assert site.log.verify().status == "clean", "the snapshots beside it are nothing to it"
    store["things"].insert_one({"_id": "after", "a": "after"})
    assert contents(site.reopen())["things"] == expected["things"] | {
        "'after'": {"_id": "after", "a": "after"}
    }


def test_a_checkpoint_without_anything_new_is_none(site: Site) -> None:
    store = site.open()
    empty = store.checkpoint()
    assert empty == (0 if site.kind == "file" else store.applied_lsn)
    store["things"].insert_one({})
    lsn = store.checkpoint()
    before = names(site)
    assert store.checkpoint() == lsn
    assert names(site) == before


def test_what_a_crash_leaves_of_a_checkpoint_is_removed(site: Site) -> None:
    expected = fill(site)
    site.close()
    (site.path / "documents" / "snapshot.new").write_bytes(b"WALDOCS1 and then the power went")
    assert contents(site.open()) == expected
    assert len(names(site)) == 2


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "another's", "removed"])
def test_a_damaged_snapshot_falls_back_to_the_older_one(
    site: Site, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    fill(site)
    assert site.store is not None
    site.store["things"].insert_one({"_id": "tail", "a": "tail"})
    expected = contents(site.store)
    site.close()
    older, newest = (site.path / "documents" / name for name in names(site))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    spoiled: dict[str, bytes] = {"flipped": bytes(data), "cut": bytes(data[:-1]), "emptied": b""}
    if damage == "removed":
        newest.unlink()
    elif damage == "another's":
        newest.write_bytes(older.read_bytes())
    else:
        newest.write_bytes(spoiled[damage])
    with caplog.at_level(logging.WARNING, "walstore.docstore"):
        assert contents(site.open()) == expected
    if damage == "removed":
        return
    own = [record for record in caplog.records if record.name == "walstore.docstore"]
    (message,) = [record.getMessage() for record in own]
    assert str(newest) in message
    assert "cannot be used" in message
    assert names(site) == [f"refused-{newest.name}", older.name], "it is kept for a person"
    assert site.store is not None
    site.store.checkpoint()
    assert contents(site.reopen()) == expected
    assert len(names(site)) == 3


def test_without_a_whole_snapshot_nothing_is_guessed(site: Site) -> None:
    fill(site)
    site.close()
    before = {}
    for name in names(site):
        path = site.path / "documents" / name
        path.write_bytes(path.read_bytes()[:-1])
        before[name] = path.read_bytes()
    with pytest.raises(SnapshotError, match="its checksum is wrong") as caught:
        site.open()
    assert "the log begins at entry" in str(caught.value)
    assert "backup" in caught.value.hint
    assert {name: (site.path / "documents" / name).read_bytes() for name in names(site)} == before
    for name in names(site):
        (site.path / "documents" / name).unlink()
    with pytest.raises(SnapshotError, match="there is none"):
        site.open()


def test_a_snapshot_from_before_the_log_begins_is_refused(file_site: Site) -> None:
    store = file_site.open()
    old, data = file_site.path / "documents" / f"snapshot-{1:020}", b""
    for number in range(4):
        store["things"].insert_one({"_id": number})
        store.checkpoint()
        data = data or old.read_bytes()
    file_site.close()
    for name in names(file_site):
        (file_site.path / "documents" / name).unlink()
    old.write_bytes(data)
    with pytest.raises(SnapshotError, match="snapshot 1: the log begins at entry 3"):
        file_site.open()


def test_a_whole_log_needs_no_snapshot(file_site: Site, caplog: pytest.LogCaptureFixture) -> None:
    expected = fill(file_site, rounds=1)
    file_site.close()
    (name,) = names(file_site)
    (file_site.path / "documents" / name).write_bytes(b"WALDOCS1")
    with caplog.at_level(logging.WARNING, "walstore.docstore"):
        assert contents(file_site.open()) == expected
    assert "the log alone" in caplog.text


def test_a_snapshot_of_another_log_is_refused(file_site: Site, tmp_path: Path) -> None:
    fill(file_site)
    other = Site(tmp_path / "other", "file")
    fill(other)
    file_site.close()
    other.close()
    for name in names(file_site):
        data = (other.path / "documents" / name).read_bytes()
        (file_site.path / "documents" / name).write_bytes(data)
    with pytest.raises(SnapshotError, match="it is of another log"):
        file_site.open()


def test_a_snapshot_that_is_ahead_of_its_log_is_refused(file_site: Site) -> None:
    """What a log restored from an older backup looks like."""
    store = file_site.open()
    store["things"].insert_one({"_id": 1})
    log = file_site.log
    assert log is not None
    store["things"].insert_one({"_id": 2})
    store.checkpoint()
    store.close()
    log.truncate_after(1)
    file_site.close()
    assert contents(file_site.open()) == {"things": {"1": {"_id": 1}}}
    assert names(file_site)[0].startswith("refused-")


def test_a_snapshot_whose_last_entry_is_another_one_is_refused(file_site: Site) -> None:
    store = file_site.open()
    store["things"].insert_one({"_id": 1})
    store["things"].insert_one({"_id": 2})
    store.checkpoint()
    log = file_site.log
    assert log is not None
    store.close()
    log.truncate_after(1)
    log.append(b"another one, of a new term", kind=7)
    file_site.close()
    assert contents(file_site.open()) == {"things": {"1": {"_id": 1}}}


def test_a_snapshot_before_a_log_of_another_history_is_refused(file_site: Site) -> None:
    """The log begins right behind the snapshot's last entry, and behind another one."""
    expected = fill(file_site)
    assert file_site.store is not None
    assert file_site.log is not None
    lsn, term = file_site.store.applied_lsn, file_site.log.term
    file_site.store.close()
    file_site.log._reset(lsn + 1, term, term)
    file_site.close()
    assert contents(file_site.open()) == expected
    assert file_site.store is not None
    file_site.store.close()
    assert file_site.log is not None
    file_site.log._reset(lsn + 1, term + 1, term + 1)
    file_site.close()
    with pytest.raises(SnapshotError, match="another entry in the place of its last one"):
        file_site.open()


def test_a_newer_version_is_not_touched(file_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "VERSION", 2)
    fill(file_site)
    file_site.close()
    monkeypatch.undo()
    before = names(file_site)
    with pytest.raises(UnsupportedFormatError, match="snapshot version 2"):
        file_site.open()
    assert names(file_site) == before


def test_the_log_is_kept_from_the_older_snapshot_on(file_site: Site) -> None:
    store = file_site.open()
    log = file_site.log
    assert log is not None
    lsns = []
    for number in range(5):
        store["things"].insert_one({"_id": number})
        lsns.append(store.checkpoint())
        assert log.first_lsn == (lsns[-2] if number else 1)
    assert names(file_site) == [f"snapshot-{lsn:020}" for lsn in lsns[-2:]]


def test_checkpoints_by_size(file_site: Site) -> None:
    """The thread makes them by itself, while others write and read."""
    store = file_site.open(checkpoint_bytes=20_000)
    things, log = store["things"], file_site.log
    assert log is not None
    written = threading.Event()
    counts = [0]

    def look() -> None:
        while not written.wait(0.005):
            counts.append(things.count_documents({}))

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(500):
        things.insert_one({"_id": number, "a": "x" * 200}, concern="local")
    written.set()
    reader.join()
    assert counts == sorted(counts)
    store.close()  # after the checkpoint that is being made
    assert len(names(file_site)) == 2
    assert log.first_lsn > 100
    store = file_site.reopen(checkpoint_bytes=20_000)
    assert store["things"].count_documents({}) == 500


def test_a_checkpoint_that_cannot_be_written_harms_nothing(
    file_site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    expected = fill(file_site)
    assert file_site.store is not None
    store = file_site.store
    store["things"].insert_one({"_id": "more", "a": "more"})
    (file_site.path / "documents" / "snapshot.new").mkdir()  # in its way
    with pytest.raises(OSError, match=r"snapshot\.new"):
        store.checkpoint()
    (file_site.path / "documents" / "snapshot.new").rmdir()
    assert len(contents(store)["things"]) == len(expected["things"]) + 1
    assert store.checkpoint() == store.applied_lsn
    assert len(contents(file_site.reopen())["things"]) == len(expected["things"]) + 1


def test_a_checkpoint_that_cannot_be_written_is_tried_again_soon(
    file_site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    store = file_site.open(checkpoint_bytes=80_000)
    in_the_way = file_site.path / "documents" / "snapshot.new"
    in_the_way.mkdir()
    store["things"].insert_one({"pad": b"x" * 80_000})
    until(lambda: "no checkpoint of" in caplog.text, "it was tried")
    until(lambda: store._journal.payload_bytes == 70_000, "and will be again")
    store["things"].insert_one({"pad": b"x"})
    assert store._journal.payload_bytes < 80_000, "not at every write"
    in_the_way.rmdir()
    store["things"].insert_one({"pad": b"x" * 10_000})
    until(lambda: len(names(file_site)) == 1, "an eighth later it is tried again")


def test_a_checkpoint_whose_entry_cannot_be_read_is_tried_again_soon(
    file_site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    one_segment = {"segment_bytes": 1 << 20}
    store = file_site.open(checkpoint_bytes=80_000, log_options=one_segment)
    pad = os.urandom(80_000)
    with store._checkpointing:
        store["things"].insert_one({"pad": pad})
        files = (path for path in file_site.path.iterdir() if path.is_file())
        (segment,) = (path for path in files if pad in path.read_bytes())
        with segment.open("r+b") as file:  # the entry is damaged before it is read
            file.seek(segment.read_bytes().index(pad))
            file.write(bytes([pad[0] ^ 1]))
    until(lambda: "no checkpoint of" in caplog.text, "it was tried")
    assert "(lsn 1): the record" in caplog.text
    until(lambda: store._journal.payload_bytes == 70_000, "and will be again")
    store["things"].insert_one({"pad": b"x" * 10_000})
    until(lambda: len(names(file_site)) == 1, "an eighth later it is tried again")


def test_a_checkpoint_that_fails_anywhere_is_tried_again_soon(file_site: Site) -> None:
    """Before each line of what makes a snapshot in turn; also in the copy, under the lock, when
    the counter is not yet set back."""
    store = file_site.open(checkpoint_bytes=80_000)
    things = store["things"]

    def fail() -> None:
        raise MemoryError

    for line in itertools.count(1):
        things.delete_many({})
        store.checkpoint()
        assert store._journal.payload_bytes == 0
        things.insert_one({"_id": line, "pad": b"x" * 75_000})
        assert 70_000 < store._journal.payload_bytes < 80_000, "not yet due"
        try:
            failed = before_line(("/snapshot.py",), line, fail, store.checkpoint)
        except MemoryError:
            failed = True
        if not failed:
            break
        assert store._journal.payload_bytes == 70_000
    assert line > 10
    assert store._journal.payload_bytes == 0


NO_MEMORY = """
import logging, resource, sys, threading
from pathlib import Path
from tests.replication.nodes import until
from walstore import FileWALManager
from walstore.docstore import DocumentStore

warned = threading.Event()

class Warned(logging.Handler):
    def emit(self, record):
        assert record.getMessage().endswith(": no memory"), record.getMessage()
        warned.set()

path = Path(sys.argv[1])
with (
    FileWALManager(path, sync="os", segment_bytes=32 << 20) as log,
    DocumentStore(log, checkpoint_bytes=20 << 20) as store,
):
    things = store["things"]
    things.insert_one({"_id": 0, "pad": b"x" * (15 << 20)})
    for number in range(1, 100):
        things.insert_one({"_id": number, "pad": b"x" * 1000}, concern="local")
    logging.getLogger("walstore.docstore").addHandler(Warned())
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    unlimited = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + (8 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, unlimited[1]))
    while not warned.is_set() and number < 10_000:
        number += 1
        things.insert_one({"_id": number, "pad": b"x" * 1000}, concern="local")
    assert warned.wait(30), number
    resource.setrlimit(resource.RLIMIT_AS, unlimited)
    assert not list(path.glob("documents/snapshot-*"))
    things.insert_one({"_id": "more", "pad": b"x" * (3 << 20)})
    until(lambda: list(path.glob("documents/snapshot-*")), "the next checkpoint is made")
"""


def test_a_checkpoint_without_memory_is_tried_again_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")  # what a thread's own has in reserve is no limit
    run_child(NO_MEMORY, tmp_path / "log")


def frames_of(*sizes_bytes: int) -> list[int]:
    """The lengths of a snapshot's frames with documents of these sizes."""
    pads = {size: b"x" * size for size in sizes_bytes}
    documents = [{"_id": at, "pad": pads[size]} for at, size in enumerate(sizes_bytes)]
    position = snapshot.Position("ab" * 16, 9, 3, 8)
    frames = [len(frame) for frame in snapshot.write(position, [("things", [], documents)])]
    assert sum(frames) > sum(sizes_bytes)
    written = memoryview(b"".join(snapshot.write(position, [("things", [], documents)])))
    state = snapshot.read("snapshot", written)[1]
    assert list(state.collection("things").documents.values()) == documents
    return frames[1:]


def test_a_snapshots_batches_are_bounded_by_their_bytes() -> None:
    large, small = 1 << 20, 100
    most = snapshot.BATCH_BYTES + large + 100
    for sizes in (
        [large] * 300,
        [small] * 600 + [large] * 300,
        [small, large] * 300,
        ([small] * 2600 + [large]) * 3,
    ):
        assert max(frames_of(*sizes)) < most, "none holds many large ones"
    assert len(frames_of(*[small] * 10_000)) < 10, "small ones share one"
    assert frames_of() == []
