"""Runs functions in forked children: nothing that they leave behind reaches the next one."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
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
ABORT_S = 5.0


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
        _child(call, note)
    hung = not ends(child, timeout_s)
    if hung:
        os.kill(child, signal.SIGABRT)  # faulthandler shows where it hangs
        if not ends(child, ABORT_S):
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    text = Path(note).read_text()
    if hung:
        return Ending(f"did not end within {timeout_s:g} s", text[:DETAILS_MAX])
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return Ending(f"was killed by {name}", text[:DETAILS_MAX])
    if text:
        return Ending(**json.loads(text))
    if status:
        return Ending(f"ended its process with status {os.waitstatus_to_exitcode(status)}")
    return Ending()


def ends(child: int, timeout_s: float) -> bool:
    """Waits for a child to end; whether it did in time."""
    pidfd = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(1000 * timeout_s))
    finally:
        os.close(pidfd)


def _child(call: Callable[[], object], note: str) -> NoReturn:
    status = 1
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it may be meant to die
    with open(note, "w") as file:
        faulthandler.enable(file)
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
            events = self._poll.poll(1000 * self._timeout_s)
            answered = any(fd == self._answers for fd, _ in events)
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
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.disable()
        try:
            for line in open(asked):
                self._call(*json.loads(line))
                os.write(answers, b"+")
        finally:
            os._exit(0)


def story_of(error: BaseException) -> str:
    """Its traceback, from the first frame that is not the lab's."""
    frame: TracebackType | None = error.__traceback__
    while frame and frame.tb_next and frame.tb_frame.f_code.co_filename.startswith(FOLDER):
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame))
