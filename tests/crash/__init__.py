"""The crash lab: tests that break the log the way disks, kernels and power cuts do.

    shim.c, shim.py   LD_PRELOAD library that records storage calls and makes chosen ones fail
    trace.py          what the recorder saw, as events
    disk.py           which bytes and names of a trace are durable, and which may be lost
    enumerate.py      every legal state of the disk after a power cut, recovered and checked
    ledger.py         what was promised to the caller so far, and whether a recovered log keeps it
    session.py        how a workload runs: a log whose calls leave marks in the trace
    workloads.py      the registry of workloads, and those of walstore (more: workloads_*.py)
    toy.py            a tiny correct log with bugs to switch on: proves that the lab finds them
    lab.py            runs workloads and checks in worker processes under the shim
    faults.py         k-loops: the k-th storage call fails, for every k

A failing state is saved as a directory; `python -m <this package>.enumerate DIR` replays it.
"""
