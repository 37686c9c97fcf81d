"""Ctrl-C in the middle of a change, and calls that meet while a log fails or closes: nothing hangs,
and what holds the log lets go of it."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import (
    assert_waits,
    contents,
    interrupted_in_join,
    open_descriptors,
    payloads,
    run_child,
)
from tests.wal.inside import writer_of
from walstore import FileWALManager, LogLockedError, LogPoisonedError
from walstore._native import lib
from walstore.limits import PAYLOAD_BYTES_MAX
from walstore.wal.meta import Meta, read_meta
from walstore.wal.opening import open_meta

IN_TIME_S = 20.0


def finish(thread: threading.Thread) -> None:
    thread.join(IN_TIME_S)
    assert not thread.is_alive(), "it hangs"


def in_thread(call: object, *arguments: object) -> threading.Thread:
    assert callable(call)
    thread = threading.Thread(target=call, args=arguments, daemon=True)
    thread.start()
    return thread


def finish_wait(event: threading.Event) -> None:
    assert event.wait(IN_TIME_S)


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


def test_the_next_close_waits_for_what_the_interrupted_one_waited_for(tmp_path: Path) -> None:
    """Work in the background that went on in files of the log, when that was another's already,
    wrote zeros over its entries."""
    log = FileWALManager(tmp_path / "log")
    log.append(b"x")
    goes_on, done = threading.Event(), threading.Event()

    def work() -> None:
        finish_wait(goes_on)
        done.set()

    keeper = writer_of(log)._housekeeper
    keeper.add(work)
    with interrupted_in_join():
        log.close()
    late: list[str] = []
    adding = in_thread(keeper.add, lambda: late.append("after" if done.is_set() else "beside"))
    waiting = in_thread(keeper.wait_idle)
    closing = in_thread(log.close)
    closing.join(0.05)  # would have ended by now, did it not wait
    with pytest.raises(LogLockedError):
        FileWALManager(tmp_path / "log")
    goes_on.set()
    for thread in (closing, adding, waiting):
        finish(thread)
    assert done.is_set()
    assert late == ["after"]
    with FileWALManager(tmp_path / "log") as again:
        assert again.append(b"y") == 2


def test_close_that_is_interrupted_as_it_lets_go_is_ended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = FileWALManager(tmp_path / "log")
    log.append(b"x")
    cache = writer_of(log).cache

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "close", interrupted)
    with pytest.raises(KeyboardInterrupt):
        log.close()
    monkeypatch.undo()
    log.close()
    with FileWALManager(tmp_path / "log") as again:
        assert again.append(b"y") == 2


def test_close_waits_for_that_of_another_thread(tmp_path: Path) -> None:
    log = FileWALManager(tmp_path / "log")
    goes_on = threading.Event()
    writer_of(log)._housekeeper.add(lambda: finish_wait(goes_on))
    first = in_thread(log.close)
    while not log.closed:
        assert first.is_alive()
    assert_waits(log.close, goes_on)
    finish(first)


def test_close_in_a_signal_s_handler_amid_close_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = FileWALManager(tmp_path / "log")
    log.append(b"x")
    writer = writer_of(log)
    write_meta = writer._write_meta

    def amid(meta: Meta) -> None:
        log.close()
        write_meta(meta)

    monkeypatch.setattr(writer, "_write_meta", amid)
    log.close()
    with FileWALManager(tmp_path / "log") as again:
        assert again.append(b"y") == 2


def test_a_signal_s_handler_may_look_amid_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = FileWALManager(tmp_path / "log")
    log.append_many([b"a", b"b", b"c"])
    group = writer_of(log).group
    attach, seen = group.attach, []

    def look() -> None:
        seen.append((log.first_lsn, log.last_lsn, log.durable_lsn, log.stats().last_lsn))

    def amid(*arguments: Any, **named: Any) -> None:
        look()
        attach(*arguments, **named)
        look()

    monkeypatch.setattr(group, "attach", amid)
    finish(in_thread(log.truncate_after, 2))
    assert seen == [(1, 3, 3, 3), (1, 2, 2, 2)]
    log.close()


def test_interrupted_close_of_a_reader_is_ended_by_the_next(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log:
        log.append(b"x")
        before = open_descriptors()
        reader = FileWALManager(tmp_path / "log", read_only=True)
        assert reader.read(1).payload == b"x"
        follower = reader._follower
        assert follower is not None

        def interrupt() -> None:
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(follower.cache, "close", interrupt)
            with pytest.raises(KeyboardInterrupt):
                reader.close()
        reader.close()
        assert open_descriptors() == before
        with (tmp_path / "other").open("wb") as other:  # of the number that `meta` had, perhaps
            reader.close()
            other.write(b"whole")


CLOSED_AT_EXIT = """
    import sys

    from walstore import FileWALManager
    from walstore.wal import files

    class App:
        def __init__(self):
            self.log = FileWALManager(sys.argv[1], segment_bytes=1 << 20)
            for _ in range(8):
                self.log.append(bytes(100_000))
            self.meta = files.open_file(sys.argv[1] + "/meta")

        def __del__(self):
            for _ in range(20):
                self.log.append(bytes(100_000))
            self.log.close()
            print("locked" if files.is_locked(self.meta) else "free")

    app = App()
"""


def test_a_log_may_be_closed_at_the_end_of_the_interpreter(tmp_path: Path) -> None:
    """Its threads were stopped where they were, amid a write perhaps, which goes on: so the log is
    not another's before the process has ended."""
    assert run_child(CLOSED_AT_EXIT, tmp_path / "log", timeout_s=10).strip() == "locked"
    meta_fd = open_meta(str(tmp_path / "log"), write=False)
    with os.fdopen(meta_fd):
        meta = read_meta(meta_fd, "meta")
    assert meta is not None
    assert (meta.clean, meta.clean_lsn) == (True, 28)
    with FileWALManager(tmp_path / "log") as log:
        assert log.append(b"again") == 29


STOPPED_AMID_A_CHANGE = """
    import sys
    import threading

    from walstore import FileWALManager

    apart = {"goes_on": threading.Event()}  # the thread must not keep this module from its end
    exec("def change(log, amid):\\n with log._writer._changes: amid.set(); goes_on.wait()", apart)

    class App:
        def __init__(self):
            self.log = FileWALManager(sys.argv[1])
            self.log.append(b"x")
            amid = threading.Event()
            threading.Thread(target=apart["change"], args=(self.log, amid), daemon=True).start()
            amid.wait()

        def __del__(self):
            self.log.close()
            print("closed")

    app = App()
"""


def test_nobody_waits_for_a_change_whose_thread_the_interpreter_has_stopped(
    tmp_path: Path,
) -> None:
    assert run_child(STOPPED_AMID_A_CHANGE, tmp_path / "log", timeout_s=10).strip() == "closed"
    with FileWALManager(tmp_path / "log") as log:
        assert log.append(b"again") == 2


def test_close_returns_when_the_log_fails_under_a_write(tmp_path: Path) -> None:
    """Where the machine is busy, the write may be over before the log fails: then once more."""
    for attempt in range(20):
        if fails_under_a_write(tmp_path / str(attempt)):
            return
    raise AssertionError("no write was under way when the log failed")


def fails_under_a_write(path: Path) -> bool:
    log = FileWALManager(path)
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
    shutil.rmtree(path)
    assert [type(error) for error in outcome] in ([LogPoisonedError], [])
    return bool(outcome)
