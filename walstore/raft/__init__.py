"""Raft on the replication core: who leads, and what is committed (docs/consensus.md)."""
