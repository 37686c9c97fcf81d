"""A candidate's count of votes (Ongaro, 3.4). Sans-IO."""

from __future__ import annotations

from walstore.replication.message import VoteResponse
from walstore.replication.quorum import Quorum

__all__ = ["Campaign"]


class Campaign:
    """One try to lead. The candidate has granted its own vote.

    Args:
        node_id: the candidate.
        electorate: who votes, and what is enough.
        term: the one it wants to lead in.
    """

    def __init__(self, node_id: str, electorate: Quorum, term: int) -> None:
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
