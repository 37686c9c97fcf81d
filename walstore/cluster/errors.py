"""What can go wrong with a cluster as a whole.

WALStoreError
    ClusterError
        ChangeRefusedError           a change that would stop the cluster, and was not made
        NotWellError (TimeoutError)  a cluster is not well in time
        RecoveryError                a lost quorum is not taken up again from this log
"""

from __future__ import annotations

from walstore.cluster.health import ClusterHealth
from walstore.errors import WALStoreError

__all__ = ["ChangeRefusedError", "ClusterError", "NotWellError", "RecoveryError"]


class ClusterError(WALStoreError):
    """Something with a cluster is not as it should be."""


class ChangeRefusedError(ClusterError):
    """A change was not made, since the cluster could commit nothing after it.

    Attributes:
        reason: why.
    """

    hint = "bring back or replace the nodes that are not well first: walstore cluster status"

    def __init__(self, what: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{what} is refused: {reason}")


class NotWellError(ClusterError, TimeoutError):
    """A cluster is not well, or has no leader, in time.

    Attributes:
        health: how it is.
    """

    hint = "walstore cluster status says what is the matter with each node"

    def __init__(self, health: ClusterHealth, timeout_s: float) -> None:
        self.health = health
        parts = [
            f"{n.node_id} is {n.state}" + (f" ({n.reason})" if n.reason else "")
            for n in health.nodes
            if n.role and not n.well
        ]
        if health.leader_id is None:
            parts.insert(0, "nobody who answers leads")
        if health.changing:
            parts.append("a change of the members is under way")
        super().__init__(f"not well after {timeout_s:g} s: {'; '.join(parts) or 'a node is late'}")


class RecoveryError(ClusterError):
    """No new cluster is made of this log; nothing was changed.

    Attributes:
        path: the log's directory.
        reason: why not.
    """

    def __init__(self, path: str, reason: str, hint: str = "") -> None:
        self.path = path
        self.reason = reason
        self.hint = hint
        super().__init__(f"{path}: {reason}")
