"""A node starts whole, or says why it does not: none is handed out that hears nothing."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from tests.helpers import interrupt_and_close_again, open_descriptors, run_child
from tests.replication.nodes import WAIT_S, free_ports, own_threads, until
from walstore import OptionError
from walstore.replication import ReplicationOptions, ReplicationWALManager
from walstore.replication.background import Background

FEW_DESCRIPTORS = """
    import errno, gc, os, resource, sys

    from walstore.replication import ReplicationWALManager

    def opened():
        return ReplicationWALManager(sys.argv[1], node_id="a", listen="127.0.0.1:0", role="leader")

    opened().close()
    before = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def opened_with(limit):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            return opened()
        except OSError as error:
            assert error.errno == errno.EMFILE, error
            return None
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    limit = 3
    while (node := opened_with(limit)) is None:
        limit += 1
    assert limit > 10, limit
    assert node.error is None and node.url
    node.append(b"it leads")
    node.close()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
    print("well")
"""


CANNOT_CLOSE = """
    import resource, sys, threading, time

    from walstore.replication import ReplicationWALManager

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def clock():
        if threading.current_thread() is threading.main_thread():
            return time.time_ns()
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # from here on nothing can be written
        raise RuntimeError("what kept it from opening")

    try:
        ReplicationWALManager(sys.argv[1], node_id="a", role="leader", clock=clock)
    except RuntimeError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        print(error, error.__notes__, sep="; ")
"""


def test_what_keeps_a_node_from_opening_is_told_where_it_cannot_close_either(
    tmp_path: Path,
) -> None:
    told = run_child(CANNOT_CLOSE, tmp_path / "log", timeout_s=30)
    assert told.startswith("what kept it from opening; ['Then closing it failed, too: ")


def test_a_node_says_that_it_has_too_few_descriptors(tmp_path: Path) -> None:
    """With none at all, then with one more each time, until there are enough."""
    assert run_child(FEW_DESCRIPTORS, tmp_path / "log", timeout_s=30).strip() == "well"


class NeverBegins:
    """A service that cannot begin, nor end."""

    async def start(self) -> None:
        raise OSError(errno.EMFILE, "what kept it from beginning")

    async def stop(self) -> None:
        raise OSError(errno.EIO, "what came of that")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_keeps_a_service_from_beginning_is_told_whatever_its_end_brings() -> None:
    with pytest.raises(OSError, match="what kept it from beginning"):
        Background(NeverBegins(), "walstore-test").start()


REQUEST = contextvars.ContextVar("REQUEST", default="none")


class Looks:
    """A service that sees what is set around it."""

    async def start(self) -> None:
        self.seen = REQUEST.get()

    async def stop(self) -> None:
        assert REQUEST.get() == self.seen


def test_a_service_is_not_part_of_what_its_caller_is_at() -> None:
    service = Looks()
    background = Background(service, "walstore-test")

    def begin() -> None:
        REQUEST.set("7")
        background.start()

    contextvars.copy_context().run(begin)
    background.stop()
    assert service.seen == "none"


# ---- Ctrl-C ----


def interrupt() -> None:
    """As Ctrl-C does: the main thread, which runs the tests."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


class BeginsLate:
    """A service that has not begun when who waits for it is interrupted."""

    def __init__(self, begins: Callable[[], None]) -> None:
        self.did: list[str] = []
        self._begins = begins

    async def start(self) -> None:
        self.did.append("begins")
        self._begins()
        await asyncio.sleep(WAIT_S)
        self.did.append("has begun")

    async def stop(self) -> None:
        self.did.append("ends")


def test_a_service_that_has_not_begun_is_stopped() -> None:
    service = BeginsLate(interrupt)
    background = Background(service, "walstore-test")
    with pytest.raises(KeyboardInterrupt):
        background.start()
    background.stop()
    assert service.did == ["begins", "ends"]
    assert not own_threads()
    background.stop()


class EndsLate:
    """A service that ends when it may."""

    def __init__(self) -> None:
        self.may_end = threading.Event()

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        assert await asyncio.to_thread(self.may_end.wait, WAIT_S)


def test_a_stop_that_was_interrupted_is_ended_by_the_next() -> None:
    """A node's log was another's already, while the node still worked on it."""
    service = EndsLate()
    background = Background(service, "walstore-test")
    background.start()
    interrupt_and_close_again(background.stop, service.may_end)
    assert not own_threads()


class StopsItself:
    """A service that waits for its own end, in its threads."""

    def __init__(self) -> None:
        self.background = Background(self, "walstore-test")

    async def start(self) -> None:
        with pytest.raises(OptionError):
            self.background.stop()
        with pytest.raises(OptionError):
            await asyncio.to_thread(self.background.stop)

    async def stop(self) -> None:
        pass


def test_no_thread_of_a_service_waits_for_its_end() -> None:
    service = StopsItself()
    service.background.start()
    service.background.stop()


def test_a_service_is_stopped_before_its_thread_has_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And one that nobody has started."""
    Background(BeginsLate(interrupt), "walstore-test").stop()
    service = BeginsLate(lambda: None)
    background = Background(service, "walstore-test")

    def interrupted() -> None:
        raise KeyboardInterrupt

    descriptors = open_descriptors()
    monkeypatch.setattr(background._thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        background.start()
    monkeypatch.undo()
    stopping = threading.Thread(target=background.stop, daemon=True)
    stopping.start()
    stopping.join(WAIT_S)
    assert not stopping.is_alive()
    background.stop()
    assert not own_threads()
    assert open_descriptors() == descriptors
    assert not service.did


def test_nothing_is_left_of_a_node_that_was_interrupted_while_it_opened(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    armed = threading.Event()

    def clock() -> int:
        """Asked for the first entry of its leadership, in a thread of the node's own."""
        if armed.is_set() and threading.current_thread() is not threading.main_thread():
            armed.clear()
            interrupt()
        return time.time_ns()

    def opened() -> ReplicationWALManager:
        return ReplicationWALManager(
            tmp_path / "log",
            node_id="a",
            listen=f"127.0.0.1:{port}",
            role="leader",
            clock=clock,
        )

    armed.set()
    with pytest.raises(KeyboardInterrupt):
        opened()
    assert not armed.is_set()
    assert not own_threads()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
    with opened() as node:
        until(lambda: node.role == "leader", "it leads")
        node.append(b"again")


@pytest.mark.parametrize("election", ["manual", "raft"])
def test_nothing_is_left_of_a_node_that_was_interrupted_while_it_joined(
    tmp_path: Path, election: Literal["manual", "raft"]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as peer:

        def accept() -> None:
            """It is asked which log there is, and does not answer."""
            with peer.accept()[0]:
                interrupt()
                ended.wait(WAIT_S)

        ended = threading.Event()
        thread = threading.Thread(target=accept)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            ReplicationWALManager(
                tmp_path / "log",
                node_id="a",
                peers={"b": f"ws://127.0.0.1:{peer.getsockname()[1]}"},
                election=election,
                options=ReplicationOptions(join_timeout_ms=WAIT_S * 1000),
            )
        assert not own_threads()
        ended.set()
        thread.join()
