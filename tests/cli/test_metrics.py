"""A node's figures for Prometheus."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from walstore.cli.metrics import metrics_text
from walstore.replication import NodeStatus, PeerStatus
from walstore.replication.lag import Lag
from walstore.replication.metrics import NetworkMetrics, PeerCounters, peer_metrics


def test_every_figure() -> None:
    counters = PeerCounters(messages_sent=3, bytes_received=1000, connects=2, failures=1)
    counters.refused['bad "MAC"'] += 4
    for microseconds in (0, 1, 3, 3, 1 << 40):
        counters.round_trips.add(microseconds * 1000)
    network = NetworkMetrics({"b": peer_metrics(counters, None, 77)}, 5, {"no proof": 6})
    lag = {"received": Lag(1, 20, 1500.0), "durable": Lag(2, 30, 2500.0)}
    peers = (
        PeerStatus("b", None, True, 1.0, "replicate", 9, 8, 7, lag),
        PeerStatus("c", "", False, 0),
    )
    status = NodeStatus(
        "a", "ab" * 16, None, "leader", "a", 1 << 20, 1, 10, 10, 8, 6, "2", 12.5, "oh", peers
    )
    found = {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics_text(status, network).decode())
        for sample in family.samples
    }
    wanted = {
        ("walstore_node_info", "2", "ab" * 16, "a"): 1,
        ("walstore_leader",): 1,
        ("walstore_leader_known",): 1,
        ("walstore_failed",): 1,
        ("walstore_term",): 1 << 20,
        ("walstore_role_seconds",): 12.5,
        ("walstore_lsn", "first"): 1,
        ("walstore_lsn", "last"): 10,
        ("walstore_lsn", "durable"): 10,
        ("walstore_lsn", "committed"): 8,
        ("walstore_lsn", "applied"): 6,
        ("walstore_peer_connected", "b"): 1,
        ("walstore_peer_connected", "c"): 0,
        ("walstore_peer_lsn", "b", "received"): 9,
        ("walstore_peer_lsn", "b", "durable"): 8,
        ("walstore_peer_lsn", "b", "applied"): 7,
        ("walstore_peer_lag_entries", "b", "durable"): 2,
        ("walstore_peer_lag_bytes", "b", "durable"): 30,
        ("walstore_peer_lag_seconds", "b", "durable"): 2.5,
        ("walstore_peer_messages_total", "sent", "b"): 3,
        ("walstore_peer_bytes_total", "received", "b"): 1000,
        ("walstore_peer_connects_total", "b"): 2,
        ("walstore_peer_failures_total", "b"): 1,
        ("walstore_peer_refused_total", "b", 'bad "MAC"'): 4,
        ("walstore_peer_queued_bytes", "b"): 77,
        ("walstore_handshakes",): 5,
        ("walstore_strangers_refused_total", "no proof"): 6,
        ("walstore_peer_round_trip_seconds_bucket", "1e-06", "b"): 1,
        ("walstore_peer_round_trip_seconds_bucket", "2e-06", "b"): 2,
        ("walstore_peer_round_trip_seconds_bucket", "4e-06", "b"): 4,
        ("walstore_peer_round_trip_seconds_bucket", "+Inf", "b"): 5,
        ("walstore_peer_round_trip_seconds_count", "b"): 5,
    }
    assert {key: found.get(key) for key in wanted} == wanted
    assert ("walstore_peer_lsn", "c", "durable") not in found  # not known
