"""Clients: what they are told when something fails, and that they are no nodes."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections import UserDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.cluster.machines import Machines, machines
from tests.cluster.registers import Registers, put
from tests.replication.certificates import Authority
from tests.replication.networks import SECRET, Net, Raw, in_loop
from tests.replication.networks import until as until_async
from tests.replication.nodes import OPTIONS, WAIT_S, free_ports, own_threads, until
from tests.replication.test_starting import interrupt
from walstore import ClosedLogError, OptionError
from walstore.cluster import (
    AsyncClusterClient,
    ClusterClient,
    ClusterUnavailableError,
    CommandRefusedError,
    CommandUnknownError,
    MachineFailedError,
    MachineHost,
    ResultTooLargeError,
    SessionExpiredError,
    State,
    judge,
    serving,
)
from walstore.cluster.client_links import Links
from walstore.cluster.commands import KIND, Command, encode_command
from walstore.cluster.sessions import SESSIONS_MAX
from walstore.raft.errors import ConfigurationError
from walstore.raft.membership import Configuration
from walstore.replication import (
    TLS,
    CloseCode,
    NetworkManager,
    NetworkOptions,
    RefusedError,
    ReplicationWALManager,
    Security,
)
from walstore.replication import clients as served
from walstore.replication.clients import REQUESTS_OPEN_MAX, ClientLink
from walstore.replication.connection import Connection
from walstore.replication.log import NodeLog
from walstore.replication.message import (
    Ack,
    Body,
    Confirm,
    Heartbeat,
    SnapshotPart,
    TimeoutNow,
    VoteRequest,
    WalEntry,
)
from walstore.replication.requests import Ask, ClientRequest, ClientResponse, Status

__all__ = ["machines"]  # the fixture

pytestmark = pytest.mark.timeout(120)

REQUEST = ClientRequest(1, Ask.READ)
OF_NODES: list[Body] = [
    VoteRequest(9, 3),
    VoteRequest(9, 3, pre=True),
    WalEntry(0, 0, 0, 1, b""),
    Ack(9, 9, 9),
    SnapshotPart(9, 3, 0, 4, b"part"),
    Confirm(1),
    TimeoutNow(),
    ClientResponse(1, Status.DONE),
]


# ---- calls ----


def test_calls_and_reads(machines: Callable[..., Machines]) -> None:
    abc = machines()
    abc.begin()
    with abc.client() as client:
        lsn, count = json.loads(client.call(put("one", "k", 1)))
        assert (client.last_lsn, count) == (lsn, 1)
        assert client.read(b"k") == client.read_after(b"k") == b"1"
        assert client.read_stale(b"other") == b"null"
        with pytest.raises(CommandRefusedError, match="two is refused"):
            client.call(put("two", "k", 2, refuse=True))
        with pytest.raises(CommandRefusedError, match="it is refused"):
            client.read(b"refuse")
        with pytest.raises(ResultTooLargeError, match="at most 65536 are kept"):
            client.call(put("three", "k", 3, pad=1 << 16))
        with pytest.raises(ResultTooLargeError, match="at most 1000000 are sent"):
            client.read(b"large")
        with pytest.raises(OptionError, match="UnicodeDecodeError"):
            client.read(b"\xff")  # a mistake of the machine's, which harms this query alone
        big = "x" * 900_000
        client.call(put("four", "big", big))
        assert json.loads(client.read(b"big")) == big
        with pytest.raises(OptionError, match="at most 1000000 bytes"):
            client.call(bytes(1_000_001))
        assert json.loads(client.read(b"applied")) == {"one": 1, "three": 1, "four": 1}
        for name in "abc":  # each alone reads what was written, whoever leads
            with ClusterClient({name: abc.url(name)}) as other:
                assert other.read_after(b"k", client.last_lsn) == b"3"
    with pytest.raises(ClosedLogError):
        client.call(b"{}")
    abc.applied_everywhere()


def test_reads_after_what_is_no_entry(machines: Callable[..., Machines]) -> None:
    """They are the caller's mistake, and no other call's."""
    a = machines("a")
    a.begin()

    async def ask() -> None:
        async with AsyncClusterClient(a.urls) as client:
            await client.call(put("one", "k", 1))
            (connection,) = client._links._connections.values()
            for lsn in (-1, 1 << 63, 1 << 64, 1.5, "x", True):
                with pytest.raises(OptionError, match="lsn is "):
                    await client.read_after(b"k", lsn)  # type: ignore[arg-type]
            assert await client.read_after(b"k", 0) == b"1"
            assert [*client._links._connections.values()] == [connection]

    asyncio.run(ask())


def test_many_threads_share_a_client_and_its_session(machines: Callable[..., Machines]) -> None:
    """More than may be under way at the same time; on one of the nodes, which names the leader."""
    abc = machines()
    leader = abc.begin()
    other = abc.others(leader)[0].node_id
    with ClusterClient({other: abc.url(other)}) as client, ThreadPoolExecutor(80) as pool:
        names = [f"c{number}" for number in range(400)]
        results = pool.map(lambda name: json.loads(client.call(put(name, "k", name))), names)
        assert [count for _, count in results] == [1] * 400
        assert json.loads(client.read(b"applied")) == dict.fromkeys(names, 1)
    until(lambda: len(abc.hosts[other]._sessions) == 0, "the session is closed")


def asked(nodes: Machines, name: str, request: ClientRequest) -> ClientResponse:
    """What one node answers."""

    async def ask() -> ClientResponse:
        links = Links("client:c", Security(), NetworkOptions(), bytes)
        try:
            return await links.ask(name, nodes.url(name), request, 30.0)
        finally:
            await links.close()

    return asyncio.run(ask())


def test_who_is_busy_names_the_leader(
    machines: Callable[..., Machines], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which may be itself; but not where its machine has failed."""
    abc = machines()
    leader = abc.begin()
    other = abc.others(leader)[0].node_id
    request = ClientRequest(0, Ask.READ)
    named = (leader.node_id, leader.url)
    with monkeypatch.context() as full:
        full.setattr(serving, "REQUESTS_MAX", 0)
        found = asked(abc, leader.node_id, request)
        assert (found.status, found.leader_id, found.leader_url) == (Status.BUSY, named[0], "")
        found = asked(abc, other, request)
        assert (found.status, found.leader_id, found.leader_url) == (Status.BUSY, *named)
    with pytest.raises(MachineFailedError):
        abc.hosts[leader.node_id].call(put("bad", "k", 1, broken=True))
    until(lambda: abc.hosts[other].error is not None, "all fail")
    found = asked(abc, leader.node_id, request)
    assert (found.status, found.leader_id) == (Status.BUSY, "")
    found = asked(abc, other, request)
    assert (found.status, found.leader_id, found.leader_url) == (Status.BUSY, *named)


def test_a_client_has_a_session(machines: Callable[..., Machines]) -> None:
    """A command without one is its host's own, which nothing keeps from being applied again."""
    a = machines("a")
    a.begin()

    response = asked(a, "a", ClientRequest(0, Ask.COMMAND, 0, 1, 0, put("one", "k", 1)))
    assert response.status is Status.UNSUPPORTED
    assert a.machine("a").applied == {}


def test_what_is_too_much_for_a_node_is_asked_again(
    machines: Callable[..., Machines], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All calls come to their end, once each, though most are answered BUSY at first."""
    monkeypatch.setattr(serving, "REQUESTS_MAX", 3)
    a = machines("a")
    a.begin()
    with a.client() as client, ThreadPoolExecutor(40) as pool:
        names = [f"c{number}" for number in range(80)]
        list(pool.map(lambda name: client.call(put(name, "k", name)), names))
        assert json.loads(client.read(b"applied")) == dict.fromkeys(names, 1)


def test_the_same_from_asyncio(machines: Callable[..., Machines]) -> None:
    abc = machines()
    abc.begin()

    async def main() -> None:
        async with AsyncClusterClient(abc.urls) as client:
            calls = (client.call(put(f"c{number}", "k", number)) for number in range(200))
            assert len(await asyncio.gather(*calls)) == 200
            applied = json.loads(await client.read(b"applied"))
            assert applied == {f"c{number}": 1 for number in range(200)}
            given_up = [asyncio.create_task(client.call(put(f"g{n}", "k", n))) for n in range(100)]
            await asyncio.sleep(0)
            for task in given_up:
                task.cancel()
            await asyncio.wait(given_up)
            await client.call(put("after", "k", 1))
            applied = json.loads(await client.read(b"applied"))
            assert set(applied.values()) == {1}
            assert len(applied) <= 301
            with pytest.raises(ClusterUnavailableError):
                async with AsyncClusterClient({"x": "ws://127.0.0.1:1"}, timeout_s=0.1) as other:
                    await other.call(b"{}")

    asyncio.run(main())


def test_a_leadership_that_moves_is_followed(machines: Callable[..., Machines]) -> None:
    abc = machines()
    abc.begin()
    with abc.client() as client:
        for turn in range(6):
            name = "abc"[turn % 3]
            abc[name].promote()
            assert json.loads(client.call(put(f"{turn}", "k", turn)))[1] == 1
            assert json.loads(client.read(b"k")) == turn
    abc.applied_everywhere()


# ---- what the machine of a node does wrong ----


class Odd(Registers):
    """Answers what no machine should, and fails alone where it is told to."""

    def apply(self, lsn: int, command: bytes) -> bytes:
        told = json.loads(command)
        if told.get("refuse"):
            raise CommandRefusedError(f"no {told['refuse']}")
        if told.get("alone"):
            raise ZeroDivisionError("a mistake on this node alone")
        return super().apply(lsn, command)

    def query(self, query: bytes) -> bytes:
        if query == b"none":
            return None  # type: ignore[return-value]
        if query == b"text":
            return "text"  # type: ignore[return-value]
        if query == b"unprintable":
            raise Unprintable
        if query == b"exit":
            raise SystemExit
        if query == b"cancelled":
            raise asyncio.CancelledError
        if query.startswith(b"{"):
            raise CommandRefusedError(f"no {json.loads(query)['refuse']}")
        return super().query(query)


class Unprintable(Exception):
    def __repr__(self) -> str:
        raise ZeroDivisionError

    __str__ = __repr__


def odd(nodes: Machines, name: str) -> MachineHost:
    """The host of a node, with another machine; the log has no command yet."""
    nodes.hosts.pop(name).close()
    nodes.hosts[name] = MachineHost(nodes[name], Odd())
    return nodes.hosts[name]


def test_no_command_and_no_query_ends_the_service(machines: Callable[..., Machines]) -> None:
    """Whatever the machine makes of them."""
    a = machines("a")
    a.begin()
    host = odd(a, "a")
    surrogate = json.dumps({"name": "two", "refuse": "\ud800"}).encode()
    with a.client(timeout_s=10.0) as client:
        client.call(put("one", "k", 1))
        with pytest.raises(CommandRefusedError, match=r"no \?"):
            client.call(surrogate)
        with pytest.raises(CommandRefusedError, match=r"no \?"):
            client.read(surrogate)
        for query in (b"none", b"text"):
            with pytest.raises(OptionError, match="TypeError: the machine returned"):
                client.read(query)
        for query, told in (
            (b"unprintable", "Unprintable"),
            (b"exit", "SystemExit"),
            (b"cancelled", "CancelledError"),
        ):
            with pytest.raises(OptionError, match=told):
                client.read(query)
        with pytest.raises(TypeError):
            host.read_stale(b"none")
        assert client.read(b"k") == b"1"
        assert host.error is None
        assert host._server is not None
        assert host._server._open == 0


def test_a_follower_that_serves_nobody_names_the_leader(machines: Callable[..., Machines]) -> None:
    """Its machine has failed, which the cluster's health says; or its host was closed."""
    abc = machines()
    leader = abc.begin()
    failing, closing = (node.node_id for node in abc.others(leader))
    host = odd(abc, failing)
    at_failing, at_closing = abc.client(timeout_s=10.0), abc.client(timeout_s=10.0)
    with at_failing, at_closing:
        for client, name in ((at_failing, failing), (at_closing, closing)):
            client.call(put(f"first of {name}", "k", 0))
            client._client._at = name
            client.read_stale(b"k")  # it is connected there
        at_closing.call(put("bad", "k", 1, alone=True))
        until(lambda: host.error is not None, "its machine fails")
        abc.hosts.pop(closing).close()
        for client, name in ((at_failing, failing), (at_closing, closing)):
            for call in (client.call, client.read, client.read_stale):
                client._client._at = name
                query = put(name, "k", 2) if call == client.call else b"k"
                assert call(query)
    health = judge(node.status() for node in abc.nodes.values())
    found = health.node(failing)
    assert found is not None
    assert (found.state, health.well) == (State.FAILED, False)
    assert "a mistake on this node alone" in found.reason
    host.close()
    abc.hosts[failing] = MachineHost(abc[failing], Registers())
    assert judge(node.status() for node in abc.nodes.values()).well
    abc.hosts[closing] = MachineHost(abc[closing], Registers())
    abc.applied_everywhere()


# ---- what is not known, and what is ----


def test_an_answer_that_has_no_room_is_had_later(
    machines: Callable[..., Machines], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its command was applied: it is not said that nothing was done, and it is not done again."""
    monkeypatch.setattr(served, "ANSWERS_BYTES_MAX", 1)  # no second one in a turn of the loop
    told: list[Status] = []
    send = Connection.send

    def seen(connection: Connection, body: Body) -> bool:
        if isinstance(body, ClientResponse):
            told.append(body.status)
        return send(connection, body)

    monkeypatch.setattr(Connection, "send", seen)
    a = machines("a")
    a.begin()
    with a.client() as client, ThreadPoolExecutor(40) as pool:
        names = [f"c{number}" for number in range(200)]
        list(pool.map(lambda name: client.call(put(name, "k", name)), names))
        assert json.loads(client.read(b"applied")) == dict.fromkeys(names, 1)
    assert told.count(Status.UNSETTLED) > 0
    assert Status.BUSY not in told


def test_a_call_does_not_wait_for_another_that_opens_the_session() -> None:
    async def main() -> None:
        async with AsyncClusterClient({"z": "ws://127.0.0.1:1"}, timeout_s=5.0) as client:
            first = asyncio.create_task(client.call(b"{}"))
            await asyncio.sleep(0)
            with pytest.raises(ClusterUnavailableError, match="another call still opens"):
                await client.call(b"{}", timeout_s=0.05)
            assert not first.done()
            first.cancel()
            await asyncio.wait([first])

    asyncio.run(main())


def test_a_node_that_has_moved_is_found(machines: Callable[..., Machines]) -> None:
    abc = machines()
    abc.begin()
    with abc.client() as client:
        client.call(put("one", "k", 1))
        for name in "abc":
            abc.stop(name)
        abc.ports["b"] = free_ports(1)[0]
        for name in "abc":
            abc.start(name)
        abc.leader()
        abc["b"].promote()
        assert json.loads(client.call(put("two", "k", 2)))[1] == 1


@in_loop
async def test_a_node_is_found_where_the_client_was_told_first() -> None:
    """Where the others reach it, this client does not."""

    def redirect(link: ClientLink, request: ClientRequest) -> None:
        where = ("two", "ws://127.0.0.1:1")
        link.answer(ClientResponse(request.number, Status.NOT_LEADER, 0, *where))

    def answer(link: ClientLink, request: ClientRequest) -> None:
        link.answer(ClientResponse(request.number, Status.DONE, data=b"here"))

    async with Net("one") as one, Net("two") as two:
        one.manager.serve(redirect)
        two.manager.serve(answer)
        async with AsyncClusterClient({"one": one.url, "two": two.url}, timeout_s=10.0) as client:
            client._at = "one"
            assert await client.read(b"") == b"here"
            assert client._nodes["two"] == (two.url, "ws://127.0.0.1:1")


def test_nobody_there_is_not_unknown() -> None:
    urls = {name: f"ws://127.0.0.1:{port}" for name, port in zip("ab", free_ports(2), strict=True)}
    with ClusterClient(urls, timeout_s=0.3) as client:
        for call in (client.call, client.read, client.read_stale):
            with pytest.raises(ClusterUnavailableError) as caught:
                call(b"{}")
            assert caught.value.reasons.keys() == {"a", "b"}
            assert isinstance(caught.value, TimeoutError)


def test_a_command_that_may_be_there_is_unknown(
    machines: Callable[..., Machines], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the log of a leader, and on no other disk; it is applied once when it is there."""
    abc = machines()
    leader = abc.begin()
    with abc.client(attempt_s=0.2) as client:
        client.call(put("one", "k", 1))
        held_lsn = leader.last_lsn
        durable: Any = NodeLog.durable_lsn
        stuck = property(
            lambda log: (
                min(durable.fget(log), held_lsn) if log.path != leader.path else durable.fget(log)
            )
        )
        monkeypatch.setattr(NodeLog, "durable_lsn", stuck)
        with pytest.raises(CommandUnknownError) as caught:
            client.call(put("two", "k", 2), timeout_s=1.0)
        assert caught.value.sequence == 2
        assert leader.last_lsn == held_lsn + 1, "asked again and again, it was appended once"
        assert client.read(b"k") == b"1"
        monkeypatch.undo()
        client.call(put("three", "k", 3))
        assert json.loads(client.read(b"applied")) == {"one": 1, "two": 1, "three": 1}
    abc.applied_everywhere()


def test_a_leader_that_was_deposed_answers_no_read(machines: Callable[..., Machines]) -> None:
    """Its clients reach it, and the other nodes do not."""
    abc = machines(proxied=True)
    old = abc.begin()
    direct = {name: f"ws://127.0.0.1:{port}" for name, port in abc.ports.items()}
    others = {name: url for name, url in direct.items() if name != old.node_id}
    with ClusterClient({old.node_id: direct[old.node_id]}, timeout_s=0.5) as alone:
        alone.call(put("one", "k", "old"))
        abc.split(old.node_id)
        with ClusterClient(others, timeout_s=60.0) as client:
            client.call(put("two", "k", "new"))
        with pytest.raises(ClusterUnavailableError):
            alone.read(b"k")
        assert alone.read_stale(b"k") == b'"old"'
        with pytest.raises(ClusterUnavailableError):
            alone.read_after(b"k", client.last_lsn)
        abc.heal()
        assert alone.read_after(b"k", client.last_lsn, timeout_s=60) == b'"new"'
    abc.applied_everywhere()


def test_a_deposed_leader_asked_at_once(machines: Callable[..., Machines]) -> None:
    """While it still believes that it leads."""
    abc = machines(proxied=True, options=replace(OPTIONS, election_ms=1000))
    old = abc.begin()
    direct = f"ws://127.0.0.1:{abc.ports[old.node_id]}"
    with ClusterClient({old.node_id: direct}, timeout_s=0.4) as alone:
        alone.call(put("one", "k", "old"))
        abc.split(old.node_id)
        assert old.role == "leader"
        with pytest.raises(ClusterUnavailableError):
            alone.read(b"k")
        abc.heal()


def expire_all(node: ReplicationWALManager) -> None:
    """As many others open sessions as there may be."""
    opens = [encode_command(Command(Ask.OPEN, 0, n)) for n in range(1, SESSIONS_MAX + 1)]
    node.append_many(opens, kind=KIND)


def test_an_idle_session_that_was_expired_is_opened_anew(
    machines: Callable[..., Machines],
) -> None:
    abc = machines()
    leader = abc.begin()
    with abc.client() as client:
        client.call(put("one", "k", 1))
        expire_all(leader)
        assert json.loads(client.call(put("two", "k", 2)))[1] == 1
        assert json.loads(client.read(b"applied")) == {"one": 1, "two": 1}


def test_a_command_whose_answer_was_lost_is_not_applied_in_a_session_that_was_expired(
    machines: Callable[..., Machines],
) -> None:
    """A leader that lost its quorum has it, and stops; those who come instead close its session."""
    abc = machines(options=replace(OPTIONS, election_ms=1000))
    leader = abc.begin()
    with abc.client(attempt_s=0.2) as client, ThreadPoolExecutor(1) as pool:
        client.call(put("one", "k", 1))
        others = [node.node_id for node in abc.others(leader)]
        for name in others:
            abc.hosts.pop(name).close()
        for name in others:
            abc.stop(name)
        last_lsn = leader.last_lsn
        call = pool.submit(client.call, put("two", "k", 2))
        until(lambda: leader.last_lsn > last_lsn, "it is in the log")
        abc.stop(leader.node_id)
        ports = dict(abc.ports)
        abc.ports.update(dict(zip(others, free_ports(2), strict=True)))  # unknown to the client
        for name in others:
            abc.start(name)
        expire_all(abc.leader())
        for name in others:
            abc.stop(name)
        abc.ports.update(ports)
        for name in others:
            abc.start(name)
        with pytest.raises(SessionExpiredError, match="before the answer of command 2 was known"):
            call.result(60)
        assert json.loads(client.read(b"applied")) == {"one": 1}
        client.call(put("three", "k", 3))


# ---- options ----


@pytest.mark.parametrize(
    ("nodes", "options", "reason"),
    [
        ({}, {}, "nodes names no node"),
        ({"a": "http://127.0.0.1:1"}, {}, "must begin with ws://"),
        ({"a": "ws://127.0.0.1"}, {}, "must be host:port"),
        ({"a": "ws://10.0.0.1:1"}, {}, "is not a loopback address"),
        ({"client:a": "ws://127.0.0.1:1"}, {}, "cannot be a node id"),
        ({"a": "ws://127.0.0.1:1"}, {"name": ""}, "a client's name"),
        ({"a": "ws://127.0.0.1:1"}, {"name": "n" * 60}, "a client's name"),
        ({"a": "ws://127.0.0.1:1"}, {"timeout_s": 0}, "timeout_s is a positive number"),
        ({"a": "ws://127.0.0.1:1"}, {"attempt_s": "1"}, "attempt_s is a positive number"),
    ],
)
def test_options_that_make_no_sense(
    nodes: dict[str, str], options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(OptionError, match=reason):
        ClusterClient(nodes, **options)


def test_no_node_is_called_like_a_client(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="does not begin with 'client:'"):
        ReplicationWALManager(tmp_path / "log", node_id="client:a")
    with pytest.raises(OptionError, match="does not begin with 'client:'"):
        ReplicationWALManager(tmp_path / "log", node_id="a", peers={"client:b": None})
    with pytest.raises(ConfigurationError, match="cannot be a node's id"):
        Configuration(frozenset({"a", "client:b"})).check()
    with pytest.raises(OptionError, match="cannot be a node id"):
        Net("client:a")
    with pytest.raises(OptionError, match="cannot be a peer of a"):
        Net("a", {"client:b": "ws://127.0.0.1:1"})


# ---- a client is no node ----


async def closed_with(raw: Raw) -> int:
    while True:
        try:
            await raw.ws.recv()
        except ConnectionClosed as error:
            return error.rcvd.code if error.rcvd is not None else 0


async def say(raw: Raw, body: Body, term: int = 9) -> None:
    assert raw.session is not None
    await raw.ws.send(raw.session.seal(body, term, 0))


@in_loop
async def test_what_nodes_say_is_not_taken_from_a_client() -> None:
    """Nor does anything that it says reach what nodes talk to."""
    for body in OF_NODES:
        async with Net("node") as net:
            net.manager.serve(lambda link, request: None)
            raw = await Raw.to(net, "client:c")
            await raw.greet()
            await until_async(lambda net=net: len(net.manager.clients) == 1, "it is let in")  # type: ignore[misc]
            await say(raw, body)
            assert await closed_with(raw) == CloseCode.BAD_MESSAGE, body
            assert not net.got
            assert not net.events
            assert net.manager.connected == ()
            assert net.manager.metrics().peers == {}
            await until_async(lambda net=net: len(net.manager.clients) == 0, "it is gone")  # type: ignore[misc]


@in_loop
async def test_what_clients_say_is_not_taken_from_a_node() -> None:
    for body in (REQUEST, ClientResponse(1, Status.DONE)):
        taken: list[ClientRequest] = []
        async with Net("node") as net:
            net.manager.serve(lambda link, request, taken=taken: taken.append(request))  # type: ignore[misc]
            raw = await Raw.to(net, "raw")
            await raw.greet()
            await net.joined("raw")
            await say(raw, body)
            assert await closed_with(raw) == CloseCode.BAD_MESSAGE
            assert not taken
            assert not net.got


@in_loop
async def test_who_serves_nobody_lets_no_client_in() -> None:
    async with Net("node", options=NetworkOptions(clients_max=1)) as net:
        raw = await Raw.to(net, "client:c")
        with pytest.raises(ConnectionClosed):
            await raw.greet()
        assert await closed_with(raw) == CloseCode.TRY_LATER
        net.manager.serve(lambda link, request: None)
        first = await Raw.to(net, "client:c")
        session = await first.greet()
        second = await Raw.to(net, "client:c")
        with pytest.raises(ConnectionClosed):
            await second.greet()
        assert await closed_with(second) == CloseCode.TRY_LATER
        assert len(net.manager.clients) == 1
        net.manager.serve(None)  # who is connected is sent elsewhere
        await say(first, REQUEST)
        answer: Body = Heartbeat(0, 0)
        while isinstance(answer, Heartbeat):
            answer = session.open(await first.ws.recv(decode=False)).body
        assert answer == ClientResponse(REQUEST.number, Status.NOT_LEADER)
        await first.ws.close()


@in_loop
async def test_requests_of_one_client_are_bounded() -> None:
    """Those that are too many are answered at once; the others when they are done."""
    links: list[tuple[ClientLink, ClientRequest]] = []
    async with Net("node") as net:
        net.manager.serve(lambda link, request: links.append((link, request)))
        raw = await Raw.to(net, "client:c")
        session = await raw.greet()

        async def answers(count: int) -> list[ClientResponse]:
            found: list[ClientResponse] = []
            while len(found) < count:
                message = session.open(await raw.ws.recv(decode=False))
                if isinstance(message.body, ClientResponse):
                    found.append(message.body)
            return found

        for number in range(REQUESTS_OPEN_MAX + 2):
            await say(raw, ClientRequest(number, Ask.READ))
        busy = await answers(2)
        assert {answer.status for answer in busy} == {Status.BUSY}
        assert {answer.number for answer in busy} == {REQUESTS_OPEN_MAX, REQUESTS_OPEN_MAX + 1}
        assert len(links) == REQUESTS_OPEN_MAX
        links[0][0].answer(ClientResponse(0, Status.DONE))
        assert [answer.status for answer in await answers(1)] == [Status.DONE]
        await say(raw, ClientRequest(99, Ask.READ))
        await until_async(lambda: len(links) == REQUESTS_OPEN_MAX + 1, "there is room again")
        # What does not fit into the queue may be applied, and is to be asked again.
        for number in range(1, 12):
            links[number][0].answer(ClientResponse(number, Status.DONE, data=bytes(1_000_000)))
        large = await answers(11)
        assert {answer.status for answer in large} == {Status.DONE, Status.UNSETTLED}
        await raw.ws.close()


@in_loop
async def test_answers_that_wait_are_bounded_for_all_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each has the same share, and one answer; that something is not done is said in any case."""
    monkeypatch.setattr(served, "ANSWERS_BYTES_MAX", 3_100_000)
    large, busy = bytes(1_000_000), ClientResponse(4, Status.BUSY, 0, data=b"why")
    links: dict[str, ClientLink] = {}
    async with Net("node") as net:
        net.manager.serve(lambda link, request: links.update({str(request.number): link}))
        first = await Raw.to(net, "client:c")
        session = await first.greet()
        await say(first, ClientRequest(1, Ask.READ))
        await until_async(lambda: "1" in links, "it asks")

        async def told() -> list[Status]:
            for number in range(1, 4):
                links["1"].answer(ClientResponse(number, Status.DONE, data=large))
            links["1"].answer(busy)
            found: dict[int, Status] = {}
            while len(found) < 4:
                body = session.open(await first.ws.recv(decode=False)).body
                if isinstance(body, ClientResponse):
                    found[body.number] = body.status
            return [found[number] for number in range(1, 5)]

        assert await told() == [Status.DONE] * 3 + [Status.BUSY]
        second = await Raw.to(net, "client:d")
        await second.greet()
        await until_async(lambda: len(net.manager.clients) == 2, "it is let in")
        assert await told() == [Status.DONE, Status.UNSETTLED, Status.UNSETTLED, Status.BUSY]
        await second.ws.close()
        await first.ws.close()


@in_loop
async def test_a_client_names_the_cluster_that_it_knows() -> None:
    async with Net("node", cluster_id=bytes(range(1, 17))) as net:
        net.manager.serve(
            lambda link, request: link.answer(ClientResponse(request.number, Status.DONE))
        )
        async with AsyncClusterClient({"node": net.url}, timeout_s=0.5) as client:
            await client.read(b"")
            net.cluster_id = bytes(range(2, 18))  # another one has its address
            for connection in list(net.manager._all):
                connection.abort()
            with pytest.raises(ClusterUnavailableError, match="node of 0203"):
                await client.read(b"")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "ca")


def test_a_certificate_is_good_for_a_node_or_for_a_client(
    authority: Authority, tmp_path: Path
) -> None:
    node_tls = authority.node("a")
    app_tls = authority.node("client:app", common_name="client:app")
    log = ReplicationWALManager(
        tmp_path / "a", node_id="a", listen="127.0.0.1:0", election="raft", tls=node_tls
    )
    with log, MachineHost(log, Registers()):
        urls = {"a": str(log.url)}
        with ClusterClient(urls, name="app", tls=app_tls) as client:
            assert client.call(put("one", "k", 1))
        for name, tls in (("app", node_tls), ("a", node_tls), ("other", app_tls)):
            with ClusterClient(urls, name=name, tls=tls) as client:
                with pytest.raises(ClusterUnavailableError, match="certificate is not of client:"):
                    client.call(b"{}")
        assert asyncio.run(dials(str(log.url), "app", app_tls)) == CloseCode.WRONG_NODE
        assert log.connected == ()


async def dials(url: str, node_id: str, tls: TLS) -> int:
    """With what a node that calls itself this is closed."""
    network = NetworkManager(
        node_id,
        cluster_id=lambda: bytes(16),
        term=lambda: 99,
        listen=None,
        peers={},
        security=Security(tls=tls),
        options=NetworkOptions(),
        on_message=lambda node, message: None,
    )
    try:
        with pytest.raises(RefusedError) as caught:
            await network.connect("a", url)
    finally:
        await network.stop()
    return caught.value.code


def test_a_wrong_secret_gets_nothing(machines: Callable[..., Machines]) -> None:
    a = machines("a", secret=SECRET)
    leader = a.begin()
    before = leader.status().term, leader.last_lsn
    for secret in (None, b"another secret of 30 bytes"):
        with ClusterClient(a.urls, secret=secret) as client:
            with pytest.raises(ClusterUnavailableError, match=r"proof|MAC"):
                client.call(b"{}")
    assert (leader.status().term, leader.last_lsn) == before
    with ClusterClient(a.urls, secret=SECRET) as client:
        client.call(put("one", "k", 1))
    assert leader.status().term == before[0]


def test_clients_are_not_among_the_nodes(machines: Callable[..., Machines]) -> None:
    abc = machines()
    leader = abc.begin()
    before = leader.status()
    with abc.client() as client:
        client.call(put("one", "k", 1))
        now = leader.status()
        assert now.term == before.term
        assert {peer.node_id for peer in now.peers} == {peer.node_id for peer in before.peers}
        assert sorted((leader.node_id, *leader.connected)) == ["a", "b", "c"]
        assert not any(node.startswith("client") for node in leader.metrics().peers)


@in_loop
async def test_nothing_is_left_of_a_client_whose_close_was_cancelled() -> None:
    """While the node does not answer, and again while the connection ends."""
    closing = asyncio.Event()

    def answer(link: ClientLink, request: ClientRequest) -> None:
        if request.ask is Ask.CLOSE:
            closing.set()
        else:
            link.answer(ClientResponse(request.number, Status.DONE, 1))

    async with Net("node") as net:
        net.manager.serve(answer)
        for times in (1, 2):
            closing.clear()
            client = AsyncClusterClient({"node": net.url})
            await client.call(b"")
            task = asyncio.create_task(client.close())
            await closing.wait()
            for _ in range(times):
                task.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert times == 2 or not client._links._all
            await client.close()
            assert not client._links._all
            await until_async(lambda: len(net.manager.clients) == 0, "the node has lost it")


def test_a_host_that_is_closed_serves_nobody(machines: Callable[..., Machines]) -> None:
    """Its node goes on; when there is a host again, so does the client."""
    a = machines("a")
    leader = a.begin()
    with a.client() as client:
        client.call(put("one", "k", 1))
        a.hosts.pop("a").close()
        with pytest.raises(ClusterUnavailableError):
            client.call(put("two", "k", 2), timeout_s=0.3)
        again = threading.Timer(0.3, lambda: a.hosts.update(a=MachineHost(leader, Registers())))
        again.start()
        assert json.loads(client.call(put("two", "k", 2)))[1] == 1
        again.join()


def test_a_machine_that_failed_takes_nothing(machines: Callable[..., Machines]) -> None:
    a = machines("a")
    a.begin()
    with a.client(attempt_s=0.2) as client:
        with pytest.raises(CommandUnknownError, match=r"a: entry \d+ cannot be applied: Zero"):
            client.call(put("one", "k", 1, broken=True), timeout_s=0.5)
        with pytest.raises(ClusterUnavailableError, match=r"a: entry \d+ cannot be applied: Zero"):
            client.call(put("two", "k", 2), timeout_s=0.3)
        assert a.machine("a").applied == {}


class Interrupts(UserDict[str, str]):
    """The nodes of a client, whose caller is interrupted while it looks at them."""

    def __init__(self) -> None:
        self._caught = threading.Event()
        super().__init__(a="ws://127.0.0.1:9")

    def handle(self, number: int, frame: object) -> None:
        self._caught.set()
        raise KeyboardInterrupt

    def __iter__(self) -> Iterator[str]:
        if not self._caught.is_set():
            interrupt()
            assert self._caught.wait(WAIT_S)
        return super().__iter__()


def test_nothing_is_left_of_a_client_that_was_interrupted_while_it_began() -> None:
    nodes = Interrupts()
    before = signal.signal(signal.SIGINT, nodes.handle)
    try:
        with pytest.raises(KeyboardInterrupt):
            ClusterClient(nodes)
        assert not own_threads()
    finally:
        signal.signal(signal.SIGINT, before)
