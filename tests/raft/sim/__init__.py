"""The simulator of tests/sim with nodes that elect: `python -m tests.raft.sim SEED` replays one."""
