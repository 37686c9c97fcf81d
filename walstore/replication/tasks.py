"""Tasks of a node that live long, and do not die unseen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["begin_task"]

logger = logging.getLogger("walstore.replication")


def begin_task(
    work: Coroutine[Any, Any, None], fail: Callable[[Exception], None]
) -> asyncio.Task[None]:
    """Begins a task in the running loop. Nobody waits for its end: an exception that it does not
    catch is a mistake, is logged with its traceback, and `fail` is called with it."""

    def look(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            logger.error("a task of this node's died of a mistake", exc_info=error)
            fail(error)

    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(look)
    return task
