"""walstore stats: sizes, rates and distributions of what a log holds."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import click
from rich.text import Text

from walstore.cli import exits
from walstore.cli.options import json_option, log_argument
from walstore.cli.output import Screen, bar, count, facts, grid, iso_time, short_time, size
from walstore.cli.progress import Bar, progress_bar
from walstore.wal.manager import FileWALManager
from walstore.wal.report import LogStats

__all__ = ["Summary", "Timeline", "stats"]

_SECOND_NS = 1_000_000_000
_SPANS_MAX = 2048
_SPANS_SHOWN = 12
_SPANS_JSON = 60
_GROUPS_SHOWN = 12
_BAR_CELLS = 24
_PROGRESS_EVERY = 8192


class Timeline:
    """Entries and bytes by time, in a bounded number of spans of equal, growing length."""

    def __init__(self, spans_max: int = _SPANS_MAX) -> None:
        self.span_ns = _SECOND_NS // 1000
        self.entries: Counter[int] = Counter()
        self.bytes: Counter[int] = Counter()
        self._spans_max = spans_max

    def add(self, timestamp_ns: int, size_bytes: int) -> None:
        """Counts an entry."""
        span = timestamp_ns // self.span_ns
        self.entries[span] += 1
        self.bytes[span] += size_bytes
        if len(self.entries) > self._spans_max:
            self._double()

    def _double(self) -> None:
        self.span_ns *= 2
        for counts in (self.entries, self.bytes):
            merged: Counter[int] = Counter()
            for span, number in counts.items():
                merged[span // 2] += number
            counts.clear()
            counts.update(merged)

    def spans(self, spans_max: int) -> list[tuple[int, int, int]]:
        """(start in ns, entries, bytes) of consecutive spans, at most so many, the empty ones
        between included. Makes the spans longer where needed."""
        if not self.entries:
            return []
        while max(self.entries) - min(self.entries) >= spans_max:
            self._double()
        return [
            (span * self.span_ns, self.entries[span], self.bytes[span])
            for span in range(min(self.entries), max(self.entries) + 1)
        ]


@dataclass
class Summary:
    """What was counted."""

    entries: int = 0
    payload_bytes: int = 0
    smallest: int = 0
    largest: int = 0
    time_min_ns: int = 0
    time_max_ns: int = 0
    sizes: Counter[int] = field(default_factory=Counter)
    """By number of bits of the payload's size."""
    kinds: Counter[int] = field(default_factory=Counter)
    kind_bytes: Counter[int] = field(default_factory=Counter)
    terms: Counter[int] = field(default_factory=Counter)
    term_bytes: Counter[int] = field(default_factory=Counter)
    timeline: Timeline = field(default_factory=Timeline)

    @property
    def seconds(self) -> float:
        """From the earliest entry to the latest."""
        return (self.time_max_ns - self.time_min_ns) / _SECOND_NS

    @property
    def mean(self) -> float:
        """Size of the average payload in bytes."""
        return self.payload_bytes / self.entries if self.entries else 0.0


@click.command()
@log_argument
@json_option("One JSON object instead of text.")
def stats(log: str, as_json: bool) -> int:
    """Show sizes, rates over time, kinds and terms.

    Every entry is read, and its checksum verified. While a writer runs, the entries that are
    there when the command starts are counted.

    \b
    Examples:
      walstore stats LOG
      walstore stats --json LOG | jq .kinds

    \b
    Exit codes:
      0  done            2  corruption
      3  not a log       4  the system refused
    """
    with closing(FileWALManager(log, read_only=True)) as wal:
        sizes = wal.stats()
        with progress_bar("counting") as shown:
            summary = _count(wal, shown)
    if as_json:
        click.echo(json.dumps(_as_json(log, sizes, summary)))
    else:
        _show(Screen(), log, sizes, summary)
    return exits.OK


def _count(wal: FileWALManager, shown: Bar) -> Summary:
    summary = Summary()
    first_lsn, last_lsn = wal.first_lsn, wal.last_lsn
    if last_lsn < first_lsn:
        return summary
    smallest, largest, time_min, time_max = 1 << 63, 0, 1 << 64, 0
    for entry in wal.replay(first_lsn, last_lsn):
        lsn, term, timestamp_ns, kind, payload = entry
        length = len(payload)
        summary.entries += 1
        summary.payload_bytes += length
        summary.sizes[length.bit_length()] += 1
        summary.kinds[kind] += 1
        summary.kind_bytes[kind] += length
        summary.terms[term] += 1
        summary.term_bytes[term] += length
        summary.timeline.add(timestamp_ns, length)
        smallest, largest = min(smallest, length), max(largest, length)
        time_min, time_max = min(time_min, timestamp_ns), max(time_max, timestamp_ns)
        if lsn % _PROGRESS_EVERY == 0:
            shown.update(lsn - first_lsn, last_lsn - first_lsn + 1)
    summary.smallest, summary.largest = smallest, largest
    summary.time_min_ns, summary.time_max_ns = time_min, time_max
    return summary


# ---- telling ----


def _size_range(bits: int) -> tuple[int, int]:
    """The sizes with so many bits: from, to (included)."""
    return (1 << bits >> 1, (1 << bits) - 1)


def _histogram(summary: Summary) -> list[tuple[int, int, int]]:
    """(from, to, entries) for every power of two between the smallest and the largest."""
    if not summary.sizes:
        return []
    bits = range(min(summary.sizes), max(summary.sizes) + 1)
    return [(*_size_range(n), summary.sizes[n]) for n in bits]


def _groups(name: str, entries: Counter[int], sizes: Counter[int]) -> list[dict[str, int]]:
    return [
        {name: key, "entries": entries[key], "payload_bytes": sizes[key]} for key in sorted(entries)
    ]


def _as_json(log: str, sizes: LogStats, summary: Summary) -> dict[str, Any]:
    held = summary.entries > 0
    seconds = summary.seconds
    spans = summary.timeline.spans(_SPANS_JSON)
    return {
        "path": log,
        "first_lsn": sizes.first_lsn,
        "last_lsn": sizes.last_lsn,
        "term": sizes.term,
        "segments": sizes.segments,
        "disk_bytes": sizes.disk_bytes,
        "entries": summary.entries,
        "payload_bytes": summary.payload_bytes,
        "payload_min": summary.smallest if held else None,
        "payload_mean": summary.mean if held else None,
        "payload_max": summary.largest if held else None,
        "time_min": iso_time(summary.time_min_ns) if held else None,
        "time_max": iso_time(summary.time_max_ns) if held else None,
        "seconds": seconds,
        "entries_per_second": summary.entries / seconds if seconds else None,
        "bytes_per_second": summary.payload_bytes / seconds if seconds else None,
        "payload_sizes": [
            {"from": low, "to": high, "entries": number}
            for low, high, number in _histogram(summary)
        ],
        "span_seconds": summary.timeline.span_ns / _SECOND_NS,
        "timeline": [
            {"time": iso_time(at), "entries": number, "payload_bytes": total}
            for at, number, total in spans
        ],
        "kinds": _groups("kind", summary.kinds, summary.kind_bytes),
        "terms": _groups("term", summary.terms, summary.term_bytes),
    }


def _show(screen: Screen, log: str, sizes: LogStats, summary: Summary) -> None:
    screen.line(log, "bold")
    if not summary.entries:
        screen.line(f"no entries; {_on_disk(sizes)} on disk")
        return
    overhead = sizes.disk_bytes / summary.payload_bytes if summary.payload_bytes else 0
    pairs: list[tuple[str, str | Text]] = [
        (
            "entries",
            f"{count(summary.entries)}, lsn {count(sizes.first_lsn)} to {count(sizes.last_lsn)}",
        ),
        (
            "payload",
            f"{size(summary.payload_bytes)}; smallest {size(summary.smallest)}, "
            f"average {size(summary.mean)}, largest {size(summary.largest)}",
        ),
        (
            "on disk",
            _on_disk(sizes) + (f", {overhead:.2f} times the payload" if overhead else ""),
        ),
        ("written", f"{short_time(summary.time_min_ns)} to {short_time(summary.time_max_ns)}"),
    ]
    if summary.seconds:
        rate = summary.entries / summary.seconds
        pairs.append(
            ("rate", f"{_rate(rate)}/s, {size(summary.payload_bytes / summary.seconds)}/s")
        )
    screen.show(facts(pairs))
    _show_timeline(screen, summary)
    _show_sizes(screen, summary)
    _show_groups(screen, "kind", summary.kinds, summary.kind_bytes)
    _show_groups(screen, "term", summary.terms, summary.term_bytes)


def _on_disk(sizes: LogStats) -> str:
    segments = "segment" if sizes.segments == 1 else "segments"
    return f"{size(sizes.disk_bytes)} in {count(sizes.segments)} {segments}"


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def _bar(screen: Screen, value: float, largest: float) -> Text:
    return Text(bar(value, largest, _BAR_CELLS, rich=screen.terminal), style="cyan")


def _show_timeline(screen: Screen, summary: Summary) -> None:
    spans = summary.timeline.spans(_SPANS_SHOWN)
    if len(spans) < 2:
        return
    seconds = summary.timeline.span_ns / _SECOND_NS
    largest = max(number for _, number, _ in spans)
    screen.title("over time")
    rows: list[list[str | Text]] = [
        [
            short_time(at),
            count(number),
            f"{_rate(number / seconds)}/s",
            f"{size(total / seconds)}/s",
            _bar(screen, number, largest),
        ]
        for at, number, total in spans
    ]
    screen.show(grid(["from (UTC)", ">entries", ">rate", ">payload", ""], rows))


def _show_sizes(screen: Screen, summary: Summary) -> None:
    histogram = _histogram(summary)
    largest = max(number for _, _, number in histogram)
    screen.title("payload sizes")
    rows: list[list[str | Text]] = [
        [
            size(low),
            size(high),
            count(number),
            f"{100 * number / summary.entries:.1f}%",
            _bar(screen, number, largest),
        ]
        for low, high, number in histogram
    ]
    screen.show(grid([">from", ">to", ">entries", ">share", ""], rows))


def _show_groups(screen: Screen, name: str, entries: Counter[int], sizes: Counter[int]) -> None:
    """The largest groups, in the order of their numbers."""
    shown = sorted(key for key, _ in entries.most_common(_GROUPS_SHOWN))
    screen.title(f"{count(len(entries))} {name}s" if len(entries) > 1 else f"1 {name}")
    largest = max(entries.values())
    rows: list[list[str | Text]] = [
        [
            str(key),
            count(entries[key]),
            size(sizes[key]),
            f"{100 * entries[key] / entries.total():.1f}%",
            _bar(screen, entries[key], largest),
        ]
        for key in shown
    ]
    screen.show(grid([f">{name}", ">entries", ">payload", ">share", ""], rows))
    if len(entries) > len(shown):
        screen.line(f"and {count(len(entries) - len(shown))} smaller ones", "dim")
