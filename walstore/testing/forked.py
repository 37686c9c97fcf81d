"""Runs a function in a forked child: nothing that it leaves behind reaches the next one."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn

FOLDER = str(Path(__file__).parent)
DETAILS_MAX = 6000  # characters of a traceback


@dataclass(frozen=True)
class Ending:
    """How the child ended. `problem` is empty when the function returned."""

    problem: str = ""
    details: str = ""  # the traceback
    raised: str = ""  # the name of the exception, if that is how it ended


def run(call: Callable[[], object], note: str, timeout_s: float) -> Ending:
    """Runs `call` in a child. The file `note` carries its ending."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _child(call, note, timeout_s)
    _, status = os.waitpid(child, 0)
    if status == 0:
        return Ending()
    text = Path(note).read_text()
    if text.startswith("{"):
        return Ending(**json.loads(text))
    if text:
        return Ending(f"did not end within {timeout_s:g} s", text[:DETAILS_MAX])
    if os.WIFSIGNALED(status):
        return Ending(f"was killed by {signal.Signals(os.WTERMSIG(status)).name}")
    return Ending(f"ended its process with status {os.waitstatus_to_exitcode(status)}")


def _child(call: Callable[[], object], note: str, timeout_s: float) -> NoReturn:
    status = 1
    with open(note, "w") as file:
        faulthandler.dump_traceback_later(timeout_s, exit=True, file=file)
        try:
            call()
            status = 0
        except BaseException as error:  # whatever it raises is the result
            json.dump(
                {
                    "problem": f"raised {type(error).__name__}: {error}"[:DETAILS_MAX],
                    "details": story_of(error)[-DETAILS_MAX:],
                    "raised": type(error).__name__,
                },
                file,
            )
        finally:
            file.flush()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def story_of(error: BaseException) -> str:
    """Its traceback, from the first frame that is not the lab's."""
    frame: TracebackType | None = error.__traceback__
    while frame and frame.tb_next and frame.tb_frame.f_code.co_filename.startswith(FOLDER):
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame))
