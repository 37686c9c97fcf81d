"""A snapshot that a lost connection cut short goes on where it was, and is never two files' mix."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.replication.cores import A1, B2, Log, core_of, kinds, leading
from tests.replication.nodes import WAIT_S, Cluster, until
from tests.replication.proxy import Frame
from walstore.replication import ReplicationOptions, ReplicationWALManager, TermOf
from walstore.replication.core import Core
from walstore.replication.effects import Send, SendSnapshot, TakeSnapshotPart
from walstore.replication.message import SnapshotAck, SnapshotPart, SyncRequest, decode
from walstore.wal import files

Make = Callable[..., Cluster]
SNAPSHOT_BYTES = 3 << 20
WINDOW_BYTES = 1 << 20


# ---- the core ----


def answer(core: Core, term: int, part: SnapshotPart) -> int:
    """How many bytes the follower says it has."""
    send = core.received("b", term, part, 0)[-1]
    assert isinstance(send, Send)
    assert isinstance(send.body, SnapshotAck)
    assert send.body.lsn == part.lsn
    return send.body.at


def test_a_follower_tells_what_it_holds_of_a_snapshot() -> None:
    core = core_of(Log([A1, A1, A1], durable_lsn=3), term=A1, committed_lsn=3)

    def held(lsn: int = 9, total_bytes: int = 8) -> int:
        return answer(core, B2, SnapshotPart(lsn, B2, 0, total_bytes, b""))

    assert held() == 0
    core.received("b", B2, SnapshotPart(9, B2, 0, 8, b"1234"), 0)
    core.connected("b", 0)
    assert held() == 4
    assert held(total_bytes=9) == held(lsn=8) == 0
    assert core.received("b", B2, SnapshotPart(9, B2, 5, 8, b"6"), 0) == []  # a gap
    again = core.received("b", B2, SnapshotPart(9, B2, 2, 8, b"3"), 0)
    assert kinds(again) == ["TakeSnapshotPart", "Send"]
    assert held() == 4
    last = core.received("b", B2, SnapshotPart(9, B2, 4, 8, b"5678"), 0)
    assert TakeSnapshotPart(SnapshotPart(9, B2, 4, 8, b"5678"), last=True) in last


def test_what_a_follower_holds_is_forgotten_with_the_term_and_when_it_begins_anew() -> None:
    core = core_of(Log([A1, A1, A1], durable_lsn=3), term=A1, committed_lsn=3)
    core.received("b", B2, SnapshotPart(9, B2, 0, 8, b"1234"), 0)
    core.received("b", B2, SnapshotPart(9, B2, 0, 8, b"12"), 0)
    assert core.received("b", B2, SnapshotPart(9, B2, 4, 8, b"5678"), 0) == []
    later = B2 + (1 << 16)
    assert answer(core, later, SnapshotPart(9, B2, 0, 8, b"")) == 0


@pytest.mark.parametrize("held", [0, 4])
def test_a_leader_goes_on_where_the_follower_is(held: int) -> None:
    core = leading(Log([A1] * 5, first_lsn=100, prev_term=A1, durable_lsn=104))
    (send,) = core.received("b", core.term, SyncRequest(0, 0), 0)
    assert isinstance(send, SendSnapshot)
    assert core.snapshot_sent(send, 102, 10, 0) == []  # the question
    (part,) = core.received("b", core.term, SnapshotAck(102, held), 0)
    assert isinstance(part, SendSnapshot)
    assert (part.lsn, part.at) == (102, held)


# ---- nodes ----


class Application:
    """An application with one snapshot, whose file may be replaced."""

    def __init__(self, base: Path) -> None:
        self.path = base / "application.snapshot"
        self.lsn = 0
        self.fails = 0
        self.installed: list[tuple[int, bytes]] = []

    def save(self, lsn: int, state: bytes) -> None:
        """Makes the snapshot, or another one in its place."""
        new = self.path.with_suffix(".new")
        new.write_bytes(state)
        os.replace(new, self.path)
        self.lsn = lsn

    def newest(self, term_of: TermOf) -> tuple[int, str] | None:
        if self.fails:
            self.fails -= 1
            raise OSError(errno.EIO, "the application's disk")
        return self.lsn, str(self.path)

    def install(self, lsn: int, path: str) -> None:
        self.installed.append((lsn, Path(path).read_bytes()))


class Wire:
    """Sees the parts that travel, and cuts all connections at one of them, once.

    Attributes:
        parts: (at, bytes) of each.
        cut_at: where in the snapshot.
        cut: whether it has.
    """

    def __init__(self, pair: Cluster, cut_at: int) -> None:
        self.parts: list[tuple[int, int]] = []
        self.cut_at = cut_at
        self.cut = False
        self._proxies = list(pair.proxies.values())
        for proxy in self._proxies:
            proxy.to_dialer.change = proxy.to_listener.change = self._see

    def _see(self, frame: Frame) -> Frame | None:
        if not frame.is_data or not isinstance(body := decode(frame.payload).body, SnapshotPart):
            return frame
        self.parts.append((body.at, len(body.data)))
        if self.cut or body.at < self.cut_at:
            return frame
        self.cut = True
        for proxy in self._proxies:
            proxy.refuse = True
            proxy.cut()
        return None

    def heal(self) -> None:
        """Connections can be made again."""
        for proxy in self._proxies:
            proxy.refuse = False


def drop_front(leader: ReplicationWALManager, lsn: int) -> None:
    """Truncates a log before an entry, when the follower that is gone is waited for no longer."""

    def drop() -> bool:
        leader.truncate_before(lsn)
        return leader.first_lsn == lsn

    until(drop, "the front is gone")


def cut_short(cluster: Make, here: Application, there: Application) -> tuple[Cluster, Wire]:
    """A leader whose log begins behind a snapshot, and a follower that has a part of that."""
    fast = ReplicationOptions(
        window_bytes=WINDOW_BYTES, probe_ms=100, heartbeat_ms=50, retention_s=0.01
    )
    pair = cluster("ab", proxied=True, acks="async", segment_bytes=16 << 10, options=fast)
    leader = pair.start("a", role="leader", snapshots=here)
    lsns = leader.append_many([b"x" * 1000] * 40)
    here.save(lsns[-1], os.urandom(SNAPSHOT_BYTES))

    drop_front(leader, lsns[-1])
    wire = Wire(pair, SNAPSHOT_BYTES // 2)
    pair.start("b", snapshots=there)
    until(lambda: wire.cut and not leader.connected, "the connection is gone")
    assert there.installed == []
    return pair, wire


def finished(pair: Cluster, wire: Wire, there: Application) -> tuple[bool, list[tuple[int, int]]]:
    """Lets it go on; returns whether the leader asked, and the data that travelled since."""
    before = len(wire.parts)
    wire.heal()
    until(lambda: there.installed, "the snapshot is installed")
    lsn = pair["a"].append(b"new")
    pair["b"].wait_committed(lsn, timeout_s=WAIT_S)
    since = wire.parts[before:]
    asked = (0, 0) in since
    return asked, [part for part in since if part[1]]


def test_a_snapshot_goes_on_after_a_lost_connection(cluster: Make, tmp_path: Path) -> None:
    here, there = Application(tmp_path), Application(tmp_path)
    pair, wire = cut_short(cluster, here, there)
    state = here.path.read_bytes()
    asked, parts = finished(pair, wire, there)
    assert there.installed == [(here.lsn, state)]
    assert asked
    assert parts[0][0] >= SNAPSHOT_BYTES // 2 - WINDOW_BYTES
    assert sum(size for _, size in parts) < SNAPSHOT_BYTES


def test_a_snapshot_begins_anew_on_a_follower_that_was_restarted(
    cluster: Make, tmp_path: Path
) -> None:
    here, there = Application(tmp_path), Application(tmp_path)
    pair, wire = cut_short(cluster, here, there)
    pair.stop("b")
    pair.start("b", snapshots=there)
    asked, parts = finished(pair, wire, there)
    assert there.installed == [(here.lsn, here.path.read_bytes())]
    assert asked
    assert parts[0][0] == 0


def test_what_goes_on_is_the_same_file(cluster: Make, tmp_path: Path) -> None:
    """Also when the application has put another one of the same lsn and size in its place."""
    here, there = Application(tmp_path), Application(tmp_path)
    pair, wire = cut_short(cluster, here, there)
    first = here.path.read_bytes()
    here.save(here.lsn, os.urandom(SNAPSHOT_BYTES))
    _, parts = finished(pair, wire, there)
    assert parts[0][0] > 0
    assert there.installed == [(here.lsn, first)]


def test_nothing_goes_on_once_a_snapshot_could_not_be_read(cluster: Make, tmp_path: Path) -> None:
    here, there = Application(tmp_path), Application(tmp_path)
    here.fails = 1
    pair, wire = cut_short(cluster, here, there)
    asked, parts = finished(pair, wire, there)
    assert not asked
    assert parts[0][0] == 0
    assert there.installed == [(here.lsn, here.path.read_bytes())]


class Slow(Application):
    """One that is asked for its snapshot, and answers when the test says so."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.asked, self.goes_on = threading.Event(), threading.Event()

    def newest(self, term_of: TermOf) -> tuple[int, str] | None:
        self.asked.set()
        assert self.goes_on.wait(WAIT_S)
        return super().newest(term_of)


def test_a_snapshot_that_comes_after_the_leadership_is_let_go(
    cluster: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later leadership would go on with a file that it knows nothing of."""
    here, opened, open_file = Slow(tmp_path), threading.Event(), files.open_file

    def noted(path: str, **options: bool) -> int:
        fd = open_file(path, **options)
        if path == str(here.path):
            opened.set()
        return fd

    def is_held() -> bool:
        found = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        return str(here.path) in found

    pair = cluster("ab", acks="async", options=ReplicationOptions(retention_s=0.01))
    leader = pair.start("a", role="leader", snapshots=here)
    lsns = leader.append_many([b"x" * 1000] * 40)
    here.save(lsns[-1], b"all of it")
    drop_front(leader, lsns[-1])
    pair.start("b", snapshots=Application(tmp_path))
    assert here.asked.wait(WAIT_S)
    leader.demote()
    monkeypatch.setattr(files, "open_file", noted)
    here.goes_on.set()
    assert opened.wait(WAIT_S)
    until(lambda: not is_held(), "it is let go", timeout_s=5)
    assert leader._streaming._sender._outgoing == {}
