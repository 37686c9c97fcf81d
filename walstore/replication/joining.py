"""How a new node learns which log it is going to be a copy of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from walstore.replication.background import Background
from walstore.replication.errors import CloseCode, RefusedError, UnreachableError
from walstore.replication.message import NO_CLUSTER
from walstore.replication.network import NetworkManager

__all__ = ["ask_cluster_id", "meet", "without_log"]

_PAUSE_S = 0.05


def without_log(make_network: Callable[..., NetworkManager]) -> NetworkManager:
    """The network of a node that has no log yet: it asks and answers, and takes no message.

    Raises:
        OptionError: an option makes no sense, or the node would be open to strangers.
    """
    return make_network(
        cluster_id=lambda: NO_CLUSTER, term=lambda: 0, on_message=lambda node, message: None
    )


def ask_cluster_id(
    make_network: Callable[..., NetworkManager], urls: Mapping[str, str], timeout_s: float
) -> bytes:
    """Asks the peers in turn, again and again, until one that has a log answers.

    Raises:
        UnreachableError: none did, in time.
        RefusedError: one does not take this node for one of its own.
    """
    return _run(partial(_ask, make_network, urls, timeout_s))


def meet(
    make_network: Callable[..., NetworkManager],
    others: frozenset[str],
    founds: bool,
    timeout_s: float,
) -> bytes:
    """Listens and dials until a node that has a log is met, and returns its cluster's id; or, on
    the node that `founds` a cluster, NO_CLUSTER when all others have said that they have none.

    Raises:
        UnreachableError: neither came to pass in time.
    """
    return _run(partial(_meet, make_network, others, founds, timeout_s))


class _Joining:
    """A background.Service that has begun when it has found what it asks for."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, bytes]]) -> None:
        self._ask = ask
        self.found = b""

    async def start(self) -> None:
        self.found = await self._ask()

    async def stop(self) -> None:
        pass


def _run(ask: Callable[[], Coroutine[Any, Any, bytes]]) -> bytes:
    """In a thread of its own: the caller's may have an event loop that is running. Who is
    interrupted ends the work before it returns."""
    joining = _Joining(ask)
    background = Background(joining, "walstore-join")
    try:
        background.start()
    finally:
        background.stop()
    return joining.found


async def _meet(
    make_network: Callable[..., NetworkManager],
    others: frozenset[str],
    founds: bool,
    timeout_s: float,
) -> bytes:
    network = without_log(make_network)
    missing = sorted(others)
    try:
        async with asyncio.timeout(timeout_s):
            await network.start()
            while True:
                said = {node: await network.ask(node) for node in others & {*network.connected}}
                found = set(said.values()) - {NO_CLUSTER}
                if found:
                    return found.pop()
                missing = sorted(others - said.keys())
                if founds and not missing:
                    return NO_CLUSTER
                await asyncio.sleep(_PAUSE_S)
    except TimeoutError:
        reason = f"not met: {', '.join(missing)}" if missing else "nobody has a log yet"
        node = missing[0] if missing else min(others)
        raise UnreachableError(node, "its url", timeout_s, reason) from None
    finally:
        await network.stop()


async def _ask(
    make_network: Callable[..., NetworkManager], urls: Mapping[str, str], timeout_s: float
) -> bytes:
    network = without_log(make_network)
    reasons = dict.fromkeys(urls, "it has not answered yet") or {"nobody": "no peer has a url"}
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                for node, url in urls.items():
                    try:
                        cluster_id = await network.ask(node, url)
                    except UnreachableError as error:
                        reasons = {node: str(error)}
                        continue
                    except RefusedError as error:
                        if error.code is not CloseCode.TRY_LATER:
                            raise
                        reasons = {node: error.reason}
                        continue
                    if cluster_id != NO_CLUSTER:
                        return cluster_id
                    reasons = {node: "it has no log either"}
                await asyncio.sleep(_PAUSE_S)
    except TimeoutError:
        node, reason = next(iter(reasons.items()))
        raise UnreachableError(node, urls.get(node, "no url"), timeout_s, reason) from None
    finally:
        await network.stop()
