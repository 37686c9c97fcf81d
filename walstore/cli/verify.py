"""walstore verify: check every record, and say exactly what is wrong and what to do."""

from __future__ import annotations

import json
import os
import shlex
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

import click

from walstore.cli import exits
from walstore.cli.node_files import meaning_of
from walstore.cli.options import json_option, log_argument
from walstore.cli.output import Screen, complain, count, facts, plain, size
from walstore.cli.progress import Bar, progress_bar
from walstore.errors import (
    CorruptLogError,
    NotALogError,
    UnsupportedFormatError,
    WALStoreError,
)
from walstore.wal import files
from walstore.wal.following import LogFollower
from walstore.wal.layout import load_layout
from walstore.wal.meta import META_NAME, read_meta
from walstore.wal.opening import open_meta
from walstore.wal.reading import Snapshot
from walstore.wal.recovery import check_whole
from walstore.wal.report import Problem, VerifyReport, verify_log

__all__ = ["verify"]

Status = Literal["clean", "torn", "corrupt", "not-a-log", "unsupported"]

_CODES: dict[Status, int] = {
    "clean": exits.OK,
    "torn": exits.TORN,
    "corrupt": exits.CORRUPT,
    "not-a-log": exits.NOT_A_LOG,
    "unsupported": exits.NOT_A_LOG,
}


@dataclass
class _Verdict:
    """What there is to say about a log. Without a report it could not even be opened."""

    status: Status
    problems: list[Problem] = field(default_factory=list)
    report: VerifyReport | None = None
    writer_running: bool = False
    notes: list[str] = field(default_factory=list)


@click.command()
@log_argument
@json_option("One JSON object instead of text.")
def verify(log: str, as_json: bool) -> int:
    """Check every record of a log and report; nothing is changed.

    Each problem is shown with its file, offset and lsn, the reason, and what to do next. A torn
    tail is what a crash leaves behind the last entry: no entry known to be durable is lost.
    Corruption means that entries that had been durable are damaged or missing.

    While a writer runs, an entry that it is just writing is not a problem.

    \b
    Examples:
      walstore verify LOG && echo fine
      walstore verify --json LOG | jq .problems

    \b
    Exit codes:
      0  clean            1  torn tail
      2  corruption       3  not a log, or written by a newer walstore
      4  the system refused
    """
    started = time.monotonic()
    with progress_bar("verifying", in_bytes=True) as bar:
        verdict = _judge(log, bar)
    seconds = time.monotonic() - started
    if as_json:
        click.echo(json.dumps(_as_json(log, verdict)))
    else:
        _show(log, verdict, seconds)
    return _CODES[verdict.status]


# ---- judging ----


def _judge(log: str, bar: Bar) -> _Verdict:
    try:
        return _verify(log, bar)
    except CorruptLogError as error:
        return _survey(log, error)
    except UnsupportedFormatError as error:
        return _Verdict("unsupported", [Problem(error.path, 0, 0, str(error))])
    except NotALogError as error:
        return _Verdict("not-a-log", [Problem(error.path, 0, 0, error.reason)])


def _verify(log: str, bar: Bar) -> _Verdict:
    with closing(LogFollower(log)) as view:
        held = Snapshot(*view.bounds(), view.segments())
        report = verify_log(view, held, bar.update)
        verdict = _Verdict(report.status, list(report.problems), report, view.writer_running)
        layout = view.layout
    unsealed = [segment for segment in layout.segments[:-1] if segment.seal is None]
    if unsealed and not verdict.writer_running:
        verdict.notes.append(
            f"segments without a valid seal: {count(len(unsealed))} (no entry is affected); the "
            "next open to write seals them"
        )
    strays = [name for name in layout.strays if meaning_of(name) is None]
    if strays:
        verdict.notes.append(f"files that are not the log's: {', '.join(strays)}")
    return verdict


def _survey(log: str, first: CorruptLogError) -> _Verdict:
    """The log cannot be read as a whole: also looks for damage in its full segments."""
    verdict = _Verdict("corrupt", [_problem(first)])
    try:
        fd = open_meta(log, write=False)
        try:
            verdict.writer_running = files.is_locked(fd)
            meta = read_meta(fd, os.path.join(log, META_NAME))
        finally:
            files.close(fd)
        segments = load_layout(log, meta).segments[:-1] if meta else ()
    except (WALStoreError, OSError):
        verdict.notes.append("which segments belong to the log cannot be told; none was checked")
        return verdict
    for segment in segments:
        assert segment.last_lsn is not None
        try:
            with files.opened(segment.path) as fd:
                check_whole(fd, segment.path, segment.header, segment.last_lsn)
        except CorruptLogError as error:
            verdict.problems.append(_problem(error))
        except OSError as error:
            verdict.notes.append(f"{segment.path} could not be read: {error.strerror}")
    verdict.problems.sort(key=lambda problem: (problem.lsn, problem.path))
    return verdict


def _problem(error: CorruptLogError) -> Problem:
    return Problem(error.path, error.offset, error.lsn, error.reason)


# ---- telling ----


def _next_step(log: str, status: Status) -> str:
    if status == "torn":
        return (
            f"'walstore repair {plain(shlex.quote(log))}' shows what to cut; opening the log to "
            "write cuts it too, and keeps the bytes"
        )
    if status == "corrupt":
        return (
            "do not write to this directory; copy it as it is, then restore the file from a "
            "replica or a backup"
        )
    if status == "unsupported":
        return UnsupportedFormatError.hint
    return "name the directory that FileWALManager was given"


def _as_json(log: str, verdict: _Verdict) -> dict[str, object]:
    report = verdict.report
    return {
        "path": log,
        "status": verdict.status,
        "exit_code": _CODES[verdict.status],
        "writer_running": verdict.writer_running,
        "entries": report.entries if report else None,
        "bytes": report.bytes if report else None,
        "first_lsn": report.first_lsn if report else None,
        "last_lsn": report.last_lsn if report else None,
        "problems": [
            {
                "path": problem.path,
                "offset": problem.offset,
                "lsn": problem.lsn,
                "reason": problem.reason,
                "next": _next_step(log, verdict.status),
            }
            for problem in verdict.problems
        ],
        "notes": verdict.notes,
    }


def _show(log: str, verdict: _Verdict, seconds: float) -> None:
    if verdict.status == "not-a-log":
        reason = verdict.problems[0].reason
        complain(f"{log} is not a log: {reason}", _next_step(log, verdict.status))
        return
    if verdict.status == "unsupported":
        complain(verdict.problems[0].reason, _next_step(log, verdict.status))
        return
    screen = Screen()
    style = {"clean": "bold green", "torn": "bold yellow"}.get(verdict.status, "bold red")
    screen.line(_headline(verdict, seconds), style)
    for problem in verdict.problems:
        screen.line()
        screen.show(
            facts(
                [
                    ("file", problem.path),
                    ("offset", str(problem.offset)),
                    ("lsn", str(problem.lsn)),
                    ("reason", problem.reason),
                    ("next", _next_step(log, verdict.status)),
                ]
            )
        )
    for note in verdict.notes:
        screen.line(f"note: {note}", "dim")


def _headline(verdict: _Verdict, seconds: float) -> str:
    report = verdict.report
    if report is None:
        places = len(verdict.problems)
        found = "1 place" if places == 1 else f"{count(places)} places"
        return f"corrupt: the log cannot be opened; {found} found"
    what = {
        "clean": "clean",
        "torn": "torn tail: every entry is good, and bytes of an unfinished append follow",
        "corrupt": "corrupt",
    }[report.status]
    held = (
        f"{count(report.entries)} entries, lsn {count(report.first_lsn)} to "
        f"{count(report.last_lsn)}"
        if report.entries
        else "no entries"
    )
    rate = f", {size(report.bytes / seconds)}/s" if report.bytes > (64 << 20) and seconds else ""
    return f"{what}: {held}; {size(report.bytes)} read in {seconds:.2f} s{rate}"
