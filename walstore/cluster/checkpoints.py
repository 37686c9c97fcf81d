"""When a machine's state is written to the disk, and the log cut behind it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

from walstore import FileWALManager, WALStoreError
from walstore.cluster.machine_files import pieces_of
from walstore.snapshot_files import Place, SnapshotFiles
from walstore.thread import LastingThread

__all__ = ["Checkpoints", "Moment"]

_logger = logging.getLogger("walstore.cluster")


class Moment(NamedTuple):
    """A machine between two commands.

    Attributes:
        lsn, term: the last entry that was applied.
        sessions: their bytes.
        machine: the machine's, to be taken at leisure.
    """

    lsn: int
    term: int
    sessions: bytes
    machine: Iterable[bytes]


class Checkpoints:
    """Makes them, in a thread of its own or when asked.

    Args:
        log: the machine's.
        files: where they are.
        look: gives the machine as it is now.

    Attributes:
        error: why the last one was not made, or None.
    """

    def __init__(
        self, log: FileWALManager, files: SnapshotFiles, look: Callable[[], Moment]
    ) -> None:
        self._log = log
        self._files = files
        self._look = look
        self._one_at_a_time = threading.Lock()
        self._due = threading.Event()
        self._ending = False
        self.error: BaseException | None = None
        self._thread = LastingThread(self._run, "walstore-machine-snapshots")
        self._thread.start()

    def ask(self) -> None:
        """Has one made soon."""
        self._due.set()

    def make(self) -> int:
        """Makes one, and cuts the log; see MachineHost.checkpoint."""
        with self._one_at_a_time:
            try:
                lsn = self._make()
            except BaseException as error:  # the machine's, too, which may be any
                self.error = error
                raise
            self.error = None
            return lsn

    def _make(self) -> int:
        moment = self._look()
        if moment.lsn == 0 or moment.lsn in self._files.lsns:
            return moment.lsn
        place = Place(self._log.log_id, moment.lsn, moment.term)
        self._files.write(moment.lsn, pieces_of(place, moment.sessions, moment.machine))
        behind_lsn = self._files.prune()
        if behind_lsn >= self._log.first_lsn:
            self._log.truncate_before(behind_lsn + 1)
        return moment.lsn

    def _run(self) -> None:
        while True:
            self._due.wait()
            self._due.clear()
            if self._ending:
                return
            try:
                self.make()
            except (OSError, WALStoreError) as error:
                _logger.warning("no checkpoint of %s: %s", self._log.path, error)
            except BaseException:  # the machine's mistake, be it sys.exit(): its state is right
                _logger.exception("no checkpoint of %s: its machine failed", self._log.path)

    def close(self) -> None:
        """Ends, when one that has begun is made; who is interrupted calls it again."""
        self._ending = True
        self._due.set()
        self._thread.join()
