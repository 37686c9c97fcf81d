"""walstore export: write a collection as JSON lines."""

from __future__ import annotations

import sys

import click
from rich.console import Console

from walstore.cli import exits
from walstore.cli.documents import collection_argument, reading
from walstore.cli.extended_json import to_json
from walstore.cli.options import log_argument
from walstore.cli.progress import progress_bar

__all__ = ["export"]

_BATCH_DOCUMENTS = 512


@click.command()
@log_argument
@collection_argument
def export(log: str, collection: str) -> int:
    """Write a collection as JSON lines.

    They go to standard output, a document a line, sorted by _id. All are of one moment; another
    process may go on writing. What JSON has no type for is written as {"$binary": ...},
    {"$date": ...} and {"$numberDouble": ...}, which 'walstore import' reads.

    \b
    Examples:
      walstore export LOG orders > orders.jsonl
      walstore export LOG orders | walstore import OTHER orders -

    \b
    Exit codes:
      0  done                       2  corruption
      3  not a log                  4  the system refused
      64 no such collection         141 who read the output went away
    """
    with (
        reading(log, collection) as documents,
        progress_bar("exporting", quiet=Console().is_terminal) as bar,
    ):
        total = documents.count_documents({})
        lines: list[str] = []
        for number, document in enumerate(documents.find(sort="_id"), 1):
            lines.append(to_json(document) + "\n")
            if len(lines) == _BATCH_DOCUMENTS:
                sys.stdout.write("".join(lines))
                lines.clear()
                bar.update(number, total)
        sys.stdout.write("".join(lines))
    return exits.OK
