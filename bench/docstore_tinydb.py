"""TinyDB on a log beside TinyDB on its JSON file: a part of ``python -m bench.docstore``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinydb import TinyDB, where

from walstore.tinydb import WALStorage, WALTinyDB

OPERATIONS: list[tuple[str, int, Callable[[TinyDB, int], Any]]] = [
    ("insert", 15, lambda db, at: db.insert(small(at))),
    ("get by id", 15, lambda db, at: db.get(doc_id=at + 1)),
    ("search", 7, lambda db, at: db.search(where("n") == at)),
    ("update of one, by a query", 7, lambda db, at: db.update({"m": at}, where("n") == at)),
    ("update of all", 3, lambda db, at: db.update({"all": at})),
    ("insert_multiple of all", 1, lambda db, at: db.insert_multiple(map(small, range(at)))),
]


def small(at: int) -> dict[str, Any]:
    """A document of some 90 bytes."""
    return {"name": f"name {at}", "n": at, "tags": ["red"], "address": {"zip": at % 997}}


def medians_s(db: TinyDB, count: int) -> dict[str, float]:
    """How long a caller waits for each operation on a table of `count` documents."""
    took = {}
    for name, rounds, operation in OPERATIONS:
        times = []
        for at in [count] if rounds == 1 else range(rounds):
            start = time.perf_counter()
            operation(db, at)
            times.append(time.perf_counter() - start)
        took[name] = statistics.median(times)
    db.close()
    return took


def compare(folder: Path, count: int) -> None:
    """Each operation on a table of `count` documents, durable."""
    databases = {
        "JSON": TinyDB(folder / "tinydb.json"),
        "WALStorage": TinyDB(folder / "stock", storage=WALStorage),
        "WALTinyDB": WALTinyDB(folder / "table"),
    }
    took = {}
    for name, db in databases.items():
        db.insert_multiple(map(small, range(count)))
        took[name] = medians_s(db, count)
    for name, _rounds, _operation in OPERATIONS:
        json_s = took["JSON"][name]
        line = f"TinyDB of {count:,}, {name}: JSON {json_s * 1e3:.2f} ms"
        for other in ("WALStorage", "WALTinyDB"):
            other_s = took[other][name]
            line += f"; {other} {other_s * 1e3:.3f} ms, {json_s / other_s:.2f} times the rate"
        print(line)
