"""The crash lab: tests that break the log the way disks, kernels and power cuts do.

The machinery is walstore.testing, which is there for any store. Here is what is about walstore's
own log:

    states.py         crash states of a log, recovered and checked
    ledger.py         what was promised to the caller so far, and whether a recovered log keeps it
    session.py        how a workload runs: a log whose calls leave marks in the trace
    workloads.py      the registry of workloads, and those of walstore (more: workloads_*.py)
    toy.py            a tiny correct log with bugs to switch on: proves that the lab finds them
    lab.py            runs workloads and checks in worker processes under the shim
    faults.py         k-loops: the k-th storage call fails, for every k
    kill9.py          writers that are killed at random moments
    full_disk.py      disks that are really full
    power_cut.py      power cuts on ext4, XFS and btrfs: the disk's contents in the middle of a sync
    lost_cache.py     a filesystem, in FUSE, that keeps nothing but what was synced
    cache_cuts.py     power cuts, and failed syncs, on that one
    cuts.py           what these power cuts share: who writes, who judges
    forked.py         a workload in a child process, whose marks come through a pipe
    mounts.py         filesystems made for a test
    methods.py        what may be skipped where a machine does not allow it

A failing state is saved as a directory; `python -m <this package>.states DIR` replays it.
"""
