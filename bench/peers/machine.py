"""What is observed of the machine while something is measured: CPU, disk flushes, memory, disk."""

from __future__ import annotations

import os
import platform
import resource
import sqlite3
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
KTHREADD_PID = 2  # parent of every kernel thread
FILESYSTEMS_IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})


@dataclass(frozen=True)
class Snapshot:
    """Counters of one moment; only differences between two of them mean anything."""

    when_s: float
    busy_s: float  # user + nice + system of all CPUs, by /proc/stat
    steal_s: float
    own_s: float  # of this process and of its children that were waited for
    kernel_s: float  # of kernel threads: mostly writeback that the measured work caused
    flushes: int  # cache flushes the disk has completed, by anyone


@dataclass(frozen=True)
class Interference:
    """What happened around a measurement, as an average over its duration."""

    foreign_cpus: float  # CPUs that other processes took, and that the hypervisor withheld
    own_cpus: float
    flushes: int


def snapshot(path: Path) -> Snapshot:
    """Read every counter; ``path`` names the disk whose flushes are counted."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    user, nice, system, _idle, _iowait, _irq, _softirq, steal = _cpu_ticks()
    return Snapshot(
        when_s=time.monotonic(),
        busy_s=(user + nice + system) / TICKS_PER_S,
        steal_s=steal / TICKS_PER_S,
        own_s=sum(each.ru_utime + each.ru_stime for each in usage),
        kernel_s=_kernel_threads_ticks() / TICKS_PER_S,
        flushes=_disk_flushes(path),
    )


def interference(before: Snapshot, after: Snapshot) -> Interference:
    """Return who used the CPUs between two snapshots.

    /proc/stat counts ticks of 10 ms and a kernel thread may end in between, so small negative
    results occur and become 0.
    """
    elapsed_s = max(after.when_s - before.when_s, 1e-9)
    own_s = after.own_s - before.own_s
    foreign_s = (after.busy_s - before.busy_s) - own_s - (after.kernel_s - before.kernel_s)
    foreign_s = max(foreign_s, 0.0) + (after.steal_s - before.steal_s)
    return Interference(
        foreign_cpus=round(foreign_s / elapsed_s, 3),
        own_cpus=round(own_s / elapsed_s, 3),
        flushes=after.flushes - before.flushes,
    )


def _cpu_ticks() -> list[int]:
    with open("/proc/stat", encoding="ascii") as stat:
        return [int(field) for field in stat.readline().split()[1:9]]


def _kernel_threads_ticks() -> int:
    """Sum utime + stime of all kernel threads."""
    ticks = 0
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            stat = Path("/proc", name, "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # it ended meanwhile
        # The command may hold spaces and parentheses: fields are counted after the last ")".
        fields = stat.rpartition(")")[2].split()
        if int(fields[1]) == KTHREADD_PID:
            ticks += int(fields[11]) + int(fields[12])
    return ticks


def _disk_flushes(path: Path) -> int:
    """Return the flush counter of the disk under ``path``, or 0 where there is none to read."""
    device = path.stat().st_dev
    node = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    if (node / "partition").exists():
        node = node.resolve().parent  # flushes are accounted to the whole disk
    try:
        fields = (node / "stat").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return int(fields[15]) if len(fields) > 15 else 0


def memory_mib(pid: int) -> dict[str, float]:
    """Return VmRSS and RssAnon of a process, in MiB."""
    wanted = {"VmRSS", "RssAnon"}
    found = {}
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        for line in status:
            key, _, rest = line.partition(":")
            if key in wanted:
                found[key] = int(rest.split()[0]) / 1024
    return found


def filesystem_of(path: Path) -> str:
    """Return the type of the file system that holds ``path``, for example "ext4"."""
    target = path.resolve()
    best_depth, best_type = -1, "unknown"
    with open("/proc/mounts", encoding="utf-8") as mounts:
        for line in mounts:
            _device, mount, kind, *_ = line.split()
            point = Path(mount.replace("\\040", " "))
            depth = len(point.parts)
            if depth >= best_depth and (point == target or point in target.parents):
                best_depth, best_type = depth, kind
    return best_type


def require_disk(path: Path) -> None:
    """Refuse a directory in memory: there a sync costs nothing and every figure is void."""
    kind = filesystem_of(path)
    if kind in FILESYSTEMS_IN_MEMORY:
        raise SystemExit(f"{path} is on {kind}, which is memory: name a directory on a real disk")


def environment(path: Path) -> dict[str, str]:
    """Describe machine and versions, so that a result file explains itself."""
    found = {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cpu": _cpu_model(),
        "cpus": str(os.cpu_count()),
        "memory_gib": str(round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)),
        "filesystem": filesystem_of(path),
        "sqlite": sqlite3.sqlite_version,
    }
    for package in ("walstore", "lmdb", "rocksdict"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _cpu_model() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        for line in cpuinfo:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
