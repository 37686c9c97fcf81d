"""The crash lab: tests whether a store of yours survives what disks, kernels and power cuts do.

A pytest plugin with the fixtures `crash_lab` and `partitions`; docs/crash-lab.md tells how to use
them.

    plugin.py     the fixtures
    lab.py        CrashLab: power_cuts, failing_calls, full_disk
    worker.py     records a workload and checks what may come of it, in a process under the shim
    shim.c        the shim: a preloaded library that records storage calls, and makes some fail
    disk.py       what of a recording is durable at each moment, and what may be lost
    explore.py    every legal state of the disk after a power cut
    story.py      a failing state, told and saved; `python -m walstore.testing DIR` replays it
    partitions.py Partitions: links between nodes that can be cut
"""

from walstore.testing.errors import CrashLabError
from walstore.testing.lab import CrashLab, Mark, Report
from walstore.testing.partitions import Link, Partitions

__all__ = ["CrashLab", "CrashLabError", "Link", "Mark", "Partitions", "Report"]

pytest_plugins = ("walstore.testing.plugin",)  # what `-p walstore.testing` loads
