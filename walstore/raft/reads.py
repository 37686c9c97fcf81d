"""The rounds in which a leader makes sure that it leads, and reads that wait for them. Sans-IO."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from walstore.replication.effects import ReadReady
from walstore.replication.quorum import Quorum

__all__ = ["READS_MAX", "Rounds"]

READS_MAX = 10_000
"""Most reads that wait at a time."""


class _Read(NamedTuple):
    read_id: int
    lsn: int
    round: int


class Rounds:
    """Of one leadership.

    Args:
        node_id: the leader.

    Attributes:
        round: the last one that was begun; they count from 1.
        due_ms: when to begin the next one, if nothing asks for it before.
    """

    def __init__(self, node_id: str) -> None:
        self.round = 0
        self.due_ms = 0.0
        self._node_id = node_id
        self._answered: dict[str, int] = {}
        self._new: list[tuple[int, int]] = []  # reads that no round was begun for
        self._reads: deque[_Read] = deque()

    def __len__(self) -> int:
        """How many reads wait."""
        return len(self._new) + len(self._reads)

    def read(self, read_id: int, lsn: int) -> None:
        """A read waits for a round that is still to begin."""
        self._new.append((read_id, lsn))

    def begin(self) -> int:
        """Begins a round, for all reads that have none."""
        self.round += 1
        self._reads.extend(_Read(*read, self.round) for read in self._new)
        self._new.clear()
        return self.round

    def wanted(self, quorum: Quorum) -> bool:
        """Whether a read needs a round, and none is open that it could wait for the end of."""
        return bool(self._new) and self._confirmed(quorum) == self.round

    def answered(self, node: str, number: int) -> None:
        """A node has answered a round, or one before."""
        if number <= self.round:
            self._answered[node] = max(number, self._answered.get(node, 0))

    def ready(self, quorum: Quorum) -> list[ReadReady]:
        """The reads for which enough nodes have answered a round that began after them."""
        confirmed = self._confirmed(quorum)
        ready = []
        while self._reads and self._reads[0].round <= confirmed:
            read = self._reads.popleft()
            ready.append(ReadReady(read.read_id, read.lsn))
        return ready

    def waiting(self) -> list[int]:
        """The reads that wait."""
        return [read.read_id for read in self._reads] + [read_id for read_id, _ in self._new]

    def _confirmed(self, quorum: Quorum) -> int:
        return quorum.agreed(self._answered | {self._node_id: self.round}, 0)
