"""A filesystem whose page cache a test can lose, in FUSE: only what was synced is kept.

Everything is held in the memory of one process, which is the page cache; a sync writes the pages of
a file, or the names of a directory, to a folder. Killing the process is the power cut: what the
folder holds then is what a disk would hold that kept nothing but what it had to. A chosen sync can
be made to fail as on Linux: with EIO once, and the pages marked clean, so that they are shown as
long as the process lives, and no later sync writes them.

    store/tree/       what is durable: files and directories
    store/objects/    files that are durable and have no durable name yet
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from walstore.testing.explore import remove_tree

from .mounts import UnavailableError, need

PAGE_BYTES = 4096
HANG_S = 60
ROOT = 1
READY, FAILED = b"r", b"f"


@dataclass
class Node:
    """A file or a directory."""

    durable: str  # the path of what is durable of it
    is_directory: bool
    data: bytearray = field(default_factory=bytearray)
    dirty: set[int] = field(default_factory=set)  # pages
    names: dict[str, int] = field(default_factory=dict)
    pending: list[tuple[str, ...]] = field(default_factory=list)  # changes of names, in order


class LostCache:
    """The operations that FUSE asks for. A file's handle is the number of its node.

    Args:
        store: a folder; what it holds durably is there from the start.
        fail_sync: the number of the sync that fails, from 1.
        report: told READY when it is mounted, FAILED when that sync fails.
    """

    use_ns = True
    flag_nopath = flag_nullpath_ok = True  # so that a removed file can be used while it is open

    def __init__(self, store: str, fail_sync: int, report: Callable[[bytes], object]) -> None:
        self._objects = os.path.join(store, "objects")
        self._fail_sync, self._report, self._syncs = fail_sync, report, 0
        self._nodes: dict[int, Node] = {}
        if os.path.exists(self._objects):
            remove_tree(self._objects)
        os.mkdir(self._objects)
        self._load(os.path.join(store, "tree"))

    def _load(self, path: str) -> int:
        """What is durable at this path."""
        if os.path.isdir(path):
            number = self._add(path, is_directory=True)
            names = {name: self._load(os.path.join(path, name)) for name in os.listdir(path)}
            self._nodes[number].names = names
            return number
        number = self._add("", is_directory=False)
        node = self._nodes[number]
        os.link(path, node.durable)
        with open(path, "rb") as file:
            node.data += file.read()
        return number

    def _add(self, durable: str, *, is_directory: bool) -> int:
        number = len(self._nodes) + ROOT
        path = durable or os.path.join(self._objects, str(number))
        self._nodes[number] = Node(path, is_directory)
        return number

    def _number(self, path: str) -> int:
        number = ROOT
        for name in filter(None, path.split("/")):
            if name not in self._nodes[number].names:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            number = self._nodes[number].names[name]
        return number

    def _parent(self, path: str) -> tuple[Node, str]:
        folder, name = os.path.split(path)
        return self._nodes[self._number(folder)], name

    def init(self, path: str) -> None:
        self._report(READY)

    # Names.

    def getattr(self, path: str | None, fh: int | None = None) -> dict[str, int]:
        number = fh or self._number(path or "")
        node = self._nodes[number]
        mode = stat.S_IFDIR | 0o755 if node.is_directory else stat.S_IFREG | 0o644
        return {"st_mode": mode, "st_nlink": 1, "st_size": len(node.data), "st_ino": number}

    def opendir(self, path: str) -> int:
        return self._number(path)

    def readdir(self, path: str | None, fh: int) -> list[str]:
        return [".", "..", *self._nodes[fh].names]

    def open(self, path: str, flags: int) -> int:
        number = self._number(path)
        if flags & os.O_TRUNC:
            self._nodes[number].data.clear()
        return number

    def create(self, path: str, mode: int) -> int:
        folder, name = self._parent(path)
        number = folder.names[name] = self._add("", is_directory=False)
        with open(self._nodes[number].durable, "xb"):
            pass
        folder.pending.append(("link", name, str(number)))
        return number

    def mkdir(self, path: str, mode: int) -> None:
        folder, name = self._parent(path)
        number = folder.names[name] = self._add("", is_directory=True)
        os.mkdir(self._nodes[number].durable)
        folder.pending.append(("mkdir", name, str(number)))

    def unlink(self, path: str) -> None:
        folder, name = self._parent(path)
        del folder.names[name]
        folder.pending.append(("unlink", name))

    def rename(self, old: str, new: str) -> None:
        folder, name = self._parent(old)
        other, new_name = self._parent(new)
        if folder is not other:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        folder.names[new_name] = folder.names.pop(name)
        folder.pending.append(("rename", name, new_name))

    # Bytes.

    def read(self, path: str | None, size: int, offset: int, fh: int) -> bytes:
        return bytes(self._nodes[fh].data[offset : offset + size])

    def write(self, path: str | None, data: bytes, offset: int, fh: int) -> int:
        node = self._nodes[fh]
        node.data.extend(bytes(max(0, offset - len(node.data))))
        node.data[offset : offset + len(data)] = data
        node.dirty.update(range(offset // PAGE_BYTES, -(-(offset + len(data)) // PAGE_BYTES)))
        return len(data)

    # Syncs.

    def fsync(self, path: str | None, datasync: int, fh: int) -> None:
        node = self._nodes[fh]
        dirty, node.dirty = sorted(node.dirty), set()  # clean from now on, also if it fails
        self._count_sync()
        fd = os.open(node.durable, os.O_WRONLY)
        try:
            for at in (page * PAGE_BYTES for page in dirty):
                os.pwrite(fd, node.data[at : at + PAGE_BYTES], at)
            os.ftruncate(fd, len(node.data))
        finally:
            os.close(fd)

    def fsyncdir(self, path: str | None, datasync: int, fh: int) -> None:
        """When it fails, the names wait for the next sync."""
        self._count_sync()
        node = self._nodes[fh]
        for change in node.pending:
            self._commit(node.durable, *change)
        node.pending.clear()

    def _count_sync(self) -> None:
        self._syncs += 1
        if self._syncs == self._fail_sync:
            self._report(FAILED)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _commit(self, folder: str, change: str, name: str, more: str = "") -> None:
        path = os.path.join(folder, name)
        if change == "unlink":
            os.unlink(path)
        elif change == "rename":
            os.rename(path, os.path.join(folder, more))
        elif change == "link":
            os.link(self._nodes[int(more)].durable, path)
        else:
            os.rename(self._nodes[int(more)].durable, path)
            self._nodes[int(more)].durable = path


def fuse_package() -> Any:
    need("mount")
    if not os.path.exists("/dev/fuse"):
        raise UnavailableError("there is no /dev/fuse: the kernel has no FUSE")
    try:
        return importlib.import_module("mfusepy")
    except ImportError:
        raise UnavailableError("needs the Python package mfusepy") from None
    except OSError as error:
        raise UnavailableError(f"needs libfuse3: {error}") from None


class Daemon:
    """The process that holds the filesystem. Forks: make it without other threads."""

    def __init__(self, store: str, place: str, fail_sync: int) -> None:
        fuse = fuse_package()
        self.failed = False  # known once the power is gone
        self._pipe, writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            signal.alarm(HANG_S)
            os.close(self._pipe)
            serve(fuse, store, place, fail_sync, writing)
        os.close(writing)
        if os.read(self._pipe, 1) != READY:
            self.lose_power()
            raise UnavailableError("the FUSE filesystem did not start")

    def lose_power(self) -> None:
        """Ends it, and with it all that was not synced."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0
            self.failed = os.read(self._pipe, 1) == FAILED
            os.close(self._pipe)


def serve(fuse: Any, store: str, place: str, fail_sync: int, pipe: int) -> None:
    """The daemon's main: never returns."""
    try:
        files = LostCache(store, fail_sync, lambda what: os.write(pipe, what))
        fuse.FUSE(files, place, foreground=True, nothreads=True, hard_remove=True)
    finally:
        os._exit(1)


@contextmanager
def mounted_cache(store: str, place: str, fail_sync: int = 0) -> Iterator[Daemon]:
    daemon = Daemon(store, place, fail_sync)
    try:
        yield daemon
    finally:
        daemon.lose_power()
        subprocess.run(["umount", "--lazy", place], check=True)
