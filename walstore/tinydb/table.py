"""WALTable: a table that tells the storage what it changed, instead of all it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, cast

from tinydb import TinyDB
from tinydb.table import Table

from walstore.docstore.values import decode
from walstore.tinydb.edits import Edit, Rows, table_edit
from walstore.tinydb.storage import WALStorage

__all__ = ["WALTable", "WALTinyDB"]


class WALTable(Table):
    """A table whose inserts take the time of an insert, whatever its size.

    A table of TinyDB goes through all its documents for each change. Used with another storage, or
    behind a middleware, this one does the same.
    """

    def _read_table(self) -> dict[str, Mapping[str, Any]]:
        if not isinstance(self._storage, WALStorage):
            return super()._read_table()
        return cast("dict[str, Mapping[str, Any]]", _View(self._storage.rows_of(self.name)))

    def _update_table(self, updater: Callable[[dict[int, Mapping[str, Any]]], None]) -> None:
        if not isinstance(self._storage, WALStorage):
            super()._update_table(updater)
            return
        draft = _Draft(self._storage.rows_of(self.name), self.document_id_class)
        updater(cast("dict[int, Mapping[str, Any]]", draft))
        self._storage.apply([draft.edit(self.name)])
        self.clear_cache()


class WALTinyDB(TinyDB):
    """TinyDB with WALStorage and WALTable: `WALTinyDB(path)`."""

    table_class = WALTable
    default_storage_class: Any = WALStorage


class _View(Mapping[str, Any]):
    """A table to read: documents by their ids as text, each a copy."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __getitem__(self, key: str) -> Any:
        return decode(self._rows[key])

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._rows))

    def __len__(self) -> int:
        return len(self._rows)

    def items(self) -> Any:
        """Of this moment: who goes through them may change the table."""
        return ((key, decode(raw)) for key, raw in list(self._rows.items()))


class _Draft(MutableMapping[Any, Any]):
    """A table to change: what was looked at or set, over rows that stay as they are."""

    def __init__(self, rows: Rows, id_class: Callable[[Any], Any]) -> None:
        self._rows = rows
        self._id_class = id_class
        self._touched: dict[str, Any] = {}
        self._gone: dict[str, None] = {}

    def edit(self, name: str) -> Edit:
        """What has changed.

        Raises:
            UnstorableDocumentError
        """
        edit = table_edit(name, self._rows, self._touched.items())
        edit.gone = list(self._gone)
        return edit

    def _key(self, doc_id: Any) -> str | None:
        """The row that an equal key of a dict would lead to. Not every class makes one
        of its own from another: UUID takes no UUID."""
        try:
            known = doc_id if type(doc_id) is self._id_class else self._id_class(doc_id)
        except (TypeError, ValueError, OverflowError, AttributeError):
            return None
        return str(known) if known == doc_id else None

    def __contains__(self, doc_id: object) -> bool:
        key = self._key(doc_id)
        return key in self._touched or (key in self._rows and key not in self._gone)

    def __getitem__(self, doc_id: Any) -> Any:
        key = self._key(doc_id)
        if key not in self._touched:
            if key not in self._rows or key in self._gone:
                raise KeyError(doc_id)
            self._touched[key] = decode(self._rows[key])
        return self._touched[key]

    def __setitem__(self, doc_id: Any, document: Any) -> None:
        key = str(doc_id)
        self._touched[key] = document
        self._gone.pop(key, None)

    def __delitem__(self, doc_id: Any) -> None:
        key = self._key(doc_id)
        if key is None or doc_id not in self:
            raise KeyError(doc_id)
        self._touched.pop(key, None)
        if key in self._rows:
            self._gone[key] = None

    def __iter__(self) -> Iterator[Any]:
        kept = [key for key in self._rows if key not in self._gone]
        new = [key for key in self._touched if key not in self._rows]
        return map(self._id_class, [*kept, *new])

    def __len__(self) -> int:
        new = sum(key not in self._rows for key in self._touched)
        return len(self._rows) - len(self._gone) + new

    def clear(self) -> None:
        """All go."""
        self._touched.clear()
        self._gone = dict.fromkeys(self._rows)
