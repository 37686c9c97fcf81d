"""What can go wrong, as a tree.

WALStoreError
    OptionError (ValueError)                an option that makes no sense
    PayloadTypeError (TypeError)            not bytes-like
    PayloadTooLargeError (ValueError)       beyond `limits.PAYLOAD_BYTES_MAX` or the batch's limit
    LSNOutOfRangeError (IndexError)         an lsn that the log does not hold
        EntryTruncatedError                 an entry that was waited for, or followed, was truncated
    ClosedLogError (ValueError)             the log is closed
    ReadOnlyLogError                        a write to a log that was opened to read
    CommitTimeoutError (TimeoutError)       not known to be durable in time; it may still become so
    LogOpenError
        NotALogError                        nothing there, or something else
        LogLockedError (BlockingIOError)    another writer has it
        LogAccessError (OSError)            the system refused: permission, missing parent, I/O
        ReplicatedLogError                  a node's log: for that node alone to write to
        UnsupportedFormatError              written by a newer walstore
    RefusedRecordsError (ValueError)        raw records that are damaged, or do not follow
    CorruptLogError                         bytes that were durable are damaged or missing
    LogFullError (OSError)                  no space; this append failed whole, later ones may not
    LogPoisonedError (OSError)              a write or sync failed; reopen to go on

Each error carries its data as attributes and a `hint`: what a person can do next.
"""

from __future__ import annotations

import errno as errno_codes
import os
from typing import Any

__all__ = [
    "ClosedLogError",
    "CommitTimeoutError",
    "CorruptLogError",
    "EntryTruncatedError",
    "LSNOutOfRangeError",
    "LogAccessError",
    "LogFullError",
    "LogLockedError",
    "LogOpenError",
    "LogPoisonedError",
    "NotALogError",
    "OptionError",
    "PayloadTooLargeError",
    "PayloadTypeError",
    "ReadOnlyLogError",
    "RefusedRecordsError",
    "ReplicatedLogError",
    "UnsupportedFormatError",
    "WALStoreError",
]


def _restore(kind: type[WALStoreError], args: tuple[Any, ...], data: dict[str, Any]) -> Any:
    error = kind.__new__(kind)
    if isinstance(error, OSError):
        OSError.__init__(error, *args)
    else:
        error.args = args
    error.__dict__.update(data)
    return error


class WALStoreError(Exception):
    """Base of every error walstore raises."""

    hint: str = ""

    def __str__(self) -> str:
        # The message alone, also where OSError would put its number before it.
        return str(self.args[-1]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors are built from their data and not from their args, so pickle needs help.
        return _restore, (type(self), self.args, self.__dict__)


class OptionError(WALStoreError, ValueError):
    """An option has a value that makes no sense."""


class PayloadTypeError(WALStoreError, TypeError):
    """A payload is not bytes, bytearray or a contiguous memoryview."""

    hint = "encode it first, for example json.dumps(value).encode()"


class PayloadTooLargeError(WALStoreError, ValueError):
    """A payload, or a batch, is larger than the documented maximum."""

    hint = "store it in parts"

    def __init__(self, what: str, size_bytes: int, max_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.max_bytes = max_bytes
        super().__init__(f"{what} of {size_bytes} bytes is larger than {max_bytes} bytes")


class LSNOutOfRangeError(WALStoreError, IndexError):
    """The log does not hold this lsn: not yet, or no longer."""

    def __init__(self, lsn: int, first_lsn: int, last_lsn: int) -> None:
        self.lsn = lsn
        self.first_lsn = first_lsn
        self.last_lsn = last_lsn
        super().__init__(f"lsn {lsn} is out of range: the log holds {self._held()}")

    def _held(self) -> str:
        if self.last_lsn < self.first_lsn:
            return "no entries"
        return f"{self.first_lsn} to {self.last_lsn}"


class EntryTruncatedError(LSNOutOfRangeError):
    """An entry that was waited for, or that a tail had passed, was dropped by truncate_after. What
    has its lsn now is another entry."""

    hint = "find the last entry that both histories have, and go on from there"

    def __init__(self, lsn: int, first_lsn: int, last_lsn: int) -> None:
        super().__init__(lsn, first_lsn, last_lsn)
        self.args = (f"entry {lsn} was truncated away; the log holds {self._held()}",)


class ClosedLogError(WALStoreError, ValueError):
    """The log, or the tail of it, is closed."""


class ReadOnlyLogError(WALStoreError):
    """The log was opened with read_only=True."""

    hint = "open it without read_only=True to write"

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path} is open for reading only")


class CommitTimeoutError(WALStoreError, TimeoutError):
    """The entry was not known to be durable in time. That says nothing of its fate."""

    def __init__(self, lsn: int, timeout_s: float) -> None:
        self.lsn = lsn
        self.timeout_s = timeout_s
        super().__init__(
            f"lsn {lsn} is not known to be durable after {timeout_s:g} s; it may still become so"
        )


class RefusedRecordsError(WALStoreError, ValueError):
    """Raw records of another log are damaged, or do not follow the end of this one. None of them
    was appended."""

    hint = "ask for them again, from the end of this log on"

    def __init__(self, lsn: int, reason: str) -> None:
        self.lsn = lsn
        self.reason = reason
        super().__init__(f"records were refused at lsn {lsn}: {reason}")


class LogOpenError(WALStoreError):
    """A log could not be opened."""


class NotALogError(LogOpenError):
    """The path does not hold a log."""

    def __init__(self, path: str, reason: str, hint: str = "") -> None:
        self.path = path
        self.reason = reason
        self.hint = hint
        super().__init__(f"{path} is not a log: {reason}")


class LogLockedError(LogOpenError, BlockingIOError):
    """Another writer has the log open. Readers are not affected."""

    hint = "close the other writer, or open with read_only=True"

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(errno_codes.EWOULDBLOCK, f"{path} is open in another writer")


class LogAccessError(LogOpenError, OSError):
    """The system refused access to a file of the log."""

    def __init__(self, error: int, path: str, what: str) -> None:
        self.path = path
        self.what = what
        super().__init__(error, f"{what} {path}: {os.strerror(error)}")


class ReplicatedLogError(LogOpenError):
    """The log is that of a node of a cluster, which alone may write to it: an entry that another
    writer gave an lsn in the node's term would be a second one of that name. Nothing was
    changed."""

    hint = (
        "open it with ReplicationWALManager, as 'walstore serve' does, and append on the leader; "
        "to read it, give read_only=True"
    )

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path} is the log of a node of a cluster: only that node writes to it")


class UnsupportedFormatError(LogOpenError):
    """The file has a format version or a flag that this walstore does not know."""

    hint = "open it with the walstore that wrote it, or a newer one"

    def __init__(self, path: str, what: str) -> None:
        self.path = path
        super().__init__(f"{path}: {what} is not known to this version of walstore")


class CorruptLogError(WALStoreError):
    """Bytes that had been durable are damaged or missing. Nothing was changed."""

    hint = (
        "do not write to this directory; copy it, run 'walstore verify' on the copy, and restore "
        "the file from a replica or a backup"
    )

    def __init__(self, path: str, offset: int, lsn: int, reason: str) -> None:
        self.path = path
        self.offset = offset
        self.lsn = lsn
        self.reason = reason
        super().__init__(f"{path} is damaged at offset {offset} (lsn {lsn}): {reason}")


class LogFullError(WALStoreError, OSError):
    """There was no space. The append failed whole; the log stays readable, and appends work
    again once there is space."""

    hint = "free space, or call truncate_before; then append again"

    def __init__(self, error: int, path: str) -> None:
        self.path = path
        super().__init__(error, f"no space for {path}: {os.strerror(error)}")


class LogPoisonedError(WALStoreError, OSError):
    """A write or sync failed. What was acked before is safe; nothing more is accepted."""

    hint = "find out what ails the disk, then close and reopen the log: it will be scanned"

    def __init__(self, error: int, path: str) -> None:
        self.path = path
        super().__init__(
            error, f"{path} accepts nothing more after a failed write or sync: {os.strerror(error)}"
        )
