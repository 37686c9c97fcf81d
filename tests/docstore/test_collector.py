"""The garbage collector is off while very many objects are made that stay, and then on again."""

from __future__ import annotations

import gc
import itertools
from typing import Any

from tests.docstore.interrupts import interrupted_in
from tests.docstore.sites import Site
from walstore import FileWALManager
from walstore.docstore.applied import CHANGES_MANY
from walstore.docstore.collector import collector_paused


def test_it_is_off_from_the_first_block_to_the_last() -> None:
    """They are of any threads, and end in any order."""
    first, second = collector_paused(), collector_paused()
    assert gc.isenabled()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_it_stays_off_where_it_was() -> None:
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_it_is_on_again_wherever_an_interrupt_comes() -> None:
    """Before each line in turn, until none is left."""

    def pause() -> None:
        with collector_paused():
            assert not gc.isenabled()

    try:
        for line in itertools.count(1):
            interrupted = interrupted_in("/collector.py", line, pause)
            assert gc.isenabled(), line
            pause()
            assert gc.isenabled(), line
            if not interrupted:
                break
    finally:
        gc.enable()
    assert line > 10


def test_it_is_on_while_the_disk_is_waited_for(file_site: Site) -> None:
    store = file_site.open(checkpoint_bytes=None)
    seen: list[bool] = []

    class Looking(FileWALManager):
        def append(self, *args: Any, **options: Any) -> int:
            seen.append(gc.isenabled())
            return super().append(*args, **options)

    def documents() -> Any:
        for number in range(CHANGES_MANY):
            seen.append(gc.isenabled())
            yield {"_id": number}

    store.log.__class__ = Looking
    store["things"].insert_many(documents())
    store.log.__class__ = FileWALManager
    assert seen == [False] * CHANGES_MANY + [True]
    assert gc.isenabled()
