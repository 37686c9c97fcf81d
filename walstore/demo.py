"""The main job, end to end: `python -m walstore.demo`.

Three nodes of a replicated log, each a process of `walstore serve`. Real JSON documents are
appended through the leader, each acknowledged when it is durable on two of the three. A follower
is killed with SIGKILL meanwhile, started again on what it left behind, and catches up; then another
node is made the leader, and the last documents are appended there. At the end `walstore diff`
proves that the three logs are the same, and every acknowledged document is looked up at its lsn.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from walstore import FileWALManager, WALStoreError
from walstore.cli.client import NodeClient
from walstore.cli.output import Screen
from walstore.cli.status import NodeView, is_healthy, look, status_table

__all__ = ["main"]

_DATA_SETS = (  # kind of the entries, file, and the key of the documents in it
    (1, "iso639-3.json", "639-3"),
    (2, "iso3166-1.json", "3166-1"),
    (3, "iso3166-2.json", "3166-2"),
)
_LEADER, _NEXT_LEADER, _VICTIM = _NODES = ("a", "b", "c")
_WRITERS = 32
_FIRST_S, _LAST_S = 3.5, 1.0
"""How long documents are appended at most, before and after the change of leaders: a slow disk
gets fewer of them."""
_KILL_SHARE, _PROMOTE_SHARE = 0.2, 0.8
_TIMEOUT_S = 15.0
_LOOK_S = 0.1
_TABLE_S = 1.0


class DemoError(Exception):
    """The demo cannot go on; says why in one sentence."""


# ---- the data ----


def load_documents(limit: int | None = None) -> list[tuple[int, bytes]]:
    """The documents as (kind, JSON): every language, country and subdivision of ISO.

    Raises:
        DemoError: the package that ships them is not installed.
    """
    try:
        databases = files("pycountry") / "databases"
    except ModuleNotFoundError:
        raise DemoError(
            "the demo's documents are those of the package pycountry: pip install 'walstore[dev]'"
        ) from None
    documents = [
        (kind, json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())
        for kind, name, key in _DATA_SETS
        for document in json.loads((databases / name).read_bytes())[key]
    ]
    return documents[:limit]


# ---- the nodes: one process each ----


@dataclass
class Node:
    """A process of `walstore serve`."""

    name: str
    process: subprocess.Popen[str]
    url: str
    status_url: str


class Cluster:
    """The nodes' processes: whatever happens, none is left at the end."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.nodes: dict[str, Node] = {}
        self._all: list[subprocess.Popen[str]] = []

    def start(self, name: str) -> Node:
        """Starts a node, or starts it again. It dials those that run; those to come dial it."""
        process = subprocess.Popen(
            [sys.executable, "-m", "walstore", "serve", "--config", str(self._config(name))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for this process, which ends the others
        )
        self._all.append(process)
        assert process.stdout is not None
        watchdog = threading.Timer(_TIMEOUT_S, process.kill)
        watchdog.start()
        line = process.stdout.readline()
        watchdog.cancel()
        if not line:
            _, words = process.communicate()
            raise DemoError(f"{name} was not ready: {words.strip() or 'it said nothing'}")
        ready: dict[str, Any] = json.loads(line)
        node = self.nodes[name] = Node(name, process, ready["url"], ready["status_url"])
        return node

    def _config(self, name: str) -> Path:
        peers = {n: self.nodes[n].url if n in self.nodes else "" for n in _NODES if n != name}
        lines = [
            f'node_id = "{name}"',
            f'path = "{name}"',
            'listen = "127.0.0.1:0"',
            'status_listen = "127.0.0.1:0"',
            'acks = "quorum"',
            f'role = "{"follower" if self.nodes else "leader"}"',
            "[peers]",
            *(f'{peer} = "{url}"' for peer, url in peers.items()),
        ]
        path = self.base / f"{name}.toml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def look(self) -> list[NodeView]:
        """All nodes that were started, as they say they are."""
        return look([node.status_url for node in self.nodes.values()])

    def kill(self, name: str) -> int:
        """kill -9; returns the process id."""
        process = self.nodes[name].process
        process.kill()
        process.wait()
        return process.pid

    def stop(self) -> None:
        """Ends all nodes as an operator does."""
        for node in self.nodes.values():
            node.process.terminate()
        for node in self.nodes.values():
            try:
                code = node.process.wait(_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                raise DemoError(f"{node.name} did not end within {_TIMEOUT_S:g} s") from None
            if code:
                raise DemoError(f"{node.name} ended with exit code {code}")

    def end(self) -> None:
        """Kills what still runs."""
        for process in self._all:
            if process.poll() is None:
                process.kill()
            process.communicate()


# ---- the application: appends documents through a node that leads ----


@dataclass
class Writers:
    """Threads that append through one node's endpoint.

    Attributes:
        documents: those to come.
        acked: {lsn: document}, of those that were acknowledged.
    """

    documents: queue.SimpleQueue[tuple[int, bytes]]
    acked: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    _errors: list[WALStoreError] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, url: str, until_acked: int, seconds: float) -> None:
        """Begins; ends when so many are acknowledged in all, or the time is over."""
        arguments = url, until_acked, time.monotonic() + seconds
        self._threads = [
            threading.Thread(target=self._run, args=arguments, daemon=True) for _ in range(_WRITERS)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def busy(self) -> bool:
        """Whether any of them still appends."""
        return any(thread.is_alive() for thread in self._threads)

    def finish(self) -> None:
        """Waits for all, each of which has a timeout.

        Raises:
            WALStoreError: an append failed.
        """
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _run(self, url: str, until_acked: int, deadline: float) -> None:
        with closing(NodeClient(url, _TIMEOUT_S)) as client:
            while len(self.acked) < until_acked and time.monotonic() < deadline:
                try:
                    kind, body = self.documents.get_nowait()
                    lsn = client.post(f"/append?kind={kind}", body)["lsn"]
                except queue.Empty:
                    return
                except WALStoreError as error:
                    self._errors.append(error)
                    return
                self.acked[lsn] = kind, body


# ---- what is seen ----


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
        deadline = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < deadline:
            views = self._cluster.look()
            statuses = [view.status for view in views if view.status is not None]
            places = {node[f"{at}_lsn"] for node in statuses for at in ("last", "committed")}
            if is_healthy(views) and len(places) == 1:
                self.look(now=True)
                return
            time.sleep(_LOOK_S)
        raise DemoError(f"not within {_TIMEOUT_S:g} s: {what}")


# ---- the story ----


@dataclass
class Story:
    """What happened, in numbers."""

    acked: int = 0
    append_s: float = 0.0
    killed_after: int = 0
    resumed_lsn: int = 0
    missed: int = 0
    down_s: float = 0.0


def _run_cluster(base: Path, documents: list[tuple[int, bytes]], console: Console) -> Story:
    """The nodes at work, the death and return of one, and a change of leaders."""
    cluster = Cluster(base)
    writers = Writers(queue.SimpleQueue())
    for document in documents:
        writers.documents.put(document)
    stage = Stage(console, cluster)
    try:
        with stage.open():
            for name in _NODES:
                node = cluster.start(name)
                stage.note(f"node {name} serves at {node.url}, process {node.process.pid}")
            stage.until_equal("three nodes that are connected")
            story = _kill_and_catch_up(cluster, writers, stage, len(documents))
            _change_leaders(cluster, writers, stage, len(documents))
            cluster.stop()
            stage.note("all nodes are closed")
    finally:
        cluster.end()
    story.acked = len(writers.acked)
    _check_acked(base, writers.acked)
    return story


def _kill_and_catch_up(cluster: Cluster, writers: Writers, stage: Stage, total: int) -> Story:
    stage.note(f"{_WRITERS} writers append, each entry durable on two nodes before it is acked")
    began = time.perf_counter()
    writers.start(cluster.nodes[_LEADER].status_url, int(total * _PROMOTE_SHARE), _FIRST_S)
    kill_by = began + _FIRST_S / 3
    while len(writers.acked) < total * _KILL_SHARE and time.perf_counter() < kill_by:
        time.sleep(0.01)
    story = Story(killed_after=len(writers.acked))
    pid, killed = cluster.kill(_VICTIM), time.perf_counter()
    stage.note(f"{story.killed_after:,} are acked: [red]kill -9 {pid}[/red], node {_VICTIM}")
    stage.look(now=True)
    with closing(FileWALManager(cluster.base / _VICTIM, read_only=True)) as log:
        story.resumed_lsn = log.last_lsn
    while writers.busy and len(writers.acked) < total * (_KILL_SHARE + _PROMOTE_SHARE) / 2:
        time.sleep(_LOOK_S)  # it is away for a while
        stage.look()
        if time.perf_counter() - killed > _FIRST_S / 3:
            break
    cluster.start(_VICTIM)
    story.down_s = time.perf_counter() - killed
    stage.note(f"{_VICTIM} is back after {story.down_s:.2f} s with lsn {story.resumed_lsn:,}")
    while writers.busy:
        time.sleep(_LOOK_S)
        stage.look()
    writers.finish()
    story.append_s = time.perf_counter() - began
    stage.until_equal(f"{_VICTIM} caught up")
    story.missed = max(writers.acked) - story.resumed_lsn
    stage.note(f"{_VICTIM} has caught up with {story.missed:,} entries")
    return story


def _change_leaders(cluster: Cluster, writers: Writers, stage: Stage, total: int) -> None:
    url = cluster.nodes[_NEXT_LEADER].status_url
    done = subprocess.run(
        [sys.executable, "-m", "walstore", "promote", url],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise DemoError(f"walstore promote: {done.stderr.strip()}")
    stage.note(f"[bold]$ walstore promote {url}[/bold]: {done.stdout.strip()}")
    writers.start(url, total, _LAST_S)
    while writers.busy:
        time.sleep(_LOOK_S)
        stage.look()
    writers.finish()
    stage.until_equal(f"all have what {_NEXT_LEADER} appended")
    stage.note(
        f"{len(writers.acked):,} of {total:,} documents are acked, the last by the new leader"
    )


# ---- the result ----


def _check_acked(base: Path, acked: dict[int, tuple[int, bytes]]) -> None:
    """Every acknowledged document is in the log, at the lsn it was given.

    Raises:
        DemoError: one is not.
    """
    with closing(FileWALManager(base / _LEADER, read_only=True)) as log:
        held = {entry.lsn: (entry.kind, entry.payload) for entry in log.replay()}
    lost = [lsn for lsn, document in acked.items() if held.get(lsn) != document]
    if lost:
        raise DemoError(
            f"{len(lost)} acknowledged documents are lost, the first at lsn {min(lost)}"
        )


def _tell(story: Story, console: Console) -> None:
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("documents acked, and found at their lsn", f"{story.acked:,}")
    table.add_row("appending to the first leader took", f"{story.append_s:.2f} s")
    table.add_row(f"{_VICTIM} was killed after documents", f"{story.killed_after:,}")
    table.add_row("it came back with all up to lsn", f"{story.resumed_lsn:,}")
    table.add_row("it was away for", f"{story.down_s:.2f} s")
    table.add_row("and caught up with entries", f"{story.missed:,}")
    console.print(table)


def _show(console: Console, *arguments: str) -> None:
    """Runs the command line as a person would."""
    console.print(f"\n[bold]$ walstore {' '.join(arguments)}[/bold]", highlight=False)
    console.file.flush()
    command = [sys.executable, "-m", "walstore", *arguments]
    code = subprocess.run(command, timeout=_TIMEOUT_S, check=False).returncode
    if code:
        raise DemoError(f"walstore {arguments[0]} ended with exit code {code}")


def _real_disk() -> str | None:
    """A place for the logs that is not in memory, as /tmp often is: a sync must mean something."""
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else None


def _run(base: Path, limit: int | None) -> None:
    console = Console(soft_wrap=True)
    documents = load_documents(limit)
    story = _run_cluster(base, documents, console)
    _tell(story, console)
    logs = [str(base / name) for name in _NODES]
    _show(console, "info", logs[-1])
    _show(console, "dump", "--limit", "3", logs[-1])
    for other in logs[1:]:
        _show(console, "diff", logs[0], other)
    console.print(f"\n[green]the three logs are the same, with {story.acked:,} acked documents")


# ---- the command ----


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--documents", type=click.IntRange(min=100), help="Append only so many documents.")
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Keep the logs in this new directory."
)
def main(documents: int | None, keep: Path | None) -> None:
    """Replicates a real data set to three nodes, kills one halfway, and compares the logs."""
    try:
        if keep is not None:
            keep.mkdir(parents=True)
        base = keep or Path(tempfile.mkdtemp(prefix="walstore-demo-", dir=_real_disk()))
        try:
            _run(base, documents)
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


if __name__ == "__main__":
    main()
