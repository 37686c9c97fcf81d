"""Room on the stack: who calls from deep inside of a recursion breaks nothing that others share."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TypeVar

from walstore.thread import in_thread

__all__ = ["is_deep", "on_own_stack"]

FRAMES_MIN = 500
"""More than applying takes: documents have up to 100 levels, their keys some calls for each."""

CALLS_OF_FRAME = 2
"""As so many a frame may count: its own, and one of a function in C that called it."""

Result = TypeVar("Result")


def is_deep() -> bool:
    """Whether there may not be room enough on this stack."""
    try:
        sys._getframe(max(1, (sys.getrecursionlimit() - FRAMES_MIN) // CALLS_OF_FRAME))
    except ValueError:
        return False  # there are not so many frames
    return True


def on_own_stack(work: Callable[[], Result]) -> Result:
    """Does it in a thread. Where there is not even room to wait for that, it is done or never
    begun."""
    over = threading.Lock()  # waiting for it takes no frame of this stack, unlike `result`
    over.acquire()

    def work_to_the_end() -> Result:
        try:
            return work()
        finally:
            over.release()

    done = in_thread(work_to_the_end, "walstore-stack")
    try:
        with over:
            pass
    except BaseException:  # an interrupt leaves nothing behind that goes on; a second one does
        with over:
            raise
    return done.result()
