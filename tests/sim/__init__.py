"""A simulator of replication: several cores, simulated disks, network and operator, from one seed.

`python -m tests.sim SEED` replays a schedule.
"""
