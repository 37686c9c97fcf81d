"""Filesystems made for a test, on loop devices, and whether this machine allows them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

# None of them writes anything by itself later, as ext4 would: its tables are made at once. The
# sizes are close to the smallest that each makes.
MKFS = {
    "ext4": "mkfs.ext4 -q -b 4096 -m 0 -E lazy_itable_init=0,lazy_journal_init=0",
    "xfs": "mkfs.xfs -q",
    "btrfs": "mkfs.btrfs -q -m single -d single",
}
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
IMAGE_BYTES = {"ext4": 64 << 20, "xfs": 300 << 20, "btrfs": 110 << 20}


class UnavailableError(Exception):
    """This machine does not allow the method."""


def need(*programs: str) -> None:
    if os.geteuid() != 0:
        raise UnavailableError("needs root")
    for program in programs:
        if not shutil.which(program, path=PATH):
            raise UnavailableError(f"needs {program}")


def run(*command: str) -> str:
    """Runs a program of the system; what it prints. Where it fails, the machine is not made so."""
    done = subprocess.run(
        command, env={**os.environ, "PATH": PATH}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UnavailableError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def make_filesystem(kind: str, image: str, size_bytes: int = 0) -> None:
    """A file that holds an empty filesystem."""
    command = MKFS[kind].split()
    need("mount", command[0])
    with open(image, "wb") as file:
        file.truncate(size_bytes or IMAGE_BYTES[kind])
    run(*command, image)


@contextmanager
def mounted(folder: str, *options: str, name: str = "disk") -> Iterator[str]:
    place = os.path.join(folder, name)
    os.mkdir(place)
    try:
        run("mount", *options, place)
        try:
            yield place
        finally:
            # Lazily: when the story failed, its log may still be open.
            subprocess.run(["umount", "--lazy", place], check=True)
    finally:
        os.rmdir(place)


@contextmanager
def mounted_in_pieces(folder: str, image: str, request_bytes: int) -> Iterator[str]:
    """A filesystem on a loop device that gets at most so many bytes with one request, and hands
    each to the file's own filesystem at once (direct I/O)."""
    need("losetup")
    with ExitStack() as mounts:
        device = run("losetup", "--find", "--show", "--direct-io=on", image).strip()
        try:
            queue = Path("/sys/block", os.path.basename(device), "queue/max_sectors_kb")
            try:
                queue.write_text(str(request_bytes >> 10))
            except OSError as error:  # a container's /sys cannot be written to
                raise UnavailableError(f"{queue}: {error}") from None
            place = mounts.enter_context(mounted(folder, device, name="live"))
        finally:
            run("losetup", "--detach", device)  # takes effect with the umount
        yield place
