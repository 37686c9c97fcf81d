"""Links hold back, pass on, and end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from walstore.testing import Link, Partitions

WAIT_S = 30


@contextmanager
def connected(link: Link, server: socket.socket) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection through a link."""
    with socket.create_connection(("127.0.0.1", link.port), WAIT_S) as dialer:
        listener, _ = server.accept()
        with listener:
            listener.settimeout(WAIT_S)
            yield dialer, listener


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WAIT_S)
        yield server


def is_silent(end: socket.socket) -> bool:
    """Whether nothing has come; that nothing will come is for what follows to show."""
    end.settimeout(0.05)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(WAIT_S)
    return False


def has_ended(end: socket.socket) -> bool:
    """Whether the connection is over, one way or the other."""
    try:
        return end.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_cut_link_holds_back_what_is_sent(partitions: Partitions, server: socket.socket) -> None:
    link = partitions.link("a", "b", server.getsockname()[1])
    with connected(link, server) as (dialer, listener):
        dialer.sendall(b"before")
        assert listener.recv(6) == b"before"
        link.cut()
        dialer.sendall(b"1")
        listener.sendall(b"2")
        assert is_silent(listener)
        assert is_silent(dialer)
        link.heal()
        assert (listener.recv(1), dialer.recv(1)) == (b"1", b"2")


def test_one_direction_is_cut(partitions: Partitions, server: socket.socket) -> None:
    link = partitions.link("a", "b", server.getsockname()[1])
    with connected(link, server) as (dialer, listener):
        link.cut(to_listener=False)
        listener.sendall(b"held back")
        dialer.sendall(b"passed on")
        assert listener.recv(9) == b"passed on"
        assert is_silent(dialer)
        dialer.shutdown(socket.SHUT_WR)
        assert listener.recv(1) == b""  # an end passes like bytes
        link.heal()
        assert dialer.recv(9) == b"held back"


def test_a_cut_link_makes_no_connection(partitions: Partitions, server: socket.socket) -> None:
    link = partitions.link("a", "b", server.getsockname()[1])
    link.cut()
    with socket.create_connection(("127.0.0.1", link.port), WAIT_S) as dialer:
        dialer.sendall(b"x")
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()
        server.settimeout(WAIT_S)
        link.heal()
        listener, _ = server.accept()
        with listener:
            assert listener.recv(1) == b"x"
    assert link.connections == 1


def test_reset_ends_connections_and_new_ones_are_made(
    partitions: Partitions, server: socket.socket
) -> None:
    link = partitions.link("a", "b", server.getsockname()[1])
    with connected(link, server) as (dialer, listener):
        link.reset()
        assert has_ended(dialer)
        assert has_ended(listener)
    with connected(link, server) as (dialer, listener):
        dialer.sendall(b"x")
        assert listener.recv(1) == b"x"


def test_only_links_between_the_sides_are_cut(
    partitions: Partitions, server: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    port = server.getsockname()[1]
    links = {(a, b): partitions.link(a, b, port) for a in "abc" for b in "abc" if a != b}
    capsys.readouterr()
    partitions.isolate("a", "b")
    with connected(links["a", "b"], server) as (dialer, listener):
        dialer.sendall(b"x")
        assert listener.recv(1) == b"x"
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(" s: ")[2] for line in told] == [
        f"{a}-{b}: nothing reaches {b} or {a}" for a, b in links if "c" in (a, b)
    ]


def test_a_listener_that_is_not_there_ends_the_connection(partitions: Partitions) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    link = partitions.link("a", "b", port)
    with socket.create_connection(("127.0.0.1", link.port), WAIT_S) as dialer:
        assert has_ended(dialer)


def test_nothing_is_left_behind(server: socket.socket) -> None:
    before = threading.active_count()
    with Partitions() as partitions:
        link = partitions.link("a", "b", server.getsockname()[1])
        with connected(link, server) as (dialer, _):
            link.cut()
            dialer.sendall(b"x")
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", link.port), WAIT_S)
