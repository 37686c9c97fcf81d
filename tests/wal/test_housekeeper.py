"""The housekeeper: jobs in order, errors told, and an end that loses none."""

from __future__ import annotations

import errno
import threading
from typing import Any

import pytest

from tests.helpers import assert_waits
from walstore.wal.housekeeper import Housekeeper

NAME = "walstore-housekeeper"


def never(error: OSError) -> None:
    raise AssertionError(error)


def housekeepers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def test_jobs_run_in_order_and_in_one_other_thread() -> None:
    keeper = Housekeeper(never)
    done: list[tuple[int, int]] = []

    def job(number: int) -> None:
        done.append((number, threading.get_ident()))

    for number in range(200):
        keeper.add(lambda number=number: job(number))  # type: ignore[misc]
    keeper.wait_idle()
    assert [number for number, _ in done] == list(range(200))
    idents = {ident for _, ident in done}
    assert len(idents) == 1
    assert threading.get_ident() not in idents
    keeper.stop()


def test_thread_comes_with_the_first_job_and_goes_with_stop() -> None:
    before = len(housekeepers())
    idle = Housekeeper(never)
    idle.wait_idle()
    idle.stop()
    keeper = Housekeeper(never)
    assert len(housekeepers()) == before
    keeper.add(lambda: None)
    keeper.add(lambda: None)
    assert len(housekeepers()) == before + 1
    keeper.stop()
    assert len(housekeepers()) == before


def test_thread_does_not_keep_the_process() -> None:
    keeper = Housekeeper(never)
    keeper.add(lambda: None)
    assert all(thread.daemon for thread in housekeepers())
    keeper.stop()


def test_stop_does_the_jobs_that_were_added() -> None:
    keeper = Housekeeper(never)
    gate = threading.Event()
    done: list[int] = []

    def first() -> None:
        assert gate.wait(30)
        done.append(1)

    keeper.add(first)
    keeper.add(lambda: done.append(2))
    stopper = threading.Thread(target=keeper.stop)
    stopper.start()
    gate.set()
    stopper.join(30)
    assert not stopper.is_alive()
    assert done == [1, 2]


def test_wait_idle_waits_for_the_job_that_runs() -> None:
    keeper = Housekeeper(never)
    gate, running = threading.Event(), threading.Event()
    order: list[str] = []

    def job() -> None:
        running.set()
        assert gate.wait(30)
        order.append("job")

    def wait() -> None:
        keeper.wait_idle()
        order.append("waiter")

    keeper.add(job)
    assert running.wait(30)
    assert_waits(wait, gate)
    assert order == ["job", "waiter"]
    keeper.stop()


def test_an_error_is_told_and_the_next_job_runs() -> None:
    errors: list[int | None] = []
    keeper = Housekeeper(lambda error: errors.append(error.errno))
    done: list[int] = []

    def fail() -> None:
        raise OSError(errno.ENOSPC, "no space")

    keeper.add(fail)
    keeper.add(lambda: done.append(1))
    keeper.add(fail)
    keeper.wait_idle()
    assert errors == [errno.ENOSPC] * 2
    assert done == [1]
    keeper.stop()


def test_a_job_may_add_another() -> None:
    keeper = Housekeeper(never)
    done = threading.Event()
    keeper.add(lambda: keeper.add(done.set))
    assert done.wait(30)
    keeper.wait_idle()
    keeper.stop()


class Interrupted:
    """A queue whose `put` a signal comes into, before anything is in it."""

    def put(self, job: object) -> None:
        raise KeyboardInterrupt


def test_an_interrupted_add_leaves_nobody_waiting() -> None:
    keeper = Housekeeper(never)
    keeper.add(lambda: None)
    jobs: Any = keeper._jobs
    keeper._jobs = Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        keeper.add(lambda: None)
    keeper._jobs = jobs
    waiter = threading.Thread(target=keeper.wait_idle, daemon=True)
    waiter.start()
    waiter.join(10)
    assert not waiter.is_alive()
    keeper.stop()


def test_a_thread_whose_start_was_interrupted_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(_thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    keeper = Housekeeper(never)
    done: list[str] = []
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        keeper.add(lambda: done.append("lost with who added it"))
    monkeypatch.undo()

    def use() -> None:
        keeper.wait_idle()
        keeper.add(lambda: done.append("next"))
        keeper.wait_idle()
        done.append("idle")
        keeper.stop()

    user = threading.Thread(target=use, daemon=True)
    user.start()
    user.join(10)
    assert not user.is_alive()
    assert done == ["next", "idle"]


def test_nobody_waits_for_a_housekeeper_that_has_stopped() -> None:
    keeper = Housekeeper(never)
    keeper.add(lambda: None)
    keeper.stop()
    keeper.wait_idle()
    keeper.stop()


def test_without_a_thread_the_job_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    keeper = Housekeeper(never)
    done: list[int] = []
    monkeypatch.setattr(threading.Thread, "start", refuse)
    keeper.add(lambda: keeper.add(lambda: done.append(threading.get_ident())))
    assert done == [threading.get_ident()]
    keeper.wait_idle()
    monkeypatch.undo()
    keeper.add(lambda: done.append(threading.get_ident()))
    keeper.stop()
    assert len(set(done)) == 2


def test_a_defect_is_told_and_the_next_job_runs(caplog: pytest.LogCaptureFixture) -> None:
    errors: list[int | None] = []
    keeper = Housekeeper(lambda error: errors.append(error.errno))
    done: list[int] = []

    def fail() -> None:
        raise ValueError("nobody thought of it")

    keeper.add(fail)
    keeper.add(lambda: done.append(1))
    keeper.wait_idle()
    assert (errors, done) == ([errno.EIO], [1])
    assert "nobody thought of it" in caplog.text
    keeper.stop()
