"""Entries for people and programs: a line, a line of JSON, the bare payload, or what names it."""

from __future__ import annotations

import base64
import codecs
import json
import re
import sys
from collections.abc import Callable
from typing import Any, Literal, NoReturn

import click
from rich.console import Console
from xxhash import xxh3_64_hexdigest

from walstore.cli.operations import DOCUMENTS_KIND, operations_json, operations_text
from walstore.cli.output import iso_time, plain, short_time
from walstore.wal.record import WALEntry

__all__ = ["EntryPrinter", "PayloadForm", "describe_entry", "json_line"]

PayloadForm = Literal["raw", "json", "hex"]

_BATCH_LINES = 512
_BATCH_BYTES = 1 << 20
_PREVIEW_BYTES = 1024
_NOT_ASCII = re.compile(r"[^\x00-\x7e]")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _escape(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]


def _json_text(payload: bytes) -> str | None:
    """The payload itself, on one line of ASCII, where it is JSON; None where it is not.

    It is not decoded and encoded again: numbers and double keys stay what they were.
    """
    try:
        text = payload.decode()
        json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    # Line ends stand only between the tokens of valid JSON, anything not ASCII only in strings.
    return _NOT_ASCII.sub(_escape, text.strip().replace("\r", " ").replace("\n", " "))


def _json_payload(payload: bytes, form: PayloadForm | None) -> str:
    """The keys that carry the payload. `payload` is always there; it is null, and another key
    follows, where the payload is not what it was asked to be shown as."""
    if form == "hex":
        return f'"payload":null,"payload_hex":"{payload.hex()}"'
    if form == "json":
        text = _json_text(payload)
        if text is not None:
            return f'"payload":{text}'
    else:
        try:
            return f'"payload":{json.dumps(payload.decode())}'
        except UnicodeDecodeError:
            pass
    return f'"payload":null,"payload_base64":"{base64.b64encode(payload).decode()}"'


def json_line(entry: WALEntry, form: PayloadForm | None = None) -> str:
    """An entry as one line of JSON."""
    lsn, term, timestamp_ns, kind, payload = entry
    shown = _json_payload(payload, form)
    if kind == DOCUMENTS_KIND and form is None and (decoded := operations_json(payload)):
        shown += f',"documents":{decoded}'
    return (
        f'{{"lsn":{lsn},"term":{term},"timestamp_ns":{timestamp_ns},'
        f'"time":"{iso_time(timestamp_ns)}","kind":{kind},"size":{len(payload)},'
        f"{shown}}}\n"
    )


def describe_entry(entry: WALEntry) -> dict[str, Any]:
    """An entry by its fields and the XXH3 of its payload."""
    return {
        "lsn": entry.lsn,
        "term": entry.term,
        "timestamp_ns": entry.timestamp_ns,
        "kind": entry.kind,
        "size": len(entry.payload),
        "xxh3": xxh3_64_hexdigest(entry.payload),
    }


def _text_or_hex(payload: bytes) -> str:
    """The payload as text where it is text that can be shown, and as 0x... otherwise."""
    try:
        return plain(payload.decode())
    except UnicodeDecodeError:
        return f"0x{payload.hex()}"


def _preview(payload: bytes, width: int) -> str:
    """The beginning of `_text_or_hex`, as much as fits."""
    cut = payload[:_PREVIEW_BYTES]
    try:
        decoder = codecs.getincrementaldecoder("utf-8")()
        text = plain(decoder.decode(cut, final=len(cut) == len(payload)))
    except UnicodeDecodeError:
        text = f"0x{cut.hex()}"
    return _cut(text, width, whole=len(cut) == len(payload))


def _cut(text: str, width: int, *, whole: bool = True) -> str:
    if len(text) > width or not whole:
        return text[: max(width - 1, 1)] + "…"
    return text


class EntryPrinter:
    """Writes entries, many at a time.

    Args:
        as_json: a line of JSON each.
        form: how the payload is written; None: text where it is text.
        last_lsn: the largest lsn that is likely to come; only for the columns' width.
    """

    def __init__(self, *, as_json: bool, form: PayloadForm | None, last_lsn: int) -> None:
        self._form = form
        self._lines: list[str] = []
        self._line_bytes = 0
        self._raw = form == "raw"
        console = Console(file=sys.stdout)
        self._terminal = console.is_terminal
        self._color = console.is_terminal and not console.no_color
        self._columns = console.width
        self._lsn_width = max(len(str(last_lsn)), 3)
        self._head_due = self._terminal and not as_json and not self._raw
        self._format: Callable[[WALEntry], str] = self._json if as_json else self._human

    def write(self, entry: WALEntry) -> None:
        """Writes an entry, soon."""
        if self._raw:
            sys.stdout.buffer.write(entry.payload)
            return
        if self._head_due:
            self._head_due = False
            head = (
                f"{'lsn':>{self._lsn_width}}  {'time (UTC)':<24}  {'term':>4}  {'kind':>4}  "
                f"{'bytes':>7}  payload\n"
            )
            self._lines.append(click.style(head, dim=True) if self._color else head)
        line = self._format(entry)
        self._lines.append(line)
        self._line_bytes += len(line)
        if len(self._lines) >= _BATCH_LINES or self._line_bytes >= _BATCH_BYTES:
            self._drain()

    def _drain(self) -> None:
        lines, self._lines, self._line_bytes = self._lines, [], 0
        sys.stdout.write("".join(lines))

    def flush(self) -> None:
        """Writes everything now."""
        self._drain()
        sys.stdout.flush()

    def _json(self, entry: WALEntry) -> str:
        return json_line(entry, self._form)

    def _payload(self, kind: int, payload: bytes, room: int) -> str:
        if kind == DOCUMENTS_KIND and self._form is None:
            text = operations_text(payload)
            if text is not None:
                return _cut(text, room) if self._terminal else text
        if self._form == "hex":
            return payload.hex()
        if self._form == "json":
            text = _json_text(payload)
            return _text_or_hex(payload) if text is None else text
        return _preview(payload, room) if self._terminal else _text_or_hex(payload)

    def _human(self, entry: WALEntry) -> str:
        lsn, term, timestamp_ns, kind, payload = entry
        number = f"{lsn:>{self._lsn_width}}"
        moment = short_time(timestamp_ns)
        rest = f"{term:>4}  {kind:>4}  {len(payload):>7}"
        room = max(self._columns - len(number) - len(moment) - len(rest) - 6, 8)
        text = self._payload(kind, payload, room)
        if self._color:
            dim = click.style(f"{moment}  {rest}", dim=True)
            return f"{click.style(number, fg='cyan')}  {dim}  {text}\n"
        return f"{number}  {moment}  {rest}  {text}\n"
