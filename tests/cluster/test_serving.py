"""What a node answers to requests that come at a bad moment: each is answered, and once."""

from __future__ import annotations

import asyncio
import errno
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.machines import Machines, machines
from tests.cluster.registers import Registers, put
from tests.cluster.test_clients import asked
from tests.replication.nodes import WAIT_S, Cluster, own_threads, until
from walstore import LogFullError
from walstore.cluster import MachineHost, serving
from walstore.cluster.client_links import LinkError, Links
from walstore.cluster.commands import Command
from walstore.cluster.host import Listener
from walstore.cluster.serving import RequestServer
from walstore.replication import NetworkOptions, ReplicationWALManager, Security
from walstore.replication.requests import Ask, ClientRequest, Status

__all__ = ["machines"]  # the fixture

pytestmark = pytest.mark.timeout(120)

READ = ClientRequest(1, Ask.READ, data=b"k")
COMMAND = ClientRequest(1, Ask.COMMAND, 7, 1, 0, put("one", "k", 1))
FAR_LSN = 1 << 40


def server_of(host: MachineHost) -> RequestServer:
    """Its requests; none that was answered is open, nor was one answered twice."""
    server = host._server
    assert server is not None
    until(lambda: (server._open, server._open_bytes) == (0, 0), "all are answered, and once")
    assert not host._listeners
    return server


def test_where_to_ask_and_why(
    machines: Callable[..., Machines], monkeypatch: pytest.MonkeyPatch
) -> None:
    ab = machines("ab")
    leader = ab.begin()
    other = ab.others(leader)[0].node_id
    found = asked(ab, other, READ)
    assert (found.status, found.leader_url) == (Status.NOT_LEADER, leader.url)
    with monkeypatch.context() as patch:
        patch.setattr(serving, "URL_BYTES_MAX", len(ab.url(leader.node_id)) - 1)
        found = asked(ab, other, READ)
        assert (found.status, found.leader_id) == (Status.NOT_LEADER, leader.node_id)
        assert found.leader_url == "", "a url that has no room in the answer"
    monkeypatch.setattr(serving, "_CONFIRM_S", 1e-9)
    found = asked(ab, leader.node_id, READ)
    assert (found.status, found.leader_id) == (Status.BUSY, "")
    assert b"confirmed" in found.data


def test_nodes_that_do_not_elect_answer_no_read_of_the_leader(tmp_path: Path) -> None:
    alone = Cluster(tmp_path, "a")
    with closing(alone):
        node = alone.start("a", role="leader")
        with closing(MachineHost(node, Registers())) as host:
            nodes: Any = alone
            found = asked(nodes, "a", READ)
            assert (found.status, b"raft" in found.data) == (Status.UNSUPPORTED, True)
            found = asked(nodes, "a", ClientRequest(1, Ask.READ_AFTER, data=b"k"))
            assert (found.status, found.data) == (Status.DONE, b"null")
            server_of(host)


def test_a_command_that_cannot_be_appended_was_not(
    machines: Callable[..., Machines], monkeypatch: pytest.MonkeyPatch
) -> None:
    a = machines("a")
    node, host = a.begin(), a.hosts["a"]

    def submit(*arguments: Any, **named: Any) -> None:
        raise LogFullError(errno.ENOSPC, node.path)

    with monkeypatch.context() as patch:
        patch.setattr(node, "submit", submit)
        found = asked(a, "a", COMMAND)
        assert (found.status, b"No space left" in found.data) == (Status.BUSY, True)
        server_of(host)
    with a.client() as client:
        client.call(put("one", "k", 1))
    assert a.machine("a").applied == {"one": 1}


def once(node: ReplicationWALManager, name: str, error: Exception) -> None:
    """The next call of a method fails, and those after it do not."""

    def fails(*arguments: Any, **named: Any) -> None:
        delattr(node, name)
        raise error

    setattr(node, name, fails)


def test_a_lack_of_memory_ends_no_service(machines: Callable[..., Machines]) -> None:
    """Whether the log has taken the command is not known then; a client asks again."""
    a = machines("a")
    node, host = a.begin(), a.hosts["a"]
    with a.client() as client:
        client.call(put("one", "k", 1))
        once(node, "submit", MemoryError())
        assert asked(a, "a", COMMAND).status is Status.UNSETTLED
        once(node, "submit", MemoryError())
        client.call(put("two", "k", 2))
        once(node, "linearizable_lsn", MemoryError())
        assert asked(a, "a", READ).status is Status.BUSY
        assert client.read(b"k") == b"2"
    server_of(host)
    assert a.machine("a").applied == {"one": 1, "two": 1}


def test_a_mistake_in_the_service_is_said(tmp_path: Path) -> None:
    """It ends the host, rather than the answers alone."""
    alone = Cluster(tmp_path, "a")
    nodes: Any = alone
    with closing(alone), ThreadPoolExecutor(2) as pool:
        node = alone.start("a", role="leader")
        asking = []
        for name, request in (("submit", COMMAND), ("linearizable_lsn", READ)):
            once(node, name, RuntimeError("a mistake of walstore's"))
            with closing(MachineHost(node, Registers())) as host:
                asking.append(pool.submit(asked, nodes, "a", request))
                until(lambda: "a mistake of walstore's" in node.status().error, "it is said")
                assert host.error is not None
        alone.stop("a")
        for one in asking:  # what the mistake left without an answer ends with the connection
            with suppress(LinkError):
                one.result(WAIT_S)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may be written beyond its first 64 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_command_that_the_disk_refuses_after_all_is_appended_again(
    machines: Callable[..., Machines],
) -> None:
    """Nobody waits for what is in no log, and nothing of it stays."""
    a = machines("a")
    node, host = a.begin(), a.hosts["a"]
    node.append(bytes(1 << 17))
    with a.client() as client, ThreadPoolExecutor(2) as pool:
        client.call(put("one", "k", 1))
        last_lsn = node.last_lsn
        with full_disk():
            calling = pool.submit(client.call, put("two", "k", 2))
            found = asked(a, "a", COMMAND)
            assert (found.status, b"too large" in found.data) == (Status.BUSY, True)
            first, second = pool.map(lambda _: asked(a, "a", COMMAND), range(2))
            assert {first.status, second.status} <= {Status.BUSY, Status.UNSETTLED}
            assert not calling.done()
        calling.result()
        assert node.last_lsn == last_lsn + 1
    server = server_of(host)
    until(lambda: not server._sent, "what is done is looked after no more")
    assert a.machine("a").applied == {"one": 1, "two": 1}


class FailsAmid(MachineHost):
    """Its machine fails right before, or after, it is asked what a request needs."""

    after = False

    def expect(self, command: Command, listener: Listener) -> Listener | None:
        if not self.after:
            self._fail(ZeroDivisionError("a mistake"))
        before = super().expect(command, listener)
        if self.after:
            self._fail(ZeroDivisionError("a mistake"))
        return before

    def answer(self, query: bytes) -> tuple[int, bytes]:
        self._fail(ZeroDivisionError("a mistake"))
        return super().answer(query)


def test_what_comes_as_the_machine_fails_is_answered_once(
    machines: Callable[..., Machines],
) -> None:
    """By who has taken it, or by the failure, which tells all that are expected by then."""
    a = machines("a")
    node = a.begin()
    last_lsn = node.last_lsn
    a.hosts.pop("a").close()
    for request, after, status in (
        (COMMAND, False, Status.BUSY),
        (COMMAND, True, Status.UNSETTLED),
        (READ, False, Status.BUSY),
    ):
        with closing(FailsAmid(node, Registers())) as host:
            host.after = after
            found = asked(a, "a", request)
            assert (found.status, b"a mistake" in found.data) == (status, status is Status.BUSY)
            server = server_of(host)
        assert (server._open, server._open_bytes) == (0, 0), "nor later, until its threads ended"
    assert node.last_lsn == last_lsn


def waits(server: RequestServer) -> None:
    """Waits until a read waits for its entry."""
    until(lambda: server._later, "a read waits")


def test_a_read_does_not_wait_for_ever(
    machines: Callable[..., Machines], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor for a client that is gone, or a host that is closed."""
    a = machines("a")
    a.begin()
    host = a.hosts["a"]
    server = server_of(host)
    request = ClientRequest(1, Ask.READ_AFTER, 0, FAR_LSN, data=b"k")
    with monkeypatch.context() as patch:
        patch.setattr(serving, "_READ_WAIT_S", 0.01)
        assert asked(a, "a", request).status is Status.BUSY
        server_of(host)

    async def leave() -> None:
        links = Links("client:c", Security(), NetworkOptions(), bytes)
        asking = asyncio.ensure_future(links.ask("a", a.url("a"), request, 30.0))
        await asyncio.to_thread(waits, server)
        asking.cancel()
        await links.close()

    asyncio.run(leave())
    server_of(host)
    assert not server._later
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(asked, a, "a", request)
        waits(server)
        host.close()
        assert asking.result(30).status is Status.BUSY
    server_of(host)


def test_a_host_may_be_closed_after_its_log(tmp_path: Path) -> None:
    alone = Cluster(tmp_path, "a")
    host = MachineHost(alone.start("a", role="leader"), Registers())
    alone.close()
    host.close()
    assert not own_threads()
