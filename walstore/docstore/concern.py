"""Write concerns: what a write waits for; and what a log of one node, or of several, shows."""

from __future__ import annotations

from typing import Literal

from walstore import FileWALManager
from walstore.errors import OptionError

__all__ = ["CONCERNS", "Concern", "checked_concern", "is_shared", "shown_lsn"]

Concern = Literal["local", "durable", "quorum"]
CONCERNS = ("local", "durable", "quorum")


def checked_concern(log: FileWALManager, concern: object) -> Concern:
    """A write concern that this log can keep.

    Raises:
        OptionError: it is none, or asks for other nodes, and the log has no others.
    """
    if concern not in CONCERNS:
        raise OptionError(f"concern is 'local', 'durable' or 'quorum', not {concern!r}")
    if concern == "quorum" and not is_shared(log):
        raise OptionError(f"concern 'quorum' needs a replicated log, and {log.path} is not one")
    return concern  # type: ignore[return-value]


def is_shared(log: FileWALManager) -> bool:
    """Whether several nodes hold the log, of which this one need not be the only writer."""
    return hasattr(log, "acks")


def shown_lsn(log: FileWALManager) -> int:
    """The last entry that can be read: of several nodes' log, what is committed."""
    return log.committed_lsn if is_shared(log) else log.last_lsn
