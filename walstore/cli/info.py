"""walstore info: what is in a log, and is it healthy?"""

from __future__ import annotations

import json
import os
import shlex
from contextlib import closing
from dataclasses import asdict, dataclass

import click
from rich.text import Text

from walstore.cli import exits
from walstore.cli.node_files import meaning_of
from walstore.cli.options import json_option, log_argument
from walstore.cli.output import Screen, count, facts, grid, iso_time, plain, short_time, size
from walstore.errors import WALStoreError
from walstore.wal.diverged import is_branch
from walstore.wal.following import LogFollower
from walstore.wal.layout import Layout, Segment
from walstore.wal.manager import FileWALManager
from walstore.wal.meta import FORMAT_VERSION, Meta
from walstore.wal.reading import verify_segment
from walstore.wal.recovery import Cut
from walstore.wal.report import file_sizes

__all__ = ["info"]

_SEGMENTS_SHOWN = 24
_NARROW_COLUMNS = 112
_FOREVER = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class _Row:
    """A segment. Times are those of all that is in its file, and None where nothing is."""

    id: str
    file: str
    first_lsn: int
    last_lsn: int
    sealed: bool
    tail: bool
    file_bytes: int
    entries: int
    time_min_ns: int | None
    time_max_ns: int | None


@dataclass(frozen=True, slots=True)
class _Branch:
    """Entries that lost against another leader's, kept as a log of their own. The lsns are None
    where it cannot be read; `error` says why."""

    name: str
    bytes: int
    first_lsn: int | None
    last_lsn: int | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Facts:
    """All that is shown."""

    path: str
    meta: Meta
    first_lsn: int
    last_lsn: int
    writer_running: bool
    rows: list[_Row]
    cut: Cut | None
    tail_path: str
    sizes: dict[str, int]
    layout: Layout
    branches: list[_Branch]

    @property
    def strays(self) -> tuple[str, ...]:
        """Files that are nobody's."""
        known = {*(branch.name for branch in self.branches), *self.node_files}
        return tuple(name for name in self.layout.strays if name not in known)

    @property
    def node_files(self) -> dict[str, str]:
        """Files of the node that the log is on, and what they are."""
        meanings = {name: meaning_of(name) for name in self.layout.strays}
        return {name: meaning for name, meaning in meanings.items() if meaning is not None}

    @property
    def entries(self) -> int:
        return self.last_lsn - self.first_lsn + 1

    @property
    def disk_bytes(self) -> int:
        return sum(self.sizes.values())


@click.command()
@log_argument
@json_option("One JSON object instead of text.")
def info(log: str, as_json: bool) -> int:
    """Show what a log holds and how it is.

    That is its identity and format, the entries it holds, its segments with their lsns, sizes
    and times, whether it was closed cleanly or a writer has it open, a torn tail and what to do
    about it, and every other file in its directory. The last segment is
    scanned, and any other without a seal; of the rest the seals are read, 8 KiB of each.
    'walstore verify' checks all.

    \b
    Examples:
      walstore info LOG
      walstore info --json LOG | jq .last_lsn

    \b
    Exit codes:
      0  done (also with a torn tail)   2  corruption
      3  not a log                      4  the system refused
    """
    found = _gather(log)
    if as_json:
        click.echo(json.dumps(_as_json(found)))
    else:
        _show(Screen(), found)
    return exits.OK


# ---- gathering ----


def _gather(log: str) -> _Facts:
    with closing(LogFollower(log)) as view:
        sizes = file_sizes(log)
        first_lsn, last_lsn = view.bounds()
        segments = view.segments()
        rows = [
            row
            for row in (_row(view, segment, sizes, first_lsn, last_lsn) for segment in segments)
            if row
        ]
        return _Facts(
            path=log,
            meta=view.meta,
            first_lsn=first_lsn,
            last_lsn=last_lsn,
            writer_running=view.writer_running,
            rows=rows,
            cut=view.cut,
            tail_path=segments[-1].path,
            sizes=sizes,
            layout=view.layout,
            branches=[_branch(log, name) for name in sorted(sizes) if is_branch(name)],
        )


def _branch(log: str, name: str) -> _Branch:
    path = os.path.join(log, name)
    try:
        with closing(FileWALManager(path, read_only=True)) as kept:
            held = sum(file_sizes(path).values())
            return _Branch(name, held, kept.first_lsn, kept.last_lsn)
    except WALStoreError as error:
        return _Branch(name, 0, None, None, str(error))


def _row(
    view: LogFollower, segment: Segment, sizes: dict[str, int], first_lsn: int, last_lsn: int
) -> _Row | None:
    """None: the segment was truncated away meanwhile."""
    name = os.path.basename(segment.path)
    from_lsn = max(segment.first_lsn, first_lsn)
    to_lsn = last_lsn if segment.last_lsn is None else min(segment.last_lsn, last_lsn)
    seal = segment.seal
    if seal and seal.last_lsn == segment.last_lsn:
        times = seal.timestamp_min, seal.timestamp_max
    else:
        try:
            state = verify_segment(view, segment, to_lsn)[0].state
        except FileNotFoundError:
            return None
        times = state.timestamp_min, state.timestamp_max
    none = times[0] == _FOREVER
    return _Row(
        id=f"{segment.header.segment_id:08x}",
        file=name,
        first_lsn=from_lsn,
        last_lsn=to_lsn,
        sealed=seal is not None,
        tail=segment.last_lsn is None,
        file_bytes=sizes.get(name, 0),
        entries=max(to_lsn - from_lsn + 1, 0),
        time_min_ns=None if none else times[0],
        time_max_ns=None if none else times[1],
    )


# ---- telling ----


def _repair_command(log: str) -> str:
    return f"walstore repair {plain(shlex.quote(log))}"


def _as_json(found: _Facts) -> dict[str, object]:
    cut, layout = found.cut, found.layout
    torn = cut and {
        "path": found.tail_path,
        "offset": cut.at,
        "bytes": cut.end_at - cut.at,
        "lsn": cut.lsn,
        "reason": cut.reason,
        "next": _repair_command(found.path),
    }
    return {
        "path": found.path,
        "log_id": found.meta.log_id.hex(),
        "format_version": FORMAT_VERSION,
        "term": found.meta.term,
        "first_lsn": found.first_lsn,
        "last_lsn": found.last_lsn,
        "durable_lsn": found.last_lsn,
        "entries": found.entries,
        "writer_running": found.writer_running,
        "closed_cleanly": found.meta.clean,
        "torn_tail": torn,
        "disk_bytes": found.disk_bytes,
        "segments": [_row_json(row) for row in found.rows],
        "cut_files": _sized(found, layout.cuts),
        "spare_files": _sized(found, layout.spares),
        "leftover_files": _sized(found, layout.leftovers),
        "node_files": _sized(found, tuple(found.node_files)),
        "stray_files": _sized(found, found.strays),
        "diverged": [asdict(branch) for branch in found.branches],
    }


def _row_json(row: _Row) -> dict[str, object]:
    values = asdict(row)
    for end in ("min", "max"):
        at = values[f"time_{end}_ns"]
        values[f"time_{end}"] = None if at is None else iso_time(at)
    return values


def _sized(found: _Facts, names: tuple[str, ...]) -> list[dict[str, object]]:
    return [{"name": name, "bytes": found.sizes.get(name, 0)} for name in names]


def _state(found: _Facts) -> Text:
    if found.writer_running:
        return Text("open in a writer", style="green")
    if found.cut:
        return Text("a torn tail follows the last entry (see below)", style="yellow")
    if found.meta.clean:
        return Text("closed cleanly", style="green")
    return Text("not closed: its writer ended without close()", style="yellow")


def _show(screen: Screen, found: _Facts) -> None:
    lsns = (
        f"{count(found.entries)}, lsn {count(found.first_lsn)} to {count(found.last_lsn)}, "
        "all durable"
        if found.entries
        else f"none; the next one gets lsn {count(found.first_lsn)}"
    )
    screen.line(found.path, "bold")
    screen.show(
        facts(
            [
                ("state", _state(found)),
                ("entries", lsns),
                ("term", str(found.meta.term)),
                ("on disk", f"{size(found.disk_bytes)} in {count(len(found.sizes))} files"),
                ("log id", found.meta.log_id.hex()),
                ("format", f"version {FORMAT_VERSION}"),
            ]
        )
    )
    _show_segments(screen, found)
    if found.cut:
        _show_cut(screen, found, found.cut)
    _show_branches(screen, found)
    _show_other_files(screen, found)


def _show_segments(screen: Screen, found: _Facts) -> None:
    rows = found.rows
    screen.title(f"{count(len(rows))} segments" if len(rows) > 1 else "1 segment")
    hidden = len(rows) - _SEGMENTS_SHOWN if screen.terminal else 0
    half = _SEGMENTS_SHOWN // 2
    shown = [*rows[:half], *rows[-half:]] if hidden > 0 else rows
    narrow = screen.width < _NARROW_COLUMNS
    cells: list[list[str | Text]] = []
    for number, row in enumerate(shown):
        if hidden > 0 and number == half:
            cells.append([f"{hidden} more", *("…" for _ in range(6 if narrow else 7))])
        lsns = [str(row.first_lsn), str(row.last_lsn)] if row.entries else ["", ""]
        state = "open" if row.tail else "sealed" if row.sealed else "not sealed"
        times = [
            "" if at is None or not row.entries else short_time(at)
            for at in (row.time_min_ns, row.time_max_ns)
        ]
        if narrow:
            times = [times[1][:19]]
        cells.append([row.id, *lsns, count(row.entries), size(row.file_bytes), state, *times])
    heads = ["id", ">first lsn", ">last lsn", ">entries", ">size", "state"]
    heads += ["until (UTC)"] if narrow else ["from (UTC)", "to (UTC)"]
    screen.show(grid(heads, cells))


def _show_cut(screen: Screen, found: _Facts, cut: Cut) -> None:
    screen.title("torn tail")
    screen.show(
        facts(
            [
                ("file", found.tail_path),
                ("offset", f"{cut.at}, {count(cut.end_at - cut.at)} bytes"),
                ("why", f"at lsn {cut.lsn}, {cut.reason}"),
                ("means", "the beginning of an append; nothing shows that it had been durable"),
                ("next", f"'{_repair_command(found.path)}', or open the log to write"),
            ]
        )
    )


def _show_branches(screen: Screen, found: _Facts) -> None:
    if not found.branches:
        return
    screen.title("entries that lost against another leader's, each a log of its own")
    rows: list[list[str | Text]] = [
        [branch.name, "", "", "", branch.error]
        if branch.first_lsn is None or branch.last_lsn is None
        else [
            branch.name,
            str(branch.first_lsn),
            str(branch.last_lsn),
            size(branch.bytes),
            "see 'walstore dump'; may be removed",
        ]
        for branch in found.branches
    ]
    screen.show(grid(["directory", ">first lsn", ">last lsn", ">size", ""], rows))


def _show_other_files(screen: Screen, found: _Facts) -> None:
    layout = found.layout
    kinds = [
        (layout.cuts, "kept from a torn tail; may be removed"),
        (layout.spares, "space for the next segment"),
        (layout.leftovers, "left by a change that was cut short; the next writer removes it"),
        (found.strays, "not the log's; ignored"),
    ]
    meanings = found.node_files | {name: meaning for names, meaning in kinds for name in names}
    rows: list[list[str | Text]] = [
        [name, size(found.sizes.get(name, 0)), meaning] for name, meaning in meanings.items()
    ]
    if rows:
        screen.title("other files")
        screen.show(grid(["name", ">size", "what it is"], rows))
