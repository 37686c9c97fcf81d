"""Disks of nodes that fail or are full, under real processes: nothing counts that they lack."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.methods import unavailable
from tests.crash.mounts import UnavailableError, make_filesystem, mounted
from tests.helpers import segment_files
from tests.replication.nodes import Cluster, data, until
from tests.replication.remotes import Remote, RemoteError, Remotes
from walstore import CorruptLogError, FileWALManager
from walstore.replication import NotLeaderError

SOON_S = 0.3
DISK_BYTES = 8 << 20
SEGMENT_BYTES = 64 << 10
ROOM_BYTES = 300 << 10


@pytest.fixture
def abc(tmp_path: Path) -> Iterator[Remotes]:
    """Three processes, which are ended whatever happens."""
    remotes = Remotes(tmp_path, segment_bytes=SEGMENT_BYTES)
    yield remotes
    remotes.close()


def goes_on_without(leader: Remote, name: str) -> int:
    """Appends, with the other follower: nothing counts for this one. Returns the last lsn."""
    before = leader.peer(name)["durable_lsn"]
    for number in range(10):
        lsn: int = leader.ask("append", f"without {name} {number}")
    with pytest.raises(RemoteError) as caught:
        leader.ask("append_to_all", f"without {name}", SOON_S)
    assert caught.value.kind == "ReplicationTimeoutError"
    assert leader.status()["committed_lsn"] >= lsn
    assert leader.peer(name)["durable_lsn"] == before < lsn
    return lsn


def test_a_follower_whose_disk_fails(abc: Remotes) -> None:
    """It is out, and says why; nothing counts that its disk refused. On a good disk it is back."""
    leader = abc.lead(shim="c")
    held_lsn = leader.status()["last_lsn"]
    abc["c"].ask("fail_syncs")
    lsn = leader.ask("append", "it meets the fault")
    until(lambda: abc["c"].status()["error"], "c knows")
    status = abc["c"].status()
    assert "Input/output error" in status["error"]
    assert status["durable_lsn"] == held_lsn
    assert status["committed_lsn"] <= held_lsn
    until(lambda: not leader.peer("c")["connected"], "it has left")
    assert leader.peer("c")["durable_lsn"] == held_lsn < lsn
    goes_on_without(leader, "c")
    abc.kill("c")
    abc.start("c")
    abc.assert_equal("a")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    with ExitStack() as mounts:
        try:
            image = tmp_path / "image"
            make_filesystem("ext4", str(image), DISK_BYTES)
            options = ("-t", "ext4", "-o", "loop", str(image))
            place = mounts.enter_context(mounted(str(tmp_path), *options))
        except UnavailableError as error:
            unavailable("ext4", str(error))
        yield Path(place)


def fill_up(disk: Path) -> Path:
    """Leaves little room on a disk; what has to be removed for more."""
    ballast = disk / "ballast"
    stat = os.statvfs(disk)
    ballast.write_bytes(bytes(stat.f_bavail * stat.f_frsize - ROOM_BYTES))
    return ballast


def until_full(leader: Remote, node: Remote) -> None:
    """Appends until a follower has no space."""

    def is_full() -> bool:
        leader.ask("fill", 1, 4, 4000)
        return bool(node.status()["error"])

    until(is_full, "the disk is full")
    assert "no space" in node.status()["error"]


def test_a_follower_whose_disk_is_full(disk: Path, tmp_path: Path) -> None:
    """It stays, says why, and goes on by itself when there is space; so it does after a kill."""
    abc = Remotes(tmp_path, segment_bytes=SEGMENT_BYTES)
    abc.paths["c"] = disk / "c"
    try:
        leader = abc.lead()
        ballast = fill_up(disk)
        until_full(leader, abc["c"])
        lsn = goes_on_without(leader, "c")
        assert leader.peer("c")["connected"]
        ballast.unlink()
        abc.level(lsn, "c")
        assert abc["c"].status()["error"] == ""
        fill_up(disk)
        until_full(leader, abc["c"])
        goes_on_without(leader, "c")
        abc.kill("c")
        ballast.unlink()
        abc.start("c")
        abc.assert_equal("a")
    finally:
        abc.close()
    assert not [*abc.paths["c"].glob("diverged-*")]


def test_a_leader_whose_disk_fails(abc: Remotes) -> None:
    """It takes nothing more, and says why; another one leads, with all that was acked."""
    leader = abc.lead(shim="a")
    acked = leader.ask("append", "acked")
    leader.ask("fail_syncs")
    for _ in range(2):
        with pytest.raises(RemoteError) as caught:
            leader.ask("append", "refused")
        assert caught.value.kind == "LogPoisonedError"
    until(lambda: leader.status()["error"], "it knows")
    status = leader.status()
    assert "Input/output error" in status["error"]
    assert status["role"] == "follower"
    assert status["durable_lsn"] == acked
    for name in "bc":
        until(lambda name=name: not abc[name].peer("a")["connected"], "it has left")  # type: ignore[misc]
    # What was acked may be on one of them only, and so may what was refused.
    furthest = max("bc", key=lambda name: abc[name].status()["last_lsn"])
    abc[furthest].ask("promote")
    abc[furthest].ask("append", "of another leader")
    abc.kill("a")
    abc.start("a")
    payloads = [entry.payload for entry in abc.assert_equal(furthest)]
    assert b"acked" in payloads
    assert b"of another leader" in payloads


def test_a_leader_that_cannot_read_takes_nothing_more(cluster: Callable[..., Cluster]) -> None:
    """What a follower needs of it is damaged. Nor does an append get in that has looked before."""
    cut = cluster(segment_bytes=SEGMENT_BYTES)
    leader = cut.lead()
    cut.stop("c")
    for payload in (b"needed" * 1000, b"x" * 6000):
        for _ in range(20):
            lsn = leader.append(payload)
    damage(segment_files(cut.path("a"))[0], b"needed")
    cut.start("c")
    until(lambda: leader.error, "it has met the damage")
    assert leader.role == "follower"
    assert "damaged" in leader.status().error
    with pytest.raises(CorruptLogError):
        leader.append(b"refused")
    with pytest.raises(NotLeaderError):
        FileWALManager.submit(leader, b"refused")
    assert leader.last_lsn == lsn
    cut.stop("a")
    cut["b"].promote()
    cut["b"].append(b"of b", acks={"c"})
    assert data(cut.assert_equal("b", "c"))[-1] == b"of b"


def test_a_disk_that_fails_a_candidate_is_no_mistake_of_ours(
    cluster: Callable[..., Cluster], caplog: pytest.LogCaptureFixture
) -> None:
    """The term it asks votes in is refused, while it waits for them; there is no traceback."""
    ab = cluster("ab")
    ab.lead().append(b"an entry")
    ab.level()
    ab.stop("a")
    ab.stop("b")
    candidate = ab.start("a", role="leader")
    refusal = OSError(errno.EIO, "the disk refuses the term")

    def refuse(term: int) -> None:
        raise refusal

    candidate._streaming._log.adopt_term = refuse  # type: ignore[method-assign]
    ab.start("b")
    until(lambda: candidate.error, "its disk has failed")
    assert candidate.error is refusal
    ab.close()
    assert [record.message for record in caplog.records if record.exc_info] == []


def damage(path: Path, what: bytes) -> None:
    """Flips a bit of some payload of a file."""
    content = path.read_bytes()
    at = content.index(what)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([content[at] ^ 1]))
