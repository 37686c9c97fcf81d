"""A quorum that was lost for good is taken up again from a survivor, by another cluster."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.machines import Machines, machines  # noqa: F401
from tests.cluster.registers import Registers, put
from tests.helpers import contents, crash_copy, segment_files, snapshot
from tests.raft.elected import Elected
from tests.replication.nodes import OPTIONS, Cluster, data, free_ports, until
from walstore import FileWALManager, LogLockedError, NotALogError, OptionError
from walstore.cluster import (
    MachineHost,
    MachineSnapshots,
    RecoveryError,
    inspect_survivor,
    make_cluster,
)
from walstore.cluster.machine_carrying import carry_machine
from walstore.docstore import DocumentStore
from walstore.docstore.carrying import carry_documents
from walstore.docstore.checkpoint import files_of
from walstore.docstore.snapshot import Position, write
from walstore.raft.errors import ConfigurationError
from walstore.raft.ledger import COPY_NAME
from walstore.replication import ReplicationWALManager
from walstore.replication.log import CONFIGURATIONS_NAME
from walstore.replication.notes import CLAIM_NAME, DAMAGE_NAME, QUARANTINE_NAME, write_note
from walstore.replication.repair import mend_log
from walstore.wal.meta import COMMIT_MARK_AT
from walstore.wal.record import CONFIGURATION, DATA
from walstore.wal.segment import RECORDS_AT

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
    (tmp_path / "link").symlink_to(alone.path("a"))
    with pytest.raises(OptionError, match="link is the log itself"):
        make_cluster(str(alone.path("a")), into, "a", others=[str(tmp_path / "link")])
    assert not (tmp_path / "nothing").exists()
    manual = Cluster(tmp_path, "m", options=OPTIONS)
    manual.start("m", role="leader")
    manual.close()
    with pytest.raises(RecoveryError, match="do not elect") as caught:
        inspect_survivor(str(manual.path("m")))
    assert "--force" in caught.value.hint
    FileWALManager(tmp_path / "plain").close()
    with pytest.raises(RecoveryError, match="the log of no node") as caught:
        inspect_survivor(str(tmp_path / "plain"))
    assert "promote" not in caught.value.hint

    def fail(*_: object) -> None:
        raise OSError(28, "no space")

    assert make_cluster(str(alone.path("a")), f"{into}-2/", "a").path == f"{into}-2"
    assert inspect_survivor(f"{into}-2").voters == ("a",)
    with pytest.raises(OSError, match="no space"):
        make_cluster(str(alone.path("a")), into, "a", carry=[lambda _: fail])
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
    make_cluster(str(alone.path("a")), str(into), "a", carry=[carry_machine, carry_documents])
    with ReplicationWALManager(into, node_id="a", **alone.options) as again:
        until(lambda: again.role == "leader", "it leads")
        with DocumentStore(again) as store:
            assert [thing["_id"] for thing in store["things"].find({}, sort=[("_id", 1)])] == [
                *range(7)
            ]
            store["things"].insert_one({"_id": 7})
    with FileWALManager(alone.path("a"), read_only=True) as log:
        assert log.first_lsn > 1


def test_a_snapshot_of_another_leader_s_is_not_taken_over(
    elected: Callable[..., Elected], tmp_path: Path
) -> None:
    """One that a node had installed when it was killed, before its log began anew behind it; a
    power loss took the mark of what is committed, too."""
    alone = elected("a")
    node = alone.begin()
    with DocumentStore(node) as store:
        store["things"].insert_many({"_id": at} for at in range(3))
    position = Position(node.log_id, node.last_lsn, node.term + 1000, node.last_lsn)
    alone.stop("a")
    with (alone.path("a") / "meta").open("r+b") as file:
        file.seek(COMMIT_MARK_AT)
        file.write(bytes(24))
    files_of(str(alone.path("a"))).write(position.lsn, write(position, []))
    into = tmp_path / "new"
    make_cluster(str(alone.path("a")), str(into), "a", carry=[carry_documents])
    assert not (into / "documents").exists()
    with ReplicationWALManager(into, node_id="a", **alone.options) as again:
        until(lambda: again.role == "leader", "it leads")
        with DocumentStore(again) as store:
            assert store["things"].count_documents({}) == 3


def cut_machine(one: Machines) -> Path:
    """The log of a machine that was stopped, which begins behind its first snapshot."""
    node = one.begin()
    host = one.hosts["a"]
    with one.client() as client:
        for number in range(3):
            for name in "xyz":
                client.call(put(f"{name}-{number}", name, number))
            if number < 2:
                host.checkpoint()
    until(lambda: node.first_lsn > 1, "the log is cut")
    one.stop("a")
    return one.path("a")


def test_a_machine_is_taken_over(machines: Callable[..., Machines], tmp_path: Path) -> None:  # noqa: F811
    path, into = cut_machine(machines("a")), tmp_path / "new"
    before = snapshot(path / "machine")
    make_cluster(str(path), str(into), "n", carry=[carry_machine, carry_documents])
    assert snapshot(path / "machine") == before
    with (
        ReplicationWALManager(
            into, node_id="n", election="raft", options=OPTIONS, snapshots=MachineSnapshots(into)
        ) as node,
        MachineHost(node, Registers()) as host,
    ):
        until(lambda: node.role == "leader", "it leads")
        host.wait_applied(node.last_lsn)
        assert isinstance(host.machine, Registers)
        assert host.machine.values == {"x": 2, "y": 2, "z": 2}
        assert len(host.machine.applied) == 9
        assert {*host.machine.applied.values()} == {1}
        host.call(put("after", "x", 3))


def test_nothing_is_begun_where_a_snapshot_that_is_needed_is_gone(
    machines: Callable[..., Machines],  # noqa: F811
    tmp_path: Path,
) -> None:
    path, into = cut_machine(machines("a")), tmp_path / "new"
    newest, *_ = sorted((path / "machine").glob("snapshot-*"), reverse=True)
    newest.write_bytes(newest.read_bytes()[:-1])  # the one before is whole
    make_cluster(str(path), f"{into}1", "n", carry=[carry_machine])
    assert len([*Path(f"{into}1", "machine").iterdir()]) == 1
    shutil.rmtree(path / "machine")
    with pytest.raises(RecoveryError, match="no snapshot") as caught:
        make_cluster(str(path), str(into), "n", carry=[carry_machine, carry_documents])
    assert "keeps its snapshots elsewhere" in caught.value.hint
    assert not into.exists()
    assert not Path(f"{into}.unfinished").exists()
    make_cluster(str(path), str(into), "n")


def test_one_copy_of_the_configurations_is_enough(
    elected: Callable[..., Elected], tmp_path: Path
) -> None:
    """And a new log has both of them."""
    alone = elected("a")
    alone.begin().append(b"one")
    alone.stop("a")
    names = (CONFIGURATIONS_NAME, COPY_NAME)
    for name, gone in itertools.product(names, (False, True)):
        old, new = tmp_path / f"old-{name}-{gone}", tmp_path / f"new-{name}-{gone}"
        shutil.copytree(alone.path("a"), old)
        file = old / name
        if gone:
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:-1])
        assert inspect_survivor(str(old)).voters == ("a",)
        assert make_cluster(str(old), str(new), "n").voters == ("n",)
        assert (new / names[0]).read_bytes() == (new / names[1]).read_bytes()
        (new / name).unlink()
        assert inspect_survivor(str(new)).voters == ("n",)


def test_what_damage_took_and_what_differs_is_told(
    elected: Callable[..., Elected], tmp_path: Path
) -> None:
    abc = elected()
    abc.begin().append(b"one")
    abc.level()
    for name in "abc":
        abc.stop(name)
    a, b, into = str(abc.path("a")), str(abc.path("b")), str(tmp_path / "new")
    sound = inspect_survivor(a)
    assert (sound.claim, sound.lost_to, sound.quarantined) == (None, None, None)
    write_note(a, CLAIM_NAME, {"term": sound.last_term, "lsn": sound.last_lsn})
    assert inspect_survivor(a).lost_to is None  # it is back
    write_note(a, CLAIM_NAME, {"term": sound.last_term, "lsn": sound.last_lsn + 5})
    assert inspect_survivor(a).lost_to == (sound.last_term, sound.last_lsn + 5)
    write_note(b, QUARANTINE_NAME, {"first_lsn": 1, "last_lsn": 2})
    assert inspect_survivor(b).quarantined == (1, 2)
    for path, others in ((b, []), (a, [b])):
        with pytest.raises(RecoveryError, match="entries 1 to 2 are not those") as caught:
            make_cluster(path, into, "n", others=others)
        assert caught.value.path == b
    write_note(b, DAMAGE_NAME, {})
    with pytest.raises(RecoveryError, match="not cut yet"):
        inspect_survivor(b)
    assert not [*tmp_path.glob("new*")]
    assert make_cluster(a, into, "n").claim is None


def test_a_log_that_damage_has_cut_before_its_mark(
    elected: Callable[..., Elected], tmp_path: Path
) -> None:
    """The members are then those that the file says of the entries that are left."""
    alone = elected("a", segment_bytes=16 << 10)
    node = alone.begin()
    for _ in range(5):
        node.append_many([bytes(200)] * 60)
    alone.stop("a")
    path = alone.path("a")
    damaged = segment_files(path)[-2]
    data = bytearray(damaged.read_bytes())
    data[RECORDS_AT + 5000] ^= 1
    damaged.write_bytes(data)
    mend_log(str(path), 16 << 10, 0, os.urandom)
    found = inspect_survivor(str(path))
    assert found.claim is not None
    assert found.lost_to == found.claim
    assert found.voters == ("a",)
    made = make_cluster(str(path), str(tmp_path / "new"), "n")
    assert (made.voters, made.last_lsn) == (("n",), found.last_lsn + 1)


def test_what_is_done_to_a_log_that_was_not_closed(
    elected: Callable[..., Elected], tmp_path: Path
) -> None:
    """What its node would do: the torn tail is cut and kept, and every entry stays."""
    alone = elected("a")
    node = alone.begin()
    node.append(b"whole" * 9)
    meta = (alone.path("a") / "meta").read_bytes()  # which says how far it was synced
    torn = node.append(b"torn" * 99)
    path = crash_copy(alone.path("a"), tmp_path / "copy")
    alone.stop("a")
    (path / "meta").write_bytes(meta)
    (segment,) = segment_files(path)
    data = segment.read_bytes()
    at = data.index(b"torntorn")
    segment.write_bytes(data[: at + 99] + bytes(len(data) - at - 99))
    before = snapshot(path)
    for _ in range(2):
        assert inspect_survivor(str(path)).last_lsn == torn - 1
    after = snapshot(path)
    whole = data.index(b"whole") + 45
    assert after[segment.name][:whole] == before[segment.name][:whole]
    (cut,) = (name for name in after.keys() - before.keys() if name.startswith("cut-"))
    assert b"torn" * 20 in after[cut]
    kept = before.keys() - {"meta", segment.name}
    assert {name: after.get(name) for name in kept if not name.startswith("spare")} == {
        name: before[name] for name in kept if not name.startswith("spare")
    }
    make_cluster(str(path), str(tmp_path / "new"), "n")
    assert data_of(tmp_path / "new") == [b"whole" * 9]


def data_of(path: Path) -> list[bytes]:
    return [payload for _, _, kind, payload in contents_of(path) if kind == DATA]
