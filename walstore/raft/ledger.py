"""The configurations of a log on a disk: which one is in force where, also when the entries that
said so are gone (docs/consensus.md, "The file beside the log").

The file `configurations`, and then its copy, is written anew, synced and renamed: sealed
(replication/sealed.py) JSON,

    {"assumed": lsn, "marks": [{"lsn": lsn, "term": its term,
    "configurations": [[lsn, payload as hex], ...]}, ...]}

A mark says which configurations there are up to an entry. It holds for a log that has this entry
with this term: of two, the second is that of a snapshot that was about to be installed.
"""

from __future__ import annotations

import json
import os
import threading
from typing import NamedTuple, Protocol

from walstore import durable
from walstore.errors import CorruptLogError, LogFullError
from walstore.raft.errors import ConfigurationError
from walstore.raft.history import as_of
from walstore.raft.membership import Configuration, decode_configuration
from walstore.replication.log import CONFIGURATIONS_NAME
from walstore.replication.sealed import seal, unseal
from walstore.wal import files

__all__ = ["COPY_NAME", "Ledger", "LedgerLog", "Mark"]

_FILE_BYTES_MAX = 1 << 24
COPY_NAME = f"{CONFIGURATIONS_NAME}.copy"


class LedgerLog(Protocol):
    """What the ledger needs of the log."""

    path: str

    @property
    def first_lsn(self) -> int: ...

    @property
    def last_lsn(self) -> int: ...

    @property
    def committed_lsn(self) -> int: ...

    def term_of(self, lsn: int) -> int:
        """The term of an entry, or of the one before the first."""

    def configurations_from(self, lsn: int) -> list[tuple[int, bytes]]:
        """Lsn and payload of each configuration entry from this one on."""


class Mark(NamedTuple):
    """The configurations up to an entry, the oldest of them as of the log's first one."""

    lsn: int
    term: int
    known: tuple[tuple[int, bytes], ...]


class Ledger:
    """Kept in the node's loop; `write` may be called in any thread.

    Args:
        log: the log, as it was opened.
        voters: of a log that has entries and was never elected for: who its nodes are.
        damaged: the log ends before what damage took of it, perhaps before a mark.

    Attributes:
        assumed: the lsn of a configuration that no entry says yet: the one made of `voters`; -1.

    Raises:
        CorruptLogError: both copies of the file are damaged, or another log's.
        ConfigurationError: `voters` cannot be a cluster.
    """

    def __init__(self, log: LedgerLog, voters: frozenset[str], *, damaged: bool = False) -> None:
        self._log = log
        self._path = os.path.join(log.path, CONFIGURATIONS_NAME)
        self._copy = os.path.join(log.path, COPY_NAME)
        self._lock = threading.Lock()
        self.assumed = -1
        self._next: Mark | None = None
        marks = self._read()
        if marks is None:
            known = log.configurations_from(log.first_lsn)
            if not known and log.last_lsn:
                self.assumed = log.first_lsn - 1
                first = Configuration(voters)
                first.check()
                known = [(self.assumed, first.encode())]
            self._known = known
            self.marked_lsn = -1
            self.write(self.mark())
            return
        holding = [mark for mark in marks if self._holds(mark)]
        if not holding and damaged:
            self._known = [item for item in marks[0].known if item[0] <= log.last_lsn]
            self.marked_lsn = -1
            self.write(self.mark())
            return
        if not holding:
            raise self._damaged("it is of another log")
        mark = holding[0]  # where entries have caught up with a snapshot, the first knows more
        self._known = [*mark.known, *log.configurations_from(max(mark.lsn + 1, log.first_lsn))]
        self.marked_lsn = mark.lsn

    # ---- what is known ----

    def configurations(self) -> list[tuple[int, Configuration]]:
        """As RaftNode wants them: where no entry says who the members were when the log began,
        there are none as of then, whom a cut of all the others brings back."""
        try:
            found = [(lsn, decode_configuration(payload)) for lsn, payload in self._known]
        except ConfigurationError as error:
            raise self._damaged(error.reason) from None
        before = self._log.first_lsn - 1
        return found if found and found[0][0] <= before else [(before, Configuration()), *found]

    def at(self, lsn: int) -> bytes:
        """The payload of the one in force at an entry."""
        return as_of(self.configurations(), lsn).encode()

    def note(self, lsn: int, payload: bytes) -> None:
        """The log has another one, behind the others: those that it had there are gone."""
        self.cut(lsn - 1)
        self._known = [*self._known, (lsn, payload)]

    def cut(self, after_lsn: int) -> None:
        """The log ends here now."""
        self._known = [item for item in self._known if item[0] <= after_lsn]

    def begin_anew(self) -> None:
        """The log has begun anew, after the entry of the mark that was to hold then."""
        assert self._next is not None
        self._known = [*self._next.known]

    # ---- on the disk ----

    def mark(self) -> Mark:
        """What is known of what is committed."""
        log = self._log
        lsn, before = log.committed_lsn, log.first_lsn - 1
        old = [item for item in self._known if item[0] <= before][-1:]
        new = [item for item in self._known if before < item[0] <= lsn]
        return Mark(lsn, log.term_of(lsn), (*old, *new))

    def write(self, mark: Mark, then: Mark | None = None) -> None:
        """Keeps a mark that holds now, and one that will when the log has begun anew; durable at
        return. Nothing is to do where a later one is kept: marks are made in several threads.

        Raises:
            LogFullError, OSError: the disk did not take it; the file before is still there.
        """
        with self._lock:
            if then is not None:
                self._next = then
            elif mark.lsn < self.marked_lsn:
                return
            data = self._encoded(self._marks(mark))
            try:
                _write(self._path, data)
            except OSError as error:
                if error.errno not in files.NO_SPACE:
                    raise
                raise LogFullError(error.errno, self._path) from error
            self.marked_lsn = mark.lsn

    def _marks(self, mark: Mark) -> list[Mark]:
        if self._next is None or self._next.lsn < mark.lsn:
            return [mark]
        if self._next.lsn > mark.lsn:
            return [mark, self._next]
        # The mark may have been made when the log had begun anew, and `begin_anew` had not said so
        # yet. Where it has not begun anew, its entries have caught up, and say more.
        return [self._next if self._log.first_lsn == mark.lsn + 1 else mark]

    def write_beside(self, directory: str) -> None:
        """Keeps what is known of what is committed beside another log, which has the same entries;
        durable at return.

        Raises:
            OSError: the disk did not take it.
        """
        _write(os.path.join(directory, CONFIGURATIONS_NAME), self._encoded([self.mark()]))

    def _encoded(self, marks: list[Mark]) -> bytes:
        body = json.dumps({"assumed": self.assumed, "marks": [_plain(each) for each in marks]})
        return seal(body.encode())

    def _read(self) -> list[Mark] | None:
        """None: there is no file, and no copy. The copy holds where the file is damaged or gone:
        nothing that it does not cover is dropped before both are written."""
        there = [path for path in (self._path, self._copy) if os.path.exists(path)]
        if not there:
            return None
        whole = [body for path in there if (body := _body_of(path)) is not None]
        if not whole:
            raise self._damaged("its checksum does not match")
        found = json.loads(whole[0])
        self.assumed = found["assumed"]
        return [
            Mark(
                mark["lsn"],
                mark["term"],
                tuple((lsn, bytes.fromhex(text)) for lsn, text in mark["configurations"]),
            )
            for mark in found["marks"]
        ]

    def _holds(self, mark: Mark) -> bool:
        log = self._log
        there = log.first_lsn - 1 <= mark.lsn <= log.last_lsn
        return there and log.term_of(mark.lsn) == mark.term

    def _damaged(self, reason: str) -> CorruptLogError:
        return CorruptLogError(self._path, 0, self._log.first_lsn, reason)


def _write(path: str, data: bytes) -> None:
    """The file, and then its copy beside it."""
    directory = os.path.dirname(path)
    for target in (path, os.path.join(directory, COPY_NAME)):
        durable.write_whole(target, [data], new=target + ".new")


def _body_of(path: str) -> bytes | None:
    with files.opened(path) as fd:
        return unseal(files.read_at(fd, _FILE_BYTES_MAX, 0))


def _plain(mark: Mark) -> dict[str, object]:
    known = [[lsn, payload.hex()] for lsn, payload in mark.known]
    return {"lsn": mark.lsn, "term": mark.term, "configurations": known}
