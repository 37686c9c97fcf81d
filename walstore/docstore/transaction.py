"""Transactions: several operations on one draft, undisturbed or not at all.

Sans-IO, but for the lock that they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, TypeVar

from walstore.docstore.draft import Draft, Reads
from walstore.docstore.errors import ConflictError, DuplicateKeyError, TransactionError
from walstore.docstore.state import Change, State

__all__ = ["Transaction"]

Result = TypeVar("Result")


class Transaction:
    """Operations that see each other and, of all others, one state: the current one. As soon as
    somebody else changes what they looked at, it is doomed.

    Attributes:
        draft: what it would change.
        guard: held while it looks at the state; entering it raises when the transaction is doomed,
            or has ended.
    """

    def __init__(self, state: State, lock: AbstractContextManager[Any]) -> None:
        self.reads = Reads()
        self.draft = Draft(state, self.reads)
        self.guard = _Guard(lock, self)
        self._ended = False
        self._doom: ConflictError | None = None

    def notice(self, changes: Iterable[Change]) -> None:
        """Somebody else made these changes."""
        if self._doom is not None:
            return
        for change in changes:
            if self.reads.meet(change):
                document = change.new or change.old
                what = f"document {document['_id']!r}" if document else "what it is"
                self._doom = ConflictError(
                    f"collection {change.collection!r}: {what} was changed by somebody else"
                )
                return

    def doom(self, reason: str) -> None:
        """It cannot be any more."""
        self._doom = self._doom or ConflictError(reason)

    def check(self) -> None:
        """Raises when it is doomed.

        Raises:
            ConflictError
        """
        if self._doom is not None:
            raise self._doom

    def end(self) -> None:
        """Its block has ended: what came after would be in no entry, so nothing does."""
        self._ended = True

    def check_open(self) -> None:
        """Raises when no operation has a place in it any more.

        Raises:
            ConflictError
            TransactionError: its block has ended, in another thread or by the garbage collector.
        """
        if self._ended:
            raise TransactionError("the transaction ended before the operation began")
        self.check()

    def write(self, compute: Callable[[Draft], Result]) -> Result:
        """Does one operation. When it fails, the transaction is as it was before it.

        Raises:
            What `compute` raises; ConflictError, TransactionError: see `check_open`.
        """
        with self.guard:
            count = len(self.draft.changes)
            try:
                return compute(self.draft)
            except BaseException:
                self.draft.undo_to(count)
                raise

    def compute(self, draft: Draft) -> None:
        """Does all of it again on the draft of a group.

        Raises:
            ConflictError: it cannot be.
        """
        self.notice(draft.changes)  # of those that come before it in the group
        self.check()
        try:
            for change in self.draft.changes:
                name, id_key, old = change.collection, change.id_key, change.old
                assert id_key is not None
                if change.new is not None:
                    draft.put(name, id_key, old, change.new)
                elif old is not None:
                    draft.delete(name, id_key, old)
        except DuplicateKeyError as error:
            raise ConflictError(f"somebody else was faster: {error}") from error


class _Guard:
    """The lock of the state, for a transaction."""

    def __init__(self, lock: AbstractContextManager[Any], transaction: Transaction) -> None:
        self._lock = lock
        self._transaction = transaction

    def __enter__(self) -> None:
        self._lock.__enter__()
        try:
            self._transaction.check_open()
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.__exit__(kind, error, traceback)
