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
        self._blocks = 0
        self._was_enabled = False

    def begin(self) -> None:
        with self._lock:
            if self._blocks == 0:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._blocks += 1

    def end(self) -> None:
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0 and self._was_enabled:
                gc.enable()


_pause = _Pause()


@contextmanager
def collector_paused() -> Iterator[None]:
    """While very many objects are made that all stay, and nothing is waited for. Otherwise the
    collector goes through them again and again, which takes more than twice as long as making
    them."""
    _pause.begin()
    try:
        yield
    finally:
        _pause.end()


@contextmanager
def made_to_stay() -> Iterator[None]:
    """The same, and at the end what was made counts as old: otherwise the collector, when it is on
    again, goes through all of it twice before it leaves it alone."""
    with collector_paused():
        yield
        if gc.get_freeze_count() == 0:  # otherwise the application has frozen what must stay so
            gc.freeze()
            gc.unfreeze()
