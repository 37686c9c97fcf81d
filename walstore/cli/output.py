"""How things look: calm on a terminal, plain in a pipe, and never an escape sequence of a log's."""

from __future__ import annotations

import contextlib
import sys
import time
from functools import lru_cache

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = [
    "Screen",
    "bar",
    "complain",
    "count",
    "facts",
    "grid",
    "iso_time",
    "plain",
    "remark",
    "short_time",
    "size",
]

_PIPE_WIDTH = 10_000
_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def plain(text: str) -> str:
    """The text with everything that a terminal would act on, or cannot show, escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def complain(message: str, hint: str = "") -> None:
    """One clear sentence on stderr, and what to do next."""
    remark(f"{click.style('walstore:', fg='red', bold=True)} {plain(message)}")
    if hint:
        remark(f"{click.style('  hint:', fg='cyan')} {plain(hint)}")


def remark(line: str) -> None:
    """A line on stderr. Where that takes none, the exit code has to say it."""
    with contextlib.suppress(OSError):
        click.echo(line, err=True)


@lru_cache(maxsize=256)
def _seconds_text(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def iso_time(timestamp_ns: int) -> str:
    """ISO 8601 in UTC, to the nanosecond."""
    seconds, rest = divmod(timestamp_ns, 1_000_000_000)
    return f"{_seconds_text(seconds)}.{rest:09d}Z"


def short_time(timestamp_ns: int) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    seconds, rest = divmod(timestamp_ns, 1_000_000_000)
    return f"{_seconds_text(seconds)}.{rest // 1_000_000:03d}Z"


def count(number: int) -> str:
    """A number that can be read at a glance."""
    return f"{number:,}"


def size(size_bytes: float) -> str:
    """A size in bytes that can be read at a glance."""
    if size_bytes < 1024:
        return f"{size_bytes:.0f} B"
    for unit in _UNITS:
        size_bytes /= 1024
        if size_bytes < 1024 or unit == _UNITS[-1]:
            break
    return f"{size_bytes:.1f} {unit}"


def bar(value: float, largest: float, cells: int, *, rich: bool) -> str:
    """A horizontal bar, ASCII in a pipe."""
    if largest <= 0 or value <= 0:
        return ""
    eighths = max(1, round(value / largest * cells * 8))
    if not rich:
        return "#" * max(1, eighths // 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


class Screen:
    """Standard output, for everything but entries."""

    def __init__(self) -> None:
        console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
        self.terminal = console.is_terminal
        if not self.terminal:
            console = Console(
                file=sys.stdout,
                highlight=False,
                markup=False,
                emoji=False,
                color_system=None,
                width=_PIPE_WIDTH,
            )
        self._console = console
        self.width = console.width

    def show(self, item: RenderableType) -> None:
        """Prints something of rich's."""
        if self.terminal:
            self._console.print(item)
            return
        with self._console.capture() as captured:
            self._console.print(item)
        lines = captured.get().splitlines()
        sys.stdout.write("".join(line.rstrip() + "\n" for line in lines))

    def line(self, text: str = "", style: str = "") -> None:
        """Prints a line of text."""
        self.show(Text(plain(text), style=style))

    def title(self, text: str) -> None:
        """Prints the head of a part."""
        self.line()
        self.line(text, "bold")


def facts(pairs: list[tuple[str, str | Text]]) -> Table:
    """Names and what they are, in two columns."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(plain(name), Text(plain(value)) if isinstance(value, str) else value)
    return table


def grid(columns: list[str], rows: list[list[str | Text]]) -> Table:
    """A table without lines. A column whose head starts with '>' is aligned to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        right = column.startswith(">")
        table.add_column(
            column.removeprefix(">"), justify="right" if right else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(plain(cell)) if isinstance(cell, str) else cell for cell in row))
    return table
