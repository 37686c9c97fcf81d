"""What callers hand in, checked where it is handed in: a mistake is named, and nothing is lost."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable

from walstore.errors import NotALogError, OptionError, PayloadTypeError

__all__ = ["checked_clock", "checked_entropy", "checked_lsn", "checked_path", "checked_payload"]

_TIME_NS_MAX = (1 << 64) - 1


def checked_lsn(name: str, value: object) -> int:
    """An lsn as an int; whether the log holds it is not asked here."""
    if type(value) is int:
        return value
    try:
        if not isinstance(value, bool):
            return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        pass
    raise OptionError(f"{name} is a whole number, not {value!r}")


def checked_path(path: object) -> str:
    """A log's path, absolute."""
    try:
        text = os.fspath(path)  # type: ignore[call-overload]
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise OptionError(f"path is a str, or a PathLike of one, not {path!r}")
    try:
        nameable = b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        nameable = False
    if not nameable:
        raise NotALogError(repr(text), "no file can have this name", "name the log's directory")
    return os.path.abspath(text)


def checked_clock(clock: Callable[[], int]) -> Callable[[], int]:
    """The clock, each of its readings checked."""

    def now_ns() -> int:
        value = clock()
        if type(value) is not int or not 0 <= value <= _TIME_NS_MAX:
            raise OptionError(f"clock gives ns since 1970 as a whole number, not {value!r}")
        return value

    return now_ns


def checked_entropy(entropy: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """The source of random bytes, all that it gives checked."""

    def random_bytes(size: int) -> bytes:
        value = entropy(size)
        if type(value) is not bytes or len(value) != size:
            raise OptionError(f"entropy gives {size} bytes when asked for {size}, not {value!r}")
        return value

    return random_bytes


def checked_payload(payload: object) -> memoryview:
    """A payload as a view of its bytes."""
    if not isinstance(payload, (bytes, bytearray, memoryview)):
        raise PayloadTypeError(
            f"a payload is bytes, bytearray or memoryview, not {type(payload).__name__}"
        )
    try:
        view = memoryview(payload)
    except ValueError as error:
        raise PayloadTypeError("a memoryview payload must not have been released") from error
    if not view.c_contiguous:
        raise PayloadTypeError("a memoryview payload must be contiguous")
    if not view.nbytes:
        return memoryview(b"")  # a view with a side of no length cannot be cast
    try:
        return view.cast("B")
    except ValueError:  # of items in another byte order, which cannot be cast either
        return memoryview(view.tobytes())
