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
        self._epoch, self._term = log._history(from_lsn - 1)

    def close(self) -> None:
        """Ends the iteration; a waiting `for` notices within 200 ms."""
        self._closed = True

    def _check_history(self) -> None:
        """After a truncation, whether what was shown is still there: (lsn, term) never names two
        entries, so a look at the last one shown is enough. What was made ready may be gone."""
        self._ready = iter(())
        lsn = self.next_lsn - 1
        first_lsn, last_lsn = self._log._bounds_now()
        if lsn <= last_lsn:
            epoch, term = self._log._history(lsn)
            if term == self._term:
                self._epoch = epoch
                return
        raise EntryTruncatedError(lsn, first_lsn, last_lsn)

    def _look_again(self, error: LSNOutOfRangeError) -> None:
        """After a truncation under its hands: entries it has not shown may be gone, and follow
        anew; the ones it has shown are looked at by `_check_history`."""
        self._ready = iter(())
        first_lsn, last_lsn = self._log._bounds_now()
        if self.next_lsn < first_lsn:
            raise LSNOutOfRangeError(self.next_lsn, first_lsn, last_lsn) from error

    def _step(self, found: bool) -> WALEntry | None:
        """The next entry, if it is at hand. `found`: the log was seen to have it."""
        try:
            if found:
                self._ready = self._log.replay(self.next_lsn)
            if self._log._epoch() != self._epoch:  # behind the replay, which may be of an older one
                self._check_history()
            for entry in self._ready:
                self.next_lsn, self._term = entry.lsn + 1, entry.term
                return entry
        except EntryTruncatedError:
            raise
        except LSNOutOfRangeError as error:
            self._look_again(error)
        return None

    def __iter__(self) -> Tail:
        return self

    def __next__(self) -> WALEntry:
        found = False
        while not self._closed:
            try:
                entry = self._step(found)
                if entry is not None:
                    return entry
                found = self._log._await_entry(self.next_lsn)
            except ClosedLogError:
                break
        raise StopIteration

    def __aiter__(self) -> Tail:
        return self

    async def __anext__(self) -> WALEntry:
        found = False
        while not self._closed:
            try:
                entry = self._step(found)
                if entry is not None:
                    return entry
                found = await self._log._await_entry_async(self.next_lsn)
            except ClosedLogError:
                break
        raise StopAsyncIteration
