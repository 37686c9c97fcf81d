"""An event loop is woken once, when an lsn has come far enough or cannot any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import open_descriptors
from tests.wal.replicas import replicated, written_lsn
from walstore._native import lib
from walstore.wal.watch import LsnWatch

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("level", ["WRITTEN", "DURABLE", "COMMITTED"])
def test_a_watch_calls_back_once_at_its_level(tmp_path: Path, level: str) -> None:
    async def main(log: Any) -> None:
        calls: list[tuple[int, int, int]] = []
        woken = asyncio.Event()

        def callback() -> None:
            calls.append((written_lsn(log), log.durable_lsn, log.committed_lsn))
            woken.set()

        watch = LsnWatch(
            log._group, asyncio.get_running_loop(), getattr(lib, f"WALCORE_LEVEL_{level}"), callback
        )
        for lsn in range(1, 30):
            watch.arm(lsn)
            await asyncio.sleep(0)
            assert not calls
            log.submit(b"x")
            if level != "WRITTEN":
                await asyncio.to_thread(log.sync)
            if level == "COMMITTED":
                await asyncio.sleep(0)
                assert not calls
                log._set_committed(lsn)
            await asyncio.wait_for(woken.wait(), 30)
            assert calls.pop()[("WRITTEN", "DURABLE", "COMMITTED").index(level)] >= lsn
            assert not calls
            woken.clear()
        watch.arm(1)  # due already
        assert not calls
        await asyncio.wait_for(woken.wait(), 30)
        watch.close()
        watch.close()

    before = open_descriptors()
    with replicated(tmp_path / "log", sync="os" if level == "WRITTEN" else "always") as log:
        asyncio.run(main(log))
    assert open_descriptors() == before


@pytest.mark.parametrize("ending", ["close", "poison", "truncate", "reset"])
def test_a_watch_calls_back_when_the_entry_cannot_come(tmp_path: Path, ending: str) -> None:
    endings: dict[str, Callable[[Any], object]] = {
        "close": lambda log: log.close(),
        "poison": lambda log: log._group.poison(5),
        "truncate": lambda log: log.truncate_after(1),
        "reset": lambda log: log._reset(50, 1, 1),
    }

    async def main(log: Any) -> None:
        woken = asyncio.Event()
        log.submit(b"a")
        log.submit(b"b")
        level = lib.WALCORE_LEVEL_COMMITTED
        watch = LsnWatch(log._group, asyncio.get_running_loop(), level, woken.set)
        watch.arm(100)
        endings[ending](log)
        await asyncio.wait_for(woken.wait(), 30)
        watch.close()

    with replicated(tmp_path / "log") as log:
        asyncio.run(main(log))


def test_a_watch_that_was_closed_is_not_armed_any_more(tmp_path: Path) -> None:
    """A slot that was given back must not be written to: it may be nobody's, or another's."""

    async def main(log: Any) -> None:
        watch = LsnWatch(
            log._group, asyncio.get_running_loop(), lib.WALCORE_LEVEL_DURABLE, lambda: None
        )
        watch.close()
        watch.arm(1)
        assert log._group.index() == b""

    with replicated(tmp_path / "log") as log:
        asyncio.run(main(log))
        log.submit(b"x")
        assert log.sync() == 1
