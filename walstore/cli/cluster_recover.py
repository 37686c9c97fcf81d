"""walstore cluster recover: a new cluster from a survivor of one that has lost its quorum."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.text import Text

from walstore.cli import exits
from walstore.cli.output import Screen, facts
from walstore.cluster import Survivor, inspect_survivor, make_cluster
from walstore.cluster.machine_carrying import carry_machine
from walstore.cluster.recovery import check_others
from walstore.docstore.carrying import carry_documents
from walstore.errors import OptionError

__all__ = ["recover"]


@click.command()
@click.argument("path", metavar="DIR")
@click.option("--node", "node_id", metavar="ID", help="Who votes alone in the new cluster.")
@click.option("--into", metavar="NEW", help="The new cluster's log; a directory that is not there.")
@click.option(
    "--survivor", "others", metavar="DIR", multiple=True,
    help="The log of another survivor, which must not have more; once for each.",
)  # fmt: skip
@click.option(
    "--accept-loss", is_flag=True,
    help="Do it. What only nodes have that are gone is lost, and the old cluster is over.",
)  # fmt: skip
def recover(
    path: str, node_id: str | None, into: str | None, others: tuple[str, ...], accept_loss: bool
) -> int:
    """Begin a new cluster with the log of a survivor, when a majority is gone for good.

    DIR is the log of a node that was stopped. Without more, it is said what it holds: compare the
    survivors, and take the one with the highest last term, and of those the highest last lsn. With
    --node, --into and --accept-loss its entries are copied into NEW, under another cluster id and
    with one entry more, by which that node votes alone. DIR stays as it is. Nodes of the old
    cluster are refused by the new one: start others in empty directories, and add them.

    \b
    Examples:
      walstore cluster recover /var/lib/app/log
      walstore cluster recover /var/lib/app/log --node a --into /var/lib/app/log2 --accept-loss

    \b
    Exit codes:
      0  the new cluster's log is there    1  nothing was done: say --accept-loss
      2  corruption                        3  not a log
      4  another survivor has more, a log differs from those of the others, a snapshot that is
         needed is not whole, NEW is there, or the nodes do not elect
      5  the node still runs               64 wrong usage
    """
    if (node_id is None) != (into is None) or (accept_loss and into is None):
        raise OptionError("--node, --into and --accept-loss go together")
    check_others(path, others)
    screen = Screen()
    survivors = [*map(inspect_survivor, (path, *others))]
    if not accept_loss or node_id is None or into is None:
        for survivor in survivors:
            _tell(screen, survivor)
        _tell_lost(screen, survivors)
        if into is not None:
            screen.line()
            screen.line(
                f"with --accept-loss: these entries go to {into}, under another cluster id, and "
                f"{node_id} votes alone"
            )
            screen.line("what only other nodes have is lost; stop all nodes of the old cluster")
        return exits.DEGRADED
    made = make_cluster(path, into, node_id, others=others, carry=(carry_machine, carry_documents))
    _tell(screen, made)
    _tell_lost(screen, survivors)
    screen.line()
    screen.line(f"name {into} as the path in the file of {node_id}, start it, and add others")
    return exits.OK


def _tell_lost(screen: Screen, survivors: Sequence[Survivor]) -> None:
    """What damage took of one, and no other has."""
    most = max(survivor.place for survivor in survivors)
    for survivor in survivors:
        lost = survivor.lost_to
        if lost is not None and lost > most:
            screen.line(
                f"{survivor.path} was damaged: it had entries up to lsn {lost.lsn}, term "
                f"{lost.term}, which no log named here has; they may have been acknowledged",
                "red",
            )


def _tell(screen: Screen, survivor: Survivor) -> None:
    claim, differing = survivor.claim, survivor.quarantined
    lines: list[tuple[str, str | Text]] = [
        ("log", survivor.path),
        ("cluster id", survivor.log_id),
        (
            "entries",
            f"{survivor.first_lsn} to {survivor.last_lsn}, "
            f"at least {survivor.committed_lsn} committed",
        ),
        ("last term", str(survivor.last_term)),
        ("current term", str(survivor.term)),
        ("voters", ", ".join(survivor.voters)),
        ("learners", ", ".join(survivor.learners)),
    ]
    if claim is not None:
        lines.append(("damaged", f"it had entries up to lsn {claim.lsn}, term {claim.term}"))
    if differing is not None:
        lines.append(("differs", f"entries {differing[0]} to {differing[1]}: not to be used"))
    screen.show(facts(lines))
