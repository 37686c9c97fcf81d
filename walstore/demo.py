"""The main job, end to end: `python -m walstore.demo`.

Three nodes of a replicated log that elect their leader, each a process of `walstore serve`. Real
JSON documents are appended through whoever leads, each acknowledged when it is durable on two of
the three. The leader is killed with SIGKILL meanwhile: the others elect, and the writers go on as
soon as they have. The one that was killed comes back on what it left behind, and catches up; then
the leadership is handed over on purpose, while documents are appended. At the end `walstore diff`
proves that the three logs are the same, and every acknowledged document is looked up at its lsn.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import random
import shutil
import socket
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
from walstore.cli.client import NodeClient, NodeRefusedError, NodeUnreachableError
from walstore.cli.output import Screen
from walstore.cli.remote import RemoteNode
from walstore.cli.status import NodeView, is_healthy, look, status_table
from walstore.cluster import ClusterManager

__all__ = ["main"]

_DATA_SETS = (  # kind of the entries, file, and the key of the documents in it
    (1, "iso639-3.json", "639-3"),
    (2, "iso3166-1.json", "3166-1"),
    (3, "iso3166-2.json", "3166-2"),
)
_NODES = ("a", "b", "c")
_WRITERS = 32
_FIRST_S, _MORE_S = 6.0, 2.0
"""How long documents are appended at most, until the killed node comes back, then, and while the
leadership is handed over: a slow disk gets fewer of them."""
_KILL_SHARE, _BACK_SHARE, _TRANSFER_SHARE = 0.2, 0.6, 0.8
_KILL_S = 1.5
_TIMEOUT_S = 15.0
_LOOK_S = 0.1
_ASK_S = 0.01
_TABLE_S = 1.0
_PORTS = range(20_000, 32_768)  # below those of connections that go out
_REFUSED = 409


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

    def start(self, *names: str) -> None:
        """Starts nodes, or starts them again; returns when all of them serve."""
        processes = {name: self._spawn(name) for name in names}
        for name, process in processes.items():
            ready = _ready_line(name, process)
            self.nodes[name] = Node(name, process, ready["url"], ready["status_url"])

    def _spawn(self, name: str) -> subprocess.Popen[str]:
        config = str(self.base / f"{name}.toml")
        process = subprocess.Popen(
            [sys.executable, "-m", "walstore", "serve", "--config", config],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for this process, which ends the others
        )
        self._all.append(process)
        return process

    @property
    def urls(self) -> list[str]:
        """The status urls of all nodes that were started."""
        return [node.status_url for node in self.nodes.values()]

    def look(self) -> list[NodeView]:
        """All nodes that were started, as they say they are."""
        return look(self.urls)

    def leader(self) -> str | None:
        """Who leads now."""
        found = [view.status for view in self.look() if view.status is not None]
        return next((node["node_id"] for node in found if node["role"] == "leader"), None)

    def kill(self, name: str) -> int:
        """kill -9; returns the process id."""
        process = self.nodes[name].process
        process.kill()
        process.wait()
        return process.pid

    def stop(self) -> None:
        """Ends all nodes as an operator does; who leads last, so that nobody is elected."""
        leader = self.leader()
        for names in ([name for name in self.nodes if name != leader], [leader]):
            for name in names:
                self.nodes[str(name)].process.terminate()
            for name in names:
                _end_well(self.nodes[str(name)])

    def end(self) -> None:
        """Kills what still runs."""
        for process in self._all:
            if process.poll() is None:
                process.kill()
            process.communicate()


def _ready_line(name: str, process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    watchdog = threading.Timer(_TIMEOUT_S, process.kill)
    watchdog.start()
    line = process.stdout.readline()
    watchdog.cancel()
    if not line:
        _, words = process.communicate()
        raise DemoError(f"{name} was not ready: {words.strip() or 'it said nothing'}")
    ready: dict[str, Any] = json.loads(line)
    return ready


def _end_well(node: Node) -> None:
    try:
        code = node.process.wait(_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise DemoError(f"{node.name} did not end within {_TIMEOUT_S:g} s") from None
    if code:
        raise DemoError(f"{node.name} ended with exit code {code}")


def _free_port(count: int) -> int:
    """The first of so many ports in a row that nothing listens on."""
    for first in random.SystemRandom().sample(_PORTS[:-count], 100):
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise DemoError(f"there are no {count} free ports")


# ---- the application: appends documents through whoever leads ----


@dataclass
class Writers:
    """Threads that append through a node's endpoint, and try again elsewhere what it did not take.

    Attributes:
        documents: those to come.
        urls: {node id: its endpoint}.
        acked: {lsn: document}, of those that were acknowledged.
        acked_at: when, by the clock of time.perf_counter.
    """

    documents: queue.SimpleQueue[tuple[int, bytes]]
    urls: dict[str, str] = field(default_factory=dict)
    acked: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    acked_at: list[float] = field(default_factory=list)
    _leader: str = ""
    _errors: list[WALStoreError] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, until_acked: int, seconds: float) -> None:
        """Begins; ends when so many are acknowledged in all, or the time is over."""
        self._leader = self._leader or next(iter(self.urls))
        arguments = until_acked, time.monotonic() + seconds
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

    def longest_gap_s(self, since: float) -> float:
        """The longest time without an acknowledgment, from a moment on."""
        moments = [since, *(moment for moment in sorted(self.acked_at) if moment > since)]
        return max((b - a for a, b in itertools.pairwise(moments)), default=0.0)

    def _run(self, until_acked: int, deadline: float) -> None:
        with contextlib.ExitStack() as held:
            clients = {
                name: held.enter_context(closing(NodeClient(url, _TIMEOUT_S)))
                for name, url in self.urls.items()
            }
            while len(self.acked) < until_acked and time.monotonic() < deadline:
                try:
                    kind, body = self.documents.get_nowait()
                    lsn = self._append(clients, kind, body)
                except queue.Empty:
                    return
                except WALStoreError as error:
                    self._errors.append(error)
                    return
                self.acked[lsn] = kind, body
                self.acked_at.append(time.perf_counter())

    def _append(self, clients: dict[str, NodeClient], kind: int, body: bytes) -> int:
        """The lsn. Where a leader dies before it has answered nobody knows whether it took the
        document: it is appended again, and may be there twice."""
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            asked = self._leader
            try:
                lsn: int = clients[asked].post(f"/append?kind={kind}", body)["lsn"]
            except (NodeRefusedError, NodeUnreachableError) as error:
                if time.monotonic() > deadline:
                    raise
                self._leader = self._next(asked, error)
                time.sleep(_ASK_S)
            else:
                return lsn

    def _next(self, asked: str, error: WALStoreError) -> str:
        """Whom to ask now: the leader that a node has named, or the next one."""
        if isinstance(error, NodeRefusedError):
            if error.status != _REFUSED:
                return asked
            if error.facts.get("leader_id") in self.urls:
                return str(error.facts["leader_id"])
        names = [*self.urls]
        return names[(names.index(asked) + 1) % len(names)]


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
    killed: str = ""
    killed_after: int = 0
    elected_s: float = 0.0
    silent_s: float = 0.0
    missed: int = 0
    handed_over_s: float = 0.0
    twice: int = 0


def _run_cluster(base: Path, documents: list[tuple[int, bytes]], console: Console) -> Story:
    """The nodes at work, the death and return of their leader, and a planned change."""
    cluster, story = Cluster(base), Story()
    writers = Writers(queue.SimpleQueue())
    for document in documents:
        writers.documents.put(document)
    port = _free_port(2 * len(_NODES))
    nodes = [f"--node={name}=127.0.0.1:{port + at}" for at, name in enumerate(_NODES)]
    _show(console, "cluster", "init", str(base), *nodes, f"--status-port={port + len(_NODES)}")
    stage = Stage(console, cluster)
    try:
        with stage.open():
            cluster.start(*_NODES)
            for node in cluster.nodes.values():
                stage.note(f"node {node.name} serves at {node.url}, process {node.process.pid}")
            stage.until_equal("three nodes that have elected a leader")
            writers.urls = {name: node.status_url for name, node in cluster.nodes.items()}
            _kill_leader(cluster, writers, stage, story, len(documents))
            _come_back(cluster, writers, stage, story, len(documents))
            _hand_over(cluster, writers, stage, story, len(documents))
            cluster.stop()
            stage.note("all nodes are closed")
    finally:
        cluster.end()
    story.acked = len(writers.acked)
    story.twice = _check_acked(base, writers.acked)
    return story


def _kill_leader(
    cluster: Cluster, writers: Writers, stage: Stage, story: Story, total: int
) -> None:
    story.killed = _wait_for_leader(cluster)
    stage.note(f"[bold]{story.killed} leads[/bold]; {_WRITERS} writers append, each document acked "
               "when it is durable on two nodes")  # fmt: skip
    writers.start(int(total * _BACK_SHARE), _FIRST_S)
    kill_by = time.monotonic() + _KILL_S
    while len(writers.acked) < total * _KILL_SHARE and time.monotonic() < kill_by:
        time.sleep(_ASK_S)
    story.killed_after = len(writers.acked)
    pid, killed = cluster.kill(story.killed), time.perf_counter()
    stage.note(
        f"{story.killed_after:,} are acked: [red]kill -9 {pid}[/red], the leader {story.killed}"
    )
    leader = _wait_for_leader(cluster)
    story.elected_s = time.perf_counter() - killed
    stage.note(f"[bold]{leader} is elected[/bold] after {story.elected_s:.2f} s")
    stage.look(now=True)
    while writers.busy:
        time.sleep(_LOOK_S)
        stage.look()
    writers.finish()
    story.silent_s = writers.longest_gap_s(killed)
    stage.note(f"for {story.silent_s:.2f} s nothing was acked; then the writers went on")


def _wait_for_leader(cluster: Cluster) -> str:
    deadline = time.monotonic() + _TIMEOUT_S
    while (leader := cluster.leader()) is None:
        if time.monotonic() > deadline:
            raise DemoError(f"no leader within {_TIMEOUT_S:g} s")
        time.sleep(_ASK_S)
    return leader


def _come_back(cluster: Cluster, writers: Writers, stage: Stage, story: Story, total: int) -> None:
    with closing(FileWALManager(cluster.base / story.killed, read_only=True)) as log:
        resumed_lsn = log.last_lsn
    writers.start(int(total * _TRANSFER_SHARE), _MORE_S)
    cluster.start(story.killed)
    stage.note(f"{story.killed} is back with lsn {resumed_lsn:,}, and follows")
    writers.finish()
    stage.until_equal(f"{story.killed} caught up")
    story.missed = max(writers.acked) - resumed_lsn
    stage.note(f"{story.killed} has caught up with {story.missed:,} entries")


def _hand_over(cluster: Cluster, writers: Writers, stage: Stage, story: Story, total: int) -> None:
    before = len(writers.acked)
    writers.start(total, _MORE_S)
    while writers.busy and len(writers.acked) < before + _WRITERS:
        time.sleep(_ASK_S)
    began = time.perf_counter()
    operator = ClusterManager(lambda: [RemoteNode(url, int(_TIMEOUT_S)) for url in cluster.urls])
    leader = operator.transfer(story.killed)
    stage.note(f"the leadership is handed over (walstore cluster transfer): {leader} leads")
    writers.finish()
    story.handed_over_s = writers.longest_gap_s(began)
    stage.until_equal(f"all have what {story.killed} appended")
    stage.note(f"{len(writers.acked):,} of {total:,} documents are acked")


# ---- the result ----


def _check_acked(base: Path, acked: dict[int, tuple[int, bytes]]) -> int:
    """Every acknowledged document is in the log, at the lsn it was given. Returns how many
    documents are there more than once.

    Raises:
        DemoError: one is not.
    """
    with closing(FileWALManager(base / _NODES[0], read_only=True)) as log:
        held = {entry.lsn: (entry.kind, entry.payload) for entry in log.replay()}
    lost = [lsn for lsn, document in acked.items() if held.get(lsn) != document]
    if lost:
        raise DemoError(
            f"{len(lost)} acknowledged documents are lost, the first at lsn {min(lost)}"
        )
    documents = {document for document in acked.values()}
    return sum(document in documents for document in held.values()) - len(documents)


def _tell(story: Story, console: Console) -> None:
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("documents acked, and found at their lsn", f"{story.acked:,}")
    table.add_row("acked and lost", "0")
    table.add_row(
        f"the leader {story.killed} was killed after documents", f"{story.killed_after:,}"
    )
    table.add_row("the others elected another after", f"{story.elected_s:.2f} s")
    table.add_row("the longest time without an ack then", f"{story.silent_s:.2f} s")
    table.add_row("appended again, their answers lost with it, and there twice", f"{story.twice:,}")
    table.add_row("it caught up with entries", f"{story.missed:,}")
    table.add_row(
        "the longest time without an ack in the planned change", f"{story.handed_over_s:.2f} s"
    )
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
    """Replicates a real data set to three nodes, kills their leader, and compares the logs."""
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
