"""walstore dump: print entries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import click
from rich.console import Console

from walstore.cli import exits
from walstore.cli.entries import EntryPrinter, PayloadForm
from walstore.cli.options import (
    LSN,
    WholeNumber,
    json_option,
    kind_option,
    log_argument,
    payload_option,
    refuse_raw_json,
    time_option,
)
from walstore.cli.progress import Bar, progress_bar
from walstore.wal.following import LogFollower
from walstore.wal.manager import FileWALManager
from walstore.wal.record import WALEntry

__all__ = ["dump"]

_PROGRESS_EVERY = 4096


@click.command()
@log_argument
@click.option("--from", "from_lsn", type=LSN, metavar="LSN", help="First entry.")
@click.option("--to", "to_lsn", type=LSN, metavar="LSN", help="Last entry.")
@time_option("--since", "Only entries of this time or later.")
@time_option("--until", "Only entries of this time or earlier.")
@kind_option
@click.option("--limit", type=WholeNumber(0), metavar="N", help="Stop after N entries.")
@json_option("One JSON object a line.")
@payload_option
def dump(
    log: str,
    from_lsn: int | None,
    to_lsn: int | None,
    since: int | None,
    until: int | None,
    kind: int | None,
    limit: int | None,
    as_json: bool,
    payload_form: PayloadForm | None,
) -> int:
    """Print entries of a log, in order, each one's checksum verified.

    All limits include what they name. A TIME is ISO 8601 (UTC where it names no zone), or
    relative to now: -90s, -10m, -1h30m, -2d; or 'now', or '@' and seconds since 1970.

    With --json each line has the keys lsn, term, timestamp_ns, time, kind, size and payload. The
    payload is a string where it is UTF-8; where it is not, it is null and payload_base64 carries
    it. --payload json puts JSON payloads in as they are; --payload hex gives payload_hex.

    \b
    Examples:
      walstore dump LOG --from 1000 --limit 20
      walstore dump LOG --since -10m --json | jq .payload
      walstore dump LOG --from 7 --to 7 --payload raw > payload.bin

    \b
    Exit codes:
      0  done                           2  corruption; all before it was printed
      3  not a log                      4  the system refused
      64 an lsn the log does not hold   141 who read the output went away
    """
    if from_lsn is not None and to_lsn is not None and from_lsn > to_lsn:
        raise click.UsageError(f"--from {from_lsn} comes after --to {to_lsn}.")
    refuse_raw_json(as_json, payload_form)
    with closing(FileWALManager(log, read_only=True)) as wal:
        first_lsn, last_lsn = wal.first_lsn, wal.last_lsn
        start = first_lsn if from_lsn is None else from_lsn
        end = last_lsn if to_lsn is None else to_lsn
        printer = EntryPrinter(as_json=as_json, form=payload_form, last_lsn=end)
        ranges = [(start, end)]
        if since is not None or until is not None:
            wal.replay(start, end)  # says whether the log holds the range
            ranges = _ranges(log, start, end, since, until)
        chosen = _chosen(wal, ranges, since, until, kind)
        try:
            with progress_bar("reading", quiet=Console().is_terminal) as bar:
                _print(printer, islice(chosen, limit), bar, start, end)
        finally:
            # What was read before damage was good, and is shown.
            printer.flush()
    return exits.OK


def _print(
    printer: EntryPrinter, entries: Iterator[WALEntry], bar: Bar, start: int, end: int
) -> None:
    for number, entry in enumerate(entries):
        printer.write(entry)
        if number % _PROGRESS_EVERY == 0:
            bar.update(entry.lsn - start, end - start + 1)


def _chosen(
    wal: FileWALManager,
    ranges: list[tuple[int, int]],
    since: int | None,
    until: int | None,
    kind: int | None,
) -> Iterator[WALEntry]:
    for start, end in ranges:
        for entry in wal.replay(start, end):
            if since is not None and entry.timestamp_ns < since:
                continue
            if until is not None and entry.timestamp_ns > until:
                continue
            if kind is not None and entry.kind != kind:
                continue
            yield entry


def _ranges(
    log: str, start: int, end: int, since: int | None, until: int | None
) -> list[tuple[int, int]]:
    """The parts of a range worth reading: without sealed segments that are all before or after.

    The clock may go back, so each segment counts by itself, and each entry is looked at.
    """
    with closing(LogFollower(log)) as view:
        segments = view.segments()
    ranges: list[tuple[int, int]] = []
    for segment in segments:
        last_lsn = end if segment.last_lsn is None else min(segment.last_lsn, end)
        first_lsn = max(segment.first_lsn, start)
        if first_lsn > last_lsn:
            continue
        seal = segment.seal
        if seal and since is not None and seal.timestamp_max < since:
            continue
        if seal and until is not None and seal.timestamp_min > until:
            continue
        ranges.append((first_lsn, last_lsn))
    return ranges
