"""A machine on a log: applied in order, once; its snapshots, whole or damaged; what fails."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.machines import Machines, machines
from tests.cluster.registers import Registers, put
from tests.crash.settings import scaled
from tests.helpers import interrupt_and_close_again, seeded
from tests.replication.nodes import WAIT_S, Cluster, own_threads, until
from walstore import ClosedLogError, FileWALManager, OptionError, UnsupportedFormatError
from walstore.cluster import (
    AppliedTimeoutError,
    CommandRefusedError,
    CommandUnknownError,
    MachineFailedError,
    MachineHost,
    MachineSnapshots,
    MachineStateError,
    ResultTooLargeError,
)
from walstore.cluster.commands import KIND, Command, encode_command
from walstore.cluster.machine_files import files_of, parts_of, pieces_of
from walstore.cluster.sessions import Sessions
from walstore.replication import ReplicationOptions, Stage
from walstore.replication.requests import COMMAND_BYTES_MAX, Ask
from walstore.snapshot_files import Place

__all__ = ["machines"]  # the fixture

pytestmark = pytest.mark.timeout(120)

FLIPS = scaled(16)

SNAPSHOT = bytes.fromhex(
    "57414c4d414348310100000000000000abababababababababababababababab0900000000000000030000000000"
    "0000080000000000000073657373696f6e736d616368696e65653030cd12586e8d1882cb6849382d74"
)


def snapshots(path: Path, prefix: str = "") -> list[Path]:
    return sorted((path / "machine").glob(f"{prefix}snapshot-*"))


def filled(path: Path, checkpoints: int = 2, commands: int = 10) -> dict[str, Any]:
    """A log with a host that was checkpointed after some commands, and used after that; what its
    machine holds."""
    log = FileWALManager(path, segment_bytes=64 << 10)
    with log, MachineHost(log, Registers()) as host:
        for turn in range(checkpoints + 1):
            for number in range(commands):
                host.call(put(f"{turn}-{number}", f"key{number % 3}", [turn, number]))
            if turn < checkpoints:
                host.checkpoint()
        return {"digest": host.machine.digest(), "lsn": host.applied_lsn}  # type: ignore[attr-defined]


def reopened(path: Path) -> tuple[str, int]:
    with FileWALManager(path) as log, MachineHost(log, Registers()) as host:
        host.wait_applied(log.last_lsn)
        return host.machine.digest(), host.applied_lsn  # type: ignore[attr-defined]


def test_a_machine_on_a_log_of_one_node(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log:
        log.append(b"somebody else's")
        with MachineHost(log, Registers()) as host:
            assert json.loads(host.call(put("one", "k", 1))) == [2, 1]
            log.append(b"somebody else's")
            assert host.read(b"k") == b"1"
            assert host.applied_lsn == 3
            with pytest.raises(CommandRefusedError, match="two is refused"):
                host.call(put("two", "k", 2, refuse=True))
            with pytest.raises(ResultTooLargeError, match="at most 65536 are kept"):
                host.call(put("three", "k", 3, pad=1 << 16))
            assert host.read_after(b"k", host.applied_lsn) == host.read_stale(b"k") == b"3"
            with pytest.raises(AppliedTimeoutError, match="applied are those to 5"):
                host.wait_applied(6, timeout_s=0.01)
            with pytest.raises(OptionError, match="at most 1000000 bytes"):
                host.call(bytes(COMMAND_BYTES_MAX + 1))
            assert host.checkpoint() == 5
            assert host.checkpoint() == 5
        with pytest.raises(ClosedLogError):
            host.call(b"")


def test_it_begins_with_its_newest_snapshot_and_the_log_behind(tmp_path: Path) -> None:
    held = filled(tmp_path / "log", checkpoints=3)
    found = snapshots(tmp_path / "log")
    assert [path.name for path in found] == [f"snapshot-{20:020}", f"snapshot-{30:020}"]
    with FileWALManager(tmp_path / "log") as log:
        assert log.first_lsn == 21, "it was cut behind the older one"
    assert reopened(tmp_path / "log") == (held["digest"], held["lsn"])


def test_a_damaged_snapshot_costs_no_state(tmp_path: Path) -> None:
    """Any bit of it, any cut: the older one and the log give the same; both: it says so."""
    held = filled(tmp_path / "log")
    rng = seeded("snapshots")
    for turn in range(FLIPS):
        copy = shutil.copytree(tmp_path / "log", tmp_path / f"copy{turn}")
        (older, newest), kinds = snapshots(copy), ("flip", "cut", "longer")
        damage(newest, rng.choice(kinds), rng)
        if turn % 4 == 0:
            damage(older, rng.choice(kinds), rng)
            log = FileWALManager(copy)
            with log, pytest.raises(MachineStateError, match="the log begins at entry 11"):
                MachineHost(log, Registers())
            assert snapshots(copy) == [older, newest], "nothing was changed"
        else:
            assert reopened(copy) == (held["digest"], held["lsn"])
            assert [path.name for path in snapshots(copy, "refused-")] == [f"refused-{newest.name}"]
    assert reopened(tmp_path / "log") == (held["digest"], held["lsn"])


def damage(path: Path, kind: str, rng: Any) -> None:
    data = bytearray(path.read_bytes())
    if kind == "flip":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[rng.randrange(len(data)) :]
    else:
        data += bytes(rng.randint(1, 20))
    path.write_bytes(data)


def test_snapshots_of_another_log_or_version_are_not_taken(tmp_path: Path) -> None:
    filled(tmp_path / "log", checkpoints=1)
    filled(tmp_path / "other", checkpoints=2, commands=7)
    foreign = snapshots(tmp_path / "other")[0]
    (tmp_path / "log" / "machine" / foreign.name).write_bytes(foreign.read_bytes())
    later = tmp_path / "log" / "machine" / f"snapshot-{15:020}"
    later.write_bytes(snapshots(tmp_path / "log")[-1].read_bytes())
    digest, lsn = reopened(tmp_path / "log")
    assert lsn == 20
    assert digest == filled(tmp_path / "again", checkpoints=1)["digest"]
    assert len(snapshots(tmp_path / "log", "refused-")) == 1, "the others are not looked at"


def test_a_mistake_of_the_machine_ends_it_there(tmp_path: Path) -> None:
    """And it goes on with that entry when the machine is mended."""
    with FileWALManager(tmp_path / "log") as log:
        with MachineHost(log, Registers()) as host:
            host.call(put("one", "k", 1))
            with pytest.raises(MachineFailedError, match="entry 2 cannot be applied: ZeroDiv"):
                host.call(put("two", "k", 2, broken=True))
            assert isinstance(host.error, MachineFailedError)
            assert isinstance(host.error.__cause__, ZeroDivisionError)
            with pytest.raises(MachineFailedError):
                host.read(b"k")
            with pytest.raises(MachineFailedError):
                host.checkpoint()
            assert host.applied_lsn == 1

        class Mended(Registers):
            def apply(self, lsn: int, command: bytes) -> bytes:
                return super().apply(lsn, command.replace(b'"broken": true', b'"mended": 1'))

        with MachineHost(log, Mended()) as host:
            assert host.read(b"k") == b"2"


class Unprintable(Exception):
    def __repr__(self) -> str:
        raise ZeroDivisionError

    __str__ = __repr__


class Raises(Registers):
    """What it is told to raise, when a command is half done."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def apply(self, lsn: int, command: bytes) -> bytes:
        if json.loads(command)["name"] != "bad":
            return super().apply(lsn, command)
        self.values["k"] = "half"
        raise self.error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (asyncio.CancelledError(), "CancelledError"),
        (Unprintable(), "Unprintable"),
        (
            ClosedLogError("a log of the machine's own"),
            "ClosedLogError: a log of the machine's own",
        ),
    ],
    ids=["exit", "cancelled", "unprintable", "closed"],
)
def test_whatever_a_machine_raises_is_said(tmp_path: Path, error: BaseException, told: str) -> None:
    """Also what is no Exception, what cannot be printed, and what a log that is closed raises."""
    cluster = Cluster(tmp_path, "a")
    node = cluster.start("a", role="leader")
    with MachineHost(node, Raises(error)) as host:
        with pytest.raises(MachineFailedError, match=f"entry 2 cannot be applied: .*{told}"):
            host.call(put("bad", "k", 1))
        assert isinstance(host.error, MachineFailedError)
        assert host.error.__cause__ is error
        until(lambda: told in node.status().error, "its status says so")
        assert host.applied_lsn == 1
    cluster.close()


class Looks(Exception):
    """Has others look at the machine, while it is told what this error is."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self._look = look

    def __repr__(self) -> str:
        self._look()
        return "a mistake"

    __str__ = __repr__


def test_half_of_a_command_is_shown_to_nobody(tmp_path: Path) -> None:
    """Nor is it in a snapshot, from which the machine would be given the command once more."""
    amid: list[Future[Any]] = []

    def look() -> None:
        if not amid:
            amid.extend((pool.submit(host.checkpoint), pool.submit(host.read_stale, b"k")))
            wait(amid, 0.1)  # they are there by then, and wait until they may look

    with (
        FileWALManager(tmp_path / "log") as log,
        MachineHost(log, Raises(Looks(look))) as host,
        ThreadPoolExecutor(2) as pool,
    ):
        host.call(put("one", "k", 1))
        with pytest.raises(MachineFailedError):
            host.call(put("bad", "k", 2))
        for looked in amid:
            with pytest.raises(MachineFailedError):
                looked.result(WAIT_S)
    assert snapshots(tmp_path / "log") == []


def test_an_entry_of_a_newer_version_is_not_guessed_at(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log, MachineHost(log, Registers()) as host:
        log.append(b"\2" + bytes(40), kind=KIND)
        until(lambda: host.error is not None, "it stops")
        assert isinstance(host.error, UnsupportedFormatError)
        assert host.applied_lsn == 0


def test_a_command_that_is_in_the_log_twice_is_applied_once(tmp_path: Path) -> None:
    """The same on a restart from a snapshot between the two."""
    with FileWALManager(tmp_path / "log") as log:
        session = log.append(encode_command(Command(Ask.OPEN, 0, 5)), kind=KIND)
        again = encode_command(Command(Ask.COMMAND, session, 1, 1, put("one", "k", 1)))
        log.append(again, kind=KIND)
        with MachineHost(log, Registers()) as host:
            host.wait_applied(2)
            host.checkpoint()
            log.append(again, kind=KIND)
            assert json.loads(host.read(b"applied")) == {"one": 1}
        log.append(again, kind=KIND)
        with MachineHost(log, Registers()) as host:
            assert json.loads(host.read(b"applied")) == {"one": 1}
            next_one = Command(Ask.COMMAND, session, 2, 1, put("two", "k", 2))
            log.append(encode_command(next_one), kind=KIND)
            assert json.loads(host.read(b"applied")) == {"one": 1, "two": 1}, "it is still open"
            assert host.applied_lsn == 5


# ---- on several nodes ----


def test_acks_wait_until_others_have_applied(tmp_path: Path) -> None:
    """On nodes for which a person elects, Stage.APPLIED is what their hosts say."""
    cluster = Cluster(tmp_path)
    leader = cluster.lead()
    hosts = {name: MachineHost(cluster[name], Registers()) for name in "ab"}
    command = encode_command(Command(Ask.COMMAND, 0, 1, 0, put("one", "k", 1)))
    lsn = leader.append(command, kind=KIND, acks=2, stage=Stage.APPLIED)
    assert hosts["b"].applied_lsn >= lsn
    assert hosts["b"].read_stale(b"k") == b"1"
    assert hosts["a"].call(put("two", "k", 2))
    with pytest.raises(OptionError, match="election='raft' only"):
        hosts["a"].read(b"k")
    assert hosts["a"].read_after(b"k", lsn + 1) == b"2"
    for host in hosts.values():
        host.close()
    cluster.close()


def test_a_follower_that_is_too_far_behind_gets_the_state(
    machines: Callable[..., Machines],
) -> None:
    """Amid its life and on its start; sessions travel with it, so that nothing is applied again."""
    times = ReplicationOptions(
        probe_ms=100, heartbeat_ms=50, election_ms=300, retention_s=0.05, retention_bytes=1
    )
    abc = machines(options=times)
    abc.begin()
    with abc.client() as client:
        client.call(put("first", "k", 0))
        behind = abc.others(abc.leader())[0].node_id
        abc.stop(behind)
        leader = abc.leader()
        for turn in range(2):
            for number in range(20):
                client.call(put(f"{turn}-{number}", "k", number))
            abc.hosts[leader.node_id].checkpoint()
        held_lsn = abc.hosts[behind].applied_lsn if behind in abc.hosts else 2
        until(lambda: leader.first_lsn > held_lsn + 1, "the log is cut")
        abc.start(behind)
        abc.applied_everywhere()
        assert abc[behind].first_lsn > 2
        abc[behind].promote()
        client.call(put("last", "k", "end"))
        assert json.loads(client.read(b"applied"))["0-0"] == 1
        assert client.read(b"k") == b'"end"'
    abc.applied_everywhere()


def test_what_comes_within_a_snapshot_is_said_to_be_applied(tmp_path: Path) -> None:
    """On a follower that begins with one, and on one that gets its leader's."""
    keeps = ReplicationOptions(probe_ms=100, heartbeat_ms=50, retention_s=0.05, retention_bytes=1)
    cluster = Cluster(tmp_path, "ab", options=keeps, acks="async")
    follows = partial(cluster.start, "b", snapshots=MachineSnapshots(cluster.path("b")))
    leader = cluster.start("a", role="leader", snapshots=MachineSnapshots(cluster.path("a")))
    hosts = {"a": MachineHost(leader, Registers()), "b": MachineHost(follows(), Registers())}
    hosts["a"].call(put("one", "k", 1))
    hosts["b"].wait_applied(leader.last_lsn)
    hosts["b"].checkpoint()
    hosts.pop("b").close()
    cluster.stop("b")
    hosts["b"] = MachineHost(follows(), Registers())
    until(lambda: cluster["b"].status().applied_lsn == leader.last_lsn, "it says what it has")
    hosts.pop("b").close()
    cluster.stop("b")

    command = encode_command(Command(Ask.COMMAND, 0, 1, 0, put("two", "k", 2)))
    commit = leader.submit(command, kind=KIND, acks="all", stage=Stage.APPLIED)
    hosts["a"].wait_applied(commit.lsn)
    hosts["a"].checkpoint()
    leader.truncate_before(leader.last_lsn + 1)
    until(lambda: leader.first_lsn > commit.lsn, "the log is cut behind it")
    hosts["b"] = MachineHost(follows(), Registers())
    commit.wait(WAIT_S)
    assert hosts["b"].read_stale(b"k") == b"2"
    for host in hosts.values():
        host.close()
    cluster.close()


class Slow(Registers):
    """Takes its time for one command."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.goes_on = threading.Event(), threading.Event()

    def apply(self, lsn: int, command: bytes) -> bytes:
        if json.loads(command)["name"] == "slow":
            self.begun.set()
            assert self.goes_on.wait(WAIT_S)
        return super().apply(lsn, command)


def overtaken(log: FileWALManager, host: MachineHost, pool: ThreadPoolExecutor) -> Future[bytes]:
    """Has a snapshot of two commands come, as a leader's does, while the first is applied; who
    waits for the second."""
    machine, ahead = host.machine, Registers()
    assert isinstance(machine, Slow)
    slow = pool.submit(host.call, put("slow", "k", 1))
    assert machine.begun.wait(WAIT_S)
    behind = pool.submit(host.call, put("behind", "k", 2), timeout_s=WAIT_S)
    until(lambda: log.committed_lsn == 2, "it is in the log")
    for lsn, name in enumerate(("slow", "behind"), 1):
        ahead.apply(lsn, put(name, "k", lsn))
    place = Place(log.log_id, 2, log._term_of(2))
    files_of(log.path).write(2, pieces_of(place, Sessions().encode(), ahead.snapshot()))
    log.truncate_before(3)
    machine.goes_on.set()
    assert json.loads(slow.result(WAIT_S)) == [1, 1]
    return behind


def test_a_command_that_came_within_a_snapshot_is_unknown(tmp_path: Path) -> None:
    """What it came to is not known here; nobody waits for that."""
    with (
        FileWALManager(tmp_path / "log") as log,
        MachineHost(log, Slow()) as host,
        ThreadPoolExecutor(2) as pool,
    ):
        with pytest.raises(CommandUnknownError) as caught:
            overtaken(log, host, pool).result(WAIT_S)
        assert caught.value.lsn == 2
        assert str(caught.value) == (
            "the command is committed, as entry 2, and what it came to is not known: "
            "here: it came within a snapshot"
        )
        assert host.read(b"k") == b"2"


class Unrestored(Slow):
    """Is not to be restored."""

    def restore(self, data: bytes) -> None:
        raise SystemExit("it cannot go on")


def test_a_state_that_cannot_be_restored_ends_the_machine(tmp_path: Path) -> None:
    """Or keeps it from beginning."""
    with FileWALManager(tmp_path / "log") as log, ThreadPoolExecutor(2) as pool:
        with MachineHost(log, Unrestored()) as host:
            with pytest.raises(MachineFailedError, match="SystemExit: it cannot go on"):
                overtaken(log, host, pool).result(WAIT_S)
            with pytest.raises(MachineFailedError):
                host.read_stale(b"k")
        with pytest.raises(SystemExit):
            MachineHost(log, Unrestored())


def test_what_a_leader_sends_is_checked(tmp_path: Path) -> None:
    filled(tmp_path / "log")
    with FileWALManager(tmp_path / "log") as log:
        term_of = {lsn: log._term_of(lsn) for lsn in (10, 20)}.__getitem__
    newest = MachineSnapshots(tmp_path / "log").newest(term_of)
    assert newest is not None
    lsn, path = newest
    other = MachineSnapshots(tmp_path)
    with pytest.raises(MachineStateError, match="the leader's snapshot of entry 3 is of 20"):
        other.install(3, path)
    Path(path).write_bytes(Path(path).read_bytes()[:-1])
    with pytest.raises(MachineStateError, match="is not whole: its checksum is wrong"):
        other.install(lsn, path)
    assert MachineSnapshots(tmp_path / "log").newest(term_of) == (
        10,
        str(snapshots(tmp_path / "log")[0]),
    )
    assert MachineSnapshots(tmp_path / "log").newest(lambda lsn: term_of(lsn) + 1) is None


class Mistaken(Registers):
    """Its snapshots fail, as a machine's that is changed while they are taken."""

    when = ""

    def snapshot(self) -> Iterable[bytes]:
        if self.when == "made":
            raise RuntimeError("dictionary changed size during iteration")
        if self.when == "exit":
            raise SystemExit("it ends the process, it thinks")
        return self._pieces(list(super().snapshot()))

    def _pieces(self, pieces: list[bytes]) -> Iterable[bytes]:
        yield from pieces
        if self.when == "taken":
            raise RuntimeError("dictionary changed size during iteration")
        if self.when == "text":
            yield "text"  # type: ignore[misc]


@pytest.mark.parametrize("when", ["made", "taken", "text", "exit"])
def test_a_snapshot_that_fails_is_said_and_made_later(
    tmp_path: Path, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The machine's mistake, which costs a checkpoint and nothing else."""
    machine = Mistaken()
    machine.when = when
    with (
        FileWALManager(tmp_path / "log") as log,
        MachineHost(log, machine, checkpoint_bytes=100) as host,
    ):
        host.call(put("one", "k", "x" * 100))
        until(lambda: host.checkpoint_error is not None, "it failed, and is shown")
        until(lambda: "its machine failed" in caplog.text, "and logged")
        with pytest.raises((RuntimeError, TypeError, SystemExit)):
            host.checkpoint()
        assert host.error is None
        assert list((tmp_path / "log" / "machine").iterdir()) == []
        machine.when = ""
        host.call(put("two", "k", "x" * 100))
        until(lambda: bool(snapshots(tmp_path / "log")), "it is made by itself again")
        until(lambda: host.checkpoint_error is None, "what was is over")
    assert reopened(tmp_path / "log")[1] == 2


def test_a_refusal_that_cannot_be_encoded_is_one(tmp_path: Path) -> None:
    """Half of a surrogate pair, as JSON may have it; and what is no text."""

    class Refusing(Registers):
        def apply(self, lsn: int, command: bytes) -> bytes:
            told = json.loads(command)
            raise CommandRefusedError(None if told is None else f"no {told}")  # type: ignore[arg-type]

    with FileWALManager(tmp_path / "log") as log, MachineHost(log, Refusing()) as host:
        with pytest.raises(CommandRefusedError, match=r"no \?"):
            host.call(json.dumps("\ud800").encode())
        with pytest.raises(CommandRefusedError, match="None"):
            host.call(b"null")
        assert host.applied_lsn == 2


def test_a_snapshot_beyond_the_end_of_a_log_of_one_node_is_set_aside(tmp_path: Path) -> None:
    """An older copy of the log was put back beneath it, and written to: its commands are others."""
    path = tmp_path / "log"

    def use(*names: str, checkpoint: bool = False) -> list[str]:
        machine = Registers()
        with FileWALManager(path) as log, MachineHost(log, machine) as host:
            for name in names:
                host.call(put(name, "k", name))
            if checkpoint:
                host.checkpoint()
            host.wait_applied(log.last_lsn)
            return sorted(machine.applied)

    use("a1", "a2")
    copy = shutil.copytree(path, tmp_path / "copy")
    use("a3", "a4", checkpoint=True)
    shutil.rmtree(copy / "machine")
    shutil.move(path / "machine", copy / "machine")
    shutil.rmtree(path)
    copy.rename(path)
    assert use("b3", "b4", "b5") == ["a1", "a2", "b3", "b4", "b5"]
    assert use() == ["a1", "a2", "b3", "b4", "b5"]
    assert len(snapshots(path, "refused-")) == 1


def test_a_log_that_begins_with_another_term_than_the_snapshot_ends_with(tmp_path: Path) -> None:
    """What is applied to its state would not be what was."""
    path = tmp_path / "log"
    with FileWALManager(path) as log, MachineHost(log, Registers()) as host:
        host.call(put("one", "k", 1))
        lsn = host.checkpoint()
        log.truncate_before(lsn + 1)
        log_id = log.log_id
    pieces = Registers().snapshot()
    place = Place(log_id, lsn, 99)
    files_of(str(path)).write(lsn, pieces_of(place, Sessions().encode(), pieces))
    with FileWALManager(path) as log, pytest.raises(MachineStateError, match="another entry"):
        MachineHost(log, Registers())


def test_a_snapshot_stays_readable(tmp_path: Path) -> None:
    """As version 1 has it, byte for byte."""
    files, place = files_of(str(tmp_path)), Place("ab" * 16, 9, 3)
    files.write(9, pieces_of(place, b"sessions", [b"mach", b"ine"]))
    (path,) = snapshots(tmp_path)
    assert path.read_bytes() == SNAPSHOT
    assert files.newest(lambda lsn: 3) == (9, str(path))
    files.write(10, [b"whole, but no header"])
    assert files.newest(lambda lsn: 3) == (9, str(path))
    files.write(11, [b"\2", SNAPSHOT[9:-16]])
    with pytest.raises(UnsupportedFormatError, match="snapshot version 2"):
        files.newest(lambda lsn: 3)
    assert parts_of(memoryview(SNAPSHOT)[8:-16]) == (b"sessions", b"machine")


class Pauses(Registers):
    """A machine that is in no hurry."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.goes_on = threading.Event(), threading.Event()

    def snapshot(self) -> Iterable[bytes]:
        self.begun.set()
        assert self.goes_on.wait(WAIT_S)
        yield from super().snapshot()


def test_a_close_that_was_interrupted_is_ended_by_the_next(tmp_path: Path) -> None:
    with Cluster(tmp_path, "a").start("a", role="leader") as node:
        before, machine = len(own_threads()), Pauses()
        host = MachineHost(node, machine, checkpoint_bytes=1)
        host.call(put("n", "k", 1))
        assert machine.begun.wait(WAIT_S)
        interrupt_and_close_again(host.close, machine.goes_on)
        assert len(own_threads()) == before
