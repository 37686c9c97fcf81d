"""The peers that a Python user can install: sqlite3, LMDB and RocksDB, set up to be fair to them.

Each is durable in the way its documentation says, and the run counts the disk's flushes to see that
it is so.  Keys are consecutive numbers, so that every tree only grows at its right edge.
"""

from __future__ import annotations

import importlib
import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

LMDB_MAP_BYTES = 64 << 30  # address space only; the largest row stores 4 GiB


class SQLite:
    """One connection in WAL mode, a rowid table; one transaction per append.

    FULL syncs the WAL at every commit.  NORMAL syncs only at checkpoints: a crash of the machine
    loses the latest commits.
    """

    needs_lock = True  # measured: a connection per thread is slower than one behind a lock

    def __init__(self, path: Path, synchronous: Literal["FULL", "NORMAL"]) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.db = sqlite3.connect(
            path / "log.sqlite", isolation_level=None, check_same_thread=False
        )
        mode = self.db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        assert mode == "wal", mode
        self.db.execute(f"PRAGMA synchronous={synchronous}")
        level = self.db.execute("PRAGMA synchronous").fetchone()[0]
        assert level == {"FULL": 2, "NORMAL": 1}[synchronous], level
        self.db.execute("CREATE TABLE IF NOT EXISTS log(lsn INTEGER PRIMARY KEY, payload BLOB)")

    def append(self, payload: bytes, /) -> None:
        # Autocommit: each INSERT is a transaction of its own, synced before execute() returns.
        self.db.execute("INSERT INTO log(payload) VALUES (?)", (payload,))

    def append_many(self, payloads: Sequence[bytes], /) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany("INSERT INTO log(payload) VALUES (?)", zip(payloads, strict=True))
        self.db.execute("COMMIT")

    def read(self, lsn: int, /) -> object:
        return self.db.execute("SELECT payload FROM log WHERE lsn = ?", (lsn,)).fetchone()

    def replay(self) -> Iterator[object]:
        cursor = self.db.execute("SELECT lsn, payload FROM log ORDER BY lsn")
        return cursor

    def count(self) -> int:
        last = self.db.execute("SELECT max(lsn) FROM log").fetchone()[0]
        return int(last or 0)

    def close(self) -> None:
        self.db.close()


class LMDB:
    """One environment, 8-byte big-endian keys, appended at the end; one transaction per append.

    With ``sync`` a commit flushes the data and then the meta page: two flushes, it needs both.
    Without, a crash of the machine may corrupt the database.
    """

    needs_lock = False  # LMDB has one writer at a time by itself

    def __init__(self, path: Path, *, sync: bool) -> None:
        lmdb: Any = importlib.import_module("lmdb")
        path.mkdir(parents=True, exist_ok=True)
        self.env = lmdb.open(str(path), map_size=LMDB_MAP_BYTES, sync=sync, metasync=sync)
        self.sync = sync
        self.last = self.count()

    def append(self, payload: bytes, /) -> None:
        with self.env.begin(write=True) as txn:
            self.last += 1  # inside the transaction, hence by one thread at a time
            txn.put(self.last.to_bytes(8, "big"), payload, append=True)

    def append_many(self, payloads: Sequence[bytes], /) -> None:
        with self.env.begin(write=True) as txn:
            for payload in payloads:
                self.last += 1
                txn.put(self.last.to_bytes(8, "big"), payload, append=True)

    def read(self, lsn: int, /) -> object:
        with self.env.begin() as txn:
            return txn.get(lsn.to_bytes(8, "big"))

    def replay(self) -> Iterator[object]:
        # The iterator itself, not a generator around it: nothing of ours slows it down.
        return iter(self.env.begin().cursor())

    def count(self) -> int:
        with self.env.begin() as txn, txn.cursor() as cursor:
            return int.from_bytes(cursor.key(), "big") if cursor.last() else 0

    def close(self) -> None:
        if not self.sync:
            self.env.sync(True)  # a clean close; only without sync is anything left to do
        self.env.close()


class RocksDB:
    """RocksDB by rocksdict: raw bytes, its write-ahead log on, no compression.

    With ``sync`` every write flushes that log.  Without, it survives a crash of the process only.
    """

    needs_lock = False  # RocksDB queues its writers by itself

    def __init__(self, path: Path, *, sync: bool) -> None:
        rocksdict: Any = importlib.import_module("rocksdict")
        path.parent.mkdir(parents=True, exist_ok=True)
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_compression_type(rocksdict.DBCompressionType.none())
        self.db = rocksdict.Rdict(str(path), options)
        write_options = rocksdict.WriteOptions()
        write_options.sync = sync
        write_options.disable_wal = False
        assert write_options.sync is sync
        self.db.set_write_options(write_options)
        self.new_batch = rocksdict.WriteBatch
        self.numbers = itertools.count(self.count() + 1)  # next() is one step under the GIL

    def append(self, payload: bytes, /) -> None:
        self.db[next(self.numbers).to_bytes(8, "big")] = payload

    def append_many(self, payloads: Sequence[bytes], /) -> None:
        batch = self.new_batch(raw_mode=True)
        for payload in payloads:
            batch[next(self.numbers).to_bytes(8, "big")] = payload
        self.db.write(batch)

    def read(self, lsn: int, /) -> object:
        return self.db[lsn.to_bytes(8, "big")]

    def replay(self) -> Iterator[object]:
        return iter(self.db.items())

    def count(self) -> int:
        cursor = self.db.iter()
        cursor.seek_to_last()
        return int.from_bytes(cursor.key(), "big") if cursor.valid() else 0

    def close(self) -> None:
        self.db.close()
