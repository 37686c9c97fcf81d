"""A failing state, told: what the process did last, what the disk lost, how to see it again."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from walstore.testing.disk import Image, write_image
from walstore.testing.trace import SYNCS, Event, Kind

LINES_MAX = 14  # of a history
MARKS_MAX = 6
FILES_MAX = 8
CHUNK = 4096
CASE = "case.json"
IMAGE = "image"
HIDDEN = frozenset({Kind.CLOSE, Kind.DUP, Kind.READ, Kind.MMAP})  # change nothing on the disk


@dataclass(frozen=True)
class Case:
    """A failing state and what led to it, saved beside the files it consists of."""

    functions: dict[str, Any]  # workload and check: see reference.py
    marks: list[Any]
    what: str
    problem: str
    details: str
    repeatable: bool  # whether the check says so by raising
    history: list[str]
    lost: list[str]

    def save(self, image: Image, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix="state-", dir=folder))
        write_image(image, str(place / IMAGE))
        (place / CASE).write_text(json.dumps(asdict(self), indent=1))
        return place

    @classmethod
    def load(cls, place: Path) -> Case:
        return cls(**json.loads((place / CASE).read_text()))

    def tell(self, place: Path, *more: str) -> str:
        promised = [json.dumps(mark) for mark in self.marks]
        if len(promised) > MARKS_MAX:
            promised = [f"({len(promised) - MARKS_MAX} more)", *promised[-MARKS_MAX:]]
        lines = [
            f"crash lab: {self.what}",
            "  the last storage calls and marks before it:",
            *(f"    {line}" for line in self.history),
            "  on the disk then, compared with what the process saw:",
            *(f"    {line}" for line in self.lost or ["no difference"]),
            f"  marks made by then: {', '.join(promised) or 'none'}",
            f"  the state is saved in {place}",
            f"  replay: {sys.executable} -m walstore.testing {place}",
            *(f"  {line}" for line in more),
        ]
        return "\n".join(lines)


def history(events: Sequence[Event], at: int, prefix: str) -> list[str]:
    """The last events up to `at`, one a line; those that failed are there however long ago."""
    names: dict[int, str] = {}
    lines: list[tuple[str, bool]] = []
    for event in events[: at + 1]:
        if event.kind is Kind.OPEN and not event.failed:
            names[event.fd] = short(event.path, prefix)
        elif event.kind is Kind.DUP:
            names[event.result] = names.get(event.fd, "?")
        text = describe(event, names, prefix)
        if text:
            lines.append((f"{event.index:5} {text}", event.failed))
    cut = max(0, len(lines) - LINES_MAX)
    failed = [text for text, wrong in lines[:cut] if wrong][-2:]
    skipped = cut - len(failed)
    gap = [f"  ... {skipped} before"] if skipped else []
    return [*failed, *gap, *(text for text, _ in lines[cut:])]


def describe(event: Event, names: dict[int, str], prefix: str) -> str:
    """One event as a line; empty for what tells nothing."""
    if event.kind is Kind.MARK:
        return f"mark      {event.data.decode()}"
    name = names.get(event.fd, "?")
    match event.kind:
        case Kind.OPEN:
            made = event.flags & (os.O_CREAT | os.O_TRUNC)
            what = f"open      {short(event.path, prefix)}" if made or event.failed else ""
        case Kind.WRITE:
            part = "" if event.result == event.length else f"{max(0, event.result)} of "
            what = f"write     {name}, {part}{event.length} bytes at {event.offset}"
        case Kind.TRUNCATE:
            what = f"truncate  {name} to {event.length} bytes"
        case Kind.ALLOCATE:
            what = f"fallocate {name}, {event.length} bytes at {event.offset}"
        case Kind.RENAME:
            what = f"rename    {short(event.path, prefix)} to {short(event.path2, prefix)}"
        case kind if kind in SYNCS:
            what = f"{kind.name.lower():9} {name}" if event.is_sync_end else ""
        case kind if kind in HIDDEN:
            what = f"{kind.name.lower():9} {name}" if event.failed else ""
        case kind:
            what = f"{kind.name.lower():9} {short(event.path, prefix)}"
    return f"{what}  FAILED: {os.strerror(-event.result)}" if event.failed else what


def short(path: str, prefix: str) -> str:
    name = os.path.relpath(path, prefix)
    return "the directory" if name == "." else name


def differences(live: Image, image: Image) -> list[str]:
    """What is on the disk, against what the process saw."""
    lines = []
    for path in sorted({*live, *image}):
        if path not in image:
            lines.append(f"{path} is not there")
        elif path not in live:
            lines.append(f"{path} is still there")
        elif image[path] != live[path]:
            lines.append(f"{path}: {difference(live[path] or b'', image[path] or b'')}")
    if len(lines) > FILES_MAX:
        lines = [*lines[:FILES_MAX], f"... and {len(lines) - FILES_MAX} more"]
    return lines


def difference(live: bytes, there: bytes) -> str:
    if live.startswith(there):
        return (
            f"{len(there)} of {len(live)} bytes" if there else f"empty instead of {len(live)} bytes"
        )
    size = "" if len(there) == len(live) else f"{len(there)} bytes instead of {len(live)}"
    length = min(len(live), len(there))
    live, there = live[:length], there[:length]
    common = range(0, length, CHUNK)
    chunks = [at for at in common if live[at : at + CHUNK] != there[at : at + CHUNK]]
    if not chunks:
        return size
    first = chunks[0] + other_bytes(live, there, chunks[0])[0]
    last = chunks[-1] + other_bytes(live, there, chunks[-1])[-1]
    kind = "other bytes" if there[first : last + 1].strip(b"\0") else "zeros"
    return f"{size}{', ' if size else ''}{kind} at {first} to {last}"


def other_bytes(live: bytes, there: bytes, at: int) -> list[int]:
    pairs = zip(live[at : at + CHUNK], there[at : at + CHUNK], strict=True)
    return [i for i, (mine, theirs) in enumerate(pairs) if mine != theirs]


def replay_each(replay: Callable[[Path], bool], places: Sequence[str], usage: str | None) -> int:
    """The main of a command that replays saved states, each in its folder; returns the status."""
    if not places:
        print(usage)
        return 2
    return 0 if all([replay(Path(place)) for place in places]) else 1
