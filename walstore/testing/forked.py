"""Runs functions in forked children: nothing that they leave behind reaches the next one."""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

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


class Asker:
    """Asks whether a function returns, for many arguments. A fork costs more than most checks do,
    so one child answers until the answer is no, or until it has answered often."""

    ANSWERS_MAX = 100  # of one child, in case each leaves something behind

    def __init__(self, call: Callable[..., object], timeout_s: float) -> None:
        self._call, self._timeout_s = call, timeout_s
        self._child = self._left = 0

    def passes(self, *arguments: Any) -> bool:
        """Whether the function returned; no, too, if its process ended or took too long."""
        if self._left == 0:
            self._fork()
        self._left -= 1
        try:
            self._questions.write(json.dumps(arguments) + "\n")
            self._questions.flush()
            answered = any(fd == self._answers for fd, _ in self._poll.poll())
        except BrokenPipeError:  # what it did before has ended it
            answered = False
        good = answered and os.read(self._answers, 1) == b"+"
        if not good or self._left == 0:
            self.end()
        return good

    def end(self) -> None:
        """Ends the child."""
        if not self._child:
            return
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)
        try:
            self._questions.close()
        except BrokenPipeError:
            pass
        os.close(self._answers)
        os.close(self._pidfd)
        self._child = self._left = 0

    def _fork(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        asked, questions = os.pipe()
        self._answers, answers = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(questions)
            self._answer(asked, answers)
        os.close(asked)
        os.close(answers)
        self._questions = open(questions, "w")
        self._left = self.ANSWERS_MAX
        # What the child has forked itself may outlive it, and hold its end of the pipe open.
        self._pidfd = os.pidfd_open(self._child)
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)
        self._poll.register(self._pidfd, select.POLLIN)

    def _answer(self, asked: int, answers: int) -> NoReturn:
        """The child. It ends itself after its first no: the caller asks a fresh one why."""
        try:
            for line in open(asked):
                faulthandler.dump_traceback_later(self._timeout_s, exit=True, file=2)
                self._call(*json.loads(line))
                faulthandler.cancel_dump_traceback_later()
                os.write(answers, b"+")
        finally:
            os._exit(0)


def story_of(error: BaseException) -> str:
    """Its traceback, from the first frame that is not the lab's."""
    frame: TracebackType | None = error.__traceback__
    while frame and frame.tb_next and frame.tb_frame.f_code.co_filename.startswith(FOLDER):
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame))
