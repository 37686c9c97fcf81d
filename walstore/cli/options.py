"""Arguments and options that several commands share."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import click

from walstore.wal.record import TERM

__all__ = [
    "LSN",
    "Seconds",
    "WholeNumber",
    "json_option",
    "kind_option",
    "log_argument",
    "parse_time",
    "payload_option",
    "refuse_raw_json",
    "time_option",
]

F = TypeVar("F", bound=Callable[..., Any])

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIT_S = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
    "w": Decimal(604800),
}
_SECONDS_MAX = 10**11
"""Beyond every entry's time; an exponent can make a number of seconds as long as it likes."""

_PART = r"(\d{1,12}(?:\.\d{1,9})?)(ms|[smhdw])"
_RELATIVE = re.compile(rf"-(?:{_PART})+")
_FRACTION = re.compile(r"(.*\d{2}:?\d{2}:?\d{2})[.,](\d{1,9})(.*)")


def parse_time(text: str, now_ns: int) -> int:
    """A point in time, in ns since 1970.

    Args:
        text: ISO 8601 (UTC where it names no zone, to the nanosecond), "-10m" or "-1h30m" before
            now, "now", or "@" and seconds since 1970.
        now_ns: what "now" is.

    Raises:
        ValueError: it is none of these.
    """
    text = text.strip()
    if text == "now":
        return now_ns
    if _RELATIVE.fullmatch(text):
        parts = re.findall(_PART, text)
        return now_ns - int(sum(Decimal(n) * _UNIT_S[unit] for n, unit in parts) * 1_000_000_000)
    if text.startswith("@"):
        try:
            seconds = Decimal(text[1:])
            if abs(seconds) <= _SECONDS_MAX:
                return int(seconds * 1_000_000_000)
        except ArithmeticError as error:
            raise ValueError(text) from error
        raise ValueError(text)
    fraction_ns = 0
    found = _FRACTION.fullmatch(text)
    if found:
        text = found[1] + found[3]
        fraction_ns = int(found[2].ljust(9, "0"))
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000 + fraction_ns


def _convert_time(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        return parse_time(value, time.time_ns())
    except (ValueError, ArithmeticError):
        raise click.BadParameter(
            f"{value!r} is no time; write 2026-11-23T15:20:54Z, 2026-11-23 15:20, -10m, now, or "
            "@1795447254"
        ) from None


def _convert_log(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if not value:
        raise click.BadParameter("the name of the log's directory is empty")
    return os.path.abspath(value)


class WholeNumber(click.IntRange):
    """As IntRange, which calls what is not a number "not a valid integer range"."""

    name = "whole number"


class Seconds(click.FloatRange):
    """As FloatRange, which takes nan."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuses what is no number."""
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is no number of seconds.", param, ctx)
        return found


LSN = WholeNumber(1)


def time_option(name: str, what: str) -> Callable[[F], F]:
    """An option that takes a point in time, and gives ns since 1970."""
    return click.option(name, callback=_convert_time, metavar="TIME", help=what)


def log_argument(function: F) -> F:
    """The log's directory."""
    return click.argument("log", metavar="DIR", callback=_convert_log)(function)


def json_option(what: str) -> Callable[[F], F]:
    """--json"""
    return click.option("--json", "as_json", is_flag=True, help=what)


def kind_option(function: F) -> F:
    """--kind"""
    return click.option(
        "--kind",
        type=WholeNumber(1, TERM),
        metavar="N",
        help="Only entries of this kind (1 is data).",
    )(function)


def payload_option(function: F) -> F:
    """--payload"""
    return click.option(
        "--payload",
        "payload_form",
        type=click.Choice(["raw", "json", "hex"]),
        help=(
            "How payloads are written, always whole. raw: their bytes and nothing else. json: as "
            "JSON. hex: as hexadecimal digits. By default: as text where they are text."
        ),
    )(function)


def refuse_raw_json(as_json: bool, payload_form: str | None) -> None:
    """Of two options that both say what a line is, only one may be given."""
    if as_json and payload_form == "raw":
        raise click.UsageError("--payload raw writes bare bytes; it cannot go with --json.")
