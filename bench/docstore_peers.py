"""The document store beside what a Python user would take instead: a part of
``python -m bench.docstore``.

sqlite3 with a JSON column, an index on a path of it, WAL and synchronous=FULL: as durable as the
store. montydb on its sqlite storage (synchronous=NORMAL: a power loss may take the last commits)
and mongita on files (never synced) promise less; they are measured where they are installed.
"""

from __future__ import annotations

import gc
import importlib
import json
import sqlite3
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from walstore import FileWALManager
from walstore.docstore import DocumentStore
from walstore.docstore.prepare import new_documents

Document = dict[str, Any]


class Peer(Protocol):
    """A collection with an index on `n`."""

    def insert_one(self, document: Document, /) -> object: ...
    def insert_many(self, documents: Iterable[Document], /) -> object: ...
    def find(self, n: int, /) -> Document: ...
    def close(self) -> None: ...


class Store:
    """walstore's document store, durable."""

    def __init__(self, folder: Path) -> None:
        self._log = FileWALManager(folder)
        self._store = DocumentStore(self._log)
        self._things = self._store["things"]
        self._things.create_index("n")
        self.insert_one = self._things.insert_one
        self.insert_many = self._things.insert_many

    def find(self, n: int) -> Document:
        found = self._things.find_one({"n": n})
        assert found is not None
        return found

    def close(self) -> None:
        self._store.close()
        self._log.close()


class SQLite:
    """One connection behind a lock: measured to be faster than one a thread."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        path = folder / "documents.sqlite"
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE things (id TEXT PRIMARY KEY, doc TEXT) WITHOUT ROWID")
        self._db.execute("CREATE INDEX things_n ON things (json_extract(doc, '$.n'))")
        self._lock = threading.Lock()

    def insert_one(self, document: Document) -> None:
        row = document["_id"], json.dumps(document)
        with self._lock:
            self._db.execute("INSERT INTO things VALUES (?, ?)", row)

    def insert_many(self, documents: Iterable[Document]) -> None:
        rows = [(document["_id"], json.dumps(document)) for document in documents]
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO things VALUES (?, ?)", rows)
        self._db.execute("COMMIT")

    def find(self, n: int) -> Document:
        query = "SELECT doc FROM things WHERE json_extract(doc, '$.n') = ?"
        found: Document = json.loads(self._db.execute(query, (n,)).fetchone()[0])
        return found

    def close(self) -> None:
        self._db.close()


class Monty:
    """montydb, which has no indexes."""

    def __init__(self, folder: Path) -> None:
        module: Any = importlib.import_module("montydb")
        module.set_storage(str(folder), storage="sqlite", use_bson=False, mongo_version="4.0")
        self._client = module.MontyClient(str(folder))
        self._things = self._client["db"]["things"]
        self.insert_one: Callable[[Document], object] = self._things.insert_one
        self.insert_many: Callable[[Iterable[Document]], object] = self._things.insert_many

    def find(self, n: int) -> Document:
        found: Document = self._things.find_one({"n": n})
        return found

    def close(self) -> None:
        self._client.close()


class Mongita:
    """mongita, on files."""

    def __init__(self, folder: Path) -> None:
        module: Any = importlib.import_module("mongita")
        self._client = module.MongitaClientDisk(host=str(folder))
        self._things = self._client["db"]["things"]
        self.insert_one: Callable[[Document], object] = self._things.insert_one

    def insert_many(self, documents: Iterable[Document]) -> None:
        self._things.insert_many(list(documents))
        self._things.create_index("n")

    def find(self, n: int) -> Document:
        found: Document = self._things.find_one({"n": n})
        return found

    def close(self) -> None:
        self._client.close()


PEERS: dict[str, Callable[[Path], Peer]] = {
    "walstore": Store,
    "sqlite3 FULL": SQLite,
    "montydb": Monty,
    "mongita": Mongita,
}
DURABLE = ("walstore", "sqlite3 FULL")
THREADS = 16


@contextmanager
def opened(folder: Path, names: Iterable[str]) -> Iterator[dict[str, Peer]]:
    """Those of the peers that are installed, by name, each in a directory of its own."""
    folder.mkdir()
    peers: dict[str, Peer] = {}
    try:
        for name in names:
            try:
                peers[name] = PEERS[name](folder / name.replace(" ", "-"))
            except ImportError:
                print(f"{name} is not installed")
        yield peers
    finally:
        for peer in peers.values():
            peer.close()


def report(what: str, rates: dict[str, float]) -> None:
    """Rates, and walstore's in terms of each other one."""
    ours = rates.pop("walstore")
    others = (f"{name} {rate:,.0f} ({ours / rate:.2f} times)" for name, rate in rates.items())
    print(f"{what}: walstore {ours:,.0f} a second; {'; '.join(others)}")


def singles(folder: Path, count: int, make: Callable[[int], Document]) -> None:
    """insert_one, in turns, so that all see the same disk."""
    took: dict[str, list[float]] = {}
    with opened(folder, PEERS) as peers:
        for at in range(count):
            for name, peer in peers.items():
                document = make(at)
                start = time.perf_counter()
                peer.insert_one(document)
                took.setdefault(name, []).append(time.perf_counter() - start)
    report("insert_one", {name: 1 / statistics.median(each) for name, each in took.items()})


def threads(folder: Path, count: int, make: Callable[[int], Document]) -> None:
    """insert_one from many threads, each durable when it returns; and what they come to without a
    store, that each prepares its document for one and appends it to a bare log."""
    rates = {}
    with opened(folder, DURABLE) as peers:
        for name, peer in peers.items():
            rates[name] = count / _together(peer.insert_one, count, make)
    with FileWALManager(folder / "bare") as log:

        def append(document: Document) -> None:
            ((_id_key, _copy, operation),) = new_documents("things", [document], str)
            log.append(operation)

        rates["prepared and appended"] = count / _together(append, count, make)
    report(f"insert_one from {THREADS} threads", rates)


def _together(
    insert: Callable[[Document], object], count: int, make: Callable[[int], Document]
) -> float:
    """How long all take together."""
    barrier = threading.Barrier(THREADS + 1)

    def work(first: int) -> None:
        barrier.wait()
        for at in range(first, count, THREADS):
            insert(make(at))

    workers = [threading.Thread(target=work, args=(first,)) for first in range(THREADS)]
    for worker in workers:
        worker.start()
    barrier.wait()
    start = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


def batches(folder: Path, count: int, make: Callable[[int], Document]) -> None:
    """insert_many, atomic and durable (mongita: neither), then find by the indexed field."""
    inserts, finds = {}, {}
    with opened(folder, PEERS) as peers:
        for name, peer in peers.items():
            documents = list(map(make, range(count)))
            gc.collect()  # what was left by the one before is not this one's
            start = time.perf_counter()
            peer.insert_many(documents)
            inserts[name] = count / (time.perf_counter() - start)
            asked = 5 if name == "montydb" else 2000
            start = time.perf_counter()
            for at in range(asked):
                n = at * 7919 % count
                assert peer.find(n)["n"] == n
            finds[name] = asked / (time.perf_counter() - start)
    report(f"insert_many of {count:,}", inserts)
    report(f"find of one by n, of {count:,}", finds)


def compare(folder: Path, count: int, make: Callable[[int], Document]) -> None:
    """All of it."""
    singles(folder / "singles", 300, make)
    threads(folder / "threads", 4800, make)
    batches(folder / "batches", count, make)


def blocked(store: DocumentStore, make: Callable[[int], Document]) -> None:
    """How long a writer waits for insert_one, before and during a checkpoint of all documents."""
    beside = store["beside"]

    def inserts(until: Callable[[int], bool]) -> list[float]:
        took: list[float] = []
        while not until(len(took)):
            start = time.perf_counter()
            beside.insert_one(make(0) | {"_id": f"{len(took)} {start}"}, concern="local")
            took.append(time.perf_counter() - start)
        return took

    total = store["things"].count_documents({})
    before = inserts(lambda number: number >= 2000)
    checkpoint = threading.Thread(target=store.checkpoint)
    checkpoint.start()
    during = inserts(lambda number: not checkpoint.is_alive() and number > 0)
    checkpoint.join()
    print(
        f"a writer during a checkpoint of {total:,}: p99 {_p99(during) * 1e3:.2f} ms, longest "
        f"{max(during) * 1e3:.1f} ms, of {len(during):,}; before: p99 {_p99(before) * 1e3:.2f} ms, "
        f"longest {max(before) * 1e3:.1f} ms"
    )


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)] if len(values) > 1 else values[0]
