"""Documents as JSON, and back: what JSON has no type for is an object with one key, such as $date.

The forms are those of MongoDB's Extended JSON (docs/cli.md, "Documents as JSON"). No document has
such keys, so none is mistaken for one.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

__all__ = ["BadJSONError", "from_json", "to_json"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WHOLE = re.compile(r"-?\d{1,19}")


class BadJSONError(ValueError):
    """A text that is not JSON, or an object in it that means nothing; its text says what."""


# ---- from documents ----


def to_json(value: Any, *, ascii: bool = False) -> str:
    """A document, or a value of one, on one line, which no terminal acts on: what is not printable
    is a \\u escape; `ascii`: all else, too."""
    text = json.dumps(_plain(value), ensure_ascii=ascii, allow_nan=False)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {name: _plain(item) for name, item in value.items()}
    if kind is list:
        return [_plain(item) for item in value]
    if kind is bytes:
        text = base64.b64encode(value).decode()
        return {"$binary": {"base64": text, "subType": "00"}}
    if kind is datetime:
        return {"$date": value.isoformat().replace("+00:00", "Z")}
    if kind is float and math.isinf(value):
        return {"$numberDouble": "Infinity" if value > 0 else "-Infinity"}
    return value


# ---- to documents ----


def from_json(text: str) -> Any:
    """The value that a JSON text stands for.

    Raises:
        BadJSONError
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refused_constant,
            parse_float=_finite,
        )
    except json.JSONDecodeError as error:
        raise BadJSONError(f"not JSON: {error.msg}, at column {error.colno}") from None
    except BadJSONError:
        raise
    except ValueError:  # int() takes 4300 digits
        raise BadJSONError("a number has too many digits") from None
    except RecursionError:
        raise BadJSONError("nested too deeply") from None


def _refused_constant(name: str) -> NoReturn:
    raise BadJSONError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise BadJSONError(f"{text} does not fit into a float")
    return number


def _object(pairs: list[tuple[str, Any]]) -> Any:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _value in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadJSONError(f"the key {twice!r} is there twice")
    if len(pairs) == 1 and pairs[0][0] in _READERS:
        name, value = pairs[0]
        try:
            return _READERS[name](value)
        except (ValueError, TypeError, KeyError, OverflowError):
            raise BadJSONError(f"{json.dumps(fields, default=str)} is no {name}") from None
    return fields


def _binary(value: Any) -> bytes:
    if not isinstance(value, dict) or not value.keys() <= {"base64", "subType"}:
        raise ValueError(value)
    try:
        return base64.b64decode(value["base64"], validate=True)
    except binascii.Error as error:
        raise ValueError(value) from error


def _date(value: Any) -> datetime:
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError(value)
        return moment.astimezone(UTC)
    return _EPOCH + timedelta(milliseconds=_whole(value))


def _whole(value: Any) -> int:
    if type(value) is int:
        return value
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    raise ValueError(value)


def _double(value: Any) -> float:
    if type(value) not in (str, int, float) or (number := float(value)) != number:
        raise ValueError(value)
    return number


def _object_id(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F]{24}", value):
        raise ValueError(value)
    return value.lower()


_READERS: dict[str, Callable[[Any], Any]] = {
    "$binary": _binary,
    "$date": _date,
    "$numberDouble": _double,
    "$numberInt": _whole,
    "$numberLong": _whole,
    "$oid": _object_id,
}
