"""What threads have done in the loop of a node, and are told of it."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait

import pytest

from walstore import ClosedLogError
from walstore.replication import background
from walstore.replication.background import LoopCalls


@pytest.fixture
def calls() -> Iterator[LoopCalls]:
    """Of a loop that runs in a thread of its own."""
    made = LoopCalls("the log", lambda: None)
    made.loop = asyncio.new_event_loop()
    thread = threading.Thread(target=made.loop.run_forever, daemon=True)
    thread.start()
    yield made
    made.loop.call_soon_threadsafe(made.loop.stop)
    thread.join()
    made.loop.close()


async def last(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


def test_a_call_that_ends_right_after_a_look_is_told_as_it_ended(
    calls: LoopCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = Future.result

    def switched(future: Future[float], timeout: float | None = None) -> float:
        """A look that ends, and then the loop's thread has its turn."""
        try:
            return result(future, timeout)
        except TimeoutError:
            wait([future])
            raise

    monkeypatch.setattr(Future, "result", switched)
    monkeypatch.setattr(background, "_LOOK_S", 0.01)
    assert calls.wait_for(last(0.1)) == 0.1


def test_a_timeout_of_the_call_s_own_is_raised(calls: LoopCalls) -> None:
    async def late() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        calls.wait_for(late())


def test_a_call_into_a_loop_that_ends_is_told_that_it_is_closed(
    calls: LoopCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(ClosedLogError):
        calls.wait_for(cancelled())
    loop, calls.loop = calls.loop, asyncio.new_event_loop()  # one that nobody runs
    threading.Timer(0.01, calls.loop.close).start()
    monkeypatch.setattr(background, "_LOOK_S", 0.001)
    with pytest.raises(ClosedLogError):
        calls.wait_for(last(0.0))
    calls.loop = loop


def test_what_is_asked_of_the_parent_process_is_not_left_unfinished() -> None:
    def refuse() -> None:
        raise ClosedLogError("it was opened by the parent process")

    work = last(0.0)
    with pytest.raises(ClosedLogError, match="parent"):
        LoopCalls("the log", refuse).wait_for(work)
    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED
