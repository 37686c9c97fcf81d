"""The durable, replicated write-ahead log for Python."""

# errors
from walstore.errors import (
    ClosedLogError,
    CommitTimeoutError,
    CorruptLogError,
    EntryTruncatedError,
    LogAccessError,
    LogFullError,
    LogLockedError,
    LogOpenError,
    LogPoisonedError,
    LSNOutOfRangeError,
    NotALogError,
    OptionError,
    PayloadTooLargeError,
    PayloadTypeError,
    ReadOnlyLogError,
    RefusedRecordsError,
    ReplicatedLogError,
    UnsupportedFormatError,
    WALStoreError,
)

# wal
from walstore.wal.commit import Commit
from walstore.wal.manager import FileWALManager
from walstore.wal.record import WALEntry
from walstore.wal.report import LogStats, Problem, VerifyReport
from walstore.wal.tail import Tail

__all__ = [
    "ClosedLogError",
    "Commit",
    "CommitTimeoutError",
    "CorruptLogError",
    "EntryTruncatedError",
    "FileWALManager",
    "LSNOutOfRangeError",
    "LogAccessError",
    "LogFullError",
    "LogLockedError",
    "LogOpenError",
    "LogPoisonedError",
    "LogStats",
    "NotALogError",
    "OptionError",
    "PayloadTooLargeError",
    "PayloadTypeError",
    "Problem",
    "ReadOnlyLogError",
    "RefusedRecordsError",
    "ReplicatedLogError",
    "Tail",
    "UnsupportedFormatError",
    "VerifyReport",
    "WALEntry",
    "WALStoreError",
]

__version__ = "0.1.0"
