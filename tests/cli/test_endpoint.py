"""The local endpoint of a node."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.nodes import append, ask, lone_node
from walstore import OptionError
from walstore.cli import endpoint as endpoint_module
from walstore.cli.endpoint import Endpoint
from walstore.replication import ReplicationWALManager
from walstore.replication.security import is_loopback


@pytest.fixture
def solo(tmp_path: Path) -> Iterator[Endpoint]:
    with lone_node(tmp_path / "log", segment_bytes=1 << 16) as endpoint:
        yield endpoint


def test_append_and_read(solo: Endpoint) -> None:
    assert append(solo.url, b"one") == {"lsn": 2, "receipt": {"solo": "durable"}}
    status, text = ask(solo.url, "POST", "/append?kind=7", b"two", X_Walstore="1")
    assert (status, json.loads(text)["lsn"]) == (200, 3)
    assert [(e.kind, e.payload) for e in solo.node.replay(2)] == [(1, b"one"), (7, b"two")]
    found = json.loads(ask(solo.url, "GET", "/entries?from=2&to=2")[1])
    assert (found["first_lsn"], found["last_lsn"], found["next"]) == (1, 3, None)
    assert [(e["lsn"], e["kind"], e["size"]) for e in found["entries"]] == [(2, 1, 3)]
    assert found["cluster_id"] == solo.node.log_id


def test_entries_come_in_pages(solo: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    solo.node.append_many([b"x" * 10] * 24)  # 2 to 25
    monkeypatch.setattr(endpoint_module, "PAGE_ENTRIES_MAX", 10)
    pages: list[list[int]] = []
    start: int | None = 1
    while start is not None and len(pages) < 4:
        found = json.loads(ask(solo.url, "GET", f"/entries?from={start}")[1])
        pages.append([entry["lsn"] for entry in found["entries"]])
        start = found["next"]
    assert pages == [list(range(1, 11)), list(range(11, 21)), list(range(21, 26))]
    assert json.loads(ask(solo.url, "GET", "/entries?from=26")[1])["entries"] == []
    monkeypatch.setattr(endpoint_module, "_PAGE_PAYLOAD_BYTES", 25)
    assert len(json.loads(ask(solo.url, "GET", "/entries?from=2")[1])["entries"]) == 3
    solo.node.truncate_before(5)
    assert ask(solo.url, "GET", "/entries?from=4")[0] == 416


def test_status(solo: Endpoint) -> None:
    status, text = ask(solo.url, "GET", "/status")
    found = json.loads(text)
    assert status == 200
    assert (found["node_id"], found["role"], found["acks"]) == ("solo", "leader", "1")
    assert found["committed_lsn"] == 1


def test_metrics_are_what_prometheus_reads(solo: Endpoint) -> None:
    append(solo.url, b"one")
    status, text = ask(solo.url, "GET", "/metrics")
    assert status == 200
    found = {
        (sample.name, sample.labels.get("stage")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["walstore_leader", None] == 1
    assert found["walstore_term", None] == solo.node.term
    for stage, lsn in (("first", 1), ("last", 2), ("durable", 2), ("committed", 2)):
        assert found["walstore_lsn", stage] == lsn


def test_promote_and_demote(solo: Endpoint) -> None:
    term = solo.node.term
    found = json.loads(ask(solo.url, "POST", "/demote", b"", X_Walstore="1")[1])
    assert (found["role"], solo.node.role) == ("follower", "follower")
    assert found["term"] > term
    status, text = ask(solo.url, "POST", "/append", b"x", X_Walstore="1")
    refused = json.loads(text)
    assert (status, refused["error"], refused["leader_id"]) == (409, "NotLeaderError", None)
    found = json.loads(ask(solo.url, "POST", "/promote", b"", X_Walstore="1")[1])
    assert (found["role"], solo.node.role) == ("leader", "leader")


def test_a_page_of_another_origin_changes_nothing(solo: Endpoint) -> None:
    term, last_lsn = solo.node.term, solo.node.last_lsn
    for path in ("/promote?force=1", "/demote", "/append"):
        assert ask(solo.url, "POST", path, b"x")[0] == 403
        assert ask(solo.url, "POST", path, b"x", X_Walstore="0")[0] == 403
        assert ask(solo.url, "GET", path, X_Walstore="1")[0] == 405
        assert ask(solo.url, "OPTIONS", path)[0] == 501  # the preflight is not answered
    assert (solo.node.term, solo.node.role, solo.node.last_lsn) == (term, "leader", last_lsn)


def test_a_name_that_was_bent_to_this_machine_is_refused(solo: Endpoint) -> None:
    port = solo.url.rpartition(":")[2]
    for host in ("evil.example", f"evil.example:{port}", "", "127.0.0.1.evil.example:80", "[::2]"):
        status, text = ask(solo.url, "GET", "/status", Host=host)
        assert (status, "node_id" in text) == (403, False), host
        assert ask(solo.url, "POST", "/demote", b"", Host=host, X_Walstore="1")[0] == 403
    for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert ask(solo.url, "GET", "/status", Host=host)[0] == 200, host
    assert solo.node.role == "leader"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/status?x=1", 400),
        ("GET", "x://[", 400),
        ("POST", "/status", 405),
        ("GET", "/entries?from=0", 400),
        ("GET", "/entries?from=x", 400),
        ("GET", "/entries?from=99999999999999999999", 400),
        ("POST", "/promote?force=yes", 400),
        ("POST", "/append?kind=65535", 400),
        ("POST", "/append?kind=0", 400),
        ("PUT", "/append", 501),
    ],
)
def test_wrong_requests(solo: Endpoint, method: str, path: str, status: int) -> None:
    got, text = ask(solo.url, method, path, b"" if method == "POST" else None, X_Walstore="1")
    assert got == status
    if status != 501:
        assert json.loads(text)["message"]
    assert solo.node.last_lsn == 1


def test_a_transfer_to_nobody(solo: Endpoint) -> None:
    status, text = ask(solo.url, "POST", "/transfer?to=", b"", X_Walstore="1")
    assert (status, json.loads(text)["message"]) == (400, "to is the id of a node, and is empty")


def test_bodies_without_a_length_or_too_long(solo: Endpoint) -> None:
    host, port = solo.url.removeprefix("http://").split(":")
    for line, status in (
        ("X: y", b"411"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 1", b"411"),
        ("Content-Length: -1", b"411"),
        ("Content-Length: 999999999", b"413"),
    ):
        with closing(socket.create_connection((host, int(port)), 10)) as client:
            head = f"POST /append HTTP/1.1\r\nHost: {host}\r\nX-Walstore: 1\r\n{line}\r\n\r\n"
            client.sendall(head.encode())
            assert client.recv(4096).split()[1] == status
    assert solo.node.last_lsn == 1


def test_an_append_that_is_not_acked_tells_what_is_known(tmp_path: Path) -> None:
    node = ReplicationWALManager(
        tmp_path / "log", node_id="a", role="leader", peers={"b": None}, timeout_s=0.2,
        segment_bytes=1 << 16,
    )  # fmt: skip
    with closing(node), closing(Endpoint(node, "127.0.0.1", 0)) as endpoint:
        status, text = ask(endpoint.url, "POST", "/append", b"x", X_Walstore="1")
        found = json.loads(text)
        assert (status, found["error"], found["lsn"]) == (504, "ReplicationTimeoutError", 2)
        assert found["receipt"]["b"] == "unknown"
        entries = json.loads(ask(endpoint.url, "GET", "/entries")[1])
        assert (entries["last_lsn"], entries["entries"]) == (0, [])  # none is committed


def test_only_loopback(solo: Endpoint) -> None:
    assert is_loopback("127.0.0.1")
    with pytest.raises(OptionError, match="not a loopback address"):
        Endpoint(solo.node, "0.0.0.0", 0)
