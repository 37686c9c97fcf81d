"""walstore serve: a node of a replicated log, as a process."""

from __future__ import annotations

import click

from walstore.cli import exits

__all__ = ["serve"]


@click.command()
@click.option(
    "--config", "config_path", metavar="FILE", required=True, help="The node's file, in TOML."
)
def serve(config_path: str) -> int:
    """Run a node of a replicated log until SIGTERM or Ctrl-C.

    FILE says who the node is, where its log lies, and who the others are; docs/cli.md lists all
    keys. When the node serves, one line of JSON on standard output says so, with the keys
    node_id, url, status_url and pid. What happens then is told on standard error.

    \b
    Examples:
      walstore serve --config node.toml
      curl -s http://127.0.0.1:7100/status | jq .role
      curl -s http://127.0.0.1:7100/metrics
      curl -s -H 'X-Walstore: 1' --data-binary @payload http://127.0.0.1:7100/append

    \b
    Exit codes:
      0  ended by a signal, all closed  2  corruption
      4  the system refused, or no peer of a new node answered
      5  another process has the log    64 wrong usage, or FILE makes no sense
    """
    # Only here: the other commands need neither a network nor an endpoint, and start sooner.
    from walstore.cli.node import run_node

    run_node(config_path)
    return exits.OK
