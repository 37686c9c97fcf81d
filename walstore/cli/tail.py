"""walstore tail: print the last entries, and those to come."""

from __future__ import annotations

from contextlib import closing

import click

from walstore.cli import exits
from walstore.cli.entries import EntryPrinter, PayloadForm
from walstore.cli.options import (
    WholeNumber,
    json_option,
    kind_option,
    log_argument,
    payload_option,
    refuse_raw_json,
)
from walstore.wal.manager import FileWALManager

__all__ = ["tail"]

_STEP_ENTRIES = 4096


@click.command()
@log_argument
@click.option("-f", "--follow", is_flag=True, help="Go on with new entries as they come.")
@click.option(
    "-n",
    "--lines",
    type=WholeNumber(0),
    default=10,
    show_default=True,
    metavar="N",
    help="How many of the last entries to print.",
)
@kind_option
@json_option("One JSON object a line, as of 'walstore dump'.")
@payload_option
def tail(
    log: str,
    follow: bool,
    lines: int,
    kind: int | None,
    as_json: bool,
    payload_form: PayloadForm | None,
) -> int:
    """Print the last entries; with -f also those to come.

    Another process may be writing to the log. Only durable entries are shown, each some 20 ms
    after it became so at the latest. -f ends with Ctrl-C, or when who reads the output goes away.

    \b
    Examples:
      walstore tail LOG
      walstore tail -f -n 0 --json LOG | jq .payload

    \b
    Exit codes:
      0  done                     2  corruption
      3  not a log                4  the system refused
      130 ended with Ctrl-C       141 who read the output went away
    """
    refuse_raw_json(as_json, payload_form)
    with closing(FileWALManager(log, read_only=True)) as wal:
        printer = EntryPrinter(as_json=as_json, form=payload_form, last_lsn=wal.last_lsn)
        last_lsn = wal.last_lsn
        start = _start(wal, last_lsn, lines, kind)
        for entry in wal.replay(start, last_lsn) if start <= last_lsn else ():
            if kind is None or entry.kind == kind:
                printer.write(entry)
        printer.flush()
        if follow:
            _follow(wal, printer, last_lsn + 1, kind)
    return exits.OK


def _start(wal: FileWALManager, last_lsn: int, lines: int, kind: int | None) -> int:
    """Where the last `lines` entries (of a kind) start."""
    first_lsn = wal.first_lsn
    if kind is None or lines == 0:
        return max(first_lsn, last_lsn + 1 - lines)
    to_lsn, wanted = last_lsn, lines
    while to_lsn >= first_lsn:
        from_lsn = max(first_lsn, to_lsn + 1 - _STEP_ENTRIES)
        found = [entry.lsn for entry in wal.replay(from_lsn, to_lsn) if entry.kind == kind]
        if len(found) >= wanted:
            return found[-wanted]
        wanted -= len(found)
        to_lsn = from_lsn - 1
    return first_lsn


def _follow(wal: FileWALManager, printer: EntryPrinter, from_lsn: int, kind: int | None) -> None:
    with closing(wal.tail(from_lsn)) as entries:
        for entry in entries:
            if kind is None or entry.kind == kind:
                printer.write(entry)
            if entry.lsn >= wal.last_lsn:  # the next one is not there yet
                printer.flush()
