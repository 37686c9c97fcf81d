"""What can go wrong with documents, as a tree.

WALStoreError
    DocumentStoreError
        InvalidDocumentError (ValueError)   a document or value that cannot be stored, and where
        QueryError (ValueError)             a filter, update, projection or sort that makes no sense
        NoSuchIndexError (LookupError)      an index that is not there
        IndexExistsError (ValueError)       an index of this name, with other keys
        DuplicateKeyError (ValueError)      a unique index, or _id, has this key already
        BulkWriteError                      one operation of bulk_write failed, and which
        ConflictError                       somebody else changed what this was computed from
        OutcomeUnknownError                 a write was interrupted: it is in the log or not
        TransactionError                    a call that has no place in a transaction, or outside
        ClosedStoreError (ValueError)       the store is closed
        StoreLostError                      the store is not what its log amounts to any more
        SnapshotError                       no snapshot is whole, and the log does not go back
        HistoryError (LookupError)          a place in the past that cannot be gone on from
        WaitTimeoutError (TimeoutError)     an entry was not applied here in time

Errors of the log (LogFullError, LogPoisonedError, NotLeaderError, ...) come through as they are.
"""

from __future__ import annotations

from typing import Any

from walstore.errors import WALStoreError

__all__ = [
    "BulkWriteError",
    "ClosedStoreError",
    "ConflictError",
    "DocumentStoreError",
    "DuplicateKeyError",
    "HistoryError",
    "IndexExistsError",
    "InvalidDocumentError",
    "NoSuchIndexError",
    "OutcomeUnknownError",
    "QueryError",
    "SnapshotError",
    "StoreLostError",
    "TransactionError",
    "WaitTimeoutError",
]


class DocumentStoreError(WALStoreError):
    """Base of the document store's own errors."""


class InvalidDocumentError(DocumentStoreError, ValueError):
    """A document that cannot be stored. Nothing was written."""

    def __init__(self, path: str, reason: str, hint: str = "") -> None:
        self.path = path
        self.reason = reason
        self.hint = hint
        super().__init__(f"{path or 'the document'}: {reason}")


class QueryError(DocumentStoreError, ValueError):
    """A filter, update, projection, sort or other argument makes no sense. Nothing was done."""

    def __init__(self, what: str, reason: str, hint: str = "") -> None:
        self.what = what
        self.reason = reason
        self.hint = hint
        super().__init__(f"{what}: {reason}")


class NoSuchIndexError(DocumentStoreError, LookupError):
    """The collection has no index of this name."""

    def __init__(self, collection: str, name: str, names: list[str]) -> None:
        self.collection = collection
        self.name = name
        self.hint = f"its indexes are {', '.join(names)}"
        super().__init__(f"collection {collection!r} has no index {name!r}")


class IndexExistsError(DocumentStoreError, ValueError):
    """The collection has an index of this name that is another one."""

    hint = "drop it first, or give the new one another name"

    def __init__(self, collection: str, name: str) -> None:
        self.collection = collection
        self.name = name
        super().__init__(f"collection {collection!r} has another index {name!r}")


class DuplicateKeyError(DocumentStoreError, ValueError):
    """A unique index has this key already. Nothing of the operation was written."""

    hint = "update the document that has it, or choose another value"

    def __init__(self, collection: str, index: str, fields: dict[str, Any]) -> None:
        self.collection = collection
        self.index = index
        self.fields = fields
        super().__init__(f"collection {collection!r} has {fields!r} already (index {index!r})")


class BulkWriteError(DocumentStoreError):
    """An operation of bulk_write failed, and with it all: nothing was written. The error it met
    is the cause of this one."""

    def __init__(self, at: int, error: Exception) -> None:
        self.at = at
        self.error = error
        self.hint = getattr(error, "hint", "")
        super().__init__(f"operation {at} of bulk_write: {error}")


class ConflictError(DocumentStoreError):
    """Somebody else changed what this transaction, or operation, had looked at. Nothing was
    written."""

    hint = "do all of it again, from its first read on"


class OutcomeUnknownError(DocumentStoreError):
    """The thread that wrote for several was interrupted: it is not known whether this operation
    is in the log. The next write, or reopening the store, shows it if it is."""

    hint = "look whether it is there before you do it again"


class TransactionError(DocumentStoreError):
    """A call that has no place in a transaction, or a transaction in the wrong place."""


class ClosedStoreError(DocumentStoreError, ValueError):
    """The store is closed."""


class StoreLostError(DocumentStoreError):
    """The store is not what its log amounts to any more, since entries were cut off behind its
    back, a follower's log began anew without a snapshot of the store, or an interrupt came while
    it applied one."""

    hint = "close the store and open it again"


class SnapshotError(DocumentStoreError):
    """The store cannot be opened: no snapshot is whole and of this log, and the log does not go
    back far enough without one. Nothing was changed."""

    hint = "restore the snapshot or the log from a backup or another node; delete neither"

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class HistoryError(DocumentStoreError, LookupError):
    """A place in the past, or a token, that cannot be gone on from.

    Attributes:
        lsn: the entry that is asked for.
    """

    ANEW = (
        "read the documents anew and watch from there: lsn = store.applied_lsn, store.at(lsn), "
        "watch(from_lsn=lsn + 1)"
    )
    WAIT = "store.wait_for(lsn, timeout_s) first, if another node has it"

    def __init__(self, lsn: int, reason: str, hint: str) -> None:
        self.lsn = lsn
        self.reason = reason
        self.hint = hint
        super().__init__(reason)


class WaitTimeoutError(DocumentStoreError, TimeoutError):
    """An entry was not applied here in time. It may still come.

    Attributes:
        lsn, applied_lsn: the entry, and how far this node's store is.
    """

    hint = "wait again; status() of the log says whether its leader can be reached"

    def __init__(self, lsn: int, applied_lsn: int, timeout_s: float) -> None:
        self.lsn = lsn
        self.applied_lsn = applied_lsn
        self.timeout_s = timeout_s
        super().__init__(
            f"entry {lsn} is not here after {timeout_s:g} s; the store is at {applied_lsn}"
        )
