"""The command."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import click

from walstore import WALStoreError
from walstore.demo.documents import DemoError
from walstore.demo.story import run

__all__ = ["main"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--documents", type=click.IntRange(min=100), help="Append only so many documents.")
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Keep the logs in this new directory."
)
def main(documents: int | None, keep: Path | None) -> None:
    """Replicates a real data set to three nodes, kills their leader, and compares the logs."""
    try:
        if keep is not None:
            keep.mkdir(parents=True)
        base = keep or Path(tempfile.mkdtemp(prefix="walstore-demo-", dir=_real_disk()))
        try:
            run(base, documents)
        finally:
            if keep is None:
                shutil.rmtree(base)
    except FileExistsError:
        _complain(f"{keep} exists already")
    except (DemoError, WALStoreError, OSError) as error:
        _complain(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _complain(reason: str) -> NoReturn:
    click.echo(f"walstore.demo: {reason}", err=True)
    sys.exit(1)


def _real_disk() -> str | None:
    """A place for the logs that is not in memory, as /tmp often is: a sync must mean something."""
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else None
