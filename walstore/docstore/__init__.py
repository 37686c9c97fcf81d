"""The document store: collections of documents on a log (docs/docstore.md)."""

# changes
from walstore.docstore.changes import DocumentChange

# checkpoint
from walstore.docstore.checkpoint import DocumentSnapshots

# collection
from walstore.docstore.collection import Collection

# cursor
from walstore.docstore.cursor import Cursor

# errors
from walstore.docstore.errors import (
    BulkWriteError,
    ClosedStoreError,
    ConflictError,
    DocumentStoreError,
    DuplicateKeyError,
    HistoryError,
    IndexExistsError,
    InvalidDocumentError,
    NoSuchIndexError,
    OutcomeUnknownError,
    QueryError,
    SnapshotError,
    StoreLostError,
    TransactionError,
    WaitTimeoutError,
)

# index
from walstore.docstore.index import ASCENDING, DESCENDING, IndexSpec

# reading
from walstore.docstore.reading import ReadOnlyCollection

# results
from walstore.docstore.results import (
    BulkWriteResult,
    DeleteMany,
    DeleteOne,
    DeleteResult,
    Explanation,
    InsertManyResult,
    InsertOne,
    InsertOneResult,
    ReplaceOne,
    ReturnDocument,
    UpdateMany,
    UpdateOne,
    UpdateResult,
)

# store
from walstore.docstore.store import DocumentStore

# view
from walstore.docstore.view import StoreView

# watch
from walstore.docstore.watch import ChangeStream

__all__ = [
    "ASCENDING",
    "DESCENDING",
    "BulkWriteError",
    "BulkWriteResult",
    "ChangeStream",
    "ClosedStoreError",
    "Collection",
    "ConflictError",
    "Cursor",
    "DeleteMany",
    "DeleteOne",
    "DeleteResult",
    "DocumentChange",
    "DocumentSnapshots",
    "DocumentStore",
    "DocumentStoreError",
    "DuplicateKeyError",
    "Explanation",
    "HistoryError",
    "IndexExistsError",
    "IndexSpec",
    "InsertManyResult",
    "InsertOne",
    "InsertOneResult",
    "InvalidDocumentError",
    "NoSuchIndexError",
    "OutcomeUnknownError",
    "QueryError",
    "ReadOnlyCollection",
    "ReplaceOne",
    "ReturnDocument",
    "SnapshotError",
    "StoreLostError",
    "StoreView",
    "TransactionError",
    "UpdateMany",
    "UpdateOne",
    "UpdateResult",
    "WaitTimeoutError",
]
