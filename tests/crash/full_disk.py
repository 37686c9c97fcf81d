"""A disk that is really full: a small filesystem of its own, or a limit on the size of files.

python -m <package>.full_disk METHOD FOLDER
"""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from .ledger import Ledger
from .mounts import UnavailableError, make_filesystem, mounted, need
from .session import MarkedLog, Session, look
from .workloads import target_named

DISK_BYTES = 3 << 20
BALLAST_BYTES = 512 << 10  # removing it makes room
SEGMENT_BYTES = 64 << 10
APPENDS_MAX = 20_000


def tmpfs(folder: str) -> AbstractContextManager[str]:
    need("mount")
    return mounted(folder, "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none")


def ext4(folder: str) -> AbstractContextManager[str]:
    image = os.path.join(folder, "image")
    make_filesystem("ext4", image, 2 * DISK_BYTES)  # some of it goes to the filesystem itself
    return mounted(folder, "-t", "ext4", "-o", "loop", image)


class Story:
    """What happens to a log when the disk fills up, and when there is room again."""

    def __init__(self, root: str) -> None:
        self.ledger = Ledger()
        rng = random.Random(1)
        target = target_named("walstore")
        self.session = Session(target, root, rng, self.mark, tolerant=True)
        self.full = target.full
        self.counts: dict[str, int] = {}

    def mark(self, data: bytes) -> None:
        self.ledger.apply_bytes(data)
        assert not self.ledger.faults, self.ledger.faults

    def open(self) -> MarkedLog:
        return self.session.open(segment_bytes=SEGMENT_BYTES)

    def fill(self, log: MarkedLog, what: str) -> None:
        """Appends until the disk is full: that append is refused whole, all others can be read."""
        count = 0
        while log.append(self.session.payload(3000)) is not None:
            count += 1
            assert count < APPENDS_MAX, "the disk does not fill up"
        error = self.session.failures[-1].error
        assert isinstance(error, self.full), repr(error)
        assert isinstance(error, OSError)
        assert error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG), error
        self.counts[what] = count
        self.check(log)

    def room(self, log: MarkedLog, what: str, count: int = 5) -> None:
        """There is room: appends work, without a reopen."""
        for _ in range(count):
            assert log.append(self.session.payload(3000)) is not None, self.session.failures[-1]
        self.counts[what] = count
        self.check(log)

    def check(self, log: MarkedLog) -> None:
        problems = self.ledger.problems(look(log.log), live=True)
        assert not problems, problems


def on_small_disk(root: str) -> dict[str, int]:
    """The story on a filesystem of its own."""
    ballast = Path(root, "ballast")
    ballast.write_bytes(bytes(BALLAST_BYTES))
    story = Story(root)
    log = story.open()
    story.fill(log, "until full")
    story.fill(log, "at once full again")
    ballast.unlink()
    story.room(log, "after space was freed")
    story.fill(log, "until full a second time")
    log.truncate_before((log.first + log.last) // 2)
    assert log.first > 1, f"truncate_before on a full disk: {story.session.failures[-1]}"
    story.room(log, "after truncate_before")
    story.fill(log, "until full a third time")
    log.begin_term()
    log.close()
    log = story.open()
    story.check(log)
    story.counts["entries of a log reopened on a full disk"] = log.last - log.first + 1
    log.truncate_after(log.last - 3)
    log.truncate_before(log.last)
    story.room(log, "after it was cut to one entry")
    log.close()
    story.open().close()
    return story.counts


def on_limited_files(root: str) -> dict[str, int]:
    """The story when files may not become larger than so much (a true short write, then EFBIG)."""
    story = Story(root)
    log = story.open()
    story.room(log, "before the limit")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    story.fill(log, "under the limit")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
    story.room(log, "after the limit was lifted", 50)
    log.close()
    story.open().close()
    return story.counts


Place = Callable[[str], AbstractContextManager[str]]

METHODS: dict[str, tuple[Place, Callable[[str], dict[str, int]]]] = {
    "tmpfs": (tmpfs, on_small_disk),
    "ext4 on a loop device": (ext4, on_small_disk),
    "RLIMIT_FSIZE": (nullcontext, on_limited_files),
}


def main(method: str, folder: str) -> None:
    place, story = METHODS[method]
    try:
        with place(tempfile.mkdtemp(dir=folder)) as root:
            print(json.dumps(story(root)))
    except UnavailableError as error:
        print(json.dumps({"unavailable": str(error)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
