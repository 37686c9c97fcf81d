"""walstore diff: are two copies of a log the same?"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import click

from walstore.cli import exits
from walstore.cli.client import (
    NodeClient,
    NodeRefusedError,
    NodeUnreachableError,
    check_fields,
    is_url,
)
from walstore.cli.entries import describe_entry
from walstore.cli.options import json_option
from walstore.cli.output import Screen, complain, count, grid, iso_time, size
from walstore.cli.progress import progress_bar
from walstore.errors import LogAccessError, WALStoreError
from walstore.wal.manager import FileWALManager

__all__ = ["Comparison", "compare", "diff"]

_PROGRESS_EVERY = 4096
_STATUS_FIELDS = {"cluster_id": str, "first_lsn": int, "committed_lsn": int, "durable_lsn": int}
_ENTRY_FIELDS = {
    **dict.fromkeys(("lsn", "term", "timestamp_ns", "kind", "size"), int),
    "xxh3": str,
}


class _Source(Protocol):
    """A log as it is at one moment: its entries may become more, but not others."""

    name: str
    log_id: str
    first_lsn: int
    last_lsn: int

    def entries(self, from_lsn: int, to_lsn: int) -> Iterator[dict[str, Any]]:
        """Entries by their fields and the XXH3 of their payloads."""

    def close(self) -> None:
        """Lets go of it."""


class _Directory:
    """A log's directory."""

    def __init__(self, path: str) -> None:
        self.name = path
        self._log = FileWALManager(path, read_only=True)
        self.log_id = self._log.log_id
        self.first_lsn, self.last_lsn = self._log.first_lsn, self._log.last_lsn

    def entries(self, from_lsn: int, to_lsn: int) -> Iterator[dict[str, Any]]:
        """Read from its files, checksums verified."""
        return map(describe_entry, self._log.replay(from_lsn, to_lsn))

    def close(self) -> None:
        """Closes the log."""
        self._log.close()


class _Node:
    """A node that runs, asked page by page."""

    def __init__(self, url: str) -> None:
        self.name = url
        self._client = NodeClient(url)
        try:
            found = self._client.get("/status", **_STATUS_FIELDS)
        except WALStoreError:
            self._client.close()
            raise
        self.log_id = found["cluster_id"]
        self.first_lsn = found["first_lsn"]
        self.last_lsn = min(found["committed_lsn"], found["durable_lsn"])

    def entries(self, from_lsn: int, to_lsn: int) -> Iterator[dict[str, Any]]:
        """As the node reads them."""
        while from_lsn <= to_lsn:
            path = f"/entries?from={from_lsn}&to={to_lsn}"
            page = self._client.get(path, entries=list)["entries"]
            for lsn, entry in enumerate(page, from_lsn):
                check_fields(self.name, entry, _ENTRY_FIELDS)
                if entry["lsn"] != lsn:
                    raise NodeUnreachableError(f"{self.name} did not give entry {lsn}")
            if not page:
                raise NodeUnreachableError(f"{self.name} did not give entry {from_lsn}")
            yield from page
            from_lsn += len(page)

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came out.

    Attributes:
        verdict: "same"; "prefix": one ends before the other; "differ"; "incomparable".
        from_lsn, to_lsn: the entries that were compared, and are the same (up to the first that
            is not); to_lsn < from_lsn: none.
        shorter: the name of the one that is a prefix.
        lsn, a_entry, b_entry: the first entry that differs, in both.
        reason: why they cannot be compared.
    """

    verdict: Literal["same", "prefix", "differ", "incomparable"]
    from_lsn: int = 0
    to_lsn: int = 0
    shorter: str | None = None
    lsn: int | None = None
    a_entry: dict[str, Any] | None = None
    b_entry: dict[str, Any] | None = None
    reason: str = ""


_CODES = {
    "same": exits.OK,
    "prefix": exits.PREFIX,
    "differ": exits.DIFFERENT,
    "incomparable": exits.INCOMPARABLE,
}


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@json_option("One JSON object instead of text.")
def diff(a: str, b: str, as_json: bool) -> int:
    """Compare two copies of a log, entry by entry.

    A and B are logs' directories, or status urls of nodes that run; of those the entries that are
    committed and durable are compared. Two entries are the same when lsn, term, time, kind and
    XXH3 of the payload are. Where one of the logs begins later, the entries before are left out.

    \b
    Examples:
      walstore diff /var/lib/app/log /backup/log
      walstore diff http://127.0.0.1:7100 http://127.0.0.1:7101

    \b
    Exit codes:
      0  the same       2  they differ: the first such entry is shown
      1  one of them ends before the other, and is the same up to there
      3  they cannot be compared, and why      64 wrong usage
      4  the system, or a node, refused
    """
    for name in (a, b):
        _check_name(name)
    try:
        with closing(_source(a)) as one, closing(_source(b)) as other:
            found = compare(one, other)
    except (LogAccessError, NodeRefusedError, NodeUnreachableError):
        raise  # this says nothing of the logs
    except WALStoreError as error:
        complain(str(error), error.hint)
        return exits.INCOMPARABLE
    if as_json:
        click.echo(json.dumps({"a": a, "b": b, **asdict(found)}))
    else:
        _show(Screen(), a, b, found)
    return _CODES[found.verdict]


def _check_name(name: str) -> None:
    if not name:
        raise click.UsageError("the name of a log is empty")
    try:
        if is_url(name):
            NodeClient(name)
    except ValueError:
        raise click.UsageError(f"{name!r} is no status url") from None


def _source(name: str) -> _Source:
    return _Node(name) if is_url(name) else _Directory(os.path.abspath(name))


def compare(a: _Source, b: _Source) -> Comparison:
    """Up to the first entry that differs, or the end of one of them.

    Raises:
        CorruptLogError: damaged bytes were reached before.
        NodeUnreachableError, NodeRefusedError: of a node.
        Other errors: as FileWALManager.replay.
    """
    if a.log_id != b.log_id:
        return Comparison(
            "incomparable", reason=f"they are two logs: their ids are {a.log_id} and {b.log_id}"
        )
    start, end = max(a.first_lsn, b.first_lsn), min(a.last_lsn, b.last_lsn)
    if end < start - 1:
        return Comparison(
            "incomparable",
            reason=f"one ends at lsn {end}, and the other begins at {start}: they have no entry "
            "in common",
        )
    with progress_bar("comparing") as bar:
        pairs = zip(a.entries(start, end), b.entries(start, end), strict=True)
        for number, (one, other) in enumerate(pairs if start <= end else ()):
            if one != other:
                return Comparison(
                    "differ", start, one["lsn"] - 1, lsn=one["lsn"], a_entry=one, b_entry=other
                )
            if number % _PROGRESS_EVERY == 0:
                bar.update(number, end - start + 1)
    if a.last_lsn == b.last_lsn:
        return Comparison("same", start, end)
    return Comparison("prefix", start, end, (a if a.last_lsn == end else b).name)


def _show(screen: Screen, a: str, b: str, found: Comparison) -> None:
    held = f"{count(found.to_lsn - found.from_lsn + 1)} entries, lsn {count(found.from_lsn)} to "
    held += count(found.to_lsn)
    if found.to_lsn < found.from_lsn:
        held = "no entry"
    if found.verdict == "same":
        screen.line(f"same: {held}", "green")
    elif found.verdict == "prefix":
        screen.line(f"prefix: {found.shorter} ends before the other; same: {held}", "yellow")
    elif found.verdict == "incomparable":
        screen.line(f"cannot be compared: {found.reason}", "red")
    else:
        assert found.a_entry is not None
        assert found.b_entry is not None
        screen.line(f"differ at lsn {found.lsn}; same before: {held}", "red")
        rows = [
            [name, str(e["term"]), iso_time(e["timestamp_ns"]), str(e["kind"]), size(e["size"])]
            for name, e in ((a, found.a_entry), (b, found.b_entry))
        ]
        sums = [found.a_entry["xxh3"], found.b_entry["xxh3"]]
        heads = ["log", ">term", "time (UTC)", ">kind", ">size", "XXH3 of the payload"]
        screen.show(grid(heads, [[*row, xxh3] for row, xxh3 in zip(rows, sums, strict=True)]))
