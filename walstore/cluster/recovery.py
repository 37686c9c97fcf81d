"""A new cluster from what a survivor of a lost one holds (docs/cluster.md, "A lost quorum")."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from typing import NamedTuple

from walstore.cluster.errors import RecoveryError
from walstore.errors import OptionError
from walstore.raft.ledger import COPY_NAME, Ledger
from walstore.raft.membership import Configuration
from walstore.replication.log import CONFIGURATIONS_NAME, NodeLog
from walstore.replication.repair import was_damaged
from walstore.replication.terms import next_term
from walstore.wal import files
from walstore.wal.manager import FileWALManager
from walstore.wal.mending import Claim
from walstore.wal.meta import is_replicated
from walstore.wal.opening import open_meta
from walstore.wal.writing import Replicated

__all__ = ["Carry", "Survivor", "Write", "check_others", "inspect_survivor", "make_cluster"]

UNFINISHED = ".unfinished"
_CHUNK_BYTES = 1 << 20


Write = Callable[[str, str], None]
"""Writes a snapshot for the same log under another id: into that one's directory, given its id;
durable at return."""

Carry = Callable[[FileWALManager], Write | None]
"""Finds the newest usable snapshot of a kind of a log; None: there is none. Changes nothing."""


class Survivor(NamedTuple):
    """The log of a node that was stopped.

    Attributes:
        path: its directory.
        log_id: of the cluster.
        first_lsn, last_lsn, last_term: what it holds.
        committed_lsn: at least so much of it was committed.
        term: its current one.
        voters, learners: of its cluster, as far as it knows.
        claim: term and lsn of the last entry that it had before damage took some of its entries,
            as far as that is known; None: it has all that it ever had.
        quarantined: its first and last entry that are known not to be those of the other nodes;
            None: there are none.
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
    claim: Claim | None = None
    quarantined: tuple[int, int] | None = None

    @property
    def place(self) -> tuple[int, int]:
        """Of two survivors, the one with the higher place has all that the other has and could have
        committed."""
        return self.last_term, self.last_lsn

    @property
    def lost_to(self) -> Claim | None:
        """Up to where entries were here that may be committed, and are gone now unless another
        survivor has at least this place; None: there are none."""
        return self.claim if self.claim is not None and self.claim > self.place else None


class _NodesLog(FileWALManager):
    """A log as its node opens it, with what is not committed; and nothing is replicated."""

    def __init__(self, path: str, node_id: str, log_id: bytes | None = None) -> None:
        self._replicated = Replicated(log_id, partial(next_term, node_id=node_id))
        super().__init__(path)

    @property
    def committed_lsn(self) -> int:
        """All of it: that is what is taken over."""
        return self.last_lsn

    def _term_of(self, lsn: int) -> int:
        assert self._writer is not None
        return self._writer.term_of(lsn)


def _is_nodes(path: str) -> bool:
    meta_fd = open_meta(path, write=False)
    try:
        return is_replicated(meta_fd)
    finally:
        files.close(meta_fd)


def _opened(path: str) -> _NodesLog:
    """Raises RecoveryError where no node that elects has left this log, and what FileWALManager
    raises: also where a node has it open."""
    FileWALManager(path, read_only=True).close()
    if not _is_nodes(path):
        raise RecoveryError(
            path,
            "it is the log of no node",
            "there is no quorum that it could lose: open it as it is, or see 'walstore verify'",
        )
    if not any(os.path.exists(os.path.join(path, n)) for n in (CONFIGURATIONS_NAME, COPY_NAME)):
        raise RecoveryError(
            path,
            f"the nodes of this log do not elect: it has no file {CONFIGURATIONS_NAME}",
            "have one of them lead without the others: walstore promote --force URL",
        )
    if was_damaged(path):
        raise RecoveryError(
            path,
            "damage was found in it that is not cut yet",
            "start the node once, which keeps what is sound, and stop it again",
        )
    return _NodesLog(path, "")


def _ledger(node: NodeLog) -> Ledger:
    return Ledger(node, frozenset(), damaged=node.claim is not None)


def _describe(log: _NodesLog, node: NodeLog) -> Survivor:
    now = _ledger(node).configurations()[-1][1]
    last_lsn, differing = node.last_lsn, node.quarantine
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
        node.claim,
        (differing["first_lsn"], differing["last_lsn"]) if differing else None,
    )


def inspect_survivor(path: str) -> Survivor:
    """What a node that was stopped holds. Its log is opened as the node would: no entry is changed,
    and what a crash has left of an append that was never acknowledged is cut, and kept beside it.

    Raises:
        RecoveryError: it is no node's, or its nodes do not elect, or damage was found that its
            node has not cut yet.
        LogLockedError: the node still runs.
        Other errors: as FileWALManager.
    """
    with closing(_opened(path)) as log:
        return _describe(log, NodeLog(log))._replace(path=path)


def check_others(path: str, others: Iterable[str]) -> None:
    """Raises OptionError where a log is among those of the other survivors."""
    for place in others:
        if os.path.realpath(place) == os.path.realpath(path):
            raise OptionError(f"{place} is the log itself: name those of other survivors")


def make_cluster(
    path: str,
    into: str,
    node_id: str,
    *,
    others: Iterable[str] = (),
    carry: Iterable[Carry] = (),
    entropy: Callable[[int], bytes] = os.urandom,
) -> Survivor:
    """Makes the first node of a new cluster, with all entries of a node of the old one; whole and
    durable at return, absent if it fails. The old log is opened as by inspect_survivor.

    Args:
        path: the log of the survivor that has most.
        into: the new directory.
        node_id: who votes alone in the new cluster, until others are added.
        others: the logs of other survivors: none may have more.
        carry: find the snapshots that are taken over. With none given the caller sees to that.
        entropy: random bytes, for the id.

    Returns:
        What the new node holds.

    Raises:
        RecoveryError: another survivor has more; or one of them differs from the others; or the
            log begins later than with its first entry, and no snapshot was found for what is
            missing; or `into` is there.
        ConfigurationError: `node_id` cannot be a node's.
        OptionError: `path` is among the others.
        Otherwise as inspect_survivor.
    """
    first = Configuration(frozenset({node_id}))
    first.check()
    others = [*others]
    check_others(path, others)
    into = into.rstrip(os.sep) or into
    unfinished = into + UNFINISHED
    for taken in (into, unfinished):
        if os.path.lexists(taken):
            hint = "remove it, or name another directory"
            raise RecoveryError(taken, "there is something already", hint)
    with closing(_opened(path)) as old:
        node = NodeLog(old)
        own = _describe(old, node)
        _check_sound(own)
        for other in map(inspect_survivor, others):
            _check_sound(other)
            _check_less(own, other)
        writes = _snapshots(old, carry)
        with closing(_NodesLog(unfinished, node_id, entropy(16))) as new:
            made = _fill(new, node, own, first)
            for write in writes:
                write(unfinished, new.log_id)
    files.rename(unfinished, into)
    files.sync_directory(os.path.dirname(os.path.abspath(into)))
    return made._replace(path=into)


def _snapshots(old: _NodesLog, carry: Iterable[Carry]) -> list[Write]:
    """Raises RecoveryError where there have to be some, and are none."""
    finds = [*carry]
    found = [write for find in finds if (write := find(old)) is not None]
    if finds and not found and old.first_lsn > 1:
        raise RecoveryError(
            old.path,
            f"it begins at lsn {old.first_lsn}, and no snapshot of what was before is whole",
            "recover from another survivor; if the application keeps its snapshots elsewhere, "
            "walstore.cluster.make_cluster makes the log without any",
        )
    return found


def _check_sound(survivor: Survivor) -> None:
    if survivor.quarantined is not None:
        first_lsn, last_lsn = survivor.quarantined
        raise RecoveryError(
            survivor.path,
            f"its entries {first_lsn} to {last_lsn} are not those of the other nodes",
            "recover from other survivors only",
        )


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
    for records in old.reader().chunks(own.first_lsn, _CHUNK_BYTES, own.last_lsn):
        log.submit_records(records)
        log.wait_durable(records.last_lsn)
    (node_id,) = first.voters
    log.adopt_term(next_term(own.term, node_id))
    log.wait_durable(log.append_configuration(first.encode()))
    # What the entries before the first one said of the members; that still holds here.
    _ledger(old).write_beside(log.path)
    log.set_committed(own.committed_lsn)
    made = _describe(new, log)
    assert made.voters == (node_id,)
    return made
