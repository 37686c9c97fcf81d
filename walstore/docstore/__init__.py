"""The document store: collections of documents on a log (docs/docstore.md)."""

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
    IndexExistsError,
    InvalidDocumentError,
    NoSuchIndexError,
    OutcomeUnknownError,
    QueryError,
    SnapshotError,
    StoreLostError,
    TransactionError,
)

# index
from walstore.docstore.index import ASCENDING, DESCENDING, IndexSpec

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

__all__ = [
    "ASCENDING",
    "DESCENDING",
    "BulkWriteError",
    "BulkWriteResult",
    "ClosedStoreError",
    "Collection",
    "ConflictError",
    "Cursor",
    "DeleteMany",
    "DeleteOne",
    "DeleteResult",
    "DocumentStore",
    "DocumentStoreError",
    "DuplicateKeyError",
    "Explanation",
    "IndexExistsError",
    "IndexSpec",
    "InsertManyResult",
    "InsertOne",
    "InsertOneResult",
    "InvalidDocumentError",
    "NoSuchIndexError",
    "OutcomeUnknownError",
    "QueryError",
    "ReplaceOne",
    "ReturnDocument",
    "SnapshotError",
    "StoreLostError",
    "TransactionError",
    "UpdateMany",
    "UpdateOne",
    "UpdateResult",
]
