"""Collection: documents that are found by what they hold; the calls are those of pymongo."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from walstore.docstore import operations, prepare
from walstore.docstore.collector import collector_paused
from walstore.docstore.concern import Concern
from walstore.docstore.draft import Draft
from walstore.docstore.errors import TransactionError
from walstore.docstore.index import IndexSpec, checked_spec
from walstore.docstore.operations import Changed
from walstore.docstore.plan import Found, find
from walstore.docstore.query import Filter
from walstore.docstore.reading import ReadOnlyCollection
from walstore.docstore.results import (
    BulkWriteResult,
    DeleteResult,
    InsertManyResult,
    InsertOneResult,
    UpdateResult,
    WriteOperation,
)
from walstore.docstore.shape import Sort, compile_projection
from walstore.docstore.state import ID_INDEX
from walstore.docstore.values import MISSING, Document, Key, Missing, copy_of
from walstore.docstore.watch import ChangeStream

if TYPE_CHECKING:
    from walstore.docstore.store import DocumentStore

__all__ = ["Collection"]

Result = TypeVar("Result")


class Collection(ReadOnlyCollection):
    """A collection of a store; made by the first document or index.

    Each write is atomic: all of it is in the log when it returns, as its `concern` asks, or it
    raises and nothing is. See docs/docstore.md for filters, updates and promises.

    What every call may raise:
        QueryError, InvalidDocumentError: an argument makes no sense. Nothing was done.
        ClosedStoreError, StoreLostError; in a transaction ConflictError.
    Writes also:
        DuplicateKeyError: a unique index, or _id, has a key already. Nothing was written.
        Errors of the log; see "What is promised" in docs/docstore.md.
    """

    def __init__(self, store: DocumentStore, name: str) -> None:
        super().__init__(name)
        self._store = store

    def __repr__(self) -> str:
        return f"<Collection {self.name!r}>"

    # ---- writing ----

    def insert_one(
        self, document: Mapping[str, Any], *, concern: Concern = "durable"
    ) -> InsertOneResult:
        """Inserts a document; one without `_id` gets one that sorts by time. The given document
        is not changed."""
        new = prepare.new_documents(self.name, [document], self._store._make_id)
        self._write(lambda draft: draft.insert(self.name, new), concern)
        ((_id_key, stored, _operation),) = new
        return InsertOneResult(copy_of(stored["_id"]))

    def insert_many(
        self, documents: Iterable[Mapping[str, Any]], *, concern: Concern = "durable"
    ) -> InsertManyResult:
        """Inserts documents: all or none."""
        with collector_paused():
            new = prepare.new_documents(self.name, documents, self._store._make_id)

        def compute(draft: Draft) -> None:
            with collector_paused():
                draft.insert(self.name, new)

        self._write(compute, concern)
        return InsertManyResult(copy_of([document["_id"] for _id_key, document, _operation in new]))

    def update_one(
        self,
        filter: Mapping[str, Any],
        update: Mapping[str, Any],
        *,
        upsert: bool = False,
        hint: str | None = None,
        concern: Concern = "durable",
    ) -> UpdateResult:
        """Changes the first document that matches. `upsert`: inserts one when none does."""
        make_id = self._store._make_id
        compute = prepare.updating(
            self.name, make_id, filter, update, many=False, upsert=upsert, hint=hint
        )
        return _updated(self._write(compute, concern))

    def update_many(
        self,
        filter: Mapping[str, Any],
        update: Mapping[str, Any],
        *,
        upsert: bool = False,
        hint: str | None = None,
        concern: Concern = "durable",
    ) -> UpdateResult:
        """Changes all documents that match, or none."""
        make_id = self._store._make_id
        compute = prepare.updating(
            self.name, make_id, filter, update, many=True, upsert=upsert, hint=hint
        )
        return _updated(self._write(compute, concern))

    def replace_one(
        self,
        filter: Mapping[str, Any],
        replacement: Mapping[str, Any],
        *,
        upsert: bool = False,
        hint: str | None = None,
        concern: Concern = "durable",
    ) -> UpdateResult:
        """Puts another document in the place of the first that matches, under its _id."""
        make_id = self._store._make_id
        compute = prepare.replacement(
            self.name, make_id, filter, replacement, upsert=upsert, hint=hint
        )
        return _updated(self._write(compute, concern))

    def delete_one(
        self, filter: Mapping[str, Any], *, hint: str | None = None, concern: Concern = "durable"
    ) -> DeleteResult:
        """Deletes the first document that matches."""
        compute = prepare.deletion(self.name, filter, many=False, hint=hint)
        return DeleteResult(self._write(compute, concern))

    def delete_many(
        self, filter: Mapping[str, Any], *, hint: str | None = None, concern: Concern = "durable"
    ) -> DeleteResult:
        """Deletes all documents that match, or none."""
        compute = prepare.deletion(self.name, filter, many=True, hint=hint)
        return DeleteResult(self._write(compute, concern))

    def find_one_and_update(
        self,
        filter: Mapping[str, Any],
        update: Mapping[str, Any],
        projection: Any = None,
        sort: Any = None,
        *,
        upsert: bool = False,
        return_document: bool = False,
        hint: str | None = None,
        concern: Concern = "durable",
    ) -> Document | None:
        """Changes the first document that matches, in the order of `sort`, and returns it as it
        was before, or with ReturnDocument.AFTER as it is now; None: there was none."""
        show = compile_projection(projection)
        make_id = self._store._make_id
        compute = prepare.updating(
            self.name, make_id, filter, update, many=False, upsert=upsert, sort=sort, hint=hint
        )
        changed = self._write(compute, concern)
        document = changed.after if return_document else changed.before
        return None if document is None else show([document])[0]

    def bulk_write(
        self, requests: Iterable[WriteOperation], *, concern: Concern = "durable"
    ) -> BulkWriteResult:
        """Does all of these, in order, or none.

        Raises:
            BulkWriteError: which of them failed, and why.
        """
        compute = prepare.bulk(self.name, self._store._make_id, requests)
        return self._write(compute, concern)

    # ---- indexes ----

    def create_index(
        self,
        keys: Any,
        *,
        name: str | None = None,
        unique: bool = False,
        concern: Concern = "durable",
    ) -> str:
        """Makes an index, and returns its name. Nothing happens when it is there. Readers go on
        while it is built; writers wait.

        Args:
            keys: a field, or a list of (field, 1 or -1).
            name: by default made from the keys.
            unique: no two documents may share a key.

        Raises:
            IndexExistsError: another one has the name.
            TransactionError: not in a transaction.
        """
        spec = checked_spec(keys, name, unique)
        self._define(partial(operations.create_index, name=self.name, spec=spec), concern)
        return spec.name

    def drop_index(self, name: str, *, concern: Concern = "durable") -> None:
        """Drops an index.

        Raises:
            NoSuchIndexError: there is none of that name.
            TransactionError: not in a transaction.
        """
        self._define(partial(operations.drop_index, name=self.name, index=name), concern)

    def list_indexes(self) -> list[IndexSpec]:
        """The indexes, that of _id first. In a transaction, too, they are those that the store has
        now, and that is not noted."""
        self._store._journal.refresh()
        collection = self._store._journal.state.looked_at(self.name)
        with self._store._journal.lock:
            return [ID_INDEX, *collection.specs]

    def drop(self, *, concern: Concern = "durable") -> None:
        """Drops the collection: all documents and indexes.

        Raises:
            TransactionError: not in a transaction.
        """
        self._define(partial(operations.drop_collection, name=self.name), concern)

    # ---- following ----

    def watch(
        self, *, from_lsn: int | None = None, resume_after: str | None = None
    ) -> ChangeStream:
        """Follows the changes of this collection, see DocumentStore.watch."""
        return self._store._watch(self.name, from_lsn, resume_after)

    # ---- inside ----

    def _write(self, compute: Callable[[Draft], Result], concern: Concern) -> Result:
        return self._store._write(compute, concern)

    def _define(self, compute: Callable[[Draft], None], concern: Concern) -> None:
        if self._store._current_transaction() is not None:
            raise TransactionError(
                "indexes and collections are not made or dropped in transactions"
            )
        self._store._write(compute, concern, alone=True)

    def _find(self, query: Filter, sort: Sort, skip: int, limit: int, hint: str | None) -> Found:
        journal = self._store._journal
        transaction = self._store._current_transaction()
        if transaction is None:
            journal.refresh()
            collection = journal.state.looked_at(self.name)
            return find(collection, journal.lock, query, sort, skip, limit, hint)
        journal.check_open()
        draft: Draft = transaction.draft
        with transaction.guard:  # others look at the reads when they apply
            transaction.reads.note(self.name, query)
            collection_now = draft.collection(self.name)
        return find(collection_now, transaction.guard, query, sort, skip, limit, hint)

    def _first_equal(self, path: str, key: Key) -> Document | Missing | None:
        if self._store._current_transaction() is not None:
            return MISSING
        journal = self._store._journal
        journal.refresh()
        with journal.lock:
            return journal.state.looked_at(self.name).first_equal(path, key)


def _updated(changed: Changed) -> UpdateResult:
    upserted_id = changed.inserted["_id"] if changed.inserted is not None else None
    return UpdateResult(changed.matched, changed.modified, copy_of(upserted_id))
