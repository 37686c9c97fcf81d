"""Threads that are waited for until they have ended."""

from __future__ import annotations

import os
import threading

import pytest

from tests.helpers import interrupted_in_join, run_child
from walstore.thread import LastingThread

WAIT_S = 20.0


def assert_set(event: threading.Event) -> None:
    assert event.wait(WAIT_S)


def test_a_join_that_was_interrupted_is_ended_by_the_next() -> None:
    goes_on, ended = threading.Event(), threading.Event()

    def work() -> None:
        assert_set(goes_on)
        ended.set()

    thread = LastingThread(work, "test")
    thread.start()
    with interrupted_in_join():
        thread.join()
    thread.join(0.01)
    assert not ended.is_set()
    goes_on.set()
    thread.join()
    assert ended.is_set()
    assert thread not in threading.enumerate()


def test_nobody_waits_for_a_thread_that_is_not_there() -> None:
    """Not started; or of the process that made this one."""
    thread = LastingThread(lambda: None, "test")
    thread.join()
    goes_on = threading.Event()
    thread = LastingThread(lambda: assert_set(goes_on), "test")
    thread.start()
    child = os.fork()
    if child == 0:
        thread.join()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    goes_on.set()
    thread.join()


def test_a_thread_does_not_wait_for_itself() -> None:
    outcome: list[str] = []

    def work() -> None:
        try:
            threading.current_thread().join()
        except RuntimeError as error:
            outcome.append(str(error))

    thread = LastingThread(work, "test")
    thread.start()
    thread.join()
    assert outcome == ["cannot join current thread"]


# ---- a start that is interrupted ----


def interrupted_start(thread: LastingThread, start: object) -> None:
    """Ctrl-C comes while Thread's own `start` is what is given here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(KeyboardInterrupt):
            thread.start()


def interrupted(_thread: threading.Thread) -> None:
    raise KeyboardInterrupt


def assert_joined(thread: LastingThread) -> None:
    joining = threading.Thread(target=thread.join, daemon=True)
    joining.start()
    joining.join(WAIT_S)
    assert not joining.is_alive(), "it hangs"


def test_nobody_waits_for_a_thread_whose_start_was_interrupted_before_it_had_begun() -> None:
    """It may be about to begin: then it does nothing."""
    done: list[str] = []
    thread = LastingThread(lambda: done.append("work"), "test")
    interrupted_start(thread, interrupted)
    assert_joined(thread)
    assert_joined(thread)
    assert not thread.begins()
    threading.Thread.start(thread)
    threading.Thread.join(thread)
    assert not done


def test_a_thread_that_had_begun_when_its_start_was_interrupted_is_waited_for() -> None:
    start, begun, goes_on, done = threading.Thread.start, *(threading.Event() for _ in range(3))

    def work() -> None:
        begun.set()
        assert_set(goes_on)
        done.set()

    def interrupted_late(thread: threading.Thread) -> None:
        start(thread)
        assert_set(begun)
        raise KeyboardInterrupt

    thread = LastingThread(work, "test")
    interrupted_start(thread, interrupted_late)
    assert thread.begins()
    thread.join(0.01)
    assert not done.is_set()
    goes_on.set()
    thread.join()
    assert done.is_set()


def test_a_thread_that_was_waited_for_before_does_not_start() -> None:
    thread = LastingThread(lambda: None, "test")
    thread.join()
    with pytest.raises(RuntimeError, match="waited for before"):
        thread.start()


# ---- the end of the interpreter ----

JOINED_AT_EXIT = """
    import threading

    from walstore.thread import LastingThread

    class Held:
        def __init__(self):
            self.thread = LastingThread(threading.Event().wait, "test")
            self.thread.start()

        def __del__(self):
            self.thread.join()
            print("joined")

    held = Held()
"""


def test_nobody_waits_at_the_end_of_the_interpreter() -> None:
    """Its daemon threads were stopped where they were, and never say that they are over."""
    assert run_child(JOINED_AT_EXIT, timeout_s=10).strip() == "joined"
