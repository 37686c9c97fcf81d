"""Acks: which nodes must hold an entry before it is acknowledged. Sans-IO, without state."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from walstore.errors import OptionError

__all__ = ["Acks", "AcksOption", "Receipt", "Rule", "Stage", "majority", "parse_acks"]

AcksOption = str | int | Set[str]
"""What users write: "async", "quorum", "all", a number of nodes, or a set of node ids."""


class Stage(IntEnum):
    """How far an entry is known to have come on a node; a later stage includes the earlier."""

    UNKNOWN = 0
    RECEIVED = 1
    DURABLE = 2
    APPLIED = 3


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is known about one entry.

    Attributes:
        lsn: the entry.
        stages: how far it is on each node of the cluster; the true stage is this one or a later.
    """

    lsn: int
    stages: Mapping[str, Stage]


class Rule(Protocol):
    """What makes an entry committed."""

    def reached(self, lsns: Mapping[str, int], leader_id: str) -> int:
        """The highest lsn that enough nodes hold.

        Args:
            lsns: how far each node is known to be; a node that is missing holds nothing.
            leader_id: the node that leads; what it does not hold is not committed.
        """


@dataclass(frozen=True, slots=True)
class Acks:
    """A rule. The leader is always one of the nodes that must hold an entry.

    Attributes:
        count: how many nodes in all.
        names: nodes that must be among them.
    """

    count: int
    names: frozenset[str] = frozenset()

    def __str__(self) -> str:
        """As a user would write it."""
        return f"{{{', '.join(sorted(self.names))}}}" if self.names else str(self.count)

    @property
    def alone(self) -> bool:
        """Whether the leader's disk is enough."""
        return self.count == 1 and not self.names

    def reached(self, lsns: Mapping[str, int], leader_id: str) -> int:
        """The highest lsn that enough nodes hold.

        Args:
            lsns: how far each node is known to be; a node that is missing holds nothing.
            leader_id: the node that leads.
        """
        reached = min(lsns.get(name, 0) for name in self.names | {leader_id})
        if self.count > 1:
            others = sorted((lsn for node, lsn in lsns.items() if node != leader_id), reverse=True)
            reached = min(reached, others[self.count - 2] if len(others) >= self.count - 1 else 0)
        return reached


def majority(nodes: int) -> int:
    """The least number of nodes of which any two sets have one in common."""
    return nodes // 2 + 1


def parse_acks(value: AcksOption, nodes: Set[str]) -> Acks:
    """The rule that a user's option stands for.

    Args:
        value: "async" (the leader alone), "quorum" (a majority), "all", a number of nodes that
            includes the leader, or the ids of nodes that must hold the entry besides the leader.
        nodes: every node of the cluster.

    Raises:
        OptionError: the option makes no sense for these nodes.
    """
    if value == "async":
        return Acks(1)
    if value == "quorum":
        return Acks(majority(len(nodes)))
    if value == "all":
        return Acks(len(nodes))
    if isinstance(value, int) and not isinstance(value, bool):
        if 1 <= value <= len(nodes):
            return Acks(value)
        raise OptionError(f"acks={value} of a cluster of {len(nodes)} nodes")
    if isinstance(value, Set) and not isinstance(value, str):
        unknown = sorted(set(value) - nodes)
        if value and not unknown:
            return Acks(1, frozenset(value))
        raise OptionError(f"acks names {unknown or 'nobody'}; the nodes are {sorted(nodes)}")
    raise OptionError(f"acks={value!r}: one of 'async', 'quorum', 'all', a number, a set of ids")
