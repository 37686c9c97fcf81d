"""WALStorage: a TinyDB database in a log, by way of a document store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

from tinydb.storages import Storage

from walstore import FileWALManager
from walstore.docstore import (
    ClosedStoreError,
    DocumentStore,
    InvalidDocumentError,
    OutcomeUnknownError,
    QueryError,
    StoreLostError,
)
from walstore.docstore.draft import Draft
from walstore.docstore.snapshot import copy_of_state
from walstore.docstore.values import Document, decode, encode, key_of
from walstore.tinydb.edits import (
    Edit,
    Rows,
    UnstorableDocumentError,
    table_edit,
    value_edit,
)
from walstore.tinydb.lazy import LazyDocument

__all__ = ["NAMES", "UnstorableDocumentError", "WALStorage"]

NAMES = "tinydb"
"""The collection that holds the names of the tables, and what is no table."""


class WALStorage(Storage):
    """Keeps a TinyDB database in a log: `TinyDB(path, storage=WALStorage)`.

    Args:
        path: the log's directory; made, in a directory that exists, when it is not there.
        segment_bytes, and further options: as of FileWALManager; sync="always" by default. With
            read_only=True it is the database as it was when it was opened.
        checkpoint_bytes: a snapshot is written, and the log cut, after so many bytes of entries;
            None: only `checkpoint()` does.

    Raises:
        As FileWALManager and DocumentStore.

    A write is one atomic entry, in the log as `sync` asks when it returns; it holds the documents
    that are new, changed or gone. One database at a time has the log open, and like TinyDB it is
    for one thread at a time.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        segment_bytes: int = 4 << 20,
        checkpoint_bytes: int | None = 16 << 20,
        **options: Any,
    ) -> None:
        self._lost = False
        self._log = FileWALManager(path, segment_bytes=segment_bytes, **options)
        try:
            self._store = DocumentStore(self._log, checkpoint_bytes=checkpoint_bytes)
            try:
                self._state, self._next_at = _load(self._store)
            except BaseException:
                self._store.close()
                raise
        except BaseException:
            self._log.close()
            raise

    # ---- what TinyDB calls ----

    def read(self) -> dict[str, dict[str, Any]] | None:
        """The database; None: there is no table. What is changed in it is not stored until it is
        written, and not seen by other readers.

        Raises:
            ClosedStoreError, StoreLostError
        """
        self._check_open()
        if not self._state:
            return None
        return {
            name: dict(zip(rows, map(LazyDocument, rows.values()), strict=True))
            if isinstance(rows, dict)
            else decode(rows)
            for name, rows in self._state.items()
        }

    def write(self, data: Mapping[str, Any]) -> None:
        """Makes the database this: all of it, or it raises and nothing is written.

        Raises:
            UnstorableDocumentError: a document cannot be stored, and where and why.
            QueryError: a table's name cannot be one.
            ClosedStoreError, StoreLostError; and as FileWALManager.append.
        """
        self._check_open()
        edits = [self._edit(name, value) for name, value in data.items()]
        edits += [Edit(name, drop=True) for name in self._state if name not in data]
        self.apply(edits)

    def close(self) -> None:
        """Closes the log. Closing twice does nothing."""
        self._store.close()
        self._log.close()

    # ---- beyond that ----

    def checkpoint(self) -> int:
        """As DocumentStore.checkpoint."""
        return self._store.checkpoint()

    def rows_of(self, name: str) -> Rows:
        """A table's rows, which are not to be changed; none when it is not there."""
        self._check_open()
        return self._rows(name)

    def apply(self, edits: Sequence[Edit]) -> None:
        """Writes edits: all, as one entry, or none.

        Raises:
            As `write`.
        """
        self._check_open()
        edits = [edit for edit in edits if self._matters(edit)]
        if not edits:
            return
        for edit in edits:
            if edit.name == NAMES:
                raise QueryError("table", f"{NAMES!r} is the storage's own", "choose another name")
            self._store[edit.name]  # a name that cannot be one is refused
        self._lost = True
        try:
            self._next_at = self._store._write(partial(self._stage_all, edits), "local")
            for edit in edits:
                self._take(edit)
            self._lost = False
        except Exception as error:  # anything else is an interrupt, after which nobody knows
            self._lost = isinstance(error, OutcomeUnknownError)
            raise

    # ---- inside ----

    def _check_open(self) -> None:
        if self._store.closed:
            raise ClosedStoreError(f"the database in {self._log.path} is closed")
        if self._lost:
            raise StoreLostError(
                f"a write to {self._log.path} was interrupted, and may be in the log or not"
            )

    def _rows(self, name: str) -> Rows:
        rows = self._state.get(name)
        return rows if isinstance(rows, dict) else {}

    def _edit(self, name: str, value: Any) -> Edit:
        """What has to be done so that the name stands for this."""
        if not isinstance(value, Mapping):
            return value_edit(name, value)
        rows = self._rows(name)
        missing = object()
        changed = [
            (doc_id, document)
            for doc_id, document in value.items()
            if type(document) is not LazyDocument or document.raw is not rows.get(doc_id, missing)
        ]
        if not all(isinstance(document, Mapping) for _doc_id, document in changed):
            return value_edit(name, value)
        edit = table_edit(name, rows, changed)
        new = sum(key not in rows for key in edit.seen)
        only_text = all(type(doc_id) is str for doc_id, _document in changed)
        if not only_text or len(value) != len(rows) + new:
            kept = {str(doc_id) for doc_id in value}
            edit.gone = [key for key in rows if key not in kept]
        return edit

    def _matters(self, edit: Edit) -> bool:
        """Whether it changes anything."""
        return bool(edit.drop or edit.puts or edit.gone or self._named_differently(edit))

    def _stage_all(self, edits: Sequence[Edit], draft: Draft) -> int:
        """Does edits on a draft. Returns the next place in the order."""
        next_at = self._next_at
        for edit in edits:
            next_at = self._stage(edit, draft, next_at)
        return next_at

    def _stage(self, edit: Edit, draft: Draft, next_at: int) -> int:
        name, rows = edit.name, self._rows(edit.name)
        for key in rows if edit.drop or edit.value is not None else edit.gone:
            _delete(draft, name, key)
        if edit.drop:
            _delete(draft, NAMES, name)
            return next_at
        if self._named_differently(edit):
            row = {"_id": name, "at": next_at}
            _put(draft, NAMES, row if edit.value is None else {**row, "value": decode(edit.value)})
            next_at += 1
        for key, (document, _raw) in edit.puts.items():
            old = draft.collection(name).get(key_of(key))
            at = next_at if old is None else old["at"]
            next_at += old is None
            _put(draft, name, {"_id": key, "at": at, "doc": document})
        return next_at

    def _named_differently(self, edit: Edit) -> bool:
        """Whether the name is new, or stands for a table now and not before, or the reverse."""
        if edit.value is not None:
            return self._state.get(edit.name) != edit.value
        return not isinstance(self._state.get(edit.name), dict)

    def _take(self, edit: Edit) -> None:
        """Changes the state as an edit says, which is in the log now."""
        if edit.drop:
            del self._state[edit.name]
        elif edit.value is not None:
            self._state[edit.name] = edit.value
        else:
            rows = self._state.get(edit.name)
            if not isinstance(rows, dict):
                rows = self._state[edit.name] = {}
            for key in edit.gone:
                del rows[key]
            rows.update((key, raw) for key, (_document, raw) in edit.puts.items())


def _put(draft: Draft, name: str, row: Document) -> None:
    id_key = key_of(row["_id"])
    try:
        draft.put(name, id_key, draft.collection(name).get(id_key), row)
    except InvalidDocumentError as error:  # it is too large
        place = row["_id"] if name == NAMES else f"{name}.{row['_id']}"
        raise UnstorableDocumentError(place, error.reason, error.hint) from None


def _delete(draft: Draft, name: str, key: str) -> None:
    id_key = key_of(key)
    old = draft.collection(name).get(id_key)
    assert old is not None
    draft.delete(name, id_key, old)


def _load(store: DocumentStore) -> tuple[dict[str, Rows | bytes], int]:
    """What a store holds, and the next place in the order. All of it is of one moment, also when
    another process writes meanwhile."""
    journal = store._journal
    with journal.lock:
        copy = {name: documents for name, _specs, documents in copy_of_state(journal.state)}
    state: dict[str, Rows | bytes] = {}
    last_at = 0
    for named in sorted(copy.get(NAMES, ()), key=itemgetter("at")):
        last_at = max(last_at, named["at"])
        if "value" in named:
            state[named["_id"]] = encode(named["value"])
            continue
        rows = state[named["_id"]] = {}
        for row in sorted(copy.get(named["_id"], ()), key=itemgetter("at")):
            rows[row["_id"]] = encode(row["doc"])
            last_at = max(last_at, row["at"])
    return state, last_at + 1
