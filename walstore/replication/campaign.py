"""A candidate's count of votes (Ongaro, 3.4). Sans-IO."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Protocol

from walstore.replication.acks import majority
from walstore.replication.message import VoteResponse

__all__ = ["Campaign", "Electorate", "Majority"]


class Electorate(Protocol):
    """Who votes, and what is enough."""

    @property
    def nodes(self) -> frozenset[str]:
        """Every node that is asked."""

    def elected(self, granted: Set[str]) -> bool:
        """Whether these nodes' votes are enough."""

    def rejected(self, refused: Set[str]) -> bool:
        """Whether without these nodes' votes there can never be enough."""


@dataclass(frozen=True, slots=True)
class Majority:
    """More than half of the nodes."""

    nodes: frozenset[str]

    def elected(self, granted: Set[str]) -> bool:
        """Whether these nodes' votes are enough."""
        return len(granted & self.nodes) >= majority(len(self.nodes))

    def rejected(self, refused: Set[str]) -> bool:
        """Whether without these nodes' votes there can never be enough."""
        return not self.elected(self.nodes - refused)


class Campaign:
    """One try to lead. The candidate has granted its own vote.

    Args:
        node_id: the candidate.
        electorate: who votes.
        term: the one it wants to lead in.
    """

    def __init__(self, node_id: str, electorate: Electorate, term: int) -> None:
        self.term = term
        self.granted = {node_id}
        self.refused: dict[str, str] = {}
        self._electorate = electorate

    @property
    def won(self) -> bool:
        """Whether a majority wants it to lead."""
        return self._electorate.elected(self.granted)

    @property
    def lost(self) -> bool:
        """Whether too many have refused for a majority to come."""
        return self._electorate.rejected(self.refused.keys())

    def answered(self, node: str, answer: VoteResponse) -> None:
        """A node's vote; the last one counts."""
        if answer.granted:
            self.granted.add(node)
            self.refused.pop(node, None)
        elif node not in self.granted:
            end = f"lsn {answer.last_lsn} of term {answer.last_term}"
            self.refused[node] = f"its log goes further: to {end}"

    def is_open(self, node: str) -> bool:
        """Whether the node votes, and has not answered yet."""
        asked = node in self._electorate.nodes
        return asked and node not in self.granted and node not in self.refused

    def reasons(self, connected: frozenset[str]) -> dict[str, str]:
        """Why each node that did not grant its vote did not."""
        reasons = dict(self.refused)
        for node in sorted(self._electorate.nodes):
            if self.is_open(node):
                reasons[node] = "no answer yet" if node in connected else "not connected"
        return reasons
