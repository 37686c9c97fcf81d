"""Ctrl-C in the middle of a change, and calls that meet while a log fails or closes: nothing hangs,
and what holds the log lets go of it."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from tests.helpers import contents, payloads
from walstore import FileWALManager, LogPoisonedError
from walstore._native import lib
from walstore.limits import PAYLOAD_BYTES_MAX

IN_TIME_S = 20.0


def finish(thread: threading.Thread) -> None:
    thread.join(IN_TIME_S)
    assert not thread.is_alive(), "it hangs"


def in_thread(call: object, *arguments: object) -> threading.Thread:
    assert callable(call)
    thread = threading.Thread(target=call, args=arguments, daemon=True)
    thread.start()
    return thread


def test_interrupt_while_freezing_lets_appends_in_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = FileWALManager(tmp_path / "log")
    for number in range(5):
        log.append(b"%d" % number)
    assert log._writer is not None
    group = log._writer.group
    freeze = group.freeze

    def interrupted() -> None:
        freeze()
        raise KeyboardInterrupt  # where CPython raises it: right after the call into C

    monkeypatch.setattr(group, "freeze", interrupted)
    with pytest.raises(KeyboardInterrupt):
        log.truncate_after(3)
    monkeypatch.undo()
    finish(in_thread(log.append, b"after"))
    finish(in_thread(log.close))
    assert payloads(contents(tmp_path / "log")) == [b"0", b"1", b"2", b"3", b"4", b"after"]


def test_interrupted_close_is_ended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = FileWALManager(tmp_path / "log", sync="os")
    log.append(b"x")
    assert log._writer is not None

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(log._writer._housekeeper, "stop", interrupted)
    with pytest.raises(KeyboardInterrupt):
        log.close()
    monkeypatch.undo()
    assert log.closed
    log.close()
    log.close()
    with FileWALManager(tmp_path / "log") as again:
        assert again.append(b"y") == 2
    assert payloads(contents(tmp_path / "log")) == [b"x", b"y"]


def test_close_returns_when_the_log_fails_under_a_write(tmp_path: Path) -> None:
    log = FileWALManager(tmp_path / "log")
    outcome: list[BaseException] = []

    def append() -> None:
        try:
            log.append(bytes(PAYLOAD_BYTES_MAX))
        except BaseException as error:
            outcome.append(error)

    writer = in_thread(append)
    while lib.walcore_last_lsn(log._raw) < 1:  # staged: its writer is in pwrite from now on
        assert writer.is_alive()
    lib.walcore_poison(log._raw, errno.EIO)
    finish(in_thread(log.close))
    finish(writer)
    assert [type(error) for error in outcome] == [LogPoisonedError]
