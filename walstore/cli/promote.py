"""walstore promote, walstore demote: who leads."""

from __future__ import annotations

from contextlib import closing

import click

from walstore.cli import exits
from walstore.cli.client import NodeClient, url_argument
from walstore.cli.output import plain

__all__ = ["demote", "promote"]


@click.command()
@url_argument
@click.option(
    "--force", is_flag=True, help="Lead without the others' votes. What only they hold is lost."
)
def promote(url: str, force: bool) -> int:
    """Make a node the leader.

    URL is its status url. A majority of all nodes has to agree, and agrees when its logs are not
    ahead of this node's; the leader before is fenced. The new term is durable when this ends.

    With --force the node leads alone: what only the others hold is lost, and so is what the
    leader before still commits without this node: make sure that it has stopped. Nodes that elect
    refuse it; without it their leader hands over.

    \b
    Examples:
      walstore promote http://127.0.0.1:7101

    \b
    Exit codes:
      0  it leads      4  it does not, and why      64 wrong usage
    """
    with closing(NodeClient(url)) as client:
        found = client.post(f"/promote?force={int(force)}", node_id=str, term=int)
    click.echo(plain(f"{found['node_id']} leads in term {found['term']}"))
    return exits.OK


@click.command()
@url_argument
def demote(url: str) -> int:
    """End a node's leadership.

    URL is its status url. Nobody leads then, until a node is promoted; where nodes elect, another
    one takes over. A node that does not lead stays as it is.

    \b
    Examples:
      walstore demote http://127.0.0.1:7100

    \b
    Exit codes:
      0  it does not lead      4  it cannot be asked      64 wrong usage
    """
    with closing(NodeClient(url)) as client:
        found = client.post("/demote", node_id=str, term=int)
    click.echo(plain(f"{found['node_id']} does not lead; term {found['term']}"))
    return exits.OK
