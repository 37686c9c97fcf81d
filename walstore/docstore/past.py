"""States of the past, made from a snapshot and the log after it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from walstore import FileWALManager, LSNOutOfRangeError, WALEntry
from walstore.docstore.checkpoint import opened_from
from walstore.docstore.collector import made_to_stay
from walstore.docstore.concern import shown_lsn
from walstore.docstore.errors import HistoryError
from walstore.docstore.history import Applied
from walstore.docstore.replay import Steps
from walstore.docstore.state import State
from walstore.snapshot_files import SnapshotFiles

__all__ = ["Past", "Replayed"]


class Replayed:
    """A state of its own, which goes through the log entry by entry."""

    def __init__(self, path: str, state: State, state_lsn: int) -> None:
        self.state = state
        self._steps = Steps(path, state_lsn)

    def take(self, entry: WALEntry) -> Applied | None:
        """Applies the next entry. Returns the transaction that ends with it, if one does."""
        step = self._steps.take(entry)
        if step is None or step.operations is None:
            return None
        changes = self.state.changes_of(step.operations)
        self.state.apply_all(changes, {})
        return Applied(step.last_lsn, changes, step.payload_bytes)


class Past:
    """What snapshots and the log know of the past.

    Args:
        log, files: of the store.
        checkpointing: held while snapshots, or the log's beginning, are changed.
    """

    def __init__(
        self, log: FileWALManager, files: SnapshotFiles, checkpointing: AbstractContextManager[Any]
    ) -> None:
        self._log = log
        self._files = files
        self._checkpointing = checkpointing

    def check_here(self, lsn: int) -> None:
        """Raises unless an entry can be read, or could before it was dropped.

        Raises:
            HistoryError: it is not here.
        """
        last_lsn = shown_lsn(self._log)
        if lsn > last_lsn:
            raise HistoryError(
                lsn, f"entry {lsn} is not here: the log ends at {last_lsn}", HistoryError.WAIT
            )

    def check_age(self, lsn: int) -> None:
        """Raises unless the state after this entry can be made, as far as that is known at once.

        Raises:
            HistoryError: it is too old.
        """
        if lsn < self._begin_lsn():
            raise self._too_old(lsn)

    def replayed(self, lsn: int) -> Replayed:
        """The state right after an entry.

        Raises:
            HistoryError: log and snapshots do not reach there.
            UnsupportedFormatError, CorruptLogError, LogAccessError, OSError
        """
        self.check_here(lsn)
        with self._checkpointing, made_to_stay():
            try:
                return self._replayed(lsn)
            except LSNOutOfRangeError as error:
                raise self._too_old(lsn) from error

    def _replayed(self, lsn: int) -> Replayed:
        found = self._files.open_before(self._log, lsn)
        if found is None and self._log.first_lsn > 1:
            raise self._too_old(lsn)
        opened = opened_from(found, self._log)
        replayed = Replayed(self._log.path, opened.state, opened.position.state_lsn)
        if opened.position.lsn < lsn:
            for entry in self._log.replay(opened.position.lsn + 1, lsn):
                replayed.take(entry)
        return replayed

    def term_of(self, lsn: int) -> int:
        """The term of an entry.

        Raises:
            HistoryError: it is not here, not yet or not any more.
        """
        self.check_here(lsn)
        try:
            return self._log.read(lsn).term
        except LSNOutOfRangeError:
            with self._checkpointing:
                found = self._files.open_before(self._log, lsn)
            if found is None or found.place.lsn != lsn:
                raise self._too_old(lsn) from None
            return found.place.term

    def _begin_lsn(self) -> int:
        """The first entry after which the state can be made."""
        first_lsn = self._log.first_lsn
        if first_lsn == 1:
            return 0
        return min((lsn for lsn in self._files.lsns if lsn + 1 >= first_lsn), default=first_lsn)

    def _too_old(self, lsn: int) -> HistoryError:
        reason = f"the state after entry {lsn} is gone: it can be had from {self._begin_lsn()} on"
        return HistoryError(lsn, reason, HistoryError.ANEW)
