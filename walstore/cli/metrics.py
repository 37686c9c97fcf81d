"""A node's figures in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.registry import Collector

from walstore.replication import NodeStatus
from walstore.replication.metrics import NetworkMetrics, PeerMetrics

__all__ = ["CONTENT_TYPE", "metrics_text"]


def metrics_text(status: NodeStatus, network: NetworkMetrics) -> bytes:
    """All figures of a node, as they are now."""
    registry = CollectorRegistry()
    registry.register(_NodeCollector(status, network))
    return generate_latest(registry)


class _NodeCollector(Collector):
    """Figures that were gathered already."""

    def __init__(self, status: NodeStatus, network: NetworkMetrics) -> None:
        self._status = status
        self._network = network

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        yield from _node(self._status)
        yield from _peers(self._status)
        yield from _traffic(self._network)
        yield from _round_trips(self._network)


def _node(status: NodeStatus) -> Iterator[Metric]:
    yield InfoMetricFamily(
        "walstore_node",
        "Which node this is.",
        {"node_id": status.node_id, "cluster_id": status.cluster_id, "acks": status.acks},
    )
    yield GaugeMetricFamily(
        "walstore_leader", "1 where this node leads.", int(status.role == "leader")
    )
    yield GaugeMetricFamily(
        "walstore_leader_known", "1 where it knows a leader.", int(status.leader_id is not None)
    )
    yield GaugeMetricFamily(
        "walstore_failed", "1 where it needs a person to go on.", int(bool(status.error))
    )
    yield GaugeMetricFamily(
        "walstore_quarantined",
        "1 where its log is not that of the others.",
        int(status.quarantined),
    )
    yield GaugeMetricFamily(
        "walstore_lost_lsn", "Up to where damage took entries; 0: none.", status.lost_to_lsn
    )
    yield GaugeMetricFamily("walstore_term", "The current term.", status.term)
    yield GaugeMetricFamily(
        "walstore_role_seconds", "How long it has had its role.", status.since_s
    )
    lsns = GaugeMetricFamily("walstore_lsn", "Where its log is, by stage.", labels=["stage"])
    lsns.add_metric(["first"], status.first_lsn)
    lsns.add_metric(["last"], status.last_lsn)
    lsns.add_metric(["durable"], status.durable_lsn)
    lsns.add_metric(["committed"], status.committed_lsn)
    lsns.add_metric(["applied"], status.applied_lsn)
    yield lsns


def _peers(status: NodeStatus) -> Iterator[Metric]:
    connected = GaugeMetricFamily(
        "walstore_peer_connected", "1 where a peer is connected.", labels=["peer"]
    )
    labels = ["peer", "stage"]
    lsns = GaugeMetricFamily("walstore_peer_lsn", "Where a follower is.", labels=labels)
    entries = GaugeMetricFamily(
        "walstore_peer_lag_entries", "How many entries a follower lacks.", labels=labels
    )
    lag_bytes = GaugeMetricFamily(
        "walstore_peer_lag_bytes", "About how many bytes of log these are.", labels=labels
    )
    seconds = GaugeMetricFamily(
        "walstore_peer_lag_seconds", "How long the leader has had the oldest.", labels=labels
    )
    for peer in status.peers:
        connected.add_metric([peer.node_id], int(peer.connected))
        if peer.lag is None:
            continue
        lsns.add_metric([peer.node_id, "received"], peer.received_lsn)
        lsns.add_metric([peer.node_id, "durable"], peer.durable_lsn)
        lsns.add_metric([peer.node_id, "applied"], peer.applied_lsn)
        for stage, lag in peer.lag.items():
            entries.add_metric([peer.node_id, stage], lag.entries)
            lag_bytes.add_metric([peer.node_id, stage], lag.bytes)
            seconds.add_metric([peer.node_id, stage], lag.ms / 1000)
    yield from (connected, lsns, entries, lag_bytes, seconds)


def _traffic(network: NetworkMetrics) -> Iterator[Metric]:
    ways = ["peer", "direction"]
    messages = CounterMetricFamily(
        "walstore_peer_messages", "Messages, without handshakes.", labels=ways
    )
    wire = CounterMetricFamily("walstore_peer_bytes", "Bytes, frames included.", labels=ways)
    connects = CounterMetricFamily(
        "walstore_peer_connects", "Handshakes that ended well.", labels=["peer"]
    )
    failures = CounterMetricFamily(
        "walstore_peer_failures", "Connections not made, or lost.", labels=["peer"]
    )
    refused = CounterMetricFamily(
        "walstore_peer_refused", "Connections this node closed.", labels=["peer", "reason"]
    )
    queued = GaugeMetricFamily(
        "walstore_peer_queued_bytes", "Bytes that wait to be sent.", labels=["peer"]
    )
    for name, peer in network.peers.items():
        messages.add_metric([name, "sent"], peer.messages_sent)
        messages.add_metric([name, "received"], peer.messages_received)
        wire.add_metric([name, "sent"], peer.bytes_sent)
        wire.add_metric([name, "received"], peer.bytes_received)
        connects.add_metric([name], peer.connects)
        failures.add_metric([name], peer.failures)
        queued.add_metric([name], peer.queued_bytes)
        for reason, times in sorted(peer.refused.items()):
            refused.add_metric([name, reason], times)
    yield from (messages, wire, connects, failures, refused, queued)
    yield GaugeMetricFamily(
        "walstore_handshakes", "Connections whose other end is not known yet.", network.handshakes
    )
    strangers = CounterMetricFamily(
        "walstore_strangers_refused", "How often one of those was closed.", labels=["reason"]
    )
    for reason, times in sorted(network.strangers_refused.items()):
        strangers.add_metric([reason], times)
    yield strangers


def _round_trips(network: NetworkMetrics) -> Iterator[Metric]:
    histogram = HistogramMetricFamily(
        "walstore_peer_round_trip_seconds", "Of heartbeats.", labels=["peer"]
    )
    for name, peer in network.peers.items():
        histogram.add_metric([name], _cumulative(peer), peer.round_trip_sum_ns / 1e9)
    yield histogram


def _cumulative(peer: PeerMetrics) -> list[tuple[str, float]]:
    """Buckets as Prometheus counts them: each with all below it; the last is without a bound."""
    found: list[tuple[str, float]] = []
    total = 0
    for number, times in enumerate(peer.round_trip_buckets[:-1]):
        total += times
        found.append((repr((1 << number) / 1e6), total))
    return [*found, ("+Inf", peer.round_trips)]
