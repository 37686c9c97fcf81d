"""Branches that a log kept of its own end: whole or absent, never half, and never lost.

The workloads mark the last entry of a tail that is to lose, and cut it together with a term of
CUT_TERM or higher, so that every state tells by itself what it must hold.
"""

from __future__ import annotations

import os
from typing import Any

import walstore

__all__ = ["CUT_TERM", "END", "check_branches"]

END = b"the last entry of a tail that loses"
CUT_TERM = 1 << 40


def check_branches(path: str, log: Any) -> None:
    """Raises AssertionError for a branch that is not whole, or that is gone with its entries."""
    names = [name for name in os.listdir(path) if name.startswith("diverged")]
    for name in names:
        first_lsn, term = map(int, name.split("-")[1:3])
        with walstore.FileWALManager(os.path.join(path, name), read_only=True) as branch:
            entries = list(branch.replay())
            assert branch.verify().status == "clean", name
        assert entries[0].lsn == first_lsn, f"{name} begins with {entries[0].lsn}"
        assert entries[-1].term == term, f"{name} ends with term {entries[-1].term}"
        ends = [entry.lsn for entry in entries if END in entry.payload]
        assert ends == [entries[-1].lsn], f"{name} is not whole: up to {entries[-1].lsn}"
    assert names or log.term < CUT_TERM, "the tail was cut, and is not kept"
