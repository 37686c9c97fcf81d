"""walstore beside what a Python user would pick instead, measured in one run on one disk.

``python -m bench.peers`` runs every row of ``plan.py``.  How a figure comes about:

* One measurement = one row (the work), one contender (the store), one round.  Each runs in a fresh
  interpreter (``child.py``) on fresh files, after ``sync`` has emptied the disk's queue.  Rows
  that only read, and reopen, use data that is built once per run: building it is not the work.
* Contenders alternate: a round measures every contender of a row, one after the other, starting
  with another one each round.  A bare ``pwrite`` + ``fdatasync`` is always among them.
* Latency is what the caller sees: from the Python call to its return, our own process included.
* While a measurement runs, the CPU that others take and the cache flushes of the disk are counted.
  A round in which others took more than half a CPU is *noisy*: it is repeated, at most ``rounds``
  more times in a row, and left out of the medians if enough quiet rounds remain.
* After a write measurement the store is reopened and must hold exactly as many records as were
  acknowledged; else the measurement is void.  (A preallocated raw file cannot know: not checked.)
* Reported: the median over rounds and the lowest and highest round.  Ratios divide two medians of
  one row in one run.  Absolute figures move with the disk from day to day; ratios are what counts.

Modules: ``machine`` observes the machine; ``stores`` and ``databases`` are the contenders; ``plan``
names them and the rows; ``loops`` are the timed loops; ``works``, ``reopening`` and ``memory`` the
work of one measurement, a ``job``, and ``child`` the process it runs in; ``run`` the rounds;
``targets`` what walstore must reach; ``report`` and ``plot`` the output.
"""
