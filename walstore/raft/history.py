"""The configurations in a log that grows and is cut: which one is in force. Sans-IO."""

from __future__ import annotations

from collections.abc import Sequence

from walstore.raft.membership import Configuration

__all__ = ["History", "as_of"]


class History:
    """The last configuration of a log is in force, whether it is committed or not.

    Args:
        known: lsn and configuration, in order of lsn: the one as of the entry before the log's
            first one, which is never cut, and those after it.
    """

    def __init__(self, known: Sequence[tuple[int, Configuration]]) -> None:
        assert known
        self._known = list(known)

    @property
    def current(self) -> Configuration:
        """The one in force."""
        return self._known[-1][1]

    @property
    def lsn(self) -> int:
        """Its entry."""
        return self._known[-1][0]

    def voters(self) -> frozenset[str]:
        """Every node whose vote may still be needed: what follows the last committed one may be
        cut, and until then it is not the only one that counts."""
        return frozenset[str]().union(*(item.quorum.nodes for _, item in self._known))

    def note(self, lsn: int, configuration: Configuration) -> None:
        """The log has a new configuration entry, behind the others."""
        assert lsn > self.lsn
        self._known.append((lsn, configuration))

    def cut(self, after_lsn: int) -> None:
        """The log ends here now. What is committed is never cut."""
        while self.lsn > after_lsn:
            del self._known[-1]

    def restart(self, lsn: int, configuration: Configuration) -> None:
        """A snapshot of lsn has taken the place of all that was known."""
        self._known = [(lsn, configuration)]

    def committed(self, lsn: int) -> None:
        """Everything up to lsn is committed: what was in force before it never is again."""
        while len(self._known) > 1 and self._known[1][0] <= lsn:
            del self._known[0]


def as_of(known: Sequence[tuple[int, Configuration]], lsn: int) -> Configuration:
    """The one in force at an entry, of those known, in order of lsn.

    The log of a cluster that did not elect before does not say who its members were; then they are
    those that the first change in it was made of.
    """
    before = [configuration for at, configuration in known if at <= lsn]
    if before and before[-1].voters:
        return before[-1]
    first = next((item for _, item in known if item.voters), Configuration())
    return Configuration(first.outgoing or first.voters)
