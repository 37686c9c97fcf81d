"""The contenders, the rows, and the sizes of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.replication.cluster import Cluster, Metrics
from bench.replication.elected import Elected, ElectedFive
from bench.replication.etcd import Etcd
from bench.replication.floor import Floor
from bench.replication.nodes import Plain, Walstore
from bench.replication.postgres import PostgresInsert, PostgresMessage
from bench.replication.pysyncobj import PySyncObj
from bench.replication.redis import Redis

CONTENDERS: dict[str, type[Cluster]] = {
    "walstore": Walstore,
    "floor": Floor,
    "postgres-insert": PostgresInsert,
    "postgres-message": PostgresMessage,
    "redis": Redis,
    "etcd": Etcd,
    "plain": Plain,
    "elected": Elected,
    "elected-5": ElectedFive,
    "pysyncobj": PySyncObj,
}
POSTGRES = ("postgres-insert", "postgres-message")
PEERS = (*POSTGRES, "redis", "etcd")
ELECTING = ("elected", "etcd", "pysyncobj")
CLIENTS = (16, 64, 256)  # of a peer: the best of them counts
IN_FLIGHT = 256
PAYLOAD = b"x" * 128


@dataclass(frozen=True)
class Settings:
    """The sizes of a run."""

    rounds: int
    seconds: float
    mib: int
    kills: int


Work = Callable[[str, Cluster, Settings], dict[str, Metrics]]  # by label


@dataclass(frozen=True)
class Row:
    """One kind of work, and who does it."""

    name: str
    title: str
    contenders: tuple[str, ...]
    work: Work
    metric: str = "ops_per_s"  # that is drawn


def simple(call: Callable[[Cluster, Settings], Metrics]) -> Work:
    """Work that gives one result."""
    return lambda name, cluster, settings: {name: call(cluster, settings)}


def many(name: str, cluster: Cluster, settings: Settings) -> dict[str, Metrics]:
    """With 256 in flight; a peer with each number of clients."""
    if name not in PEERS:
        return {name: cluster.many(PAYLOAD, settings.seconds, IN_FLIGHT)}
    return {f"{name}/{n}": cluster.many(PAYLOAD, settings.seconds, n) for n in CLIENTS}


ROWS = (
    Row(
        "one", "quorum append, 128 B, one at a time", ("walstore", "floor", *PEERS),
        simple(lambda c, s: c.one(PAYLOAD, s.seconds)),
    ),
    Row("many", "quorum append, 128 B, 256 in flight", ("walstore", *PEERS), many),
    Row(
        "batch", "batches of 100 x 128 B, 16 in flight", ("walstore", *POSTGRES),
        simple(lambda c, s: c.batches(PAYLOAD, s.seconds)),
    ),
    Row(
        "async", "append that waits for no follower, 128 B", ("walstore", "plain"),
        simple(lambda c, s: c.asynchronous(PAYLOAD, s.seconds)),
    ),
    Row(
        "catch-up", "a follower with nothing takes all, entries of 1 KiB",
        ("walstore", "floor", "postgres-insert"),
        simple(lambda c, s: c.catch_up(s.mib)), "mib_per_s",
    ),
    Row(
        "stopped", "appends of 1 KiB while one follower is stopped", ("walstore",),
        simple(lambda c, s: c.stopped(s.mib)), "mib_per_s",
    ),
    Row(
        "disturbed", "p99 of an append beside a slow follower, and a catch-up", ("walstore",),
        simple(lambda c, s: c.disturbed(PAYLOAD, s.seconds, s.mib)), "p99_us",
    ),
    Row(
        "elected-one", "nodes that elect: 128 B, one at a time", ELECTING,
        simple(lambda c, s: c.one(PAYLOAD, s.seconds)),
    ),
    Row("elected-many", "nodes that elect: 128 B, 256 in flight", ELECTING, many),
    Row(
        "five", "five nodes that elect, and three: 128 B, one at a time",
        ("elected-5", "elected"), simple(lambda c, s: c.one(PAYLOAD, s.seconds)), "p50_us",
    ),
    Row(
        "failover", "from kill -9 of the leader to the next append, election timeout 1 s",
        ELECTING, simple(lambda c, s: c.failover(PAYLOAD, s.kills)), "failover_ms",
    ),
    Row(
        "idle", "CPU of a node of a cluster that nobody uses", ELECTING,
        simple(lambda c, s: c.idle(10 * s.seconds)), "cpu_percent",  # counted in hundredths of 1 s
    ),
)  # fmt: skip
