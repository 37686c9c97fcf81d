"""What several tests share: seeds, logs of known content, copies of directories, children."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.seeds import seed_from
from walstore import FileWALManager, WALEntry
from walstore.wal import files
from walstore.wal.segment import RECORDS_AT

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parent.parent
SEED_VARIABLE = "WALSTORE_TEST_SEED"


def seed_of(name: str) -> int:
    """The commit's seed, or the one that is asked for; printed, to replay a failure with."""
    seed = seed_from(SEED_VARIABLE)
    print(f"{name}: replay with {SEED_VARIABLE}={seed}")
    return seed


def seeded(name: str) -> random.Random:
    """A generator of random numbers from `seed_of`."""
    return random.Random(seed_of(name))


class Ticks:
    """A clock that goes 1000 ns at each reading, so that files come out the same each time."""

    def __init__(self) -> None:
        self.now_ns = 1_700_000_000_000_000_000

    def __call__(self) -> int:
        self.now_ns += 1000
        return self.now_ns


class Entropy:
    """Random bytes from a seed."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)

    def __call__(self, size: int) -> bytes:
        return self._random.randbytes(size)


def snapshot(path: Path) -> dict[str, bytes]:
    """Every file of a directory, by name."""
    return {child.name: child.read_bytes() for child in sorted(path.iterdir()) if child.is_file()}


def restore(path: Path, files: dict[str, bytes]) -> Path:
    """Makes a directory hold exactly these files."""
    if path.exists():
        shutil.rmtree(path)
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def crash_copy(source: Path, target: Path) -> Path:
    """What is on the disk of a running log: the directory a kill would leave behind."""
    target.mkdir()
    # `meta` first, as it is read: an entry on its way may become durable while this copies.
    for name in sorted(os.listdir(source), key=lambda name: (name != "meta", name)):
        try:
            shutil.copyfile(source / name, target / name)
        except FileNotFoundError:
            # A spare that the housekeeper has just put to use; no part of the log.
            assert name.startswith("spare-"), name
    return target


def payloads(entries: Iterable[WALEntry]) -> list[bytes]:
    """Their payloads."""
    return [entry.payload for entry in entries]


def contents(path: Path) -> list[WALEntry]:
    """All entries of a closed log, read without changing it."""
    with FileWALManager(path, read_only=True) as log:
        return list(log.replay())


def segment_files(path: Path) -> list[Path]:
    """The segment files of a log, oldest first."""
    return sorted(
        (child for child in path.iterdir() if child.name[:1].isdigit()),
        key=lambda child: int(child.stem.split("-")[1], 16),
    )


def _waits_in_join(thread_id: int) -> bool:
    """Whether a thread waits for another one to end."""
    frame, names = sys._current_frames().get(thread_id), []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return "join" in names and names[0] in ("join", "wait", "_wait_for_tstate_lock")


@contextmanager
def interrupted_in_join(timeout_s: float = 20.0) -> Iterator[None]:
    """Ctrl-C comes when the block, in the main thread, waits for a thread to end; it must let the
    interrupt out."""
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        deadline_s = time.monotonic() + timeout_s
        while not _waits_in_join(main):
            if time.monotonic() >= deadline_s:
                return
            time.sleep(0.001)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("it ended, and was not interrupted")
    finally:
        thread.join()


def interrupt_and_close_again(close: Callable[[], None], may_end: threading.Event) -> None:
    """Ctrl-C comes while `close`, in the main thread, waits for a thread, which ends when it may:
    the next close must wait for it, too."""
    with interrupted_in_join():
        close()
    assert_waits(close, may_end)


def assert_waits(call: Callable[[], object], may_end: threading.Event) -> None:
    """A call, in a thread, ends when it may, and not before."""
    calling = threading.Thread(target=call, daemon=True)
    calling.start()
    calling.join(0.05)  # would have ended by now, did it not wait
    assert calling.is_alive()
    may_end.set()
    calling.join(20.0)
    assert not calling.is_alive(), "it hangs"


def refuse_reads(patch: pytest.MonkeyPatch, path: Path, number: int) -> Counter[str]:
    """The system refuses to read the records of a file from now on; counts how often."""
    read_at, refused = files.read_at, Counter[str]()

    def refuse(fd: int, size: int, at: int) -> bytes:
        if at + size > RECORDS_AT and os.readlink(f"/proc/self/fd/{fd}") == str(path):
            refused["reads"] += 1
            raise OSError(number, os.strerror(number))
        return read_at(fd, size, at)

    patch.setattr(files, "read_at", refuse)
    return refused


def open_descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def child(source: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Starts Python on a piece of source, with pipes to talk to it."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def run_child(source: str, *arguments: str | Path, timeout_s: float = 60) -> str:
    """Runs Python on a piece of source to its end, which must be good, and returns its output."""
    process = child(source, *arguments)
    try:
        out, err = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    return out


def expect_line(process: subprocess.Popen[str], line: str) -> None:
    """Waits for a line of a child's output."""
    assert process.stdout is not None
    got = process.stdout.readline().strip()
    assert got == line, (got, process.stderr and got != line and process.stderr.read())


def tell(process: subprocess.Popen[str], line: str) -> None:
    """Sends a line to a child."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def end(process: subprocess.Popen[str]) -> None:
    """Kills a child and lets go of its pipes."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
