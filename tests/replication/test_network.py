"""Networks that work: connected, heard, queued, reconnected, counted, and gone without a trace."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Awaitable
from dataclasses import replace
from functools import partial

import pytest

from tests.replication.networks import (
    CLUSTER,
    FAST,
    SECRET,
    WAIT_S,
    Net,
    Raw,
    in_loop,
    raises_in,
    until,
)
from tests.replication.nodes import free_ports
from tests.replication.proxy import Proxy
from walstore.errors import OptionError
from walstore.replication import CloseCode, RefusedError, ReplicationMessage, UnreachableError
from walstore.replication.message import (
    MESSAGE_BYTES,
    NO_CLUSTER,
    Ack,
    Body,
    Heartbeat,
    SnapshotPart,
    VoteRequest,
    WalEntry,
)
from walstore.replication.network import (
    NetworkError,
    NetworkEvent,
    NetworkManager,
    NodeConnected,
    NodeDisconnected,
    QueueDrained,
)
from walstore.replication.options import NetworkOptions
from walstore.replication.security import Security

SECURE = Security(secret=SECRET)


def got(net: Net, body: Ack) -> bool:
    """Whether a network was sent this."""
    return body in [message for _, message in net.got]


def rate_of(net: Net, name: str) -> float:
    """One of the rates to B."""
    rate: float = getattr(net.manager.metrics().peers["B"], name)
    return rate


def connects_are(net: Net, count: int) -> bool:
    """Whether it was connected so often."""
    return net.count(NodeConnected) == count


# ---- the behaviours that a network was always said to have ----


@in_loop
async def test_a_network_keeps_its_node_id_and_its_port() -> None:
    async with Net("A") as net:
        assert net.manager.node_id == "A"
        assert net.port > 0
        with pytest.raises(OSError, match="in use"):
            async with Net("B", listen=f"127.0.0.1:{net.port}"):
                pass


@in_loop
async def test_two_nodes_connect_and_list_each_other() -> None:
    async with Net("B") as b, Net("A", {"B": b.url}) as a:
        await a.joined("B")
        await b.joined("A")
        assert a.events == [NodeConnected("B", dialed=True)]
        assert b.events == [NodeConnected("A", dialed=False)]


@in_loop
async def test_what_is_sent_to_a_peer_that_has_just_ended_harms_nobody() -> None:
    """Its end was read, and the loss of the connection comes in a later turn of the loop."""
    async with Net("B") as b, Net("A", {"B": b.url}) as a:
        await a.joined("B")
        await b.joined("A")
        connection = b.manager._connections["A"]
        b.manager.hold()
        assert b.manager.send("A", Ack(1, 2, 3))
        assert b.manager.send("A", WalEntry(1, 1, 1, 1, b"records"))
        connection.eof_received()
        assert not b.manager.send("A", Ack(4, 5, 6))
        b.manager.release()
        connection.abort()
        await until(lambda: b.count(NodeDisconnected) == 1, "it is gone")
        await b.joined("A")


@in_loop
async def test_a_port_that_nobody_holds_is_an_error() -> None:
    async with Net("A") as net:
        with raises_in(1.0), pytest.raises(UnreachableError, match="Connect call failed"):
            await net.manager.connect("B", f"ws://127.0.0.1:{free_ports(1)[0]}")
        assert net.manager.connected == ()


@in_loop
async def test_an_unreachable_node_is_an_error_in_time() -> None:
    """A listener that never accepts, and whose queue is full, answers nothing at all."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        async with Net("A") as net:
            with raises_in(2.5), pytest.raises(UnreachableError):
                await net.manager.connect("B", f"ws://127.0.0.1:{silent.getsockname()[1]}")


@in_loop
async def test_a_message_arrives_as_it_was_sent() -> None:
    got: list[ReplicationMessage] = []
    async with Net("B", on_message=lambda node, message: got.append(message)) as b:
        async with Net("A", {"B": b.url}) as a:
            await a.joined("B")
            a.term = 7
            body = WalEntry(1, 2, 3, 4, b"records" * 9, receipt=True)
            assert a.manager.send("B", body)
            await until(lambda: got, "it arrived")
            assert got[0].body == body
            assert (got[0].source, got[0].target, got[0].term) == ("A", "B", 7)
            assert got[0].cluster_id == CLUSTER
            assert abs(got[0].timestamp_ns - time.time_ns()) < WAIT_S * 1e9


@in_loop
async def test_a_broadcast_reaches_everybody_who_is_connected() -> None:
    async with Net("A") as a, Net("B", {"A": a.url}) as b, Net("C", {"A": a.url}) as c:
        await a.joined("B", "C")
        assert set(a.manager.broadcast(VoteRequest(5, 1))) == {"B", "C"}
        await until(lambda: b.got and c.got, "both have it")
        assert b.got == c.got == [("A", VoteRequest(5, 1))]


@in_loop
async def test_to_a_node_that_is_not_connected_nothing_is_sent() -> None:
    async with Net("A") as net:
        assert not net.manager.send("B", Ack(1, 1, 1))
        assert net.manager.broadcast(Ack(1, 1, 1)) == ()
        await net.manager.drained("B")


@in_loop
async def test_a_node_that_leaves_is_off_the_list() -> None:
    async with Net("A") as a:
        async with Net("B", {"A": a.url}):
            await a.joined("B")
        await a.joined()
        assert a.events[-1] == NodeDisconnected("B", CloseCode.GOING_AWAY, "B stops")


@in_loop
async def test_disconnect_ends_it_and_nobody_dials_again() -> None:
    async with Net("B") as b, Net("A", {"B": b.url}) as a:
        await a.joined("B")
        await a.manager.disconnect("B")
        assert a.manager.connected == ()
        await b.joined()
        await asyncio.sleep(3 * FAST.reconnect_min_ms / 1000)
        assert b.count(NodeConnected) == 1


@in_loop
async def test_a_connection_that_was_cut_comes_back() -> None:
    async with Net("B") as b:
        with Proxy(b.port) as proxy:
            async with Net("A", {"B": proxy.url}) as a:
                await a.joined("B")
                for times in range(2, 5):
                    proxy.cut()
                    await until(partial(connects_are, a, times), "A is back")
                    assert a.manager.send("B", Ack(times, 0, 0))
                    await until(partial(got, b, Ack(times, 0, 0)), "B hears A")
            assert a.manager.metrics().peers["B"].connects == 4


@in_loop
async def test_a_node_that_starts_late_is_found() -> None:
    (port,) = free_ports(1)
    async with Net("A", {"B": f"ws://127.0.0.1:{port}"}) as a:
        await until(lambda: a.count(NetworkError) >= 2, "it is tried again")
        async with Net("B", listen=f"127.0.0.1:{port}"):
            await a.joined("B")
    assert a.manager.metrics().peers["B"].failures >= 2
    assert "Connect call failed" in a.manager.metrics().peers["B"].last_error


@in_loop
async def test_many_rapid_connections_leave_the_last_one() -> None:
    async with Net("A") as a:
        raws = [await Raw.to(a) for _ in range(20)]
        for raw in raws:
            await raw.greet()
        for raw in raws[:-1]:
            assert (await raw.closed_with())[0] == CloseCode.REPLACED
        await a.joined("raw")
        await raws[-1].ws.close()
        await a.joined()


@in_loop
async def test_all_of_many_messages_arrive_in_order() -> None:
    async with Net("B") as b, Net("A", {"B": b.url}) as a:
        await a.joined("B")
        for lsn in range(2000):
            assert a.manager.send("B", Ack(lsn, 0, 0))
        await until(lambda: len(b.got) == 2000, "all arrived")
        assert [body for _, body in b.got] == [Ack(lsn, 0, 0) for lsn in range(2000)]


# ---- one connection ----


@in_loop
async def test_what_a_replaced_connection_carried_comes_no_more() -> None:
    """It waits for the consumer when the newer one is there, which has said more by then."""
    got: list[Body] = []
    held: list[asyncio.Future[None]] = []

    def take(_: str, message: ReplicationMessage) -> Awaitable[None] | None:
        got.append(message.body)
        held.append(asyncio.get_running_loop().create_future())
        return held[0] if len(held) == 1 else None

    async with Net("B", on_message=take) as b:
        older = await Raw.to(b)
        session = await older.greet()
        for lsn in (1, 2, 3):
            await older.ws.send(session.seal(Ack(lsn, lsn, lsn), 1, 0))
        await until(lambda: len(got) == 1, "the first is there, and waited for")

        def replaced(event: NetworkEvent) -> None:
            if isinstance(event, NodeConnected):
                held[0].set_result(None)

        b.manager.subscribe(replaced)
        newer = await Raw.to(b)
        session = await newer.greet()
        await newer.ws.send(session.seal(Ack(9, 9, 9), 1, 0))
        await until(lambda: Ack(9, 9, 9) in got, "the newer one is heard")
        assert got == [Ack(1, 1, 1), Ack(9, 9, 9)]


@in_loop
async def test_of_two_that_dial_each_other_one_connection_remains() -> None:
    ports = free_ports(2)
    urls = [f"ws://127.0.0.1:{port}" for port in ports]
    for _ in range(5):
        async with (
            Net("A", {"B": urls[1]}, listen=f"127.0.0.1:{ports[0]}") as a,
            Net("B", {"A": urls[0]}, listen=f"127.0.0.1:{ports[1]}") as b,
        ):
            await a.joined("B")
            await b.joined("A")
            ended = a.count(NodeDisconnected), b.count(NodeDisconnected)
            await asyncio.sleep(0.1)
            assert (a.count(NodeDisconnected), b.count(NodeDisconnected)) <= (
                ended[0] + 1,
                ended[1] + 1,
            )
            assert a.manager.send("B", Ack(1, 0, 0))
            assert b.manager.send("A", Ack(2, 0, 0))
            await until(partial(got, a, Ack(2, 0, 0)), "A hears")
            await until(partial(got, b, Ack(1, 0, 0)), "B hears")
            dialed = [e.dialed for e in (*a.events, *b.events) if isinstance(e, NodeConnected)]
            assert any(dialed)


@in_loop
async def test_the_node_with_the_smaller_id_wins_the_tie() -> None:
    async with Net("M") as m:
        for name, remains in (("A", "theirs"), ("Z", "own")):
            async with Net(name) as other:
                await m.manager.connect(name, other.url)
                raw = await Raw.to(m, name)
                await raw.greet()
                if remains == "own":
                    assert (await raw.closed_with())[0] == CloseCode.REPLACED
                    assert m.manager.connected == (name,)
                else:
                    await other.joined()
                    assert m.manager.connected == (name,)
                    assert m.events[-1] == NodeConnected(name, dialed=False)
                    await raw.ws.close()
                await m.manager.disconnect(name)


@in_loop
async def test_a_node_asks_for_the_cluster_id_and_is_not_connected_by_it() -> None:
    async with (
        Net("B", security=SECURE) as b,
        Net("A", security=SECURE, cluster_id=NO_CLUSTER) as a,
    ):
        assert await a.manager.ask("B", b.url) == CLUSTER
        assert a.manager.connected == ()
        await b.joined()
        a.cluster_id = CLUSTER
        await a.manager.connect("B", b.url)
        assert await a.manager.ask("B") == CLUSTER
        assert b.count(NodeConnected) == 2


@in_loop
async def test_another_cluster_is_refused_and_tried_slowly() -> None:
    async with Net("B") as b, Net("A", {"B": b.url}, cluster_id=b"x" * 16) as a:
        await until(lambda: a.count(NetworkError), "it was refused")
        assert "is of cluster 7878" in a.events[0].reason  # type: ignore[union-attr]
        with pytest.raises(RefusedError) as caught:
            await a.manager.connect("B", b.url)
        assert caught.value.code == CloseCode.OTHER_CLUSTER
        assert caught.value.hint
        assert b.manager.metrics().strangers_refused["OTHER_CLUSTER"] >= 1
        assert b.manager.connected == ()


@in_loop
async def test_only_nodes_of_the_cluster_are_connected() -> None:
    async with (
        Net("A", members=frozenset("AB")) as a,
        Net("B") as b,
        Net("X") as x,
    ):
        await b.manager.connect("A", a.url)
        with pytest.raises(RefusedError, match="X is no node of this cluster") as caught:
            await x.manager.connect("A", a.url)  # it knows the secret, and is refused by its name
        assert caught.value.code == CloseCode.WRONG_NODE
        assert a.manager.connected == ("B",)
        assert [event.node_id for event in a.events] == ["B"]


@in_loop
async def test_a_node_whose_cluster_changes_is_refused_in_the_middle() -> None:
    async with Net("B") as b, Net("A", {"B": b.url}, cluster_id=NO_CLUSTER) as a:
        await a.joined("B")
        a.cluster_id = b"y" * 16
        a.manager.send("B", Ack(1, 1, 1))
        await until(lambda: b.count(NodeDisconnected), "B closed")
        gone = next(event for event in b.events if isinstance(event, NodeDisconnected))
        assert gone.code == CloseCode.OTHER_CLUSTER
        assert b.got == []


# ---- queues ----


class Gate:
    """A consumer that takes one message and then waits."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.got: list[ReplicationMessage] = []

    def __call__(self, node_id: str, message: ReplicationMessage) -> Awaitable[None]:
        return self._take(message)

    async def _take(self, message: ReplicationMessage) -> None:
        self.got.append(message)
        await self.open.wait()


@in_loop
async def test_a_slow_consumer_holds_up_its_own_peer_only_and_is_not_taken_for_dead() -> None:
    gate = Gate()
    options = NetworkOptions(queue_bytes=1 << 20, heartbeat_ms=100, silence_ms=1500)
    async with (
        Net("slow", options=options, on_message=gate) as slow,
        Net("quick", options=options) as quick,
        Net("A", {"slow": slow.url, "quick": quick.url}, options=options) as a,
    ):
        await a.joined("slow", "quick")
        part = WalEntry(1, 1, 1, 1, bytes(MESSAGE_BYTES))
        sent = 0
        while sent < 400:
            if a.manager.send("slow", part):
                sent += 1
                continue
            try:
                async with asyncio.timeout(0.5):
                    await a.manager.drained("slow")
            except TimeoutError:
                break  # not only for a moment: the kernel takes no more
        assert 4 <= sent < 400
        assert a.manager.metrics().peers["slow"].queued_bytes <= options.queue_bytes
        waiting = asyncio.create_task(a.manager.drained("slow"))
        assert a.manager.send("quick", part)
        await until(lambda: quick.got, "the other one is served")
        await asyncio.sleep(1.5 * options.silence_ms / 1000)
        assert not waiting.done()
        assert set(a.manager.connected) == {"slow", "quick"}
        gate.open.set()
        await waiting
        assert a.events[-1] == QueueDrained("slow")
        await until(lambda: len(gate.got) == sent, "nothing was lost")
        assert a.count(NodeDisconnected) == slow.count(NodeDisconnected) == 0


@in_loop
async def test_a_control_message_waits_for_one_large_one_at_most() -> None:
    async with Net("B") as b, Net("A", {"B": b.url}) as a:
        await a.joined("B")
        part = WalEntry(1, 1, 1, 1, bytes(MESSAGE_BYTES))
        for _ in range(10):
            assert a.manager.send("B", part)
        assert a.manager.send("B", Ack(7, 7, 7))
        await asyncio.sleep(0)
        assert a.manager.send("B", VoteRequest(8, 8))
        await until(lambda: len(b.got) == 12, "all arrived")
        order = [type(body) for _, body in b.got]
        assert order.index(Ack) == 0
        assert order.index(VoteRequest) == 2
        assert order.count(WalEntry) == 10


@in_loop
async def test_control_messages_are_taken_when_the_queue_is_full() -> None:
    async with Net("B") as b, Net("A", {"B": b.url}) as a:
        await a.joined("B")
        part = SnapshotPart(1, 1, 0, 1 << 30, bytes(MESSAGE_BYTES))
        sent = 0
        while a.manager.send("B", part):
            sent += 1
        assert sent == FAST.queue_bytes // (MESSAGE_BYTES + 64)
        assert a.manager.send("B", Ack(1, 1, 1))
        await a.manager.drained("B")
        await until(lambda: len(b.got) == sent + 1, "all arrived")


@in_loop
async def test_an_empty_wal_entry_does_not_overtake_records() -> None:
    async with Net("B") as b, Net("A", {"B": b.url}) as a:
        await a.joined("B")
        records, empty = WalEntry(1, 1, 1, 1, bytes(MESSAGE_BYTES)), WalEntry(2, 1, 2, 1, b"")
        for _ in range(5):
            assert a.manager.send("B", records)
        assert a.manager.send("B", empty)
        await until(lambda: len(b.got) == 6, "all arrived")
        assert b.got[-1][1] == empty


@in_loop
async def test_what_is_sent_in_one_turn_leaves_in_one_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Net("B") as b, Net("A", {"B": b.url}) as a:
        await a.joined("B")
        connection = a.manager._connections["B"]
        before = connection.counters.bytes_sent
        writes: list[int] = []
        real = connection._transport.write  # type: ignore[union-attr]

        def write(data: bytes) -> None:
            writes.append(len(data))
            real(data)

        monkeypatch.setattr(connection._transport, "write", write)
        for lsn in range(50):
            assert a.manager.send("B", WalEntry(lsn, 1, 1, 1, bytes(200)))
            assert a.manager.send("B", Ack(lsn, 1, 1))
        await until(lambda: len(b.got) == 100, "all arrived")
        assert writes[0] > 50 * 200
        assert len(writes) <= 3  # heartbeats come in between
        assert connection.counters.bytes_sent - before == sum(writes)


@in_loop
async def test_a_consumer_that_refuses_a_message_closes_the_connection() -> None:
    def refuse(node_id: str, message: ReplicationMessage) -> None:
        raise RefusedError(CloseCode.WRONG_NODE, "two leaders of one term")

    async with Net("B", on_message=refuse) as b, Net("A", {"B": b.url}) as a:
        await a.joined("B")
        a.manager.send("B", Ack(1, 1, 1))
        await until(lambda: a.count(NodeDisconnected), "B closed")
        gone = NodeDisconnected("B", CloseCode.WRONG_NODE, "two leaders of one term")
        assert gone in a.events


# ---- signs of life ----


@in_loop
async def test_round_trips_are_measured() -> None:
    async with Net("B") as b:
        with Proxy(b.port) as proxy:
            async with Net("A", {"B": proxy.url}) as a:
                await a.joined("B")
                proxy.to_listener.delay_s = 0.02
                before = a.manager.metrics().peers["B"]
                await until(
                    lambda: a.manager.metrics().peers["B"].round_trips >= before.round_trips + 5,
                    "five were measured",
                )
                after = a.manager.metrics().peers["B"]
                count = after.round_trips - before.round_trips
                mean_ns = (after.round_trip_sum_ns - before.round_trip_sum_ns) / count
                assert 10e6 < mean_ns < 1e9
                assert sum(after.round_trip_buckets) == after.round_trips
                assert sum(after.round_trip_buckets[14:]) >= 4  # 8 ms and more
                for rate in (
                    "sent_bytes_per_s",
                    "received_bytes_per_s",
                ):  # one interval may have none
                    await until(partial(rate_of, a, rate), rate)


@pytest.mark.parametrize("way", ["to_listener", "to_dialer"])
@in_loop
async def test_a_partition_of_one_way_is_noticed_and_healed(way: str) -> None:
    async with Net("B") as b:
        with Proxy(b.port) as proxy:
            async with Net("A", {"B": proxy.url}) as a:
                await a.joined("B")
                getattr(proxy, way).drop = True
                deaf = b if way == "to_listener" else a
                await until(lambda: deaf.count(NodeDisconnected), "it was noticed")
                gone = next(e for e in deaf.events if isinstance(e, NodeDisconnected))
                assert gone.code == CloseCode.NO_ANSWER
                getattr(proxy, way).drop = False
                await a.joined("B")
                await b.joined("A")
                a.manager.send("B", Ack(9, 9, 9))
                await until(lambda: ("A", Ack(9, 9, 9)) in b.got, "B hears A again")


@in_loop
async def test_a_silent_peer_is_closed_and_one_that_answers_is_not() -> None:
    async with Net("A") as a:
        raw = await Raw.to(a)
        await raw.greet()
        begin_s = time.monotonic()
        code, reason = await raw.closed_with()
        assert code == CloseCode.NO_ANSWER
        assert "silent for" in reason
        assert time.monotonic() - begin_s >= FAST.silence_ms / 1000 - 0.05
        assert a.manager.metrics().peers["raw"].refused == {"NO_ANSWER": 1}
        talker = await Raw.to(a, "talker")
        session = await talker.greet()
        answered = 0
        until_s = time.monotonic() + 2 * FAST.silence_ms / 1000
        while time.monotonic() < until_s:
            message = session.open(await talker.ws.recv())  # type: ignore[arg-type]
            assert isinstance(message.body, Heartbeat)
            assert message.body.echo_ns == 0
            await talker.ws.send(session.seal(Heartbeat(1, message.body.sent_ns), 1, 0))
            await talker.ws.send(session.seal(Heartbeat(1, 12345), 1, 0))  # nobody asked for it
            answered += 1
        assert a.manager.connected == ("talker",)
        assert a.manager.metrics().peers["talker"].round_trips in range(5, answered + 1)
        await talker.ws.close()


# ---- reconnecting ----


def backoffs(seed: int, slowly: bool) -> list[float]:
    manager = NetworkManager(
        "A",
        cluster_id=lambda: CLUSTER,
        term=lambda: 1,
        listen=None,
        peers={},
        security=Security(),
        options=NetworkOptions(reconnect_min_ms=50, reconnect_max_ms=5000),
        on_message=lambda node, message: None,
        rng=random.Random(seed),
    )
    return [manager._backoff_s(failures, slowly) for failures in range(40)]


def test_the_pauses_double_up_to_a_limit_and_are_never_the_same() -> None:
    first, second = backoffs(1, False), backoffs(2, False)
    for failures, pause_s in enumerate(first):
        ceiling_s = min(0.05 * 2**failures, 5.0)
        assert ceiling_s / 2 <= pause_s <= ceiling_s
    assert backoffs(1, False) == first
    assert all(a != b for a, b in zip(first, second, strict=True))
    assert all(2.5 <= pause_s <= 5.0 for pause_s in backoffs(1, True))


@in_loop
async def test_a_node_that_hangs_up_is_not_dialed_in_a_busy_loop() -> None:
    async with Net("B") as b:
        with Proxy(b.port) as proxy:
            proxy.refuse = True
            async with Net("A", {"B": proxy.url}) as a:
                await asyncio.sleep(0.5)
                assert 3 <= a.count(NetworkError) == a.manager.metrics().peers["B"].failures
                assert proxy.connections <= 12
                proxy.refuse = False
                await a.joined("B")


@in_loop
async def test_a_node_that_has_no_room_is_dialed_ever_more_slowly() -> None:
    """It says so before it welcomes: who dials never takes it for connected."""
    options = replace(FAST, peers_max=1)
    async with Net("full", options=options) as full, Net("first", {"full": full.url}) as first:
        await first.joined("full")
        async with Net("B", {"full": full.url}) as b:
            pauses: list[int] = []
            backoff_s = b.manager._backoff_s

            def pause_s(failures: int, slowly: bool) -> float:
                pauses.append(failures)
                return backoff_s(failures, slowly)

            b.manager._backoff_s = pause_s  # type: ignore[method-assign]
            await until(lambda: len(pauses) >= 4, "it is tried again")
            assert pauses[:4] == [1, 2, 3, 4]
            assert set(b.events) == {NetworkError("full", "1 nodes are connected")}
            assert full.manager.metrics().strangers_refused["TRY_LATER"] >= 4
            await first.manager.disconnect("full")
            await b.joined("full")


@in_loop
async def test_a_node_without_room_for_the_one_it_dials_says_so() -> None:
    async with Net("A", options=replace(FAST, peers_max=1)) as a, Net("B") as b, Net("C") as c:
        await a.manager.connect("B", b.url)
        with pytest.raises(RefusedError, match="1 nodes are connected") as caught:
            await a.manager.connect("C", c.url)
        assert caught.value.code == CloseCode.TRY_LATER
        assert a.manager.connected == ("B",)
        assert [event.node_id for event in a.events] == ["B"]


# ---- options, events, logs ----


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"queue_bytes": 0}, "queue_bytes must be a positive int"),
        ({"heartbeat_ms": -1}, "heartbeat_ms must be a positive int"),
        ({"handshakes_max": True}, "handshakes_max must be a positive int"),
        ({"connect_timeout_ms": 1.5}, "connect_timeout_ms must be a positive int"),
        ({"heartbeat_ms": 500, "silence_ms": 500}, "silence_ms must be more than heartbeat_ms"),
        ({"reconnect_min_ms": 9, "reconnect_max_ms": 8}, "at least reconnect_min_ms"),
    ],
)
def test_options_that_make_no_sense(changes: dict[str, int], reason: str) -> None:
    with pytest.raises(OptionError, match=reason):
        NetworkOptions(**changes)


@pytest.mark.parametrize(
    ("node_id", "listen", "peers"),
    [
        ("", None, {}),
        ("n" * 65, None, {}),
        ("A", "127.0.0.1", {}),
        ("A", "127.0.0.1:99999", {}),
        ("A", "ws://127.0.0.1:1", {}),
        ("A", None, {"A": "ws://127.0.0.1:1"}),
        ("A", None, {"B": "http://127.0.0.1:1"}),
        ("A", None, {"B": "wss://127.0.0.1:1"}),
        ("A", None, {"B": "ws://127.0.0.1"}),
        ("A", None, {"B": "ws://127.0.0.1:1/path"}),
    ],
)
def test_addresses_that_make_no_sense(
    node_id: str, listen: str | None, peers: dict[str, str]
) -> None:
    with pytest.raises(OptionError):
        Net(node_id, peers, listen=listen)


@in_loop
async def test_a_callback_that_was_taken_back_is_not_called() -> None:
    events: list[object] = []
    async with Net("B") as b, Net("A") as a:
        end = a.manager.subscribe(events.append)
        end()
        await a.manager.connect("B", b.url)
        assert events == []
        assert a.events == [NodeConnected("B", dialed=True)]


def test_it_is_quiet_unless_the_application_listens(caplog: pytest.LogCaptureFixture) -> None:
    handlers = logging.getLogger("walstore.replication").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)

    @in_loop
    async def scene() -> None:
        async with Net("B", security=SECURE) as b, Net("A", {"B": b.url}, security=SECURE) as a:
            await a.joined("B")

    with caplog.at_level(logging.DEBUG):
        scene()
    records = [record for record in caplog.records if record.name == "walstore.replication"]
    assert {getattr(record, "node", None) for record in records} == {"A", "B"}
    assert SECRET.decode() not in caplog.text
    assert SECRET.hex() not in caplog.text
    assert "websockets" not in {record.name.partition(".")[0] for record in caplog.records}


@in_loop
async def test_a_mistake_that_ends_dialing_or_accepting_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def mistaken(*_: object) -> bool:
        raise ZeroDivisionError("a mistake")

    for name in ("NetworkManager._try", "_readable"):
        monkeypatch.setattr(f"walstore.replication.network.{name}", mistaken)
        told: list[Exception] = []
        net = Net("A", {"B": "ws://127.0.0.1:1"})
        net.manager.fail = told.append
        async with net:
            await until(lambda told=told: told, "it is told")  # type: ignore[misc]
        monkeypatch.undo()
        assert [str(error) for error in told] == ["a mistake"]


@pytest.mark.parametrize("host", ["node..example", "x" * 64, ".example"])
def test_a_host_that_can_have_no_name_is_one_that_is_not_reached(host: str) -> None:
    """The next address is tried: others tell each other where they are."""

    @in_loop
    async def main() -> None:
        async with Net("A", security=SECURE) as a, Net("B", security=SECURE) as b:
            url = f"ws://{host}:7001"
            with pytest.raises(UnreachableError):
                await a.manager.connect("B", url)
            assert a.manager.is_usable(url)
            a.manager.reach("B", [url, b.url])
            await a.joined("B")
            assert a.count(NetworkError) == 1

    main()
