"""The fault shim from Python: compiles it on demand, runs processes under it, drives it."""

from __future__ import annotations

import ctypes
import enum
import errno
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from walstore.testing.errors import CrashLabError
from walstore.testing.trace import Kind

SOURCE = Path(__file__).with_name("shim.c")
FLAGS = ("-std=gnu11", "-O2", "-g", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror")
LIBRARIES = ("-ldl", "-lpthread")


class Action(enum.IntEnum):
    """What happens to the call that is hit (kept in step with shim.c: enum action)."""

    ERRNO = 1
    SHORT = 2  # half of the bytes are written (or read)
    SHORT_FULL = 3  # half of the bytes are written, the next write says ENOSPC
    KILL = 4  # SIGKILL before the call
    KILL_TORN = 5  # SIGKILL after half of the bytes


# Calls that change the disk. Reads and mmap are injected into only when asked for.
CHANGES = frozenset(
    {
        Kind.OPEN,
        Kind.WRITE,
        Kind.FSYNC,
        Kind.FDATASYNC,
        Kind.TRUNCATE,
        Kind.ALLOCATE,
        Kind.RENAME,
        Kind.UNLINK,
        Kind.MKDIR,
        Kind.RMDIR,
        Kind.CLOSE,
    }
)
READS = frozenset({Kind.READ, Kind.MMAP})


def compiler() -> str:
    """The C compiler, or a sentence that says what to install."""
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        path = shutil.which(name) if name else None
        if path:
            return path
    raise CrashLabError("the crash lab needs a C compiler: on Debian 'apt install gcc libc6-dev'")


def build() -> Path:
    """Compiles shim.c unless this very source is compiled already; returns the library.

    Raises:
        CrashLabError: it cannot be compiled here.
    """
    if not sys.platform.startswith("linux"):
        raise CrashLabError("the crash lab needs Linux: it records calls of its C library")
    digest = hashlib.sha256(SOURCE.read_bytes() + repr(FLAGS).encode()).hexdigest()[:16]
    folder = private_folder()
    library = folder / f"shim-{digest}.so"
    if not library.exists():
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".so", delete=False) as output:
            command = [compiler(), *FLAGS, "-o", output.name, str(SOURCE), *LIBRARIES]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            os.unlink(output.name)
            raise CrashLabError(f"the crash lab cannot compile its recorder: {done.stderr}")
        os.replace(output.name, library)
    return library


def private_folder() -> Path:
    """Where the library is kept: nobody else can put one there, since programs load it."""
    folder = Path(tempfile.gettempdir()) / f"walstore-shim-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise CrashLabError(f"{folder} is not a directory that only you can write to: remove it")
    return folder


def environment(*, preload: bool = True) -> dict[str, str]:
    """The environment for a process that runs a module of this package, under the shim."""
    libraries = os.environ.get("LD_PRELOAD", "").split(":")  # a sanitizer's runtime, for one
    if preload:
        libraries.insert(0, str(build()))
    root = Path(__file__).resolve().parents[len(__package__.split("."))]
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "LD_PRELOAD": ":".join(filter(None, libraries)),
        "PYTHONPATH": os.pathsep.join(paths),
    }


class Shim:
    """The shim that this process runs under."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        if not hasattr(library, "shim_start"):
            raise RuntimeError("this process does not run under the shim")
        self._library = library
        for name in ("used", "overflow", "seen", "hits", "hit_kind", "hit_event", "calls"):
            getattr(library, f"shim_{name}").restype = ctypes.c_uint64
        library.shim_trace.restype = ctypes.c_void_p
        library.shim_arm.argtypes = [ctypes.c_uint64, ctypes.c_uint32, *[ctypes.c_int] * 3]
        library.shim_mark.argtypes = [ctypes.c_char_p, ctypes.c_uint32]
        self._memory: int = library.shim_trace()

    @staticmethod
    def loaded() -> bool:
        return hasattr(ctypes.CDLL(None), "shim_start")

    def start(self, prefix: str | os.PathLike[str], *, record: bool = True) -> None:
        """Watches everything at and below `prefix` from now on; trace and counts start empty."""
        self._library.shim_start(os.fsencode(os.path.realpath(prefix)), int(record))

    def stop(self) -> bytes:
        """Ends watching; returns the trace."""
        self._library.shim_stop()
        return self.trace()

    def trace(self) -> bytes:
        if self._library.shim_overflow():
            raise CrashLabError("the trace is full: use a shorter workload, or smaller files")
        return ctypes.string_at(self._memory, self._library.shim_used())

    def mark(self, data: bytes) -> None:
        """Puts a mark into the trace, in order with the storage calls."""
        self._library.shim_mark(data, len(data))

    def arm(
        self,
        k: int,
        kinds: Iterable[Kind] = CHANGES,
        action: Action = Action.ERRNO,
        error: int = errno.EIO,
        *,
        forever: bool = False,
    ) -> None:
        """The k-th call of these kinds from now on (k = 1 is the next) suffers `action`."""
        mask = sum(1 << kind for kind in kinds)
        self._library.shim_arm(k, mask, int(action), error, int(forever))

    def disarm(self) -> None:
        self._library.shim_disarm()

    def sync_delay(self, us: int) -> None:
        """Every sync takes this much longer, so that threads meet in one group commit."""
        self._library.shim_sync_delay(us)

    @property
    def seen(self) -> int:
        """Calls counted since arm()."""
        return int(self._library.shim_seen())

    @property
    def hits(self) -> int:
        """Faults injected since arm()."""
        return int(self._library.shim_hits())

    @property
    def hit_kind(self) -> Kind:
        """Kind of the first call that was hit."""
        return Kind(self._library.shim_hit_kind())

    @property
    def hit_event(self) -> int:
        """Index of the event that the first hit call left in the trace."""
        return int(self._library.shim_hit_event())

    def calls(self, kind: Kind) -> int:
        """Calls of this kind since start()."""
        return int(self._library.shim_calls(int(kind)))
