"""What a node knows of itself and of the others, for people and programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

from walstore.replication.lag import Lag
from walstore.replication.metrics import PeerMetrics
from walstore.replication.progress import Progress

__all__ = ["NodeStatus", "PeerStatus"]


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """Another node, as this one sees it. Lags are known on the leader only.

    Attributes:
        node_id, url: who and where; the url is None where only that node dials.
        connected: whether it is connected now.
        since_s: for how long it has been so, in seconds; where this process has not seen it yet,
            since it is a member, or since the process began.
        state: on the leader: "probe", "replicate" or "snapshot".
        received_lsn, durable_lsn, applied_lsn: how far it is, stage by stage.
        lag: {stage: how far behind the leader's log}.
        round_trip_ms: of the last heartbeat.
        error: what went wrong last, or "".
    """

    node_id: str
    url: str | None
    connected: bool
    since_s: float
    state: str | None = None
    received_lsn: int = 0
    durable_lsn: int = 0
    applied_lsn: int = 0
    lag: dict[str, Lag] | None = None
    round_trip_ms: float | None = None
    error: str = ""

    def with_figures(
        self,
        metrics: PeerMetrics | None,
        progress: Progress | None,
        lag_at: Callable[[int], Lag],
    ) -> PeerStatus:
        """With what the network and, on a leader, replication know of it.

        Args:
            lag_at: how far behind the leader's log a stage is that has reached an lsn.
        """
        found = self
        if metrics is not None:
            mean_ms = _mean_ms(metrics) if self.connected else None
            found = replace(found, round_trip_ms=mean_ms, error=metrics.last_error)
        if progress is None:
            return found
        stages = {
            "received": progress.received_lsn,
            "durable": progress.durable_lsn,
            "applied": progress.applied_lsn,
        }
        return replace(
            found,
            state=progress.state.value,
            received_lsn=progress.received_lsn,
            durable_lsn=progress.durable_lsn,
            applied_lsn=progress.applied_lsn,
            lag={name: lag_at(lsn) for name, lsn in stages.items()},
        )


def _mean_ms(metrics: PeerMetrics) -> float | None:
    return metrics.round_trip_sum_ns / metrics.round_trips / 1e6 if metrics.round_trips else None


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node of a replicated log.

    Attributes:
        node_id, cluster_id, url: who and where.
        role: what it is now; `leader_id` is None when it knows of no leader.
        term: the current one.
        first_lsn, last_lsn, durable_lsn, committed_lsn, applied_lsn: its own log.
        acks: when an entry counts as committed.
        since_s: for how long it has had this role.
        error: what keeps it, or the application on it, from taking part, or "".
        peers: the other nodes.
        election: "manual" or "raft".
        voters, learners: where nodes elect, the members that this one knows of.
        outgoing: while the voters change, those before: a majority of these is needed, too.
        newcomers: the learners that vote as soon as they have the log.
        leaving: the voters that are none any more from then on.
        changing: whether a change of them is under way.
        stalled_s: for how long the disk has taken nothing while entries wait for it; 0: it works.
        quarantined: whether its log is not that of the others; `error` says where.
        lost_to_lsn: damage took entries of its log, up to this one; it gets them from the others,
            and does not lead before. 0: it has all it should have.
    """

    node_id: str
    cluster_id: str
    url: str | None
    role: Literal["leader", "follower"]
    leader_id: str | None
    term: int
    first_lsn: int
    last_lsn: int
    durable_lsn: int
    committed_lsn: int
    applied_lsn: int
    acks: str
    since_s: float
    error: str
    peers: tuple[PeerStatus, ...]
    election: Literal["manual", "raft"] = "manual"
    voters: tuple[str, ...] = ()
    learners: tuple[str, ...] = ()
    outgoing: tuple[str, ...] = ()
    newcomers: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()
    changing: bool = False
    stalled_s: float = 0.0
    lost_to_lsn: int = 0
    quarantined: bool = False

    def with_members(
        self,
        voters: Iterable[str],
        learners: Iterable[str],
        outgoing: Iterable[str],
        newcomers: Iterable[str],
        leaving: Iterable[str],
        *,
        changing: bool,
    ) -> NodeStatus:
        """Of a node that elects, with the members it knows of."""
        return replace(
            self,
            acks="quorum",
            election="raft",
            voters=tuple(sorted(voters)),
            learners=tuple(sorted(learners)),
            outgoing=tuple(sorted(outgoing)),
            newcomers=tuple(sorted(newcomers)),
            leaving=tuple(sorted(leaving)),
            changing=changing,
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON; a lag is {"entries", "bytes", "ms"}."""
        found = asdict(self)
        for peer in found["peers"]:
            if peer["lag"] is not None:
                peer["lag"] = {stage: lag._asdict() for stage, lag in peer["lag"].items()}
        return found

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Self:
        """The status that `as_dict` gave, or JSON of it.

        Raises:
            AttributeError, KeyError, TypeError: it is none.
        """
        lists = ("voters", "learners", "outgoing", "newcomers", "leaving")
        peers = tuple(
            PeerStatus(**peer | {"lag": peer["lag"] and _lags(peer["lag"])})
            for peer in found["peers"]
        )
        return cls(**found | {name: tuple(found[name]) for name in lists} | {"peers": peers})


def _lags(found: dict[str, dict[str, Any]]) -> dict[str, Lag]:
    return {stage: Lag(**lag) for stage, lag in found.items()}
