"""ChangeStream: the changes of a store's documents, followed live from a thread or an event loop.

The log's tail says which entries there are; what each of them changed is what the journal applied
last, or for what is longer ago, a state of the stream's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self

from walstore import ClosedLogError, LSNOutOfRangeError, WALEntry
from walstore.docstore.changes import DocumentChange, ResumeToken, shown
from walstore.docstore.errors import ClosedStoreError, HistoryError, QueryError
from walstore.docstore.history import Applied
from walstore.docstore.journal import Journal
from walstore.docstore.past import Past, Replayed
from walstore.thread import in_thread

__all__ = ["ChangeStream", "begin_of"]

CLOSED_SLICE_S = 0.1
"""How long a stream that waits for its store does not look whether it was closed, at the most."""


class Begin(NamedTuple):
    """Where a stream begins.

    Attributes:
        lsn: the first entry whose changes it shows.
        position: the first of them that it shows.
    """

    lsn: int
    position: int


def begin_of(journal: Journal, past: Past, from_lsn: Any, resume_after: Any) -> Begin | None:
    """Where a stream begins that is asked for so; None: with what comes.

    Raises:
        QueryError: an argument makes no sense.
        HistoryError: it cannot begin there.
    """
    if from_lsn is None and resume_after is None:
        return None
    if resume_after is None:
        if type(from_lsn) is not int or from_lsn < 1:
            raise QueryError("from_lsn", f"is the lsn of an entry, not {from_lsn!r}")
        begin = Begin(from_lsn, 0)
    elif from_lsn is not None:
        raise QueryError("watch", "takes from_lsn or resume_after, not both")
    else:
        begin = _after(ResumeToken.parsed(resume_after), journal.log.log_id, past)
    past.check_here(begin.lsn - 1)
    if not journal.remembers(begin.lsn - 1):
        past.check_age(begin.lsn - 1)
    return begin


def _after(token: ResumeToken, log_id: str, past: Past) -> Begin:
    if token.log_id != log_id:
        raise HistoryError(
            token.lsn, f"the token is of another log, {token.log_id}", HistoryError.ANEW
        )
    term = past.term_of(token.lsn)
    if term != token.term:
        raise HistoryError(
            token.lsn,
            f"entry {token.lsn} is another one now, of term {term} and not {token.term}: "
            "the change that the token stands for did not survive",
            HistoryError.ANEW,
        )
    return Begin(token.lsn + 1, 0) if token.ends else Begin(token.lsn, token.position + 1)


class ChangeStream:
    """Iterates over the changes from a place on and waits for those to come: with `for` in a
    thread, or `async for` in an event loop; one consumer at a time. It is best used with `with`,
    and ends when it, the store or the log is closed, or has raised.

    Attributes:
        closed: whether it has ended.

    Raises:
        HistoryError: what comes next is gone: it was too far behind.
        StoreLostError; and as FileWALManager.replay.
    """

    def __init__(
        self, journal: Journal, past: Past, collection: str | None, begin: Begin | None
    ) -> None:
        self._journal = journal
        self._past = past
        self._collection = collection
        self._own: Replayed | None = None  # while it is behind what the journal remembers
        self._ready: Iterator[DocumentChange] = iter(())
        self._work: Future[None] | None = None  # survives who waits for it, and the event loop
        self.closed = False
        begin_lsn = begin.lsn if begin else journal.applied_lsn + 1
        try:
            # What is applied, and not yet shown by the log, comes again, and is passed over.
            self._tail = journal.log.tail(min(begin_lsn, journal.log.committed_lsn + 1))
        except LSNOutOfRangeError as error:
            raise _gone(error) from error
        try:
            applied_lsn = journal.watch(self)
        except BaseException:
            self._tail.close()
            raise
        self._begin = begin or Begin(applied_lsn + 1, 0)

    def close(self) -> None:
        """Ends the iteration; a waiting `for` notices within 200 ms."""
        self.closed = True
        self._tail.close()
        self._own = None

    def stop(self) -> None:
        """The store is closed, or lost, which the next one who waits is told."""
        self._tail.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        what = "the store" if self._collection is None else repr(self._collection)
        return f"<ChangeStream of {what}{' closed' if self.closed else ''}>"

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> DocumentChange:
        while not self.closed:
            for change in self._ready:
                return change
            try:
                if self._work is None:
                    self._take(next(self._tail))
                else:  # of a task that was cancelled
                    self._work.result()
                    self._work = None
            except StopIteration:
                self._finish()
            except BaseException as error:
                self._end(error)
        raise StopIteration

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DocumentChange:
        while not self.closed:
            for change in self._ready:
                return change
            try:
                await self._take_next()
            except StopAsyncIteration:
                self._finish()
            except asyncio.CancelledError:  # the next call goes on
                raise
            except BaseException as error:
                self._end(error)
        raise StopAsyncIteration

    def _finish(self) -> None:
        """The tail has ended."""
        self.close()
        if self._journal.lost is not None:
            raise self._journal.lost

    def _end(self, error: BaseException) -> None:
        """Raises what ended it, unless that was a call of `close`."""
        self.close()
        if isinstance(error, LSNOutOfRangeError):
            raise _gone(error) from error
        if not isinstance(error, ClosedLogError | ClosedStoreError):
            raise error

    async def _take_next(self) -> None:
        """Takes the next entry, in a thread where that may take long. When this is cancelled, the
        next call waits for the same."""
        if self._work is None:
            entry = await anext(self._tail)
            if self._is_quick(entry):
                self._take(entry)
                return
            take = partial(self._take, entry)
            self._work = in_thread(take, "walstore-changes")
        await asyncio.wrap_future(self._work)
        self._work = None

    def _is_quick(self, entry: WALEntry) -> bool:
        journal = self._journal
        if self._own is not None or entry.lsn < self._begin.lsn:
            return True
        return journal.seen_lsn >= entry.lsn and journal.remembers(entry.lsn - 1)

    def _take(self, entry: WALEntry) -> None:
        if entry.lsn < self._begin.lsn:
            return
        applied = self._applied_by(entry)
        if applied is not None:
            begin = self._begin.position if entry.lsn == self._begin.lsn else 0
            log_id = self._journal.log.log_id
            self._ready = shown(applied, log_id, entry.term, begin, self._collection)

    def _applied_by(self, entry: WALEntry) -> Applied | None:
        """The transaction that ends with an entry, if one does that counts."""
        own, journal = self._own, self._journal
        if own is None:
            while not journal.reach(entry.lsn, CLOSED_SLICE_S):
                if self.closed:
                    return None
            remembered, applied = journal.remembered(entry.lsn)
            if remembered:
                return applied
            own = self._own = self._past.replayed(entry.lsn - 1)
        applied = own.take(entry)
        if journal.remembers(entry.lsn):
            self._own = None
        return applied


def _gone(error: LSNOutOfRangeError) -> HistoryError:
    return HistoryError(error.lsn, f"the stream was too far behind: {error}", HistoryError.ANEW)
