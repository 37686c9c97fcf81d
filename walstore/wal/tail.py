"""Following a log live, from a thread or from an event loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from walstore.errors import ClosedLogError, EntryTruncatedError, LSNOutOfRangeError
from walstore.wal.record import WALEntry

if TYPE_CHECKING:
    from walstore.wal.manager import FileWALManager

__all__ = ["Tail"]


class Tail:
    """Iterates over the entries from an lsn on and waits for those to come.

    Use it with `for` in a thread, or `async for` in an event loop. It shows durable entries
    only, and ends when it is closed or the log is.

    Raises:
        LSNOutOfRangeError: the next entry was dropped by truncate_before.
        EntryTruncatedError: the last entry it showed was dropped by truncate_after.
    """

    def __init__(self, log: FileWALManager, from_lsn: int) -> None:
        self._log = log
        self._ready: Iterator[WALEntry] = iter(())
        self._closed = False
        self.next_lsn = from_lsn
        self._term, self._epoch = log._history(from_lsn - 1)

    def close(self) -> None:
        """Ends the iteration; a waiting `for` notices within 200 ms."""
        self._closed = True

    def _show(self, entry: WALEntry) -> WALEntry:
        self.next_lsn = entry.lsn + 1
        self._term = entry.term
        return entry

    def _check_history(self) -> None:
        """(lsn, term) never names two entries, so a look at the last one shown is enough."""
        lsn = self.next_lsn - 1
        if self._log._epoch() == self._epoch:
            return
        first_lsn, last_lsn = self._log._bounds_now()
        if lsn <= last_lsn:
            term, epoch = self._log._history(lsn)
            if lsn < first_lsn or term == self._term:
                self._epoch = epoch
                return
        self._ready = iter(())
        raise EntryTruncatedError(lsn, first_lsn, last_lsn)

    def _look_again(self, error: LSNOutOfRangeError) -> None:
        """After a truncation under its hands: entries it has not shown may be gone, and follow
        anew; the ones it has shown are looked at by `_check_history`."""
        self._ready = iter(())
        if self.next_lsn < self._log._bounds_now()[0]:
            raise error

    def __iter__(self) -> Tail:
        return self

    def __next__(self) -> WALEntry:
        while not self._closed:
            try:
                for entry in self._ready:
                    return self._show(entry)
                if self._log._await_entry(self.next_lsn):
                    self._ready = self._log.replay(self.next_lsn)
                self._check_history()
            except EntryTruncatedError:
                raise
            except LSNOutOfRangeError as error:
                self._look_again(error)
            except ClosedLogError:
                break
        raise StopIteration

    def __aiter__(self) -> Tail:
        return self

    async def __anext__(self) -> WALEntry:
        while not self._closed:
            try:
                for entry in self._ready:
                    return self._show(entry)
                if await self._log._await_entry_async(self.next_lsn):
                    self._ready = self._log.replay(self.next_lsn)
                self._check_history()
            except EntryTruncatedError:
                raise
            except LSNOutOfRangeError as error:
                self._look_again(error)
            except ClosedLogError:
                break
        raise StopAsyncIteration
