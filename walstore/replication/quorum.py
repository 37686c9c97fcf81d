"""Majorities of one set of voters, or of two at once (docs/consensus.md). Sans-IO, stateless."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import TypeVar

from walstore.replication.acks import majority

__all__ = ["Quorum"]

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Quorum:
    """What is enough: more than half of the voters, and of the outgoing ones if there are any.

    Without voters nothing ever is.

    Attributes:
        voters: the voters; in a joint configuration, those it leads to.
        outgoing: in a joint configuration, the voters it comes from; else empty.
    """

    voters: frozenset[str]
    outgoing: frozenset[str] = frozenset()

    @property
    def nodes(self) -> frozenset[str]:
        """Everybody who has a vote."""
        return self.voters | self.outgoing

    def elected(self, granted: Set[str]) -> bool:
        """Whether these nodes' votes are enough."""
        return _has_majority(self.voters, granted) and (
            not self.outgoing or _has_majority(self.outgoing, granted)
        )

    def rejected(self, refused: Set[str]) -> bool:
        """Whether without these nodes' votes there can never be enough."""
        return not self.elected(self.nodes - refused)

    def agreed(self, values: Mapping[str, Number], least: Number) -> Number:
        """The highest value that enough nodes have reached.

        Args:
            values: by node: an lsn, a round, a time.
            least: what a node that is missing has.
        """
        if not self.voters:
            return least
        agreed = _agreed(self.voters, values, least)
        return min(agreed, _agreed(self.outgoing, values, least)) if self.outgoing else agreed

    def reached(self, lsns: Mapping[str, int], leader_id: str) -> int:
        """The commit rule: durable on enough voters, and on the leader, who may be none of them."""
        return min(self.agreed(lsns, 0), lsns.get(leader_id, 0))


def _has_majority(voters: frozenset[str], granted: Set[str]) -> bool:
    return len(voters & granted) >= majority(len(voters))


def _agreed(voters: frozenset[str], values: Mapping[str, Number], least: Number) -> Number:
    """What a majority of some voters has reached."""
    descending = sorted((values.get(node, least) for node in voters), reverse=True)
    return descending[majority(len(voters)) - 1]
