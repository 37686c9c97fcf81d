"""walstore cluster: the nodes of a cluster that elects, all together."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import click
from rich.text import Text

from walstore.cli import exits
from walstore.cli.client import NodeUnreachableError, urls_argument
from walstore.cli.cluster_init import init
from walstore.cli.cluster_recover import recover
from walstore.cli.options import json_option
from walstore.cli.output import Screen, grid, plain
from walstore.cli.remote import RemoteNode
from walstore.cluster import ClusterHealth, ClusterManager, judge
from walstore.errors import OptionError, WALStoreError
from walstore.replication import NodeStatus
from walstore.replication.message import is_node_id
from walstore.replication.requests import is_client_id

__all__ = ["cluster"]

_LEADER_TIMEOUT_S = 5.0
_CHANGE_TIMEOUT_S = 60
_LOOK_S = 0.1


def _node_id(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is not None and (not is_node_id(value) or is_client_id(value)):
        raise click.BadParameter(f"{value!r} cannot be a node's id.")
    return value


_node_option = click.option(
    "--node", "node_id", metavar="ID", required=True, callback=_node_id, help="Which node."
)  # fmt: skip
_timeout_option = click.option(
    "--timeout", "timeout_s", metavar="SECONDS", type=click.IntRange(1, 3600),
    default=_CHANGE_TIMEOUT_S, show_default=True, help="How long the change is waited for.",
)  # fmt: skip


@click.group()
def cluster() -> None:
    """Begin, watch and change a cluster whose nodes elect their leader.

    URLs are status urls of its nodes, as 'walstore serve' prints them: of all that can be asked
    from here, whoever leads among them. docs/operations.md goes through a cluster's life.

    \b
    Examples:
      walstore cluster init conf --node a=n1:7001 --node b=n2:7001 --node c=n3:7001
      walstore cluster status URL URL URL
      walstore cluster add URL --node d

    \b
    Exit codes:
      0  done, or well             1  not well, or nothing was done yet
      4  refused, or not in time   64 wrong usage
    """


# ---- asking ----


def _nodes(urls: Sequence[str], timeout_s: int = _CHANGE_TIMEOUT_S) -> list[RemoteNode]:
    return [RemoteNode(url, timeout_s) for url in urls]


def _ask(nodes: Sequence[RemoteNode]) -> tuple[list[NodeStatus], dict[str, str]]:
    """The statuses of those that answer, and why the others do not.

    Raises:
        OptionError: they do not elect, or are of several clusters.
        NodeUnreachableError: none of them answers.
    """
    found: list[NodeStatus] = []
    silent: dict[str, str] = {}
    with ThreadPoolExecutor(len(nodes)) as pool:
        for node, answer in zip(nodes, pool.map(_answer, nodes), strict=True):
            if isinstance(answer, NodeStatus):
                found.append(answer)
            else:
                silent[node.url] = str(answer).removeprefix(f"{node.url} ")
    if not found:
        url, reason = next(iter(silent.items()))
        raise NodeUnreachableError(f"{url} {reason}")
    if any(status.election != "raft" for status in found):
        raise OptionError("these nodes do not elect: 'walstore status' is for them")
    if len({status.cluster_id for status in found}) > 1:
        named = ", ".join(f"{s.node_id} is of {s.cluster_id}" for s in found)
        raise OptionError(f"these nodes are of several clusters: {named}")
    return found, silent


def _answer(node: RemoteNode) -> NodeStatus | WALStoreError:
    try:
        return node.status()
    except WALStoreError as error:
        return error


def _manager(urls: Sequence[str], timeout_s: int = _CHANGE_TIMEOUT_S) -> ClusterManager:
    nodes = _nodes(urls, timeout_s)
    _ask(nodes)
    return ClusterManager(lambda: nodes, timeout_s=_LEADER_TIMEOUT_S)


# ---- commands ----


@click.command()
@urls_argument
@json_option("One JSON object instead of a table.")
@click.option(
    "--wait", "wait_s", metavar="SECONDS", type=click.IntRange(1, 3600),
    help="Wait until all is well, so long at most.",
)  # fmt: skip
def status(urls: tuple[str, ...], as_json: bool, wait_s: int | None) -> int:
    """Show how each member of a cluster is, why, and how many more may fail.

    What is asked of the node that leads says most. With --wait a script goes on when all is well:
    after a restart, before the next one.

    \b
    Examples:
      walstore cluster status http://127.0.0.1:7100 http://127.0.0.1:7101
      walstore cluster status --wait 60 URL URL URL && systemctl restart walstore

    \b
    Exit codes:
      0  all is well        1  it is not
      4  nobody answers, with --wait: not in time     64 wrong usage
    """
    nodes, deadline_s = _nodes(urls), time.monotonic() + (wait_s or 0)
    while True:
        try:
            found, silent = _ask(nodes)
        except NodeUnreachableError:
            if time.monotonic() >= deadline_s:
                raise
            time.sleep(_LOOK_S)
            continue
        health = judge(found)
        well = health.well and not silent
        if well or time.monotonic() >= deadline_s:
            break
        time.sleep(_LOOK_S)
    if as_json:
        click.echo(json.dumps(_as_dict(health, silent)))
    else:
        _show(health, found, silent)
    return exits.OK if well else exits.DEGRADED


@click.command()
@urls_argument
@_node_option
@click.option("--learner", is_flag=True, help="It only holds the log, and has no vote.")
@_timeout_option
def add(urls: tuple[str, ...], node_id: str, learner: bool, timeout_s: int) -> int:
    """Add a node, or give a learner a vote.

    Start the node first, in an empty directory, with the url of any member as its peers. It votes
    as soon as it has the log. Adding a member again changes nothing.

    \b
    Examples:
      walstore cluster add URL URL URL --node d
      walstore cluster add URL URL URL --node reports --learner

    \b
    Exit codes:
      0  it is a member      4  refused, or not in time: it may still become one
      64 wrong usage
    """
    _manager(urls, timeout_s).add(node_id, voter=not learner)
    click.echo(plain(f"{node_id} {'learns' if learner else 'votes'}"))
    return exits.OK


@click.command()
@urls_argument
@_node_option
@_timeout_option
def remove(urls: tuple[str, ...], node_id: str, timeout_s: int) -> int:
    """Remove a node, which may be dead, or lead.

    Refused where those who are left to vote could commit nothing. The process of the node is yours
    to end, afterwards.

    \b
    Examples:
      walstore cluster remove URL URL URL --node c

    \b
    Exit codes:
      0  it is no member     4  refused, or not in time: it may still be removed
      64 wrong usage
    """
    _manager(urls, timeout_s).remove(node_id)
    click.echo(plain(f"{node_id} is no member; end its process if it runs"))
    return exits.OK


@click.command()
@urls_argument
@click.option(
    "--to", "node_id", metavar="ID", callback=_node_id, help="Who shall lead; else who has most."
)
def transfer(urls: tuple[str, ...], node_id: str | None) -> int:
    """Hand the leadership over, before the node that leads is stopped.

    Appends wait meanwhile, and none fails.

    \b
    Examples:
      walstore cluster transfer URL URL URL
      walstore cluster transfer URL URL URL --to b

    \b
    Exit codes:
      0  another one leads, or --to does      4  none does      64 wrong usage
    """
    leader_id = _manager(urls).transfer(node_id)
    click.echo(plain(f"{leader_id} leads"))
    return exits.OK


@click.command()
@urls_argument
@_node_option
@click.option(
    "--with", "new_id", metavar="ID", required=True, callback=_node_id,
    help="The node that was started.",
)  # fmt: skip
@_timeout_option
def replace(urls: tuple[str, ...], node_id: str, new_id: str, timeout_s: int) -> int:
    """Put a new node in the place of another, which may be dead.

    Start the new one first, under a name of its own, in an empty directory, with the url of any
    member as its peers. The old one counts until the new one has the log. This is also what to do
    when a node has lost its disk.

    \b
    Examples:
      walstore cluster replace URL URL --node c --with d

    \b
    Exit codes:
      0  done      4  refused, or not in time: it may still be done      64 wrong usage
    """
    _manager(urls, timeout_s).replace(node_id, new_id)
    click.echo(plain(f"{new_id} is in the place of {node_id}; end {node_id} if it runs"))
    return exits.OK


for _command in (init, status, add, remove, transfer, replace, recover):
    cluster.add_command(_command)


# ---- what is shown ----


def _as_dict(health: ClusterHealth, silent: dict[str, str]) -> dict[str, object]:
    return {
        "well": health.well and not silent,
        "leader_id": health.leader_id,
        "can_lose": health.can_lose,
        "changing": health.changing,
        "nodes": [node._asdict() for node in health.nodes],
        "silent": silent,
    }


def _show(health: ClusterHealth, found: Sequence[NodeStatus], silent: dict[str, str]) -> None:
    urls = {status.node_id: status.url for status in found}  # where it listens, if no other knows
    urls |= {peer.node_id: peer.url for status in found for peer in status.peers if peer.url}
    rows: list[list[str | Text]] = [
        [
            node.node_id,
            node.role,
            Text(str(node.state), style="green" if node.well else "yellow"),
            urls.get(node.node_id) or "",
            node.reason,
        ]
        for node in health.nodes
    ]
    screen = Screen()
    screen.show(grid(["node", "role", "state", "address", ""], rows))
    for url, reason in silent.items():
        screen.line(f"{url} {reason}", "red")
    screen.line(_summary(health))


def _summary(health: ClusterHealth) -> str:
    parts = [f"{health.leader_id} leads" if health.leader_id else "nobody who answered leads"]
    if health.can_lose is not None:
        parts.append(
            "no majority is well: nothing can be committed"
            if health.can_lose < 0
            else f"can lose {health.can_lose} more"
        )
    if health.changing:
        parts.append("the members change")
    return "; ".join(parts)
