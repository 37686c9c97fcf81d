"""A new cluster from what a survivor of a lost one holds (docs/cluster.md, "A lost quorum")."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from typing import NamedTuple

from walstore import durable
from walstore.cluster.errors import RecoveryError
from walstore.raft.ledger import Ledger
from walstore.raft.membership import Configuration
from walstore.replication.log import CONFIGURATIONS_NAME, NodeLog
from walstore.replication.terms import next_term
from walstore.wal import files
from walstore.wal.manager import FileWALManager
from walstore.wal.writing import Replicated

__all__ = ["Carry", "Survivor", "inspect_survivor", "make_cluster"]

UNFINISHED = ".unfinished"
_CHUNK_BYTES = 1 << 20
_FILE_BYTES_MAX = 1 << 24

Carry = Callable[[FileWALManager, str, str], None]
"""Takes an application's files over: the old log, the new one's directory, and its id."""


class Survivor(NamedTuple):
    """The log of a node that was stopped.

    Attributes:
        path: its directory.
        log_id: of the cluster.
        first_lsn, last_lsn, last_term: what it holds.
        committed_lsn: at least so much of it was committed.
        term: its current one.
        voters, learners: of its cluster, as far as it knows.
    """

    path: str
    log_id: str
    first_lsn: int
    last_lsn: int
    last_term: int
    committed_lsn: int
    term: int
    voters: tuple[str, ...]
    learners: tuple[str, ...]

    @property
    def place(self) -> tuple[int, int]:
        """Of two survivors, the one with the higher place has all that the other could have
        committed."""
        return self.last_term, self.last_lsn


class _NodesLog(FileWALManager):
    """A log as its node opens it, with what is not committed; and nothing is replicated."""

    def __init__(self, path: str, node_id: str, log_id: bytes | None = None) -> None:
        self._replicated = Replicated(log_id, partial(next_term, node_id=node_id))
        super().__init__(path)


def _opened(path: str) -> _NodesLog:
    """Raises RecoveryError where no node that elects has left this log, and what FileWALManager
    raises: also where a node has it open."""
    FileWALManager(path, read_only=True).close()
    if not os.path.exists(os.path.join(path, CONFIGURATIONS_NAME)):
        raise RecoveryError(
            path,
            "the nodes of this log do not elect",
            "have one of them lead without the others: walstore promote --force URL",
        )
    return _NodesLog(path, "")


def _describe(log: _NodesLog, node: NodeLog) -> Survivor:
    now = Ledger(node, frozenset()).configurations()[-1][1]
    last_lsn = node.last_lsn
    return Survivor(
        log.path,
        log.log_id,
        node.first_lsn,
        last_lsn,
        node.term_of(last_lsn),
        node.committed_lsn,
        node.term,
        tuple(sorted(now.voters | now.outgoing)),
        tuple(sorted(now.learners)),
    )


def inspect_survivor(path: str) -> Survivor:
    """What a node that was stopped holds. Its log is opened as the node would, and stays as it is.

    Raises:
        RecoveryError: its nodes do not elect.
        LogLockedError: the node still runs.
        Other errors: as FileWALManager.
    """
    with closing(_opened(path)) as log:
        return _describe(log, NodeLog(log))._replace(path=path)


def make_cluster(
    path: str,
    into: str,
    node_id: str,
    *,
    others: Iterable[str] = (),
    carry: Carry | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
) -> Survivor:
    """Makes the first node of a new cluster, with all entries of a node of the old one; whole and
    durable at return, absent if it fails. The old log is not changed.

    Args:
        path: the log of the survivor that has most.
        into: the new directory.
        node_id: who votes alone in the new cluster, until others are added.
        others: the logs of other survivors: none may have more.
        carry: takes the application's files over.
        entropy: random bytes, for the id.

    Returns:
        What the new node holds.

    Raises:
        RecoveryError: another survivor has more, or `into` is there.
        ConfigurationError: `node_id` cannot be a node's.
        Otherwise as inspect_survivor.
    """
    first = Configuration(frozenset({node_id}))
    first.check()
    unfinished = into + UNFINISHED
    for taken in (into, unfinished):
        if os.path.lexists(taken):
            hint = "remove it, or name another directory"
            raise RecoveryError(taken, "there is something already", hint)
    with closing(_opened(path)) as old:
        node = NodeLog(old)
        own = _describe(old, node)
        for other in map(inspect_survivor, others):
            _check_less(own, other)
        with closing(_NodesLog(unfinished, node_id, entropy(16))) as new:
            made = _fill(new, node, own, first)
            if carry is not None:
                carry(old, unfinished, new.log_id)
    files.rename(unfinished, into)
    files.sync_directory(os.path.dirname(os.path.abspath(into)))
    return made._replace(path=into)


def _check_less(own: Survivor, other: Survivor) -> None:
    if other.log_id != own.log_id:
        raise RecoveryError(other.path, f"it is of cluster {other.log_id}, not of {own.log_id}")
    if other.place > own.place:
        reason = (
            f"it has more: it ends at lsn {other.last_lsn}, term {other.last_term}, and {own.path} "
            f"at lsn {own.last_lsn}, term {own.last_term}"
        )
        raise RecoveryError(other.path, reason, f"recover from {other.path}")


def _fill(new: _NodesLog, old: NodeLog, own: Survivor, first: Configuration) -> Survivor:
    """The old entries, and one that says who votes, in a term that nobody had."""
    log = NodeLog(new)
    if own.first_lsn > 1:
        log.reset(own.first_lsn, old.term_of(own.first_lsn - 1), own.term)
    log.adopt_term(own.term)
    reader, lsn = old.reader(), own.first_lsn
    while lsn <= own.last_lsn:
        records = reader.read(lsn, _CHUNK_BYTES, own.last_lsn)
        log.submit_records(records)
        log.wait_durable(records.last_lsn)
        lsn = records.last_lsn + 1
    (node_id,) = first.voters
    log.adopt_term(next_term(own.term, node_id))
    log.wait_durable(log.append_configuration(first.encode()))
    # What the entries before the first one said of the members; that still holds here.
    _copy(os.path.join(own.path, CONFIGURATIONS_NAME), os.path.join(log.path, CONFIGURATIONS_NAME))
    log.set_committed(own.committed_lsn)
    made = _describe(new, log)
    assert made.voters == (node_id,)
    return made


def _copy(source: str, target: str) -> None:
    fd = files.open_file(source)
    try:
        data = files.read_at(fd, _FILE_BYTES_MAX, 0)
    finally:
        files.close(fd)
    durable.write_whole(target, [data], new=target + ".new")
