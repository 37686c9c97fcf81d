"""How a new node learns which log it is going to be a copy of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from walstore.replication.errors import UnreachableError
from walstore.replication.message import NO_CLUSTER
from walstore.replication.network import NetworkManager

__all__ = ["ask_cluster_id"]

_PAUSE_S = 0.05


def ask_cluster_id(
    make_network: Callable[..., NetworkManager], urls: Mapping[str, str], timeout_s: float
) -> bytes:
    """Asks the peers in turn, again and again, until one that has a log answers.

    Raises:
        UnreachableError: none did, in time.
        RefusedError: one does not take this node for one of its own.
    """
    # In a thread of its own: the caller's may have an event loop that is running.
    with ThreadPoolExecutor(1, "walstore-join") as executor:
        return executor.submit(asyncio.run, _ask(make_network, urls, timeout_s)).result()


async def _ask(
    make_network: Callable[..., NetworkManager], urls: Mapping[str, str], timeout_s: float
) -> bytes:
    network = make_network(
        cluster_id=lambda: NO_CLUSTER, term=lambda: 0, on_message=lambda node, message: None
    )
    reasons = {"nobody": "no peer has a url"}
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                for node, url in urls.items():
                    try:
                        cluster_id = await network.ask(node, url)
                    except UnreachableError as error:
                        reasons = {node: str(error)}
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
