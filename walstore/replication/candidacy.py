"""Whether a node that is to lead asks for votes by itself."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from walstore.replication.acks import majority
from walstore.replication.terms import owns_term

__all__ = ["Candidacy"]


class Candidacy:
    """What `role="leader"` asks for, until another node is left to lead.

    Args:
        wanted: whether the node was told to lead.
        node_id, members: this node, and all of its cluster.
        timeout_ms: for how long no leader must have been heard.

    Attributes:
        wanted: whether it still is to lead.
        settled: set while it is known who leads, or that this node will not.
    """

    def __init__(
        self, wanted: bool, node_id: str, members: frozenset[str], timeout_ms: float
    ) -> None:
        self.wanted = wanted
        self.settled = threading.Event()
        self._others = members - {node_id}
        self._timeout_ms = timeout_ms
        self._judged_term = -1
        self._received_before: dict[str, int] = {}

    def withdraw(self) -> None:
        """It is left to others to lead."""
        self.wanted = False
        self.settled.set()

    def wait(self, timeout_s: float) -> bool:
        """Whether it wants to lead, and it becomes known in time who does. From any thread."""
        return self.wanted and self.settled.wait(timeout_s)

    def is_due(
        self, term: int, silent_ms: float, connected: int, received: Mapping[str, int]
    ) -> bool:
        """Whether to ask for votes now.

        Args:
            term: the current one, in which no leader is known.
            silent_ms: how long no leader has been heard, and no connection has changed.
            connected: how many other nodes are connected.
            received: how many messages have come from each node so far.

        The node that chose the term may be leading unheard, and would be deposed by one that was
        cut off and knows the term from others: it must have been heard of since.
        """
        if term != self._judged_term:
            self._judged_term, self._received_before = term, dict(received)
        before = self._received_before
        owners = [node for node in self._others if owns_term(term, node)]
        if not all(received.get(node, 0) > before.get(node, 0) for node in owners):
            return False
        return connected + 1 >= majority(len(self._others) + 1) and silent_ms > self._timeout_ms
