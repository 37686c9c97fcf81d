"""The invariants are broken, one after the other, and each is noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from walstore.raft.membership import Configuration

from .invariants import check_all
from .script import Script


def cluster() -> Script:
    """Leader a, followers b and c, with four entries that all have committed."""
    script = Script()
    for line in ("cluster abc", "elect a", "append a 3", "run 50"):
        script.do(line)
    assert all(node.raft.committed_lsn == 4 for node in script.raft_nodes.values())
    return script


def term_of_an_entry(script: Script) -> None:
    disk = script.raft_nodes["b"].disk
    script.raft_nodes["b"].raft._shared.committed_lsn = 0
    disk.entries[1] = replace(disk.entries[1], term=1)


def payload_of_an_entry(script: Script) -> None:
    disk = script.raft_nodes["b"].disk
    disk.entries[1] = replace(disk.entries[1], payload=999)


def last_entry(script: Script) -> None:
    disk = script.raft_nodes["b"].disk
    disk.entries[3] = replace(disk.entries[3], term=1)


def term_on_the_disk(script: Script) -> None:
    script.raft_nodes["c"].disk.term -= 1


def what_the_disk_has(script: Script) -> None:
    script.raft_nodes["c"].disk.durable_lsn = 3


def configuration_on_the_disk(script: Script) -> None:
    script.raft_nodes["c"].disk.configurations.append((4, Configuration(frozenset("c"))))


def second_leader(script: Script) -> None:
    nodes = script.raft_nodes
    nodes["b"].raft._leader = nodes["a"].raft._leader


def term_of_the_leader(script: Script) -> None:
    node = script.raft_nodes["a"]
    node.disk.term = node.raft._shared.term = node.raft.term + 1


def entries_of_the_leader(script: Script) -> None:
    node = script.raft_nodes["a"]
    del node.disk.entries[3]
    node.disk.durable_lsn = 3
    node.raft._shared.committed_lsn = 3
    node.disk.term = node.raft._shared.term = node.raft.term + (1 << 16)


def two_changes(script: Script) -> None:
    node = script.raft_nodes["a"]
    first, second = Configuration(frozenset("ab")), Configuration(frozenset("a"))
    node.raft._shared.committed_lsn = 2
    node.disk.configurations += [(3, first), (4, second)]
    node.raft._history.note(3, first)
    node.raft._history.note(4, second)


@pytest.mark.parametrize(
    ("damage", "invariant"),
    [
        (term_of_an_entry, "log matching"),
        (payload_of_an_entry, "names one entry"),
        (last_entry, "state machine safety"),
        (term_on_the_disk, "term is durable"),
        (what_the_disk_has, "committed is durable"),
        (configuration_on_the_disk, "the last configuration in the log"),
        (second_leader, "a term belongs"),
        (term_of_the_leader, "a term belongs"),
        (entries_of_the_leader, "leader completeness"),
        (two_changes, "one change"),
    ],
)
def test_damage_is_noticed(damage: Callable[[Script], None], invariant: str) -> None:
    script = cluster()
    check_all(script.raft_nodes.values())  # type: ignore[arg-type]
    damage(script)
    with pytest.raises(AssertionError, match=invariant):
        check_all(script.raft_nodes.values())  # type: ignore[arg-type]
