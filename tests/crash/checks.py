"""Checks of the shim itself, each run in a process under it: `python -m <package>.checks NAME`."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from walstore.testing.disk import Disk, UnmodelledError
from walstore.testing.shim import Action, Shim
from walstore.testing.trace import Kind, parse


@contextmanager
def watched() -> Iterator[tuple[Shim, str]]:
    """A directory that the shim watches."""
    with tempfile.TemporaryDirectory() as folder:
        shim = Shim()
        shim.start(folder)
        yield shim, os.path.realpath(folder)
        shim.stop()


def compare(shim: Shim, folder: str) -> Disk:
    """Replays the trace; the model must show what is really there."""
    disk = Disk(folder, {})
    for event in parse(shim.trace()):
        disk.apply(event)
    disk.compare(folder)
    return disk


def calls() -> None:
    """Every way to change a file, by Python and by C, ends up in the trace with its bytes."""
    with watched() as (shim, folder):
        os.mkdir(f"{folder}/a")
        fd = os.open(f"{folder}/a/x", os.O_RDWR | os.O_CREAT)
        os.write(fd, b"hello ")
        os.writev(fd, [b"wor", b"ld"])
        os.pwrite(fd, b"J", 0)
        os.pwritev(fd, [b"12", b"34"], 600)
        os.ftruncate(fd, 700)
        os.posix_fallocate(fd, 0, 1000)
        os.fsync(fd)
        copy = os.dup(fd)
        os.write(copy, b"copy")
        os.fdatasync(copy)
        os.close(copy)
        libc = ctypes.CDLL(None)
        assert libc.pwrite(fd, b"from C", 6, ctypes.c_long(300)) == 6
        os.close(fd)
        with open(f"{folder}/a/y", "ab") as file:
            file.write(b"appended")
            file.flush()
            file.write(b" more")
        folder_fd = os.open(folder, os.O_RDONLY)
        fd = os.open("b", os.O_WRONLY | os.O_CREAT, dir_fd=folder_fd)
        os.close(fd)
        os.rename("b", "a/z", src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        os.fsync(folder_fd)
        os.close(folder_fd)
        os.rename(f"{folder}/a/../a//y", f"{folder}/y")
        os.unlink(f"{folder}/a/x")
        os.chdir(folder)
        os.mkdir("gone")
        os.rmdir("gone")
        compare(shim, folder)
        kinds = {event.kind for event in parse(shim.trace())}
        assert kinds >= {*Kind} - {Kind.MARK, Kind.READ, Kind.MMAP, Kind.UNSUPPORTED}, kinds
        assert shim.calls(Kind.FDATASYNC) == 1
        os.chdir("/")


def unmodelled() -> None:
    """A change that the model does not know is not passed over."""
    import mmap

    def by_mmap(path: str) -> None:
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            memory[0] = 1

    changes: list[Callable[[str], object]] = [
        by_mmap,
        lambda path: os.link(path, path + "2"),
        lambda path: os.truncate(path, 1),
    ]
    for change in changes:
        with watched() as (shim, folder):
            with open(f"{folder}/x", "wb") as file:
                file.write(b"1234")
            change(f"{folder}/x")
            try:
                compare(shim, folder)
            except UnmodelledError:
                continue
            raise AssertionError(f"{change} went unseen")


def order() -> None:
    """Marks and calls of many threads keep the order in which they happened."""
    with watched() as (shim, folder):
        fds = [os.open(f"{folder}/{n}", os.O_WRONLY | os.O_CREAT) for n in range(4)]

        def write(n: int) -> None:
            for at in range(200):
                os.pwrite(fds[n], bytes([at]), 0)
                os.fdatasync(fds[n])
                shim.mark(b"%d %d" % (n, at))

        threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        disk, marks = Disk(folder, {}), 0
        for event in parse(shim.trace()):
            disk.apply(event)
            if event.kind is Kind.MARK:
                n, at = map(int, event.data.split())
                assert disk.live_image()[str(n)] == bytes([at])
                assert not disk.files[n + 1].pending, "marked before its sync had ended"
                marks += 1
        assert marks == 800


def faults() -> None:
    """The k-th call fails, once or for ever, and only of the kinds that were asked for."""
    with watched() as (shim, folder):
        fd = os.open(f"{folder}/x", os.O_RDWR | os.O_CREAT)

        def outcomes(count: int = 4) -> list[int]:
            results = []
            for _ in range(count):
                try:
                    results.append(os.pwrite(fd, b"12345678", 0))
                    os.fdatasync(fd)
                except OSError as error:
                    results.append(-(error.errno or 0))
            return results

        shim.arm(2, {Kind.WRITE}, Action.ERRNO, errno.EIO)
        assert outcomes() == [8, -errno.EIO, 8, 8]
        assert (shim.hits, shim.hit_kind, shim.seen) == (1, Kind.WRITE, 4)
        shim.arm(2, {Kind.WRITE}, Action.ERRNO, errno.ENOSPC, forever=True)
        assert outcomes() == [8, *[-errno.ENOSPC] * 3]
        shim.arm(3, {Kind.FDATASYNC}, Action.ERRNO, errno.EIO)
        assert outcomes() == [8, 8, 8, -errno.EIO, 8]
        shim.arm(2, {Kind.WRITE}, Action.SHORT)
        assert outcomes() == [8, 4, 8, 8]
        shim.arm(2, {Kind.WRITE}, Action.SHORT_FULL)
        assert outcomes() == [8, 4, -errno.ENOSPC, 8]
        shim.arm(1, {Kind.WRITE}, Action.ERRNO, errno.EINTR, forever=True)
        assert outcomes(1) == [8], "EINTR for ever must come to an end for those who try again"
        assert shim.hits == 7
        shim.arm(1, {Kind.READ}, Action.ERRNO, errno.EIO)
        with suppress(OSError):
            os.pread(fd, 8, 0)
        assert (shim.hits, shim.hit_kind) == (1, Kind.READ)
        shim.disarm()
        assert outcomes() == [8, 8, 8, 8]
        os.close(fd)
        compare(shim, folder)


def kill() -> None:
    """A child is killed at the k-th call; its trace outlives it."""
    for action, expected in ((Action.KILL, b"1234"), (Action.KILL_TORN, b"1256")):
        with watched() as (shim, folder):
            child = os.fork()
            if child == 0:
                fd = os.open(f"{folder}/x", os.O_RDWR | os.O_CREAT)
                shim.arm(2, {Kind.WRITE}, action)
                os.pwrite(fd, b"1234", 0)
                shim.mark(b"acked")
                os.pwrite(fd, b"5678", 2)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert os.WTERMSIG(status) == signal.SIGKILL
            events = list(parse(shim.trace()))
            assert [e.data for e in events if e.kind is Kind.MARK] == [b"acked"]
            image = compare(shim, folder).live_image()["x"]
            assert image is not None
            assert image[:4] == expected
            assert shim.hits == 1


CHECKS = {check.__name__: check for check in (calls, unmodelled, order, faults, kill)}

if __name__ == "__main__":
    CHECKS[sys.argv[1]]()
