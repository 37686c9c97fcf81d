"""What holds after each step of any node, and between any two of them (docs/consensus.md)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from tests.raft.sim.disk import RaftDisk
from walstore.raft.node import RaftNode
from walstore.replication.terms import owns_term

__all__ = ["check_all", "check_node"]


class Watched(Protocol):
    """A node of a cluster; its core is None while it is down."""

    @property
    def name(self) -> str: ...

    @property
    def disk(self) -> RaftDisk: ...

    @property
    def core(self) -> RaftNode | None: ...


def check_node(core: RaftNode, disk: RaftDisk) -> None:
    """One node by itself, after its effects were carried out."""
    assert disk.term == core.term, "term is durable: it is the node's vote, too"
    assert core.committed_lsn <= disk.durable_lsn, "committed is durable here"
    assert core.committed_lsn <= core.matched_lsn or core.role != "leader"
    earlier, (lsn, configuration) = disk.configurations[:-1], disk.configurations[-1]
    if core.configuration_lsn <= disk.last_lsn:  # else the disk has just refused it
        expected = (core.configuration_lsn, core.configuration)
        assert expected == (lsn, configuration), "the last configuration in the log is in force"
    if core.role == "leader":
        assert owns_term(core.term, core._shared.node_id), "a term belongs to who leads in it"
        if lsn >= disk.first_lsn and disk.term_of(lsn) == core.term:
            assert all(at <= core.committed_lsn for at, _ in earlier), "one change at a time"


def check_all(nodes: Collection[Watched]) -> None:
    """Any two nodes with each other."""
    up = [(node, node.core) for node in nodes if node.core is not None]
    for node, core in up:
        check_node(core, node.disk)
    leaders = [core.term for _, core in up if core.role == "leader"]
    assert len(leaders) == len(set(leaders)), "election safety: a term has one leader"
    for node, core in up:
        for other, other_core in up:
            _check_pair(node.disk, core, other.disk, other_core)


def _check_pair(disk: RaftDisk, core: RaftNode, other: RaftDisk, other_core: RaftNode) -> None:
    lows = range(max(disk.first_lsn, other.first_lsn), min(disk.last_lsn, other.last_lsn) + 1)
    same = [disk.entry(lsn).term == other.entry(lsn).term for lsn in lows]
    for at, lsn in enumerate(lows):
        if same[at]:
            assert disk.entry(lsn) == other.entry(lsn), "(lsn, term) names one entry"
            assert all(same[:at]), "log matching: logs that meet are the same before that"
        if lsn <= min(core.committed_lsn, other_core.committed_lsn):
            assert same[at], "state machine safety: what is committed is one"
    if core.role == "leader" and other_core.term < core.term:
        assert core.matched_lsn >= other_core.committed_lsn, "leader completeness"
