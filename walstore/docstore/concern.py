"""Write concerns: what a write waits for; and what a log of one node, or of several, shows."""

from __future__ import annotations

from typing import Any, Literal

from walstore import FileWALManager
from walstore.errors import OptionError

__all__ = [
    "CONCERNS",
    "Concern",
    "barrier_lsn",
    "checked_concern",
    "has_other_writers",
    "is_shared",
    "shown_lsn",
]

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


def has_other_writers(log: FileWALManager) -> bool:
    """Whether entries come that this process did not append."""
    return is_shared(log) or log.read_only


def shown_lsn(log: FileWALManager) -> int:
    """The last entry that can be read now: where there are other writers, what is committed."""
    if log.read_only:
        log.replay()  # looks anew at what the writer has done
    return log.committed_lsn if has_other_writers(log) else log.last_lsn


def barrier_lsn(log: FileWALManager, timeout_s: float) -> int:
    """An entry up to which everything is that was acknowledged before this call, by any node.

    Raises:
        As ReplicationWALManager.linearizable_lsn.
    """
    shared: Any = log
    lsn: int = shared.linearizable_lsn(timeout_s=timeout_s) if is_shared(log) else shown_lsn(log)
    return lsn
