"""Work in a thread of its own: also after the main thread, and wherever the stack ends."""

from __future__ import annotations

import inspect
import sys
import threading
from concurrent.futures import Future

from tests.helpers import run_child
from walstore.thread import in_thread

WAIT_S = 20.0

AFTER_MAIN = """
import threading
from walstore.thread import in_thread

def late():
    threading.main_thread().join()
    print(in_thread(lambda: 1 + 1, "test").result(20))

threading.Thread(target=late).start()
"""


def test_work_is_begun_when_the_main_thread_has_ended() -> None:
    assert run_child(AFTER_MAIN, "") == "2\n"


def test_work_is_done_or_never_begun_wherever_the_stack_ends() -> None:
    done: list[int] = []

    def begin(frames: int, number: int) -> None:
        if frames:
            begin(frames - 1, number)
        else:
            begun.append(in_thread(lambda: done.append(number), "test"))

    expected = []
    room = sys.getrecursionlimit() - len(inspect.stack())
    for number in range(40):
        begun: list[Future[None]] = []
        try:
            begin(room - number, number)
        except RecursionError:
            assert not begun
            continue
        expected.append(number)
        begun[0].result(WAIT_S)
    for thread in threading.enumerate():
        if thread.name == "test":
            thread.join(WAIT_S)
    assert done == expected
    assert 0 < len(done) < 40
