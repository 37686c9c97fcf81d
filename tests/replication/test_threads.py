"""The threads of a node's loop: whatever becomes of the program around it, they work on."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import run_child
from tests.replication.networks import in_loop
from tests.replication.nodes import OPTIONS, WAIT_S, Cluster, own_threads, until
from walstore.replication.background import Background
from walstore.replication.threads import Loop, Threads

STACK_BYTES = 1 << 47
"""No thread can be made with a stack of so many."""

# The children's main threads return at once; what they begin works on.
NODES = """
    import sys, threading
    from dataclasses import replace
    from pathlib import Path

    from tests.replication.nodes import OPTIONS, Cluster, own_threads, until

    ab = Cluster(Path(sys.argv[1]), "ab", options=replace(OPTIONS, audit_ms=20), acks="all")
    leader, follower = ab.lead(), ab["b"]
    leader.append(b"before")

    def audits(node, count):
        first = node._streaming._auditor._due_ms
        until(lambda: node._streaming._auditor._due_ms > first + 20 * count, "it audits")

    def work():
        threading.main_thread().join()
        leader.append(b"after")
        audits(leader, 3)
        follower.promote()
        follower.append(b"by another leader")
        audits(follower, 3)
        leader.promote()
        print([node.error for node in (leader, follower)])
        print([entry.payload for entry in follower.replay() if entry.kind == 1])
        ab.close()
        print(own_threads())

    threading.Thread(target=work).start()
"""

CLIENTS = """
    import asyncio, threading
    from walstore.cluster import AsyncClusterClient, ClusterClient, ClusterUnavailableError

    NODES = {"a": "ws://localhost:9"}
    client = ClusterClient(NODES)

    async def call():
        await AsyncClusterClient(NODES).call(b"command", timeout_s=0.2)

    def work():
        threading.main_thread().join()
        for made in (lambda: asyncio.run(call()), lambda: client.call(b"command", timeout_s=0.2)):
            try:
                made()
            except ClusterUnavailableError as error:
                print(*error.reasons.values())
        client.close()

    threading.Thread(target=work).start()
"""


def test_nodes_go_on_when_the_main_thread_has_returned(tmp_path: Path) -> None:
    """Audits and new terms need threads."""
    errors, entries, threads = run_child(NODES, tmp_path).splitlines()
    assert errors == "[None, None]"
    assert entries == "[b'before', b'after', b'by another leader']"
    assert threads == "[]"


def test_clients_look_up_names_when_the_main_thread_has_returned() -> None:
    """A loop of the application's has no threads any more, which is said; a client's own has."""
    theirs, own = run_child(CLIENTS).splitlines()
    assert "shutdown" in theirs
    assert "shutdown" not in own
    assert "9" in own


# ---- memory and threads that there are not ----


@pytest.fixture
def no_threads() -> Iterator[None]:
    """No thread can be made."""
    before = threading.stack_size(STACK_BYTES)
    yield
    threading.stack_size(before)


def test_an_audit_waits_for_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ab = Cluster(tmp_path, "ab", options=replace(OPTIONS, audit_ms=20), acks="async")
    leader: Any = ab.start("a", role="leader")
    leader.append(b"an entry")
    asked = threading.Semaphore(0)

    def record_reader() -> None:
        asked.release()
        raise MemoryError

    with caplog.at_level(logging.WARNING):
        leader._record_reader, reader = record_reader, leader._record_reader
        for _ in range(3):
            assert asked.acquire(timeout=WAIT_S)
        leader._record_reader = reader
    until(lambda: leader._streaming._auditor._span is not None, "it audits")
    assert leader.error is None
    assert {record.message for record in caplog.records if "audit" in record.message} == {
        "a: the audit leaves entries out: no memory left"
    }
    ab.close()


def test_what_finds_no_thread_waits_for_one(no_threads: None) -> None:
    @in_loop
    async def main() -> None:
        threads, go = Threads("walstore-test"), threading.Event()
        with pytest.raises(RuntimeError):
            threads.begin()
        with pytest.raises(RuntimeError):
            threads.submit(int)
        threading.stack_size(0)
        threads.begin()
        threading.stack_size(STACK_BYTES)
        first, second = threads.submit(go.wait, WAIT_S), threads.submit(int, "7")
        assert own_threads() == ["walstore-test"]
        assert not second.done()
        go.set()
        assert (await asyncio.wrap_future(first), await asyncio.wrap_future(second)) == (True, 7)
        await threads.end()

    main()
    assert not own_threads()


class Begins:
    """A service that does nothing."""

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass


@pytest.mark.parametrize("there", [0, 1], ids=["none", "none of its own"])
@pytest.mark.parametrize("amid", [False, True], ids=["", "amid a loop"])
def test_a_service_without_a_thread_says_so(
    there: int, amid: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one for its work nor one to run in, or only the first."""
    start, left = threading.Thread.start, there

    def limited(thread: threading.Thread) -> None:
        nonlocal left
        if not left:
            raise RuntimeError("can't start new thread")
        left -= 1
        start(thread)

    async def without() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", limited)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                background.start()

    background = Background(Begins(), "walstore-test")
    if amid:
        asyncio.run(without())
    else:
        with pytest.raises(StopIteration):
            without().send(None)
    background.stop()
    assert left == 0
    assert not own_threads()
    assert background._loop is not None
    assert background._loop.is_closed()


# ---- work ----


@in_loop
async def test_work_is_done_at_the_same_time_by_as_few_threads_as_can_do_so() -> None:
    threads = Threads("walstore-test")
    for number in range(10):
        assert await asyncio.wrap_future(threads.submit(int, str(number))) == number
    assert own_threads() == ["walstore-test"]
    met = threading.Barrier(5)
    works = [asyncio.wrap_future(threads.submit(met.wait, WAIT_S)) for _ in range(5)]
    assert sorted(await asyncio.gather(*works)) == [0, 1, 2, 3, 4]
    assert own_threads() == ["walstore-test"] * 5
    await threads.end()
    assert not own_threads()


@in_loop
async def test_an_error_is_told_and_cancelled_work_is_not_done() -> None:
    threads, go, did = Threads("walstore-test"), threading.Event(), list[str]()
    with pytest.raises(ValueError, match="no number"):
        await asyncio.wrap_future(threads.submit(int, "no number"))
    works: list[Future[Any]] = [threads.submit(go.wait, WAIT_S) for _ in range(32)]
    late = threads.submit(did.append, "it was not wanted")
    assert late.cancel()
    works.append(threads.submit(did.append, "it was"))
    assert len(own_threads()) == 32
    go.set()
    await threads.end()
    assert all(work.done() for work in works)
    assert did == ["it was"]


@in_loop
async def test_work_that_waits_for_the_loop_comes_to_its_end() -> None:
    threads, loop = Threads("walstore-test"), asyncio.get_running_loop()

    async def in_the_loop() -> str:
        return "done"

    def work() -> str:
        return asyncio.run_coroutine_threadsafe(in_the_loop(), loop).result(WAIT_S)

    future = threads.submit(work)
    await threads.end()
    assert future.result(0) == "done"


def test_a_loop_ends_when_its_threads_have() -> None:
    """Also those that nobody waits for any more."""
    began, go, did = threading.Event(), threading.Event(), list[str]()

    def work() -> None:
        began.set()
        assert go.wait(WAIT_S)
        did.append("work")

    async def main() -> None:
        asyncio.get_running_loop().call_later(0.05, go.set)
        task = asyncio.create_task(asyncio.to_thread(work))
        await asyncio.sleep(0)
        assert began.wait(WAIT_S)
        task.cancel()

    threads = Threads("walstore-test")
    with asyncio.Runner(loop_factory=lambda: Loop(threads)) as runner:
        runner.run(main())
    assert did == ["work"]
    assert not own_threads()
