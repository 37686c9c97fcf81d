"""Power cuts on real filesystems: a loop device's contents, caught in the middle of the work.

A writer uses a log on ext4, XFS or btrfs. What it does not sync stays in that filesystem's page
cache. What the filesystem gives to the block device is written by the kernel's loop driver to the
device's backing file: a copy of that file is what a disk holds when the power is cut.

The copy must be of one moment, and of any. So the backing file lies on a filesystem of its own,
which is frozen (ioctl FIFREEZE) while it is copied: the loop device waits with its next request,
be it in the middle of a sync, whose requests are of one page. Stopping the writer instead (SIGSTOP)
would let its system calls come to their end first: no copy would show half of a sync.

What the writer had been promised is what its pipe holds then. It works on, to be cut again; the
last copy of a writer becomes the disk of the next, whose opening is cut at times as well.

python -m <package>.power_cut '{"kind": "ext4", "rounds": 12, "seed": 1}'     by hand, as root
"""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from walstore.testing.workers import now

from .cuts import Outcome, Spec, judge, work, writer_of
from .forked import Forked
from .ledger import Ledger
from .mounts import IMAGE_BYTES, UnavailableError, make_filesystem, mounted, mounted_in_pieces

WRITERS_PER_LOG = 4
CUTS_PER_WRITER = 4
OPENINGS = 0.25  # share of the cuts that come just after an opening began
ACKS_MAX = 24  # between two cuts
DELAY_MAX_S = 0.003  # from there to the cut: a few syncs
REQUEST_BYTES = 4096  # of the loop device: a sync of more can be cut in its middle
HANG_S = 60
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878

# To mount a copy. XFS refuses one whose original was mounted, as it has the same UUID.
MOUNT_OPTIONS = {"ext4": "loop", "xfs": "loop,nouuid", "btrfs": "loop"}


@contextmanager
def frozen(place: str) -> Iterator[None]:
    """No write gets through to the filesystem that is mounted here.

    A child thaws it when its pipe is closed, so also when this process is killed meanwhile: what
    waits for a frozen filesystem cannot be killed.
    """
    fd = os.open(place, os.O_RDONLY)
    reading, writing = os.pipe()
    guard = os.fork()
    if guard == 0:
        try:
            os.close(writing)
            os.read(reading, 1)
        finally:
            fcntl.ioctl(fd, FITHAW, 0)
            os._exit(0)
    os.close(reading)
    try:
        fcntl.ioctl(fd, FIFREEZE, 0)
        yield
    finally:
        os.close(writing)
        os.waitpid(guard, 0)
        os.close(fd)


def copy(source: str, target: str) -> None:
    """Copies an image, leaving out its holes."""
    subprocess.run(["cp", "--sparse=auto", source, target], check=True)


class Machine:
    """A log on a disk of its own, which loses its power again and again."""

    def __init__(self, spec: Spec, number: int, host: str, outcome: Outcome) -> None:
        self.spec, self.host, self.outcome = spec, host, outcome
        self.name = f"{spec.kind} log {number}"
        self.rng = random.Random(f"power cut {spec.seed} {self.name}")
        self.disk = os.path.join(host, "disk")
        self.ledger = Ledger()
        make_filesystem(spec.kind, self.disk)
        with mounted(spec.scratch, "-o", "loop", self.disk) as place:
            os.mkdir(os.path.join(place, "root"))

    def run_writer(self, number: int) -> None:
        """One writer, cut several times; each copy is judged, the last is the disk from then on."""
        spec = self.spec
        now(spec.scratch, f"{self.name}, writer {number}, seed {spec.seed}")
        cuts = []
        with mounted_in_pieces(spec.scratch, self.disk, REQUEST_BYTES) as place:
            seed = f"writer {spec.seed} {self.name} {number}"
            root = os.path.join(place, "root")
            child = Forked(writer_of(spec.target), spec.target, root, seed, hang_s=HANG_S)
            try:
                for n in range(CUTS_PER_WRITER):
                    image = os.path.join(spec.scratch, f"copy-{n}")
                    cuts.append((image, self._cut(child, image)))
            finally:
                child.kill()
                child.end()
        self.ledger = cuts[-1][1]
        copy(cuts[-1][0], self.disk)
        for image, ledger in cuts:
            try:
                with mounted(spec.scratch, "-o", MOUNT_OPTIONS[spec.kind], image) as place:
                    judge(os.path.join(place, "root"), ledger, spec, self.name, self.outcome)
            except UnavailableError as error:
                raise AssertionError(f"{self.name}: a copy cannot be mounted: {error}") from None
            os.unlink(image)

    def _cut(self, child: Forked, image: str) -> Ledger:
        """Copies the disk as it is at a random moment; returns what had been promised by then."""
        awaited, count = b'"acked"', self.rng.randrange(ACKS_MAX)
        if self.rng.random() < OPENINGS:
            awaited, count = b'"open"', 1
        while count > 0:
            marks = child.read()
            if not marks:
                raise AssertionError(f"{self.name}: the writer ended: {self.ledger.marks[-1:]}")
            self._note(marks)
            count -= sum(awaited in mark for mark in marks)
        time.sleep(self.rng.random() * DELAY_MAX_S)
        with frozen(self.host):
            self._note(child.drain())
            copy(self.disk, image)
        return Ledger.of([*self.ledger.marks, {"t": "crash"}])

    def _note(self, marks: Sequence[bytes]) -> None:
        for mark in marks:
            self.ledger.apply_bytes(mark)
        self.outcome.acks += sum(b'"acked"' in mark for mark in marks)


def run(spec: Spec, outcome: Outcome) -> None:
    """One log after another."""
    number = spec.worker
    while outcome.rounds < spec.rounds and not outcome.bad:
        host = os.path.join(spec.scratch, "host")
        make_filesystem("ext4", host, 2 * IMAGE_BYTES[spec.kind])
        with mounted(spec.scratch, "-o", "loop,noatime", host, name="outer") as place:
            machine = Machine(spec, number, place, outcome)
            for writer in range(WRITERS_PER_LOG):
                if outcome.rounds < spec.rounds and not outcome.bad:
                    machine.run_writer(writer)
        number += spec.workers


if __name__ == "__main__":
    work(sys.argv[1], run)
