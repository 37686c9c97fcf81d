"""What the exit codes mean. Scripts rely on them; docs/cli.md lists them."""

from __future__ import annotations

from typing import Final

__all__ = [
    "BAD_DATA",
    "BROKEN_PIPE",
    "BUSY",
    "CORRUPT",
    "DEFECT",
    "DEGRADED",
    "DIFFERENT",
    "INCOMPARABLE",
    "INTERRUPTED",
    "NOT_A_LOG",
    "OK",
    "PREFIX",
    "REFUSED",
    "TORN",
    "UNSAFE",
    "USAGE",
]

OK: Final = 0
TORN: Final = 1
CORRUPT: Final = 2
NOT_A_LOG: Final = 3
REFUSED: Final = 4
"""The system refused: no permission, a failing disk, no space for the output. Or a node did."""
BUSY: Final = 5
"""A writer has the log open, and the command would change it."""
DEGRADED: Final = 1
"""`status`, `cluster status`: nobody leads, or somebody does not answer or is not well; `cluster
recover`: nothing was done yet."""
UNSAFE: Final = 1
"""`doctor`: something is not fit for a log, or for a cluster."""
PREFIX: Final = 1
DIFFERENT: Final = 2
INCOMPARABLE: Final = 3
"""The verdicts of `diff`, which are not about a log alone."""
USAGE: Final = 64
BAD_DATA: Final = 65
"""`import`: a line of the file that cannot be imported."""
DEFECT: Final = 70
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
"""Who read the output went away. Not 0: `verify | head` must not look like a verdict."""
