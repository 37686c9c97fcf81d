"""Measures what walstore.cluster.doctor judges: the disk, the clock, the network."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from walstore.cluster.doctor import Clock, Disk, Quantiles
from walstore.wal import files

__all__ = ["measure_clock", "measure_disk", "measure_round_trips"]

_RECORD_BYTES = 512
_FILE_BYTES = 4 << 20
_SYNCS_MIN = 5
_NAP_S = 0.001
_TRIPS_S = 0.01


def measure_disk(directory: str, seconds: float, told: Callable[[float], None]) -> Disk:
    """Writes and syncs as a log does, in a file of its own without a name: nothing is left.

    Args:
        told: called with the share that is done.

    Raises:
        OSError: the directory cannot be written to, or the disk fails.
    """
    try:
        fd, path = tempfile.mkstemp(prefix=".walstore-doctor-", dir=directory)
    except OSError as error:
        error.filename = directory
        raise
    try:
        os.unlink(path)
        files.zero_fill(fd, 0, _FILE_BYTES, directory)
        files.sync_data(fd, directory)
        durations_ms = _syncs(fd, directory, seconds, told)
    finally:
        os.close(fd)
    filesystem, options = _mount_of(directory)
    return Disk(Quantiles.of(durations_ms), len(durations_ms), filesystem, options)


def _syncs(fd: int, path: str, seconds: float, told: Callable[[float], None]) -> list[float]:
    durations_ms: list[float] = []
    record, began_s = os.urandom(_RECORD_BYTES), time.perf_counter()
    now_s = began_s
    while now_s < began_s + seconds or len(durations_ms) < _SYNCS_MIN:
        at = len(durations_ms) * _RECORD_BYTES % _FILE_BYTES
        files.write_at(fd, record, at, path)
        files.sync_data(fd, path)
        before_s, now_s = now_s, time.perf_counter()
        durations_ms.append((now_s - before_s) * 1000)
        told(min(1.0, (now_s - began_s) / seconds))
    return durations_ms


def _mount_of(directory: str) -> tuple[str, frozenset[str]]:
    """Type and options of a directory's filesystem, where the kernel tells (proc(5))."""
    device = os.stat(directory).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return "", frozenset()
    for line in lines:
        mount, _, rest = line.partition(" - ")
        fields, more = mount.split(), rest.split()
        if fields[2] == wanted and len(more) >= 3:
            return more[0], frozenset(fields[5].split(",")) | frozenset(more[2].split(","))
    return "", frozenset()


def measure_clock(seconds: float) -> Clock:
    """Watches both clocks, and takes short naps."""
    began_s, day_s = time.monotonic(), time.time()
    late_ms: list[float] = []
    while time.monotonic() < began_s + seconds or not late_ms:
        before_s = time.monotonic()
        time.sleep(_NAP_S)
        late_ms.append(max(0.0, time.monotonic() - before_s - _NAP_S) * 1000)
    step_ms = ((time.time() - day_s) - (time.monotonic() - began_s)) * 1000
    resolution_us = time.get_clock_info("monotonic").resolution * 1e6
    return Clock(step_ms, resolution_us, Quantiles.of(late_ms))


def measure_round_trips(host: str, port: int, count: int, timeout_s: float) -> Quantiles:
    """Opens connections: each takes a round trip, and asks nothing of who answers.

    Raises:
        OSError: it does not answer.
    """
    durations_ms: list[float] = []
    for _ in range(count):
        began_s = time.perf_counter()
        with socket.create_connection((host, port), timeout_s):
            durations_ms.append((time.perf_counter() - began_s) * 1000)
        time.sleep(_TRIPS_S)
    return Quantiles.of(durations_ms)
