"""A progress bar on standard error: only on a terminal, only for work that takes a while."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

__all__ = ["Bar", "progress_bar"]

PATIENCE_S = 0.4
"""Shorter work shows nothing: a bar that flashes by is noise."""


class Bar:
    """Told how far the work is; shows itself once that is worth it."""

    def __init__(self, what: str, *, in_bytes: bool, visible: bool) -> None:
        self._what = what
        self._in_bytes = in_bytes
        self._visible = visible
        self._show_at = time.monotonic() + PATIENCE_S
        self._progress: Progress | None = None

    def update(self, done: int, total: int) -> None:
        """`done` of `total` is done."""
        if not self._visible:
            return
        if self._progress is None:
            if time.monotonic() < self._show_at:
                return
            self._start(total)
        assert self._progress is not None
        self._progress.update(self._task, completed=min(done, total), total=total)

    def _start(self, total: int) -> None:
        amount: ProgressColumn = (
            DownloadColumn(binary_units=True) if self._in_bytes else MofNCompleteColumn()
        )
        self._progress = Progress(
            TextColumn("{task.description}", style="dim"),
            BarColumn(bar_width=32),
            TaskProgressColumn(),
            amount,
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            redirect_stdout=False,  # what is printed meanwhile goes where it belongs
            transient=True,
        )
        self._task = self._progress.add_task(self._what, total=total)
        self._progress.start()

    def stop(self) -> None:
        """Takes the bar away."""
        if self._progress is not None:
            self._progress.stop()


@contextmanager
def progress_bar(what: str, *, in_bytes: bool = False, quiet: bool = False) -> Iterator[Bar]:
    """A bar for the length of the block.

    Args:
        what: is being done.
        in_bytes: `done` and `total` are bytes.
        quiet: never show it.
    """
    visible = not quiet and sys.stderr is not None and sys.stderr.isatty()
    shown = Bar(what, in_bytes=in_bytes, visible=visible)
    try:
        yield shown
    finally:
        shown.stop()
