"""TinyDB on a log: a storage that writes what changed (docs/tinydb.md)."""

try:
    import tinydb as _tinydb  # noqa: F401
except ImportError:
    raise ImportError(
        "walstore.tinydb needs TinyDB, which is not installed: pip install 'walstore[tinydb]'"
    ) from None

# storage
from walstore.tinydb.storage import UnstorableDocumentError, WALStorage

# table
from walstore.tinydb.table import WALTable, WALTinyDB

__all__ = ["UnstorableDocumentError", "WALStorage", "WALTable", "WALTinyDB"]
