"""The story: a leader dies, another is elected, the dead one comes back and leads again."""

from __future__ import annotations

import queue
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from walstore import FileWALManager
from walstore.cli.remote import RemoteNode
from walstore.cluster import ClusterManager
from walstore.demo.documents import DemoError, load_documents
from walstore.demo.nodes import TIMEOUT_S, Cluster, free_port
from walstore.demo.stage import LOOK_S, Stage
from walstore.demo.writers import WRITERS, Writers

__all__ = ["run"]

_NODES = ("a", "b", "c")
_FIRST_S, _MORE_S = 6.0, 2.0
"""How long documents are appended at most, until the killed node comes back, then, and while the
leadership is handed over: a slow disk gets fewer of them."""
_KILL_SHARE, _BACK_SHARE, _TRANSFER_SHARE = 0.2, 0.6, 0.8
_KILL_S = 1.5
_ASK_S = 0.01


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
    port = free_port(2 * len(_NODES))
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
    stage.note(f"[bold]{story.killed} leads[/bold]; {WRITERS} writers append, each document acked "
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
        time.sleep(LOOK_S)
        stage.look()
    writers.finish()
    story.silent_s = writers.longest_gap_s(killed)
    stage.note(f"for {story.silent_s:.2f} s nothing was acked; then the writers went on")


def _wait_for_leader(cluster: Cluster) -> str:
    deadline = time.monotonic() + TIMEOUT_S
    while (leader := cluster.leader()) is None:
        if time.monotonic() > deadline:
            raise DemoError(f"no leader within {TIMEOUT_S:g} s")
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
    while writers.busy and len(writers.acked) < before + WRITERS:
        time.sleep(_ASK_S)
    began = time.perf_counter()
    operator = ClusterManager(lambda: [RemoteNode(url, int(TIMEOUT_S)) for url in cluster.urls])
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
    code = subprocess.run(command, timeout=TIMEOUT_S, check=False).returncode
    if code:
        raise DemoError(f"walstore {arguments[0]} ended with exit code {code}")


def run(base: Path, limit: int | None) -> None:
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
