"""A store that is read while another process writes it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.docstore.sites import Site
from tests.helpers import child, end, expect_line
from walstore import FileWALManager, ReadOnlyLogError, WALEntry
from walstore.docstore import DocumentStore, SnapshotError, StoreLostError
from walstore.snapshot_files import SnapshotFiles


@contextmanager
def reading(path: Path) -> Iterator[DocumentStore]:
    with FileWALManager(path, read_only=True) as log, DocumentStore(log) as store:
        yield store


def everything(path: Path) -> dict[str, bytes]:
    """Every file below a directory, by name."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and "spare-" not in file.name
    }


def test_each_read_takes_in_what_came_since(site: Site) -> None:
    things = site.things()
    things.insert_one({"_id": 1})
    things.create_index("n")
    with reading(site.path) as store:
        view = store["things"]
        assert view.find().to_list() == [{"_id": 1}]
        assert [spec.name for spec in view.list_indexes()] == ["_id_", "n_1"]
        things.insert_many([{"_id": 2, "n": 5}, {"_id": 3}])
        assert view.find_one({"n": 5}) == {"_id": 2, "n": 5}
        assert view.count_documents({}) == 3
        things.delete_one({"_id": 2})
        site.things().drop()
        assert store.list_collection_names() == []


def test_a_read_waits_for_another_that_began_before_the_write(site: Site) -> None:
    """The other one takes in what there was when it began, which is not enough."""
    things = site.things()
    things.insert_one({"_id": 1})
    begun, sampled, go_on = threading.Event(), threading.Event(), threading.Event()

    class Slow(FileWALManager):
        def replay(self, *args: Any) -> Iterator[WALEntry]:
            if args and not begun.is_set():
                begun.set()
                assert go_on.wait(60)
            elif begun.is_set() and not go_on.is_set():
                sampled.set()
            return super().replay(*args)

    with reading(site.path) as store, ThreadPoolExecutor(2) as pool:
        things.insert_one({"_id": 2})
        store.log.__class__ = Slow
        try:
            first = pool.submit(store["things"].distinct, "_id")
            assert begun.wait(60)
            things.insert_one({"_id": 3})
            second = pool.submit(store["things"].distinct, "_id")
            assert sampled.wait(60)
            wait([second], timeout=0.2)  # time for an answer that does not wait
        finally:
            go_on.set()
        assert second.result(timeout=60) == [1, 2, 3]
        assert first.result(timeout=60)[:2] == [1, 2]
        store.log.__class__ = FileWALManager


def test_nothing_is_written(site: Site) -> None:
    things = site.things()
    things.insert_one({"_id": 1})
    before = everything(site.path)
    with reading(site.path) as store:
        view = store["things"]
        for write in (
            lambda: view.insert_one({}),
            lambda: view.update_many({}, {"$set": {"a": 1}}),
            lambda: view.delete_many({}),
            lambda: view.create_index("a"),
            lambda: view.drop(),
            store.checkpoint,
        ):
            with pytest.raises(ReadOnlyLogError):
                write()
        with store.transaction():
            assert view.find_one() == {"_id": 1}
            with pytest.raises(ReadOnlyLogError):
                view.insert_one({})
        assert view.find().to_list() == [{"_id": 1}]
    assert everything(site.path) == before


def test_a_directory_without_snapshots(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log:
        log.append(b"another kind of entry")
    before = sorted(os.listdir(tmp_path / "log"))
    with reading(tmp_path / "log") as store:
        assert store.list_collection_names() == []
    assert sorted(os.listdir(tmp_path / "log")) == before


def test_a_damaged_snapshot_stays_where_it_is(file_site: Site) -> None:
    things = file_site.things(checkpoint_bytes=None)
    for number in (1, 2, 3):
        things.insert_one({"_id": number})
        things._store.checkpoint()
    things.insert_one({"_id": 4})
    file_site.close()
    older, newest = sorted((file_site.path / "documents").iterdir())
    newest.write_bytes(newest.read_bytes()[:-1])
    (file_site.path / "documents" / "snapshot.new").write_bytes(
        b"of a checkpoint that is under way"
    )
    before = everything(file_site.path)
    with reading(file_site.path) as store:
        assert store["things"].distinct("_id") == [1, 2, 3, 4]
    older.write_bytes(b"")
    before[str(older.relative_to(file_site.path))] = b""
    with pytest.raises(SnapshotError, match="no snapshot can be used"), reading(file_site.path):
        pass
    assert everything(file_site.path) == before


def test_a_reader_that_slept_through_two_checkpoints(file_site: Site) -> None:
    things = file_site.things(checkpoint_bytes=None)
    things.insert_one({"_id": 0, "pad": "x" * 2000})
    with reading(file_site.path) as store:
        for number in range(1, 40):
            things.insert_one({"_id": number, "pad": "x" * 4000})
        things._store.checkpoint()
        with reading(file_site.path) as another:
            assert another["things"].count_documents({}) == 40
        things.insert_one({"_id": 40})
        things._store.checkpoint()
        assert file_site.log is not None
        assert file_site.log.first_lsn > 2
        assert store["things"].count_documents({}) == 41


def test_a_reader_that_is_overtaken_as_it_begins_anew(
    file_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry that its snapshot ends with is gone when it is compared."""
    things = file_site.things(checkpoint_bytes=None)
    things.insert_one({"_id": 0})

    def go_on() -> None:
        for _checkpoint in range(2):
            for _number in range(20):
                things.insert_one({"pad": "x" * 4000})
            things._store.checkpoint()

    with reading(file_site.path) as store:
        go_on()
        read, overtaken = FileWALManager.read, list[int]()

        def be_overtaken_and_read(self: FileWALManager, lsn: int) -> WALEntry:
            if self.read_only and not overtaken:
                overtaken.append(lsn)
                go_on()
            return read(self, lsn)

        monkeypatch.setattr(FileWALManager, "read", be_overtaken_and_read)
        with pytest.raises(StoreLostError, match="are not there any more"):
            store["things"].count_documents({})
        assert overtaken


def test_checkpoints_between_the_steps_of_opening(
    file_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    things = file_site.things(checkpoint_bytes=None)
    things.insert_one({"_id": 0})
    things._store.checkpoint()
    found = SnapshotFiles._found
    steps: list[list[int]] = []

    def found_and_overtaken(self: SnapshotFiles) -> list[int]:
        names = found(self)
        if self is not things._store._files and len(steps) < 6:
            steps.append(names)
            for _checkpoint in range(2):
                for _number in range(20):
                    things.insert_one({"pad": "x" * 4000})
                things._store.checkpoint()
        return names

    monkeypatch.setattr(SnapshotFiles, "_found", found_and_overtaken)
    with FileWALManager(file_site.path, read_only=True) as log:  # older than all of that
        with DocumentStore(log) as store:
            assert store["things"].count_documents({}) == things.count_documents({})
    assert len(steps) >= 2
    monkeypatch.setattr("walstore.docstore.store.OPEN_ATTEMPTS_MAX", 2)
    steps.clear()
    with pytest.raises(FileNotFoundError), reading(file_site.path):
        pass


WRITER = """
import sys
from walstore import FileWALManager
from walstore.docstore import DocumentStore

with (
    FileWALManager(sys.argv[1], segment_bytes=4096, sync="os") as log,
    DocumentStore(log, checkpoint_bytes=None) as store,
):
    pairs = store["pairs"]
    pairs.insert_many([{"_id": 0, "n": 0}, {"_id": 1, "n": 0}])
    print("ready", flush=True)
    number = 0
    while True:
        number += 1
        pairs.update_many({}, {"$set": {"n": number, "pad": "x" * 300}})
        if number % 3 == 0:
            store.checkpoint()
"""


def test_openings_beside_a_writer_that_makes_checkpoints(tmp_path: Path) -> None:
    """Whatever is removed between two steps of opening, what is found is whole and goes forward."""
    process = child(WRITER, tmp_path / "log")
    last = lost = openings = 0
    try:
        expect_line(process, "ready")
        while openings < 60 or last < 20:
            with reading(tmp_path / "log") as store:
                openings += 1
                try:
                    for _read in range(5):
                        one, two = store["pairs"].find().to_list()
                        assert one["n"] == two["n"] >= last
                        last = one["n"]
                except StoreLostError:
                    lost += 1
            assert process.poll() is None
            assert openings < 10_000
    finally:
        end(process)
    print(f"openings={openings} lost={lost} last={last}")
    assert lost < openings
