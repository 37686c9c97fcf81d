"""A small disk is full when it says so, is seen by one process only, and needs no root."""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
from pathlib import Path

import pytest

from walstore.testing import forked
from walstore.testing.small_disk import PAGE_BYTES, mount_small_disk

PR_SET_DUMPABLE = 4
NOBODY = 65534


def fill(place: Path, *, as_nobody: bool) -> None:
    if as_nobody:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # as in a process of that user's own
    mount_small_disk(str(place), 2 * PAGE_BYTES)
    (place / "x").write_bytes(bytes(2 * PAGE_BYTES))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        (place / "y").write_bytes(b"one byte more")


@pytest.mark.parametrize("as_nobody", [False, True])
def test_disk_is_small_and_private(as_nobody: bool, tmp_path: Path) -> None:
    if as_nobody and os.getuid() != 0:
        pytest.skip("is somebody without rights already")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own lets nobody else in
        os.chmod(folder, 0o755)
        place = Path(folder, "disk")
        place.mkdir()
        ending = forked.run(lambda: fill(place, as_nobody=as_nobody), str(tmp_path / "note"), 30)
        assert os.listdir(place) == []
    if "unshare" in ending.problem:
        pytest.skip(f"this machine does not allow it: {ending.problem}")
    assert ending.problem == "", ending.details
