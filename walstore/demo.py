"""The main job, end to end: `python -m walstore.demo`.

A leader process appends real JSON documents, each one durable before the next, and streams them
to two follower processes. One follower is killed with SIGKILL while it writes, started again on
what it left behind, and catches up. At the end the three logs are compared, entry by entry.

The nodes are this module too (`leader`, `follower`): they say what happens as JSON lines on
stdout, and end when their stdin does, so none of them outlives this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table
from xxhash import xxh3_64

from walstore import FileWALManager, WALStoreError
from walstore.replication import ReplicationWALManager

__all__ = ["main"]

_DATA_SETS = (  # kind of the entries, file, and the key of the documents in it
    (1, "iso639-3.json", "639-3"),
    (2, "iso3166-1.json", "3166-1"),
    (3, "iso3166-2.json", "3166-2"),
)
_NODES = ("leader", "follower-1", "follower-2")
_VICTIM = "follower-2"
_START_TIMEOUT_S = 15.0
_WORK_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0
_ENTRY = struct.Struct("<QHI")


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


def digest(entries: Iterable[tuple[int, int, bytes]]) -> str:
    """XXH3 over (lsn, kind, payload) of all entries."""
    state = xxh3_64()
    for lsn, kind, payload in entries:
        state.update(_ENTRY.pack(lsn, kind, len(payload)))
        state.update(payload)
    return state.hexdigest()


# ---- the nodes: one process each ----


def _say(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


def _run_leader(path: str, limit: int | None) -> None:
    documents = load_documents(limit)
    with ReplicationWALManager(path, node_id="leader", listen="127.0.0.1:0") as log:
        _say("ready", url=log.url, lsn=log.durable_lsn)
        if sys.stdin.readline() != "go\n":
            return
        log.wait_for_followers(0, count=2, timeout_s=_START_TIMEOUT_S)
        began = time.perf_counter()
        for kind, document in documents:
            log.append(document, kind=kind)
        _say("appended", entries=len(documents), seconds=time.perf_counter() - began)
        log.wait_for_followers(log.last_lsn, count=2, timeout_s=_WORK_TIMEOUT_S)
        _say("replicated", seconds=time.perf_counter() - began, followers=log.followers())
        sys.stdin.read()


def _run_follower(path: str, node_id: str, url: str, mark_lsn: int) -> None:
    with ReplicationWALManager(path, node_id=node_id, peers={"leader": url}) as log:
        _say("ready", lsn=log.durable_lsn)

        def report() -> None:
            for entry in log.tail():
                if entry.lsn == mark_lsn:
                    _say("marked", lsn=entry.lsn)

        watcher = threading.Thread(target=report)
        watcher.start()
        sys.stdin.read()
    watcher.join()


# ---- the one who watches ----


@dataclass
class Node:
    """A node's process, as the demo sees it."""

    name: str
    process: asyncio.subprocess.Process

    async def expect(self, event: str, timeout_s: float) -> dict[str, Any]:
        """The facts of the node's next line, which must tell of this event."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                line = await self.process.stdout.readline()
        except TimeoutError:
            raise DemoError(f"{self.name} was not {event} within {timeout_s:g} s") from None
        facts: dict[str, Any] = json.loads(line) if line else {"event": "gone"}
        if facts["event"] != event:
            raise DemoError(f"{self.name} is {facts['event']}, and was to be {event}")
        return facts

    def tell(self, line: str) -> None:
        """Writes a line to the node's stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    async def kill(self) -> None:
        """kill -9."""
        os.kill(self.process.pid, signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> None:
        """Ends the node as it ends by itself: its stdin ends."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                code = await self.process.wait()
        except TimeoutError:
            raise DemoError(f"{self.name} did not end within {_STOP_TIMEOUT_S:g} s") from None
        if code:
            raise DemoError(f"{self.name} ended with exit code {code}")


class Cluster:
    """The nodes' processes: whatever happens, none is left at the end."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._all: list[Node] = []

    async def start(self, name: str, *arguments: str) -> Node:
        """Starts a node on its directory."""
        role = name.partition("-")[0]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "walstore.demo", role, str(self.base / name), *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for this process, which ends the others
        )
        node = Node(name, process)
        self._all.append(node)
        return node

    async def end(self) -> None:
        """Kills what still runs."""
        for node in self._all:
            if node.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    await node.kill()


@contextlib.asynccontextmanager
async def _cluster(base: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(base)
    try:
        yield cluster
    finally:
        await cluster.end()


@dataclass(frozen=True)
class Story:
    """What happened, in numbers."""

    append_s: float
    replicated_s: float
    killed_after_lsn: int
    resumed_at_lsn: int
    down_s: float


async def _run_cluster(base: Path, count: int, console: Console) -> Story:
    """Leader and followers at work, and the death and return of one of them."""
    began = time.perf_counter()

    def note(text: str) -> None:
        console.print(f"[dim]{time.perf_counter() - began:6.2f} s[/dim]  {text}")

    async with _cluster(base) as cluster:
        leader = await cluster.start("leader", "--documents", str(count))
        url = (await leader.expect("ready", _START_TIMEOUT_S))["url"]
        note(f"leader listens at {url}, process {leader.process.pid}")
        names = _NODES[1:]
        nodes = {name: await cluster.start(name, name, url, str(count // 2)) for name in names}
        for name, node in nodes.items():
            await node.expect("ready", _START_TIMEOUT_S)
            note(f"{name} follows, process {node.process.pid}")
        leader.tell("go")
        note(f"leader appends {count:,} documents, each durable before the next")
        victim = nodes[_VICTIM]
        marked = await victim.expect("marked", _WORK_TIMEOUT_S)
        await victim.kill()
        killed = time.perf_counter()
        note(f"{_VICTIM} has lsn {marked['lsn']:,}: [red]kill -9 {victim.process.pid}[/red]")
        victim = nodes[_VICTIM] = await cluster.start(_VICTIM, _VICTIM, url, "0")
        resumed = await victim.expect("ready", _START_TIMEOUT_S)
        down_s = time.perf_counter() - killed
        note(f"{_VICTIM} is back, process {victim.process.pid}: resumes after {resumed['lsn']:,}")
        appended = await leader.expect("appended", _WORK_TIMEOUT_S)
        note("leader has appended all")
        replicated = await leader.expect("replicated", _WORK_TIMEOUT_S)
        note("both followers have all of it on their disks")
        for node in (*nodes.values(), leader):
            await node.stop()
    return Story(
        append_s=appended["seconds"],
        replicated_s=replicated["seconds"],
        killed_after_lsn=marked["lsn"],
        resumed_at_lsn=resumed["lsn"],
        down_s=down_s,
    )


# ---- the result ----


def _compare(base: Path, documents: list[tuple[int, bytes]], console: Console) -> bool:
    """Shows the three logs beside the documents. Returns whether all are the same."""
    wanted = digest((lsn, kind, body) for lsn, (kind, body) in enumerate(documents, 1))
    table = Table("log", "entries", "first lsn", "last lsn", "XXH3 of all entries", "")
    for column in table.columns[1:4]:
        column.justify = "right"
    table.add_row("documents", f"{len(documents):,}", "", "", wanted, "")
    equal = True
    for name in _NODES:
        with FileWALManager(base / name, read_only=True) as log:
            found = digest((e.lsn, e.kind, e.payload) for e in log.replay())
            held = log.last_lsn - log.first_lsn + 1
            same = found == wanted and held == len(documents)
            verdict = "[green]same[/green]" if same else "[red]differs[/red]"
            bounds = f"{log.first_lsn:,}", f"{log.last_lsn:,}"
            table.add_row(name, f"{held:,}", *bounds, found, verdict)
        equal = equal and same
    console.print(table)
    return equal


def _tell(story: Story, count: int, console: Console) -> None:
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    rate = count / story.append_s
    table.add_row("durable appends, one at a time", f"{story.append_s:.2f} s, {rate:,.0f} a second")
    late_s = story.replicated_s - story.append_s
    table.add_row("both followers durable after the last append", f"{late_s * 1000:,.0f} ms")
    table.add_row(f"{_VICTIM} killed after lsn", f"{story.killed_after_lsn:,}")
    table.add_row("it came back with all up to lsn", f"{story.resumed_at_lsn:,}")
    table.add_row("it was away for", f"{story.down_s:.2f} s")
    table.add_row("and caught up with entries", f"{count - story.resumed_at_lsn:,}")
    console.print(table)


def _show(console: Console, *arguments: str) -> None:
    """Runs the command line as a person would."""
    console.print(f"\n[bold]$ walstore {' '.join(arguments)}[/bold]", highlight=False)
    console.file.flush()
    command = [sys.executable, "-m", "walstore", *arguments]
    code = subprocess.run(command, timeout=_WORK_TIMEOUT_S, check=False).returncode
    if code:
        raise DemoError(f"walstore {arguments[0]} ended with exit code {code}")


def _real_disk() -> str | None:
    """A place for the logs that is not in memory, as /tmp often is: a sync must mean something."""
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else None


def _run(base: Path, limit: int | None) -> bool:
    console = Console(soft_wrap=True)
    documents = load_documents(limit)
    story = asyncio.run(_run_cluster(base, len(documents), console))
    _tell(story, len(documents), console)
    equal = _compare(base, documents, console)
    alive = 0 < story.killed_after_lsn <= story.resumed_at_lsn < len(documents)
    if not alive:
        console.print(f"[red]{_VICTIM} was not killed while it was writing[/red]")
    _show(console, "info", str(base / _VICTIM))
    _show(console, "dump", "--limit", "3", str(base / _VICTIM))
    if equal and alive:
        console.print(f"\n[green]the three logs are the same, {len(documents):,} entries each")
    else:
        console.print("\n[red]the main job failed")
    return equal and alive


# ---- the command ----


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--documents", type=click.IntRange(min=100), help="Append only so many documents.")
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Keep the logs in this new directory."
)
@click.pass_context
def main(context: click.Context, documents: int | None, keep: Path | None) -> None:
    """Replicates a real data set to two followers, kills one halfway, and compares the logs."""
    if context.invoked_subcommand is not None:
        return
    try:
        if keep is not None:
            keep.mkdir(parents=True)
        base = keep or Path(tempfile.mkdtemp(prefix="walstore-demo-", dir=_real_disk()))
        try:
            good = _run(base, documents)
        finally:
            if keep is None:
                shutil.rmtree(base)
    except FileExistsError:
        _complain(f"{keep} exists already")
    except (DemoError, WALStoreError, OSError) as error:
        _complain(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if good else 1)


def _complain(reason: str) -> NoReturn:
    click.echo(f"walstore.demo: {reason}", err=True)
    sys.exit(1)


@main.command(hidden=True)
@click.argument("path")
@click.option("--documents", type=int)
def leader(path: str, documents: int | None) -> None:
    """The leader's process."""
    _run_leader(path, documents)


@main.command(hidden=True)
@click.argument("path")
@click.argument("node_id")
@click.argument("url")
@click.argument("mark_lsn", type=int)
def follower(path: str, node_id: str, url: str, mark_lsn: int) -> None:
    """A follower's process; it says when it has the entry `mark_lsn`."""
    _run_follower(path, node_id, url, mark_lsn)


if __name__ == "__main__":
    main()
