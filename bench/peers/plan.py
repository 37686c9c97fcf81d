"""What is measured: the contenders by name, and the rows of work they do."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from bench.peers.databases import LMDB, RocksDB, SQLite
from bench.peers.stores import RawFile, Store, SyncPolicy, WalStore

Family = Literal["walstore", "raw", "sqlite", "lmdb", "rocksdict"]
Work = Literal[
    "append",
    "threads",
    "batch",
    "pipelined",
    "asyncio",
    "verify",
    "replay",
    "random_read",
    "reopen",
    "memory",
]

SEED = 20250101


@dataclass(frozen=True)
class Contender:
    """A store in one configuration."""

    name: str
    family: Family
    open: Callable[[Path, int], Store]  # directory, bytes of a record
    promise: str  # what is safe when a call has returned
    builder: str = ""  # the contender that prepares its data quickly, for rows that only read

    @property
    def package(self) -> str:
        """The module that must be importable for this contender to take part."""
        return {"raw": "os", "sqlite": "sqlite3"}.get(self.family, self.family)


DURABLE = "survives power loss"
KERNEL = "survives kill -9, not power loss"


def _walstore(path: Path, _record_bytes: int, *, sync: SyncPolicy) -> Store:
    return WalStore(path, sync)


def _raw(path: Path, record_bytes: int, *, sync: bool, preallocated: bool) -> Store:
    return RawFile(path, record_bytes, sync=sync, preallocated=preallocated)


def _sqlite(path: Path, _record_bytes: int, *, synchronous: Literal["FULL", "NORMAL"]) -> Store:
    return SQLite(path, synchronous)


def _lmdb(path: Path, _record_bytes: int, *, sync: bool) -> Store:
    return LMDB(path, sync=sync)


def _rocksdict(path: Path, _record_bytes: int, *, sync: bool) -> Store:
    return RocksDB(path, sync=sync)


_always = partial(_walstore, sync="always")
_normal = partial(_sqlite, synchronous="NORMAL")
_growing = partial(_raw, preallocated=False)
_preallocated = partial(_raw, preallocated=True)

CONTENDERS = {
    each.name: each
    for each in (
        Contender("walstore", "walstore", _always, DURABLE, "walstore-os"),
        Contender("walstore-wait-each", "walstore", _always, DURABLE),
        Contender(
            "walstore-interval",
            "walstore",
            partial(_walstore, sync="interval"),
            "survives kill -9; its sync begins within 50 ms",
        ),
        Contender("walstore-os", "walstore", partial(_walstore, sync="os"), KERNEL),
        Contender("raw-preallocated", "raw", partial(_preallocated, sync=True), DURABLE),
        Contender("raw-growing", "raw", partial(_growing, sync=True), DURABLE, "raw-growing-os"),
        Contender("raw-preallocated-os", "raw", partial(_preallocated, sync=False), KERNEL),
        Contender("raw-growing-os", "raw", partial(_growing, sync=False), KERNEL),
        Contender(
            "sqlite-full", "sqlite", partial(_sqlite, synchronous="FULL"), DURABLE, "sqlite-normal"
        ),
        Contender("sqlite-normal", "sqlite", _normal, KERNEL),
        Contender("lmdb", "lmdb", partial(_lmdb, sync=True), DURABLE, "lmdb-nosync"),
        Contender(
            "lmdb-nosync",
            "lmdb",
            partial(_lmdb, sync=False),
            "survives kill -9; power loss may corrupt the database",
        ),
        Contender(
            "rocksdict", "rocksdict", partial(_rocksdict, sync=True), DURABLE, "rocksdict-os"
        ),
        Contender("rocksdict-os", "rocksdict", partial(_rocksdict, sync=False), KERNEL),
    )
}

PEERS = ("sqlite-full", "lmdb", "rocksdict")
APPENDERS = ("walstore", "raw-preallocated", "raw-growing", *PEERS)
UNSYNCED = (
    "walstore-os",
    "walstore-interval",
    "raw-preallocated-os",
    "raw-growing-os",
    "sqlite-normal",
    "lmdb-nosync",
    "rocksdict-os",
)
READERS = ("walstore", "raw-growing", *PEERS)


@dataclass(frozen=True)
class Row:
    """One kind of work, done by several contenders."""

    name: str
    work: Work
    title: str
    payload_bytes: int
    contenders: tuple[str, ...]
    log: Literal["", "read", "small", "big"] = ""  # data prepared once per run, for reading
    rounds_max: int = 100


ROWS = (
    Row("append-128", "append", "Durable append, 1 thread, 128 B", 128, APPENDERS),
    Row("append-1k", "append", "Durable append, 1 thread, 1 KiB", 1 << 10, APPENDERS),
    Row("append-16k", "append", "Durable append, 1 thread, 16 KiB", 16 << 10, APPENDERS),
    Row("threads-128", "threads", "Durable append, 16 threads, 128 B", 128, APPENDERS),
    Row("batch-128", "batch", "Durable append_many of 100, 128 B", 128, APPENDERS),
    Row("batch-1k", "batch", "Durable append_many of 100, 1 KiB", 1 << 10, APPENDERS),
    Row(
        "pipelined-128",
        "pipelined",
        "Durable, 128 B, 1 thread: submit, 256 in flight (others: batches of 100)",
        128,
        ("walstore", "walstore-wait-each", "raw-preallocated", *PEERS),
    ),
    Row(
        "asyncio-128",
        "asyncio",
        "Durable, 128 B, 256 asyncio tasks (others block the loop)",
        128,
        ("walstore", "raw-preallocated", *PEERS),
    ),
    Row("os-128", "append", "Append without waiting for the disk, 128 B", 128, UNSYNCED),
    Row("os-1k", "append", "Append without waiting for the disk, 1 KiB", 1 << 10, UNSYNCED),
    Row(
        "verify-1k",
        "verify",
        "Check every 1 KiB record (raw: read in blocks of 1 MiB, check nothing)",
        1 << 10,
        ("walstore", "raw-growing"),
        "read",
    ),
    Row("replay-1k", "replay", "Replay 1 KiB records into Python", 1 << 10, READERS, "read"),
    Row("read-1k", "random_read", "Read 1 KiB records at random", 1 << 10, READERS, "read"),
    Row("reopen-small", "reopen", "Reopen a small log after kill -9", 1 << 10, READERS, "small"),
    Row("reopen-big", "reopen", "Reopen a big log after kill -9", 1 << 10, READERS, "big"),
    Row(
        "memory",
        "memory",
        "Memory while a big log is written and replayed",
        1 << 10,
        ("walstore", "raw-growing", *PEERS),
        rounds_max=1,
    ),
)


@dataclass(frozen=True)
class Settings:
    """The sizes of a run, the same for every contender."""

    rounds: int = 5
    seconds: float = 1.0  # counted time of a measurement
    warmup_s: float = 0.2
    window: int = 256  # pipelined submit: records not yet durable
    threads: int = 16
    in_flight: int = 256
    batch: int = 100
    read_mib: int = 1024
    small_mib: int = 100
    big_mib: int = 4096
    tail_mib: int = 16  # appended before each kill -9

    def log_mib(self, log: str) -> int:
        """Return the size of the data prepared for a row."""
        return {"read": self.read_mib, "small": self.small_mib, "big": self.big_mib}[log]


def quick(settings: Settings) -> Settings:
    """Return sizes that show the harness works, not figures to quote."""
    return Settings(
        rounds=1,
        seconds=min(settings.seconds, 0.2),
        warmup_s=0.05,
        read_mib=64,
        small_mib=20,
        big_mib=200,
        tail_mib=8,
    )


def payload_of(size: int) -> bytes:
    """Return the payload of a row: fixed, and incompressible."""
    return random.Random(SEED).randbytes(size)
