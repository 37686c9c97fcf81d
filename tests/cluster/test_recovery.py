"""A quorum that was lost for good is taken up again from a survivor, by another cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import contents, snapshot
from tests.raft.elected import Elected
from tests.replication.nodes import OPTIONS, Cluster, data, free_ports, until
from walstore import FileWALManager, LogLockedError, NotALogError
from walstore.cluster import RecoveryError, inspect_survivor, make_cluster
from walstore.docstore import DocumentStore
from walstore.docstore.moving import carry_snapshot
from walstore.raft.errors import ConfigurationError
from walstore.replication import ReplicationWALManager
from walstore.wal.record import CONFIGURATION

pytestmark = pytest.mark.timeout(120)


def test_a_lost_quorum_is_taken_up_again(elected: Callable[..., Elected], tmp_path: Path) -> None:
    """The nodes that were lost come back, a majority of them: nobody of one cluster has a say in
    the other, and the old directory is as it was."""
    five = elected("abcde", advertise="ws://127.0.0.1:0")
    five.begin().append(b"one")
    five.level()
    before = five["a"].status().cluster_id
    for name in "abcde":
        five.stop(name)
    old = snapshot(five.path("a"))
    found = inspect_survivor(str(five.path("a")))
    assert (found.voters, found.learners) == (tuple("abcde"), ())
    made = make_cluster(str(five.path("a")), str(tmp_path / "new"), "a",
                        others=[str(five.path("b"))])  # fmt: skip
    assert (made.voters, made.first_lsn, made.last_lsn) == (("a",), 1, found.last_lsn + 1)
    assert made.term > found.term
    assert made.log_id != before == found.log_id
    assert contents_of(five.path("a")) == contents_of(tmp_path / "new")[: found.last_lsn]
    assert contents_of(tmp_path / "new")[-1][2] == CONFIGURATION
    again = snapshot(five.path("a"))
    assert {name: again[name] for name in old if not name.startswith(("meta", "spare"))} == {
        name: old[name] for name in old if not name.startswith(("meta", "spare"))
    }

    five.begin("cde").append(b"of the old one")  # a majority is back
    (port,) = free_ports(1)
    with ReplicationWALManager(
        tmp_path / "new", node_id="a", listen=f"127.0.0.1:{port}",
        peers={name: five.url(name) for name in "bcde"}, **five.options,
    ) as node:  # fmt: skip
        until(lambda: node.role == "leader", "it leads alone")
        node.append(b"of the new one")
        status = node.status()
        assert (status.voters, status.cluster_id) == (("a",), made.log_id)
        for name in "cde":
            until(lambda name=name: _is_of_another(node, name), "it is refused")  # type: ignore[misc]
        assert not node.connected
        five.leader("cde").append(b"of the old one, again")
        node.append(b"of the new one, again")
        with ReplicationWALManager(
            tmp_path / "f", node_id="f", listen="127.0.0.1:0", peers={"a": node.url}, **five.options
        ) as other:
            node.add_voter("f")
            other.wait_committed(node.append(b"by both"))
    assert data(contents(tmp_path / "new")) == [
        b"one", b"of the new one", b"of the new one, again", b"by both"
    ]  # fmt: skip
    assert data(five.assert_equal("c", "d", "e")) == [
        b"one", b"of the old one", b"of the old one, again"
    ]  # fmt: skip


def _is_of_another(node: ReplicationWALManager, name: str) -> bool:
    known = node.metrics().peers.get(name)
    return known is not None and "of cluster" in known.last_error


def contents_of(path: Path) -> list[tuple[int, int, int, bytes]]:
    """All entries, also those that are not known to be committed."""
    from walstore.cluster.recovery import _NodesLog
    from walstore.replication.log import NodeLog

    with contextlib.closing(_NodesLog(str(path), "a")) as log:
        node = NodeLog(log)
        node.set_committed(node.last_lsn)
        return [(e.lsn, e.term, e.kind, e.payload) for e in log.replay()]


def test_the_one_that_has_most_is_taken(elected: Callable[..., Elected], tmp_path: Path) -> None:
    abc = elected()
    abc.begin()
    less = abc.others(abc.leader())[0].node_id
    abc.stop(less)
    abc.leader().append(b"only two have it")
    abc.level()
    for name in list(abc.nodes):
        abc.stop(name)
    (more, *_) = sorted({*"abc"} - {less})
    into = tmp_path / "new"
    with pytest.raises(RecoveryError, match="it has more") as caught:
        make_cluster(str(abc.path(less)), str(into), less, others=[str(abc.path(more))])
    assert str(abc.path(more)) in caught.value.hint
    assert not into.exists()
    make_cluster(str(abc.path(more)), str(into), more, others=[str(abc.path(less))])
    with pytest.raises(RecoveryError, match="already"):
        make_cluster(str(abc.path(more)), str(into), more)
    with pytest.raises(RecoveryError, match="of cluster"):
        make_cluster(str(abc.path(more)), f"{into}2", more, others=[str(into)])


def test_what_no_cluster_is_made_of(elected: Callable[..., Elected], tmp_path: Path) -> None:
    alone = elected("a")
    alone.begin()
    into = str(tmp_path / "new")
    with pytest.raises(LogLockedError):
        make_cluster(str(alone.path("a")), into, "a")
    alone.stop("a")
    with pytest.raises(ConfigurationError):
        make_cluster(str(alone.path("a")), into, "")
    with pytest.raises(NotALogError):
        make_cluster(str(tmp_path / "nothing"), into, "a")
    assert not (tmp_path / "nothing").exists()
    manual = Cluster(tmp_path, "m", options=OPTIONS)
    manual.start("m", role="leader")
    manual.close()
    with pytest.raises(RecoveryError, match="do not elect") as caught:
        inspect_survivor(str(manual.path("m")))
    assert "--force" in caught.value.hint

    def fail(*_: object) -> None:
        raise OSError(28, "no space")

    with pytest.raises(OSError, match="no space"):
        make_cluster(str(alone.path("a")), into, "a", carry=fail)
    assert not Path(into).exists()
    with pytest.raises(RecoveryError, match="already") as caught:
        make_cluster(str(alone.path("a")), into, "a")
    assert caught.value.path == into + ".unfinished"
    assert "remove it" in caught.value.hint


def test_documents_and_a_truncated_log_are_taken_over(
    elected: Callable[..., Elected], tmp_path: Path
) -> None:
    """Also who the members were, which the entries that are gone said."""
    alone = elected("a")
    node = alone.begin()
    with DocumentStore(node) as store:
        for number in range(5):
            store["things"].insert_one({"_id": number})
        store.checkpoint()
        store["things"].insert_one({"_id": 5})
        store.checkpoint()
        store["things"].insert_one({"_id": 6})
    assert node.first_lsn > 1
    alone.stop("a")
    into = tmp_path / "new"
    make_cluster(str(alone.path("a")), str(into), "a", carry=carry_snapshot)
    with ReplicationWALManager(into, node_id="a", **alone.options) as again:
        until(lambda: again.role == "leader", "it leads")
        with DocumentStore(again) as store:
            assert [thing["_id"] for thing in store["things"].find({}, sort=[("_id", 1)])] == [
                *range(7)
            ]
            store["things"].insert_one({"_id": 7})
    with FileWALManager(alone.path("a"), read_only=True) as log:
        assert log.first_lsn > 1
