"""Threads that are waited for until they have ended."""

from __future__ import annotations

import os
import threading

from tests.helpers import interrupted_in_join
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
