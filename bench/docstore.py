"""The document store beside what it is made of, and beside what one would use instead:
``python -m bench.docstore``; two minutes. ``--big``: snapshots of a million documents, too.

Ratios of one run count, absolute figures do not. Each figure is the median of some rounds; what
waits for no disk is measured in processor time, which other programs disturb less.
The filters are compared with mongoquery, and the store with montydb, mongita and TinyDB, where they
are installed.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sortedcontainers import SortedDict

from bench import docstore_peers
from bench.peers.machine import require_disk
from bench.peers.run import REPOSITORY
from walstore import FileWALManager
from walstore.docstore import DocumentStore
from walstore.docstore.query import compile_filter

ROUNDS = 5


def median_s(run: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """How much processor time a call takes, in seconds."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return statistics.median(times)


def some_document(at: int) -> dict[str, Any]:
    return {
        "_id": f"{at:08}",
        "name": f"name {at % 1000}",
        "n": at,
        "tags": ["red", "green", "blue"][: at % 4],
        "address": {"city": f"city {at % 50}", "zip": at % 997},
    }


def inserts(folder: Path, count: int) -> None:
    """insert_one, durable, beside appends of the same bytes to a bare log; in turns."""
    with (
        FileWALManager(folder / "bare") as bare,
        FileWALManager(folder / "store") as log,
        DocumentStore(log) as store,
    ):
        things = store["things"]
        payload = b"x" * 110
        append_s, insert_s = [], []
        for at in range(count):
            start = time.perf_counter()
            bare.append(payload)
            middle = time.perf_counter()
            things.insert_one(some_document(at))
            append_s.append(middle - start)
            insert_s.append(time.perf_counter() - middle)
    append, insert = statistics.median(append_s), statistics.median(insert_s)
    print(f"insert_one, durable: {insert * 1e6:.0f} us; append {append * 1e6:.0f} us", end="")
    print(f"; {append / insert:.2f} of the bare log's rate")


def queries(store: DocumentStore, count: int) -> None:
    things = store["things"]
    things.insert_many(map(some_document, range(count)))
    things.create_index("n")
    asked = 20_000

    def by_key(name: str, make: Callable[[int], Any]) -> None:
        def run() -> None:
            for at in range(asked):
                things.find_one({name: make(at)})

        print(f"find_one by {name}: {asked / median_s(run):,.0f} a second")

    by_key("n", lambda at: at)
    by_key("_id", lambda at: f"{at:08}")
    wanted = {"n": {"$gte": 5000, "$lt": 5100}}
    took = median_s(lambda: [things.find(wanted).to_list() for _ in range(100)])
    walk = SortedDict((at, some_document(at)) for at in range(count))
    plain = median_s(lambda: [list(map(walk.get, walk.irange(5000, 5099))) for _ in range(100)])
    print(f"range of 100 by index: {took * 1e4:.0f} us; ", end="")
    print(f"a walk of a SortedDict {plain * 1e4:.0f} us, {took / plain:.1f} times as quick")


FILTERS: list[Any] = [
    {"n": 77},
    {"name": "name 77", "n": {"$gt": 500}},
    {"address.city": "city 7"},
    {"$or": [{"n": {"$lt": 50}}, {"address.zip": {"$in": [1, 2, 3]}}]},
    {"tags": "blue"},
]


def matching(match: Callable[[Any], Any], documents: list[Any]) -> int:
    """How many documents match."""
    return sum(map(match, documents))


def filters(store: DocumentStore, count: int) -> None:
    """Each filter over all documents: the store's scan, and mongoquery's plain loop."""
    documents = [some_document(at) for at in range(count)]
    try:
        peer: Any = importlib.import_module("mongoquery")
    except ImportError:
        peer = None
    things = store["things"]
    for query in FILTERS:
        scan = median_s(partial(things.count_documents, query), 3)
        loop = median_s(partial(matching, compile_filter(query).match, documents), 3)
        line = (
            f"scan of {count:,} for {query}: {scan * 1e3:.0f} ms (matching alone {loop * 1e3:.0f})"
        )
        if peer is not None:
            other = median_s(partial(matching, peer.Query(query).match, documents), 3)
            line += f"; mongoquery {other * 1e3:.0f} ms, {other / scan:.1f} times as long"
        print(line)


def snapshots(store: DocumentStore, count: int) -> None:
    took = median_s(store.checkpoint, 1)
    print(f"checkpoint: {count / took:,.0f} documents a second")
    store.close()
    took = median_s(lambda: DocumentStore(store.log, checkpoint_bytes=None), 3)
    print(f"open: {count / took:,.0f} documents a second")


def itself(folder: Path, count: int, big: bool) -> None:
    """The store beside the bare log, and its own parts."""
    inserts(folder, 3000)
    with FileWALManager(folder / "log", sync="os") as log:
        store = DocumentStore(log, checkpoint_bytes=None)
        queries(store, count)
        store["things"].drop_index("n_1")
        filters(store, count)
        if big:
            store["things"].insert_many(map(some_document, range(count, 1_000_000)))
            count = 1_000_000
        docstore_peers.blocked(store, some_document)
        snapshots(store, count)


def peers(folder: Path, count: int, _big: bool) -> None:
    docstore_peers.compare(folder, count, some_document)


def tinydb(folder: Path, _count: int, _big: bool) -> None:
    try:
        part: Any = importlib.import_module("bench.docstore_tinydb")
    except ImportError:
        print("TinyDB is not installed")
    else:
        part.compare(folder, 10_000)


PARTS = {"itself": itself, "peers": peers, "tinydb": tinydb}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="documents")
    parser.add_argument("--big", action="store_true", help="snapshots of a million documents")
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--dir", type=Path, default=REPOSITORY / "build" / "bench")
    options = parser.parse_args()
    options.dir.mkdir(parents=True, exist_ok=True)
    require_disk(options.dir)
    for part in [options.only] if options.only else PARTS:
        with tempfile.TemporaryDirectory(dir=options.dir) as name:
            PARTS[part](Path(name), options.count, options.big)


if __name__ == "__main__":
    main()
