"""walstore status: the nodes of a replicated log, and whether all is well."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import click
from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from walstore.cli import exits
from walstore.cli.client import (
    NodeClient,
    NodeRefusedError,
    NodeUnreachableError,
    check_fields,
    urls_argument,
)
from walstore.cli.options import json_option
from walstore.cli.output import Screen, count, grid, plain, size

__all__ = ["NodeView", "is_healthy", "look", "status", "status_table"]

_TIMEOUT_S = 2.0
_WATCH_S = 1.0
_NARROW_COLUMNS = 110
_HEADS = ["node", "role", ">term", ">last", ">durable", ">committed", ">applied", "lag"]
_HEADS += ["connected", ">since", ""]
_NUMBER: Any = (int, float)
_FIELDS: dict[str, Any] = {
    **dict.fromkeys(("node_id", "role", "error"), str),
    **dict.fromkeys(("term", "last_lsn", "durable_lsn", "committed_lsn", "applied_lsn"), int),
    "since_s": _NUMBER,
    "leader_id": str | None,
    "peers": list,
}
"""Of what a node says, what is shown here."""

_PEER_FIELDS: dict[str, Any] = {"node_id": str, "connected": bool, "lag": dict | None}
_LAG_FIELDS: dict[str, Any] = {"entries": int, "bytes": int, "ms": _NUMBER}
_LEFT_OUT = {4, 6, 9}
"""Columns that a narrow terminal has no room for."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """What a node answered.

    Attributes:
        url: where it was asked.
        status: NodeStatus as JSON; None where it did not answer.
        error: why not.
    """

    url: str
    status: dict[str, Any] | None
    error: str = ""


@click.command()
@urls_argument
@json_option("One JSON object instead of a table; with --watch one a line.")
@click.option("--watch", is_flag=True, help="Look again each second, until Ctrl-C.")
def status(urls: tuple[str, ...], as_json: bool, watch: bool) -> int:
    """Show the nodes of a replicated log.

    URLs are their status urls. A node that does not answer is shown as one. How far a follower is
    behind is known to the leader. The exit code says whether one of them leads, all of them
    answer, and all of their peers are connected.

    \b
    Examples:
      walstore status http://127.0.0.1:7100 http://127.0.0.1:7101 http://127.0.0.1:7102
      walstore status --watch URL URL URL
      walstore status --json URL | jq '.nodes[].status.role'

    \b
    Exit codes:
      0  all is well        1  it is not
      64 wrong usage        130 ended with Ctrl-C
    """
    if watch:
        _watch(urls, as_json)
    views = look(urls)
    if as_json:
        click.echo(_json_text(views))
    else:
        screen = Screen()
        screen.show(status_table(views, screen.width))
    return exits.OK if is_healthy(views) else exits.DEGRADED


def look(urls: Sequence[str]) -> list[NodeView]:
    """Asks all nodes at once."""
    with ThreadPoolExecutor(len(urls)) as pool:
        return list(pool.map(_ask, urls))


def is_healthy(views: Sequence[NodeView]) -> bool:
    """Whether one node leads, and all answer and are connected with each other."""
    found = [view.status for view in views if view.status is not None]
    leaders = [node for node in found if node["role"] == "leader"]
    return (
        len(found) == len(views)
        and len(leaders) == 1
        and not any(node["error"] for node in found)
        and all(peer["connected"] for node in found for peer in node["peers"])
    )


def _ask(url: str) -> NodeView:
    with closing(NodeClient(url, _TIMEOUT_S)) as client:
        try:
            found = client.get("/status", **_FIELDS)
            for peer in found["peers"]:
                check_fields(client.url, peer, _PEER_FIELDS)
                if peer["lag"]:
                    check_fields(client.url, peer["lag"].get("durable"), _LAG_FIELDS)
            return NodeView(url, found)
        except (NodeUnreachableError, NodeRefusedError) as error:
            return NodeView(url, None, str(error).removeprefix(f"{client.url} "))


def _json_text(views: Sequence[NodeView]) -> str:
    nodes = [{"url": v.url, "status": v.status, "error": v.error} for v in views]
    return json.dumps({"healthy": is_healthy(views), "nodes": nodes})


# ---- the table ----


def status_table(views: Sequence[NodeView], width: int) -> RenderableType:
    """A row for each node."""
    leader = next(
        (v.status for v in views if v.status is not None and v.status["role"] == "leader"), None
    )
    rows: list[list[str | Text]] = [[*_HEADS], *(_row(view, leader) for view in views)]
    if width < _NARROW_COLUMNS:
        rows = [[cell for at, cell in enumerate(row) if at not in _LEFT_OUT] for row in rows]
    return grid([str(head) for head in rows[0]], rows[1:])


def _row(view: NodeView, leader: dict[str, Any] | None) -> list[str | Text]:
    node = view.status
    if node is None:
        return [view.url, Text("no answer", style="red"), *[""] * 8, Text(plain(view.error), "red")]
    peers = node["peers"]
    there = sum(peer["connected"] for peer in peers)
    style = "green" if node["role"] == "leader" else ""
    role = "learner" if node["node_id"] in node.get("learners", ()) else node["role"]
    return [
        node["node_id"],
        Text(role, style=style),
        str(node["term"]),
        *(str(node[f"{stage}_lsn"]) for stage in ("last", "durable", "committed", "applied")),
        _lag(node["node_id"], leader),
        Text(f"{there} of {len(peers)}", style="" if there == len(peers) else "yellow"),
        _duration(node["since_s"]),
        Text(plain(_trouble(node)), style="yellow"),
    ]


def _lag(node_id: str, leader: dict[str, Any] | None) -> str:
    """How far its disk is behind the leader's log."""
    for peer in leader["peers"] if leader else ():
        if peer["node_id"] == node_id and peer["lag"]:
            lag = peer["lag"]["durable"]
            if not lag["entries"]:
                return "0"
            return f"{count(lag['entries'])}, {size(lag['bytes'])}, {lag['ms']:,.0f} ms"
    return ""


def _trouble(node: dict[str, Any]) -> str:
    if node["error"]:
        return str(node["error"])
    gone = [peer["node_id"] for peer in node["peers"] if not peer["connected"]]
    parts = [f"without {', '.join(gone)}"] if gone else []
    if node["leader_id"] is None:
        parts.append("no leader")
    if node.get("lost_to_lsn"):
        parts.append(f"damaged: gets back entries up to {node['lost_to_lsn']}")
    if node.get("changing"):
        parts.append("the members change")
    return "; ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds) // 60
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if hours < 48 else f"{hours // 24} d"


# ---- --watch ----


def _watch(urls: tuple[str, ...], as_json: bool) -> None:
    """Until Ctrl-C."""
    screen = Screen()
    if as_json or not screen.terminal:
        while True:
            views = look(urls)
            if as_json:
                click.echo(_json_text(views))
            else:
                screen.show(status_table(views, screen.width))
                screen.line()
            sys.stdout.flush()
            time.sleep(_WATCH_S)
    with Live(auto_refresh=False) as live:
        while True:
            live.update(status_table(look(urls), screen.width), refresh=True)
            time.sleep(_WATCH_S)
