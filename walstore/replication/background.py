"""A thread with an event loop of its own, for the network of a log that is used from threads."""

from __future__ import annotations

import asyncio
import threading
from typing import Protocol

__all__ = ["Background", "Service"]


class Service(Protocol):
    """What runs in the loop."""

    async def start(self) -> None:
        """Begins; returns when it has begun."""

    async def stop(self) -> None:
        """Ends, also what has begun only in part; returns when it has ended."""


class Background:
    """Runs a service until it is stopped.

    Args:
        service: what to run.
        name: of the thread.
    """

    def __init__(self, service: Service, name: str) -> None:
        self._service = service
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._error: BaseException | None = None

    def start(self) -> None:
        """Returns when the service has begun, or raises what kept it from doing so."""
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def stop(self) -> None:
        """Returns when the service has ended and the thread is gone. Not from that thread."""
        if self._loop is not None and self._stopping is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        try:
            await self._service.start()
        except Exception as error:
            await self._service.stop()
            self._error = error
            return
        finally:
            self._started.set()
        await self._stopping.wait()
        await self._service.stop()
