"""An interrupt at a place that is chosen."""

from __future__ import annotations

import dis
import linecache
import sys
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any

__all__ = ["interrupted_in"]


def interrupted_in(
    file: str, count: int, call: Callable[[], object], functions: Collection[str] = ()
) -> bool:
    """Whether an interrupt came, before the line of that file, or of these functions in it, that is
    run so many lines on. None comes where a `with` lets go: CPython looks for signals right after
    that, not before."""
    left = count

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal left
        code = frame.f_code
        if not code.co_filename.endswith(file) or (functions and code.co_name not in functions):
            return None
        if event != "line" or _lets_go(frame):
            return trace
        left -= 1
        if left == 0:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    others = sys.gettrace()  # what measures the tests' coverage
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(others)
    return False


def _lets_go(frame: FrameType) -> bool:
    """Whether the line is that of a `with`, and comes again at its end."""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip()
    begins = dis.opname[frame.f_code.co_code[frame.f_lasti]].startswith("LOAD_FAST")
    return line.startswith("with ") and not begins
