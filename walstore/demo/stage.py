"""What is seen: what happens, and the table of the nodes."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live

from walstore.cli.output import Screen
from walstore.cli.status import NodeView, is_healthy, status_table
from walstore.demo.documents import DemoError
from walstore.demo.nodes import TIMEOUT_S, Cluster

__all__ = ["LOOK_S", "Stage"]

LOOK_S = 0.1
_TABLE_S = 1.0


class Stage:
    """Notes as things happen, and the table of the nodes, live on a terminal."""

    def __init__(self, console: Console, cluster: Cluster) -> None:
        self.console = console
        self._cluster = cluster
        self._began = time.perf_counter()
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._shown = time.monotonic()

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """While nodes run."""
        with self._live or contextlib.nullcontext():
            yield

    def note(self, text: str) -> None:
        """Says what happens."""
        after_s = time.perf_counter() - self._began
        self.console.print(f"[dim]{after_s:6.2f} s[/dim]  {text}")

    def look(self, *, now: bool = False) -> list[NodeView]:
        """Looks at the nodes, and shows them; in a pipe only now and then."""
        views = self._cluster.look()
        if self._live is not None:
            self._live.update(status_table(views, self.console.width), refresh=True)
        elif now or time.monotonic() - self._shown > _TABLE_S:
            self._shown = time.monotonic()
            screen = Screen()
            screen.show(status_table(views, screen.width))
            sys.stdout.flush()
        return views

    def until_equal(self, what: str) -> None:
        """Waits until all is well, and every node has committed what the leader has."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            views = self._cluster.look()
            statuses = [view.status for view in views if view.status is not None]
            places = {node[f"{at}_lsn"] for node in statuses for at in ("last", "committed")}
            if is_healthy(views) and len(places) == 1:
                self.look(now=True)
                return
            time.sleep(LOOK_S)
        raise DemoError(f"not within {TIMEOUT_S:g} s: {what}")
