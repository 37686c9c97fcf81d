"""How a new node asks which log it is to be a copy of, where not every peer answers or has one."""

from __future__ import annotations

import asyncio
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.raft.elected import Elected
from tests.replication.networks import CLUSTER, FAST, Net, in_loop
from tests.replication.nodes import OPTIONS, free_ports, until
from walstore.replication import (
    NetworkManager,
    RefusedError,
    ReplicationOptions,
    ReplicationWALManager,
    Security,
    UnreachableError,
)
from walstore.replication.joining import ask_cluster_id
from walstore.replication.message import NO_CLUSTER

AT_ONCE_S = 0.05
SILENT = "it has not answered yet"
WAIT_S = 30.0


async def ask(urls: dict[str, str], timeout_s: float) -> bytes:
    """Asks as a new node does."""
    make_network = partial(
        NetworkManager, "new", listen=None, peers=urls, security=Security(), options=FAST
    )
    return await asyncio.to_thread(ask_cluster_id, make_network, urls, timeout_s)


async def refused(urls: dict[str, str], timeout_s: float = AT_ONCE_S) -> UnreachableError:
    """The error, when none has answered in time."""
    with pytest.raises(UnreachableError) as caught:
        await ask(urls, timeout_s)
    assert caught.value.timeout_s == timeout_s
    return caught.value


async def refused_with_a_reason(url: str, node: str = "a") -> UnreachableError:
    """The same, of one that does answer, however slow this machine is."""
    for timeout_s in (0.2, 2.0, 20.0):
        error = await refused({node: url}, timeout_s)
        assert (error.node_id, error.url) == (node, url)
        if error.reason != SILENT:
            return error
    raise AssertionError(error)


def nowhere() -> str:
    """Where nobody listens."""
    return f"ws://127.0.0.1:{free_ports(1)[0]}"


@in_loop
async def test_the_next_one_is_asked_where_one_does_not_answer() -> None:
    async with Net("a") as a:
        assert await ask({"gone": nowhere(), "a": a.url}, WAIT_S) == CLUSTER


@in_loop
async def test_the_next_one_is_asked_where_one_has_no_room() -> None:
    async with (
        Net("a") as a,
        Net("full", options=replace(FAST, peers_max=1)) as full,
        Net("first", {"full": full.url}),
    ):
        await full.joined("first")
        assert (await refused_with_a_reason(full.url, "full")).reason == "1 nodes are connected"
        assert await ask({"full": full.url, "a": a.url}, WAIT_S) == CLUSTER


@in_loop
async def test_a_node_that_is_none_of_the_cluster_s_is_told_so_at_once() -> None:
    async with Net("a", members=frozenset("ab")) as a:
        with pytest.raises(RefusedError, match="new is no node of this cluster"):
            await ask({"a": a.url}, WAIT_S)


@in_loop
async def test_a_peer_without_a_log_is_asked_again_until_it_has_one() -> None:
    async with Net("a", cluster_id=NO_CLUSTER) as a:
        asked = 0

        def cluster_id() -> bytes:
            nonlocal asked
            asked += 1
            return CLUSTER if asked > 3 else NO_CLUSTER

        a.manager._cluster_id = cluster_id
        assert await ask({"a": a.url}, WAIT_S) == CLUSTER
        assert asked > 3


@in_loop
async def test_the_error_says_why_there_is_no_answer() -> None:
    assert "Connect call failed" in (await refused_with_a_reason(nowhere())).reason
    async with Net("a", cluster_id=NO_CLUSTER) as a:
        assert (await refused_with_a_reason(a.url)).reason == "it has no log either"
    error = await refused({})
    assert (error.node_id, error.reason) == ("nobody", "no peer has a url")


@in_loop
async def test_a_peer_that_says_nothing_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"ws://127.0.0.1:{mute.getsockname()[1]}"
        error = await refused({"a": url})
    assert (error.node_id, error.url, error.reason) == ("a", url, SILENT)


def test_a_new_node_that_finds_nobody_makes_nothing(tmp_path: Path) -> None:
    times = ReplicationOptions(join_timeout_ms=AT_ONCE_S * 1000)
    new: dict[str, Any] = {"node_id": "b", "peers": {"a": nowhere()}, "options": times}
    with pytest.raises(UnreachableError, match=r"^a did not answer at ws:.* within 0\.05 s: "):
        ReplicationWALManager(tmp_path / "log", **new)
    assert not (tmp_path / "log").exists()


def test_a_child_made_by_fork_while_a_node_joins_holds_no_address(tmp_path: Path) -> None:
    cluster = Elected(tmp_path, "ab", options=replace(OPTIONS, join_timeout_ms=5000))

    def listens() -> bool:
        with socket.socket() as stranger:
            return stranger.connect_ex(("127.0.0.1", cluster.ports["a"])) == 0

    reading, writing = os.pipe()
    with ThreadPoolExecutor(2) as pool:
        opening = pool.submit(cluster.start, "a")
        until(listens, "it waits for the other one")
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)  # until the parent is done
            os._exit(0)
        pool.submit(cluster.start, "b")
        try:
            opening.result(WAIT_S)
        finally:
            os.close(writing)
            os.close(reading)
            os.waitpid(child, 0)
    cluster.close()
