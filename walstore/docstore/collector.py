"""Python's garbage collector, kept from going again and again through what stays."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collector_paused", "made_to_stay"]


class _Pause:
    """The one of the process: from the first block that begins to the last that ends."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # what is collected amid this may begin a block
        self._blocks: set[object] = set()
        self._paused = False  # it would be on

    def begin(self, block: object) -> None:
        """It must be ended, also where this is interrupted."""
        with self._lock:
            self._blocks.add(block)
            if gc.isenabled():
                self._paused = True
                gc.disable()

    def end(self, block: object) -> None:
        """Ending a block again does no harm."""
        with self._lock:
            self._blocks.discard(block)
            if self._paused and not self._blocks:
                gc.enable()
                self._paused = False


_pause = _Pause()


@contextmanager
def collector_paused() -> Iterator[None]:
    """While very many objects are made that all stay, and nothing is waited for. Otherwise the
    collector goes through them again and again, which takes more than twice as long as making
    them."""
    block = object()
    try:
        try:
            _pause.begin(block)
            yield
        finally:
            _pause.end(block)
    except BaseException:
        _pause.end(block)  # an interrupt may have come while it ended
        raise


@contextmanager
def made_to_stay() -> Iterator[None]:
    """The same, and at the end what was made counts as old: otherwise the collector, when it is on
    again, goes through all of it twice before it leaves it alone."""
    with collector_paused():
        yield
        if gc.get_freeze_count() == 0:  # otherwise the application has frozen what must stay so
            gc.freeze()
            gc.unfreeze()
