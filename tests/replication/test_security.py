"""Who is let in: certificates, secrets, and nobody from elsewhere without either."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from pathlib import Path

import pytest
from websockets.exceptions import WebSocketException

from tests.replication.certificates import Authority
from tests.replication.networks import FAST, SECRET, Net, Raw, in_loop, until
from walstore.errors import OptionError
from walstore.replication import CloseCode, RefusedError, UnreachableError
from walstore.replication.message import MESSAGE_BYTES, Ack, WalEntry
from walstore.replication.network import NodeDisconnected
from walstore.replication.security import TLS, Contexts, Security, is_loopback


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ca")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "other")


def tls(files: TLS, secret: bytes | None = None) -> Security:
    return Security(tls=files, secret=secret)


# ---- addresses ----


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    Security().check_host(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.org"])
def test_off_loopback_there_is_protection_or_an_explicit_word(host: str) -> None:
    listen = f"[{host}]:0" if ":" in host else f"{host}:0"
    with pytest.raises(OptionError, match="tls, a secret, or insecure=True"):
        Net("A", listen=listen)
    with pytest.raises(OptionError, match="tls, a secret, or insecure=True"):
        Net("A", {"B": f"ws://{listen[:-2]}:1"}, listen=None)
    for security in (Security(secret=SECRET), Security(insecure=True)):
        Net("A", {"B": f"ws://{listen[:-2]}:1"}, listen=listen, security=security)


def test_a_secret_is_long_enough_and_never_shown() -> None:
    with pytest.raises(OptionError, match="at least 16 bytes"):
        Security(secret=b"short")
    with pytest.raises(OptionError, match="must be bytes"):
        Security(secret="a secret that is text")  # type: ignore[arg-type]
    net = Net("A", security=Security(secret=SECRET))
    for shown in (repr(Security(secret=SECRET)), repr(net.manager), str(Security(secret=SECRET))):
        assert SECRET.decode() not in shown


# ---- secret ----


@in_loop
async def test_a_wrong_secret_is_refused_and_raises_nothing() -> None:
    async with Net("B", security=Security(secret=SECRET)) as b:
        for secret in (None, b"a wrong secret of many bytes"):
            async with Net("A", security=Security(secret=secret)) as a:
                a.term = 99
                with pytest.raises(RefusedError) as caught:
                    await a.manager.connect("B", b.url)
                assert caught.value.code == CloseCode.NOT_AUTHENTICATED
                assert caught.value.hint
        assert b.manager.metrics().strangers_refused == {"NOT_AUTHENTICATED": 2}
        assert b.events == []
        assert b.got == []
        assert b.manager.metrics().peers == {}


@in_loop
async def test_captured_frames_are_refused_on_another_connection() -> None:
    async with Net("B", security=Security(secret=SECRET)) as b:
        raw = await Raw.to(b)
        session = await raw.greet(SECRET)
        captured = session.seal(Ack(1, 1, 1), 1, 0)
        await raw.ws.send(captured)
        await until(lambda: b.got, "the first time it counts")
        await raw.ws.send(captured)
        assert await raw.closed_with() == (1002, "message 3 where 4 was due")
        again = await Raw.to(b)
        await again.greet(SECRET, nonce=bytes(range(32)))
        await again.ws.send(captured)
        assert await again.closed_with() == (1002, "MAC does not match")
        assert len(b.got) == 1


# ---- TLS ----


@in_loop
async def test_with_certificates_nodes_talk(authority: Authority) -> None:
    b_files = authority.node("B", common_name="B")
    async with Net("B", security=tls(b_files, SECRET)) as b:
        assert b.url.startswith("wss://")
        async with Net("A", {"B": b.url}, security=tls(authority.node("A"), SECRET)) as a:
            await a.joined("B")
            for _ in range(8):
                assert a.manager.send("B", WalEntry(1, 1, 1, 1, bytes(MESSAGE_BYTES)))
            assert a.manager.send("B", Ack(1, 1, 1))
            await until(lambda: len(b.got) == 9, "all arrived")


@pytest.mark.parametrize("which", ["wrong authority", "expired", "wrong name"])
@pytest.mark.parametrize("whose", ["dialer", "listener"])
@in_loop
async def test_a_bad_certificate_is_refused(
    authority: Authority, stranger: Authority, which: str, whose: str
) -> None:
    def files(node_id: str, bad: bool) -> TLS:
        if not bad:
            return authority.node(node_id)
        if which == "wrong authority":
            alien = stranger.node(node_id)
            return TLS(authority.cert, alien.cert, alien.key)
        if which == "expired":
            return authority.node(node_id, days=-1)
        return authority.node("C")

    async with (
        Net("B", security=tls(files("B", whose == "listener"))) as b,
        Net("A", security=tls(files("A", whose == "dialer"))) as a,
    ):
        with pytest.raises((UnreachableError, RefusedError)) as caught:
            await a.manager.connect("B", b.url)
        if which == "wrong name":
            assert isinstance(caught.value, RefusedError)
            assert caught.value.code == CloseCode.WRONG_NODE
        assert a.manager.connected == b.manager.connected == ()
        assert a.events == b.events == []


@in_loop
async def test_without_a_certificate_nobody_gets_in(authority: Authority) -> None:
    context = ssl.create_default_context(cafile=str(authority.cert))
    context.check_hostname = False

    async def enter(net: Net) -> None:
        raw = await Raw.to(net, ssl=context)
        await raw.greet()

    async with Net("B", security=tls(authority.node("B"))) as b:
        with pytest.raises((OSError, WebSocketException)):
            await enter(b)
        assert b.events == []


@in_loop
async def test_certificates_are_rotated_while_the_node_runs(
    authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    """The whole cluster goes over to another authority; no node is started again."""
    files = TLS(tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem")

    def put(source: TLS) -> None:
        for there, here in (
            (source.ca, files.ca),
            (source.cert, files.cert),
            (source.key, files.key),
        ):
            shutil.copy(there, here)

    put(authority.node("B"))
    async with Net("B", security=tls(files)) as b:
        async with Net("A", security=tls(authority.node("A"))) as a:
            await a.manager.connect("B", b.url)
            put(stranger.node("B"))
            async with Net("C", security=tls(stranger.node("C"))) as c:
                await c.manager.connect("B", b.url)
                assert set(b.manager.connected) == {"A", "C"}
        async with Net("D", security=tls(authority.node("D"))) as d:
            with pytest.raises(UnreachableError):
                await d.manager.connect("B", b.url)
        Path(files.key).write_text("half a file")
        async with Net("C", security=tls(stranger.node("C"))) as c:
            await c.manager.connect("B", b.url)  # the old ones stay in use
        assert all(event.code == 1001 for event in b.events if isinstance(event, NodeDisconnected))


def test_files_that_make_no_sense(authority: Authority, tmp_path: Path) -> None:
    good = authority.node("A")
    noise = tmp_path / "noise"
    noise.write_text("noise")
    for bad in (
        TLS(tmp_path / "none", good.cert, good.key),
        TLS(noise, good.cert, good.key),
        TLS(good.ca, noise, good.key),
        TLS(good.ca, good.cert, authority.node("B").key),
    ):
        with pytest.raises(OptionError, match="tls: "):
            Contexts(bad)


@in_loop
async def test_a_stranger_who_never_speaks_tls_is_let_go(authority: Authority) -> None:
    async with Net("B", security=tls(authority.node("B"))) as b:
        reader, writer = await asyncio.open_connection("127.0.0.1", b.port)
        await until(lambda: b.manager.metrics().handshakes == 1, "it holds a place")
        assert await reader.read() == b""
        writer.close()
        await until(lambda: b.manager.metrics().handshakes == 0, "the place is free")
        assert b.manager.metrics().strangers_refused == {"TLS": 1}
        assert FAST.handshake_timeout_ms == 1000
